//! The bundle of certificate authorities that `update-ca-certificates` makes.

use super::{Content, Node, Tree, TreeError};

const FOLDER: &str = "usr/share/ca-certificates";
const LOCAL: &str = "usr/local/share/ca-certificates";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Writes `/etc/ssl/certs/ca-certificates.crt` from the certificates of the ca-certificates package, and one link a
/// certificate beside it. Does nothing in a root without that package. Gives the number of certificates.
pub fn certificate_bundle(tree: &mut Tree) -> Result<usize, TreeError> {
    let mut found: Vec<(String, Content)> = Vec::new();
    for (path, node) in tree.iter() {
        let inside = [FOLDER, LOCAL]
            .iter()
            .any(|f| path.strip_prefix(f).is_some_and(|r| r.starts_with('/')));
        if let (true, Some(content)) = (inside && path.ends_with(".crt"), node.content()) {
            found.push((path.to_owned(), content.clone()));
        }
    }
    if found.is_empty() {
        return Ok(0);
    }
    let mut bundle = Vec::new();
    for (path, content) in &found {
        let bytes = content.read().map_err(|source| TreeError::Read {
            path: path.into(),
            source,
            help: "the cache may be damaged",
        })?;
        bundle.extend_from_slice(&bytes);
        if bytes.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    for (path, _) in &found {
        let name = path.rsplit('/').next().unwrap_or(path);
        let name = name.strip_suffix(".crt").unwrap_or(name);
        // The names that openssl's tools accept, as the package's script makes them.
        let name: String = name
            .chars()
            .map(|c| match c {
                ' ' => '_',
                ',' | '(' | ')' => '=',
                c => c,
            })
            .collect();
        tree.put(
            &format!("etc/ssl/certs/{name}.pem"),
            Node::link(&format!("/{path}"), "imagegen"),
        );
    }
    tree.put(BUNDLE, Node::file(Content::bytes(bundle), 0o644, "imagegen"));
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_holds_every_certificate_in_order() {
        let mut tree = Tree::new("t");
        for (name, text) in [("b", "B\n"), ("a", "A")] {
            let path = format!("{FOLDER}/mozilla/{name}.crt");
            tree.put(&path, Node::file(Content::bytes(text), 0o644, "ca-certificates"));
        }
        assert_eq!(certificate_bundle(&mut tree).unwrap(), 2);
        assert_eq!(tree.text(BUNDLE).unwrap().unwrap(), "A\nB\n");
        assert_eq!(
            tree.lookup("etc/ssl/certs/a.pem").unwrap().0,
            format!("{FOLDER}/mozilla/a.crt")
        );
    }

    #[test]
    fn a_root_without_the_package_gets_none() {
        let mut tree = Tree::new("t");
        assert_eq!(certificate_bundle(&mut tree).unwrap(), 0);
        assert!(tree.get(BUNDLE).is_none());
    }
}

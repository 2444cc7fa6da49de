//! The small steps that stand in for maintainer scripts: each does one thing to a tree and nothing else.

use std::collections::BTreeMap;

use cairn_unit::Path;

use super::packages::MERGED;
use super::{Content, Node, Tree, TreeError};

const BY: &str = "imagegen";

/// Makes `/bin`, `/lib`, `/lib64` and `/sbin` the links into `/usr` that every Debian program expects, whether or not
/// the root holds base-files.
pub fn base_links(tree: &mut Tree) {
    for name in MERGED {
        let target = format!("usr/{name}");
        if tree.get(&target).is_none() {
            tree.put(&target, Node::folder(BY));
        }
        tree.put(name, Node::link(&target, BY));
    }
}

/// The folders that the kernel's and the sandbox's mounts need, and the world-writable ones.
pub fn standard_folders(tree: &mut Tree) {
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o555),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("var/tmp", 0o1777),
        ("var/lib", 0o755),
        ("root", 0o700),
    ] {
        match tree.get_mut(path) {
            Some(node) if node.is_folder() => node.mode = mode,
            Some(_) => {}
            None => {
                let mut node = Node::folder(BY);
                node.mode = mode;
                tree.put(path, node);
            }
        }
    }
    for (path, target) in [("var/run", "/run"), ("var/lock", "/run/lock")] {
        if tree.get(path).is_none() {
            tree.put(path, Node::link(target, BY));
        }
    }
}

/// Makes a folder on which something is mounted, with its owner and mode; one that is there already keeps its content.
pub fn mount_point(tree: &mut Tree, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), TreeError> {
    let failed = |why: String| TreeError::Place {
        root: tree.name.clone(),
        path: path.trim_start_matches('/').to_owned(),
        origin: "the unit's folders".into(),
        why,
    };
    let at = tree.resolve(path).map_err(failed)?;
    if tree.get(&at).is_some_and(|n| !n.is_folder()) {
        return Err(failed("a package has a file there".into()));
    }
    if tree.get(&at).is_none() {
        tree.put(&at, Node::folder(BY));
    }
    if let Some(node) = tree.get_mut(&at) {
        (node.mode, node.uid, node.gid) = (mode, uid, gid);
    }
    Ok(())
}

/// Places on which the manager mounts what it computes: host name, hosts, resolver; and a plain `nsswitch.conf` where
/// the root has none.
pub fn name_service(tree: &mut Tree) {
    for path in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        if tree.get(path).and_then(Node::content).is_none() {
            tree.put(path, Node::file(Content::bytes([]), 0o644, BY));
        }
    }
    // Names that nft and others resolve even where netbase is absent; numbers from IANA's registry.
    if tree.get("etc/protocols").is_none() {
        let text = "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n";
        tree.put("etc/protocols", Node::file(Content::bytes(text), 0o644, BY));
    }
    if tree.get("etc/nsswitch.conf").is_none() {
        let text = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";
        tree.put("etc/nsswitch.conf", Node::file(Content::bytes(text), 0o644, BY));
    }
}

/// An empty `/etc/machine-id`: a place for one, and a sign that none was made.
pub fn empty_machine_id(tree: &mut Tree) {
    tree.put("etc/machine-id", Node::file(Content::bytes([]), 0o444, BY));
}

/// Makes the links that Debian's alternatives system would make.
pub fn alternatives(tree: &mut Tree, links: &BTreeMap<Path, Path>) -> Result<(), TreeError> {
    for (link, target) in links {
        let wrong = |why: String| TreeError::Alternative {
            root: tree.name.clone(),
            link: link.to_string(),
            target: target.to_string(),
            why,
        };
        if tree.lookup(target.as_str()).is_none() {
            return Err(wrong(
                "the root does not hold the target: correct it, or add the package that has it".into(),
            ));
        }
        let at = tree.resolve_parent(link.as_str()).map_err(wrong)?;
        if let Some(there) = tree.get(&at) {
            return Err(wrong(format!(
                "{} already has a file there: leave the alternative out",
                there.origin
            )));
        }
        tree.put(&at, Node::link(target.as_str(), BY));
    }
    Ok(())
}

/// What `/etc/os-release` of the host root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release<'a> {
    /// The appliance's name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// One line that says what it is.
    pub description: &'a str,
}

/// `/etc/os-release` of the host root, in the format of os-release(5).
pub fn host_release(tree: &mut Tree, release: &Release<'_>) {
    let text = release_text(release);
    tree.put("usr/lib/os-release", Node::file(Content::bytes(text), 0o644, BY));
    tree.put("etc/os-release", Node::link("../usr/lib/os-release", BY));
}

fn release_text(release: &Release<'_>) -> String {
    let quote = |text: &str| {
        let mut out = String::from("\"");
        for c in text.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\' | '$' | '`') {
                out.push('\\');
            }
            out.push(c);
        }
        out + "\""
    };
    let (name, version) = (release.name, release.version);
    format!(
        "NAME=\"Cairn\"\nID=cairn\nPRETTY_NAME={}\nVERSION={}\nVERSION_ID={}\nIMAGE_ID={name}\nIMAGE_VERSION={version}\nVARIANT={}\n",
        quote(&format!("Cairn {name} {version}")),
        quote(version),
        quote(version),
        quote(release.description),
    )
}

impl Release<'_> {
    /// The text of `os-release`.
    pub fn text(&self) -> String {
        release_text(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn a_root_without_base_files_gets_its_links() {
        let mut tree = Tree::new("t");
        base_links(&mut tree);
        for name in MERGED {
            assert_eq!(tree.get(name).unwrap().kind, Kind::Link(format!("usr/{name}")));
            assert!(tree.lookup(name).unwrap().1.is_folder());
        }
    }

    #[test]
    fn temporary_folders_are_sticky() {
        let mut tree = Tree::new("t");
        tree.put("tmp", Node::folder("base-files"));
        standard_folders(&mut tree);
        assert_eq!(tree.get("tmp").unwrap().mode, 0o1777);
        assert_eq!(tree.get("var/tmp").unwrap().mode, 0o1777);
    }

    #[test]
    fn a_mount_point_through_a_link_is_where_the_link_leads() {
        let mut tree = Tree::new("t");
        standard_folders(&mut tree);
        mount_point(&mut tree, "/var/run/x", 0o750, 7, 8).unwrap();
        let node = tree.get("run/x").unwrap();
        assert_eq!((node.mode, node.uid, node.gid), (0o750, 7, 8));
        tree.put("srv/x", Node::file(Content::bytes("1"), 0o644, "p"));
        assert!(mount_point(&mut tree, "/srv/x", 0o755, 0, 0).is_err());
    }

    #[test]
    fn an_alternative_to_nothing_is_refused() {
        let mut tree = Tree::new("t");
        let links = BTreeMap::from([("/usr/bin/a".parse().unwrap(), "/usr/bin/b".parse().unwrap())]);
        assert!(alternatives(&mut tree, &links).is_err());
        tree.put("usr/bin/b", Node::file(Content::bytes("b"), 0o755, "p"));
        alternatives(&mut tree, &links).unwrap();
        assert_eq!(tree.lookup("usr/bin/a").unwrap().0, "usr/bin/b");
        assert!(alternatives(&mut tree, &links).is_err());
    }

    #[test]
    fn a_description_cannot_break_out_of_its_line() {
        let release = Release {
            name: "a",
            version: "1",
            description: "x\"\n$(y)`",
        };
        assert!(release.text().contains("VARIANT=\"x\\\"\\$(y)\\`\"\n"));
    }
}

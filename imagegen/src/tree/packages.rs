//! Package contents into a tree.

use std::collections::BTreeMap;

use super::{Kind, Node, Tree, TreeError};

/// One package's files, conffiles included.
#[derive(Debug, Clone, Default)]
pub struct PackageFiles {
    /// The package's name.
    pub name: String,
    /// The packages whose files it may take over: names of its `Replaces` field.
    pub replaces: Vec<String>,
    /// Its entries in the package's own order, by path without a leading `/`.
    pub entries: Vec<(String, Node)>,
}

/// The folders of the root that are links into `/usr` (Debian's usrmerge).
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Lays the packages into `tree`. The order of `packages` does not matter: where two hold the same path, the one that
/// declares `Replaces` wins, and if neither does it is an error.
pub fn lay_packages(tree: &mut Tree, packages: &[PackageFiles]) -> Result<(), TreeError> {
    let by_name: BTreeMap<&str, &PackageFiles> = packages.iter().map(|p| (p.name.as_str(), p)).collect();
    // Symbolic links to folders first, so that a path is the same whichever package comes first.
    for pass in [true, false] {
        for package in by_name.values() {
            for (path, node) in &package.entries {
                let is_link = matches!(node.kind, Kind::Link(_));
                if is_link == pass {
                    place(tree, path, node, package, &by_name)?;
                }
            }
        }
    }
    Ok(())
}

fn place(
    tree: &mut Tree,
    path: &str,
    node: &Node,
    package: &PackageFiles,
    by_name: &BTreeMap<&str, &PackageFiles>,
) -> Result<(), TreeError> {
    let merged = merge(path);
    if merged.is_empty() {
        return Ok(());
    }
    if MERGED.contains(&path) {
        // The links themselves are the same in every root; a package that ships the folder means what it leads to.
        let target = format!("usr/{path}");
        if node.is_folder() && tree.get(&target).is_none() {
            tree.put(&target, node.clone());
        }
        return Ok(());
    }
    let failed = |why| TreeError::Place {
        root: tree.name.clone(),
        path: path.to_owned(),
        origin: format!("package {}", package.name),
        why,
    };
    let at = if node.is_folder() {
        // A folder that is a link in another package is that link's target.
        match tree.get(&merged).map(|n| &n.kind) {
            Some(Kind::Link(_)) => return tree.resolve(&merged).map(|_| ()).map_err(failed),
            _ => tree.resolve_parent(&merged).map_err(failed)?,
        }
    } else {
        tree.resolve_parent(&merged).map_err(failed)?
    };
    if let Some(there) = tree.get(&at) {
        if there.is_folder() && node.is_folder() {
            // Which package's mode holds must not depend on the order: the one whose owner or mode is special.
            if (there.mode, there.uid, there.gid) == (0o755, 0, 0) {
                tree.put(&at, node.clone());
            }
            return Ok(());
        }
        if there.is_folder() != node.is_folder() {
            return Err(failed(format!(
                "package {} has it as another kind of file",
                there.origin
            )));
        }
        let other = there.origin.to_string();
        if other != package.name {
            let replaces = |a: &str, b: &str| by_name.get(a).is_some_and(|p| p.replaces.iter().any(|r| r == b));
            if replaces(&other, &package.name) {
                return Ok(());
            }
            if !replaces(&package.name, &other) {
                return Err(TreeError::TwoPackages {
                    root: tree.name.clone(),
                    path: at,
                    first: other,
                    second: package.name.clone(),
                });
            }
        }
    }
    tree.put(&at, node.clone());
    Ok(())
}

/// The path with usrmerge applied: `lib/x` is `usr/lib/x`.
fn merge(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    match path.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Content;
    use super::*;

    fn package(name: &str, replaces: &[&str], files: &[&str]) -> PackageFiles {
        PackageFiles {
            name: name.into(),
            replaces: replaces.iter().map(|r| (*r).to_owned()).collect(),
            entries: files
                .iter()
                .map(|f| ((*f).to_owned(), Node::file(Content::bytes(name), 0o644, name)))
                .collect(),
        }
    }

    fn lay(packages: &[PackageFiles]) -> Result<Tree, TreeError> {
        let mut tree = Tree::new("t");
        lay_packages(&mut tree, packages)?;
        Ok(tree)
    }

    #[test]
    fn two_packages_with_one_path_are_refused_unless_one_replaces() {
        let error = lay(&[package("a", &[], &["etc/x"]), package("b", &[], &["etc/x"])])
            .unwrap_err()
            .to_string();
        assert!(error.contains("/etc/x is in package a and in package b"), "{error}");
        for (a, b, wins) in [(vec!["b"], vec![], "a"), (vec![], vec!["a"], "b")] {
            let tree = lay(&[package("a", &a, &["etc/x"]), package("b", &b, &["etc/x"])]).unwrap();
            assert_eq!(&*tree.get("etc/x").unwrap().origin, wins);
        }
    }

    #[test]
    fn old_top_folders_lead_into_usr() {
        let tree = lay(&[package("a", &[], &["lib/x86_64-linux-gnu/libx.so.1", "sbin/y"])]).unwrap();
        assert!(tree.get("usr/lib/x86_64-linux-gnu/libx.so.1").is_some());
        assert!(tree.get("usr/sbin/y").is_some());
        assert!(tree.get("lib").is_none());
    }

    #[test]
    fn a_folder_that_another_package_has_as_link_is_its_target() {
        let mut a = package("a", &[], &[]);
        a.entries.push(("var/run".into(), Node::link("/run", "a")));
        let mut b = package("b", &[], &[]);
        b.entries.push(("var/run".into(), Node::folder("b")));
        b.entries.push(("var/run/b".into(), Node::folder("b")));
        let tree = lay(&[b, a]).unwrap();
        assert!(tree.get("run/b").is_some());
        assert!(matches!(tree.get("var/run").unwrap().kind, Kind::Link(_)));
    }
}

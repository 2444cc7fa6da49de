//! Package contents into a tree.

use std::collections::BTreeMap;

use super::{Accounts, Kind, Node, Tree, TreeError};

/// Who owns an entry, by the names in the package's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user; may be empty.
    pub user: String,
    /// The group; may be empty.
    pub group: String,
}

/// One package's files, conffiles included.
#[derive(Debug, Clone, Default)]
pub struct PackageFiles {
    /// The package's name.
    pub name: String,
    /// The packages whose files it may take over: names of its `Replaces` field.
    pub replaces: Vec<String>,
    /// Its entries in the package's own order, by path without a leading `/`.
    pub entries: Vec<(String, Node)>,
    /// The owners of those entries that are not root's, by the same path.
    pub owners: BTreeMap<String, Owner>,
}

/// Below this, an id means the same account on every Debian system (Debian Policy, 9.2.2).
const STATIC: u32 = 100;

impl PackageFiles {
    /// Gives every entry the ids that its owner's names have in `root`, as dpkg does when it unpacks. A name that the root
    /// does not know leaves Debian's static ids as they are; any other number would be whoever has it by chance.
    ///
    /// # Errors
    /// An entry belongs to an account that the root lacks.
    pub fn map_owners(&mut self, root: &str, accounts: &Accounts) -> Result<(), TreeError> {
        for (path, node) in &mut self.entries {
            let Some(owner) = self.owners.get(path) else { continue };
            let refused = |kind: &'static str, name: &str, id: u32| TreeError::Owner {
                root: root.to_owned(),
                path: path.clone(),
                package: self.name.clone(),
                kind,
                name: name.to_owned(),
                id,
            };
            match accounts.users.get(&owner.user) {
                Some(user) => node.uid = user.uid,
                None if node.uid < STATIC => {}
                None => return Err(refused("user", &owner.user, node.uid)),
            }
            match accounts.groups.get(&owner.group) {
                Some((gid, _)) => node.gid = *gid,
                None if node.gid < STATIC => {}
                None => return Err(refused("group", &owner.group, node.gid)),
            }
        }
        Ok(())
    }
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
            owners: BTreeMap::new(),
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

    /// A package with one file of `user`:`group`, numbered `id` where it was built, laid out for a root with the account
    /// `_web` of the id 105.
    fn owned(user: &str, group: &str, id: u32) -> Result<(u32, u32), TreeError> {
        let mut package = package("a", &[], &["etc/x"]);
        let node = &mut package.entries[0].1;
        (node.uid, node.gid) = (id, id);
        let (user, group) = (user.to_owned(), group.to_owned());
        package.owners.insert("etc/x".into(), Owner { user, group });
        let mut accounts = Accounts::base(&Tree::new("t")).unwrap();
        let declared = super::super::parse_sysusers("u _web 105\n").unwrap();
        accounts.add("t", &declared, &mut |_| None).unwrap();
        package.map_owners("web", &accounts)?;
        let node = &package.entries[0].1;
        Ok((node.uid, node.gid))
    }

    #[test]
    fn an_owner_is_who_has_the_name_and_not_who_has_the_number() {
        assert_eq!(owned("_web", "_web", 103).unwrap(), (105, 105));
        assert_eq!(owned("_web", "shadow", 50).unwrap(), (105, 42));
    }

    #[test]
    fn a_static_number_needs_no_name_and_any_other_does() {
        assert_eq!(owned("man", "man", 6).unwrap(), (6, 6));
        let error = owned("_web", "_other", 103).unwrap_err().to_string();
        assert!(
            error.contains("root `web`: /etc/x of package a belongs to the group `_other` (103 where it was built)"),
            "{error}"
        );
        assert!(owned("", "", 1000).is_err());
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

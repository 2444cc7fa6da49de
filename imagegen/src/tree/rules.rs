//! What of the packages' contents is left out.

use std::collections::BTreeSet;

use cairn_unit::Exclude;

use super::{Glob, GlobError, Tree};

/// The recipe's patterns, parsed.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    exclude: Vec<Glob>,
    keep: Vec<Glob>,
}

impl Rules {
    /// Parses the recipe's patterns.
    pub fn new(exclude: &Exclude) -> Result<Rules, GlobError> {
        let parse = |list: &[String]| list.iter().map(|p| Glob::new(p)).collect::<Result<Vec<_>, _>>();
        Ok(Rules {
            exclude: parse(&exclude.paths)?,
            keep: parse(&exclude.keep)?,
        })
    }

    /// Whether the absolute path is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        self.exclude.iter().any(|g| g.matches(path)) && !self.keep.iter().any(|g| g.matches(path))
    }

    /// Takes away everything that the rules leave out, and then the folders that this has made empty. A folder that
    /// a package ships empty stays unless a rule names it. Gives the bytes that were saved.
    pub fn apply(&self, tree: &mut Tree) -> u64 {
        let gone: Vec<String> = tree
            .iter()
            .filter(|(p, _)| !p.is_empty() && self.leaves_out(&format!("/{p}")))
            .map(|(p, _)| p.to_owned())
            .collect();
        let mut saved = 0;
        let mut folders = BTreeSet::new();
        for path in gone {
            let Some(node) = tree.nodes.get(&path) else { continue };
            if let Some(slash) = path.rfind('/') {
                folders.insert(path[..slash].to_owned());
            }
            if node.is_folder() {
                folders.insert(path);
                continue;
            }
            saved += node.content().map_or(0, |c| c.len);
            tree.nodes.remove(&path);
        }
        while let Some(folder) = folders.pop_last() {
            let empty =
                tree.nodes.get(&folder).is_some_and(|n| n.is_folder()) && tree.children(&folder).next().is_none();
            if empty {
                tree.nodes.remove(&folder);
                if let Some(slash) = folder.rfind('/') {
                    folders.insert(folder[..slash].to_owned());
                }
            }
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Node};
    use super::*;

    fn rules() -> Rules {
        Rules::new(&Exclude::default()).unwrap()
    }

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new("test");
        for path in paths {
            tree.put(path, Node::file(Content::bytes("1234"), 0o644, "p"));
        }
        tree
    }

    fn left(tree: &Tree) -> Vec<&str> {
        tree.iter().map(|(p, _)| p).filter(|p| !p.is_empty()).collect()
    }

    #[test]
    fn copyright_stays_and_manuals_go_with_their_folders() {
        let mut tree = tree(&[
            "usr/share/doc/a/copyright",
            "usr/share/doc/b/README",
            "usr/share/man/man1/ls.1.gz",
        ]);
        assert_eq!(rules().apply(&mut tree), 8);
        assert_eq!(
            left(&tree),
            [
                "usr",
                "usr/share",
                "usr/share/doc",
                "usr/share/doc/a",
                "usr/share/doc/a/copyright"
            ]
        );
    }

    #[test]
    fn a_folder_that_was_empty_before_stays() {
        let mut tree = tree(&["usr/share/man/x"]);
        tree.put("var/lib/misc", Node::folder("p"));
        rules().apply(&mut tree);
        assert_eq!(left(&tree), ["var", "var/lib", "var/lib/misc"]);
    }
}

//! Overlays: folders of the project laid on a root.
//!
//! Owners and times of the checkout do not show: everything is root's, 0755 where the owner may execute and 0644
//! where not. `PATH.tmpl` is text that the manager renders: the image holds it as it is, and at `PATH` a link to where the unit sees
//! what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cairn_unit::Template;

use super::{Content, Kind, Node, Tree, TreeError};

const TEMPLATE: &str = ".tmpl";

/// One file, link or folder of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayFile {
    /// Its path in the root, without a leading `/`.
    pub path: String,
    /// Where it is on the host.
    pub source: PathBuf,
    /// What it becomes.
    pub node: Node,
}

/// One overlay, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySet {
    /// The folder's name under `overlays/`.
    pub name: String,
    /// Everything in it, sorted by path.
    pub files: Vec<OverlayFile>,
}

impl OverlaySet {
    /// Reads the folder `folder` as the overlay `name`.
    pub fn read(name: &str, folder: &Path) -> Result<OverlaySet, TreeError> {
        let mut files = Vec::new();
        read_folder(folder, "", &format!("overlay {name}"), &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(OverlaySet {
            name: name.to_owned(),
            files,
        })
    }
}

fn read_folder(folder: &Path, below: &str, origin: &str, files: &mut Vec<OverlayFile>) -> Result<(), TreeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TreeError::Read {
            path,
            source,
            help: "check the overlay's folder",
        }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let source = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(TreeError::Overlay {
                path: source,
                why: "its name is not UTF-8: rename it".into(),
            });
        };
        if name == ".gitkeep" {
            continue;
        }
        let path = if below.is_empty() {
            name.to_owned()
        } else {
            format!("{below}/{name}")
        };
        let meta = fs::symlink_metadata(&source).map_err(failed(&source))?;
        let node = if meta.is_dir() {
            read_folder(&source, &path, origin, files)?;
            Node::folder(origin)
        } else if meta.is_symlink() {
            let target = fs::read_link(&source).map_err(failed(&source))?;
            match target.to_str() {
                Some(target) => Node::link(target, origin),
                None => {
                    return Err(TreeError::Overlay {
                        path: source,
                        why: "its target is not UTF-8".into(),
                    });
                }
            }
        } else if meta.is_file() {
            let mode = if meta.permissions().mode() & 0o100 != 0 {
                0o755
            } else {
                0o644
            };
            // Overlays are small; held in memory, they cannot change between being hashed and being written.
            let bytes = fs::read(&source).map_err(failed(&source))?;
            Node::file(Content::bytes(bytes), mode, origin)
        } else {
            let why = "an overlay holds files, folders and symbolic links only: remove it".into();
            return Err(TreeError::Overlay { path: source, why });
        };
        files.push(OverlayFile { path, source, node });
    }
    Ok(())
}

/// Lays the overlays on `tree`, in this order, and gives the templates' paths (absolute, without the ending).
/// An overlay's file takes the place of a package's; two overlays with the same file are an error.
pub fn lay_overlays(tree: &mut Tree, overlays: &[OverlaySet]) -> Result<Vec<String>, TreeError> {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut templates = Vec::new();
    for overlay in overlays {
        for file in &overlay.files {
            let at = tree.resolve_parent(&file.path).map_err(|why| TreeError::Place {
                root: tree.name.clone(),
                path: file.path.clone(),
                origin: format!("overlay `{}`", overlay.name),
                why,
            })?;
            if file.node.is_folder() {
                let there = tree.resolve(&at).ok().and_then(|p| tree.get(&p));
                if there.is_none() {
                    tree.put(&at, file.node.clone());
                } else if !there.is_some_and(Node::is_folder) {
                    return Err(TreeError::Overlay {
                        path: file.source.clone(),
                        why: format!("it is a folder, but /{at} of the root is none: rename it"),
                    });
                }
                continue;
            }
            if tree.get(&at).is_some_and(Node::is_folder) {
                let why = format!("it is no folder, but /{at} of the root is one: rename it");
                return Err(TreeError::Overlay {
                    path: file.source.clone(),
                    why,
                });
            }
            let template = at
                .strip_suffix(TEMPLATE)
                .filter(|p| !p.is_empty() && !p.ends_with('/'))
                .map(str::to_owned);
            for claimed in [Some(&at), template.as_ref()].into_iter().flatten() {
                if let Some(first) = owners.insert(claimed.clone(), &overlay.name) {
                    return Err(TreeError::TwoOverlays {
                        root: tree.name.clone(),
                        path: claimed.clone(),
                        first: first.to_owned(),
                        second: overlay.name.clone(),
                    });
                }
            }
            if let Some(path) = template {
                if !matches!(file.node.kind, Kind::File(_)) {
                    let why = "a template must be a file: resolve the link".into();
                    return Err(TreeError::Overlay {
                        path: file.source.clone(),
                        why,
                    });
                }
                tree.put(
                    &path,
                    Node::link(&format!("{}/{path}", Template::FOLDER), &file.node.origin),
                );
                templates.push(format!("/{path}"));
            }
            tree.put(&at, file.node.clone());
        }
    }
    templates.sort();
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(name: &str, files: &[(&str, u32)]) -> OverlaySet {
        let folder = tempfile::tempdir().unwrap();
        for (path, mode) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        OverlaySet::read(name, folder.path()).unwrap()
    }

    #[test]
    fn only_the_execute_bit_of_the_checkout_shows() {
        let mut tree = Tree::new("t");
        lay_overlays(&mut tree, &[overlay("a", &[("etc/a", 0o600), ("usr/bin/b", 0o700)])]).unwrap();
        assert_eq!(tree.get("etc/a").unwrap().mode, 0o644);
        assert_eq!(tree.get("usr/bin/b").unwrap().mode, 0o755);
    }

    #[test]
    fn a_template_leaves_a_place_for_what_it_becomes() {
        let mut tree = Tree::new("t");
        let templates = lay_overlays(&mut tree, &[overlay("a", &[("etc/a.conf.tmpl", 0o644)])]).unwrap();
        assert_eq!(templates, ["/etc/a.conf"]);
        assert_eq!(
            tree.get("etc/a.conf").unwrap().kind,
            Kind::Link("/run/config/etc/a.conf".into())
        );
        assert_eq!(tree.get("etc/a.conf.tmpl").unwrap().content().unwrap().len, 1);
    }

    #[test]
    fn a_file_of_two_overlays_is_an_error_that_names_both() {
        let mut tree = Tree::new("web");
        let both = [overlay("one", &[("etc/a", 0o644)]), overlay("two", &[("etc/a", 0o644)])];
        let error = lay_overlays(&mut tree, &both).unwrap_err().to_string();
        assert!(
            error.contains("/etc/a is in overlay `one` and in overlay `two`"),
            "{error}"
        );
        let mut tree = Tree::new("web");
        let both = [
            overlay("one", &[("etc/a", 0o644)]),
            overlay("two", &[("etc/a.tmpl", 0o644)]),
        ];
        assert!(lay_overlays(&mut tree, &both).is_err());
    }

    #[test]
    fn an_overlay_takes_the_place_of_a_packages_file() {
        let mut tree = Tree::new("t");
        tree.put("etc/a", Node::file(Content::bytes("package"), 0o600, "p"));
        lay_overlays(&mut tree, &[overlay("one", &[("etc/a", 0o644)])]).unwrap();
        assert_eq!(tree.get("etc/a").unwrap().content().unwrap().read().unwrap(), b"one");
    }
}

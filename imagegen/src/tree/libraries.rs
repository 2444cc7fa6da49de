//! Whether every program and library of a root finds what it needs, inside that root.

use std::collections::{BTreeMap, BTreeSet};

use cairn_unit::Arch;

use super::elf::ElfInfo;
use super::ldcache::machine;
use super::{Tree, TreeError};

/// Checks the `NEEDED` entries and the loader of every ELF file of `arch`. `cached` are the libraries that the loader's
/// cache names. Gives the number of files that were looked at.
pub fn check_libraries(tree: &Tree, arch: Arch, cached: &BTreeMap<String, String>) -> Result<usize, TreeError> {
    let mut checked = 0;
    let mut seen = BTreeSet::new();
    for (path, node) in tree.iter() {
        let Some(content) = node.content() else { continue };
        let candidate = node.mode & 0o111 != 0 || path.ends_with(".so") || path.contains(".so.");
        if !candidate || !seen.insert((content.digest, path.rfind('/').map(|i| path[..i].to_owned()))) {
            continue;
        }
        let info = ElfInfo::read(content).map_err(|e| TreeError::Place {
            root: tree.name.clone(),
            path: path.to_owned(),
            origin: node.origin.to_string(),
            why: e.to_string(),
        })?;
        let Some(info) = info.filter(|i| i.machine == machine(arch)) else {
            continue;
        };
        checked += 1;
        let folder = path.rfind('/').map_or("", |i| &path[..i]);
        let missing = |library: &str| TreeError::MissingLibrary {
            root: tree.name.clone(),
            file: path.to_owned(),
            library: library.to_owned(),
        };
        if let Some(loader) = &info.interpreter
            && tree.lookup(loader).is_none()
        {
            return Err(missing(loader));
        }
        for library in &info.needed {
            let here = |folder: &str| tree.lookup(&format!("{folder}/{library}")).is_some();
            let beside = || here(folder);
            let on_path = || {
                info.runpath.iter().any(|p| {
                    let p = p
                        .replace("${ORIGIN}", "$ORIGIN")
                        .replace("$ORIGIN", &format!("/{folder}"));
                    here(&p)
                })
            };
            let loader_itself = || info.soname.as_deref() == Some(library);
            let absolute = || library.contains('/') && tree.lookup(library).is_some();
            if !(cached.contains_key(library) || on_path() || beside() || loader_itself() || absolute()) {
                return Err(missing(library));
            }
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Content, Node};
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_file() {
        if Arch::host() != Some(Arch::Amd64) {
            return;
        }
        let mut tree = Tree::new("web");
        let own = Content::file(Path::new("/proc/self/exe")).unwrap();
        tree.put("usr/bin/self", Node::file(own, 0o755, "test"));
        let error = check_libraries(&tree, Arch::Amd64, &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("`web`: /usr/bin/self needs the library"), "{error}");
    }
}

//! The crates that are compiled into our programs, for the bill of materials.
//!
//! What cargo links is what `cargo tree` shows for the same packages and features as the build: normal dependencies without procedural
//! macros, which stay in the compiler. Checksums are those of `Cargo.lock`, by which cargo checked what it compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BuildError;
use super::binaries;
use super::plan::BuildPlan;
use crate::sbom::{self, Crate};

/// The file beside the programs that says what is compiled into each; a folder of programs may have it too.
pub(super) const FILE: &str = "crates.json";

/// What is compiled into programs: each crate once, and by program the ids of those in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compiled {
    /// By `name version`.
    crates: BTreeMap<String, Crate>,
    /// By program.
    programs: BTreeMap<String, BTreeSet<String>>,
}

/// What this needs to know of `Cargo.lock`.
#[derive(Deserialize)]
struct CargoLock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl Compiled {
    /// From what `cargo tree --prefix depth --format '{p}|{l}'` prints, the lock's text, and the compiler's version.
    ///
    /// # Errors
    /// A sentence with the line or the crate that is not understood.
    pub(super) fn read(tree: &str, lock: &str, rustc: &str) -> Result<Compiled, String> {
        let lock: CargoLock = toml::from_str(lock).map_err(|e| format!("Cargo.lock: {}", e.message()))?;
        let locked: BTreeMap<String, Locked> = lock
            .package
            .into_iter()
            .map(|one| (format!("{} {}", one.name, one.version), one))
            .collect();
        let mut crates = BTreeMap::new();
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let (mut roots, mut above) = (Vec::new(), Vec::<String>::new());
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let (depth, id, license) = node(line).ok_or_else(|| format!("cargo tree says `{line}`"))?;
            let one = locked
                .get(&id)
                .ok_or_else(|| format!("Cargo.lock does not have `{id}`"))?;
            if depth > above.len() {
                return Err(format!("cargo tree says `{line}` at no place"));
            }
            above.truncate(depth);
            match above.last() {
                Some(parent) => drop(needs.entry(parent.clone()).or_default().insert(id.clone())),
                None => roots.push(id.clone()),
            }
            above.push(id.clone());
            crates.entry(id).or_insert_with(|| Crate {
                name: one.name.clone(),
                version: one.version.clone(),
                registry: one.source.is_some(),
                sha256: one.checksum.clone(),
                license: Some(license.replace('/', " OR ")).filter(|license| !license.is_empty()),
                units: BTreeSet::new(),
            });
        }
        // The standard library is in every program, and in no lock.
        let version = rustc.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let std = format!("std {version}");
        let library = Crate {
            name: "std".into(),
            version,
            registry: false,
            sha256: None,
            license: Some("MIT OR Apache-2.0".into()),
            units: BTreeSet::new(),
        };
        crates.insert(std.clone(), library);
        let mut programs = BTreeMap::new();
        for root in roots {
            let (mut all, mut next) = (BTreeSet::from([std.clone()]), vec![root.clone()]);
            while let Some(id) = next.pop() {
                if all.insert(id.clone()) {
                    next.extend(needs.get(&id).into_iter().flatten().cloned());
                }
            }
            let name = root.split(' ').next().unwrap_or_default();
            programs.insert(name.to_owned(), all);
        }
        Ok(Compiled { crates, programs })
    }

    /// What lies beside the programs; nothing if that was not written.
    pub(super) fn beside(folder: &Path) -> Result<Compiled, BuildError> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Compiled::default()),
            Err(e) => Err(BuildError::io("read", &path)(e)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| BuildError::io("read", &path)(e.into())),
        }
    }

    /// Keeps it beside the programs.
    pub(super) fn keep(&self, folder: &Path) -> Result<(), BuildError> {
        let path = folder.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        std::fs::write(&path, bytes).map_err(BuildError::io("write", &path))
    }

    /// The crates of an image, each with the units that it is in.
    pub(super) fn of(&self, plan: &BuildPlan) -> Vec<Crate> {
        let units = plan.units.iter().flat_map(|(unit, spec)| {
            spec.programs
                .iter()
                .map(|program| (unit.to_string(), program.to_string()))
        });
        let host = binaries::needed(plan.extras()).map(|program| (sbom::HOST.to_owned(), program.to_owned()));
        self.held(units.chain(host))
    }

    fn held(&self, programs: impl Iterator<Item = (String, String)>) -> Vec<Crate> {
        let mut units: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (unit, program) in programs {
            for id in self.programs.get(&program).into_iter().flatten() {
                units.entry(id).or_default().insert(unit.clone());
            }
        }
        let held = units.into_iter().filter_map(|(id, units)| {
            let one = self.crates.get(id)?.clone();
            Some(Crate { units, ..one })
        });
        held.collect()
    }
}

/// A line's depth, the crate's `name version`, and its licence.
fn node(line: &str) -> Option<(usize, String, &str)> {
    let start = line.find(|c: char| !c.is_ascii_digit())?;
    let (depth, rest) = line.split_at(start);
    let (package, license) = rest.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // Behind it stands `(*)` where what it needs was shown before.
    let license = license.strip_suffix(" (*)").unwrap_or(license);
    Some((depth.parse().ok()?, format!("{name} {version}"), license.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0manager v0.1.0 (/src/manager)|MIT OR Apache-2.0\n\
        1serde v1.0.2|MIT/Apache-2.0\n2serde_core v1.0.2|MIT OR Apache-2.0\n1ring v0.17.0|Apache-2.0 AND ISC\n\n\
        0panel v0.1.0 (/src/panel)|MIT OR Apache-2.0\n1serde v1.0.2|MIT/Apache-2.0 (*)\n1odd v2.0.0+x|\n";
    const LOCK: &str = "version = 4\n\
        [[package]]\nname = \"manager\"\nversion = \"0.1.0\"\n[[package]]\nname = \"panel\"\nversion = \"0.1.0\"\n\
        [[package]]\nname = \"serde\"\nversion = \"1.0.2\"\nsource = \"registry\"\nchecksum = \"aa\"\n\
        [[package]]\nname = \"serde_core\"\nversion = \"1.0.2\"\nsource = \"registry\"\nchecksum = \"bb\"\n\
        [[package]]\nname = \"ring\"\nversion = \"0.17.0\"\nsource = \"registry\"\nchecksum = \"cc\"\n\
        [[package]]\nname = \"odd\"\nversion = \"2.0.0+x\"\nsource = \"registry\"\nchecksum = \"dd\"\n\
        [[package]]\nname = \"only-in-tests\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"ee\"\n";

    fn compiled() -> Compiled {
        Compiled::read(TREE, LOCK, "rustc 1.91.0 (abc 2026-01-01)").unwrap()
    }

    #[test]
    fn each_program_has_the_crates_that_are_linked_into_it_also_where_they_were_shown_before() {
        let held = compiled().held([("panel".to_owned(), "panel".to_owned())].into_iter());
        let names: Vec<_> = held.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
        assert_eq!(
            names,
            [
                "odd 2.0.0+x",
                "panel 0.1.0",
                "serde 1.0.2",
                "serde_core 1.0.2",
                "std 1.91.0"
            ]
        );
        let of = |name: &str| held.iter().find(|one| one.name == name).unwrap();
        assert_eq!(of("serde").sha256.as_deref(), Some("aa"));
        assert_eq!(of("serde").license.as_deref(), Some("MIT OR Apache-2.0"));
        assert!(of("serde").registry && !of("panel").registry && !of("std").registry);
        assert_eq!((&of("odd").license, &of("panel").sha256), (&None, &None));
    }

    #[test]
    fn a_crate_of_two_units_is_listed_once_with_both() {
        let pairs = [("host", "manager"), ("panel", "panel"), ("gone", "unknown")];
        let pairs = pairs.map(|(unit, program)| (unit.to_owned(), program.to_owned()));
        let held = compiled().held(pairs.into_iter());
        let serde: Vec<_> = held.iter().filter(|one| one.name == "serde").collect();
        assert_eq!(serde.len(), 1);
        assert_eq!(serde[0].units, BTreeSet::from(["host".to_owned(), "panel".to_owned()]));
        let ring = held.iter().find(|one| one.name == "ring").unwrap();
        assert_eq!(ring.units, BTreeSet::from(["host".to_owned()]));
    }

    #[test]
    fn what_is_not_understood_fails_and_is_not_left_out() {
        for (tree, lock) in [
            ("0manager|MIT\n", LOCK),
            ("1serde v1.0.2|MIT\n", LOCK),
            ("0gone v1.0.0|MIT\n", LOCK),
            (TREE, "package = 3"),
        ] {
            assert!(Compiled::read(tree, lock, "").is_err(), "{tree}");
        }
    }

    #[test]
    fn it_is_kept_beside_the_programs_and_a_folder_without_it_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Compiled::beside(folder.path()).unwrap(), Compiled::default());
        compiled().keep(folder.path()).unwrap();
        assert_eq!(Compiled::beside(folder.path()).unwrap(), compiled());
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Compiled::beside(folder.path()).is_err());
    }
}

//! What a repository's folder holds that nobody is led to: packs that no release uses, targets that are no longer signed for.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tough::schema::{Signed, Targets};

use super::repository::{Publisher, json};
use crate::error::Error;
use crate::index::Index;
use crate::metadata::DELTA;

impl Publisher {
    /// The files in `packs/` and `targets/` that neither a signed release nor one that waits to be published needs, with their sizes.
    ///
    /// # Errors
    /// Nothing is published, or a release's index is gone: then nothing is known to be unused.
    pub fn unused(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let none = || Error::Refused("nothing is published yet".into());
        let (_, path) = self.newest("targets")?.ok_or_else(none)?;
        let signed: Signed<Targets> = json(&path)?;
        let (mut targets, mut packs) = (BTreeSet::new(), BTreeSet::new());
        for (target, signed) in &signed.signed.targets {
            let digits: String = signed.hashes.sha256.iter().map(|b| format!("{b:02x}")).collect();
            let name = format!("{digits}.{}", target.raw());
            if name.ends_with(".index") {
                let path = self.folder.join("targets").join(&name);
                let text = fs::read(&path).map_err(Error::io("read", &path))?;
                packs.extend(packs_of(&Index::decode(&text)?));
            }
            packs.extend(pack_of_delta(target.raw()));
            targets.insert(name);
        }
        let incoming = self.folder.join("incoming");
        for entry in fs::read_dir(&incoming).map_err(Error::io("list", &incoming))?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "index") {
                let text = fs::read(entry.path()).map_err(Error::io("read", entry.path()))?;
                packs.extend(packs_of(&Index::decode(&text)?));
            }
            packs.extend(pack_of_delta(&entry.file_name().to_string_lossy()));
        }
        let mut unused = Vec::new();
        for (folder, used) in [("packs", packs), ("targets", targets)] {
            let folder = self.folder.join(folder);
            for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))?.flatten() {
                let found = entry.metadata().map_err(Error::io("read", entry.path()))?;
                if found.is_file() && !used.contains(&entry.file_name().to_string_lossy().into_owned()) {
                    unused.push((entry.path(), found.len()));
                }
            }
        }
        unused.sort();
        Ok(unused)
    }

    /// Removes them. Not while something is added.
    ///
    /// # Errors
    /// As [`Publisher::unused`], or a file cannot be removed.
    pub fn gc(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let unused = self.unused()?;
        for (path, _) in &unused {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        Ok(unused)
    }
}

/// The pack that holds a delta's frames.
fn pack_of_delta(target: &str) -> Option<String> {
    target.strip_suffix(DELTA).map(|name| format!("{name}.pack"))
}

/// The packs that hold chunks of a release.
fn packs_of(index: &Index) -> impl Iterator<Item = String> {
    let used: BTreeSet<u16> = index.chunks.iter().map(|chunk| chunk.pack).collect();
    let names = used
        .into_iter()
        .map(|pack| index.release.packs[usize::from(pack)].clone());
    names.collect::<Vec<String>>().into_iter()
}

//! Locked packages as contents for a tree: unpacked into the cache and read back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::deb::{self, DebError, Job, unpack_all};
use crate::progress::Progress;
use crate::resolve::LockedPackage;
use crate::tree::{Content, Kind, Node, Owner, PackageFiles, Source};

/// How long a silent mirror is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A package's contents.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: PackageFiles,
    /// The bytes of all its files.
    pub bytes: u64,
}

/// The packages' contents, unpacked with two threads where the cache does not have them unpacked.
pub(crate) fn load(
    cache: &Cache,
    packages: &[&LockedPackage],
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, DebError> {
    let jobs: Vec<Job> = packages.iter().map(|p| Job::from(*p)).collect();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let unpacked = unpack_all(cache, &jobs, threads, progress)?;
    unpacked.into_iter().zip(packages).map(|(u, p)| loaded(u, p)).collect()
}

/// As [`load`], by name.
pub(crate) fn load_by_name(
    cache: &Cache,
    packages: &[&LockedPackage],
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Loaded>, DebError> {
    Ok(load(cache, packages, progress)?
        .into_iter()
        .map(|p| (p.name.clone(), p))
        .collect())
}

fn loaded(unpacked: deb::Unpacked, package: &LockedPackage) -> Result<Loaded, DebError> {
    let malformed = |reason: String| DebError::Malformed {
        label: format!("{} {}", package.name, package.version),
        reason,
    };
    let tar: Arc<Path> = unpacked.tar.into();
    let origin: Arc<str> = package.name.as_str().into();
    let mut contents: HashMap<String, Content> = HashMap::new();
    let mut entries = Vec::with_capacity(unpacked.index.entries.len());
    let mut owners = BTreeMap::new();
    let mut bytes = 0;
    for entry in unpacked.index.entries {
        let kind = match entry.kind {
            deb::Kind::Dir => Kind::Folder,
            deb::Kind::Symlink(target) => Kind::Link(target),
            deb::Kind::Char(major, minor) => Kind::Character { major, minor },
            deb::Kind::File { offset, size, sha256 } => {
                let source = Source::Range {
                    file: tar.clone(),
                    offset,
                };
                let content = Content {
                    source,
                    len: size,
                    digest: *sha256.as_bytes(),
                };
                contents.insert(entry.path.clone(), content.clone());
                bytes += size;
                Kind::File(content)
            }
            deb::Kind::Hardlink(target) => match contents.get(&target) {
                Some(content) => Kind::File(content.clone()),
                None => {
                    return Err(malformed(format!(
                        "{} is a link to {target}, which it does not hold",
                        entry.path
                    )));
                }
            },
            deb::Kind::Block(..) | deb::Kind::Fifo => {
                return Err(malformed(format!(
                    "{} is a block device or a pipe, which no image holds",
                    entry.path
                )));
            }
        };
        let node = Node {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: entry.xattrs.into_iter().collect(),
            origin: origin.clone(),
        };
        if (entry.uid, entry.gid) != (0, 0) {
            let owner = Owner {
                user: entry.user,
                group: entry.group,
            };
            owners.insert(entry.path.clone(), owner);
        }
        entries.push((entry.path, node));
    }
    let replaces = match unpacked.index.control.field("Replaces") {
        Some(text) => names(text),
        None => Vec::new(),
    };
    Ok(Loaded {
        name: package.name.clone(),
        files: PackageFiles {
            name: package.name.clone(),
            replaces,
            entries,
            owners,
        },
        bytes,
    })
}

/// The names in a relation field; versions are the archive's affair, which lets only fitting packages in.
fn names(text: &str) -> Vec<String> {
    text.split([',', '|'])
        .filter_map(|part| part.trim().split([' ', '(', '[', ':']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn versions_and_architectures_are_no_part_of_a_name() {
        assert_eq!(names("a (<< 2.0), b:any,\n c [amd64]"), ["a", "b", "c"]);
    }
}

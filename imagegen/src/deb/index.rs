//! The index of an unpacked package, and reading it back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Control;
use crate::cache::{Cache, Digest};

/// The format of the index; another number means: unpack again.
pub(super) const FORMAT: u32 = 1;

/// What an entry is. Device numbers and targets are as in the tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// A regular file.
    File {
        /// Where its content begins in the tar, in bytes.
        offset: u64,
        /// Its length in bytes.
        size: u64,
        /// The digest of its content.
        sha256: Digest,
    },
    /// A folder.
    Dir,
    /// A symbolic link with its target, as written: it may be absolute or lead anywhere.
    Symlink(String),
    /// Another name of a file that comes earlier in this package.
    Hardlink(String),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Relative, without `.`, `..` or a slash at either end; empty for the root folder.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permissions with set-id and sticky bits: at most 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// The owner's name in the tar; may be empty.
    pub user: String,
    /// The group's name in the tar; may be empty.
    pub group: String,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// All that is in a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    pub(super) format: u32,
    /// What the package says of itself.
    pub control: Control,
    /// Its paths, in the order of the tar; none occurs twice.
    pub entries: Vec<Entry>,
}

/// An unpacked package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the package file.
    pub sha256: Digest,
    /// The tar that [`Kind::File`] points into.
    pub tar: PathBuf,
    /// What is in it.
    pub index: Index,
}

pub(super) fn tar_path(cache: &Cache, sha256: &Digest) -> PathBuf {
    cache.unpacked().join(format!("{sha256}.tar"))
}

pub(super) fn index_path(cache: &Cache, sha256: &Digest) -> PathBuf {
    cache.unpacked().join(format!("{sha256}.idx"))
}

/// The package as the cache has it; None where it has to be unpacked (again).
pub(super) fn load(cache: &Cache, sha256: &Digest) -> Option<Unpacked> {
    let tar = tar_path(cache, sha256);
    let path = index_path(cache, sha256);
    let index: Index = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let length = std::fs::metadata(&tar).ok()?.len();
    let within = |entry: &Entry| match entry.kind {
        Kind::File { offset, size, .. } => offset.checked_add(size).is_some_and(|end| end <= length),
        _ => true,
    };
    if index.format != FORMAT || !index.entries.iter().all(within) {
        return None;
    }
    for used in [Path::new(&tar), &path] {
        crate::cache::touch(used);
    }
    Some(Unpacked {
        sha256: *sha256,
        tar,
        index,
    })
}

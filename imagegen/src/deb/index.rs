//! The index of an unpacked package, and reading it back.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Control;
use crate::cache::{Cache, Digest};

/// The format of the index; another number means: unpack again.
pub(super) const FORMAT: u32 = 2;

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

/// Says in an index that the contents in the tar were read from the disk and compared.
const COMPARED: &str = "compared";

/// The text of an index file: a line with the digest of the rest and the boot in which it was written.
///
/// Neither file is synced when a package is unpacked. In the same boot that does not matter: the kernel gives back what was
/// written. In a later one a power cut may have come between, so every file's digest is compared once.
pub(super) fn to_bytes(index: &Index, boot: Option<&str>) -> Result<Vec<u8>, String> {
    let body = serde_json::to_vec(index).map_err(|e| e.to_string())?;
    let mut bytes = format!("{} {}\n", Digest::of(&body), boot.unwrap_or("unknown")).into_bytes();
    bytes.extend(body);
    Ok(bytes)
}

/// The kernel's name of the present boot (random(4)); none where it cannot be read.
pub(super) fn this_boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The package as the cache has it; None where it has to be unpacked (again).
pub(super) fn load(cache: &Cache, sha256: &Digest) -> Option<Unpacked> {
    let tar = tar_path(cache, sha256);
    let path = index_path(cache, sha256);
    let bytes = std::fs::read(&path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (digest, boot) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let body = &bytes[end + 1..];
    if digest.parse::<Digest>().ok()? != Digest::of(body) {
        return None;
    }
    let index: Index = serde_json::from_slice(body).ok()?;
    let length = std::fs::metadata(&tar).ok()?.len();
    let within = |entry: &Entry| match entry.kind {
        Kind::File { offset, size, .. } => offset.checked_add(size).is_some_and(|end| end <= length),
        _ => true,
    };
    if index.format != FORMAT || !index.entries.iter().all(within) {
        return None;
    }
    let now = this_boot();
    if boot != COMPARED && Some(boot) != now.as_deref() {
        if !holds(&tar, &index) {
            return None;
        }
        // Without a name for this boot it may be the one in which the tar was written.
        if now.is_some() {
            remember(cache, &path, &index);
        }
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

/// Whether the tar has every content that the index says.
fn holds(tar: &Path, index: &Index) -> bool {
    let Ok(file) = std::fs::File::open(tar) else {
        return false;
    };
    let mut buffer = vec![0; 1 << 18];
    index.entries.iter().all(|entry| match entry.kind {
        Kind::File { offset, size, sha256 } => {
            let mut hasher = Sha256::new();
            let (mut at, end) = (offset, offset + size);
            while at < end {
                let count = buffer.len().min((end - at) as usize);
                if file.read_exact_at(&mut buffer[..count], at).is_err() {
                    return false;
                }
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            Digest::finish(hasher) == sha256
        }
        _ => true,
    })
}

/// Writes the index anew as compared; that this fails (a read-only cache) costs the comparison once more.
fn remember(cache: &Cache, path: &Path, index: &Index) {
    let Ok(bytes) = to_bytes(index, Some(COMPARED)) else {
        return;
    };
    if let Ok(mut staged) = cache.stage(path)
        && staged.write_all(&bytes).is_ok()
    {
        let _ = staged.commit_unsynced();
    }
}

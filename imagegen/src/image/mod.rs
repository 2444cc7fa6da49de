//! From finished parts to bootable files: the root's EROFS and hash tree, the initrd, the UKI, the ESP, the disk, and
//! the disk in the formats of hypervisors.
//!
//! Everything here is a function of its inputs: identifiers come from content hashes and times from
//! SOURCE_DATE_EPOCH, so the same inputs give the same bytes. What a step makes is first a plain value (a layout, a
//! list of files), which can be printed, and then bytes.

pub mod cpio;
pub mod disk;
pub mod erofs;
pub mod esp;
pub mod fat;
pub mod formats;
pub mod inspect;
pub mod secureboot;
pub mod tool;
pub mod uki;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use cairn_disk::Guid;

/// Why a part of an image cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file on the build machine failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// A verb: "create", "write", "read", "rename".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An input is not what it has to be.
    #[error("{what}: {why}")]
    Input {
        /// Which input.
        what: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The partition table.
    #[error(transparent)]
    Gpt(#[from] cairn_disk::gpt::Error),
    /// The hash tree.
    #[error(transparent)]
    Verity(#[from] cairn_disk::verity::Error),
    /// A tool of others.
    #[error(transparent)]
    Tool(#[from] tool::ToolError),
}

impl Error {
    /// For `map_err` where a file fails.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn input(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Input {
            what: what.into(),
            why: why.into(),
        }
    }
}

/// A GUID for one purpose, computed from content: the same purpose and content give the same GUID.
pub fn guid_for(purpose: &str, content: &[u8]) -> Guid {
    let hash = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(content)
        .finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Guid::from_hash(half)
}

/// Writes a file so that a reader sees either nothing (or the earlier file) or all of the new one: under a temporary
/// name beside it, then renamed. When `fill` fails, the temporary file is removed and an earlier file stays.
pub(crate) fn write_whole<T>(path: &Path, fill: impl FnOnce(&File) -> Result<T, Error>) -> Result<T, Error> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(Error::io("create a file in", folder))?;
    let _watched = crate::leftovers::watch(temporary.path());
    let made = fill(temporary.as_file())?;
    temporary.persist(path).map_err(|e| Error::Io {
        doing: "rename",
        path: path.to_owned(),
        source: e.error,
    })?;
    Ok(made)
}

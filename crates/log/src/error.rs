//! What can go wrong, in sentences.

use std::io;
use std::path::{Path, PathBuf};

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no space left (or no quota); nothing of what stood there is lost, and the next append tries again.
    #[error("no space left to write {path}: {source}; earlier records are kept, free space or lower the log's limits")]
    Full {
        /// The file that could not grow.
        path: PathBuf,
        /// What the kernel said: ENOSPC or EDQUOT.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process writes to this store.
    #[error("another process writes to the log store {path}; stop it first: a store has one writer")]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// A name that cannot be a folder's.
    #[error("{name:?} cannot name a unit's log: use 1 to 200 of a-z, A-Z, 0-9, and - _ . @ after the first")]
    UnitName {
        /// The name.
        name: String,
    },
    /// A record whose fields are larger than a store keeps.
    #[error(
        "the fields of a record of unit {unit} take {length} bytes, at most {limit} are kept: send less beside the message"
    )]
    Fields {
        /// Whose record.
        unit: String,
        /// How large its fields are.
        length: usize,
        /// How large they may be.
        limit: usize,
    },
    /// Text that should have been a value of some kind.
    #[error("{text:?} is not {expected}")]
    Text {
        /// What was given.
        text: String,
        /// What it should have been, with an example.
        expected: &'static str,
    },
}

impl Error {
    /// For `map_err`: the failure of `doing` on `path`, with a full disk told apart.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path, source },
                _ => Error::Io { doing, path, source },
            }
        }
    }

    pub(crate) fn text(text: &str, expected: &'static str) -> Error {
        Error::Text {
            text: text.to_owned(),
            expected,
        }
    }

    /// Whether space has run out.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Full { .. })
    }
}

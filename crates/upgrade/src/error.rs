//! Why an upgrade cannot be done, in sentences that name what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why an upgrade cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or device.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The disk is not that of an appliance with two slots.
    #[error("{0}")]
    Slots(String),
    /// The partition table.
    #[error(transparent)]
    Table(#[from] cairn_disk::gpt::Error),
    /// The hash tree.
    #[error(transparent)]
    Verity(#[from] cairn_disk::verity::Error),
    /// The release does not fit this appliance. Nothing was changed.
    #[error("{0}; nothing was changed")]
    Refused(String),
    /// The repository or bundle does not prove what it offers.
    #[error("{0}")]
    Untrusted(String),
    /// The repository or bundle cannot be read.
    #[error("cannot get {name}: {why}")]
    Fetch {
        /// What was asked for, below the repository's address.
        name: String,
        /// Why.
        why: String,
        /// Whether it is not there, rather than out of reach.
        absent: bool,
    },
    /// What was written is not what should be there.
    #[error("{0}")]
    Wrong(String),
    /// An index that is not one.
    #[error("the index of the release is damaged: {0}")]
    Index(&'static str),
    /// A delta that is not one.
    #[error("the delta of the release is damaged: {0}")]
    Delta(&'static str),
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn io<E: Into<io::Error>>(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            doing,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }
}

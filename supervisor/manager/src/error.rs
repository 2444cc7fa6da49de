//! What can go wrong, in words for the console.

use std::path::{Path, PathBuf};

/// A failure of the manager itself or of a unit's preparation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("cannot {what} {path}: {why}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        why: std::io::Error,
    },
    /// A file that is written, or read, as a whole.
    #[error(transparent)]
    Config(#[from] cairn_config::Error),
    /// The manifest cannot be read.
    #[error("{path} is not a manifest that this manager reads ({why}): write the image again", path = path.display())]
    Manifest {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The owner's choices cannot be changed.
    #[error("{path}: {why}; nothing was changed", path = path.display())]
    Site {
        /// Their file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The unit names something that its root does not have.
    #[error("unit {unit}: {what} is not in its root; rebuild the image")]
    Missing {
        /// The unit.
        unit: String,
        /// What.
        what: String,
    },
    /// The kernel lacks something that every unit must have.
    #[error("{0}")]
    Kernel(String),
    /// The network.
    #[error("network: cannot {what}: {why}")]
    Network {
        /// What was tried.
        what: String,
        /// Why.
        why: std::io::Error,
    },
    /// What a sandbox needs before it stands.
    #[error("unit {unit}: {why}")]
    Sandbox {
        /// The unit.
        unit: String,
        /// Why not.
        why: String,
    },
    /// A unit's state, in a sentence with what to do.
    #[error("{0}")]
    State(String),
    /// cairn-init.
    #[error("cairn-init: {0}")]
    Init(String),
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn io<E: Into<std::io::Error>>(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Error {
        move |why| Error::Io {
            what,
            path: path.as_ref().to_owned(),
            why: why.into(),
        }
    }

    /// For `map_err` on a network operation.
    pub fn network<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        move |why| Error::Network {
            what: what.into(),
            why: why.into(),
        }
    }
}

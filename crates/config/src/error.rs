//! What can go wrong, in words for the console.

use std::path::{Path, PathBuf};

/// A failure of this crate.
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
    /// A key or certificate.
    #[error("{0}")]
    Certificate(String),
    /// A text that is not accepted.
    #[error("{0}")]
    Refused(String),
    /// A template that names what there is not, or cannot be read.
    #[error("template {file}:{line}: {why}")]
    Template {
        /// Its file.
        file: String,
        /// The line; 0 if not known.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(std::io::Error),
}

impl Error {
    /// For `map_err` on a file operation.
    pub(crate) fn io<E: Into<std::io::Error>>(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Error {
        move |why| Error::Io {
            what,
            path: path.as_ref().to_owned(),
            why: why.into(),
        }
    }
}

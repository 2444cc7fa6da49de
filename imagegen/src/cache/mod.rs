//! The content-addressed cache that all recipes of a user share.
//!
//! Promises: a file under `blobs/` is complete and had its digest when it was stored; everything appears under its
//! final name by a rename only; any number of processes may use one cache at once; a failure (also a full disk or a
//! kill) leaves every stored file as it was. Nothing here trusts a download before its digest is checked.
//!
//! ```text
//! blobs/sha256/aa/HASH   packages, as downloaded     partial/HASH     downloads under way, resumable
//! unpacked/HASH.{tar,idx} packages, unpacked          indexes/         signed indexes and package lists
//! tools/                  the build's own tools       lock             shared by users, exclusive for collection
//! ```

mod digest;
mod fetch;
mod gc;
mod store;
mod transport;

use std::path::{Path, PathBuf};

pub use digest::{BadDigest, Digest};
pub use fetch::{FetchError, FetchOptions, FetchReport, Missing, Want, fetch_all};
pub use gc::GcReport;
pub(crate) use store::touch;
pub use store::{Cache, InUse, Staged};
pub use transport::{Body, Transport, TransportError};

/// A failure of the cache's own files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Neither IMAGEGEN_CACHE, XDG_CACHE_HOME nor HOME says where the cache is.
    #[error(
        "no place for the cache: none of IMAGEGEN_CACHE, XDG_CACHE_HOME and HOME is set; set IMAGEGEN_CACHE to a folder"
    )]
    NoPlace,
    /// The file system (or the quota) is full.
    #[error(
        "no space left while writing {path}: free some space or run `imagegen cache gc`, then start again; what was already stored is kept"
    )]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// Collection was asked for while a build uses the cache.
    #[error("the cache {path} is in use by another imagegen: wait until it has ended, then collect again")]
    Busy {
        /// The cache's folder.
        path: PathBuf,
    },
    /// Any other failure of a file.
    #[error(
        "cannot {doing} {path}: {source}; check the folder's owner and permissions, or set IMAGEGEN_CACHE to another folder"
    )]
    Io {
        /// The step, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl CacheError {
    /// The error for `source`, met while `doing` something to `path`; a full disk becomes [`CacheError::Full`].
    pub fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        use rustix::io::Errno;
        let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG];
        if Errno::from_io_error(&source).is_some_and(|errno| full.contains(&errno)) {
            Self::Full { path: path.into() }
        } else {
            Self::Io {
                doing,
                path: path.into(),
                source,
            }
        }
    }
}

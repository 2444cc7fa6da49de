//! Packages, unpacked into the cache: the plain tar of their files, and an index of it.
//!
//! `unpacked/HASH.tar` holds the contents of `data.tar`, `unpacked/HASH.idx` says what lies where; HASH is the digest of the
//! package file. The index appears last, so where it is, both are complete. Nothing is written outside these two files, and no
//! script of a package is even stored.

mod ar;
mod control;
mod index;
mod unpack;

use std::path::PathBuf;

pub use control::Control;
pub use index::{Entry, Index, Kind, Unpacked};
pub use unpack::{Job, unpack_all};

use crate::cache::{CacheError, Digest};

/// Why a package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebError {
    /// The blob is not in the cache.
    #[error("package {label} ({sha256}) is not in the cache; fetch it first (run once without --offline)")]
    Absent {
        /// What people call it.
        label: String,
        /// Its digest.
        sha256: Digest,
    },
    /// The blob no longer has its digest.
    #[error(
        "package {label} is damaged: {path} has SHA-256 {found}; remove that file and start again (and check the disk)"
    )]
    Damaged {
        /// What people call it.
        label: String,
        /// The blob.
        path: PathBuf,
        /// What it has instead.
        found: Digest,
    },
    /// The package breaks its format, or would reach outside its root.
    #[error(
        "package {label} cannot be unpacked: {reason}; it is as the archive signed it, so report this as a fault of the package or of imagegen"
    )]
    Malformed {
        /// What people call it.
        label: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

//! The Debian archive: where it is, whether it is genuine, and its package lists.
//!
//! Nothing of a mirror is believed: `InRelease` must carry a signature by a key that is pinned in `keys/`, be within its
//! validity, and be for the suite that was asked for; the package lists must have the digests it states. Which mirror
//! answers is therefore a question of speed only.

mod date;
mod index;
mod mirror;
mod openpgp;
mod release;
mod sources;

use std::path::PathBuf;

pub use date::parse_date;
pub use index::{Archive, Expiry, SuiteIndex};
pub use mirror::{Area, Mirror, Suite};
pub use openpgp::{Keyring, SignatureError};
pub use release::{Listed, Release, ReleaseError};

use crate::cache::{CacheError, FetchError, TransportError};

/// Why the archive's indexes could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// No mirror is named anywhere.
    #[error(
        "no Debian mirror found: {looked} names no http(s) source of a Debian archive; set IMAGEGEN_MIRROR to the address of one (it ends in /debian)"
    )]
    NoMirror {
        /// The apt configuration that was read.
        looked: PathBuf,
    },
    /// The mirror does not answer.
    #[error("the mirror cannot be reached: {source}; check the network, or set IMAGEGEN_MIRROR to another mirror")]
    Unreachable {
        /// The request that failed.
        source: TransportError,
    },
    /// The mirror answers, but has no such suite.
    #[error(
        "suite {suite} is not at the mirror: {source}; set IMAGEGEN_MIRROR (and IMAGEGEN_SECURITY_MIRROR) to a full Debian mirror"
    )]
    NoSuite {
        /// The suite.
        suite: String,
        /// The request that failed.
        source: TransportError,
    },
    /// The index is not signed by a trusted key.
    #[error("the index of {suite} ({origin}) is not to be trusted: {source}")]
    Signature {
        /// The suite.
        suite: String,
        /// Where the index came from.
        origin: String,
        /// What is wrong with its signatures.
        source: SignatureError,
    },
    /// The index is genuine, but not to be used.
    #[error("the index of {suite} ({origin}) is not to be used: {source}")]
    Release {
        /// The suite.
        suite: String,
        /// Where the index came from.
        origin: String,
        /// Why not.
        source: ReleaseError,
    },
    /// Offline, and the indexes are not in the cache.
    #[error("offline, and the cache has no {what} of {suite}; run `imagegen lock` once with a network")]
    Offline {
        /// The suite.
        suite: String,
        /// Which index is missing.
        what: String,
    },
    /// A package list could not be fetched or has other bytes than signed.
    #[error("the package list of {suite}: {source}")]
    Fetch {
        /// The suite.
        suite: String,
        /// Why.
        source: FetchError,
    },
    /// A package list does not unpack to what was signed.
    #[error(
        "the package list of {suite} does not unpack to what the index states ({reason}); the mirror is broken: try another (IMAGEGEN_MIRROR)"
    )]
    Unpack {
        /// The suite.
        suite: String,
        /// What is wrong.
        reason: String,
    },
    /// A pinned or given key cannot be read.
    #[error("the key file {path} cannot be used: {reason}; it must hold one or more armoured OpenPGP public keys")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

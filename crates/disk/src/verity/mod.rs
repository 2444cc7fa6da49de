//! dm-verity, format version 1: the superblock and the hash tree, as `veritysetup format` writes them
//! (<https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity>), SHA-256 and 4096-byte blocks only.
//!
//! A *hash device* here is a partition or file that starts with the superblock; the tree follows in the next block,
//! the root's block first.

mod tree;

use std::fmt;
use std::io;
use std::str::FromStr;

pub use tree::{HashTree, build, hash_device_size, verify};

use crate::{Guid, ReadAt};

/// Data and hash blocks, in bytes.
pub const BLOCK: u64 = 4096;
/// The longest salt that the format allows, in bytes.
pub const MAX_SALT: usize = 256;

const SIGNATURE: &[u8; 8] = b"verity\0\0";
const ALGORITHM: &str = "sha256";

/// Why a hash tree cannot be built, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("cannot read {what} at byte {offset}: {source}")]
    Read {
        /// "data" or "hash".
        what: &'static str,
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The data is not a whole number of blocks.
    #[error("the data has {0} bytes; dm-verity needs a whole number of blocks of 4096, at least one")]
    DataSize(u64),
    /// The salt is too long.
    #[error("the salt has {0} bytes; at most 256 are allowed")]
    SaltSize(usize),
    /// The hash device does not start with a superblock that we support.
    #[error("not a dm-verity hash device that this program supports: bad {0}")]
    Superblock(&'static str),
    /// The tree's root is another one.
    #[error("the root hash is {found}, expected {expected}")]
    Root {
        /// What was asked for.
        expected: RootHash,
        /// What the data gives.
        found: RootHash,
    },
    /// The stored tree does not fit the data.
    #[error("block {block} does not match its hash (level {level}, level 0 being the data)")]
    Block {
        /// 0 for data blocks, 1 and up for blocks of hashes.
        level: usize,
        /// The block's number within its level.
        block: u64,
    },
    /// The text is not a root hash.
    #[error("`{0}` is not a root hash: write 64 hexadecimal digits")]
    Hash(String),
}

/// The hash at the top of the tree: it stands for every bit of the data.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash(pub [u8; 32]);

impl RootHash {
    /// The GUID of the root partition: the first 128 bits, read as a GUID's text, as systemd's gpt-auto-generator
    /// expects them.
    pub fn partuuid_root(&self) -> Guid {
        self.half(0)
    }

    /// The GUID of the verity partition: the last 128 bits.
    pub fn partuuid_verity(&self) -> Guid {
        self.half(16)
    }

    fn half(&self, at: usize) -> Guid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[at..at + 16]);
        Guid::from_bytes(bytes)
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Hash(text.chars().take(80).collect());
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        let digits = digits.filter(|d| d.len() == 64).ok_or_else(bad)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(hash))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What the superblock says: how the tree over the data is made. It is not secret and not itself protected: a wrong
/// value gives a wrong root hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The hash device's own UUID.
    pub uuid: Guid,
    /// The length of the data in blocks.
    pub data_blocks: u64,
    /// Hashed before each block; at most 256 bytes.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// The 512 bytes at the start of the hash device.
    pub fn to_bytes(&self) -> [u8; 512] {
        let mut bytes = [0; 512];
        let salt = self.salt.get(..MAX_SALT).unwrap_or(&self.salt);
        bytes[0..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes()); // version
        bytes[12..16].copy_from_slice(&1_u32.to_le_bytes()); // hash type: salt first, digests padded to powers of two
        bytes[16..32].copy_from_slice(&self.uuid.bytes());
        bytes[32..38].copy_from_slice(ALGORITHM.as_bytes());
        bytes[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        bytes[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        bytes[72..80].copy_from_slice(&self.data_blocks.to_le_bytes());
        bytes[80..82].copy_from_slice(&(salt.len() as u16).to_le_bytes());
        bytes[88..88 + salt.len()].copy_from_slice(salt);
        bytes
    }

    /// Reads the superblock from the start of a hash device.
    ///
    /// # Errors
    /// [`Error::Superblock`] names the field that is not as this program writes it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; 512] = bytes.first_chunk().ok_or(Error::Superblock("length"))?;
        let le32 = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut algorithm = [0; 32];
        algorithm[..ALGORITHM.len()].copy_from_slice(ALGORITHM.as_bytes());
        let check = |good: bool, what| if good { Ok(()) } else { Err(Error::Superblock(what)) };
        check(&bytes[0..8] == SIGNATURE, "signature")?;
        check(le32(8) == 1, "version")?;
        check(le32(12) == 1, "hash type")?;
        check(bytes[32..64] == algorithm, "algorithm: only sha256 is supported")?;
        check(u64::from(le32(64)) == BLOCK, "data block size: only 4096 is supported")?;
        check(u64::from(le32(68)) == BLOCK, "hash block size: only 4096 is supported")?;
        let data_blocks = u64::from(le32(72)) | u64::from(le32(76)) << 32;
        check(
            data_blocks > 0 && data_blocks <= u64::MAX / BLOCK,
            "number of data blocks",
        )?;
        let salt_size = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let salt = bytes[88..88 + MAX_SALT]
            .get(..salt_size)
            .ok_or(Error::Superblock("salt size"))?
            .to_vec();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            uuid: Guid::from_bytes(uuid),
            data_blocks,
            salt,
        })
    }

    /// Reads the superblock of a hash device.
    ///
    /// # Errors
    /// The device cannot be read, or as [`Superblock::parse`].
    pub fn read<R: ReadAt + ?Sized>(hash_device: &R) -> Result<Self, Error> {
        let mut bytes = [0; 512];
        hash_device.fill_at(&mut bytes, 0).map_err(|source| Error::Read {
            what: "hash",
            offset: 0,
            source,
        })?;
        Self::parse(&bytes)
    }

    /// The length in 512-byte sectors of the device-mapper target that this superblock describes.
    pub fn target_sectors(&self) -> u64 {
        self.data_blocks.saturating_mul(BLOCK / 512)
    }

    /// The parameters of the kernel's `verity` target (Documentation/admin-guide/device-mapper/verity.rst). Devices
    /// are paths or `MAJOR:MINOR`; `options` are optional arguments such as `panic_on_corruption`.
    pub fn target_params(&self, data_dev: &str, hash_dev: &str, root: &RootHash, options: &[&str]) -> String {
        let salt = if self.salt.is_empty() {
            "-".to_owned()
        } else {
            hex(&self.salt)
        };
        let blocks = self.data_blocks;
        let mut text = format!("1 {data_dev} {hash_dev} {BLOCK} {BLOCK} {blocks} 1 {ALGORITHM} {root} {salt}");
        if !options.is_empty() {
            text += &format!(" {} {}", options.len(), options.join(" "));
        }
        text
    }
}

//! Building and checking the tree. Memory is the tree's own size: 1/127 of the data.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::{BLOCK, Error, MAX_SALT, RootHash, Superblock};
use crate::{Guid, ReadAt};

const DIGEST: usize = 32;
/// Read in pieces of so many blocks (1 MiB).
const PIECE: usize = 256;

/// A whole hash device, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    /// How it was made.
    pub superblock: Superblock,
    /// What it stands for.
    pub root: RootHash,
    /// The levels from the one over the data upwards, each a whole number of blocks.
    levels: Vec<Vec<u8>>,
}

impl HashTree {
    /// The size of the hash device in bytes, superblock included.
    pub fn size(&self) -> u64 {
        BLOCK + self.levels.iter().map(|l| l.len() as u64).sum::<u64>()
    }

    /// Writes the hash device: superblock, then the levels from the root's downwards.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut first = [0; BLOCK as usize];
        first[..512].copy_from_slice(&self.superblock.to_bytes());
        to.write_all(&first)?;
        self.levels.iter().rev().try_for_each(|level| to.write_all(level))
    }
}

/// The hash of one block: SHA-256 of salt and block.
fn hash(salted: &Sha256, block: &[u8]) -> [u8; DIGEST] {
    let mut hasher = salted.clone();
    hasher.update(block);
    hasher.finalize().into()
}

/// Hashes the blocks of one stretch of the data into `out`, 32 bytes each.
fn hash_stretch<R: ReadAt + ?Sized>(data: &R, salted: &Sha256, first: u64, out: &mut [u8]) -> Result<(), Error> {
    let mut piece = vec![0; PIECE * BLOCK as usize];
    let mut offset = first * BLOCK;
    for digests in out.chunks_mut(PIECE * DIGEST) {
        let bytes = &mut piece[..digests.len() / DIGEST * BLOCK as usize];
        data.fill_at(bytes, offset).map_err(|source| Error::Read {
            what: "data",
            offset,
            source,
        })?;
        for (block, digest) in bytes.chunks_exact(BLOCK as usize).zip(digests.chunks_exact_mut(DIGEST)) {
            digest.copy_from_slice(&hash(salted, block));
        }
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// Builds the tree over `size` bytes of data, with `threads` threads (at least one). The same data, salt and UUID give
/// the same bytes, whatever the number of threads; the caller derives salt and UUID from the content.
///
/// # Errors
/// The size is not a whole number of blocks, the salt is too long, or the data cannot be read.
pub fn build<R: ReadAt + ?Sized>(
    data: &R,
    size: u64,
    salt: &[u8],
    uuid: Guid,
    threads: usize,
) -> Result<HashTree, Error> {
    if size == 0 || !size.is_multiple_of(BLOCK) {
        return Err(Error::DataSize(size));
    }
    if salt.len() > MAX_SALT {
        return Err(Error::SaltSize(salt.len()));
    }
    let superblock = Superblock {
        uuid,
        data_blocks: size / BLOCK,
        salt: salt.to_vec(),
    };
    let salted = Sha256::new_with_prefix(salt);
    let blocks = usize::try_from(superblock.data_blocks).map_err(|_| Error::DataSize(size))?;
    let mut digests = vec![0; blocks.checked_mul(DIGEST).ok_or(Error::DataSize(size))?];
    let share = blocks.div_ceil(threads.max(1)).next_multiple_of(PIECE);
    std::thread::scope(|scope| {
        let (salted, mut first, mut running) = (&salted, 0, Vec::new());
        for out in digests.chunks_mut(share * DIGEST) {
            let start = first;
            first += (out.len() / DIGEST) as u64;
            running.push(scope.spawn(move || hash_stretch(data, salted, start, out)));
        }
        // A thread that panicked cannot have finished its part; say so as an error rather than spread the panic.
        let lost = || Error::Read {
            what: "data",
            offset: 0,
            source: io::Error::other("a hashing thread died"),
        };
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(lost())))
    })?;
    let mut levels = Vec::new();
    // `digests` holds the hashes of the level below; one hash left is the root.
    while digests.len() > DIGEST {
        digests.resize(digests.len().next_multiple_of(BLOCK as usize), 0);
        let above = digests
            .chunks_exact(BLOCK as usize)
            .flat_map(|block| hash(&salted, block))
            .collect();
        levels.push(std::mem::replace(&mut digests, above));
    }
    let mut root = [0; DIGEST];
    root.copy_from_slice(&digests);
    Ok(HashTree {
        superblock,
        root: RootHash(root),
        levels,
    })
}

/// Checks the data and the tree on a hash device against a root hash. `size` is what the data device holds, in bytes;
/// the data proper may be shorter.
///
/// # Errors
/// [`Error::Superblock`] if the tree is for more data than that; [`Error::Block`] names the first block that does not match; [`Error::Root`] if all of the tree belongs to another root.
pub fn verify<D, H>(data: &D, size: u64, hash_device: &H, expected: &RootHash, threads: usize) -> Result<(), Error>
where
    D: ReadAt + ?Sized,
    H: ReadAt + ?Sized,
{
    let superblock = Superblock::read(hash_device)?;
    if superblock.data_blocks > size / BLOCK {
        return Err(Error::Superblock("number of data blocks: the data device is smaller"));
    }
    let built = build(
        data,
        superblock.data_blocks * BLOCK,
        &superblock.salt,
        superblock.uuid,
        threads,
    )?;
    let mut offset = built.size();
    for (level, ours) in built.levels.iter().enumerate() {
        offset -= ours.len() as u64;
        let mut stored = vec![0; ours.len()];
        hash_device.fill_at(&mut stored, offset).map_err(|source| Error::Read {
            what: "hash",
            offset,
            source,
        })?;
        if let Some(at) = ours.iter().zip(&stored).position(|(a, b)| a != b) {
            return Err(Error::Block {
                level,
                block: at as u64 / DIGEST as u64,
            });
        }
    }
    if built.root != *expected {
        return Err(Error::Root {
            expected: *expected,
            found: built.root,
        });
    }
    Ok(())
}

/// The size in bytes of a hash device, superblock included, for `size` bytes of data: how large a verity partition
/// must be. Sizes that are not whole blocks are rounded up.
pub fn hash_device_size(size: u64) -> u64 {
    let mut total = BLOCK;
    let mut blocks = size.div_ceil(BLOCK);
    while blocks > 1 {
        blocks = blocks.div_ceil(BLOCK / DIGEST as u64);
        total += blocks * BLOCK;
    }
    total
}

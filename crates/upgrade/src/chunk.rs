//! Cutting content into chunks, so that what did not change between two versions is the same chunks, wherever it lies.
//!
//! The root is EROFS: whatever it holds, compressed or not, begins at a block of 4096 bytes, and what moves between two builds
//! moves by whole blocks. So the cut is made between blocks, and whether one ends a chunk is decided by that block alone: after a
//! change the cuts are the same again at the next cut. A rolling hash over bytes (FastCDC) finds the same content but needs more around it to
//! come back in step, and gives chunks that no disk can write without reading first.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// The unit of the cut, in bytes: EROFS's and dm-verity's block.
pub const BLOCK: usize = 4096;
/// A block ends a chunk if its checksum has these bits clear: one in eight, so that a chunk has 32 KiB on average.
const MASK: u32 = 0x0000_0007;
/// The most blocks of a chunk: content that repeats itself, such as zeros, has no other end.
const MAX_BLOCKS: usize = 64;
/// The most bytes of a chunk.
pub const MAX_CHUNK: usize = BLOCK * MAX_BLOCKS;

/// The SHA-256 of a chunk's content: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The name of this content.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether a chunk ends with this block.
fn ends(block: &[u8]) -> bool {
    crc32fast::hash(block) & MASK == 0
}

/// Reads to the end and tells each chunk, in order, with its content.
///
/// # Errors
/// Those of `from` and of `tell`.
pub fn cut(from: &mut dyn Read, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; MAX_CHUNK];
    let mut length = 0;
    loop {
        let block = fill(from, &mut chunk[length..length + BLOCK])?;
        let last = block < BLOCK;
        let end = !last && (ends(&chunk[length..length + BLOCK]) || length + BLOCK == MAX_CHUNK);
        length += block;
        if (end || last) && length > 0 {
            tell(&chunk[..length])?;
            length = 0;
        }
        if last {
            return Ok(());
        }
    }
}

/// Fills the buffer, or as much of it as there is.
fn fill(from: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < into.len() {
        match from.read(&mut into[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use std::collections::BTreeSet;

    fn chunks(mut content: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        cut(&mut content, &mut |chunk| {
            out.push(chunk.to_vec());
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn the_chunks_are_the_content_and_none_is_too_long() {
        for content in [
            noise(1, 200),
            noise(2, 1)[..17].to_vec(),
            vec![0; 130 * BLOCK + 5],
            vec![],
        ] {
            let all = chunks(&content);
            assert_eq!(all.concat(), content);
            assert!(all.iter().all(|c| !c.is_empty() && c.len() <= MAX_CHUNK));
        }
        assert!(chunks(&noise(1, 200)).len() > 10);
    }

    #[test]
    fn what_is_put_in_the_middle_changes_only_the_chunks_around_it() {
        let old = noise(3, 400);
        let mut new = old[..100 * BLOCK].to_vec();
        new.extend(noise(9, 3));
        new.extend_from_slice(&old[100 * BLOCK..]);
        let before: BTreeSet<_> = chunks(&old).into_iter().collect();
        let after = chunks(&new);
        let fresh: usize = after.iter().filter(|c| !before.contains(*c)).map(Vec::len).sum();
        assert!((3 * BLOCK..60 * BLOCK).contains(&fresh), "{} blocks", fresh / BLOCK);
    }

    #[test]
    fn a_reader_that_gives_little_at_a_time_gives_the_same_chunks() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let length = into.len().min(self.0.len()).min(777);
                into[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        let content = noise(5, 90);
        let mut out = Vec::new();
        cut(&mut Slow(&content), &mut |chunk| {
            out.push(chunk.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(out, chunks(&content));
    }
}

//! What a root is made of, seen as blocks: compressed pieces of files, and everything else.
//!
//! EROFS compresses a file by pieces. Each is one Zstandard frame (RFC 8878) that ends with a block of 4096 bytes and has zeros before it
//! (the file system's "0padding"), so the frames are found without its metadata. A frame's content can be compared with what another
//! version holds, which its compressed form cannot; and the same library makes the same frame of the same content again.

use std::io;

use cairn_disk::ReadAt;

use crate::chunk::BLOCK;

/// zstd's level for a root's files in a release. Whoever changes it makes every piece of the next version a new one.
pub const LEVEL: i32 = 15;
/// The most bytes of a frame with its zeros: mkfs.erofs is asked for clusters of 64 KiB.
const MAX_FRAME: usize = 16 * BLOCK;
/// The most bytes of a frame's content. Compressing more at once takes too much memory; such a frame counts as blocks.
pub const MAX_CONTENT: usize = 1 << 20;
/// The most blocks of a unit.
pub const MAX_BLOCKS: usize = 64;
/// How a frame begins (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// A stretch of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Its first block.
    pub block: u64,
    /// How many it has.
    pub blocks: u16,
    /// The length of a frame's content, in bytes; `None`: these are blocks to be taken as they are.
    pub content: Option<u32>,
}

impl Unit {
    /// Where it begins, in bytes.
    pub fn start(&self) -> u64 {
        self.block * BLOCK as u64
    }

    /// How many bytes it takes in the root.
    pub fn stored(&self) -> usize {
        usize::from(self.blocks) * BLOCK
    }

    /// How many bytes it holds.
    pub fn length(&self) -> usize {
        self.content.map_or(self.stored(), |length| length as usize)
    }

    /// What it holds.
    ///
    /// # Errors
    /// Reading fails, or the frame is not what it was.
    pub fn read(&self, root: &dyn ReadAt) -> io::Result<Vec<u8>> {
        let mut stored = vec![0; self.stored()];
        root.fill_at(&mut stored, self.start())?;
        let Some(length) = self.content else {
            return Ok(stored);
        };
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "a compressed piece is not what it was");
        let content = frame(&stored).ok_or_else(changed)?.1;
        (content.len() == length as usize)
            .then_some(content)
            .ok_or_else(changed)
    }

    /// The blocks that hold this content, as mkfs.erofs writes them.
    ///
    /// # Errors
    /// It does not fit: another release of the library made the image.
    pub fn write(&self, content: &[u8]) -> io::Result<Vec<u8>> {
        if self.content.is_none() {
            return Ok(content.to_vec());
        }
        let packed = zstd::bulk::compress(content, LEVEL)?;
        let zeros = self.stored().checked_sub(packed.len());
        let zeros = zeros.ok_or_else(|| io::Error::other("a compressed piece became longer"))?;
        Ok([vec![0; zeros], packed].concat())
    }
}

/// The frame at the start of these bytes: how many they are with the zeros before it, and its content.
fn frame(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let zeros = bytes.iter().take(BLOCK).position(|b| *b != 0)?;
    let frame = bytes[zeros..].strip_prefix(&MAGIC).map(|_| &bytes[zeros..])?;
    let length = zstd::zstd_safe::find_frame_compressed_size(frame).ok()?;
    let end = zeros + length;
    let content = zstd::zstd_safe::get_frame_content_size(frame).ok()??;
    if !end.is_multiple_of(BLOCK) || content == 0 || content > MAX_CONTENT as u64 {
        return None;
    }
    let content = zstd::bulk::decompress(&frame[..length], content as usize).ok()?;
    Some((end, content))
}

/// Finds the units of a root of so many bytes, in order, each of its blocks in one of them.
///
/// # Errors
/// Reading fails.
pub fn units(root: &dyn ReadAt, size: u64, tell: &mut dyn FnMut(Unit, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let blocks = size / BLOCK as u64;
    let mut window = vec![0; MAX_FRAME];
    let (mut block, mut plain) = (0, 0_u64);
    let rest = |end: u64, from: &mut u64, tell: &mut dyn FnMut(Unit, &[u8]) -> io::Result<()>| -> io::Result<()> {
        while *from < end {
            let blocks = (end - *from).min(MAX_BLOCKS as u64);
            let unit = Unit {
                block: *from,
                blocks: blocks as u16,
                content: None,
            };
            tell(unit, &unit.read(root)?)?;
            *from += blocks;
        }
        Ok(())
    };
    while block < blocks {
        let length = ((blocks - block) as usize * BLOCK).min(MAX_FRAME);
        root.fill_at(&mut window[..length], block * BLOCK as u64)?;
        match frame(&window[..length]) {
            Some((stored, content)) => {
                rest(block, &mut plain, tell)?;
                let blocks = (stored / BLOCK) as u16;
                let unit = Unit {
                    block,
                    blocks,
                    content: Some(content.len() as u32),
                };
                tell(unit, &content)?;
                block += u64::from(blocks);
                plain = block;
            }
            None => block += 1,
        }
    }
    rest(blocks, &mut plain, tell)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::noise;

    /// Blocks as mkfs.erofs makes them of a file's piece.
    pub(crate) fn packed(content: &[u8]) -> Vec<u8> {
        let frame = zstd::bulk::compress(content, LEVEL).unwrap();
        let stored = frame.len().next_multiple_of(BLOCK);
        [vec![0; stored - frame.len()], frame].concat()
    }

    #[test]
    fn frames_are_found_between_blocks_and_come_back_bit_for_bit() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let root = [
            noise(1, 3),
            packed(&text),
            vec![0; 2 * BLOCK],
            packed(&text[9..50_000]),
            noise(2, 70),
        ]
        .concat();
        let mut found = Vec::new();
        units(&root, root.len() as u64, &mut |unit, content| {
            found.push((unit, content.to_vec()));
            Ok(())
        })
        .unwrap();
        let contents: Vec<usize> = found
            .iter()
            .filter_map(|(u, _)| u.content)
            .map(|c| c as usize)
            .collect();
        assert_eq!(contents, [text.len(), 50_000 - 9]);
        let mut again = Vec::new();
        for (unit, content) in &found {
            assert_eq!(unit.start() as usize, again.len());
            assert_eq!(unit.length(), content.len());
            assert_eq!(unit.read(&root).unwrap(), *content);
            again.extend(unit.write(content).unwrap());
        }
        assert_eq!(again, root);
    }

    #[test]
    fn what_only_looks_like_a_frame_is_taken_as_blocks() {
        let mut cut = packed(&noise(3, 20).iter().map(|byte| byte & 15).collect::<Vec<u8>>());
        cut.truncate(2 * BLOCK);
        let mut short = packed(b"short and sweet");
        short.rotate_left(8);
        let root = [cut, short, vec![0; BLOCK], [&MAGIC[..], &noise(4, 1)[4..]].concat()].concat();
        units(&root, root.len() as u64, &mut |unit, _| {
            assert_eq!(unit.content, None, "{unit:?}");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn content_that_needs_more_room_than_it_had_is_refused() {
        let unit = Unit {
            block: 0,
            blocks: 1,
            content: Some(2 * BLOCK as u32),
        };
        assert!(unit.write(&noise(5, 2)).is_err());
        assert_eq!(unit.write(&vec![7; 2 * BLOCK]).unwrap().len(), BLOCK);
    }
}

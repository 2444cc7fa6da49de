//! A segment: blocks one after the other, and at the end of one that is finished an index, so that a reader need not walk it.
//!
//! ```text
//!      blocks
//!      a Header "cairnix1" over all of them, then the blocks' own headers again, one after the other
//! u32  length of the index, header included
//! 8    "cairnend"
//! ```
//! The index only repeats what stands in the blocks: without it, or where it is damaged, the headers are walked; and where one of
//! those is damaged, the next whole one is searched for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::bytes::Take;
use super::header::{HEADER, Header, Kind};

const END: &[u8; 8] = b"cairnend";
const TRAILER: u64 = 12;

/// The end of a segment with these blocks.
pub(crate) fn index(blocks: &[Header]) -> Option<Vec<u8>> {
    let mut header = Header::over(blocks)?;
    let body: Vec<u8> = blocks.iter().flat_map(Header::encode).collect();
    header.stored = u32::try_from(body.len()).ok()?;
    header.unpacked = header.stored;
    header.checksum = crc32fast::hash(&body);
    let mut out = header.encode().to_vec();
    out.extend_from_slice(&body);
    let length = u32::try_from(out.len()).ok()?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(END);
    Some(out)
}

/// The index's own head and where it stands, if the segment is finished.
pub(crate) fn summary(file: &File, length: u64) -> io::Result<Option<(Header, u64)>> {
    let mut end = [0; TRAILER as usize];
    let Some(at) = length.checked_sub(TRAILER) else {
        return Ok(None);
    };
    file.read_exact_at(&mut end, at)?;
    let mut take = Take(&end);
    let size = take.u32().map_or(0, u64::from);
    if take.0 != END {
        return Ok(None);
    }
    let Some(start) = at.checked_sub(size) else {
        return Ok(None);
    };
    let header = read_header(file, start, length)?;
    Ok(header
        .filter(|h| h.kind == Kind::Index && h.size() == size)
        .map(|h| (h, start)))
}

/// The blocks' headers and where each block stands, and where what could be read ended: after the last whole block.
pub(crate) fn blocks(file: &File, length: u64) -> io::Result<(Vec<(Header, u64)>, u64)> {
    if let Some((header, start)) = summary(file, length)?
        && let Some(found) = indexed(file, &header, start)?
    {
        return Ok((found, start));
    }
    let (mut found, mut at, mut end) = (Vec::new(), 0, 0);
    while at < length {
        match read_header(file, at, length)? {
            Some(header) => {
                if header.kind == Kind::Block {
                    found.push((header, at));
                    end = at + header.size();
                }
                at += header.size();
            }
            None => match search(file, at + 1, length)? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    Ok((found, end))
}

fn indexed(file: &File, header: &Header, start: u64) -> io::Result<Option<Vec<(Header, u64)>>> {
    let body = read_content(file, header, start)?;
    if crc32fast::hash(&body) != header.checksum {
        return Ok(None);
    }
    let mut at = 0;
    let mut found = Vec::new();
    for bytes in body.chunks(HEADER) {
        let Some(header) = Header::decode(bytes) else {
            return Ok(None);
        };
        found.push((header, at));
        at += header.size();
    }
    Ok((at == start).then_some(found))
}

/// The header at `at`, if one stands there with all of its content before `length`.
fn read_header(file: &File, at: u64, length: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    if length.saturating_sub(at) < HEADER as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, at)?;
    Ok(Header::decode(&bytes).filter(|h| at + h.size() <= length))
}

/// What follows a header at `at`, as it is stored.
pub(crate) fn read_content(file: &File, header: &Header, at: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(header.stored).unwrap_or(0)];
    file.read_exact_at(&mut bytes, at + HEADER as u64)?;
    Ok(bytes)
}

/// Where the next whole header stands, from `from` on.
fn search(file: &File, from: u64, length: u64) -> io::Result<Option<u64>> {
    const STEP: u64 = 1 << 20;
    let mut at = from;
    while at < length {
        let size = usize::try_from((length - at).min(STEP + HEADER as u64)).unwrap_or(0);
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, at)?;
        for offset in 0..size.min(STEP as usize) {
            if bytes[offset..].starts_with(b"cairn")
                && let Some(header) = Header::decode(&bytes[offset..])
                && at + offset as u64 + header.size() <= length
            {
                return Ok(Some(at + offset as u64));
            }
        }
        at += STEP;
    }
    Ok(None)
}

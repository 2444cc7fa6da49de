//! A tail: the newest records of a unit, uncompressed, a frame each ([`super::row`]), so that each is on its way to the disk,
//! and to followers, with one write.
//!
//! ```text
//! 8    "cairntl1"
//! 16   boot id
//! u32  zero
//! u32  CRC-32 of the 28 bytes before
//!      frames
//! ```
//! A tail ends at the first thing that is not a whole frame with the right checksum and a place after the one before it.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::Take;
use super::row::{take_frame, take_origin};
use super::rows::{Row, Rows};
use crate::record::BootId;

const MAGIC: &[u8; 8] = b"cairntl1";
/// The length of the head, in bytes.
pub(crate) const HEAD: usize = 32;

pub(crate) fn head(boot: BootId) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..8].copy_from_slice(MAGIC);
    out[8..24].copy_from_slice(&boot.0);
    let crc = crc32fast::hash(&out[..28]);
    out[28..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn take_head(bytes: &[u8]) -> Option<BootId> {
    let mut take = Take(bytes);
    let whole = bytes.get(..28)?;
    let magic = take.array::<8>()?;
    let boot = BootId(take.array()?);
    take.u32()?;
    (&magic == MAGIC && take.u32()? == crc32fast::hash(whole)).then_some(boot)
}

/// The whole records of a tail. Empty if not even the head is whole.
pub(crate) fn read(bytes: Vec<u8>) -> Rows {
    let Some(boot) = take_head(&bytes) else {
        return Rows::default();
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut origins = Vec::new();
    let mut known: HashMap<&[u8], u32> = HashMap::new();
    let mut at = HEAD;
    while let Some((row, length)) = bytes.get(at..).and_then(take_frame) {
        let origin = match known.get(row.origin) {
            Some(index) => *index,
            None => {
                let Some(origin) = take_origin(row.origin) else { break };
                let index = u32::try_from(origins.len()).unwrap_or(u32::MAX);
                origins.push(Arc::new(origin));
                known.insert(row.origin, index);
                index
            }
        };
        let end = at + length;
        let place = |n: usize| u32::try_from(n).ok();
        let (Some(start), Some(length)) = (place(end - row.message.len()), place(row.message.len())) else {
            break;
        };
        if rows.last().is_some_and(|last| last.seq >= row.seq) {
            break;
        }
        rows.push(Row {
            seq: row.seq,
            realtime: row.realtime,
            monotonic: row.monotonic,
            part: row.part,
            origin,
            start,
            length,
        });
        at = end;
    }
    drop(known);
    Rows {
        boot,
        bytes,
        rows,
        origins,
    }
}

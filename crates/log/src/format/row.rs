//! One record in a tail: a frame that stands alone, so that it can be written as it comes.
//!
//! ```text
//! u32  length of the payload
//! u32  CRC-32 of the length and the payload
//!      payload: u64 place, u64 realtime, u64 monotonic, part, origin (counted), message (the rest)
//! part:   u8 (0 whole, 1 first, 2 middle, 3 last); for 2 and 3 a varint: how far back the line's first piece is
//! origin: u8 stream, u8 priority, instance (counted), varint number of fields, and for each its name and value (counted)
//! ```

use super::bytes::{Take, put_counted, put_varint};
use super::{LARGEST_ORIGIN, PIECE};
use crate::record::{Entry, FieldName, Origin, Part, Priority, Seq, Stream};

pub(crate) const FRAME_HEAD: usize = 8;
/// No payload is longer: what claims to be is damage.
const LONGEST: usize = PIECE + LARGEST_ORIGIN + 64;

/// A frame's content, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRow<'a> {
    pub(crate) seq: Seq,
    pub(crate) realtime: u64,
    pub(crate) monotonic: u64,
    pub(crate) part: Part,
    pub(crate) origin: &'a [u8],
    pub(crate) message: &'a [u8],
}

pub(crate) fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    out.push(origin.stream as u8);
    out.push(origin.priority as u8);
    put_counted(out, origin.instance.as_bytes());
    put_varint(out, origin.fields.len() as u64);
    for (name, value) in &origin.fields {
        put_counted(out, name.as_str().as_bytes());
        put_counted(out, value);
    }
}

pub(crate) fn take_origin(bytes: &[u8]) -> Option<Origin> {
    let mut take = Take(bytes);
    let stream = Stream::from_byte(take.u8()?)?;
    let priority = take.u8().filter(|p| *p < 8).map(Priority::from_low_bits)?;
    let instance = std::str::from_utf8(take.counted()?).ok()?.to_owned();
    let count = take.length()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let name = FieldName::new(std::str::from_utf8(take.counted()?).ok()?).ok()?;
        fields.push((name, take.counted()?.to_vec()));
    }
    take.0.is_empty().then_some(Origin {
        instance,
        stream,
        priority,
        fields,
    })
}

pub(crate) fn put_part(out: &mut Vec<u8>, seq: Seq, part: Part) {
    let (kind, line) = match part {
        Part::Whole => (0, None),
        Part::First => (1, None),
        Part::Middle(line) => (2, Some(line)),
        Part::Last(line) => (3, Some(line)),
    };
    out.push(kind);
    if let Some(line) = line {
        put_varint(out, seq.0.wrapping_sub(line.0));
    }
}

pub(crate) fn take_part(take: &mut Take<'_>, seq: Seq) -> Option<Part> {
    let kind = take.u8()?;
    let mut line = || take.varint().map(|back| Seq(seq.0.wrapping_sub(back)));
    match kind {
        0 => Some(Part::Whole),
        1 => Some(Part::First),
        2 => line().map(Part::Middle),
        3 => line().map(Part::Last),
        _ => None,
    }
}

/// Appends the frame of `entry` with the already encoded `origin`.
pub(crate) fn put_frame(out: &mut Vec<u8>, seq: Seq, entry: &Entry<'_>, origin: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD]);
    for number in [seq.0, entry.realtime, entry.monotonic] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_part(out, seq, entry.part);
    put_counted(out, origin);
    out.extend_from_slice(entry.message);
    let length = u32::try_from(out.len() - start - FRAME_HEAD).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(length, &out[start + FRAME_HEAD..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The frame at the front of `bytes` and its whole length; `None` if what stands there is not one.
pub(crate) fn take_frame(bytes: &[u8]) -> Option<(RawRow<'_>, usize)> {
    let mut take = Take(bytes);
    let (length, crc) = (take.u32()?, take.u32()?);
    let size = usize::try_from(length).ok().filter(|size| *size <= LONGEST)?;
    let payload = take.bytes(size)?;
    if checksum(length, payload) != crc {
        return None;
    }
    let mut take = Take(payload);
    let seq = Seq(take.u64()?);
    let row = RawRow {
        seq,
        realtime: take.u64()?,
        monotonic: take.u64()?,
        part: take_part(&mut take, seq)?,
        origin: take.counted()?,
        message: take.0,
    };
    Some((row, FRAME_HEAD + size))
}

/// The length is part of it, so that zeros are no frame.
fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

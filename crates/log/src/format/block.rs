//! A block: records of one boot, compressed together. A [`Header`], then one zstd frame of these parts, each counted:
//!
//! ```text
//! origins    varint number, then each (as in a tail), counted
//! places     for each record: varint, how far after the one before (the first: after the header's first place)
//! realtime   for each: zigzag, against the one before (the first: against the header's earliest)
//! monotonic  for each: zigzag, its step less realtime's step; the first: its value
//! origin     for each: varint index
//! part       for each: as in a tail
//! lengths    for each: varint
//! messages   one after the other
//! ```
//! Columns, since like stands by like: a step of both clocks costs a byte or two where whole times would cost sixteen.

use std::sync::Arc;

use super::bytes::{Take, put_counted, put_varint, put_zigzag};
use super::header::{HEADER, Header, Kind};
use super::row::{put_origin, put_part, take_origin, take_part};
use super::rows::{Row, Rows};
use crate::record::{Part, Priority, Seq};

/// zstd's own default level; `examples/throughput.rs` shows what it gives beside gzip.
const LEVEL: i32 = 3;

/// A block of these rows, ready to be appended; `None` without rows.
pub(crate) fn encode(rows: &Rows) -> Option<(Header, Vec<u8>)> {
    let (first, last) = (rows.rows.first()?, rows.rows.last()?);
    let mut header = Header {
        kind: Kind::Block,
        stored: 0,
        unpacked: 0,
        checksum: 0,
        count: u32::try_from(rows.rows.len()).ok()?,
        first: first.seq,
        last: last.seq,
        earliest: rows.rows.iter().map(|r| r.realtime).min()?,
        latest: rows.rows.iter().map(|r| r.realtime).max()?,
        boot: rows.boot,
        urgent: Priority::Debug,
        pieces: rows.rows.iter().any(|r| r.part != Part::Whole),
    };
    let mut columns: [Vec<u8>; 7] = Default::default();
    let [places, realtimes, monotonics, indexes, parts, lengths, messages] = &mut columns;
    let (mut place, mut realtime, mut monotonic) = (header.first.0, header.earliest, 0);
    for row in &rows.rows {
        header.urgent = header.urgent.min(rows.origin(row)?.priority);
        put_varint(places, row.seq.0.wrapping_sub(place));
        let step = row.realtime.wrapping_sub(realtime);
        put_zigzag(realtimes, step);
        put_zigzag(monotonics, row.monotonic.wrapping_sub(monotonic).wrapping_sub(step));
        put_varint(indexes, u64::from(row.origin));
        put_part(parts, row.seq, row.part);
        put_varint(lengths, u64::from(row.length));
        messages.extend_from_slice(rows.message(row));
        (place, realtime, monotonic) = (row.seq.0, row.realtime, row.monotonic);
    }
    let mut content = Vec::new();
    put_varint(&mut content, rows.origins.len() as u64);
    let mut encoded = Vec::new();
    for origin in &rows.origins {
        encoded.clear();
        put_origin(&mut encoded, origin);
        put_counted(&mut content, &encoded);
    }
    for column in &columns {
        put_counted(&mut content, column);
    }
    let packed = zstd::bulk::compress(&content, LEVEL).ok()?;
    header.unpacked = u32::try_from(content.len()).ok()?;
    header.stored = u32::try_from(packed.len()).ok()?;
    header.checksum = crc32fast::hash(&packed);
    let mut out = Vec::with_capacity(HEADER + packed.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&packed);
    Some((header, out))
}

/// The records of the block that `header` stands before; `None` if it is damaged.
pub(crate) fn decode(header: &Header, packed: &[u8]) -> Option<Rows> {
    if header.kind != Kind::Block || crc32fast::hash(packed) != header.checksum {
        return None;
    }
    let size = usize::try_from(header.unpacked).ok()?;
    let content = zstd::bulk::decompress(packed, size).ok().filter(|c| c.len() == size)?;
    unpack(header, content)
}

/// [`decode`] without checksum and compression, for the fuzzer.
pub(crate) fn decode_content(head: &[u8], content: Vec<u8>) {
    let mut head = head.to_vec();
    if head.len() == HEADER {
        head[..8].copy_from_slice(b"cairnbk1");
        let crc = crc32fast::hash(&head[..76]);
        head[76..].copy_from_slice(&crc.to_le_bytes());
    }
    if let Some(header) = Header::decode(&head) {
        let _ = unpack(&header, content);
    }
}

fn unpack(header: &Header, content: Vec<u8>) -> Option<Rows> {
    let mut take = Take(&content);
    let mut origins = Vec::new();
    for _ in 0..take.varint()? {
        origins.push(Arc::new(take_origin(take.counted()?)?));
    }
    let mut column = || take.counted().map(Take);
    let (mut places, mut realtimes, mut monotonics) = (column()?, column()?, column()?);
    let (mut indexes, mut parts, mut lengths) = (column()?, column()?, column()?);
    let messages = column()?.0;
    let mut at = content.len() - messages.len();
    let mut rows = Vec::with_capacity(usize::try_from(header.count).ok()?.min(content.len()));
    let (mut place, mut realtime, mut monotonic) = (header.first.0, header.earliest, 0_u64);
    for _ in 0..header.count {
        place = place.wrapping_add(places.varint()?);
        let step = realtimes.zigzag()?;
        realtime = realtime.wrapping_add(step);
        monotonic = monotonic.wrapping_add(monotonics.zigzag()?).wrapping_add(step);
        let origin = u32::try_from(indexes.varint()?).ok()?;
        let part = take_part(&mut parts, Seq(place))?;
        let length = lengths.length()?;
        let end = at.checked_add(length).filter(|end| *end <= content.len())?;
        origins.get(usize::try_from(origin).ok()?)?;
        rows.push(Row {
            seq: Seq(place),
            realtime,
            monotonic,
            part,
            origin,
            start: u32::try_from(at).ok()?,
            length: u32::try_from(length).ok()?,
        });
        at = end;
    }
    Some(Rows {
        boot: header.boot,
        bytes: content,
        rows,
        origins,
    })
}

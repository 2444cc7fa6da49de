//! The head of a block and of a segment's index: what can be known without reading what follows.
//!
//! ```text
//! 0   8    "cairnbk1" (block) or "cairnix1" (index)
//! 8   u32  length of what follows, as it is stored
//! 12  u32  its length unpacked
//! 16  u32  CRC-32 of it, as it is stored
//! 20  u32  number of records
//! 24  u64  first place        32  u64  last place
//! 40  u64  earliest realtime  48  u64  latest realtime (not of the first and last record: the clock may go backwards)
//! 56  16   boot id (of an index: zeros)
//! 72  u8   the most urgent priority
//! 73  u8   1 if a piece of a long line is among the records
//! 74  2    zeros
//! 76  u32  CRC-32 of the 76 bytes before
//! ```

use super::bytes::Take;
use crate::record::{BootId, Priority, Seq};

/// The length of a head, in bytes.
pub(crate) const HEADER: usize = 80;
/// No block is longer, stored or unpacked: what claims to be is damage.
const LONGEST: u32 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Index,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Block => b"cairnbk1",
            Kind::Index => b"cairnix1",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) stored: u32,
    pub(crate) unpacked: u32,
    pub(crate) checksum: u32,
    pub(crate) count: u32,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) earliest: u64,
    pub(crate) latest: u64,
    pub(crate) boot: BootId,
    pub(crate) urgent: Priority,
    pub(crate) pieces: bool,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(self.kind.magic());
        for number in [self.stored, self.unpacked, self.checksum, self.count] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.first.0, self.last.0, self.earliest, self.latest] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.boot.0);
        out.extend_from_slice(&[self.urgent as u8, u8::from(self.pieces), 0, 0]);
        let crc = crc32fast::hash(&out);
        let mut whole = [0; HEADER];
        whole[..76].copy_from_slice(&out);
        whole[76..].copy_from_slice(&crc.to_le_bytes());
        whole
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER)?;
        let mut take = Take(bytes);
        let magic = take.array::<8>()?;
        let kind = [Kind::Block, Kind::Index].into_iter().find(|k| *k.magic() == magic)?;
        if Take(&bytes[76..]).u32()? != crc32fast::hash(&bytes[..76]) {
            return None;
        }
        let header = Header {
            kind,
            stored: take.u32()?,
            unpacked: take.u32()?,
            checksum: take.u32()?,
            count: take.u32()?,
            first: Seq(take.u64()?),
            last: Seq(take.u64()?),
            earliest: take.u64()?,
            latest: take.u64()?,
            boot: BootId(take.array()?),
            urgent: take.u8().filter(|p| *p < 8).map(Priority::from_low_bits)?,
            pieces: take.u8()? != 0,
        };
        (header.stored <= LONGEST && header.unpacked <= LONGEST).then_some(header)
    }

    /// How much of the file head and content take, in bytes.
    pub(crate) fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.stored)
    }

    /// One head over several blocks in order.
    pub(crate) fn over(blocks: &[Header]) -> Option<Header> {
        let (first, last) = (blocks.first()?, blocks.last()?);
        Some(Header {
            kind: Kind::Index,
            stored: 0,
            unpacked: 0,
            checksum: 0,
            count: blocks.iter().fold(0, |sum, b| sum.saturating_add(b.count)),
            first: first.first,
            last: last.last,
            earliest: blocks.iter().map(|b| b.earliest).min()?,
            latest: blocks.iter().map(|b| b.latest).max()?,
            boot: BootId::default(),
            urgent: blocks.iter().map(|b| b.urgent).min()?,
            pieces: blocks.iter().any(|b| b.pieces),
        })
    }
}

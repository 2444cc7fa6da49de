//! The log of all that a machine wrote to its disk, as QEMU's `blklogwrites` keeps it, in the format of the kernel's dm-log-writes
//! (`Documentation/admin-guide/device-mapper/log-writes.rst`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What the disk was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To write; with `durable`, past its own memory.
    Write {
        /// Whether it is on the medium when it is answered.
        durable: bool,
    },
    /// To forget a region.
    Discard,
    /// To bring all that it was told to its medium.
    Flush,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it asks.
    pub kind: Kind,
    /// The first byte on the disk.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
    /// Where its bytes begin in the log.
    data: u64,
}

/// A log, read as far as its superblock says that it goes.
#[derive(Debug)]
pub struct BlockLog {
    file: File,
    /// All requests, in order.
    pub requests: Vec<Request>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// How many requests a log holds for certain, also while it grows: its superblock follows at each flush.
///
/// # Errors
/// When it cannot be read or is no such log.
pub fn count(path: &Path) -> io::Result<usize> {
    Ok(superblock(&File::open(path)?)?.0)
}

/// The number of requests and the sector's length in bytes.
fn superblock(file: &File) -> io::Result<(usize, u64)> {
    let mut head = [0; 32];
    file.read_exact_at(&mut head, 0)?;
    let sector = number(&head, 24) & 0xffff_ffff;
    if number(&head, 0) != MAGIC || number(&head, 8) != 1 || !(512..=65536).contains(&sector) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no log of writes"));
    }
    Ok((number(&head, 16) as usize, sector))
}

impl BlockLog {
    /// Reads what was requested; the bytes stay where they are.
    ///
    /// # Errors
    /// When it cannot be read or is no such log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let (count, sector) = superblock(&file)?;
        let mut requests = Vec::with_capacity(count);
        let mut at = sector;
        for _ in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at)?;
            let (length, flags) = (number(&head, 8) * sector, number(&head, 16));
            let kind = if flags & FLUSH != 0 {
                Kind::Flush
            } else if flags & DISCARD != 0 {
                Kind::Discard
            } else {
                Kind::Write {
                    durable: flags & FUA != 0,
                }
            };
            requests.push(Request {
                kind,
                at: number(&head, 0) * sector,
                length,
                data: at + sector,
            });
            at += sector + if kind == Kind::Discard { 0 } else { length };
        }
        Ok(Self { file, requests })
    }

    /// What a request leaves in its region: what it wrote, or zeros.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn bytes(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; request.length as usize];
        if let Kind::Write { .. } = request.kind {
            self.file.read_exact_at(&mut bytes, request.data)?;
        }
        Ok(bytes)
    }

    /// The requests between two flushes, from `from` on: ranges of [`BlockLog::requests`], the flush itself left out.
    pub fn epochs(&self, from: usize) -> Vec<std::ops::Range<usize>> {
        let mut epochs = Vec::new();
        let mut start = from.min(self.requests.len());
        for (at, request) in self.requests.iter().enumerate().skip(start) {
            if request.kind == Kind::Flush {
                epochs.push(start..at);
                start = at + 1;
            }
        }
        epochs.push(start..self.requests.len());
        epochs
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(super) fn entry(log: &mut Vec<u8>, flags: u64, sector: u64, data: &[u8]) {
        let mut head = vec![0; 512];
        for (at, value) in [(0, sector), (8, data.len() as u64 / 512), (16, flags)] {
            head[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        log.extend(head);
        if flags & DISCARD == 0 {
            log.extend(data);
        }
    }

    pub(super) fn start(count: u64) -> Vec<u8> {
        let mut log = vec![0; 512];
        for (at, value) in [(0, MAGIC), (8, 1), (16, count), (24, 512)] {
            log[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        log
    }

    /// A log of writes at sectors, none of them flushed.
    pub(crate) fn log(writes: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut log = start(writes.len() as u64);
        for (sector, data) in writes {
            entry(&mut log, 0, *sector, data);
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{entry, start};
    use super::*;

    #[test]
    fn requests_are_read_in_order_and_cut_at_flushes() {
        let mut log = start(5);
        entry(&mut log, 0, 7, &[1; 1024]);
        entry(&mut log, FLUSH, 0, &[]);
        entry(&mut log, DISCARD, 100, &[0; 2048]);
        entry(&mut log, FUA, 3, &[9; 512]);
        entry(&mut log, FLUSH, 0, &[]);
        // Begun, and not counted yet.
        entry(&mut log, 0, 3, &[8; 512]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &log).unwrap();
        let log = BlockLog::open(file.path()).unwrap();
        assert_eq!(count(file.path()).unwrap(), 5);
        let seen: Vec<_> = log.requests.iter().map(|r| (r.kind, r.at, r.length)).collect();
        assert_eq!(
            seen,
            [
                (Kind::Write { durable: false }, 3584, 1024),
                (Kind::Flush, 0, 0),
                (Kind::Discard, 51200, 2048),
                (Kind::Write { durable: true }, 1536, 512),
                (Kind::Flush, 0, 0),
            ]
        );
        assert_eq!(log.bytes(&log.requests[0]).unwrap(), [1; 1024]);
        assert_eq!(log.bytes(&log.requests[2]).unwrap(), [0; 2048]);
        assert_eq!(log.bytes(&log.requests[3]).unwrap(), [9; 512]);
        assert_eq!(log.epochs(0), [0..1, 2..4, 5..5]);
        assert_eq!(log.epochs(1), [1..1, 2..4, 5..5]);
        std::fs::write(file.path(), [0; 512]).unwrap();
        assert!(BlockLog::open(file.path()).is_err());
    }
}

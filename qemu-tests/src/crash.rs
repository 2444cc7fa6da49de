//! Disks as a power cut leaves them: what was flushed, and any part of what was not.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::blocklog::{BlockLog, Kind, Request};
use crate::random::Random;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
/// Of ten requests that were not flushed, how many came through: per cut one of these.
const KEPT: [u64; 5] = [0, 2, 5, 8, 10];

/// A region that is compared with what should be there. Followed request by request, since reading all of it at each cut would take hours.
#[derive(Debug)]
struct Watched {
    start: u64,
    expected: Vec<u8>,
    /// The blocks of it that differ.
    wrong: HashSet<u64>,
}

impl Watched {
    fn expected_at(&self, block: u64) -> Option<&[u8]> {
        let start = (block * BLOCK as u64).checked_sub(self.start)? as usize;
        self.expected
            .get(start..self.expected.len().min(start + BLOCK))
            .filter(|rest| !rest.is_empty())
    }
}

/// A disk's medium: all that was flushed up to now.
#[derive(Debug)]
pub struct Medium {
    file: File,
    size: u64,
    watched: Vec<Watched>,
}

/// The blocks that a region touches.
fn blocks(at: u64, length: u64) -> Range<u64> {
    at / BLOCK as u64..(at + length).div_ceil(BLOCK as u64)
}

impl Medium {
    /// The disk in this file, which is changed from here on.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new(disk: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(disk)?;
        Ok(Self {
            size: file.metadata()?.len(),
            file,
            watched: Vec::new(),
        })
    }

    /// The disk in this file, only to be looked at.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reading(disk: &Path) -> io::Result<Self> {
        let file = File::open(disk)?;
        Ok(Self {
            size: file.metadata()?.len(),
            file,
            watched: Vec::new(),
        })
    }

    /// From now on [`Cut::holds`] can say whether `expected` lies at `start`, which must be a multiple of 4096.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn watch(&mut self, start: u64, expected: &[u8]) -> io::Result<()> {
        if self.watched.iter().any(|w| w.start == start && w.expected == expected) {
            return Ok(());
        }
        let mut watched = Watched {
            start,
            expected: expected.to_vec(),
            wrong: HashSet::new(),
        };
        for block in blocks(start, expected.len() as u64) {
            let mut now = [0; BLOCK];
            self.file.read_exact_at(&mut now, block * BLOCK as u64)?;
            if watched
                .expected_at(block)
                .is_some_and(|known| known != &now[..known.len()])
            {
                watched.wrong.insert(block);
            }
        }
        self.watched.push(watched);
        Ok(())
    }

    /// Brings requests to the medium: they were flushed.
    ///
    /// # Errors
    /// When the log cannot be read or the disk not be written.
    pub fn settle(&mut self, log: &BlockLog, requests: Range<usize>) -> io::Result<()> {
        for request in &log.requests[requests] {
            if request.kind == Kind::Flush {
                continue;
            }
            self.file.write_all_at(&log.bytes(request)?, request.at)?;
            for block in blocks(request.at, request.length) {
                let mut now = [0; BLOCK];
                self.file.read_exact_at(&mut now, block * BLOCK as u64)?;
                for watched in &mut self.watched {
                    let Some(known) = watched.expected_at(block) else {
                        continue;
                    };
                    if known == &now[..known.len()] {
                        watched.wrong.remove(&block);
                    } else {
                        watched.wrong.insert(block);
                    }
                }
            }
        }
        Ok(())
    }

    /// The disk as it is without any of what is not flushed.
    pub fn at_flush(&self) -> Cut<'_> {
        Cut {
            medium: self,
            over: HashMap::new(),
        }
    }

    /// The power goes at some moment within these requests, none of which was flushed. Each came through, did not, or only in some of
    /// its sectors; that says all that another order could, too, since an order shows only in which of two writes to a sector is missing.
    ///
    /// # Errors
    /// When the log or the disk cannot be read.
    pub fn cut(&self, log: &BlockLog, requests: Range<usize>, random: &mut Random) -> io::Result<Cut<'_>> {
        let mut cut = self.at_flush();
        let came = random.below(requests.len() as u64 + 1) as usize;
        let kept = KEPT[random.below(KEPT.len() as u64) as usize];
        for request in &log.requests[requests.start..requests.start + came] {
            let durable = request.kind == Kind::Write { durable: true };
            if durable || random.below(10) < kept {
                // One in four of those that the device was free to tear is torn.
                let torn = !durable && random.below(4) == 0;
                cut.apply(log, request, |_| !torn || random.below(2) == 0)?;
            }
        }
        Ok(cut)
    }
}

/// A disk after a cut.
#[derive(Debug)]
pub struct Cut<'a> {
    medium: &'a Medium,
    over: HashMap<u64, Box<[u8; BLOCK]>>,
}

impl Cut<'_> {
    fn apply(&mut self, log: &BlockLog, request: &Request, mut came: impl FnMut(usize) -> bool) -> io::Result<()> {
        let bytes = log.bytes(request)?;
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if !came(index) {
                continue;
            }
            let at = request.at + (index * SECTOR) as u64;
            let (block, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let there = match self.over.entry(block) {
                std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => {
                    let mut now = Box::new([0; BLOCK]);
                    self.medium.file.read_exact_at(&mut now[..], block * BLOCK as u64)?;
                    free.insert(now)
                }
            };
            there[within..within + sector.len()].copy_from_slice(sector);
        }
        Ok(())
    }

    /// The disk's length in bytes.
    pub fn size(&self) -> u64 {
        self.medium.size
    }

    /// Reads from the disk.
    ///
    /// # Errors
    /// When it cannot be read, or ends before.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.medium.file.read_exact_at(buf, at)?;
        let end = at + buf.len() as u64;
        let touched = blocks(at, buf.len() as u64);
        let mut lay = |block: u64, bytes: &[u8; BLOCK]| {
            let start = block * BLOCK as u64;
            let (from, to) = (start.max(at), (start + BLOCK as u64).min(end));
            buf[(from - at) as usize..(to - at) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        };
        if touched.end - touched.start < self.over.len() as u64 {
            for block in touched {
                if let Some(bytes) = self.over.get(&block) {
                    lay(block, bytes);
                }
            }
        } else {
            let inside = self.over.iter().filter(|(block, _)| touched.contains(block));
            inside.for_each(|(block, bytes)| lay(*block, bytes));
        }
        Ok(())
    }

    /// Whether what [`Medium::watch`] was told to expect at `start`, in this length, is there. `None` when nothing like it is watched.
    pub fn holds(&self, start: u64, expected: &[u8]) -> Option<bool> {
        let watched = self
            .medium
            .watched
            .iter()
            .find(|w| w.start == start && w.expected.len() == expected.len() && w.expected == expected)?;
        let missing = watched.wrong.iter().any(|block| !self.over.contains_key(block));
        let spoilt = self.over.iter().any(|(block, now)| {
            watched
                .expected_at(*block)
                .is_some_and(|known| known != &now[..known.len()])
        });
        Some(!missing && !spoilt)
    }

    /// Writes what differs from the medium into a copy of it.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn write_into(&self, copy: &Path) -> io::Result<()> {
        let file = File::options().write(true).open(copy)?;
        for (block, bytes) in &self.over {
            file.write_all_at(&bytes[..], block * BLOCK as u64)?;
        }
        Ok(())
    }

    /// A partition of it, for a library that reads file systems.
    pub fn partition(&self, start: u64, length: u64) -> Partition<'_> {
        Partition {
            cut: self,
            start,
            length,
            at: 0,
        }
    }
}

/// A part of a disk after a cut. It can be read only.
#[derive(Debug)]
pub struct Partition<'a> {
    cut: &'a Cut<'a>,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Partition<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = (self.length - self.at).min(buf.len() as u64) as usize;
        self.cut.read_at(&mut buf[..room], self.start + self.at)?;
        self.at += room as u64;
        Ok(room)
    }
}

impl Seek for Partition<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.filter(|at| *at <= self.length).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Write for Partition<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocklog::testing;

    /// A disk of 16 blocks and three writes: two to neighbours, one flushed to its middle.
    fn world() -> (tempfile::NamedTempFile, tempfile::NamedTempFile) {
        let (disk, log) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        disk.as_file().set_len(16 * BLOCK as u64).unwrap();
        let writes = [(8, vec![1; BLOCK]), (16, vec![2; BLOCK]), (20, vec![3; SECTOR])];
        std::fs::write(log.path(), testing::log(&writes)).unwrap();
        (disk, log)
    }

    fn expected() -> Vec<u8> {
        let mut expected = [vec![1; BLOCK], vec![2; BLOCK]].concat();
        expected[BLOCK + 4 * SECTOR..BLOCK + 5 * SECTOR].fill(3);
        expected
    }

    #[test]
    fn a_region_is_whole_only_when_each_of_its_sectors_is() {
        let (disk, log) = world();
        let log = BlockLog::open(log.path()).unwrap();
        let mut medium = Medium::new(disk.path()).unwrap();
        medium.watch(BLOCK as u64, &expected()).unwrap();
        assert_eq!(medium.at_flush().holds(0, &expected()), None);
        let mut random = Random::from_seed(5);
        let (mut whole, mut broken) = (0, 0);
        for _ in 0..200 {
            let cut = medium.cut(&log, 0..3, &mut random).unwrap();
            let mut now = vec![0; 2 * BLOCK];
            cut.read_at(&mut now, BLOCK as u64).unwrap();
            assert_eq!(cut.holds(BLOCK as u64, &expected()), Some(now == expected()));
            *(if now == expected() { &mut whole } else { &mut broken }) += 1;
        }
        assert!(whole > 2 && broken > 100, "{whole} whole, {broken} broken");
        medium.settle(&log, 0..2).unwrap();
        assert_eq!(medium.at_flush().holds(BLOCK as u64, &expected()), Some(false));
        medium.settle(&log, 2..3).unwrap();
        assert_eq!(medium.at_flush().holds(BLOCK as u64, &expected()), Some(true));
    }

    #[test]
    fn a_cut_is_seen_by_all_who_read_and_can_be_written_out() {
        let (disk, log) = world();
        let log = BlockLog::open(log.path()).unwrap();
        let medium = Medium::new(disk.path()).unwrap();
        let mut random = Random::from_seed(7);
        let copy = tempfile::NamedTempFile::new().unwrap();
        for _ in 0..20 {
            copy.as_file().set_len(0).unwrap();
            copy.as_file().set_len(16 * BLOCK as u64).unwrap();
            let cut = medium.cut(&log, 0..3, &mut random).unwrap();
            cut.write_into(copy.path()).unwrap();
            let written = std::fs::read(copy.path()).unwrap();
            let mut part = cut.partition(700, 3 * BLOCK as u64);
            let mut read = Vec::new();
            part.read_to_end(&mut read).unwrap();
            assert_eq!(read, written[700..700 + 3 * BLOCK]);
            let mut whole = vec![0; 16 * BLOCK];
            cut.read_at(&mut whole, 0).unwrap();
            assert_eq!(whole, written);
            assert!(part.write(&[1]).is_err() && part.seek(SeekFrom::End(1)).is_err());
        }
        assert_eq!(
            std::fs::read(disk.path()).unwrap(),
            vec![0; 16 * BLOCK],
            "a cut changes no medium"
        );
    }
}

//! The segment that blocks are appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::header::Header;
use crate::format::{block, segment};
use crate::names::{FileKind, path_of};
use crate::record::Seq;

/// A file of a size that is known: what a failed write left behind it is cut off.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

impl Appended {
    /// A new, empty file; it must not be there.
    pub(crate) fn create(path: PathBuf) -> Result<Appended, Error> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(Error::io("make", &path))?;
        Ok(Appended { file, path, size: 0 })
    }

    /// Appends all of `bytes` or nothing.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Shrinking needs no space. If even that fails, readers stop at the torn end, and so must this writer.
                self.file.set_len(self.size).map_err(Error::io("shorten", &self.path))?;
                Err(Error::io("write", &self.path)(error))
            }
        }
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// The newest segment of a unit.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) file: Appended,
    /// The earliest time in it, in nanoseconds since 1970.
    pub(crate) earliest: u64,
}

/// What became of a segment that was there when the writer started.
pub(crate) enum Resumed {
    /// It goes on; its last place, if it has blocks.
    Open(OpenSegment, Option<Seq>),
    /// It has its index; its last place.
    Finished(Seq),
}

impl OpenSegment {
    pub(crate) fn create(folder: &Path, first: Seq) -> Result<OpenSegment, Error> {
        Ok(OpenSegment {
            file: Appended::create(path_of(folder, first, FileKind::Segment))?,
            earliest: u64::MAX,
        })
    }

    /// Opens a segment again and cuts off what a power cut left at its end.
    ///
    /// Blocks whose records also stand in tails (from `tails` on) may not have been synced: they are read, and from the first that
    /// is damaged on they are cut off, to be made anew. Older ones were synced: they are left alone, even if damaged.
    pub(crate) fn resume(path: PathBuf, tails: Option<Seq>) -> Result<Resumed, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        let length = file.metadata().map_err(Error::io("look at", &path))?.len();
        let read = |result: io::Result<_>| result.map_err(Error::io("read", &path));
        if let Some((summary, _)) = read(segment::summary(&file, length))? {
            return Ok(Resumed::Finished(summary.last));
        }
        let (mut blocks, mut end) = segment::blocks(&file, length).map_err(Error::io("read", &path))?;
        let doubtful = |header: &Header| tails.is_some_and(|first| header.last >= first);
        for index in 0..blocks.len() {
            let (header, at) = blocks[index];
            if doubtful(&header) {
                let packed = segment::read_content(&file, &header, at).map_err(Error::io("read", &path))?;
                if block::decode(&header, &packed).is_none() {
                    blocks.truncate(index);
                    end = at;
                    break;
                }
            }
        }
        if end < length {
            file.set_len(end).map_err(Error::io("shorten", &path))?;
        }
        let last = blocks.last().map(|(header, _)| header.last);
        let earliest = blocks.iter().map(|(header, _)| header.earliest).min();
        let file = Appended { file, path, size: end };
        let earliest = earliest.unwrap_or(u64::MAX);
        Ok(Resumed::Open(OpenSegment { file, earliest }, last))
    }

    /// Appends the index: nothing follows it.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let (blocks, _) =
            segment::blocks(&self.file.file, self.file.size).map_err(Error::io("read", &self.file.path))?;
        let headers: Vec<Header> = blocks.into_iter().map(|(header, _)| header).collect();
        match segment::index(&headers) {
            Some(index) => self.file.append(&index),
            None => Ok(()),
        }
    }
}

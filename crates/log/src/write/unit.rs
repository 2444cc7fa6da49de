//! A unit's folder, for its one writer: a tail that records go to, and a segment that full tails are packed into.
//!
//! The order that makes a power cut harmless: a block is appended, synced, and only then the tails that it was made of are
//! removed. In between records stand in both; their places tell readers, and the next writer, that they are the same.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::open_segment::{Appended, OpenSegment, Resumed};
use crate::error::Error;
use crate::format::rows::Rows;
use crate::format::{block, tail};
use crate::names::{FileKind, list, path_of};
use crate::record::{BootId, Seq};

/// How many packed tails may wait for their segment to be synced.
pub(crate) const UNSYNCED: usize = 4;
/// How many tails of earlier writers may wait to be packed.
const WAITING: usize = 16;

/// How large a unit's files may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// When a tail is packed, in bytes.
    pub(crate) tail: u64,
    /// When a segment is finished, in bytes.
    pub(crate) segment: u64,
}

#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    size: u64,
    synced: bool,
}

#[derive(Debug)]
struct OpenTail {
    file: Appended,
    earliest: u64,
    synced: bool,
}

/// The writer of one unit's folder.
#[derive(Debug)]
pub(crate) struct UnitWriter {
    folder: PathBuf,
    tail: Option<OpenTail>,
    /// Tails that no segment has yet, oldest first.
    waiting: Vec<Waiting>,
    /// Tails that the segment has, but maybe not on the disk; and marks.
    packed: Vec<PathBuf>,
    segment: Option<OpenSegment>,
    /// The segment that was there at the start, not looked at yet.
    found: Option<PathBuf>,
    /// The last place that a segment has.
    last: Option<Seq>,
    /// A file was made and the folder not synced since.
    made: bool,
}

impl UnitWriter {
    /// Takes over a unit's folder, which is made if it is not there. Also the newest place that a file is named by.
    pub(crate) fn open(folder: PathBuf) -> Result<(UnitWriter, Option<Seq>), Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make", &folder)(error));
            }
            _ => {}
        }
        let files = list(&folder)?;
        let newest = files.iter().map(|(_, first)| *first).max();
        let segment = files.iter().rfind(|(kind, _)| *kind == FileKind::Segment);
        let found = segment.map(|(kind, first)| path_of(&folder, *first, *kind));
        let mut waiting = Vec::new();
        for (kind, first) in files.iter().filter(|(kind, _)| *kind == FileKind::Tail) {
            let path = path_of(&folder, *first, *kind);
            let size = fs::metadata(&path).map_or(0, |m| m.len());
            let synced = false;
            waiting.push(Waiting { path, size, synced });
        }
        let marks = files.iter().filter(|(kind, _)| *kind == FileKind::Mark);
        let packed = marks.map(|(kind, first)| path_of(&folder, *first, *kind)).collect();
        let unit = UnitWriter {
            folder,
            tail: None,
            waiting,
            packed,
            segment: None,
            found,
            last: None,
            made: true,
        };
        Ok((unit, newest))
    }

    /// Appends frames (the first has place `first` and time `realtime`): all of them or none.
    pub(crate) fn append(&mut self, frames: &[u8], first: Seq, realtime: u64, boot: BootId) -> Result<(), Error> {
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => {
                let mut file = Appended::create(path_of(&self.folder, first, FileKind::Tail))?;
                if let Err(error) = file.append(&tail::head(boot)) {
                    // An empty file is no harm, but its name is wanted again.
                    let _ = fs::remove_file(&file.path);
                    return Err(error);
                }
                self.made = true;
                let (earliest, synced) = (u64::MAX, false);
                OpenTail { file, earliest, synced }
            }
        };
        let result = tail.file.append(frames);
        tail.earliest = tail.earliest.min(realtime);
        tail.synced = false;
        if matches!(&result, Err(Error::Io { doing: "shorten", .. })) {
            self.retire(tail);
        } else {
            self.tail = Some(tail);
        }
        result
    }

    /// Whether it is time to [`UnitWriter::pack`].
    pub(crate) fn is_due(&self, sizes: Sizes) -> bool {
        let waiting: u64 = self.waiting.iter().map(|tail| tail.size).sum();
        let tail = self.tail.as_ref().map_or(0, |tail| tail.file.size);
        waiting + tail >= sizes.tail || self.waiting.len() >= WAITING
    }

    /// The earliest time of what is not in a finished segment, in nanoseconds since 1970.
    pub(crate) fn earliest(&self) -> Option<u64> {
        let tail = self.tail.as_ref().map(|t| t.earliest);
        let segment = self.segment.as_ref().map(|s| s.earliest);
        [tail, segment].into_iter().flatten().min()
    }

    /// Whether an earlier writer left something that is not finished, for the last time before `before`.
    pub(crate) fn is_left_since(&self, before: u64) -> bool {
        let left = self.waiting.iter().map(|tail| &tail.path).chain(&self.found);
        let written = left.filter_map(|path| {
            fs::metadata(path)
                .ok()?
                .modified()
                .ok()?
                .duration_since(UNIX_EPOCH)
                .ok()
        });
        written
            .map(|time| time.as_nanos())
            .any(|time| time < u128::from(before))
    }

    fn retire(&mut self, tail: OpenTail) {
        self.waiting.push(Waiting {
            path: tail.file.path,
            size: tail.file.size,
            synced: tail.synced,
        });
    }

    /// Packs all tails into blocks of the segment. What fails is tried again the next time; records are in their tails until then.
    /// Returns whether the segment became full and was finished.
    pub(crate) fn pack(&mut self, sizes: Sizes) -> Result<bool, Error> {
        if let Some(tail) = self.tail.take() {
            self.retire(tail);
        }
        self.resume()?;
        let mut rows = Rows::default();
        for index in 0..self.waiting.len() {
            let path = self.waiting[index].path.clone();
            let mut next = match fs::read(&path) {
                Ok(bytes) => tail::read(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            next.rows.retain(|row| Some(row.seq) > self.last);
            let full = (rows.bytes.len() + next.bytes.len()) as u64 > sizes.tail * 2;
            if rows.boot != next.boot || full {
                self.append_block(&rows)?;
                rows = next;
            } else {
                rows.extend(&next);
            }
        }
        self.append_block(&rows)?;
        self.packed.extend(self.waiting.drain(..).map(|tail| tail.path));
        if self.segment.as_ref().is_some_and(|s| s.file.size >= sizes.segment) {
            self.finish()?;
            return Ok(true);
        }
        if self.packed.len() >= UNSYNCED {
            self.settle()?;
        }
        Ok(false)
    }

    fn resume(&mut self) -> Result<(), Error> {
        let Some(path) = self.found.clone() else {
            return Ok(());
        };
        let tails = list(&self.folder)?;
        let tails = tails.iter().find(|(kind, _)| *kind == FileKind::Tail);
        match OpenSegment::resume(path, tails.map(|(_, first)| *first))? {
            Resumed::Open(segment, last) => {
                self.segment = Some(segment);
                self.last = last;
            }
            Resumed::Finished(last) => self.last = Some(last),
        }
        self.found = None;
        Ok(())
    }

    fn append_block(&mut self, rows: &Rows) -> Result<(), Error> {
        let Some((header, bytes)) = block::encode(rows) else {
            return Ok(());
        };
        if self.segment.is_none() {
            self.segment = Some(OpenSegment::create(&self.folder, header.first)?);
            self.made = true;
        }
        if let Some(segment) = &mut self.segment {
            segment.file.append(&bytes)?;
            segment.earliest = segment.earliest.min(header.earliest);
            self.last = Some(header.last);
        }
        Ok(())
    }

    /// Gives the segment its index; the next block starts another.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let Some(segment) = self.segment.as_mut().filter(|s| s.file.size > 0) {
            segment.finish()?;
            self.settle()?;
            self.segment = None;
        }
        Ok(())
    }

    /// Puts the segment on the disk, then removes the tails that it was made of.
    fn settle(&mut self) -> Result<(), Error> {
        if let Some(segment) = &self.segment {
            segment.file.sync()?;
        }
        let kept = match &self.tail {
            Some(_) => None,
            None => self.mark()?,
        };
        self.sync_folder()?;
        for path in std::mem::replace(&mut self.packed, kept.into_iter().collect()) {
            if self.packed.contains(&path) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The file that tells by its name how far places were used, when no tail does.
    fn mark(&mut self) -> Result<Option<PathBuf>, Error> {
        let Some(last) = self.last else {
            return Ok(self.packed.last().cloned());
        };
        let path = path_of(&self.folder, last, FileKind::Mark);
        if !self.packed.contains(&path) {
            Appended::create(path.clone())?;
            self.made = true;
        }
        Ok(Some(path))
    }

    fn sync_folder(&mut self) -> Result<(), Error> {
        if self.made {
            sync_folder(&self.folder)?;
            // The folder's own name, too.
            self.folder.parent().map_or(Ok(()), sync_folder)?;
            self.made = false;
        }
        Ok(())
    }

    /// Puts every record on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        // One may be the mark.
        if self.packed.len() > 1 || (self.tail.is_some() && !self.packed.is_empty()) {
            self.settle()?;
        }
        for tail in self.waiting.iter_mut().filter(|tail| !tail.synced) {
            let file = File::open(&tail.path).map_err(Error::io("open", &tail.path))?;
            file.sync_data().map_err(Error::io("sync", &tail.path))?;
            tail.synced = true;
        }
        if let Some(tail) = self.tail.as_mut().filter(|tail| !tail.synced) {
            tail.file.sync()?;
            tail.synced = true;
        }
        self.sync_folder()
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    let file = File::open(folder).map_err(Error::io("open", folder))?;
    file.sync_all().map_err(Error::io("sync", folder))
}

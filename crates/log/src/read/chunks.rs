//! What a unit's folder holds, opened: blocks and tails in order, those that a query cannot want left out unread.
//!
//! The writer packs a tail into a block before it removes the tail, so tails are opened first: a record that is in none of them
//! is in a segment that is opened later. A file that is gone between listing and opening has the folder listed again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::format::header::Header;
use crate::format::rows::Rows;
use crate::format::{block, segment, tail};
use crate::names::{FileKind, list, path_of};
use crate::record::Seq;

/// Records that are read together.
#[derive(Debug, Clone)]
pub(crate) enum Chunk {
    Block {
        file: Arc<File>,
        path: Arc<PathBuf>,
        header: Header,
        at: u64,
    },
    Tail {
        file: Arc<File>,
        path: Arc<PathBuf>,
    },
}

/// Something that was on the disk and could not be read: it is left out, and said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub at: u64,
    /// How many records stood there.
    pub records: u32,
}

impl Chunk {
    /// Its records. A damaged block is empty, and noted.
    pub(crate) fn read(&self, damage: &mut Vec<Damage>) -> Result<Rows, Error> {
        match self {
            Chunk::Block { file, path, header, at } => {
                let packed = segment::read_content(file, header, *at).map_err(Error::io("read", path))?;
                Ok(block::decode(header, &packed).unwrap_or_else(|| {
                    damage.push(Damage {
                        path: path.to_path_buf(),
                        at: *at,
                        records: header.count,
                    });
                    Rows::default()
                }))
            }
            Chunk::Tail { file, path } => Ok(tail::read(whole(file, path)?)),
        }
    }
}

/// All of a file that may shrink meanwhile: a writer takes a failed write back.
fn whole(file: &File, path: &Path) -> Result<Vec<u8>, Error> {
    let length = file.metadata().map_err(Error::io("look at", path))?.len();
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

/// The chunks of a unit's folder that `wanted` does not refuse by their header (of a whole segment, or of a block). Tails are
/// always among them.
pub(crate) fn chunks(folder: &Path, wanted: &dyn Fn(&Header) -> bool) -> Result<Vec<Chunk>, Error> {
    loop {
        if let Some(found) = attempt(folder, wanted)? {
            return Ok(found);
        }
    }
}

/// `None` if a file went away in between. Each time means that the writer finished something: this ends.
fn attempt(folder: &Path, wanted: &dyn Fn(&Header) -> bool) -> Result<Option<Vec<Chunk>>, Error> {
    let files = list(folder)?;
    let mut tails = Vec::new();
    let mut found = Vec::new();
    for (kind, first) in files.iter().filter(|(kind, _)| *kind == FileKind::Tail) {
        let path = path_of(folder, *first, *kind);
        match File::open(&path) {
            Ok(file) => tails.push(Chunk::Tail {
                file: Arc::new(file),
                path: Arc::new(path),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &path)(error)),
        }
    }
    // Listed anew: a tail may have been packed into a segment that is younger than the first list.
    let files = list(folder)?;
    for (kind, first) in files.iter().filter(|(kind, _)| *kind == FileKind::Segment) {
        let path = path_of(folder, *first, *kind);
        let file = match File::open(&path) {
            Ok(file) => Arc::new(file),
            // Retention took it: it is no longer part of the log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let path = Arc::new(path);
        let length = file.metadata().map_err(Error::io("look at", &path))?.len();
        let summary = segment::summary(&file, length).map_err(Error::io("read", &path))?;
        if summary.is_some_and(|(header, _)| !wanted(&header)) {
            continue;
        }
        let (blocks, _) = segment::blocks(&file, length).map_err(Error::io("read", &path))?;
        let blocks = blocks.into_iter().filter(|(header, _)| wanted(header));
        found.extend(blocks.map(|(header, at)| Chunk::Block {
            file: Arc::clone(&file),
            path: Arc::clone(&path),
            header,
            at,
        }));
    }
    found.extend(tails);
    Ok(Some(found))
}

/// A tail as it was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    first: Seq,
    length: u64,
    last: Seq,
}

/// The last place of a unit's folder. `seen` spares reading a tail that has not grown since.
pub(crate) fn last(folder: &Path, seen: &mut Option<Seen>) -> Result<Option<Seq>, Error> {
    'again: loop {
        let files = list(folder)?;
        let mark = files
            .iter()
            .rfind(|(kind, _)| *kind == FileKind::Mark)
            .map(|(_, at)| *at);
        for (kind, first) in files.iter().rev().filter(|(kind, _)| *kind != FileKind::Mark) {
            if *kind == FileKind::Segment && mark.is_some() {
                break;
            }
            let path = path_of(folder, *first, *kind);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue 'again,
                Err(error) => return Err(Error::io("open", &path)(error)),
            };
            let length = file.metadata().map_err(Error::io("look at", &path))?.len();
            let found = match (kind, &seen) {
                (FileKind::Segment, _) => {
                    let (blocks, _) = segment::blocks(&file, length).map_err(Error::io("read", &path))?;
                    blocks.last().map(|(header, _)| header.last)
                }
                (_, Some(old)) if (old.first, old.length) == (*first, length) => Some(old.last),
                _ => {
                    let last = tail::read(whole(&file, &path)?).last();
                    let first = *first;
                    *seen = last.map(|last| Seen { first, length, last });
                    last
                }
            };
            if found.is_some() {
                return Ok(found.max(mark));
            }
        }
        return Ok(mark);
    }
}

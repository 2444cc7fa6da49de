//! What may go: a plan, made from what is there and the limits, and the one place that deletes by it.
//!
//! Only finished segments ever go. Tails and a unit's active segment stay, whatever the limits say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::unit::{Sizes, UNSYNCED};
use crate::error::Error;
use crate::format::header::Header;
use crate::format::segment;
use crate::names::{FileKind, list, path_of, units};
use crate::record::Seq;

/// How much of one unit's log is kept. What is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitLimits {
    /// The most that the unit's files take, in bytes (at least 256 KiB is used). Always held, as records come in.
    pub bytes: Option<u64>,
    /// The oldest that a record becomes, to the size of a segment.
    pub age: Option<Duration>,
}

impl Default for UnitLimits {
    /// 64 MiB and 30 days.
    fn default() -> Self {
        UnitLimits {
            bytes: Some(64 << 20),
            age: Some(Duration::from_secs(30 * 86_400)),
        }
    }
}

/// How much log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of each unit that has no limits of its own.
    pub unit: UnitLimits,
    /// Other limits, by unit.
    pub units: BTreeMap<String, UnitLimits>,
    /// The most that the whole store takes, in thousandths of its file system.
    pub share: Option<u16>,
}

impl Default for Limits {
    /// [`UnitLimits::default`] for each unit, and a tenth of the disk.
    fn default() -> Self {
        Limits {
            unit: UnitLimits::default(),
            units: BTreeMap::new(),
            share: Some(100),
        }
    }
}

impl Limits {
    fn of(&self, unit: &str) -> UnitLimits {
        self.units.get(unit).copied().unwrap_or(self.unit)
    }

    fn bytes(&self, unit: &str) -> Option<u64> {
        self.of(unit).bytes.map(|bytes| bytes.max(256 << 10))
    }

    /// The time before which everything of the unit is too old.
    fn oldest(&self, unit: &str, now: u64) -> Option<u64> {
        let age = self.of(unit).age?;
        Some(now.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Tails and segments that are small beside the limit, so that deleting whole segments can hold it.
    pub(crate) fn sizes(&self, unit: &str) -> Sizes {
        let limit = self.bytes(unit).unwrap_or(u64::MAX);
        Sizes {
            tail: (limit / 32).min(256 << 10),
            segment: (limit / 8).min(8 << 20),
        }
    }

    /// What the segment and the tails that are still open may come to take.
    fn room(&self, unit: &str) -> u64 {
        let sizes = self.sizes(unit);
        sizes.segment + sizes.tail * (UNSYNCED as u64 + 3)
    }

    /// Only the size of this unit: what is held with each finished segment.
    pub(crate) fn size_of(&self, unit: &str) -> Limits {
        let bytes = self.of(unit).bytes;
        Limits {
            unit: UnitLimits { bytes, age: None },
            units: BTreeMap::new(),
            share: None,
        }
    }
}

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Whose records.
    pub unit: String,
    /// Where it is.
    pub path: PathBuf,
    /// The place of its first record.
    pub first: Seq,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The latest time in it, in nanoseconds since 1970; 0 where it is not known.
    pub latest: u64,
    /// It is written to, or may be again: it is never deleted.
    pub active: bool,
}

/// The file system that the store is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Its size.
    pub total: u64,
}

impl Space {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The path is not there.
    pub fn of(path: &Path) -> Result<Space, Error> {
        let stat = rustix::fs::statvfs(path).map_err(|e| Error::io("look at the file system of", path)(e.into()))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

/// Which limit a file goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All of it is older than the age.
    Age,
    /// Its unit has more than it may.
    UnitSize,
    /// The store has more of the disk than it may, and this unit has the most.
    Share,
    /// The disk is full, and this unit has the most.
    Full,
}

/// One file to delete, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The file.
    pub file: StoredFile,
    /// Which limit.
    pub reason: Reason,
}

/// What to delete, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The files.
    pub delete: Vec<Deletion>,
}

/// What the limits have deleted at `now` (nanoseconds since 1970). By share, the unit that takes most gives first, so one that
/// floods does not push its neighbours' records out.
pub fn plan(files: &[StoredFile], limits: &Limits, space: Space, now: u64) -> Plan {
    let mut by_unit: BTreeMap<&str, Vec<&StoredFile>> = BTreeMap::new();
    for file in files {
        by_unit.entry(&file.unit).or_default().push(file);
    }
    let mut delete = Vec::new();
    for (unit, files) in &mut by_unit {
        files.sort_by_key(|file| file.first);
        let oldest = limits.oldest(unit, now);
        let mut take = |files: &mut Vec<&StoredFile>, at: usize, reason| {
            let file = files.remove(at).clone();
            delete.push(Deletion { file, reason });
        };
        while let Some(at) = files
            .iter()
            .position(|f| !f.active && oldest.is_some_and(|t| f.latest < t))
        {
            take(files, at, Reason::Age);
        }
        if let Some(limit) = limits.bytes(unit) {
            let kept = limit.saturating_sub(limits.room(unit));
            while bytes(files.iter().filter(|f| !f.active)) > kept {
                match files.iter().position(|f| !f.active) {
                    Some(at) => take(files, at, Reason::UnitSize),
                    None => break,
                }
            }
        }
    }
    if let Some(share) = limits.share.filter(|_| space.total > 0) {
        let most = space.total / 1000 * u64::from(share);
        while by_unit.values().map(|files| bytes(files.iter())).sum::<u64>() > most {
            let Some(file) = next_of_the_largest(&mut by_unit) else {
                break;
            };
            let reason = Reason::Share;
            delete.push(Deletion { file, reason });
        }
    }
    Plan { delete }
}

/// What goes when the disk is full, until `wanted` bytes are free: of the unit that takes most first.
pub(crate) fn plan_to_free(files: &[StoredFile], wanted: u64) -> Plan {
    let mut by_unit: BTreeMap<&str, Vec<&StoredFile>> = BTreeMap::new();
    for file in files {
        by_unit.entry(&file.unit).or_default().push(file);
    }
    by_unit.values_mut().for_each(|files| files.sort_by_key(|f| f.first));
    let (mut delete, mut freed) = (Vec::new(), 0);
    while freed < wanted {
        let Some(file) = next_of_the_largest(&mut by_unit) else {
            break;
        };
        freed += file.bytes;
        let reason = Reason::Full;
        delete.push(Deletion { file, reason });
    }
    Plan { delete }
}

/// Takes out the oldest file that may go, of the unit that has most.
fn next_of_the_largest(by_unit: &mut BTreeMap<&str, Vec<&StoredFile>>) -> Option<StoredFile> {
    let able = by_unit.values_mut().filter(|files| files.iter().any(|f| !f.active));
    let files = able.max_by_key(|files| bytes(files.iter()))?;
    let at = files.iter().position(|f| !f.active)?;
    Some(files.remove(at).clone())
}

fn bytes<'a>(files: impl Iterator<Item = &'a &'a StoredFile>) -> u64 {
    files.map(|file| file.bytes).sum()
}

/// Deletes by the plan. A file that is gone already is no failure.
pub(crate) fn apply(plan: &Plan) -> Result<Vec<Deletion>, Error> {
    let mut done = Vec::new();
    for deletion in plan.delete.iter().filter(|d| !d.file.active) {
        match fs::remove_file(&deletion.file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &deletion.file.path)(error));
            }
            _ => done.push(deletion.clone()),
        }
    }
    Ok(done)
}

pub(crate) fn survey(root: &Path) -> Result<Vec<StoredFile>, Error> {
    let mut files = Vec::new();
    for unit in units(root)? {
        files.extend(survey_unit(root, &unit)?);
    }
    Ok(files)
}

pub(crate) fn survey_unit(root: &Path, unit: &str) -> Result<Vec<StoredFile>, Error> {
    let folder = root.join(unit);
    let listed = list(&folder)?;
    let newest = listed.iter().rfind(|(kind, _)| *kind == FileKind::Segment).copied();
    let mut files = Vec::new();
    for (kind, first) in listed.into_iter().filter(|(kind, _)| *kind != FileKind::Mark) {
        let path = path_of(&folder, first, kind);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let bytes = file.metadata().map_err(Error::io("look at", &path))?.len();
        let summary = match kind {
            FileKind::Segment => segment::summary(&file, bytes).map_err(Error::io("read", &path))?,
            FileKind::Tail | FileKind::Mark => None,
        };
        let may_grow = kind == FileKind::Tail || newest == Some((kind, first));
        let active = summary.is_none() && may_grow;
        let latest = match summary {
            Some((header, _)) => header.latest,
            None if active => 0,
            None => {
                let (blocks, _) = segment::blocks(&file, bytes).map_err(Error::io("read", &path))?;
                let headers: Vec<Header> = blocks.into_iter().map(|(header, _)| header).collect();
                Header::over(&headers).map_or(0, |header| header.latest)
            }
        };
        files.push(StoredFile {
            unit: unit.to_owned(),
            path,
            first,
            bytes,
            latest,
            active,
        });
    }
    Ok(files)
}

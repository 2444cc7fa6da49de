//! The store, for its one writer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::retention::{Deletion, Limits, Plan, Space, StoredFile, apply, plan, plan_to_free, survey, survey_unit};
use super::unit::UnitWriter;
use crate::error::Error;
use crate::format::row::{put_frame, put_origin};
use crate::format::{LARGEST_ORIGIN, PIECE};
use crate::names::{check_unit, list, units};
use crate::record::{BootId, Entry, Part, Seq};

/// How many places one writer has.
const WRITER: u64 = 1 << 40;

/// The log store, open for writing. Dropping it syncs nothing; nothing that was appended is lost by that.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    boot: BootId,
    limits: Limits,
    next: u64,
    units: BTreeMap<String, UnitWriter>,
    frames: Vec<u8>,
    origin: Vec<u8>,
    trouble: Option<Error>,
    /// Holds the lock.
    _lock: File,
}

impl Store {
    /// Opens the store in `root` (made if it is not there) for the boot that runs now. Reads the names in it, no records.
    ///
    /// # Errors
    /// Another process has it open for writing, or the folder cannot be made or read.
    pub fn open(root: impl Into<PathBuf>, boot: BootId, limits: Limits) -> Result<Store, Error> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(Error::io("make", &root))?;
        let lock = File::open(&root).map_err(Error::io("open", &root))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::Locked { path: root });
        }
        let mut newest = 0;
        for unit in units(&root)? {
            let files = list(&root.join(unit))?;
            newest = files.iter().map(|(_, first)| first.0).max().unwrap_or(0).max(newest);
        }
        Ok(Store {
            root,
            boot,
            limits,
            next: after(newest),
            units: BTreeMap::new(),
            frames: Vec::new(),
            origin: Vec::new(),
            trouble: None,
            _lock: lock,
        })
    }

    /// Other limits, from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Stores one record; after this it outlives the death of this process. Returns its place.
    ///
    /// A whole message longer than [`PIECE`] is stored in pieces and read as one again.
    ///
    /// # Errors
    /// It is not stored: the disk is full ([`Error::is_full`]) or fails, or the unit's name or the fields are refused.
    pub fn append(&mut self, unit: &str, entry: &Entry<'_>) -> Result<Seq, Error> {
        self.append_all(unit, std::slice::from_ref(entry))
    }

    /// Stores these records of one unit with one write: all of them or none. Returns the place of the first.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append_all(&mut self, unit: &str, entries: &[Entry<'_>]) -> Result<Seq, Error> {
        let first = Seq(self.next);
        let Some(earliest) = entries.iter().map(|e| e.realtime).min() else {
            return Ok(first);
        };
        self.ready(unit)?;
        // Making ready may have moved on.
        let first = Seq(self.next.max(first.0));
        let mut next = first.0;
        self.frames.clear();
        let mut known = None;
        for entry in entries {
            if known != Some(entry.origin) {
                self.origin.clear();
                put_origin(&mut self.origin, entry.origin);
                known = Some(entry.origin);
                if self.origin.len() > LARGEST_ORIGIN {
                    return Err(Error::Fields {
                        unit: unit.to_owned(),
                        length: self.origin.len(),
                        limit: LARGEST_ORIGIN,
                    });
                }
            }
            next = put_entry(&mut self.frames, next, entry, &self.origin);
        }
        let Some(writer) = self.units.get_mut(unit) else {
            return Ok(first);
        };
        let result = writer.append(&self.frames, first, earliest, self.boot);
        // Also after a failure: a reader may have seen some of it before it was taken back, and a place never means two things.
        self.next = next;
        result?;
        if self.frames.capacity() > 1 << 20 {
            self.frames = Vec::new();
        }
        let sizes = self.limits.sizes(unit);
        if writer.is_due(sizes)
            && let Err(error) = self.pack(unit)
        {
            self.trouble = Some(error);
        }
        Ok(first)
    }

    fn ready(&mut self, unit: &str) -> Result<(), Error> {
        if !self.units.contains_key(unit) {
            check_unit(unit)?;
            let (writer, newest) = UnitWriter::open(self.root.join(unit))?;
            // Only if files came into the folder since the store was opened.
            if let Some(newest) = newest.filter(|n| n.0 >= self.next) {
                self.next = after(newest.0);
            }
            self.units.insert(unit.to_owned(), writer);
        }
        Ok(())
    }

    fn pack(&mut self, unit: &str) -> Result<(), Error> {
        let sizes = self.limits.sizes(unit);
        let finished = match self.units.get_mut(unit) {
            Some(writer) => writer.pack(sizes)?,
            None => false,
        };
        if finished {
            // The unit's own limit holds without anybody asking for it.
            let files = survey_unit(&self.root, unit)?;
            let own = plan(&files, &self.limits.size_of(unit), Space::default(), 0);
            apply(&own)?;
        }
        Ok(())
    }

    /// What went wrong while full tails were packed, once: no record is lost by it, but the tails grow until it ends.
    pub fn take_trouble(&mut self) -> Option<Error> {
        self.trouble.take()
    }

    /// The place that the next record of this unit will have: so what is about to be stored can be written down elsewhere, and a
    /// successor can ask ([`Store::last_place`]) how much of it was.
    ///
    /// # Errors
    /// The unit's name is refused, or its folder cannot be made or read.
    pub fn next_place(&mut self, unit: &str) -> Result<Seq, Error> {
        self.ready(unit)?;
        Ok(Seq(self.next))
    }

    /// The place of the last record that the unit has, whoever wrote it.
    ///
    /// # Errors
    /// The unit's folder cannot be read.
    pub fn last_place(&self, unit: &str) -> Result<Option<Seq>, Error> {
        crate::read::chunks::last(&self.root.join(unit), &mut None)
    }

    /// Puts every record on the disk: after this no power cut loses one. Touches nothing where nothing came since the last time.
    ///
    /// # Errors
    /// The disk fails. The other units are synced all the same.
    pub fn sync(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for writer in self.units.values_mut() {
            result = result.and(writer.sync());
        }
        result
    }

    /// Packs and finishes what holds records older than `age`: only then can their age (or their size) have them deleted. To be
    /// called a few times a day with a small part of the age limit. What an earlier writer left counts by when it was last
    /// written to.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn tidy(&mut self, now: u64, age: Duration) -> Result<(), Error> {
        let before = now.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        for unit in units(&self.root)? {
            self.ready(&unit)?;
        }
        for (unit, writer) in &mut self.units {
            if writer.earliest().is_some_and(|earliest| earliest < before) || writer.is_left_since(before) {
                writer.pack(self.limits.sizes(unit))?;
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// Every file of the store, as retention looks at them.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn files(&self) -> Result<Vec<StoredFile>, Error> {
        survey(&self.root)
    }

    /// What the limits would have deleted now; nothing is done.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn plan_retention(&self, now: u64) -> Result<Plan, Error> {
        let space = Space::of(&self.root)?;
        Ok(plan(&self.files()?, &self.limits, space, now))
    }

    /// When the disk is full: deletes finished segments, of the unit that takes most first, until `wanted` bytes are free. Log
    /// gives way to the appliance's data.
    ///
    /// # Errors
    /// The folders cannot be read, or a file cannot be removed.
    pub fn give_way(&mut self, wanted: u64) -> Result<Vec<Deletion>, Error> {
        apply(&plan_to_free(&self.files()?, wanted))
    }

    /// Deletes what is in the plan, oldest first.
    ///
    /// # Errors
    /// A file cannot be removed; the later ones stay.
    pub fn apply_retention(&mut self, plan: &Plan) -> Result<Vec<Deletion>, Error> {
        apply(plan)
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The first place of a writer that finds a file of this place. A tail may reach into the next writer's places (after 2^40
/// records), so one is left out.
fn after(newest: u64) -> u64 {
    (newest / WRITER + 2).saturating_mul(WRITER)
}

/// Appends the frames of an entry; the place after it.
fn put_entry(frames: &mut Vec<u8>, place: u64, entry: &Entry<'_>, origin: &[u8]) -> u64 {
    if entry.message.len() <= PIECE {
        put_frame(frames, Seq(place), entry, origin);
        return place + 1;
    }
    let (starts, ends) = (
        matches!(entry.part, Part::Whole | Part::First),
        matches!(entry.part, Part::Whole | Part::Last(_)),
    );
    let line = match entry.part {
        Part::Whole | Part::First => Seq(place),
        Part::Middle(line) | Part::Last(line) => line,
    };
    let mut next = place;
    let count = entry.message.len().div_ceil(PIECE);
    for (index, message) in entry.message.chunks(PIECE).enumerate() {
        let part = match () {
            () if index == 0 && starts => Part::First,
            () if index + 1 == count && ends => Part::Last(line),
            () => Part::Middle(line),
        };
        put_frame(
            frames,
            Seq(next),
            &Entry {
                part,
                message,
                ..*entry
            },
            origin,
        );
        next += 1;
    }
    next
}

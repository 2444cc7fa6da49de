//! The folders of a unit's state, and how they change places. Every change is announced before it is made, so that tests can cut the power there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cairn_unit::{Manifest, Migration, StateVersion};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::copy::{copy, flush};
use super::decide::{Decision, Found, Way, decide};
use super::record::{Record, Tries};
use crate::config::Config;
use crate::error::Error;

/// Called before each change with what it is; an error is where the power goes.
pub type Cut<'a> = &'a dyn Fn(&str) -> Result<(), Error>;

/// A unit's state with what lies beside it.
#[derive(Clone, Copy)]
pub struct States<'a> {
    config: &'a Config,
    name: &'a str,
    cut: Cut<'a>,
}

impl std::fmt::Debug for States<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("States")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

impl<'a> States<'a> {
    /// Those of a unit.
    pub fn of(config: &'a Config, name: &'a str) -> Self {
        Self::cut_by(config, name, &|_| Ok(()))
    }

    /// Those of a unit, with a power that may go.
    pub fn cut_by(config: &'a Config, name: &'a str, cut: Cut<'a>) -> Self {
        Self { config, name, cut }
    }

    fn at(&self, end: &str) -> PathBuf {
        self.config.at("/data/state").join(format!("{}.{end}", self.name))
    }

    /// The state.
    pub fn state(&self) -> PathBuf {
        self.config.state(self.name)
    }

    /// The copy that steps work on.
    pub fn working(&self) -> PathBuf {
        self.config.new_state(self.name)
    }

    /// The state of before.
    pub fn before(&self) -> PathBuf {
        self.at("before")
    }

    fn tries(&self) -> PathBuf {
        self.at("tries")
    }

    fn sync(&self) -> Result<(), Error> {
        let folder = self.config.at("/data/state");
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("flush", folder))
    }

    /// Removes a folder of any size so that no part of it is ever taken for the whole.
    fn discard(&self, path: &Path) -> Result<(), Error> {
        let gone = self.at("gone");
        remove(&gone)?;
        if path.exists() {
            (self.cut)("rename what is removed")?;
            fs::rename(path, &gone).map_err(Error::io("rename", path))?;
            self.sync()?;
            (self.cut)("remove it")?;
            remove(&gone)?;
        }
        Ok(())
    }

    /// What lies on the disk. What an interruption left in the place of the state of before is removed first.
    ///
    /// # Errors
    /// A note that cannot be read.
    pub fn find(&self) -> Result<Found, Error> {
        remove(&self.at("gone"))?;
        let record = Record::read(&self.state())?;
        let version = |record: &Option<Record>| record.as_ref().map(|r| r.version.clone()).unwrap_or_default();
        let before = match self.before().exists() {
            false => None,
            true => match Record::read(&self.before()) {
                Ok(before) if version(&before) < version(&record) => Some(before),
                // Nobody can use it, and nobody knows that it is worth nothing.
                Err(_) => None,
                // A copy that did not change places any more, or one that was given up.
                Ok(_) => {
                    self.discard(&self.before())?;
                    None
                }
            },
        };
        Ok(Found {
            record,
            before,
            tries: Tries::read(&self.tries()),
        })
    }

    /// Notes that this version of the appliance starts the unit with a state of this version.
    ///
    /// # Errors
    /// The disk's.
    pub fn note(&self, record: Option<&Record>, version: &StateVersion, appliance: &str) -> Result<(), Error> {
        if record.is_some_and(|record| record.appliance == appliance) {
            return Ok(());
        }
        let new = Record {
            version: version.clone(),
            appliance: appliance.to_owned(),
            unproved: record.is_some_and(|record| record.unproved),
            since: record.map_or(0, |record| record.since),
            by: record.map_or_else(String::new, |record| record.by.clone()),
            restored: record.map_or(0, |record| record.restored),
        };
        (self.cut)("note who starts it")?;
        new.write(&self.state())
    }

    /// Notes that steps begin, before they do.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(&self, tries: &Tries, appliance: &str) -> Result<(), Error> {
        let count = if tries.appliance == appliance { tries.count } else { 0 };
        (self.cut)("count the try")?;
        let tries = Tries {
            count: count + 1,
            appliance: appliance.to_owned(),
        };
        tries.write(&self.tries())
    }

    /// Forgets how often steps were cut off: they ended, well or not, or the owner wants them tried again.
    pub fn forget_tries(&self) {
        let _ = fs::remove_file(self.tries());
    }

    /// Makes the copy that steps work on.
    ///
    /// # Errors
    /// Too little room, or the disk's.
    pub fn copy(&self, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        (self.cut)("remove a copy of before")?;
        remove(&self.working())?;
        (self.cut)("copy")?;
        copy(&self.state(), &self.working(), stop).map(drop)
    }

    /// Removes that copy.
    ///
    /// # Errors
    /// The disk's.
    pub fn discard_copy(&self) -> Result<(), Error> {
        self.discard(&self.working())
    }

    /// Puts the copy in the state's place. The state of before is kept if its version is the lower one.
    ///
    /// # Errors
    /// The disk's. The state is then the one of before, or the new one with its note.
    pub fn commit(&self, version: &StateVersion, appliance: &str, now: u64) -> Result<(), Error> {
        let (state, new, before) = (self.state(), self.working(), self.before());
        let record = Record {
            version: version.clone(),
            appliance: appliance.to_owned(),
            unproved: true,
            since: now,
            by: appliance.to_owned(),
            restored: 0,
        };
        (self.cut)("note its version")?;
        record.write(&new)?;
        (self.cut)("flush it")?;
        flush(&new).map_err(Error::io("flush", &new))?;
        self.discard(&before)?;
        (self.cut)("rename the copy")?;
        fs::rename(&new, &before).map_err(Error::io("rename", &new))?;
        self.sync()?;
        (self.cut)("change places")?;
        self.change(&state, &before)?;
        self.forget_tries();
        // What a way down leaves is of the higher version: nothing ever goes back to it.
        self.find().map(drop)
    }

    fn change(&self, one: &Path, other: &Path) -> Result<(), Error> {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(Error::io("put in place", other))?;
        self.sync()
    }

    /// Puts the state of before in the state's place; that one is gone then.
    ///
    /// # Errors
    /// The disk's.
    pub fn restore(&self) -> Result<(), Error> {
        (self.cut)("put the state of before back")?;
        self.change(&self.state(), &self.before())?;
        self.discard(&self.before())
    }

    /// Says whether a version of before may put its state back without asking.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_unproved(&self, unproved: bool) -> Result<(), Error> {
        match Record::read(&self.state())? {
            Some(record) if record.unproved != unproved => {
                (self.cut)("note whether it may give way")?;
                Record { unproved, ..record }.write(&self.state())
            }
            _ => Ok(()),
        }
    }

    /// Removes the state of before, unless it is that of a version of the appliance which can still be gone back to.
    fn drop_before(&self, other: Option<&str>) -> Result<(), Error> {
        let found = self.find()?;
        match found.before {
            Some(Some(record)) if Some(record.appliance.as_str()) == other => Ok(()),
            // Who wrote a state without a note is not known. It was the version of before if nothing was upgraded since.
            Some(None) if other.is_some() && found.record.is_some_and(|r| r.by == r.appliance) => Ok(()),
            Some(_) => self.discard(&self.before()),
            None => Ok(()),
        }
    }
}

/// What a start goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The state is what it should be.
    Start,
    /// It is now again what it was at this time, in seconds since 1970: what came after was given up.
    Restored(u64),
    /// These steps, on a copy.
    Migrate(Way),
}

impl States<'_> {
    /// Brings what lies on the disk to where the unit can start or its steps can run.
    ///
    /// # Errors
    /// The unit cannot start, in a sentence; or the disk's.
    pub fn prepare(
        &self,
        wanted: &StateVersion,
        migration: Option<&Migration>,
        appliance: &str,
    ) -> Result<Next, Error> {
        let found = self.find()?;
        match decide(&found, wanted, migration, appliance, self.name) {
            Decision::Start => {
                self.note(found.record.as_ref(), wanted, appliance)?;
                Ok(Next::Start)
            }
            Decision::Restore => {
                self.restore()?;
                self.note(Record::read(&self.state())?.as_ref(), wanted, appliance)?;
                Ok(Next::Restored(found.record.map_or(0, |record| record.since)))
            }
            Decision::Migrate(way) => {
                self.begin(&found.tries, appliance)?;
                Ok(Next::Migrate(way))
            }
            Decision::Refuse(why) => Err(Error::State(why)),
        }
    }
}

/// The version of the appliance that runs is kept: no state gives way by itself any more, and states of before stay only for the version that the other
/// slot holds. Returns what could not be done.
pub fn settle(config: &Config, manifest: &Manifest, units: &[String], other: Option<&str>) -> Vec<String> {
    let units = units.iter().filter(|name| manifest.units.contains_key(name.as_str()));
    let settled = units.filter(|name| config.state(name).exists()).map(|name| {
        let states = States::of(config, name);
        states.set_unproved(false).and_then(|()| states.drop_before(other))
    });
    settled.filter_map(|done| Some(done.err()?.to_string())).collect()
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;

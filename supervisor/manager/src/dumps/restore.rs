//! A unit's way back to a dump. Every change is announced before it is made, so that tests can cut the power there.
//!
//! A new state is made beside the one that is there. When it is whole and on the disk, the two change places in one operation of the file
//! system; the note of the new one says which request made it. So whoever starts next knows how far it got, and goes on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cairn_config::write_atomically;
use cairn_unit::StateVersion;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::store::Dumps;
use crate::config::Config;
use crate::error::Error;
use crate::migrate::{Cut, Record};

/// So often a restore is begun that is cut off each time.
pub const TRIES: u32 = 3;
/// The name by which the state of before a restore is gone back to.
pub const BEFORE: &str = "before";

/// The request for a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The dump, or [`BEFORE`].
    pub dump: String,
    /// What tells this request from others; never 0.
    pub id: u64,
    /// How often it was begun.
    #[serde(default)]
    pub tries: u32,
}

/// What becomes of a request at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// There is none.
    None,
    /// A new state is made now.
    Begin,
    /// The state is that of this dump.
    Done(String),
    /// It is not done, for this reason; the state is as it was.
    GivenUp(String),
}

/// A unit's state with the request for another one.
#[derive(Clone, Copy)]
pub struct Restores<'a> {
    config: &'a Config,
    name: &'a str,
    cut: Cut<'a>,
}

impl std::fmt::Debug for Restores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restores")
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

impl<'a> Restores<'a> {
    /// That of a unit.
    pub fn of(config: &'a Config, name: &'a str) -> Self {
        Self::cut_by(config, name, &|_| Ok(()))
    }

    /// That of a unit, with a power that may go.
    pub fn cut_by(config: &'a Config, name: &'a str, cut: Cut<'a>) -> Self {
        Self { config, name, cut }
    }

    fn at(&self, end: &str) -> PathBuf {
        self.config.at("/data/state").join(format!("{}.{end}", self.name))
    }

    /// The state of before.
    pub fn before(&self) -> PathBuf {
        self.at("before-restore")
    }

    fn marker_path(&self) -> PathBuf {
        self.at("restore")
    }

    fn sync(&self) -> Result<(), Error> {
        let folder = self.config.at("/data/state");
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("flush", folder))
    }

    /// The request, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn marker(&self) -> Result<Option<Marker>, Error> {
        let path = self.marker_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let damaged = |e| {
            Error::State(format!(
                "the request to go back to a dump is damaged ({e}); ask for it again"
            ))
        };
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Asks for a restore at the next start. From then on it is done whatever becomes of the manager or the power.
    ///
    /// # Errors
    /// The disk's.
    pub fn ask(&self, dump: &str, id: u64) -> Result<(), Error> {
        let marker = Marker {
            dump: dump.to_owned(),
            id: id.max(1),
            tries: 0,
        };
        self.write(&marker)
    }

    fn write(&self, marker: &Marker) -> Result<(), Error> {
        (self.cut)("write the request")?;
        let text = serde_json::to_vec(marker).unwrap_or_default();
        Ok(write_atomically(&self.marker_path(), &text, 0o600)?)
    }

    fn forget(&self) -> Result<(), Error> {
        (self.cut)("remove the request")?;
        match fs::remove_file(self.marker_path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", self.marker_path())(e)),
            _ => self.sync(),
        }
    }

    /// Takes the request back, since it failed. Returns whether the state is that of the dump all the same: what failed came after.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_up(&self) -> Result<bool, Error> {
        let done = matches!(self.marker(), Ok(Some(marker)) if self.is_of(&self.config.state(self.name), &marker));
        self.forget()?;
        Ok(done)
    }

    /// Whether the state in a folder was made for this request. A damaged note is that of a damaged state.
    fn is_of(&self, folder: &Path, marker: &Marker) -> bool {
        let record = Record::read(folder).ok().flatten();
        record.is_some_and(|record| record.restored == marker.id)
    }

    /// Looks at the request before a start: goes on with one whose state is whole, gives up one that cannot be done, counts one that begins.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self, wanted: &StateVersion) -> Result<Settled, Error> {
        let marker = match self.marker() {
            Ok(None) => return Ok(Settled::None),
            Ok(Some(marker)) => marker,
            Err(Error::State(why)) => {
                self.forget()?;
                return Ok(Settled::GivenUp(why));
            }
            Err(e) => return Err(e),
        };
        if self.is_of(&self.config.state(self.name), &marker) {
            self.forget()?;
            return Ok(Settled::Done(marker.dump));
        }
        if marker.dump == BEFORE
            && let Err(why) = self.take_before(wanted, &marker)
        {
            self.forget()?;
            return Ok(Settled::GivenUp(why.to_string()));
        }
        if self.is_of(&self.before(), &marker) {
            self.exchange()?;
            self.forget()?;
            return Ok(Settled::Done(marker.dump));
        }
        if let Err(why) = self.possible(wanted, &marker) {
            self.forget()?;
            return Ok(Settled::GivenUp(why));
        }
        self.write(&Marker {
            tries: marker.tries + 1,
            ..marker
        })?;
        Ok(Settled::Begin)
    }

    fn possible(&self, wanted: &StateVersion, marker: &Marker) -> Result<(), String> {
        if marker.tries >= TRIES {
            return Err(format!(
                "it was begun {TRIES} times and cut off each time; ask for it again"
            ));
        }
        let note = Dumps::of(self.config, self.name).check(&marker.dump)?;
        fits(&note.version, wanted)
    }

    /// Notes that the state of before is the one that is wanted.
    fn take_before(&self, wanted: &StateVersion, marker: &Marker) -> Result<(), Error> {
        let before = self.before();
        match Record::read(&before)? {
            Some(record) if record.restored == marker.id => Ok(()),
            Some(record) => {
                fits(&record.version, wanted).map_err(Error::State)?;
                (self.cut)("note who wants it")?;
                let restored = marker.id;
                Record { restored, ..record }.write(&before)
            }
            None => Err(Error::State("there is no state of before a restore".into())),
        }
    }

    /// The note of the state that is made for a request. Where the version of the appliance is still on trial, its state gives way as before.
    pub fn record(&self, marker: &Marker, wanted: &StateVersion, appliance: &str) -> Record {
        let old = Record::read(&self.config.state(self.name)).ok().flatten();
        let old = old.filter(|old| old.version == *wanted);
        Record {
            version: wanted.clone(),
            appliance: appliance.to_owned(),
            unproved: old.as_ref().is_some_and(|old| old.unproved),
            since: old.as_ref().map_or(0, |old| old.since),
            by: old.map_or_else(String::new, |old| old.by),
            restored: marker.id,
        }
    }

    /// Puts the state that was made in the place of the one of before, once all of it is on the disk. That one is kept.
    ///
    /// # Errors
    /// The disk's. The state is then the one of before, or the new one.
    pub fn commit(&self) -> Result<(), Error> {
        let new = self.config.new_state(self.name);
        (self.cut)("flush it")?;
        let flush = || -> io::Result<()> { Ok(rustix::fs::syncfs(File::open(&new)?)?) };
        flush().map_err(Error::io("flush", &new))?;
        if self.config.state(self.name).exists() {
            self.drop_before()?;
            // By this name it is known to be whole.
            (self.cut)("rename it")?;
            fs::rename(&new, self.before()).map_err(Error::io("rename", &new))?;
            self.sync()?;
            self.exchange()?;
        } else {
            (self.cut)("put it in place")?;
            fs::rename(&new, self.config.state(self.name)).map_err(Error::io("rename", &new))?;
            self.sync()?;
        }
        self.forget()
    }

    fn exchange(&self) -> Result<(), Error> {
        let (state, before) = (self.config.state(self.name), self.before());
        (self.cut)("change places")?;
        if state.exists() {
            renameat_with(CWD, &state, CWD, &before, RenameFlags::EXCHANGE)
                .map_err(Error::io("put in place", &state))?;
        } else {
            fs::rename(&before, &state).map_err(Error::io("put in place", &state))?;
        }
        self.sync()
    }

    /// Removes the state of before so that no part of it is ever taken for the whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn drop_before(&self) -> Result<(), Error> {
        let gone = self.at("gone");
        remove(&gone)?;
        if self.before().exists() {
            (self.cut)("rename what is removed")?;
            fs::rename(self.before(), &gone).map_err(Error::io("rename", self.before()))?;
            self.sync()?;
            (self.cut)("remove it")?;
            remove(&gone)?;
        }
        Ok(())
    }
}

/// Whether a dump of this version can be the state of a unit that reads another one.
///
/// # Errors
/// It cannot, in a sentence.
pub(crate) fn fits(version: &StateVersion, wanted: &StateVersion) -> Result<(), String> {
    match version == wanted {
        true => Ok(()),
        false => Err(format!(
            "its state has version {version}, and this version of the appliance reads version {wanted}; go back to it with the version of the \
             appliance that made it"
        )),
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;

//! The versions of a file that people change: every version that was accepted is kept, with who, when and why.
//!
//! Beside the file stands a folder `history` with two files for each version: `N.toml`, its text, and `N.json`, who, when and why. A
//! version is accepted in four steps: its note, its text under a temporary name, the file itself, and last the text under its own
//! name. A power cut leaves the file as it was or as it is to be; [`History::settle`] sees by it which, and finishes or forgets
//! the version. So no version is listed that was never in force, and none that was is lost.
//!
//! Numbers only grow. The oldest versions go when there are more than [`KEPT`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, put};
use crate::error::Error;

/// How many versions are kept.
pub const KEPT: usize = 200;

/// How the name of a version's text ends until the file itself has it.
const PENDING: &str = ".pending";

/// Who changed something, when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    pub who: String,
    /// When, by the appliance's clock.
    pub when: Timestamp,
    /// Why, in words.
    pub why: String,
}

/// A note as it is kept, with the hash of the text that it is for.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    note: Note,
    sha256: String,
}

/// One version.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// Who, when and why; `None` where that is lost.
    pub note: Option<Note>,
    /// Its text, or why it cannot be used.
    pub text: Result<String, String>,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Current<T> {
    /// The text.
    pub text: String,
    /// What it was accepted as.
    pub value: T,
    /// One sentence, if that is not what the file says.
    pub instead: Option<String>,
}

/// The versions of one file.
#[derive(Clone, Copy)]
pub struct History<'a> {
    disk: &'a dyn Disk,
    file: &'a Path,
}

fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> History<'a> {
    /// The versions of `file`.
    pub fn of(disk: &'a dyn Disk, file: &'a Path) -> History<'a> {
        History { disk, file }
    }

    fn folder(&self) -> PathBuf {
        self.file.with_file_name("history")
    }

    fn place(&self, number: u64, ending: &str) -> PathBuf {
        self.folder().join(format!("{number}.{ending}"))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match self.disk.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.disk.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
            _ => Ok(()),
        }
    }

    /// The numbers of the files in the folder with an ending, from the first.
    fn with(&self, ending: &str) -> Result<Vec<u64>, Error> {
        let folder = self.folder();
        let names = self.disk.names(&folder).map_err(Error::io("read", &folder))?;
        let number = |name: &String| name.strip_suffix(ending)?.strip_suffix('.')?.parse().ok();
        let mut all: Vec<u64> = names.iter().filter_map(number).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// The numbers of the versions that there are, from the first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>, Error> {
        self.with("toml")
    }

    /// One version; `None` if there is none of that number.
    ///
    /// # Errors
    /// It cannot be read. A text that is not the one that was accepted is not an error but in [`Version::text`].
    pub fn version(&self, number: u64) -> Result<Option<Version>, Error> {
        let Some(bytes) = self.read(&self.place(number, "toml"))? else {
            return Ok(None);
        };
        let note = self.read(&self.place(number, "json"))?;
        let kept: Option<Kept> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let damaged = |why: &str| format!("version {number} is damaged: {why}");
        let same = kept.as_ref().is_none_or(|kept| kept.sha256 == hash(&bytes));
        let text = match String::from_utf8(bytes) {
            Ok(text) if same => Ok(text),
            Ok(_) => Err(damaged("it is not the text that was accepted")),
            Err(_) => Err(damaged("it is not text")),
        };
        let note = kept.map(|kept| kept.note);
        Ok(Some(Version { number, note, text }))
    }

    /// Every version, the newest first.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn list(&self) -> Result<Vec<Version>, Error> {
        let numbers = self.numbers()?;
        let all = numbers
            .iter()
            .rev()
            .filter_map(|number| self.version(*number).transpose());
        all.collect()
    }

    /// The file's own text; `None` if it is not there or not text.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self) -> Result<Option<String>, Error> {
        Ok(self.read(self.file)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// What is in force: the file if `accept` takes it, else the newest version that it takes. `None` if nothing was ever chosen: no
    /// file and no version. Nothing is written.
    ///
    /// # Errors
    /// The file is refused and no version is taken in its place: why it was refused. The disk's.
    pub fn current<T, E: std::fmt::Display>(
        &self,
        mut accept: impl FnMut(&str) -> Result<T, E>,
    ) -> Result<Option<Current<T>>, Error> {
        let name = self.file.display();
        let why = match self.read(self.file)?.map(String::from_utf8) {
            Some(Ok(text)) => match accept(&text) {
                Ok(value) => {
                    let instead = None;
                    return Ok(Some(Current { text, value, instead }));
                }
                Err(why) => why.to_string(),
            },
            Some(Err(_)) => format!("{name} is not text"),
            None => format!("{name} is gone"),
        };
        let numbers = self.numbers()?;
        if numbers.is_empty() && self.read(self.file)?.is_none() {
            return Ok(None);
        }
        for number in numbers.into_iter().rev() {
            let Some(Version { text: Ok(text), .. }) = self.version(number)? else {
                continue;
            };
            if let Ok(value) = accept(&text) {
                let instead = Some(format!("{why}; version {number}, the last good one, is in force"));
                return Ok(Some(Current { text, value, instead }));
            }
        }
        Err(Error::Refused(why))
    }

    /// Accepts a text: it is the file's content and the newest version when this returns. Gives its number. A text that is the newest
    /// version already is no other version.
    ///
    /// # Errors
    /// The disk's; then the file is as it was, or the version is accepted at the next [`History::settle`].
    pub fn accept(&self, text: &str, note: Note) -> Result<u64, Error> {
        let _alone = self.alone()?;
        self.accept_alone(text, note, |text| self.write(text))
    }

    /// Makes a text that stands in the file a version, if it still stands there: it may have been replaced meanwhile.
    ///
    /// # Errors
    /// As [`History::accept`].
    pub fn record(&self, text: &str, note: Note) -> Result<(), Error> {
        let _alone = self.alone()?;
        if self.read(self.file)?.as_deref() == Some(text.as_bytes()) {
            // The file is the owner's: what was written there a moment later must not be written over.
            self.accept_alone(text, note, |_| Ok(()))?;
        }
        Ok(())
    }

    fn alone(&self) -> Result<Option<File>, Error> {
        let folder = self.folder();
        self.disk
            .make_folder(&folder)
            .map_err(Error::io("make the folder", &folder))?;
        self.disk.lock(&folder).map_err(Error::io("lock", &folder))
    }

    fn accept_alone(&self, text: &str, note: Note, write: impl Fn(&str) -> Result<(), Error>) -> Result<u64, Error> {
        self.settle_alone()?;
        let newest = self.numbers()?.last().copied();
        if let Some(number) = newest
            && self
                .version(number)?
                .is_some_and(|version| version.text.as_deref() == Ok(text))
        {
            write(text)?;
            return Ok(number);
        }
        let number = newest.unwrap_or(0) + 1;
        let kept = Kept {
            note,
            sha256: hash(text.as_bytes()),
        };
        let kept = serde_json::to_vec_pretty(&kept).map_err(|e| Error::Refused(e.to_string()))?;
        // Without a text under its own name, what these hold is judged by nobody but `settle`, so they need not come into being whole.
        let (folder, json, pending) = (self.folder(), self.place(number, "json"), self.pending(number));
        self.disk
            .create(&json, &kept, 0o600)
            .map_err(Error::io("write", &json))?;
        self.disk
            .create(&pending, text.as_bytes(), 0o600)
            .and_then(|()| self.disk.sync_folder(&folder))
            .map_err(Error::io("write", &pending))?;
        write(text)?;
        self.finish(number)?;
        self.prune()?;
        Ok(number)
    }

    /// Writes the file, unless that is what it says already.
    fn write(&self, text: &str) -> Result<(), Error> {
        match self.read(self.file)? {
            Some(there) if there == text.as_bytes() => Ok(()),
            _ => put(self.disk, self.file, text.as_bytes(), 0o600),
        }
    }

    fn pending(&self, number: u64) -> PathBuf {
        self.place(number, &format!("toml{PENDING}"))
    }

    /// Gives a version's text its own name. If a power cut takes that back, `settle` does it again.
    fn finish(&self, number: u64) -> Result<(), Error> {
        let to = self.place(number, "toml");
        self.disk
            .rename(&self.pending(number), &to)
            .map_err(Error::io("write", &to))
    }

    /// Finishes or forgets what a power cut interrupted.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self) -> Result<(), Error> {
        let folder = self.folder();
        let _alone = match self.disk.lock(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Error::io("lock", &folder))?,
        };
        self.settle_alone()
    }

    fn settle_alone(&self) -> Result<(), Error> {
        let file = self.read(self.file)?;
        for number in self.with(&format!("toml{PENDING}"))? {
            let pending = self.pending(number);
            if self.read(&pending)? == file {
                self.finish(number)?;
            } else {
                self.remove(&pending)?;
            }
        }
        // A note whose text never came, or has gone by `prune`.
        let texts = self.numbers()?;
        for number in self.with("json")? {
            if !texts.contains(&number) {
                self.remove(&self.place(number, "json"))?;
            }
        }
        Ok(())
    }

    /// Removes the oldest versions beyond those that are kept.
    fn prune(&self) -> Result<(), Error> {
        let numbers = self.numbers()?;
        for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
            self.remove(&self.place(*number, "toml"))?;
            self.remove(&self.place(*number, "json"))?;
        }
        Ok(())
    }
}

/// What differs between two texts, as `diff -u` shows it; empty if nothing does.
pub fn diff(from: (&str, &str), to: (&str, &str)) -> String {
    if from.1 == to.1 {
        return String::new();
    }
    let diff = similar::TextDiff::from_lines(from.1, to.1);
    diff.unified_diff().context_radius(3).header(from.0, to.0).to_string()
}

#[cfg(test)]
mod tests;

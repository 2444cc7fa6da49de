//! The folder with a unit's dumps. What has a dump's name is whole: its note, its size and its SHA-256 were on the disk before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cairn_config::{Timestamp, private_folder, write_atomically};
use cairn_unit::StateVersion;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::room::{Room, of_disk, room};
use crate::config::Config;
use crate::error::Error;

/// How a dump is called.
const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// What is noted of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The version of the state that it holds.
    pub version: StateVersion,
    /// The version of the appliance that made it.
    pub appliance: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A dump that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What is noted of it; why that cannot be read.
    pub note: Result<Note, String>,
}

/// The dumps of a unit.
#[derive(Debug, Clone, Copy)]
pub struct Dumps<'a> {
    config: &'a Config,
    unit: &'a str,
}

/// The name of a dump that is begun at this time, in seconds since 1970.
pub fn name_of(seconds: u64) -> String {
    let at = Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default();
    at.strftime(FORMAT).to_string()
}

/// When a dump of this name was begun, in seconds since 1970; `None` if it is no dump's name.
pub fn time_of(name: &str) -> Option<u64> {
    if name.len() != "YYYYMMDDTHHMMSSZ".len() {
        return None;
    }
    let digits =
        |range: std::ops::Range<usize>| name.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let (year, month, day) = (digits(0..4)?, digits(4..6)?, digits(6..8)?);
    let (hour, minute, second) = (digits(9..11)?, digits(11..13)?, digits(13..15)?);
    let at: Timestamp = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()?;
    let seconds = u64::try_from(at.as_second()).ok()?;
    (name_of(seconds) == name).then_some(seconds)
}

/// Whether it is a dump's name.
pub fn is_name(name: &str) -> bool {
    time_of(name).is_some()
}

impl<'a> Dumps<'a> {
    /// Those of a unit.
    pub fn of(config: &'a Config, unit: &'a str) -> Self {
        Self { config, unit }
    }

    fn folder(&self) -> PathBuf {
        self.config.dumps().join(self.unit)
    }

    /// Where a dump is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn note_path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.json"))
    }

    fn new_path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.new"))
    }

    fn sync(&self) -> Result<(), Error> {
        let folder = self.folder();
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("flush", folder))
    }

    fn names(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let names = folder
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort_unstable();
        names
    }

    /// When the newest one was begun, in seconds since 1970.
    pub fn newest(&self) -> Option<u64> {
        self.names().last().and_then(|name| time_of(name))
    }

    /// Those that there are, the oldest first.
    pub fn list(&self) -> Vec<Held> {
        let held = |name: String| Held {
            note: self.note(&name),
            name,
        };
        self.names().into_iter().map(held).collect()
    }

    /// The note of one.
    ///
    /// # Errors
    /// There is no such dump, or its note or size is not what was written, in a sentence.
    pub fn note(&self, name: &str) -> Result<Note, String> {
        let path = self.path(name);
        if !is_name(name) || !path.exists() {
            return Err(format!("there is no dump {name} of {}", self.unit));
        }
        let damaged = |what: String| format!("the dump {name} is damaged: {what}; choose another one");
        let text = fs::read(self.note_path(name)).map_err(|e| damaged(format!("its note: {e}")))?;
        let note: Note = serde_json::from_slice(&text).map_err(|e| damaged(format!("its note: {e}")))?;
        let bytes = fs::metadata(&path).map_err(|e| damaged(e.to_string()))?.len();
        if bytes != note.bytes {
            return Err(damaged(format!(
                "it has {bytes} bytes and was made with {}",
                note.bytes
            )));
        }
        Ok(note)
    }

    /// The note of one that was read as a whole and is what was written.
    ///
    /// # Errors
    /// As [`Dumps::note`].
    pub fn check(&self, name: &str) -> Result<Note, String> {
        let note = self.note(name)?;
        let found = digest(&self.path(name)).map_err(|e| format!("the dump {name} cannot be read: {e}"))?;
        match found == note.sha256 {
            true => Ok(note),
            false => Err(format!(
                "the dump {name} is damaged: it is not what was written; choose another one"
            )),
        }
    }

    /// Begins one: its file, and how much may come into it. What an interruption left goes.
    ///
    /// # Errors
    /// There is too little room, or one of this second; or the disk's.
    pub fn begin(&self, name: &str) -> Result<(File, Room), Error> {
        private_folder(&self.config.dumps())?;
        private_folder(&self.folder())?;
        self.sweep();
        let folder = self.folder();
        let (size, free) = of_disk(&folder)?;
        let newest = self.list().pop().and_then(|held| held.note.ok()).map(|note| note.bytes);
        let room = room(size, free, newest).map_err(Error::State)?;
        if self.path(name).exists() {
            return Err(Error::State("a dump was begun in this second; try again".into()));
        }
        let path = self.new_path(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        Ok((file.map_err(Error::io("make", path))?, room))
    }

    /// Gives a dump that was written its name, once all of it is on the disk, and removes the oldest ones beyond `keep`.
    ///
    /// # Errors
    /// Nothing was written; or the disk's. Then there is nothing of it.
    pub fn finish(&self, name: &str, version: &StateVersion, appliance: &str, keep: u32) -> Result<Note, Error> {
        let new = self.new_path(name);
        let finished = self.put(name, &new, version, appliance);
        match &finished {
            Ok(_) => self.thin(keep),
            Err(_) => self.discard(name),
        }
        finished
    }

    fn put(&self, name: &str, new: &Path, version: &StateVersion, appliance: &str) -> Result<Note, Error> {
        let read = |path: &Path| -> io::Result<(u64, String)> {
            let file = File::open(path)?;
            file.sync_all()?;
            Ok((file.metadata()?.len(), digest(path)?))
        };
        let (bytes, sha256) = read(new).map_err(Error::io("read", new))?;
        if bytes == 0 {
            return Err(Error::State("the command wrote nothing".into()));
        }
        let note = Note {
            version: version.clone(),
            appliance: appliance.to_owned(),
            bytes,
            sha256,
        };
        let text = serde_json::to_vec(&note).unwrap_or_default();
        write_atomically(&self.note_path(name), &text, 0o600)?;
        fs::rename(new, self.path(name)).map_err(Error::io("rename", new))?;
        self.sync()?;
        Ok(note)
    }

    /// Removes one that is not whole.
    pub fn discard(&self, name: &str) {
        let _ = fs::remove_file(self.new_path(name));
        if !self.path(name).exists() {
            let _ = fs::remove_file(self.note_path(name));
        }
    }

    /// Removes the oldest ones.
    fn thin(&self, keep: u32) {
        let names = self.names();
        let beyond = names
            .len()
            .saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX).max(1));
        for name in names.iter().take(beyond) {
            // The dump first: a note alone is no dump.
            if fs::remove_file(self.path(name)).is_ok() {
                let _ = fs::remove_file(self.note_path(name));
            }
        }
    }

    /// Removes what interruptions left.
    pub fn sweep(&self) {
        let Ok(folder) = fs::read_dir(self.folder()) else {
            return;
        };
        for name in folder
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            let lone = |name: &str| name.strip_suffix(".json").is_some_and(|dump| !self.path(dump).exists());
            if name.ends_with(".new") || lone(&name) {
                let _ = fs::remove_file(self.folder().join(&name));
            }
        }
    }
}

/// The SHA-256 of a file, in hexadecimal.
fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => break,
            length => hash.update(&block[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NAMES: [&str; 4] = [
        "20260101T020000Z",
        "20260102T020000Z",
        "20260103T020000Z",
        "20260104T020000Z",
    ];

    fn world() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data")).unwrap();
        let config = Config::below(dir.path());
        (dir, config)
    }

    fn make(dumps: &Dumps<'_>, name: &str, keep: u32) -> Note {
        dumps.begin(name).unwrap().0.write_all(name.as_bytes()).unwrap();
        dumps.finish(name, &StateVersion::number(2), "1.0.0", keep).unwrap()
    }

    fn names(dumps: &Dumps<'_>) -> Vec<String> {
        dumps.list().into_iter().map(|held| held.name).collect()
    }

    #[test]
    fn a_name_is_a_time_and_nothing_else_is_a_name() {
        assert_eq!(name_of(1_769_896_800), "20260131T220000Z");
        assert_eq!(time_of("20260131T220000Z"), Some(1_769_896_800));
        for other in [
            "",
            "before",
            "20260131T220000Z.new",
            "20261331T220000Z",
            "../../etc/shadow",
            "20260131X220000Z",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn a_whole_dump_has_its_name_a_note_and_no_reader_but_root() {
        let (_dir, config) = world();
        let dumps = Dumps::of(&config, "db");
        let note = make(&dumps, NAMES[0], 7);
        assert_eq!((note.bytes, note.version.as_number()), (16, Some(2)));
        assert_eq!(dumps.check(NAMES[0]), Ok(note));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dumps.path(NAMES[0])), 0o600);
        assert_eq!(mode(&config.dumps().join("db")), 0o700);
        assert_eq!(dumps.newest(), time_of(NAMES[0]));
    }

    #[test]
    fn the_oldest_goes_only_after_a_new_one_is_whole() {
        let (_dir, config) = world();
        let dumps = Dumps::of(&config, "db");
        make(&dumps, NAMES[0], 2);
        make(&dumps, NAMES[1], 2);
        let begun = dumps.begin(NAMES[2]).unwrap();
        assert_eq!(names(&dumps), NAMES[..2]);
        drop(begun);
        let empty = dumps.finish(NAMES[2], &StateVersion::default(), "1", 2).unwrap_err();
        assert_eq!(empty.to_string(), "the command wrote nothing");
        assert_eq!(names(&dumps), NAMES[..2]);
        make(&dumps, NAMES[3], 2);
        assert_eq!(names(&dumps), [NAMES[1], NAMES[3]]);
        let files = fs::read_dir(config.dumps().join("db")).unwrap().count();
        assert_eq!(files, 4, "notes go with their dumps");
    }

    #[test]
    fn what_an_interruption_left_is_no_dump_and_goes() {
        let (_dir, config) = world();
        let dumps = Dumps::of(&config, "db");
        drop(dumps.begin(NAMES[0]).unwrap());
        // The power went after the note and before the name.
        fs::write(dumps.note_path(NAMES[0]), "{}").unwrap();
        assert!(names(&dumps).is_empty());
        drop(dumps.begin(NAMES[1]).unwrap());
        assert!(!dumps.new_path(NAMES[0]).exists() && !dumps.note_path(NAMES[0]).exists());
    }

    #[test]
    fn a_dump_that_is_not_what_was_written_is_refused() {
        let (_dir, config) = world();
        let dumps = Dumps::of(&config, "db");
        make(&dumps, NAMES[0], 7);
        fs::write(dumps.path(NAMES[0]), "20260101T020000X").unwrap();
        assert!(dumps.note(NAMES[0]).is_ok());
        assert!(dumps.check(NAMES[0]).unwrap_err().contains("not what was written"));
        fs::write(dumps.path(NAMES[0]), "short").unwrap();
        let why = dumps.note(NAMES[0]).unwrap_err();
        assert!(why.contains("it has 5 bytes and was made with 16"), "{why}");
        assert_eq!(dumps.note("x").unwrap_err(), "there is no dump x of db");
    }
}

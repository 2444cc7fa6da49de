//! What is noted of a unit's state: which version it has, who wrote it, and whether that version was kept.

use std::fs;
use std::io;
use std::path::Path;

use cairn_config::write_atomically;
use cairn_unit::StateVersion;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The note's name in the state's folder. No folder of a unit can have it: their names begin with no dot.
const NAME: &str = ".cairn";

/// What is noted of a state, in its own folder: so it is copied, takes a place and is put back with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its version.
    pub version: StateVersion,
    /// The version of the appliance that it was last started by.
    pub appliance: String,
    /// It may give way to the state of before without asking: the version of the appliance that migrated it has not been kept yet, or its
    /// owner has given it up.
    #[serde(default)]
    pub unproved: bool,
    /// When it took the place of the state of before, in seconds since 1970; 0 if it never did.
    #[serde(default)]
    pub since: u64,
    /// The version of the appliance whose steps made it of the state of before; empty if none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The request for the restore that made it of a dump; 0 if none did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restored: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Record {
    /// Reads that of the state in a folder; `None` if the state was made before there were any.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written: then the state's version is not known, and nobody may guess.
    pub fn read(folder: &Path) -> Result<Option<Record>, Error> {
        read(&folder.join(NAME))
    }

    /// Writes it, whole at any moment.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Ok(write_atomically(&folder.join(NAME), &text, 0o600)?)
    }
}

/// How often steps were begun and cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// So often.
    pub count: u32,
    /// By this version of the appliance.
    pub appliance: String,
}

impl Tries {
    /// Reads it; none where there is no such file, or none that can be read: it only counts.
    pub fn read(path: &Path) -> Tries {
        read(path).ok().flatten().unwrap_or_default()
    }

    /// Writes it, whole at any moment.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Ok(write_atomically(path, &text, 0o600)?)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::State(format!(
            "which version its state has cannot be known: {} is damaged ({e}); nothing was changed; put the state back from a copy",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_note_is_refused_and_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let record = Record {
            version: "11.8".parse().unwrap(),
            appliance: "1.0.0".into(),
            unproved: true,
            since: 7,
            by: "1.0.0".into(),
            restored: 0,
        };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record));
        for damaged in ["", "{}", r#"{"version": "x", "appliance": "1"}"#] {
            fs::write(dir.path().join(NAME), damaged).unwrap();
            let why = Record::read(dir.path()).unwrap_err().to_string();
            assert!(why.contains("which version its state has cannot be known"), "{why}");
        }
    }
}

//! What a successor must know of one log to go on exactly where a killed manager was: a small file in `/run`, written before what
//! it tells of is done.
//!
//! A write of less than a page into memory is done or not: a kill does not cut it.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// All notes are as long, so that a shorter one leaves nothing of the one before.
const LENGTH: usize = 1024;

/// The file of one note.
#[derive(Debug)]
pub(super) struct NoteFile(File);

impl NoteFile {
    /// Opens it, and reads what stands there; what cannot be read is as good as nothing.
    pub(super) fn open<T: DeserializeOwned>(path: &Path) -> Result<(NoteFile, Option<T>), Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(Error::io("open", path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(Error::io("read", path))?;
        Ok((NoteFile(file), serde_json::from_slice(&text).ok()))
    }

    /// Writes it. There is nobody to tell of a failure: without the note a kill at this moment has some lines stored twice.
    pub(super) fn write(&self, note: &impl Serialize) {
        let mut text = serde_json::to_vec(note).unwrap_or_default();
        text.resize(LENGTH.max(text.len()), b' ');
        let _ = self.0.write_all_at(&text, 0);
    }
}

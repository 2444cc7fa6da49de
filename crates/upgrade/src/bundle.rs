//! A release in one file, `.cairn`: a tar archive of the repository's own files that it needs, by the same names. The pack comes last and whole,
//! so that a bundle can also be unpacked into a folder and served.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::source::{Piece, Source, Stream, check_name};

/// More files than any bundle has.
const MAX_FILES: usize = 4096;

/// A bundle that lies on a disk.
#[derive(Debug)]
pub struct Bundle {
    file: Arc<File>,
    /// Where each file's content is: start and length.
    files: BTreeMap<String, (u64, u64)>,
}

impl Bundle {
    /// Opens it and finds its files.
    ///
    /// # Errors
    /// It is not a bundle, or is cut off.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let wrong = |why: &str| {
            Error::Untrusted(format!(
                "{} is not a whole bundle ({why}); copy it again",
                path.display()
            ))
        };
        let mut archive = tar::Archive::new(&file);
        let mut files = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(|e| wrong(&e.to_string()))? {
            let entry = entry.map_err(|e| wrong(&e.to_string()))?;
            let name = entry
                .path()
                .map_err(|e| wrong(&e.to_string()))?
                .to_string_lossy()
                .into_owned();
            let (start, size) = (entry.raw_file_position(), entry.size());
            if start.checked_add(size).is_none_or(|end| end > length) {
                return Err(wrong("it is cut off"));
            }
            if files.len() >= MAX_FILES || files.insert(name, (start, size)).is_some() {
                return Err(wrong("it holds too many files, or one twice"));
            }
        }
        if files.is_empty() {
            return Err(wrong("it is empty"));
        }
        Ok(Self {
            file: Arc::new(file),
            files,
        })
    }
}

impl Source for Bundle {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        check_name(name)?;
        let (start, length) = self.files.get(name).copied().ok_or_else(|| Error::Fetch {
            name: name.to_owned(),
            why: "the bundle does not hold it".into(),
            absent: true,
        })?;
        Ok(Box::new(Piece::within(self.file.clone(), start, length, range)))
    }
}

/// Writes a bundle.
pub struct Writer<W: Write>(tar::Builder<W>);

impl<W: Write> Writer<W> {
    /// Into this.
    pub fn new(to: W) -> Self {
        Self(tar::Builder::new(to))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Those of what is written to or read from.
    pub fn add(&mut self, name: &str, length: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.0
            .append_data(&mut header, PathBuf::from(name), content.take(length))
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of what is written to.
    pub fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

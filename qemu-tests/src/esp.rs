//! The ESP of a disk that is not running, changed from outside, as by somebody with another machine.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::disk;
use crate::error::HarnessError;

/// The Discoverable Partitions Specification's type.
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// Gives a boot entry another name.
///
/// # Errors
/// When there is none of that name, or the disk cannot be written.
pub fn rename_entry(image: &Path, from: &str, to: &str) -> Result<(), HarnessError> {
    let found = disk::find(image, ESP)?;
    let rename = || -> io::Result<()> {
        let file = File::options().read(true).write(true).open(image)?;
        let stretch = Stretch {
            file,
            start: found.start,
            length: found.length,
            at: 0,
        };
        let files = fatfs::FileSystem::new(stretch, fatfs::FsOptions::new().update_accessed_date(false))?;
        {
            let folder = files.root_dir().open_dir("EFI/Linux")?;
            folder.rename(from, &folder, to)?;
        }
        files.unmount()
    };
    rename().map_err(HarnessError::io("rename a boot entry of", image))
}

/// A partition as a file of its own.
struct Stretch {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Stretch {
    fn within(&mut self, wanted: usize) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        Ok(left.min(wanted))
    }
}

impl Read for Stretch {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.within(into.len())?;
        let read = self.file.read(&mut into[..length])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Stretch {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = self.within(from.len())?;
        let written = self.file.write(&from[..length])?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Stretch {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

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
    within(image, |folder| folder.rename(from, folder, to)).map_err(HarnessError::io("rename a boot entry of", image))
}

/// Gives a boot entry another content, which is no longer than it was.
///
/// # Errors
/// When there is none of that name, or the disk cannot be written.
pub fn change_entry(image: &Path, entry: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), HarnessError> {
    let changed = within(image, |folder| {
        let mut file = folder.open_file(entry)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        change(&mut content);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&content)?;
        file.truncate()?;
        file.flush()
    });
    changed.map_err(HarnessError::io("change a boot entry of", image))
}

type Folder<'a> = fatfs::Dir<'a, Stretch>;

/// Does something in the folder of the boot entries.
fn within(image: &Path, what: impl FnOnce(&Folder<'_>) -> io::Result<()>) -> io::Result<()> {
    let found = disk::find(image, ESP).map_err(io::Error::other)?;
    let file = File::options().read(true).write(true).open(image)?;
    let stretch = Stretch {
        file,
        start: found.start,
        length: found.length,
        at: 0,
    };
    let options = fatfs::FsOptions::new().update_accessed_date(false).time_provider(&Then);
    let files = fatfs::FileSystem::new(stretch, options)?;
    what(&files.root_dir().open_dir("EFI/Linux")?)?;
    files.unmount()
}

/// The time of changed files, the same each time. Without one fatfs writes month 0, and firmware then refuses to rename the file.
#[derive(Debug)]
struct Then;

impl fatfs::TimeProvider for Then {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date {
            year: 2026,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        fatfs::DateTime {
            date: self.get_current_date(),
            time: fatfs::Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
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

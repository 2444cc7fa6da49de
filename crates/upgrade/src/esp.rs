//! The folder of boot entries on the mounted ESP. Every change is on the disk when it returns.
//!
//! vfat cannot rename safely: name, length and first cluster reach the disk in several sectors, in any order, so that a power cut leaves both
//! names, none, or a new one of an empty file. A new entry is therefore not renamed into being. It is written under its own name with zeros for
//! its first sector, by which systemd-boot takes it for no program and passes over it; when the rest is on the disk and was read back, that one
//! sector makes it an entry.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use crate::entries::{Entry, EntryName, root_of};
use crate::error::Error;

/// The bytes at the start of a file that a disk writes whole or not at all. Without them a UKI has no PE header.
pub const HEAD_SECTOR: usize = 512;
/// The most bytes of a UKI's start in which its command line is looked for: it comes before kernel and initrd.
const HEAD: u64 = 4 << 20;

/// The folder with the entries.
pub trait Entries {
    /// All that lies there.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> io::Result<Vec<Entry>>;
    /// The bytes that could be written.
    ///
    /// # Errors
    /// The file system's.
    fn free(&self) -> io::Result<u64>;
    /// Reads a piece of a file.
    ///
    /// # Errors
    /// The file system's.
    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Removes a file, if it is there. Its first sector goes first: what is written in its place later never begins with an old program's.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&mut self, file: &str) -> io::Result<()>;
    /// Writes a piece of a file, which is made if need be.
    ///
    /// # Errors
    /// The file system's.
    fn write_at(&mut self, file: &str, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Has a file and its name on the disk, and its content out of memory, so that it is read back from the disk.
    ///
    /// # Errors
    /// The file system's.
    fn settle(&mut self, file: &str) -> io::Result<()>;
    /// Writes the first sector of a file that is on the disk already: all of it is there afterwards, or nothing has changed.
    ///
    /// # Errors
    /// The file system's.
    fn write_head(&mut self, file: &str, head: &[u8; HEAD_SECTOR]) -> io::Result<()>;
    /// Gives a file another name, which must be free, and has that on the disk. After a power cut the file may have both names, or neither.
    ///
    /// # Errors
    /// The name is taken (`EEXIST`), or the file system's.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
}

/// The folder below the ESP's mount point.
#[derive(Debug)]
pub struct EspFolder(PathBuf);

impl EspFolder {
    /// That of the ESP mounted at `esp`.
    pub fn new(esp: &Path) -> Self {
        Self(esp.join("EFI/Linux"))
    }

    /// Has the folder and all of the file system on the disk: vfat writes its table of clusters on its own time otherwise.
    fn sync(&self) -> io::Result<()> {
        let folder = File::open(&self.0)?;
        folder.sync_all()?;
        Ok(rustix::fs::syncfs(&folder)?)
    }
}

impl Entries for EspFolder {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        for found in fs::read_dir(&self.0)? {
            let found = found?;
            let file = found.file_name().to_string_lossy().into_owned();
            let Some(name) = EntryName::parse(&file) else { continue };
            let mut head = Vec::new();
            // An entry that cannot be read is one without a root.
            let _ = File::open(found.path()).and_then(|f| f.take(HEAD).read_to_end(&mut head));
            let (size, root) = (found.metadata()?.len(), root_of(&head));
            all.push(Entry { name, file, size, root });
        }
        all.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(all)
    }

    fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.0)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.0.join(file))?.read_exact_at(into, offset)
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        let path = self.0.join(file);
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(found) if found.len() >= HEAD_SECTOR as u64 => self.write_head(file, &[0; HEAD_SECTOR])?,
            _ => {}
        }
        fs::remove_file(&path)?;
        self.sync()
    }

    fn write_at(&mut self, file: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(offset == 0)
            .open(self.0.join(file))?;
        if offset == 0 {
            return (&file).write_all(data);
        }
        file.write_all_at(data, offset)
    }

    fn settle(&mut self, file: &str) -> io::Result<()> {
        let file = File::open(self.0.join(file))?;
        file.sync_all()?;
        self.sync()?;
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn write_head(&mut self, file: &str, head: &[u8; HEAD_SECTOR]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.0.join(file))?;
        file.write_all_at(head, 0)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let folder = File::open(&self.0)?;
        rustix::fs::renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE)?;
        // The new name has no content before the file's own data about itself is written: that comes before the old name goes.
        File::open(self.0.join(to))?.sync_all()?;
        self.sync()
    }
}

/// The entry that boots this root: the running one, if the root is.
pub fn entry_of<'a>(entries: &'a [Entry], root: &cairn_disk::verity::RootHash) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.root == Some(*root))
}

/// Gives an entry another state by its name.
///
/// # Errors
/// The name is taken, or the ESP cannot be written.
pub fn mark(folder: &mut dyn Entries, entry: &Entry, state: &EntryName) -> Result<(), Error> {
    let to = state.file();
    if entry.file == to {
        return Ok(());
    }
    let renamed = folder.rename(&entry.file, &to);
    renamed.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Wrong(format!(
            "the boot entry {} cannot be renamed: there is a {to} beside it; remove one of them from the ESP",
            entry.file
        )),
        _ => Error::Io {
            doing: "rename the boot entry",
            path: entry.file.clone().into(),
            source,
        },
    })
}

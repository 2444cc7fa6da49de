//! The folder of boot entries on the mounted ESP. Every change is one operation that a power cut leaves done or not done, and is on the disk
//! when it returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use crate::entries::{Entry, EntryName, root_of};
use crate::error::Error;

/// The new UKI while it is written. systemd-boot looks at `.efi` only.
pub const TEMPORARY: &str = "upgrade.tmp";
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
    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&mut self, file: &str) -> io::Result<()>;
    /// Writes a piece of a file, which is made if need be.
    ///
    /// # Errors
    /// The file system's.
    fn write_at(&mut self, file: &str, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Has a file on the disk, and out of memory, so that it is read back from the disk.
    ///
    /// # Errors
    /// The file system's.
    fn settle(&mut self, file: &str) -> io::Result<()>;
    /// Gives a file another name, which must be free, and has that on the disk.
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
        let abandoned = fs::metadata(self.0.join(TEMPORARY)).map_or(0, |m| m.len());
        Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_add(abandoned))
    }

    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.0.join(file))?.read_exact_at(into, offset)
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.sync(),
        }
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
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let folder = File::open(&self.0)?;
        rustix::fs::renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE)?;
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

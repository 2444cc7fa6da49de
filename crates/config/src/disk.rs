//! Writing files so that a power cut at any moment leaves the old or the new content whole.
//!
//! Every change is a temporary file with its content on the disk, a rename, and the folder on the disk. The few operations
//! that this takes are a trait, so that tests can lose power between any two of them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::Error;

/// How a temporary file's name ends. Nobody reads such a file; the next write of the same path removes it.
const TEMPORARY: &str = ".new";

/// The operations by which files are read and changed.
pub trait Disk {
    /// A file's content.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, sorted; none if the folder is not there. Temporary files are not among them.
    ///
    /// # Errors
    /// It cannot be read.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder that only its owner may enter, and those above it that are missing; on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be made.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a file anew in place of one that may be there. Its content is on the disk when this returns; its name only after
    /// [`Disk::sync_folder`].
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;

    /// Gives a file another name, in place of what may have it.
    ///
    /// # Errors
    /// It cannot.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there, or cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns when what was done to a folder's names is on the disk.
    ///
    /// # Errors
    /// The disk's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Waits until nobody else changes what is in a folder; it is let go when what this gives is dropped.
    ///
    /// # Errors
    /// The folder is not there.
    fn lock(&self, folder: &Path) -> io::Result<Option<File>>;
}

/// The machine's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real;

impl Disk for Real {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.retain(|name| !name.ends_with(TEMPORARY));
        names.sort_unstable();
        Ok(names)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let above = parent(path);
        self.make_folder(above)?;
        match DirBuilder::new().mode(0o700).create(path) {
            // Somebody else was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }?;
        self.sync_folder(above)
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<File>> {
        let folder = File::open(folder)?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
        Ok(Some(folder))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// The name under which the content of `path` is written before it is whole.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

/// A folder only for its owner, with its parents.
///
/// # Errors
/// It cannot be made.
pub fn private_folder(path: &Path) -> Result<(), Error> {
    Real.make_folder(path).map_err(Error::io("make the folder", path))
}

/// Replaces `path` as a whole: temporary file, fsync, rename, fsync of the folder. The caller holds the folder's lock, or is
/// the only one that writes there.
///
/// # Errors
/// The disk's; then `path` is as it was, or has its new content and may lose it in a power cut.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = temporary(path);
    disk.create(&temporary, bytes, mode)
        .and_then(|()| disk.rename(&temporary, path))
        .and_then(|()| disk.sync_folder(parent(path)))
        .map_err(Error::io("write", path))
}

/// Replaces `path` as a whole, also while others write in the same folder.
///
/// # Errors
/// As [`put`].
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let _alone = Real.lock(parent(path)).map_err(Error::io("write", path))?;
    put(&Real, path, bytes, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Model;
    use std::os::unix::fs::PermissionsExt as _;

    fn world() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        (dir, path)
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_no_temporary() {
        let (dir, path) = world();
        write_atomically(&path, b"one", 0o644).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_broken_write_left_is_neither_read_nor_in_the_way() {
        let (_dir, path) = world();
        write_atomically(&path, b"old", 0o600).unwrap();
        fs::write(temporary(&path), "half").unwrap();
        assert_eq!(Real.names(parent(&path)).unwrap(), ["a.toml"]);
        write_atomically(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!temporary(&path).exists());
    }

    #[test]
    fn names_that_differ_only_in_their_ending_do_not_share_a_temporary() {
        assert_ne!(temporary(Path::new("/f/a.toml")), temporary(Path::new("/f/a.json")));
    }

    #[test]
    fn writers_of_one_file_take_turns_and_each_leaves_it_whole() {
        let (dir, path) = world();
        std::thread::scope(|scope| {
            for letter in *b"abcd" {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_atomically(path, &vec![letter; 50_000], 0o600).unwrap();
                        let read = fs::read(path).unwrap();
                        assert_eq!(read.len(), 50_000);
                        assert!(read.iter().all(|byte| *byte == read[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_made_with_its_parents_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        private_folder(&path).unwrap();
        private_folder(&path).unwrap();
        for folder in [&path, path.parent().unwrap()] {
            assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let refused = private_folder(&dir.path().join("file/c")).unwrap_err().to_string();
        assert!(refused.starts_with("cannot make the folder "), "{refused}");
    }

    #[test]
    fn a_power_cut_at_any_moment_leaves_the_old_or_the_new_content() {
        let path = Path::new("/f/a");
        let disk = Model::default();
        disk.make_folder(Path::new("/f")).unwrap();
        put(&disk, path, b"old content", 0o600).unwrap();
        let before = disk.crashes().len();
        put(&disk, path, b"new content", 0o600).unwrap();
        assert!(disk.all_durable(), "a write that has returned could be lost");
        let mut seen = std::collections::BTreeSet::new();
        for state in disk.crashes().into_iter().skip(before) {
            let left = Model::after(state);
            seen.insert(left.read(path).unwrap());
            put(&left, path, b"third", 0o600).unwrap();
            assert_eq!(left.read(path).unwrap(), b"third");
        }
        assert_eq!(seen, [b"old content".to_vec(), b"new content".to_vec()].into());
    }
}

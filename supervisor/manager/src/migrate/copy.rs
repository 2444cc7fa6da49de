//! A folder's copy with all that a program can see of it: owners, modes, times, extended attributes (ACLs and capabilities are some), links of both
//! kinds, holes. Data is shared where the file system can (`FICLONE`), else copied.
//!
//! The unit does not run meanwhile. Nothing follows a link: what lies here was written by a service.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    copy_file_range, fchmod, fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr, fstat,
    fstatvfs, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat, seek, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Error;

/// What a state must leave free beside its copy: the steps write, too.
const SPARE: u64 = 64 << 20;
/// So much is copied between two looks at whether to stop.
const PIECE: usize = 16 << 20;

/// What a folder holds, or what of it was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and folders, a file with several names once.
    pub files: u64,
}

/// Copies the folder `from` to `to`, which must not be there, until `stop` says not to go on. It is not flushed.
///
/// # Errors
/// There is too little room, in a sentence; or the file system's. A part may be there then.
pub fn copy(from: &Path, to: &Path, stop: &dyn Fn() -> bool) -> Result<Copied, Error> {
    let failed = |what| Error::io(what, from);
    let source = open_folder(CWD, from.as_os_str()).map_err(failed("open"))?;
    mkdirat(CWD, to, Mode::RWXU).map_err(Error::io("make the folder", to))?;
    let target = open_folder(CWD, to.as_os_str()).map_err(Error::io("open", to))?;
    let mut all = Copied::default();
    measure(&source, &mut all, &mut BTreeMap::new()).map_err(failed("measure"))?;
    room(&target, all)?;
    let mut job = Job {
        stop,
        names: BTreeMap::new(),
        target: target.try_clone().map_err(Error::io("open", to))?,
    };
    job.folder(&source, &target, Path::new("")).map_err(failed("copy"))?;
    Ok(all)
}

/// Whether the copy has room.
fn room(target: &OwnedFd, needed: Copied) -> Result<(), Error> {
    let place = Path::new("/data/state");
    let found = fstatvfs(target).map_err(Error::io("look at the room on", place))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let clones = clones(target).unwrap_or(false);
    let bytes = if clones { 0 } else { needed.bytes / 10 * 11 }.saturating_add(SPARE);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    if bytes > free {
        return Err(Error::State(format!(
            "its state ({} MiB) is copied before it is changed, which needs {} MiB, and the data partition has {} MiB left; nothing was changed; \
             free {} MiB and start it again",
            mib(needed.bytes),
            mib(bytes),
            free >> 20,
            mib(bytes - free)
        )));
    }
    // A file system that makes inodes as it needs them counts none.
    if found.f_files != 0 && needed.files.saturating_add(1024) > found.f_favail {
        return Err(Error::State(format!(
            "its state ({} files) is copied before it is changed, and the data partition has room for {} more; nothing was changed; remove \
             files that nobody needs and start it again",
            needed.files, found.f_favail
        )));
    }
    Ok(())
}

/// Whether files of this folder's file system can share their data.
fn clones(folder: &OwnedFd) -> io::Result<bool> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = || openat(folder, c".", flags, Mode::RUSR | Mode::WUSR);
    let (one, other) = (file()?, file()?);
    rustix::io::write(&one, &[1; 4096])?;
    Ok(ioctl_ficlone(&other, &one).is_ok())
}

fn open_folder(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// The names in a folder.
fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            all.push(name.to_owned());
        }
    }
    all.sort();
    Ok(all)
}

fn look(folder: &OwnedFd, name: &CStr) -> io::Result<Stat> {
    Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn measure(folder: &OwnedFd, all: &mut Copied, seen: &mut BTreeMap<(u64, u64), ()>) -> io::Result<()> {
    for name in names(folder)? {
        let found = look(folder, &name)?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if !is_folder && found.st_nlink > 1 && seen.insert((found.st_dev, found.st_ino), ()).is_some() {
            continue;
        }
        all.files += 1;
        all.bytes += u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512);
        if is_folder {
            measure(&open_folder(folder, OsStr::from_bytes(name.to_bytes()))?, all, seen)?;
        }
    }
    Ok(())
}

fn times(of: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(of.st_atime, of.st_atime_nsec),
        last_modification: time(of.st_mtime, of.st_mtime_nsec),
    }
}

fn owner(of: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(of.st_uid)), Some(Gid::from_raw(of.st_gid)))
}

/// Owner, attributes, mode and times. The mode after the owner, since a change of owner takes set-id bits away.
fn attributes(from: &OwnedFd, to: &OwnedFd, of: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(of);
    fchown(to, uid, gid)?;
    for name in attribute_names(from)? {
        let name = name.as_c_str();
        let mut value = vec![0; fgetxattr_query(from, name)?];
        // A buffer of no length would only ask for the length again.
        let length = if value.is_empty() {
            0
        } else {
            fgetxattr(from, name, &mut value[..])?
        };
        fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    fchmod(to, Mode::from_raw_mode(of.st_mode & 0o7777))?;
    Ok(futimens(to, &times(of))?)
}

fn attribute_names(of: &OwnedFd) -> io::Result<Vec<CString>> {
    let length = match flistxattr_query(of) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut list = vec![0u8; length];
    let length = if list.is_empty() {
        0
    } else {
        flistxattr(of, &mut list[..])?
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| CString::new(name).map_err(io::Error::other)).collect()
}

/// The data of a file, with its holes.
fn data(from: &OwnedFd, to: &OwnedFd, length: u64, stop: &dyn Fn() -> bool) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    ftruncate(to, length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(from, SeekFrom::Data(at)) {
            // Only a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            other => other?,
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(length);
        let (mut read, mut write) = (start, start);
        while read < end {
            if stop() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the unit is stopped"));
            }
            let piece = usize::try_from(end - read).unwrap_or(PIECE).min(PIECE);
            if copy_file_range(from, Some(&mut read), to, Some(&mut write), piece)? == 0 {
                break;
            }
        }
        at = end.max(at + 1);
    }
    Ok(())
}

struct Job<'a> {
    stop: &'a dyn Fn() -> bool,
    /// Files with several names: what was copied under which.
    names: BTreeMap<(u64, u64), PathBuf>,
    /// The copy's folder.
    target: OwnedFd,
}

impl Job<'_> {
    /// Copies what is in a folder, then what the folder itself is.
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<()> {
        for name in names(from)? {
            if (self.stop)() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the unit is stopped"));
            }
            let found = look(from, &name)?;
            let inside = path.join(OsStr::from_bytes(name.to_bytes()));
            let kind = FileType::from_raw_mode(found.st_mode);
            if kind != FileType::Directory && found.st_nlink > 1 {
                let key = (found.st_dev, found.st_ino);
                if let Some(other) = self.names.get(&key) {
                    linkat(&self.target, other, to, &name, AtFlags::empty())?;
                    continue;
                }
                self.names.insert(key, inside.clone());
            }
            match kind {
                FileType::Directory => {
                    mkdirat(to, &name, Mode::RWXU)?;
                    let own = OsStr::from_bytes(name.to_bytes());
                    self.folder(&open_folder(from, own)?, &open_folder(to, own)?, &inside)?;
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let source = openat(from, &name, flags, Mode::empty())?;
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    let target = openat(to, &name, flags, Mode::RUSR | Mode::WUSR)?;
                    data(&source, &target, u64::try_from(found.st_size).unwrap_or(0), self.stop)?;
                    attributes(&source, &target, &found)?;
                }
                FileType::Symlink => {
                    let text = readlinkat(from, &name, Vec::new())?;
                    symlinkat(&text, to, &name)?;
                    other(to, &name, &found)?;
                }
                // Sockets and pipes; the data partition knows no devices.
                _ => {
                    let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
                    mknodat(to, &name, kind, mode, found.st_rdev)?;
                    other(to, &name, &found)?;
                    rustix::fs::chmodat(to, &name, mode, AtFlags::empty())?;
                }
            }
        }
        attributes(from, to, &fstat(from)?)
    }
}

/// Owner and times of what cannot be opened.
fn other(folder: &OwnedFd, name: &CStr, of: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(of);
    chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(folder, name, &times(of), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Flushes the file system that a folder lies on.
pub(super) fn flush(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    fn go_on() -> bool {
        false
    }

    #[test]
    fn a_copy_has_all_that_can_be_seen_of_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/one"), "text").unwrap();
        fs::hard_link(from.join("a/one"), from.join("a/b/same")).unwrap();
        symlink("/etc/passwd", from.join("a/link")).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"x", 5 << 20).unwrap();
        sparse.set_len(9 << 20).unwrap();
        mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        rustix::fs::setxattr(from.join("a/one"), c"user.kind", b"v", XattrFlags::empty()).unwrap();
        fs::set_permissions(from.join("a/one"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o3700)).unwrap();
        let old = Timespec {
            tv_sec: 1_000_000,
            tv_nsec: 5,
        };
        for name in ["a/one", "a/link", "a/b"] {
            let both = Timestamps {
                last_access: old,
                last_modification: old,
            };
            utimensat(CWD, from.join(name), &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(from.join("a/link"), Some(101), Some(102)).unwrap();
        }

        let copied = copy(&from, &to, &go_on).unwrap();
        assert_eq!(copied.files, 6, "the file with two names counts once");
        for name in ["", "a", "a/b", "a/one", "a/b/same", "a/link", "sparse", "pipe"] {
            let seen = |base: &Path| {
                let found = fs::symlink_metadata(base.join(name)).unwrap();
                (
                    found.mode(),
                    found.uid(),
                    found.gid(),
                    found.mtime(),
                    found.mtime_nsec(),
                )
            };
            assert_eq!(seen(&from), seen(&to), "{name}");
        }
        let found = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(found("a/one").ino(), found("a/b/same").ino());
        assert_ne!(
            found("a/one").ino(),
            fs::symlink_metadata(from.join("a/one")).unwrap().ino()
        );
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(
            fs::read(to.join("sparse")).unwrap(),
            fs::read(from.join("sparse")).unwrap()
        );
        assert!(found("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(to.join("a/one"), c"user.kind", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"v");
    }

    #[test]
    fn a_copy_that_is_stopped_ends_at_once_and_one_does_not_take_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a")).unwrap();
        let why = copy(&from, &to, &|| true).unwrap_err().to_string();
        assert!(why.contains("the unit is stopped"), "{why}");
        assert!(copy(&from, &to, &go_on).is_err(), "what is there is not mixed with");
    }

    #[test]
    fn too_little_room_is_told_before_anything_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open_folder(CWD, dir.path().as_os_str()).unwrap();
        let free = fstatvfs(&folder).unwrap();
        if clones(&folder).unwrap_or(false) {
            return;
        }
        let bytes = free.f_bavail * free.f_frsize;
        let why = room(&folder, Copied { bytes, files: 1 }).unwrap_err().to_string();
        assert!(
            why.contains("is copied before it is changed, which needs") && why.contains("nothing was changed; free"),
            "{why}"
        );
        room(&folder, Copied { bytes: 1, files: 1 }).unwrap();
    }
}

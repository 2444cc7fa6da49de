//! Builds the sandbox's file tree, by descriptors only: every mount is made detached and moved onto a place that was looked
//! up inside the new root, so no symbolic link in a service's own files can lead a mount elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid, fchmod, fchown, mkdirat, mknodat, openat,
    openat2, statat, statx, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::mounts::{Mount, Root};
use crate::network::Network;
use crate::plan::Plan;
use crate::report::Failure;
use crate::sys::{self, ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY};

/// What `/dev` of a sandbox has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A part of the host's tree, detached, with the attributes that it will have inside.
pub(crate) fn open_source(
    path: &Path,
    recursive: bool,
    attributes: u64,
    ids: Option<&OwnedFd>,
) -> Result<OwnedFd, Failure> {
    let mount = clone(CWD, path, recursive).map_err(|error| match error {
        Errno::NOENT => Failure::new("bind", path, "the source is missing; create it or correct the plan"),
        Errno::INVAL if !recursive => Failure::new(
            "bind",
            path,
            "other file systems are mounted below the source; bind it with recursive = true",
        ),
        error => Failure::new("bind", path, error),
    })?;
    sys::mount_setattr(&mount, recursive, attributes, ids).map_err(|error| match ids {
        Some(_) => Failure::new(
            "idmap",
            path,
            format!("{error}; its file system must support id-mapped mounts"),
        ),
        None => Failure::new("bind", path, error),
    })?;
    Ok(mount)
}

/// The sources of a plan in the order in which [`build`] takes them: the root's tree, then each bind.
pub(crate) fn open_sources(plan: &Plan, ids: Option<&OwnedFd>) -> impl Iterator<Item = Result<OwnedFd, Failure>> {
    let root = match &plan.root {
        Root::Tree { path, idmapped } => Some(open_source(
            path,
            false,
            ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV,
            ids.filter(|_| *idmapped),
        )),
        Root::Empty => None,
    };
    let binds = plan.mounts.iter().filter_map(move |mount| match mount {
        Mount::Bind {
            source,
            read_only,
            idmapped,
            recursive,
            exec,
            suid,
            ..
        } => {
            let attributes = ATTR_NO_DEV
                | if *read_only { ATTR_READ_ONLY } else { 0 }
                | if *exec { 0 } else { ATTR_NO_EXEC }
                | if *suid { 0 } else { ATTR_NO_SUID };
            Some(open_source(source, *recursive, attributes, ids.filter(|_| *idmapped)))
        }
        _ => None,
    });
    root.into_iter().chain(binds)
}

/// Makes the tree of `plan` from the sources that [`open_sources`] gave, and makes it `/`; the host's is gone afterwards.
pub(crate) fn build(plan: &Plan, mut sources: impl Iterator<Item = OwnedFd>) -> Result<(), Failure> {
    let at = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: Errno| Failure::new(step, path, error)
    };
    let slash = Path::new("/");
    let old = openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(at("pivot-root", slash))?;
    // Files of the plan lie on a tmpfs of their own, which must be mounted somewhere to take binds from it (before Linux
    // 6.15); below the new root it goes away with the host's tree.
    let files = if plan.mounts.iter().any(|mount| matches!(mount, Mount::File { .. })) {
        let files = tmpfs(&[("mode", "0700"), ("size", "16m")], MountAttrFlags::empty()).map_err(at("file", slash))?;
        stack(&files, &old).map_err(at("file", slash))?;
        Some(files)
    } else {
        None
    };
    let root = match &plan.root {
        Root::Tree { path, .. } => sources.next().ok_or_else(|| missing(path))?,
        Root::Empty => {
            tmpfs(&[("mode", "0755"), ("size", "1m")], MountAttrFlags::empty()).map_err(at("root", slash))?
        }
    };
    stack(&root, &old).map_err(at("root", slash))?;

    let mut tree = Tree {
        root,
        files,
        written: 0,
        freeze: Vec::new(),
        covers: [None, None],
    };
    for mount in &plan.mounts {
        tree.add(mount, &mut sources)?;
    }
    // A network that stood before has them already, and is not ours to change.
    if !matches!(plan.network, Network::Joined(_)) {
        for (name, value) in &plan.sysctls {
            tree.sysctl(name, value)?;
        }
    }
    for path in &plan.masked {
        tree.mask(path)?;
    }
    for path in &plan.read_only {
        tree.make_read_only(path)?;
    }
    if plan.root == Root::Empty {
        let attributes = ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV;
        sys::mount_setattr(&tree.root, false, attributes, None).map_err(|error| Failure::new("root", slash, error))?;
    }
    for (mount, path) in &tree.freeze {
        sys::mount_setattr(mount, false, ATTR_READ_ONLY, None).map_err(|error| Failure::new("mount", path, error))?;
    }

    let pivot = at("pivot-root", slash);
    let enter = || {
        rustix::process::fchdir(&tree.root)?;
        rustix::process::pivot_root(".", ".")?;
        // The host's tree now lies on top of the new root, and the files' tmpfs on top of that: one `..` away.
        for _ in 0..8 {
            if mount_id("/..")? == mount_id("/")? {
                return rustix::process::chdir("/");
            }
            unmount("/..", UnmountFlags::DETACH)?;
        }
        Err(Errno::BUSY)
    };
    enter().map_err(pivot)
}

/// Which mount a path leads to.
fn mount_id(path: &str) -> Result<u64, Errno> {
    let known = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    if known.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        Err(Errno::NOTSUP)
    } else {
        Ok(known.stx_mnt_id)
    }
}

struct Tree {
    root: OwnedFd,
    files: Option<OwnedFd>,
    written: u32,
    /// Made read-only when everything lies on them.
    freeze: Vec<(OwnedFd, PathBuf)>,
    /// The first of each [`Cover`], once it is mounted.
    covers: [Option<OwnedFd>; 2],
}

/// What stands in front of something that is not to be seen.
#[derive(Clone, Copy)]
enum Cover {
    File,
    Folder,
}

impl Tree {
    fn add(&mut self, mount: &Mount, sources: &mut impl Iterator<Item = OwnedFd>) -> Result<(), Failure> {
        let target = mount.target();
        let failed = |error: Errno| Failure::new("mount", target, error);
        match mount {
            Mount::Bind { source, .. } => {
                let detached = sources.next().ok_or_else(|| missing(source))?;
                self.attach(&detached, target)
            }
            Mount::Tmpfs {
                size,
                mode,
                uid,
                gid,
                exec,
                ..
            } => {
                let options = [
                    ("size", size.to_string()),
                    ("mode", format!("{mode:o}")),
                    ("uid", uid.to_string()),
                    ("gid", gid.to_string()),
                ];
                let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
                let noexec = if *exec {
                    MountAttrFlags::empty()
                } else {
                    MountAttrFlags::MOUNT_ATTR_NOEXEC
                };
                self.attach(&tmpfs(&options, noexec).map_err(failed)?, target)
            }
            Mount::Proc { .. } => {
                let proc = filesystem("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC).map_err(|error| match error {
                    Errno::PERM => Failure::new(
                        "mount",
                        target,
                        "a new /proc is not permitted; in a container, run it with an unmasked /proc",
                    ),
                    error => failed(error),
                })?;
                self.attach(&proc, target)
            }
            Mount::Dev { shm_size, extra, .. } => self.add_dev(target, *shm_size, extra),
            Mount::File {
                content,
                mode,
                uid,
                gid,
                ..
            } => {
                let failed = |error: Errno| Failure::new("file", target, error);
                let Some(files) = &self.files else {
                    return Err(failed(Errno::NOENT));
                };
                let name = self.written.to_string();
                self.written += 1;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut file = File::from(openat(files, &name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?);
                file.write_all(content.as_bytes())
                    .map_err(|error| Failure::new("file", target, error))?;
                fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid))).map_err(failed)?;
                fchmod(&file, Mode::from_raw_mode(*mode)).map_err(failed)?;
                let detached = clone(files.as_fd(), Path::new(&name), false).map_err(failed)?;
                let attributes = ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC;
                sys::mount_setattr(&detached, false, attributes, None)
                    .map_err(|error| Failure::new("file", target, error))?;
                self.attach(&detached, target)
            }
            Mount::Symlink { to, .. } => {
                let (parent, name) = self.parent(target)?;
                symlinkat(to, parent, name).map_err(|error| Failure::new("symlink", target, error))
            }
        }
    }

    fn add_dev(&mut self, target: &Path, shm_size: Option<u64>, extra: &[PathBuf]) -> Result<(), Failure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: Errno| Failure::new("dev", path, error)
        };
        let dev =
            tmpfs(&[("mode", "0755"), ("size", "64k")], MountAttrFlags::MOUNT_ATTR_NOEXEC).map_err(failed(target))?;
        self.attach(&dev, target)?;
        for (link, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlinkat(to, &dev, link).map_err(failed(&target.join(link)))?;
        }
        let node = |node: &Path| {
            let detached = clone(CWD, node, false).map_err(failed(node))?;
            sys::mount_setattr(&detached, false, ATTR_NO_SUID | ATTR_NO_EXEC, None)
                .map_err(|error| Failure::new("dev", node, error))?;
            Ok(detached)
        };
        // The folder is ours and empty: nothing in it leads elsewhere.
        for name in DEVICES {
            let detached = node(&Path::new("/dev").join(name))?;
            let mode = Mode::from_raw_mode(0o644);
            mknodat(&dev, name, FileType::RegularFile, mode, 0)
                .and_then(|()| below(&detached, &dev, name))
                .map_err(failed(&target.join(name)))?;
        }
        for path in extra {
            self.attach(&node(path)?, &target.join(path.file_name().unwrap_or_default()))?;
        }
        let folder = |name: &str, mount: Result<OwnedFd, Errno>| {
            let placed = mount.and_then(|mount| {
                mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
                below(&mount, &dev, name)
            });
            placed.map_err(failed(&target.join(name)))
        };
        let noexec = MountAttrFlags::MOUNT_ATTR_NOEXEC;
        folder(
            "pts",
            filesystem("devpts", &[("ptmxmode", "0666"), ("mode", "0620")], noexec),
        )?;
        if let Some(size) = shm_size {
            folder("shm", tmpfs(&[("mode", "1777"), ("size", &size.to_string())], noexec))?;
        }
        self.freeze.push((dev, target.to_owned()));
        Ok(())
    }

    /// Writes a setting of the sandbox's own namespaces through its own /proc.
    fn sysctl(&self, name: &str, value: &str) -> Result<(), Failure> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let failed = |error: Errno| Failure::new("sysctl", name, error);
        let file = openat2(
            &self.root,
            inside(&path),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(failed)?;
        File::from(file)
            .write_all(value.as_bytes())
            .map_err(|error| Failure::new("sysctl", name, error))
    }

    fn mask(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::new("mask", path, error);
        let Some(place) = self.protected("mask", path)? else {
            return Ok(());
        };
        let kind = match is_folder(&place).map_err(failed)? {
            true => Cover::Folder,
            false => Cover::File,
        };
        onto(&self.cover(kind).map_err(failed)?, &place).map_err(failed)
    }

    /// What hides a file or a folder. All but the first are copies of the first, which has its attributes already.
    fn cover(&mut self, kind: Cover) -> Result<OwnedFd, Errno> {
        let first = &mut self.covers[kind as usize];
        if let Some(first) = first {
            return clone(first.as_fd(), Path::new(""), false);
        }
        let made = match kind {
            Cover::Folder => {
                let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                tmpfs(&[("mode", "0"), ("size", "4k")], attributes)?
            }
            // Mounted without device nodes, so it cannot even be opened.
            Cover::File => {
                let cover = clone(CWD, Path::new("/dev/null"), false)?;
                let attributes = ATTR_READ_ONLY | ATTR_NO_DEV | ATTR_NO_EXEC | ATTR_NO_SUID;
                sys::mount_setattr(&cover, false, attributes, None)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                cover
            }
        };
        *first = Some(rustix::io::fcntl_dupfd_cloexec(&made, 0)?);
        Ok(made)
    }

    fn make_read_only(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::new("read-only", path, error);
        let Some(place) = self.protected("read-only", path)? else {
            return Ok(());
        };
        let copy = clone(place.as_fd(), Path::new(""), true).map_err(failed)?;
        sys::mount_setattr(&copy, true, ATTR_READ_ONLY, None)
            .map_err(|error| Failure::new("read-only", path, error))?;
        onto(&copy, &place).map_err(failed)
    }

    /// The place of a path to protect; none if it is missing where nothing can make it.
    fn protected(&self, step: &str, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        match self.find(path) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT) if path.starts_with("/proc") => Ok(None),
            Err(error) => Err(Failure::new(step, path, error)),
        }
    }

    fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, inside(path), flags, Mode::empty(), resolve)
    }

    /// Moves a detached mount onto `target`, which is made if missing and possible.
    fn attach(&self, detached: &OwnedFd, target: &Path) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::new("mount", target, error);
        let folder = is_folder(detached).map_err(failed)?;
        let place = match self.find(target) {
            Err(Errno::NOENT) => self.make(target, folder)?,
            place => place.map_err(failed)?,
        };
        onto(detached, &place).map_err(|error| match error {
            Errno::NOTDIR => Failure::new("mount", target, "source and target must both be folders or both files"),
            error => failed(error),
        })
    }

    fn make(&self, target: &Path, folder: bool) -> Result<OwnedFd, Failure> {
        let (parent, name) = self.parent(target)?;
        let made = if folder {
            mkdirat(&parent, name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        made.and_then(|()| self.find(target)).map_err(|error| match error {
            Errno::ROFS => Failure::new(
                "mount",
                target,
                "the target is missing on a read-only root; add it to the root",
            ),
            error => Failure::new("mount", target, error),
        })
    }

    /// The folder that holds `target`, made if missing and possible, and the name in it.
    fn parent<'a>(&self, target: &'a Path) -> Result<(OwnedFd, &'a OsStr), Failure> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Failure::new("mount", target, "is not a path below the root"));
        };
        let place = match self.find(parent) {
            Err(Errno::NOENT) => self.make(parent, true)?,
            place => place.map_err(|error| Failure::new("mount", target, error))?,
        };
        Ok((place, name))
    }
}

fn missing(path: &Path) -> Failure {
    Failure::new("bind", path, "the parent process did not hand over this source")
}

fn inside(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if !rest.as_os_str().is_empty() => rest,
        _ => Path::new("."),
    }
}

fn is_folder(place: &OwnedFd) -> Result<bool, Errno> {
    let mode = statat(place, "", AtFlags::EMPTY_PATH)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Directory)
}

fn clone(folder: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.as_os_str().is_empty());
    open_tree(folder, path, flags)
}

fn onto(detached: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    move_mount(
        detached,
        "",
        place,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Moves a detached mount onto a name in a folder, which is no symbolic link.
fn below(detached: &OwnedFd, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    move_mount(detached, "", folder, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Puts a mount on top of whatever is mounted on the old root.
fn stack(detached: &OwnedFd, old: &OwnedFd) -> Result<(), Errno> {
    onto(detached, old)
}

fn tmpfs(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    filesystem("tmpfs", options, attributes)
}

/// A new file system, detached. Never with set-user-ID, and with device nodes only where the kernel alone makes them:
/// without them a terminal could not be opened.
fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), *name, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let mut attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, kind != "devpts");
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

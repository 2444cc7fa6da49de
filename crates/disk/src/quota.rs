//! Bounds on what a tree may hold, by ext4's project quotas: every file below a folder counts for the folder's project.
//!
//! Formats and constants: ioctl_fsgetxattr in linux/fs.h, quotactl(2) and linux/quota.h. The file system must have been made with the features
//! `quota` and `project` and be mounted with `prjquota`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// A project's number. 0 is the one of everything that has none.
pub type Project = u32;

/// The ioctls and the system call.
#[allow(unsafe_code)]
mod sys {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd as _};

    use nix::libc;

    /// `struct fsxattr`
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Attributes {
        pub(super) flags: u32,
        pub(super) extent: u32,
        pub(super) extents: u32,
        pub(super) project: u32,
        pub(super) cow_extent: u32,
        pub(super) reserved: [u8; 8],
    }

    nix::ioctl_read!(fs_get_xattr, b'X', 31, Attributes);
    nix::ioctl_write_ptr!(fs_set_xattr, b'X', 32, Attributes);

    pub(super) fn attributes(file: impl AsFd) -> io::Result<Attributes> {
        let mut found = Attributes::default();
        // SAFETY: the kernel fills in exactly this structure.
        unsafe { fs_get_xattr(file.as_fd().as_raw_fd(), &raw mut found)? };
        Ok(found)
    }

    pub(super) fn set_attributes(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
        // SAFETY: the kernel reads exactly this structure.
        unsafe { fs_set_xattr(file.as_fd().as_raw_fd(), attributes)? };
        Ok(())
    }

    /// A command about a project of the file system that `file` lies on.
    pub(super) fn quotactl(file: impl AsFd, command: i32, project: u32, block: &mut libc::dqblk) -> io::Result<()> {
        const PROJECTS: i32 = 2;
        let command = (command << 8) | PROJECTS;
        // SAFETY: the commands that are used here read or fill in exactly this structure.
        let result = unsafe {
            libc::syscall(
                libc::SYS_quotactl_fd,
                file.as_fd().as_raw_fd(),
                command,
                project,
                std::ptr::from_mut(block),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    pub(super) fn no_limits() -> libc::dqblk {
        // SAFETY: all zero is a valid value: numbers only.
        unsafe { std::mem::zeroed() }
    }
}

/// FS_XFLAG_PROJINHERIT: what is made in the folder belongs to its project.
const INHERIT: u32 = 0x200;
const GET: i32 = 0x80_0007;
const SET: i32 = 0x80_0008;
/// Quotas count blocks of 1,024 bytes.
const BLOCK: u64 = 1024;

/// What a project may hold: 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// Bytes.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

/// What a project holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Bytes.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

/// Puts a folder and all that it holds into a project; what is made in it later follows. Cheap when it is done already.
///
/// # Errors
/// The file system's; `EOPNOTSUPP` or `ENOTTY` where it knows no projects.
pub fn assign(folder: &Path, project: Project) -> io::Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
    };
    let own = open(folder)?;
    let mut found = sys::attributes(&own)?;
    if found.project == project && found.flags & INHERIT != 0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            assign(&path, project)?;
        } else if kind.is_file() {
            let file = open(&path)?;
            let mut found = sys::attributes(&file)?;
            found.project = project;
            sys::set_attributes(&file, &found)?;
        }
    }
    // The folder last: that it is right says that everything in it is.
    found.project = project;
    found.flags |= INHERIT;
    sys::set_attributes(&own, &found)
}

/// Sets what a project may hold on the file system of `file`, from now on.
///
/// # Errors
/// The file system has no quotas of projects in force (`ESRCH`, `EINVAL`, `ENOSYS`), or it is not ours to set.
pub fn limit(file: impl AsFd, project: Project, bound: Bound) -> io::Result<()> {
    /// QIF_LIMITS
    const LIMITS: u32 = 1 | 4;
    let mut block = sys::no_limits();
    block.dqb_bhardlimit = bound.bytes.div_ceil(BLOCK);
    block.dqb_ihardlimit = bound.files;
    block.dqb_valid = LIMITS;
    sys::quotactl(file, SET, project, &mut block)
}

/// What a project holds and may hold.
///
/// # Errors
/// As [`limit`].
pub fn usage(file: impl AsFd, project: Project) -> io::Result<(Used, Bound)> {
    let mut block = sys::no_limits();
    sys::quotactl(file, GET, project, &mut block)?;
    let used = Used {
        bytes: block.dqb_curspace,
        files: block.dqb_curinodes,
    };
    let bound = Bound {
        bytes: block.dqb_bhardlimit.saturating_mul(BLOCK),
        files: block.dqb_ihardlimit,
    };
    Ok((used, bound))
}

/// The size of the file system that `file` lies on.
///
/// # Errors
/// The file system's.
pub fn size(file: &File) -> io::Result<Bound> {
    let found = rustix::fs::fstatvfs(file)?;
    Ok(Bound {
        bytes: found.f_blocks.saturating_mul(found.f_frsize),
        files: found.f_files,
    })
}

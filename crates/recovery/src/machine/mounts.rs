//! File systems that are mounted for as long as something is done with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Whether a file system is only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub(super) struct Mounted(PathBuf);

static COUNT: AtomicU32 = AtomicU32::new(0);

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

impl Mounted {
    pub(super) fn new(node: &Path, kind: &str, access: Access) -> Result<Self, String> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/run/recovery/{number}"));
        fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let flags = match access {
            Access::Read => SAFE | MsFlags::MS_RDONLY,
            Access::Write => SAFE,
        };
        let options: &[&str] = match (kind, access) {
            ("vfat", _) => &["umask=0077,errors=remount-ro"],
            // A journal that cannot be replayed does not keep what is there from being read.
            ("ext4", Access::Read) => &["", "noload"],
            ("ext4", Access::Write) => &["nodelalloc"],
            _ => &[""],
        };
        let mut why = String::new();
        for options in options {
            match mount(Some(node), &folder, Some(kind), flags, Some(*options)) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) => why = error.desc().to_lowercase(),
            }
        }
        let _ = fs::remove_dir(&folder);
        Err(format!("cannot mount {} ({why})", node.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if umount2(&self.0, MntFlags::empty()).is_err() {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Makes the firmware's variables visible.
pub(super) fn mount_variables(folder: &Path) -> nix::Result<()> {
    mount(Some("efivarfs"), folder, Some("efivarfs"), SAFE, None::<&str>)
}

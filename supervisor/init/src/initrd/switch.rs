//! Leaving the initrd: mounts move, its files go, and the root's own cairn-init takes over.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_move;

use super::SYSROOT;
use super::failure::{Doing as _, Failure};
use crate::{IN_ROOT, mounts};

/// Moves into the root and runs its cairn-init. Returns only if that fails.
pub(crate) fn switch() -> Result<Infallible, Failure> {
    for mount in mounts::TABLE.iter().filter(|mount| mount.early) {
        let mount = mount.target;
        let target = format!("{SYSROOT}{mount}");
        mount_move(mount, &target).doing(|| format!("move {mount} to {target}"))?;
    }
    empty_initrd();
    rustix::process::chdir(SYSROOT).doing(|| format!("enter {SYSROOT}"))?;
    mount_move(SYSROOT, "/").doing(|| "make the root /".to_owned())?;
    rustix::process::chroot(".").doing(|| "chroot into the root".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter /".to_owned())?;
    let error = Command::new(IN_ROOT).env_clear().exec();
    Err(error).doing(|| format!("run {IN_ROOT} in the root"))
}

/// Deletes the initrd's files: they are memory. Nothing is lost if that does not work, and nothing on another
/// file system is touched.
fn empty_initrd() {
    let Ok(root) = fs::metadata("/") else { return };
    // tmpfs or ramfs only: never a disk.
    let magic = rustix::fs::statfs("/").map(|s| s.f_type as u32);
    if matches!(magic, Ok(0x0102_1994 | 0x8584_58f6)) {
        remove_below(Path::new("/"), root.dev());
    }
}

fn remove_below(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            remove_below(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

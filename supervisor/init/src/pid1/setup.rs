//! What PID 1 prepares before anything runs: the mounts that are missing, cgroups, a few kernel settings.
//!
//! A step that fails is told on the console and left: a machine that is up with a fault is better than none.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::console::say;
use crate::mounts::{CGROUPS, TABLE};

/// Mounts what is not there yet.
pub(super) fn mounts() {
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_mounted = |target: &str| mounted.lines().any(|l| l.split(' ').nth(4) == Some(target));
    for mount in &TABLE {
        if is_mounted(mount.target) {
            continue;
        }
        // Folders in /dev must be made; elsewhere this fails where the folder is there already or cannot be.
        let _ = fs::create_dir(mount.target);
        if let Err(error) = mount.mount()
            && !mount.optional
        {
            say!("cannot mount {} at {}: {error}", mount.kind, mount.target);
        }
    }
}

/// Makes our cgroups, moves us into ours, and returns the manager's. They have no controllers yet.
pub(super) fn cgroups() -> Option<OwnedFd> {
    let result = || -> std::io::Result<OwnedFd> {
        let own = Path::new(CGROUPS).join("cairn");
        for name in ["init", "manager"] {
            fs::create_dir_all(own.join(name))?;
        }
        fs::write(own.join("init/cgroup.procs"), "0")?;
        Ok(File::open(own.join("manager"))?.into())
    };
    match result() {
        Ok(manager) => Some(manager),
        Err(error) => {
            say!("cannot set up cgroups in {CGROUPS}: {error}");
            None
        }
    }
}

/// Gives the cgroups their controllers. The kernel waits for all processors in this, a fifth of a second on a slow machine.
pub(super) fn controllers() {
    let root = Path::new(CGROUPS);
    for folder in [root, &root.join("cairn")] {
        if let Err(error) = enable_controllers(folder) {
            say!("cannot enable cgroup controllers in {}: {error}", folder.display());
        }
    }
}

/// All at once, which is one wait in the kernel instead of one each; if that fails one by one, so that a controller
/// that cannot be enabled does not take the others with it.
fn enable_controllers(folder: &Path) -> std::io::Result<()> {
    let names = fs::read_to_string(folder.join("cgroup.controllers"))?;
    let control = folder.join("cgroup.subtree_control");
    let all: Vec<String> = names.split_whitespace().map(|name| format!("+{name}")).collect();
    if fs::write(&control, all.join(" ")).is_ok() {
        return Ok(());
    }
    for name in all {
        if let Err(error) = fs::write(&control, &name) {
            say!(
                "cannot enable cgroup controller {name} in {}: {error}",
                folder.display()
            );
        }
    }
    Ok(())
}

/// Settings of the kernel and of this process.
pub(super) fn settings() {
    // If the kernel itself dies, it starts again instead of standing still.
    let _ = fs::write("/proc/sys/kernel/panic", "10");
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    crate::set_module_helper(crate::IN_ROOT);
    // Ctrl-Alt-Del then reaches us as SIGINT.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
}

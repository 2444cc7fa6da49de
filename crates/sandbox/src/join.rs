//! Enters a running sandbox: the helper joins its namespaces, and its child becomes the command.
//!
//! The child is not a child of the sandbox's first process, which goes on as if nothing had happened; it only reaps what
//! the command leaves behind. Nothing of the host is open in the child but the three streams, and until it has become the
//! command no one inside can look into it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use landlock::{BitFlags, Scope};
use nix::libc;
use nix::sys::prctl;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::child::{die_with_helper, give_up};
use crate::confine::{self, Rules};
use crate::enter::Enter;
use crate::helper::{Setup, namespace_flags};
use crate::plan::Ids;
use crate::report::Failure;
use crate::{command, sys};

/// The namespaces by their names below `/proc/PID/ns`.
const NAMES: [(&str, i32); 8] = [
    ("mnt", libc::CLONE_NEWNS),
    ("user", libc::CLONE_NEWUSER),
    ("pid", libc::CLONE_NEWPID),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
    ("net", libc::CLONE_NEWNET),
];

/// Joins the sandbox's namespaces, all at once or not at all. The host's tree is gone afterwards; of the process ids only
/// a child's are the sandbox's.
pub(crate) fn join(enter: &Enter) -> Result<(), Failure> {
    let what = format!("process {}", enter.pid);
    let failed = |error: &dyn std::fmt::Display| Failure::new("enter", &what, error);
    let process = sys::pidfd_open(enter.pid).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => failed(&"it has ended"),
        _ => failed(&error),
    })?;
    let wanted = namespace_flags(&enter.command());
    look(enter, wanted)?;
    // It still runs, so what was read by its number was its own.
    if ended(&process).map_err(|error| failed(&error))? {
        return Err(failed(&"it has ended"));
    }
    // Before anything inside can see this process.
    prctl::set_dumpable(false).map_err(|error| failed(&error))?;
    let flags = ThreadNameSpaceType::from_bits_retain(wanted as u32);
    move_into_thread_name_spaces(process.as_fd(), flags).map_err(|error| failed(&error))?;
    drop(process);
    // Every sandbox's root is mounted like this. The host's is not, and is what a sandbox has until it is built.
    let root = rustix::fs::statvfs("/").map_err(|error| Failure::new("enter", "/", error))?;
    let like = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
    if !root.f_flag.contains(like) {
        return Err(failed(
            &"its root is not a sandbox's; enter when it has executed its command",
        ));
    }
    Ok(())
}

/// Makes sure that the process belongs to the unit and has namespaces of its own where the plan says so.
fn look(enter: &Enter, wanted: u64) -> Result<(), Failure> {
    let proc = Path::new("/proc").join(enter.pid.to_string());
    let path = proc.join("cgroup");
    let text = fs::read_to_string(&path).map_err(|error| Failure::new("enter", &path, error))?;
    let cgroup =
        unified(&text).ok_or_else(|| Failure::new("enter", &path, "there is no unified hierarchy (cgroup2)"))?;
    let inside = cgroup == enter.cgroup || (enter.cgroup != Path::new("/") && cgroup.starts_with(&enter.cgroup));
    if !inside {
        let why = format!("{}, not in {}", cgroup.display(), enter.cgroup.display());
        return Err(Failure::new(
            "enter",
            path,
            format!("the process is in {why}; it is not the unit's"),
        ));
    }
    for (name, _) in NAMES.iter().filter(|(_, flag)| wanted & *flag as u64 != 0) {
        let path = proc.join("ns").join(name);
        let link = |path: &Path| fs::read_link(path).map_err(|error| Failure::new("enter", path, error));
        if link(&path)? == link(&Path::new("/proc/self/ns").join(name))? {
            return Err(Failure::new(
                "enter",
                path,
                "it is the host's, though the sandbox has its own; enter a process of the sandbox",
            ));
        }
    }
    Ok(())
}

/// The process's place in the unified hierarchy, from `/proc/PID/cgroup`.
fn unified(text: &str) -> Option<&Path> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new)
}

fn ended(process: &OwnedFd) -> Result<bool, rustix::io::Errno> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    Ok(poll(&mut watched, Some(&at_once))? > 0)
}

/// The child: gives up everything that the command does not need, and becomes it.
pub(crate) fn run(setup: &Setup, enter: &Enter, socket: &OwnedFd) -> ! {
    let failure = match rules(setup, enter).and_then(|rules| command::execute(setup, rules)) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    give_up(setup, socket, failure)
}

fn rules(setup: &Setup, enter: &Enter) -> Result<Rules, Failure> {
    die_with_helper(setup.mode)?;
    if let Ids::Range { .. } = enter.ids {
        confine::become_user(0, 0, Some(&[]))?;
        die_with_helper(setup.mode)?;
    }
    let grants = enter.landlock.as_deref();
    grants.map(|grants| confine::rules(grants, scope(enter))).transpose()
}

/// What Landlock has to keep inside because no namespace does.
fn scope(enter: &Enter) -> BitFlags<Scope> {
    let mut scope = BitFlags::empty();
    if !enter.namespaces.pid {
        scope |= Scope::Signal;
    }
    if !enter.own_network {
        scope |= Scope::AbstractUnixSocket;
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        let text = "9:name=systemd:/a\n4:memory:/b\n0::/units/web\n";
        assert_eq!(unified(text), Some(Path::new("/units/web")));
        assert_eq!(unified("4:memory:/b\n"), None);
    }
}

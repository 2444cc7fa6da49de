//! The end: stop what still runs, unmount what can be, switch off. Nothing here allocates.

use std::ffi::CStr;
use std::fmt::Write as _;

use nix::sys::signal::Signal;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::{Init, Reaped, SECOND, read_file};
use crate::console::{Text, say};
use crate::protocol::PowerKind;
use crate::{initrd, sys, times};

/// Every process but us, for kill(2).
const ALL: i32 = -1;
/// How long to wait for processes after SIGKILL; one that survives it hangs in the kernel.
const AFTER_KILL: u64 = 10 * SECOND;
/// How often to say what is being waited for.
const SAY: u64 = 3 * SECOND;
/// Room for the list of mounts.
pub(super) const MOUNTS_ROOM: usize = 128 * 1024;
/// The longest path that is unmounted.
const PATH: usize = 4096;

/// Ends this boot. `deadline_ms` is how long processes have between SIGTERM and SIGKILL.
pub(super) fn run(init: &mut Init, kind: PowerKind, deadline_ms: u32) -> ! {
    say!("stopping: {}", name(kind));
    init.forget_manager();
    stop_processes(init, u64::from(deadline_ms) * 1_000_000);
    // Nothing feeds the watchdog while a slow disk is written to. It is left armed, so that a shutdown that hangs ends too.
    init.watchdog.be_patient();
    rustix::fs::sync();
    if init.options.mounts {
        init.watchdog.feed();
        unmount_all(&mut init.mounts_room);
        initrd::verity::remove_unused();
    }
    init.watchdog.feed();
    rustix::fs::sync();
    if !init.options.mounts {
        // A test or a user instance: ending PID 1 ends its namespace.
        say!("{} allocations after start", sys::allocations_after_seal());
        std::process::exit(match kind {
            PowerKind::PowerOff => 0,
            PowerKind::Reboot => 64,
            PowerKind::Halt => 65,
        });
    }
    use rustix::system::{RebootCommand, reboot};
    say!("{}", name(kind));
    loop {
        let _ = reboot(match kind {
            PowerKind::PowerOff => RebootCommand::PowerOff,
            PowerKind::Reboot => RebootCommand::Restart,
            PowerKind::Halt => RebootCommand::Halt,
        });
        // Only a kernel that cannot switch off gets here; the watchdog, if there is one, ends it.
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Goes through what a shutdown reads and prints, without doing it: its code and its buffers are then in memory.
pub(super) fn rehearse(mounts_room: &mut [u8]) {
    let mut mounts = 0;
    for_mounts(mounts_room, |_| mounts += 1);
    let mut line = Text::<256>::new();
    let _ = write!(line, "{mounts} mounts, {} s", times::now() / SECOND);
    write_waiting(&mut line);
    std::hint::black_box(&line);
}

fn name(kind: PowerKind) -> &'static str {
    match kind {
        PowerKind::PowerOff => "switching off",
        PowerKind::Reboot => "starting again",
        PowerKind::Halt => "halting",
    }
}

fn stop_processes(init: &mut Init, patience: u64) {
    sys::send_signal(ALL, Signal::SIGTERM);
    // A stopped process cannot act on SIGTERM.
    sys::send_signal(ALL, Signal::SIGCONT);
    if wait_for_children(init, patience, None) {
        return;
    }
    say!("killing what did not stop in {} s", patience / SECOND);
    if !wait_for_children(init, AFTER_KILL, Some(Signal::SIGKILL)) {
        say!("some processes cannot be killed; going on without them");
    }
}

/// Reaps until no process is left: orphans become our children, so having none means that nothing runs.
fn wait_for_children(init: &mut Init, patience: u64, again: Option<Signal>) -> bool {
    let start = times::now();
    let mut say_at = start + SAY;
    loop {
        if let Some(signal) = again {
            // A process may have forked while it was being killed.
            sys::send_signal(ALL, signal);
        }
        if init.reap_all() == Reaped::NoChildren {
            return true;
        }
        let now = times::now();
        if now >= start + patience {
            return false;
        }
        if now >= say_at {
            say_at = now + SAY;
            say_waiting((start + patience - now) / SECOND);
        }
        init.watchdog.tick(now);
        // What they say on their way out, as far as that comes from the manager.
        init.hear(now);
        init.pause((start + patience - now).min(SECOND / 5));
    }
}

/// One line: who is still there.
fn say_waiting(seconds: u64) {
    let mut line = Text::<256>::new();
    write_waiting(&mut line);
    let names = str::from_utf8(line.as_bytes()).unwrap_or("");
    say!("waiting {seconds} s more for{names}");
}

fn write_waiting(line: &mut Text<256>) {
    let mut pids = [0u8; 256];
    let read = read_file(c"/proc/1/task/1/children", &mut pids);
    for pid in pids[..read].split(|b| *b == b' ').filter(|p| !p.is_empty()).take(6) {
        let Ok(pid) = str::from_utf8(pid) else { continue };
        let path = Text::<40>::format(format_args!("/proc/{pid}/comm\0"));
        let mut comm = [0u8; 32];
        let length = CStr::from_bytes_with_nul(path.as_bytes()).map_or(0, |path| read_file(path, &mut comm));
        let comm = str::from_utf8(comm[..length].trim_ascii_end()).unwrap_or("?");
        let _ = write!(line, " {comm} ({pid})");
    }
}

/// Unmounts from the last mount to the first, again and again until nothing changes; what is left is made read-only.
fn unmount_all(room: &mut [u8]) {
    let _ = rustix::process::chdir(c"/");
    loop {
        let mut progress = false;
        for_mounts(room, |path| progress |= unmount(path, UnmountFlags::NOFOLLOW).is_ok());
        if !progress {
            break;
        }
    }
    for_mounts(room, |path| {
        if mount_remount(path, MountFlags::RDONLY, c"").is_ok() && path.to_bytes() == b"/data" {
            say!("/data is in use; made it read-only");
        }
    });
}

/// Calls `each` for every mount point that may go, the last one first.
fn for_mounts(room: &mut [u8], mut each: impl FnMut(&CStr)) {
    let length = read_file(c"/proc/self/mountinfo", room);
    for line in room[..length].rsplit(|b| *b == b'\n') {
        let Some(field) = line.split(|b| *b == b' ').nth(4) else {
            continue;
        };
        // The root cannot go while we run from it; these three serve us to the end.
        if matches!(field, b"/" | b"/proc" | b"/dev" | b"/sys") {
            continue;
        }
        let mut path = [0u8; PATH];
        let length = unescape(field, &mut path[..PATH - 1]);
        if let Ok(path) = CStr::from_bytes_with_nul(&path[..=length]) {
            each(path);
        }
    }
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\OOO`. Returns the length.
fn unescape(field: &[u8], into: &mut [u8]) -> usize {
    let (mut at, mut length) = (0, 0);
    while let (Some(byte), Some(slot)) = (field.get(at), into.get_mut(length)) {
        let octal = |i: usize| field.get(at + i).and_then(|b| b.checked_sub(b'0')).filter(|d| *d < 8);
        (*slot, at) = match (byte, octal(1), octal(2), octal(3)) {
            (b'\\', Some(a), Some(b), Some(c)) => ((a & 3) << 6 | b << 3 | c, at + 4),
            _ => (*byte, at + 1),
        };
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        let mut into = [0u8; 64];
        let length = unescape(br"/data/a\040b\134c", &mut into);
        assert_eq!(&into[..length], br"/data/a b\c");
        let length = unescape(br"/x\04", &mut into);
        assert_eq!(&into[..length], br"/x\04");
        let length = unescape(&[b'a'; 100], &mut into);
        assert_eq!(length, 64);
    }

    #[test]
    fn the_list_of_mounts_is_walked_without_the_root() {
        let mut room = vec![0; MOUNTS_ROOM];
        let mut seen = Vec::new();
        for_mounts(&mut room, |path| seen.push(path.to_owned()));
        assert!(!seen.iter().any(|p| p.as_bytes() == b"/" || p.as_bytes() == b"/proc"));
    }
}

//! The raw system calls that nix and rustix lack. The only unsafe code of the crate; nothing here decides anything.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};

use nix::errno::Errno;
use nix::libc;
use seccompiler::BpfProgram;

use crate::plan::{Resource, Rlimit};

pub(crate) const ATTR_READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const ATTR_NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(crate) const ATTR_NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
pub(crate) const ATTR_NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Proof that this process has one thread, which forking without exec needs: the child has no other thread and would find
/// locks held for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SingleThread(());

impl SingleThread {
    /// Counts the threads; none if there are more. Whoever holds the proof starts no thread.
    pub(crate) fn prove() -> io::Result<Option<Self>> {
        Ok((std::fs::read_dir("/proc/self/task")?.count() == 1).then_some(Self(())))
    }

    /// Forks with clone3: 0 in the child, the child's process id in the parent.
    pub(crate) fn fork(self, flags: u64, exit_signal: i32) -> io::Result<i32> {
        // SAFETY: all zero is a valid clone_args: no stack of its own, no pointers.
        let mut args: libc::clone_args = unsafe { zeroed() };
        args.flags = flags;
        args.exit_signal = exit_signal as u64;
        // SAFETY: args is valid for its size; callers pass namespace flags and CLONE_PARENT only, so the child has its own
        // copy of this stack and of the heap; there is one thread, as proven.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
        Ok(check(pid)? as i32)
    }
}

/// Takes over an open descriptor by number.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads the descriptor table only.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and callers name descriptors that are handed over by number and owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// dup2 without the close-on-exec flag.
pub(crate) fn dup_to(source: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: no memory is touched; callers only pick targets that no owned descriptor has.
    check(unsafe { libc::dup2(source, target) }.into()).map(drop)
}

/// A copy of a descriptor numbered `least` or higher, closed on exec.
pub(crate) fn dup_above(source: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let number = check(unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, least) }.into())?;
    // SAFETY: just made, so owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Closes, or marks for closing on exec, every descriptor from `first` up.
pub(crate) fn close_from(first: RawFd, on_exec: bool) -> io::Result<()> {
    let flags = if on_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no memory is touched; callers close only before they own descriptors in the range, or on exec.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }).map(drop)
}

/// Sets attributes of the mount whose root `mount` is, cuts it off from what is mounted and unmounted where it came from, and
/// shifts its owners by a user namespace if given.
pub(crate) fn mount_setattr(mount: impl AsFd, recursive: bool, set: u64, ids: Option<&OwnedFd>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set | if ids.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: ids.map_or(0, |ids| ids.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and attr is valid for its size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// From now on, also beyond exec, no memory of this process is writable and executable, and none that was writable becomes
/// executable (Documentation/userspace-api/mdwe, linux/prctl.h).
pub(crate) fn refuse_writable_code() -> io::Result<()> {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    // SAFETY: plain numbers; it changes what later mappings may be, none that is there.
    check(unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) }.into())?;
    Ok(())
}

/// Installs a system call filter on this thread.
pub(crate) fn seccomp(program: &BpfProgram) -> io::Result<()> {
    install(program, 0).map(drop)
}

/// Installs a system call filter on this thread that asks about calls; gives the listener that hears of them. Once it has
/// heard, a call waits for its answer whatever signal comes but SIGKILL, so that a service sees no `EINTR` that it would not see
/// otherwise (Linux 5.19).
pub(crate) fn seccomp_listener(program: &BpfProgram) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let number = install(program, flags)?;
    // SAFETY: with NEW_LISTENER the result is a descriptor, just made, so owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

fn install(program: &BpfProgram, flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: seccompiler's sock_filter has the kernel's layout (repr(C)); the kernel only reads it, during the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    })
}

/// Takes one call that waits for an answer. `ENOENT`: the caller has gone meanwhile.
pub(crate) fn notification(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    // SAFETY: all zero is a valid value, and what the kernel demands.
    let mut call: libc::seccomp_notif = unsafe { zeroed() };
    // SAFETY: call is valid for writing and has the size that the request's number carries.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) }.into())?;
    Ok(call)
}

/// Whether a call still waits: what was read of its process was its own.
pub(crate) fn still_waits(listener: &OwnedFd, id: u64) -> bool {
    // Direction and size: a number to the kernel (linux/seccomp.h; libc lacks this one on some machines).
    const ID_VALID: libc::c_ulong = 0x4008_2102;
    // SAFETY: id is valid for reading and has the size that the request's number carries.
    unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID as _, &raw const id) == 0 }
}

/// Lets a call that waits be done by the kernel as if there was no filter.
pub(crate) fn let_pass(listener: &OwnedFd, id: u64) -> io::Result<()> {
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        },
    )
}

/// Ends a call that waits with what it gives back.
pub(crate) fn answer(listener: &OwnedFd, id: u64, given: Result<i64, Errno>) -> io::Result<()> {
    let (val, error) = match given {
        Ok(value) => (value, 0),
        Err(error) => (0, -(error as i32)),
    };
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags: 0,
        },
    )
}

fn send(listener: &OwnedFd, mut answer: libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: answer is valid and has the size that the request's number carries.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) }.into())?;
    Ok(())
}

/// Reads and steers the machine's clock by a `struct __kernel_timex` (208 bytes): the clock's state.
pub(crate) fn adjust_clock(timex: &mut [u64; 26]) -> Result<i32, Errno> {
    // SAFETY: timex is valid for reading and writing, aligned, and as large as the kernel's structure.
    let state = unsafe { libc::syscall(libc::SYS_clock_adjtime, libc::CLOCK_REALTIME, timex.as_mut_ptr()) };
    Errno::result(state).map(|state| state as i32)
}

fn resource(resource: Resource) -> libc::__rlimit_resource_t {
    match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    }
}

/// Sets a limit of a process, 0 for this one.
pub(crate) fn set_limit(pid: i32, limit: &Rlimit) -> io::Result<()> {
    let new = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: new is valid, the old value is not asked for.
    check(unsafe { libc::prlimit64(pid, resource(limit.resource), &raw const new, null_mut()) }.into()).map(drop)
}

/// The (soft, hard) limit of a process, 0 for this one.
pub(crate) fn limit(pid: i32, which: Resource) -> io::Result<(u64, u64)> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: old is valid for writing, no new value is given.
    check(unsafe { libc::prlimit64(pid, resource(which), null(), &raw mut old) }.into())?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// Blocks every signal of this thread.
pub(crate) fn block_signals() {
    // SAFETY: all zero is a valid signal set, filled before use; the old mask is not asked for.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, null_mut());
    }
}

/// Gives every signal its default action and unblocks all. Also those that the C library keeps for itself: its posix_spawn
/// leaves them ignored, so they are set past it.
pub(crate) fn reset_signals() {
    /// The kernel's sigaction: handler, flags, restorer and mask, all zero for the default action.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: the action is valid for reading and no older one is asked for; 8 is the size of a mask. Signals that
        // cannot be set answer with an error that means nothing here.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                null_mut::<u64>(),
                8usize,
            );
        }
    }
    // SAFETY: the set is filled before use; the old mask is not asked for.
    unsafe {
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

/// A signal that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It came with a number, by [`queue`], from outside of this pid namespace.
    Told(i32),
    /// Any other.
    Signal(i32),
}

/// The signal that [`queue`] sends: one that services hardly use.
fn telling() -> i32 {
    libc::SIGRTMAX() - 1
}

/// Waits for any (blocked) signal and takes it.
pub(crate) fn next_signal() -> io::Result<Taken> {
    // SAFETY: the set is filled before use; the kernel fills in the details, of which the sender and the value are read only
    // where sigqueue(3) has set them.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        let mut details: libc::siginfo_t = zeroed();
        libc::sigfillset(&raw mut all);
        let signal = check(libc::sigwaitinfo(&raw const all, &raw mut details).into())? as i32;
        if signal == telling() && details.si_code == libc::SI_QUEUE && details.si_pid() == 0 {
            return Ok(Taken::Told(details.si_value().sival_ptr as usize as i32));
        }
        Ok(Taken::Signal(signal))
    }
}

/// The next number that was told by [`queue`] and waits to be taken.
pub(crate) fn told() -> Option<i32> {
    // SAFETY: the set is filled before use; the kernel fills in the details, of which sender and value are read only where
    // sigqueue(3) has set them; the time is valid for reading.
    unsafe {
        let (mut one, mut details): (libc::sigset_t, libc::siginfo_t) = (zeroed(), zeroed());
        let at_once: libc::timespec = zeroed();
        libc::sigemptyset(&raw mut one);
        libc::sigaddset(&raw mut one, telling());
        while libc::sigtimedwait(&raw const one, &raw mut details, &raw const at_once) == telling() {
            if details.si_code == libc::SI_QUEUE && details.si_pid() == 0 {
                return Some(details.si_value().sival_ptr as usize as i32);
            }
        }
    }
    None
}

/// Tells a number to the first process of a pid namespace below this one.
pub(crate) fn queue(pid: i32, number: i32) -> io::Result<()> {
    let value = libc::sigval {
        sival_ptr: number as usize as *mut libc::c_void,
    };
    // SAFETY: the value is a number that nobody takes for an address.
    check(unsafe { libc::sigqueue(pid, telling(), value) }.into()).map(drop)
}

/// Sends a signal, any number.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is touched.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// A handle on a process that is not mistaken for a later one.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let number = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: just made, so owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Sends a signal by handle.
pub(crate) fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let info = null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for that of kill.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) }).map(drop)
}

/// Waits for a child: its raw wait status and id; none when `block` is false and none has ended.
pub(crate) fn wait_child(pid: i32, block: bool) -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let flags = if block { 0 } else { libc::WNOHANG };
    // SAFETY: status is valid for writing.
    let pid = check(unsafe { libc::waitpid(pid, &raw mut status, flags) }.into())? as i32;
    Ok((pid != 0).then_some((pid, status)))
}

/// Ends the process at once: no destructors, no exit handlers (they belong to the process this one was forked from).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches nothing.
    unsafe { libc::_exit(code) }
}

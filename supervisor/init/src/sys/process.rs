//! Making processes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

use super::check;

/// What a new process runs.
#[derive(Clone, Copy)]
pub(crate) enum Program<'a> {
    /// An open executable.
    Open(BorrowedFd<'a>),
    /// A path.
    Path(&'a CStr),
}

/// A process to be made.
pub(crate) struct Spawn<'a> {
    pub(crate) program: Program<'a>,
    /// At most six; the program's name first.
    pub(crate) args: &'a [&'a CStr],
    /// The folder of the cgroup it starts in; ours if none.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Which descriptors it gets, from 0 on, without gaps. Each is above all of those numbers.
    pub(crate) fds: &'a [BorrowedFd<'a>],
    /// What goes into its oom_score_adj.
    pub(crate) oom_score: &'a [u8],
}

/// Starts a process and waits until it has run exec or failed to. Allocates nothing.
///
/// The child is a copy of ours until exec (CLONE_VFORK without CLONE_VM), so nothing that it does can harm us.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> Result<(i32, OwnedFd), Errno> {
    const MAX_ARGS: usize = 6;
    if spawn.args.len() > MAX_ARGS || spawn.args.is_empty() {
        return Err(Errno::E2BIG);
    }
    let mut argv = [std::ptr::null(); MAX_ARGS + 1];
    for (slot, arg) in argv.iter_mut().zip(spawn.args) {
        *slot = arg.as_ptr();
    }
    let (report, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;

    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD | libc::CLONE_VFORK) as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = spawn.cgroup {
        // libc's constant is an int, which the value does not fit (linux/sched.h).
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack, like fork; it calls only
    // async-signal-safe functions and never returns from `child`.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        child(spawn, &argv, tell.as_raw_fd());
    }
    drop(tell);
    // SAFETY: clone3 succeeded, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let mut errno = [0u8; 4];
    match nix::unistd::read(&report, &mut errno) {
        Ok(4) => {
            // It never ran the program: nobody needs to hear of its end.
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            while nix::sys::wait::waitpid(pid, None) == Err(Errno::EINTR) {}
            Err(Errno::from_raw(i32::from_ne_bytes(errno)))
        }
        _ => Ok((pid as i32, pidfd)),
    }
}

/// The child's part: descriptors, signals, exec.
fn child(spawn: &Spawn<'_>, argv: &[*const libc::c_char], tell: RawFd) -> ! {
    let environment: [*const libc::c_char; 2] = [c"PATH=/usr/bin:/usr/sbin".as_ptr(), std::ptr::null()];
    // SAFETY: only system calls on memory that the parent prepared; `argv` and `environment` end with null.
    unsafe {
        let fail = |errno: i32| -> ! {
            let bytes = errno.to_ne_bytes();
            libc::write(tell, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        };
        libc::setsid();
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            // Best effort: without /proc (tests) the score is the inherited one.
            libc::write(score, spawn.oom_score.as_ptr().cast(), spawn.oom_score.len());
            libc::close(score);
        }
        for (to, from) in spawn.fds.iter().enumerate() {
            if libc::dup2(from.as_raw_fd(), to as i32) < 0 {
                fail(Errno::last_raw());
            }
        }
        let first = spawn.fds.len() as libc::c_uint;
        if libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) < 0
        {
            fail(Errno::last_raw());
        }
        // Rust's runtime ignores SIGPIPE and we block the signals that we read; neither is to be inherited.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        match spawn.program {
            Program::Path(path) => {
                libc::execve(path.as_ptr(), argv.as_ptr(), environment.as_ptr());
            }
            Program::Open(fd) => {
                libc::syscall(
                    libc::SYS_execveat,
                    fd.as_raw_fd(),
                    c"".as_ptr(),
                    argv.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        fail(Errno::last_raw())
    }
}

/// Runs a program of the new root inside it, and waits for it.
pub(crate) fn run_in_root(root: &Path, args: &[&str]) -> io::Result<ExitStatus> {
    command_in_root(root, args)?.status()
}

/// The same, with what it says.
pub(crate) fn output_in_root(root: &Path, args: &[&str]) -> io::Result<Output> {
    command_in_root(root, args)?.output()
}

/// A program of the new root, with our /dev, /proc, /run and /sys.
fn command_in_root(root: &Path, args: &[&str]) -> io::Result<Command> {
    let [program, args @ ..] = args else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let root = root.to_owned();
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin");
    // There is no udev here: libdevmapper makes its nodes itself.
    command.env("DM_DISABLE_UDEV", "1");
    let enter = move || -> io::Result<()> {
        use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        for folder in ["dev", "proc", "run", "sys"] {
            mount_bind(Path::new("/").join(folder), root.join(folder))?;
        }
        rustix::process::chroot(&root)?;
        rustix::process::chdir("/")?;
        Ok(())
    };
    // SAFETY: we have one thread, so the child may use all of the process, allocation included.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// Sends a signal to a process, or to all but us (-1). One that is gone needs none.
pub(crate) fn send_signal(pid: i32, signal: Signal) {
    // SAFETY: plain values.
    unsafe { libc::syscall(libc::SYS_kill, pid, signal as libc::c_int) };
}

/// A child that has ended and was not reaped yet: it stays so. `None` if all that have ended were reaped.
///
/// # Errors
/// `ECHILD` if there is no child at all.
pub(crate) fn ended_child() -> Result<Option<i32>, Errno> {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one siginfo_t.
    check(unsafe { libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &raw mut info, options, 0) })?;
    // SAFETY: waitid fills in the fields of a child's end, or leaves zeros.
    let pid = unsafe { info.si_pid() };
    Ok((pid > 0).then_some(pid))
}

/// Process settings of PID 1 that its children inherit: umask, file limit.
pub(crate) fn supervise_defaults() {
    const FILES: libc::rlim_t = 524_288;
    let limit = libc::rlimit {
        rlim_cur: FILES,
        rlim_max: FILES,
    };
    // SAFETY: plain values; failure leaves the kernel's defaults, with which we also work.
    unsafe {
        libc::umask(0o022);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

//! The helper process: reads a plan, makes the sandbox's first process, does for it what needs the host's privileges, and
//! steps aside (or waits for it).
//!
//! It must be a process of its own with one thread: `cairn-exec`, or a program that calls [`helper_main`] first thing.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use seccompiler::BpfProgram;

use crate::enter::Enter;
use crate::handover::{self, FAILED};
use crate::job::Job;
use crate::netlink::{Inside, Netlink};
use crate::network::Network;
use crate::plan::{FIRST_LISTEN_FD, Ids, Plan};
use crate::report::{FAILED_EXIT, Failure, Report};
use crate::{child, join, seccomp, standing, sys, tree};

const PLAN_FD: i32 = 3;
const STATUS_FD: i32 = 4;
/// Where descriptors of our own start: above the sockets that are handed on.
const OWN_FDS: i32 = 200;

/// What becomes of the helper when the command has been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It ends with 0; the sandbox's first process is a child of whoever started the helper. For cairn-init.
    Detach,
    /// It waits for the sandbox and ends with its exit code; when it or the other end of the status socket goes away, the
    /// whole sandbox is killed. For tools.
    Wait,
}

/// What the first process needs besides the plan.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    /// The running sandbox that the command enters, instead of one of its own.
    pub(crate) enter: Option<Enter>,
    pub(crate) filters: Vec<BpfProgram>,
    pub(crate) status: OwnedFd,
    pub(crate) mode: Mode,
    pub(crate) single: sys::SingleThread,
}

/// Does the job on descriptor 3 (JSON, a [`Plan`] or an entering, see [`Job`]), reporting on the socket at descriptor 4. Never returns. The exit code is
/// [`FAILED_EXIT`] when a step failed.
pub fn helper_main(mode: Mode) -> ! {
    let code = match prepare(mode) {
        Ok(setup) => {
            let status = setup.status.try_clone();
            match start(setup) {
                Ok(code) => code,
                Err(failure) => {
                    if let Ok(status) = status {
                        report(&status, &Report::Failed(failure));
                    }
                    FAILED_EXIT
                }
            }
        }
        Err(failure) => {
            match sys::adopt(STATUS_FD) {
                Ok(status) => report(&status, &Report::Failed(failure)),
                Err(_) => eprintln!("{failure}"),
            }
            FAILED_EXIT
        }
    };
    std::process::exit(code)
}

/// Tells the reaper of a running sandbox, its first process, that another process in it is the main one from now on: its end is
/// the sandbox's end, and signals go to it. `main` is its number inside. What is no process inside changes nothing.
///
/// # Errors
/// The sandbox has ended, or is not ours to signal.
pub fn set_main(first: i32, main: i32) -> std::io::Result<()> {
    sys::queue(first, main)
}

/// Sends a report; a reader that has gone away is no reason to fail.
pub(crate) fn report(status: &impl AsFd, report: &Report) {
    let _ = send(status, &report.to_line(), SendFlags::NOSIGNAL);
}

fn prepare(mode: Mode) -> Result<Setup, Failure> {
    let plan_failed = |error: &dyn std::fmt::Display| Failure::new("plan", "descriptor 3", error);
    let mut text = Vec::new();
    let mut file = File::from(sys::adopt(PLAN_FD).map_err(|error| plan_failed(&error))?);
    let _ = file.rewind();
    file.read_to_end(&mut text).map_err(|error| plan_failed(&error))?;
    drop(file);
    let (plan, enter) = match Job::parse(&text).map_err(|error| plan_failed(&error))? {
        Job::Start(plan) => (*plan, None),
        Job::Enter { enter } => {
            enter.check()?;
            (enter.command(), Some(*enter))
        }
    };
    plan.check()?;
    let filters = plan
        .seccomp
        .as_ref()
        .map(seccomp::compile)
        .transpose()?
        .unwrap_or_default();
    let single = sys::SingleThread::prove().map_err(|error| Failure::new("threads", "/proc/self/task", error))?;
    let single = single.ok_or_else(|| {
        Failure::new(
            "threads",
            "/proc/self/task",
            "the helper must have one thread; start it first in main",
        )
    })?;

    // Nothing inherited stays open but the standard streams and what the plan lists.
    let listening = FIRST_LISTEN_FD..FIRST_LISTEN_FD + plan.listen_fds.len() as i32;
    let joined = i32::from(matches!(plan.network, Network::Joined(_)));
    sys::close_from(listening.end + joined, false)
        .map_err(|error| Failure::new("descriptors", "close_range", error))?;
    for (number, name) in listening.zip(&plan.listen_fds) {
        let open = sys::adopt(number).map_err(|error| Failure::new("listen-fds", name, error))?;
        let _ = open.into_raw_fd();
    }
    if joined == 1 {
        let network = sys::adopt(FIRST_LISTEN_FD + plan.listen_fds.len() as i32);
        network
            .and_then(|network| Ok(nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?))
            .map_err(|error| Failure::new("network", "the namespace that was handed over", error))?;
    }
    let status = sys::dup_above(STATUS_FD, OWN_FDS).map_err(|error| Failure::new("descriptors", "status", error))?;
    // Descriptors 3 and up become the command's sockets: until then nothing of ours may have these numbers.
    for number in [PLAN_FD, STATUS_FD] {
        let null = File::open("/dev/null").map_err(|error| Failure::new("descriptors", "/dev/null", error))?;
        sys::dup_to(null.as_raw_fd(), number).map_err(|error| Failure::new("descriptors", "/dev/null", error))?;
        if null.as_raw_fd() == number {
            let _ = null.into_raw_fd();
        }
    }
    Ok(Setup {
        plan,
        enter,
        filters,
        status,
        mode,
        single,
    })
}

fn start(setup: Setup) -> Result<i32, Failure> {
    if setup.mode == Mode::Wait {
        // Away from the terminal's signals: whoever asked for the tool decides what Ctrl-C does.
        let _ = rustix::process::setsid();
    }
    if let Some(score) = setup.plan.oom_score_adj {
        let path = "/proc/self/oom_score_adj";
        fs::write(path, score.to_string()).map_err(|error| Failure::new("oom-score", path, error))?;
    }
    if let Some(enter) = &setup.enter {
        // Inside there is no privilege left to raise them with.
        raise_limits(&setup.plan, 0)?;
        join::join(enter)?;
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Failure::new("clone", "socketpair", error))?;
    let (flags, signal) = match setup.mode {
        Mode::Detach => (libc::CLONE_PARENT as u64, 0),
        Mode::Wait => (0, libc::SIGCHLD),
    };
    let new = match setup.enter {
        Some(_) => 0,
        None => namespace_flags(&setup.plan),
    };
    let pid = setup
        .single
        .fork(new | flags, signal)
        .map_err(|error| clone_failed(&setup, error))?;
    if pid == 0 {
        drop(ours);
        match &setup.enter {
            Some(enter) => join::run(&setup, enter, &theirs),
            None => child::run(setup, theirs),
        }
    }
    drop(theirs);
    report(&setup.status, &Report::Pid { pid });
    let provided = match setup.enter {
        Some(_) => Ok(()),
        None => provide(&setup.plan, pid, &ours),
    };
    if provided.is_err() {
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    let failed = handover::await_end(&ours) == Some(FAILED);
    if !failed {
        // If it failed itself, it has said why, and ours is only what followed.
        provided?;
    }
    if !failed && !setup.plan.reaper {
        report(&setup.status, &Report::Execed { execed: true });
    }
    if setup.mode == Mode::Detach {
        return Ok(if failed { FAILED_EXIT } else { 0 });
    }
    let ended = wait(pid, &setup.status)?;
    if !failed && !setup.plan.reaper {
        report(&setup.status, &child::ended(ended));
    }
    Ok(child::exit_code(ended))
}

/// The namespaces that a plan has of its own.
pub(crate) fn namespace_flags(plan: &Plan) -> u64 {
    let wanted = plan.namespaces;
    let flags = [
        (true, libc::CLONE_NEWNS),
        (plan.ids != Ids::Host, libc::CLONE_NEWUSER),
        (wanted.pid, libc::CLONE_NEWPID),
        (wanted.ipc, libc::CLONE_NEWIPC),
        (wanted.uts, libc::CLONE_NEWUTS),
        (wanted.cgroup, libc::CLONE_NEWCGROUP),
        (wanted.time, libc::CLONE_NEWTIME),
        (
            matches!(plan.network, Network::Loopback | Network::Veth(_)),
            libc::CLONE_NEWNET,
        ),
    ];
    flags
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |all, (_, flag)| all | *flag as u64)
}

fn clone_failed(setup: &Setup, error: std::io::Error) -> Failure {
    let plan = &setup.plan;
    let hint = match error.raw_os_error() {
        Some(libc::ENOMEM) if setup.enter.is_some() => "; the sandbox has ended, or memory has run out",
        Some(libc::EPERM) if plan.ids == Ids::Single => {
            "; allow user namespaces on this host (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0)"
        }
        Some(libc::EPERM) => "; this plan needs real root",
        Some(libc::ENOSPC) => "; raise the host's sysctl user.max_user_namespaces and its neighbours",
        Some(libc::EINVAL) => "; the kernel lacks one of the namespaces",
        _ => "",
    };
    Failure::new("clone", "namespaces", format!("{error}{hint}"))
}

/// What the first process cannot do for itself: id maps, limits above ours, idmapped mounts, the network link.
fn provide(plan: &Plan, pid: i32, socket: &OwnedFd) -> Result<(), Failure> {
    let proc = Path::new("/proc").join(pid.to_string());
    let write = |name: &str, text: String| {
        let path = proc.join(name);
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::new("id-map", path, error))
    };
    match plan.ids {
        Ids::Range { base, count } => {
            write("uid_map", format!("0 {base} {count}"))?;
            write("gid_map", format!("0 {base} {count}"))?;
        }
        Ids::Single => {
            write("setgroups", "deny".to_owned())?;
            write("uid_map", format!("0 {} 1", rustix::process::geteuid().as_raw()))?;
            write("gid_map", format!("0 {} 1", rustix::process::getegid().as_raw()))?;
        }
        Ids::Host => {}
    }
    if plan.ids != Ids::Single {
        raise_limits(plan, pid)?;
        let ids = match plan.ids {
            Ids::Range { .. } => {
                let path = proc.join("ns/user");
                Some(
                    File::open(&path)
                        .map_err(|error| Failure::new("idmap", path, error))?
                        .into(),
                )
            }
            _ => None,
        };
        for source in tree::open_sources(plan, ids.as_ref()) {
            handover::send(socket, &source?).map_err(|error| Failure::new("bind", "handover", error))?;
        }
    }
    let go = || handover::go(socket).map_err(|error| Failure::new("clone", "handover", error));
    go()?;
    if let Network::Veth(veth) = &plan.network {
        // While the first process makes the file tree: the kernel takes as long for either.
        let failed = |error| Failure::new("veth", &veth.host_name, error);
        let netlink = Netlink::open().map_err(failed)?;
        let bridge = standing::bridge(veth)?;
        netlink.make_veth(veth, bridge, Inside::Process(pid)).map_err(failed)?;
        go()?;
    }
    Ok(())
}

/// Raises the hard limits of a process, 0 for this one, to what the plan wants.
fn raise_limits(plan: &Plan, pid: i32) -> Result<(), Failure> {
    for limit in &plan.rlimits {
        let failed = |error| Failure::new("rlimit", format!("{:?}", limit.resource).to_lowercase(), error);
        let (soft, hard) = sys::limit(pid, limit.resource).map_err(failed)?;
        if limit.hard > hard {
            let raised = crate::Rlimit { soft, ..*limit };
            sys::set_limit(pid, &raised).map_err(failed)?;
        }
    }
    Ok(())
}

/// Waits for the sandbox, and kills it when nobody listens any more: its wait status.
fn wait(pid: i32, status: &OwnedFd) -> Result<i32, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new("wait", "sandbox", error);
    let pidfd = sys::pidfd_open(pid).map_err(|error| failed(&error))?;
    let mut watched = [
        PollFd::new(&pidfd, PollFlags::IN),
        PollFd::new(status, PollFlags::empty()),
    ];
    loop {
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed(&error)),
            Ok(_) if watched[0].revents().is_empty() => {
                let _ = sys::pidfd_signal(&pidfd, libc::SIGKILL);
                break;
            }
            Ok(_) => break,
        }
    }
    let ended = sys::wait_child(pid, true).map_err(|error| failed(&error))?;
    ended
        .map(|(_, status)| status)
        .ok_or_else(|| failed(&"it is not our child"))
}

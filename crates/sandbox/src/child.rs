//! The sandbox's first process: builds the world around itself from inside, then becomes the command or its reaper.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};

use crate::handover::{self, FAILED};
use crate::helper::{Mode, Setup, report};
use crate::netlink::Netlink;
use crate::network::{Network, Veth};
use crate::plan::{FIRST_LISTEN_FD, Ids, Plan};
use crate::report::{FAILED_EXIT, Failure, Report};
use crate::{command, confine, sys, tree};

/// The index of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;

/// The exit code of a main process that ended unseen.
const UNSEEN: i32 = 255;

/// Runs in the new namespaces; ends by becoming the command, or with its status.
pub(crate) fn run(setup: Setup, socket: OwnedFd) -> ! {
    let failure = match enter(&setup, &socket) {
        Ok(Some(rules)) if setup.plan.reaper => supervise(&setup, rules, socket),
        Ok(Some(rules)) => match command::execute(&setup, rules) {
            Err(failure) => failure,
            Ok(never) => match never {},
        },
        // The helper has gone or has failed, and said so.
        Ok(None) => sys::exit_now(FAILED_EXIT),
        Err(failure) => failure,
    };
    give_up(&setup, &socket, failure)
}

/// Says what failed, and ends.
pub(crate) fn give_up(setup: &Setup, socket: &OwnedFd, failure: Failure) -> ! {
    report(&setup.status, &Report::Failed(failure));
    let _ = handover::say(socket, FAILED);
    sys::exit_now(FAILED_EXIT)
}

/// Makes this process die with the helper. A change of ids undoes it, so it is repeated after each.
pub(crate) fn die_with_helper(mode: Mode) -> Result<(), Failure> {
    if mode == Mode::Wait {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| Failure::new("clone", "parent-death signal", error))?;
    }
    Ok(())
}

/// Everything up to the point where only the command itself is left to be made.
fn enter(setup: &Setup, socket: &OwnedFd) -> Result<Option<confine::Rules>, Failure> {
    let plan = &setup.plan;
    die_with_helper(setup.mode)?;
    let Ok(handed) = handover::receive(socket) else {
        return Ok(None);
    };
    if let Ids::Range { .. } = plan.ids {
        confine::become_user(0, 0, Some(&[]))?;
        die_with_helper(setup.mode)?;
    }
    let sources = match plan.ids {
        Ids::Single => tree::open_sources(plan, None).collect::<Result<_, _>>()?,
        _ => handed,
    };
    rustix::process::umask(rustix::fs::Mode::empty());
    // No mount made here shows outside, and none made outside appears here.
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|error| Failure::new("mount", "/", error))?;
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name).map_err(|error| Failure::new("hostname", name, error))?;
    }
    tree::build(plan, sources.into_iter())?;
    if matches!(plan.network, Network::Veth(_)) && handover::receive(socket).is_err() {
        return Ok(None);
    }
    set_up_network(&plan.network)?;
    let grants = plan.grants();
    let rules = grants.map(|grants| confine::rules(&grants, confine::whole_scope()));
    rules.transpose().map(Some)
}

fn set_up_network(network: &Network) -> Result<(), Failure> {
    match network {
        Network::Host | Network::Joined(_) => Ok(()),
        Network::Loopback => set_up_links(None),
        Network::Veth(veth) => set_up_links(Some(veth)),
    }
}

/// Switches on loopback and, with its addresses and routes, the pair's inner end, in the network namespace of this thread.
pub(crate) fn set_up_links(veth: Option<&Veth>) -> Result<(), Failure> {
    let netlink = Netlink::open().map_err(|error| Failure::new("network", "netlink", error))?;
    netlink
        .link_up(LOOPBACK)
        .map_err(|error| Failure::new("network", "lo", error))?;
    let Some(veth) = veth else { return Ok(()) };
    let failed = |error| Failure::new("network", &veth.name, error);
    let index = link_index(&veth.name).map_err(failed)?;
    netlink.link_up(index).map_err(failed)?;
    let addresses = [
        veth.ipv4
            .map(|ip| (IpAddr::from(ip.address), ip.prefix, ip.gateway.map(IpAddr::from))),
        veth.ipv6
            .map(|ip| (IpAddr::from(ip.address), ip.prefix, ip.gateway.map(IpAddr::from))),
    ];
    for (address, prefix, gateway) in addresses.into_iter().flatten() {
        let failed = |what: IpAddr| move |error| Failure::new("network", what.to_string(), error);
        netlink.add_address(index, address, prefix).map_err(failed(address))?;
        if let Some(gateway) = gateway {
            netlink.add_default_route(index, gateway).map_err(failed(gateway))?;
        }
    }
    Ok(())
}

/// The index of a link by name, in this process's network namespace.
pub(crate) fn link_index(name: &str) -> std::io::Result<u32> {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(&any, name)?)
}

/// As PID 1 of the sandbox: starts the command, hands signals on, reaps, and ends with the command's status.
fn supervise(setup: &Setup, rules: confine::Rules, socket: OwnedFd) -> ! {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = match pair {
        Ok(pair) => pair,
        Err(error) => give_up(setup, &socket, Failure::new("reaper", "socketpair", error)),
    };
    // Blocked signals wait for sigwaitinfo; unblocked ones without a handler would be lost on a PID 1.
    sys::block_signals();
    let mut main = match setup.single.fork(0, libc::SIGCHLD) {
        Ok(0) => {
            let failure = match command::execute(setup, rules) {
                Err(failure) => failure,
                Ok(never) => match never {},
            };
            give_up(setup, &theirs, failure)
        }
        Ok(pid) => pid,
        Err(error) => give_up(setup, &socket, Failure::new("reaper", "clone", error)),
    };
    drop((theirs, rules));
    if let Err(failure) = shrink(&setup.plan) {
        give_up(setup, &socket, failure);
    }
    if handover::await_end(&ours) == Some(FAILED) {
        let _ = handover::say(&socket, FAILED);
        sys::exit_now(FAILED_EXIT);
    }
    report(&setup.status, &Report::Execed { execed: true });
    drop((ours, socket));
    loop {
        match sys::next_signal() {
            Ok(sys::Taken::Signal(libc::SIGCHLD)) => {
                // It comes before what was told earlier: a main process may end as soon as another has been named.
                while let Some(pid) = sys::told() {
                    main = named(pid).unwrap_or(main);
                }
                while let Ok(Some((pid, status))) = sys::wait_child(-1, false) {
                    if pid == main {
                        report(&setup.status, &ended(status));
                        sys::exit_now(exit_code(status));
                    }
                }
                // One that was named main has another parent, which reaped it: how it ended nobody can tell.
                if sys::kill(main, 0).is_err() {
                    report(&setup.status, &Report::Exited { exited: UNSEEN });
                    sys::exit_now(UNSEEN);
                }
            }
            Ok(sys::Taken::Signal(signal)) => {
                let _ = sys::kill(main, signal);
            }
            // Another process of the sandbox is the main one from now on.
            Ok(sys::Taken::Told(pid)) => main = named(pid).unwrap_or(main),
            Err(_) => {}
        }
    }
}

/// A process that was named as the main one, if it is one of the sandbox.
fn named(pid: i32) -> Option<i32> {
    (pid > 1 && sys::kill(pid, 0).is_ok()).then_some(pid)
}

/// Leaves the reaper nothing but what it needs: no streams, no sockets of the command, no capability but to signal it.
fn shrink(plan: &Plan) -> Result<(), Failure> {
    let failed = |what: &'static str| move |error: std::io::Error| Failure::new("reaper", Path::new(what), error);
    let first = FIRST_LISTEN_FD - 2;
    for stream in 0..3 {
        sys::dup_to(first, stream).map_err(failed("descriptors"))?;
    }
    for number in (FIRST_LISTEN_FD..).take(plan.listen_fds.len()) {
        drop(sys::adopt(number).map_err(failed("descriptors"))?);
    }
    prctl::set_dumpable(false).map_err(|error| Failure::new("reaper", "dumpable", error))?;
    prctl::set_no_new_privs().map_err(|error| Failure::new("reaper", "no-new-privileges", error))?;
    confine::keep_only(&[caps::Capability::CAP_KILL])
}

/// The report of a wait status.
pub(crate) fn ended(status: i32) -> Report {
    if libc::WIFSIGNALED(status) {
        Report::Signaled {
            signaled: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        }
    } else {
        Report::Exited {
            exited: libc::WEXITSTATUS(status),
        }
    }
}

/// The exit code that stands for a wait status: the code itself, or 128 + the signal.
pub(crate) fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

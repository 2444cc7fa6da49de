//! One number for how open a unit is: 0 (tight) to 10 (open).
//!
//! Each of the walls below has a weight: how much an intruder in the unit gains when it is missing. A wall is counted as it
//! was found in force, a grant that cannot be read back as it was declared. The score is ten times the weight of what is
//! missing over the weight of all. A wall that is only partly missing counts in part. The weights are of the same kind as
//! those of `systemd-analyze security`; the numbers cannot be compared, since the walls are others.

use cairn_sandbox::{Capabilities, Network, Plan};
use cairn_unit::{ManifestUnit, NetworkMode};

use super::{Process, Seen};

/// Capabilities that come close to being the host's root where they hold over the host, and that open much of the kernel
/// even in a user namespace.
const STRONG: [&str; 11] = [
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_BOOT",
    "CAP_SYS_TIME",
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
];

/// The walls: what each is, its weight, and how much of it is missing, 0 to 1.
pub fn walls(unit: &ManifestUnit, plan: &Plan, seen: &Seen) -> Vec<(&'static str, f64, f64)> {
    let missing = |yes: bool| if yes { 1.0 } else { 0.0 };
    let any = |of: &dyn Fn(&Process) -> bool| missing(seen.processes.iter().any(of));
    let running = !seen.processes.is_empty();
    let shared = |name: &'static str| {
        if !running {
            return missing(!super::report::own(plan, name));
        }
        any(&|process| {
            let link = process.namespaces.get(name);
            link.is_none() || link == seen.host.get(name) || link.is_some_and(|link| seen.others.contains(link))
        })
    };
    let privileged = any(&|process| process.threads.iter().any(|thread| !thread.no_new_privs));
    let unfiltered = any(&|process| process.threads.iter().any(|thread| thread.seccomp != 2));
    let calls = plan.seccomp.as_ref().map_or(20, |seccomp| seccomp.allow.len());
    let held = seen
        .processes
        .iter()
        .flat_map(|process| &process.threads)
        .fold(0, |all, thread| {
            all | thread.capabilities.get("CapBnd").copied().unwrap_or(u64::MAX)
        });
    let held = if running {
        Capabilities::names(held)
    } else {
        plan.capabilities.bounding.clone()
    };
    let strength = |name: &String| if STRONG.contains(&name.as_str()) { 0.5 } else { 0.05 };
    let grants: f64 = held.iter().map(strength).sum();
    let writable_code = seen.mounts.iter().any(|mount| mount.writable() && !mount.has("noexec"));
    let suid = seen.mounts.iter().any(|mount| !mount.has("nosuid"));
    let devices = seen.mounts.iter().filter(|mount| !mount.has("nodev")).count();
    let unlimited = |file: &str| running && seen.cgroup.get(file).is_none_or(|value| value == "max");
    let reach = match (&plan.network, unit.unit.network.mode) {
        (Network::Host, _) => 1.0,
        (_, NetworkMode::None) => 0.0,
        _ => {
            let published = if unit.unit.network.publish.is_empty() { 0.0 } else { 0.2 };
            let outbound = if unit.unit.network.outbound { 0.4 } else { 0.0 };
            0.1 + published + outbound
        }
    };
    vec![
        ("own user namespace", 10.0, shared("user")),
        ("own mount namespace", 10.0, shared("mnt")),
        ("own network namespace", 8.0, shared("net")),
        ("own process namespace", 5.0, shared("pid")),
        ("own message queues", 2.0, shared("ipc")),
        ("own cgroup root", 1.0, shared("cgroup")),
        ("own host name", 1.0, shared("uts")),
        ("own clocks", 0.5, shared("time")),
        ("not root inside", 3.0, missing(plan.user.uid == 0)),
        ("no capabilities", 10.0, grants.min(1.0)),
        (
            "no new privileges",
            5.0,
            if running {
                privileged
            } else {
                missing(!plan.no_new_privs)
            },
        ),
        (
            "system call filter",
            10.0,
            if plan.seccomp.as_ref().is_none_or(|s| !s.on_violation.refuses()) || unfiltered > 0.0 {
                1.0
            } else {
                (calls as f64 * 0.05).min(0.8)
            },
        ),
        ("Landlock", 5.0, missing(!plan.landlock)),
        ("nothing writable is executable", 4.0, missing(writable_code)),
        ("no set-user-ID files", 3.0, missing(suid)),
        // The sandbox's own six nodes and its terminals are harmless.
        ("no devices", 4.0, missing(devices > 7)),
        ("memory limit", 3.0, missing(unlimited("memory.max"))),
        ("process limit", 3.0, missing(unlimited("pids.max"))),
        ("closed network", 6.0, reach),
    ]
}

/// The score, with one decimal.
pub fn of(unit: &ManifestUnit, plan: &Plan, seen: &Seen) -> f64 {
    let walls = walls(unit, plan, seen);
    let all: f64 = walls.iter().map(|(_, weight, _)| weight).sum();
    let open: f64 = walls.iter().map(|(_, weight, missing)| weight * missing).sum();
    (open / all * 100.0).round() / 10.0
}

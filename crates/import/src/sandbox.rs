//! Capabilities, and what loosens or narrows a sandbox (systemd.exec(5)).

use std::collections::BTreeSet;

use crate::Level;
use crate::job::{Job, Part};

/// Capabilities that the kernel asks for in its first user namespace only: inside a unit they would be of no use.
const HOST_ONLY: [&str; 16] = [
    "audit-control",
    "audit-read",
    "audit-write",
    "block-suspend",
    "bpf",
    "ipc-lock",
    "linux-immutable",
    "mac-admin",
    "mac-override",
    "mknod",
    "perfmon",
    "sys-boot",
    "sys-module",
    "sys-rawio",
    "sys-time",
    "syslog",
];
const HOST_ONLY_TOO: [&str; 4] = ["sys-nice", "sys-pacct", "sys-tty-config", "wake-alarm"];
/// The others (capabilities(7)).
const OWN: [&str; 21] = [
    "checkpoint-restore",
    "chown",
    "dac-override",
    "dac-read-search",
    "fowner",
    "fsetid",
    "ipc-owner",
    "kill",
    "lease",
    "net-admin",
    "net-bind-service",
    "net-broadcast",
    "net-raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys-admin",
    "sys-chroot",
    "sys-ptrace",
    "sys-resource",
];
/// The address families of Cairn's system call filter.
const FAMILIES: [&str; 4] = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"];

/// Groups of system calls of which Cairn's filter lets none pass.
const REFUSED: [&str; 10] = [
    "@clock",
    "@cpu-emulation",
    "@debug",
    "@keyring",
    "@module",
    "@mount",
    "@obsolete",
    "@raw-io",
    "@reboot",
    "@swap",
];

pub(crate) fn read(job: &mut Job) {
    capabilities(job);
    network(job);
    system_calls(job);
    if let Some((id, value)) = job.truth("NoNewPrivileges") {
        match value {
            true => job.covered(id),
            false => job.hint(id, "programs of a unit gain no privileges on exec; if it starts a set-user-id program, `sandbox.new_privileges` allows it"),
        }
    }
    if let Some((id, value)) = job.truth("MemoryDenyWriteExecute") {
        match value {
            true => job.covered(id),
            false => job.hint(
                id,
                "a program that compiles while it runs needs `sandbox.writable_code`",
            ),
        }
    }
    for (id, value) in job.list("DeviceAllow") {
        let node = value.split_whitespace().next().unwrap_or_default();
        let usual = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"]
            .iter()
            .any(|name| node.strip_prefix("/dev/") == Some(name));
        match usual {
            true => job.covered(id),
            false => job.decide(
                id,
                &format!("a unit has no devices of the machine: what `{node}` is for does not work in one"),
            ),
        }
    }
}

/// The capabilities of a line, by Cairn's names; `None` for a name that is none.
fn names(value: &str) -> Option<BTreeSet<String>> {
    let known = |name: &str| OWN.iter().chain(&HOST_ONLY).chain(&HOST_ONLY_TOO).any(|k| *k == name);
    let name = |word: &str| {
        let name = word.to_ascii_lowercase();
        let name = name.strip_prefix("cap_")?.replace('_', "-");
        known(&name).then_some(name)
    };
    value.split_whitespace().map(name).collect()
}

fn host_only(name: &str) -> bool {
    HOST_ONLY.contains(&name) || HOST_ONLY_TOO.contains(&name)
}

fn capabilities(job: &mut Job) {
    let bounding = job.every(Part::Service, "CapabilityBoundingSet");
    let root = job.draft.user.is_none();
    let mut bound: Option<BTreeSet<String>> = None;
    let (mut inverted, mut sources) = (false, Vec::new());
    for (id, value) in &bounding {
        // Without a value it takes back what was granted before.
        if value.is_empty() || value == "~" {
            inverted = value == "~";
            bound = Some(BTreeSet::new());
            sources.clear();
            match value.is_empty() {
                true => job.covered(*id),
                false => job.decide(
                    *id,
                    "it allows every capability: name those that the service needs in `sandbox.capabilities`",
                ),
            }
        } else if let Some(list) = value.strip_prefix('~') {
            match (names(list), &mut bound) {
                (None, _) => job.not_understood(*id),
                (Some(names), Some(set)) if !inverted => {
                    set.retain(|name| !names.contains(name));
                    job.covered(*id);
                }
                (Some(_), _) => {
                    inverted = true;
                    let text = "it says which capabilities the service does not get, and a unit which ones it does: name those that it needs in `sandbox.capabilities`";
                    match root {
                        true => job.decide(*id, text),
                        false => job.covered(*id),
                    }
                }
            }
        } else if let Some(names) = names(value) {
            bound.get_or_insert_default().extend(names);
            sources.push(*id);
        } else {
            job.not_understood(*id);
        }
    }
    let mut granted: BTreeSet<String> = BTreeSet::new();
    let bound = bound.unwrap_or_default();
    for id in &sources {
        if root {
            granted.extend(grant(job, *id, &bound));
        } else {
            // An account other than root holds no capability that is not ambient.
            job.covered(*id);
        }
    }
    for (id, value) in job.list("AmbientCapabilities") {
        match names(&value) {
            Some(names) => granted.extend(grant(job, id, &names)),
            None if value.starts_with('~') => job.decide(id, "it says which capabilities the service does not get: name those that it needs in `sandbox.capabilities`"),
            None => job.not_understood(id),
        }
    }
    job.draft.capabilities = granted.into_iter().collect();
    if root && bounding.is_empty() {
        job.missing(
            Level::Behaviour,
            "the service runs as root, which holds every capability in systemd and none in a unit: if it changes its account \
             or reads files of other accounts, name what it needs in `sandbox.capabilities` (`setuid`, `setgid`, `dac-override`, ...), \
             or better, an account in `user`",
        );
    }
}

/// Those of a line that mean something in a unit; the others get a note.
fn grant(job: &mut Job, id: usize, names: &BTreeSet<String>) -> Vec<String> {
    let own: BTreeSet<String> = job
        .entries
        .get(id)
        .and_then(|e| self::names(&e.value))
        .unwrap_or_default();
    let (host, inside): (Vec<String>, Vec<String>) = names
        .iter()
        .filter(|n| own.contains(*n))
        .cloned()
        .partition(|name| host_only(name));
    if !host.is_empty() {
        let list = host.join(", ");
        job.decide(id, &format!("{list}: the kernel asks for it outside of any unit, so that none can be given it; what it is for does not work in one"));
    }
    match inside.is_empty() {
        true => job.covered(id),
        false => {
            let source = job.source(id);
            if !job.draft.reasons.contains(&source) {
                job.draft.reasons.push(source);
            }
            job.carried(id);
        }
    }
    inside
}

fn network(job: &mut Job) {
    match job.truth("PrivateNetwork") {
        Some((id, true)) => {
            job.draft.offline = true;
            job.carried(id);
        }
        Some((id, false)) => job.covered(id),
        None => {}
    }
    let families = job.list("RestrictAddressFamilies");
    let (mut allowed, mut denies) = (BTreeSet::new(), false);
    for (_, value) in &families {
        denies |= value.starts_with('~');
        allowed.extend(value.trim_start_matches('~').split_whitespace().map(str::to_owned));
    }
    let local = !allowed.is_empty() && !denies && allowed.iter().all(|family| family == "AF_UNIX" || family == "none");
    for (id, value) in families {
        let more: Vec<&str> = value
            .split_whitespace()
            .filter(|family| !FAMILIES.contains(family) && *family != "none")
            .collect();
        if local && !job.socket {
            job.draft.offline = true;
            job.carried(id);
        } else if denies || more.is_empty() {
            job.covered(id);
        } else {
            let list = more.join(", ");
            job.decide(id, &format!("{list}: sockets of a unit are Unix, IPv4, IPv6 or netlink; what needs another family does not work in one"));
        }
    }
    let (allow, deny) = (job.list("IPAddressAllow"), job.list("IPAddressDeny"));
    for (id, value) in deny {
        match value.as_str() {
            "any" => job.covered(id),
            _ => job.hint(id, "nothing reaches a unit but what is bound to it or published, and it reaches nothing else unless `network.outbound` is set"),
        }
    }
    for (id, value) in allow {
        match value.as_str() {
            "localhost" => job.covered(id),
            _ => job.hint(id, "addresses are not told apart: `network.outbound` opens the way out, `network.publish` a port, `needs` the way to a unit"),
        }
    }
}

fn system_calls(job: &mut Job) {
    // Groups that Cairn's filter holds, or of which it refuses what a service does not need.
    let usual = [
        "@aio",
        "@basic-io",
        "@chown",
        "@default",
        "@file-system",
        "@io-event",
        "@ipc",
        "@memlock",
        "@network-io",
        "@process",
        "@resources",
        "@sandbox",
        "@setuid",
        "@signal",
        "@sync",
        "@system-service",
        "@timer",
        "@pkey",
    ];
    for (id, value) in job.list("SystemCallFilter") {
        if let Some(list) = value.strip_prefix('~') {
            match list.split_whitespace().all(|name| REFUSED.contains(&name)) {
                true => job.covered(id),
                false => job.hint(
                    id,
                    "a unit's list of system calls is Cairn's own and cannot be made shorter",
                ),
            }
            continue;
        }
        let more: Vec<&str> = value.split_whitespace().filter(|name| !usual.contains(name)).collect();
        match more.is_empty() {
            true => job.covered(id),
            false => {
                let list = more.join(", ");
                job.hint(id, &format!("{list}: a unit has one list of system calls; if it refuses one that the service needs, name the call in `sandbox.system_calls`"));
            }
        }
    }
    if let Some((id, value)) = job.last("RestrictNamespaces") {
        match crate::values::boolean(&value) {
            Some(true) => job.covered(id),
            _ => job.hint(id, "a unit's processes make no namespaces of their own"),
        }
    }
    if let Some((id, value)) = job.last("SystemCallArchitectures") {
        match value.as_str() {
            "native" => job.covered(id),
            _ => job.hint(id, "programs of another architecture do not run in a unit"),
        }
    }
}

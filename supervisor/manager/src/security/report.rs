//! Compares a unit's plan with what was read of it. Pure: no I/O, so every difference can be tested.

use std::collections::BTreeSet;

use cairn_sandbox::{Capabilities, Ids, Network, Plan, Resource};
use cairn_unit::{ManifestUnit, Protocol};

use super::observe::Thread;
use super::{Exception, NAMESPACES, Process, Report, Row, Seen, State, places, score};

/// The unit's report.
pub fn report(name: &str, unit: &ManifestUnit, plan: &Plan, seen: &Seen) -> Report {
    let mut rows = Vec::new();
    if !seen.processes.is_empty() {
        namespaces(plan, seen, &mut rows);
        ids(plan, seen, &mut rows);
        capabilities(plan, seen, &mut rows);
        filters(plan, seen, &mut rows);
        places::compare(plan, seen, &mut rows);
        network(unit, plan, seen, &mut rows);
        limits(unit, plan, seen, &mut rows);
        stub(plan, seen, &mut rows);
    }
    let differs = rows.iter().filter(|row| row.state == State::Differs).count();
    Report {
        unit: name.to_owned(),
        processes: seen.processes.len(),
        score: score::of(unit, plan, seen),
        rows,
        exceptions: exceptions(unit),
        differs,
    }
}

/// What the unit is granted beyond the default.
pub fn exceptions(unit: &ManifestUnit) -> Vec<Exception> {
    let (grants, unit) = (&unit.unit.sandbox, &unit.unit);
    let because = || grants.reason.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut add = |what: String, reason: String| found.push(Exception { what, reason });
    for name in &grants.capabilities {
        add(format!("capability {name}"), because());
    }
    for name in &grants.system_calls {
        add(format!("system call {name}"), because());
    }
    if grants.writable_code {
        add("memory both writable and executable".into(), because());
    }
    if grants.clock {
        add("the machine's clock, set in its place".into(), because());
    }
    if grants.new_privileges {
        add("new privileges by exec".into(), because());
    }
    if !grants.reaper {
        add("no stub: the service is PID 1 itself".into(), because());
    }
    if unit.network.outbound {
        add("connections to the outside".into(), "network.outbound".into());
    }
    found
}

pub(super) fn row(item: &str, declared: impl Into<String>, in_force: impl Into<String>, ok: bool) -> Row {
    Row {
        item: item.to_owned(),
        declared: declared.into(),
        in_force: in_force.into(),
        state: if ok { State::Ok } else { State::Differs },
    }
}

/// Several values as one text; the same one once.
pub(super) fn list(values: impl IntoIterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.into_iter().collect();
    if values.is_empty() {
        return "none".into();
    }
    values.into_iter().collect::<Vec<_>>().join(", ")
}

fn threads(seen: &Seen) -> impl Iterator<Item = &Thread> {
    seen.processes.iter().flat_map(|process| &process.threads)
}

/// Whether a plan has an own namespace of this name.
pub(super) fn own(plan: &Plan, name: &str) -> bool {
    match name {
        "user" => plan.ids != Ids::Host,
        "pid" => plan.namespaces.pid,
        "ipc" => plan.namespaces.ipc,
        "uts" => plan.namespaces.uts,
        "cgroup" => plan.namespaces.cgroup,
        "time" => plan.namespaces.time,
        "net" => plan.network != Network::Host,
        _ => true,
    }
}

fn namespaces(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    for (name, title) in NAMESPACES {
        let whose = |process: &Process| match process.namespaces.get(name) {
            None => "unknown",
            Some(link) if Some(link) == seen.host.get(name) => "the host's",
            Some(link) if seen.others.contains(link) => "another unit's",
            Some(_) => "own",
        };
        let declared = if own(plan, name) { "own" } else { "the host's" };
        let found: BTreeSet<&str> = seen.processes.iter().map(whose).collect();
        let ok = found.iter().all(|found| *found == declared || *found == "own");
        let text = list(found.iter().map(|found| (*found).to_owned()));
        rows.push(row(&format!("{title} namespace"), declared, text, ok));
    }
}

fn ids(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    let Ids::Range { base, count } = plan.ids else {
        let users = threads(seen).flat_map(|thread| thread.uids.clone());
        rows.push(row("ids", "the host's", list(users.map(|id| id.to_string())), true));
        return;
    };
    let declared = format!("{base} to {}", base + (count - 1));
    let maps: BTreeSet<&Vec<u32>> = seen.processes.iter().flat_map(|p| [&p.uid_map, &p.gid_map]).collect();
    let text = |map: &&Vec<u32>| match map.as_slice() {
        [0, base, count] => format!("{base} to {}", base.saturating_add(count.saturating_sub(1))),
        other => format!("{other:?}"),
    };
    let found = list(maps.iter().map(text));
    rows.push(row(
        "ids on the host",
        declared.clone(),
        found.clone(),
        found == declared,
    ));
    for (item, inside, of) in [
        ("user", plan.user.uid, (|t| &t.uids) as fn(&Thread) -> &Vec<u32>),
        ("group", plan.user.gid, |t| &t.gids),
    ] {
        let found: BTreeSet<u32> = threads(seen).flat_map(|thread| of(thread).clone()).collect();
        // A service that starts as root inside or may change its ids is any of its own accounts.
        let changes = plan.user.uid == 0 || plan.capabilities.bounding.iter().any(|name| name == "CAP_SETUID");
        let ok = found.iter().all(|id| match id.checked_sub(base) {
            Some(id) => id < count && (changes || id == inside),
            None => false,
        });
        let text = list(found.iter().map(|id| match id.checked_sub(base) {
            Some(inside) if inside < count => inside.to_string(),
            _ => format!("{id} of the host"),
        }));
        rows.push(row(&format!("{item} inside"), inside.to_string(), text, ok));
    }
}

/// Names without their common beginning.
fn short(mask: u64) -> String {
    list(
        Capabilities::names(mask)
            .iter()
            .map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase()),
    )
}

fn capabilities(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    for (set, title, names) in [
        ("CapBnd", "bounding", &plan.capabilities.bounding),
        ("CapPrm", "permitted", &plan.capabilities.ambient),
        ("CapEff", "effective", &plan.capabilities.ambient),
        ("CapInh", "inheritable", &plan.capabilities.ambient),
        ("CapAmb", "ambient", &plan.capabilities.ambient),
    ] {
        let declared = Capabilities::mask(names).unwrap_or(0);
        let found = threads(seen).fold(0, |all, thread| {
            all | thread.capabilities.get(set).copied().unwrap_or(u64::MAX)
        });
        let ok = found & !declared == 0;
        rows.push(row(&format!("{title} capabilities"), short(declared), short(found), ok));
    }
    let found: BTreeSet<bool> = threads(seen).map(|thread| thread.no_new_privs).collect();
    let word = |refused: &bool| if *refused { "refused" } else { "possible" };
    let ok = !plan.no_new_privs || !found.contains(&false);
    let text = list(found.iter().map(|refused| word(refused).to_owned()));
    rows.push(row("new privileges", word(&plan.no_new_privs), text, ok));
}

fn filters(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    let wanted = plan.seccomp.as_ref().map_or(0, cairn_sandbox::Seccomp::programs);
    let text = |filters: u32| match filters {
        0 => "none".to_owned(),
        1 => "1 filter".to_owned(),
        more => format!("{more} filters"),
    };
    let count = |thread: &Thread| if thread.seccomp == 2 { thread.filters } else { 0 };
    let found: BTreeSet<u32> = threads(seen).map(count).collect();
    // A service may add filters of its own.
    let ok = found.iter().all(|found| *found >= wanted);
    rows.push(row(
        "system calls",
        text(wanted),
        list(found.iter().map(|found| text(*found))),
        ok,
    ));
    let refuses = plan
        .seccomp
        .as_ref()
        .is_some_and(|seccomp| seccomp.on_violation.refuses());
    if wanted > 0 && !refuses {
        let found = "let through and recorded (cairn learn)";
        rows.push(row("calls outside the list", "refused", found, false));
    }
    rows.push(Row {
        item: "Landlock".into(),
        declared: if plan.landlock { "in force" } else { "off" }.into(),
        in_force: "the kernel does not show it; without it the start fails".into(),
        state: State::NotShown,
    });
}

fn network(unit: &ManifestUnit, plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    let interfaces = match &plan.network {
        Network::Loopback => vec!["lo".to_owned()],
        Network::Veth(veth) | Network::Joined(veth) => vec!["lo".to_owned(), veth.name.clone()],
        Network::Host => return,
    };
    let ok = seen.interfaces.iter().all(|name| interfaces.contains(name));
    rows.push(row("interfaces", list(interfaces), list(seen.interfaces.clone()), ok));
    let unit = &unit.unit;
    let provided = unit.provides.values().filter_map(|provide| provide.port);
    let published = unit.network.publish.iter().map(|publish| {
        let protocol = match publish.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{protocol} {}", publish.to.unwrap_or(publish.port))
    });
    let declared: BTreeSet<String> = provided.map(|port| format!("tcp {port}")).chain(published).collect();
    let ok = seen.listening.iter().all(|port| declared.contains(port));
    rows.push(row("ports", list(declared), list(seen.listening.clone()), ok));
}

fn limits(unit: &ManifestUnit, plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    for (file, declared) in crate::cgroup::limits(&unit.unit.limits, None) {
        let found = seen.cgroup.get(file).map(String::as_str);
        // The kernel counts memory in pages.
        let same = match (found.and_then(|text| text.parse::<u64>().ok()), declared.parse::<u64>()) {
            (Some(found), Ok(declared)) => found <= declared && declared - found < 65_536,
            _ => found == Some(declared.as_str()),
        };
        let mut row = row(file, declared, found.unwrap_or("not set"), same);
        if file == "io.weight" && found.is_none() {
            row.in_force = "this machine's disk scheduler has no weights".into();
            row.state = State::NotShown;
        }
        if file == "memory.swap.max" && found.is_none() {
            row.in_force = "the kernel has no swap".into();
            row.state = State::NotShown;
        }
        rows.push(row);
    }
    for limit in &plan.rlimits {
        let (name, title) = match limit.resource {
            Resource::Nofile => ("Max open files", "open files"),
            Resource::Core => ("Max core file size", "core file size"),
            _ => continue,
        };
        let found = seen
            .processes
            .iter()
            .map(|p| p.limits.get(name).map_or(u64::MAX, |(_, hard)| *hard));
        let found: BTreeSet<u64> = found.collect();
        let ok = found.iter().all(|found| *found <= limit.hard);
        rows.push(row(
            title,
            limit.hard.to_string(),
            list(found.iter().map(u64::to_string)),
            ok,
        ));
    }
    if let Some(declared) = plan.oom_score_adj {
        let found: BTreeSet<Option<i32>> = seen.processes.iter().map(|process| process.oom_score_adj).collect();
        let ok = found
            .iter()
            .all(|found| found.is_some_and(|score| score >= declared.into()));
        let text = |score: &Option<i32>| score.map_or("unknown".into(), |score| score.to_string());
        rows.push(row(
            "out-of-memory score",
            declared.to_string(),
            list(found.iter().map(text)),
            ok,
        ));
    }
}

/// The stub keeps only what it needs to hand signals on.
fn stub(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    if !plan.reaper {
        return;
    }
    let declared = Capabilities::mask(&["CAP_KILL".to_owned()]).unwrap_or(0);
    let Some(stub) = &seen.stub else {
        rows.push(row("stub", "capabilities kill", "not found", false));
        return;
    };
    let held = stub.threads.iter().fold(0, |all, thread| {
        all | ["CapPrm", "CapEff", "CapInh", "CapAmb"].iter().fold(0, |all, set| {
            all | thread.capabilities.get(*set).copied().unwrap_or(u64::MAX)
        })
    });
    let refused = stub.threads.iter().all(|thread| thread.no_new_privs);
    let privileges = if refused { "" } else { ", new privileges possible" };
    let text = format!("capabilities {}{privileges}", short(held));
    rows.push(row(
        "stub",
        format!("capabilities {}", short(declared)),
        text,
        held & !declared == 0 && refused,
    ));
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;

//! A plan's mounts beside those that a process has.

use std::collections::BTreeSet;
use std::path::Path;

use cairn_sandbox::{Mount, Plan};

use super::report::{list, row};
use super::{Row, Seen};

/// File systems that show the host or its devices: no unit has one.
const OF_THE_HOST: [&str; 9] = [
    "sysfs",
    "cgroup2",
    "cgroup",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "devtmpfs",
    "efivarfs",
];

/// What the plan lets be written, be executed, and has device nodes, by target.
struct Places {
    writable: BTreeSet<String>,
    exec: BTreeSet<String>,
    suid: BTreeSet<String>,
    devices: BTreeSet<String>,
}

impl Places {
    fn of(plan: &Plan) -> Self {
        let text = |path: &Path| path.display().to_string();
        let mut places = Self {
            writable: BTreeSet::new(),
            exec: BTreeSet::from(["/".to_owned()]),
            suid: BTreeSet::new(),
            devices: BTreeSet::new(),
        };
        for mount in &plan.mounts {
            let target = text(mount.target());
            match mount {
                Mount::Bind {
                    read_only, exec, suid, ..
                } => {
                    places.writable.extend((!read_only).then(|| target.clone()));
                    places.exec.extend(exec.then(|| target.clone()));
                    places.suid.extend(suid.then(|| target.clone()));
                }
                Mount::Tmpfs { exec, .. } => {
                    places.exec.extend(exec.then(|| target.clone()));
                    places.writable.insert(target);
                }
                Mount::Proc { .. } => {
                    places.writable.insert(target);
                }
                Mount::Dev { shm_size, extra, .. } => {
                    let folder = mount.target();
                    places.writable.extend(shm_size.map(|_| text(&folder.join("shm"))));
                    places.writable.insert(text(&folder.join("pts")));
                    places.devices.insert(text(&folder.join("pts")));
                    let own = ["null", "zero", "full", "random", "urandom", "tty"].map(Path::new);
                    let names = extra.iter().filter_map(|node| node.file_name()).map(Path::new);
                    for node in own.into_iter().chain(names) {
                        places.devices.insert(text(&folder.join(node)));
                        places.writable.insert(text(&folder.join(node)));
                    }
                }
                Mount::File { .. } | Mount::Symlink { .. } => {}
            }
        }
        places
    }
}

/// What can be written, executed and opened as a device, and what is hidden.
pub(super) fn compare(plan: &Plan, seen: &Seen, rows: &mut Vec<Row>) {
    let places = Places::of(plan);
    let found = |which: &dyn Fn(&super::mounts::Seen) -> bool| -> BTreeSet<String> {
        let chosen = seen.mounts.iter().filter(|mount| which(mount));
        chosen.map(|mount| mount.target.clone()).collect()
    };
    let mut at_most = |item: &str, declared: &BTreeSet<String>, found: BTreeSet<String>| {
        let ok = !seen.mounts.is_empty() && found.is_subset(declared);
        rows.push(row(item, list(declared.clone()), list(found), ok));
    };
    let nodes = |set: BTreeSet<String>| -> BTreeSet<String> { set.difference(&places.devices).cloned().collect() };
    at_most(
        "writable",
        &nodes(places.writable.clone()),
        nodes(found(&|mount| mount.writable())),
    );
    at_most("executable", &places.exec, found(&|mount| !mount.has("noexec")));
    at_most("set-user-ID works", &places.suid, found(&|mount| !mount.has("nosuid")));
    at_most("device nodes", &places.devices, found(&|mount| !mount.has("nodev")));
    at_most(
        "file systems of the host",
        &BTreeSet::new(),
        seen.mounts
            .iter()
            .filter(|mount| OF_THE_HOST.contains(&mount.kind.as_str()))
            // What hides a file is the null device, which cannot be opened there.
            .filter(|mount| {
                !places.devices.contains(&mount.target) && !plan.masked.contains(&mount.target.clone().into())
            })
            .map(|mount| format!("{} at {}", mount.kind, mount.target))
            .collect(),
    );
    for (item, paths, tight) in [("hidden", &plan.masked, false), ("protected", &plan.read_only, true)] {
        let wanted: Vec<String> = paths
            .iter()
            .filter(|path| seen.existing.contains(path))
            .map(|path| path.display().to_string())
            .collect();
        let open: Vec<&String> = wanted
            .iter()
            .filter(|path| {
                !seen
                    .mounts
                    .iter()
                    .any(|mount| mount.target == **path && !mount.writable())
            })
            .collect();
        let what = if tight { "read-only" } else { "hidden" };
        let in_force = if open.is_empty() {
            format!("{} places", wanted.len())
        } else {
            format!("not {what}: {}", list(open.iter().map(|path| (*path).clone())))
        };
        rows.push(row(item, format!("{} places", wanted.len()), in_force, open.is_empty()));
    }
}

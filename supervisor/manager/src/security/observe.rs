//! Reads a unit's processes and cgroup. A process that ends meanwhile is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{NAMESPACES, Process, Seen, mounts, sockets};

/// The cgroup's files that hold limits.
const LIMITS: [&str; 8] = [
    "memory.max",
    "memory.high",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.weight",
    "cpu.max",
    "pids.max",
    "io.weight",
];

/// A thread's identity and privileges, from `/proc/PID/task/TID/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// Real, effective, saved and file system user ids, the host's.
    pub uids: Vec<u32>,
    /// The same of the group.
    pub gids: Vec<u32>,
    /// Capability sets by the file's names: `CapInh`, `CapPrm`, `CapEff`, `CapBnd`, `CapAmb`.
    pub capabilities: BTreeMap<String, u64>,
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// `Seccomp`: 2 is a filter.
    pub seccomp: u32,
    /// `Seccomp_filters`.
    pub filters: u32,
}

/// Reads everything of a unit. `stub` is its first process if that is the stub, `others` the first processes of the other
/// units, `protected` the plan's hidden and read-only places.
pub fn unit(proc: &Path, cgroup: &Path, stub: Option<i32>, others: &[i32], protected: &[PathBuf]) -> Seen {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = pids.lines().filter_map(|line| line.parse().ok()).collect();
    let of = |pid: i32| process(&proc.join(pid.to_string()), pid);
    let mut seen = Seen {
        stub: stub.filter(|pid| pids.contains(pid)).and_then(of),
        processes: pids
            .iter()
            .filter(|pid| Some(**pid) != stub)
            .filter_map(|pid| of(*pid))
            .collect(),
        host: namespaces(&proc.join("self")),
        others: others
            .iter()
            .flat_map(|pid| namespaces(&proc.join(pid.to_string())).into_values())
            .collect(),
        existing: protected.iter().filter(|path| path.exists()).cloned().collect(),
        ..Seen::default()
    };
    for file in LIMITS {
        if let Ok(value) = fs::read_to_string(cgroup.join(file)) {
            // io.weight has a line a disk; the first is the default.
            let first = value.lines().next().unwrap_or_default();
            seen.cgroup.insert(file.to_owned(), first.to_owned());
        }
    }
    if let Some(first) = seen.processes.first() {
        let folder = proc.join(first.pid.to_string());
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        seen.mounts = mounts::parse(&read("mountinfo"));
        seen.interfaces = sockets::interfaces(&read("net/dev"));
        for (protocol, file) in [
            ("tcp", "net/tcp"),
            ("tcp", "net/tcp6"),
            ("udp", "net/udp"),
            ("udp", "net/udp6"),
        ] {
            seen.listening.extend(sockets::listening(protocol, &read(file)));
        }
        seen.listening.sort();
        seen.listening.dedup();
    }
    seen
}

fn process(folder: &Path, pid: i32) -> Option<Process> {
    let read = |file: &str| fs::read_to_string(folder.join(file));
    let numbers = |file: &str| -> Vec<u32> {
        let text = read(file).unwrap_or_default();
        text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
    };
    let threads = fs::read_dir(folder.join("task")).ok()?;
    let threads: Vec<Thread> = threads
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .filter_map(|text| thread(&text))
        .collect();
    // A zombie has threads but nothing else to read.
    let namespaces = namespaces(folder);
    (!threads.is_empty() && !namespaces.is_empty()).then(|| Process {
        pid,
        namespaces,
        uid_map: numbers("uid_map"),
        gid_map: numbers("gid_map"),
        threads,
        oom_score_adj: read("oom_score_adj").ok().and_then(|text| text.trim().parse().ok()),
        limits: limits(&read("limits").unwrap_or_default()),
    })
}

fn namespaces(folder: &Path) -> BTreeMap<String, String> {
    NAMESPACES
        .iter()
        .filter_map(|(name, _)| {
            let link = fs::read_link(folder.join("ns").join(name)).ok()?;
            Some(((*name).to_owned(), link.display().to_string()))
        })
        .collect()
}

/// Reads `status`; none if something that every thread has is missing.
pub fn thread(text: &str) -> Option<Thread> {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
    let ids = |name: &str| -> Option<Vec<u32>> { fields.get(name)?.split('\t').map(|id| id.parse().ok()).collect() };
    let number = |name: &str| -> Option<u32> { fields.get(name)?.trim().parse().ok() };
    let mut capabilities = BTreeMap::new();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        capabilities.insert(set.to_owned(), u64::from_str_radix(fields.get(set)?.trim(), 16).ok()?);
    }
    Some(Thread {
        uids: ids("Uid")?,
        gids: ids("Gid")?,
        capabilities,
        no_new_privs: number("NoNewPrivs")? == 1,
        seccomp: number("Seccomp")?,
        filters: number("Seccomp_filters").unwrap_or(0),
    })
}

/// Reads `limits`: columns begin where the heading's words do.
fn limits(text: &str) -> BTreeMap<String, (u64, u64)> {
    let number = |word: &str| {
        if word == "unlimited" {
            Some(u64::MAX)
        } else {
            word.parse().ok()
        }
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (name, rest) = line.split_at_checked(26)?;
            let mut words = rest.split_whitespace();
            let limit = (number(words.next()?)?, number(words.next()?)?);
            Some((name.trim().to_owned(), limit))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        fs::write(folder.path().join("cgroup.procs"), format!("{pid}\n")).unwrap();
        fs::write(folder.path().join("pids.max"), "12\n").unwrap();
        let seen = unit(
            Path::new("/proc"),
            folder.path(),
            None,
            &[],
            &["/proc/self".into(), "/nowhere".into()],
        );
        let process = &seen.processes[0];
        assert_eq!((seen.processes.len(), process.pid), (1, pid.cast_signed()));
        assert_eq!(process.namespaces, seen.host);
        assert_eq!(process.namespaces.len(), NAMESPACES.len());
        let uid = rustix::process::getuid().as_raw();
        assert!(process.threads.iter().all(|thread| thread.uids == [uid; 4]));
        assert!(process.threads.len() > 1, "the test's own thread too");
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let wanted = (files.current.unwrap_or(u64::MAX), files.maximum.unwrap_or(u64::MAX));
        assert_eq!(process.limits["Max open files"], wanted);
        assert_eq!(seen.cgroup["pids.max"], "12");
        assert_eq!(seen.existing, [Path::new("/proc/self")]);
        assert!(seen.mounts.iter().any(|mount| mount.target == "/proc"));
        // As a stub it is not one of the processes.
        let seen = unit(Path::new("/proc"), folder.path(), Some(pid.cast_signed()), &[], &[]);
        assert!(seen.processes.is_empty() && seen.stub.is_some());
    }

    #[test]
    fn every_limit_that_is_set_is_read_back() {
        let unit = &crate::testing::manifest(&[("web", "{}")]).units["web"];
        for (file, _) in crate::cgroup::limits(&unit.unit.limits, None) {
            assert!(LIMITS.contains(&file), "{file}");
        }
    }

    #[test]
    fn a_status_without_its_fields_is_not_a_thread() {
        assert_eq!(thread("Name:\tx\nUid:\t0\t0\t0\t0\n"), None);
    }
}

//! How tight a unit's sandbox is: what was declared beside what is in force, read back from its running processes.
//!
//! [`observe`] reads, [`report`] compares (a pure function), [`score`] weighs.

mod answer;
pub mod mounts;
pub mod observe;
mod places;
pub mod report;
pub mod score;
pub mod sockets;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// Namespaces by their names below `/proc/PID/ns`, with what the report calls them.
pub const NAMESPACES: [(&str, &str); 8] = [
    ("user", "user"),
    ("mnt", "mount"),
    ("pid", "process"),
    ("ipc", "message queue"),
    ("uts", "host name"),
    ("cgroup", "cgroup"),
    ("time", "clock"),
    ("net", "network"),
];

/// One unit's report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The unit.
    pub unit: String,
    /// How many processes were read, the stub not counted; none are while the unit does not run.
    pub processes: usize,
    /// 0 (tight) to 10 (open), see [`score`].
    pub score: f64,
    /// What was compared.
    pub rows: Vec<Row>,
    /// What the unit is granted beyond the default.
    pub exceptions: Vec<Exception>,
    /// How many rows differ.
    pub differs: usize,
}

/// One item, as declared and as in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub item: String,
    /// What the unit's plan says.
    pub declared: String,
    /// What the kernel says.
    pub in_force: String,
    /// Whether that is the same or tighter.
    pub state: State,
}

/// How the two sides of a row relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In force is what was declared, or tighter.
    Ok,
    /// It is not.
    Differs,
    /// The kernel does not show it.
    NotShown,
}

/// A grant beyond the default, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// What is granted.
    pub what: String,
    /// Why, in the unit's words.
    pub reason: String,
}

/// What was read of a running unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Every process but the stub.
    pub processes: Vec<Process>,
    /// The stub, if it was found.
    pub stub: Option<Process>,
    /// The host's namespaces, by name below `/proc/PID/ns`.
    pub host: BTreeMap<String, String>,
    /// Namespaces of other units: their links.
    pub others: Vec<String>,
    /// Values of the cgroup's files, by name; what is missing there is missing here.
    pub cgroup: BTreeMap<String, String>,
    /// Mounts as the first process sees them.
    pub mounts: Vec<mounts::Seen>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// What listens beyond loopback: `tcp 443`.
    pub listening: Vec<String>,
    /// Of the places to hide or protect, those that this kernel has.
    pub existing: Vec<PathBuf>,
}

/// What was read of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id on the host.
    pub pid: i32,
    /// Its namespaces, by name below `/proc/PID/ns`.
    pub namespaces: BTreeMap<String, String>,
    /// `/proc/PID/uid_map`, its numbers.
    pub uid_map: Vec<u32>,
    /// `/proc/PID/gid_map`, its numbers.
    pub gid_map: Vec<u32>,
    /// Each thread's identity and privileges.
    pub threads: Vec<observe::Thread>,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Soft and hard limits by the kernel's names; unlimited is `u64::MAX`.
    pub limits: BTreeMap<String, (u64, u64)>,
}

//! The answers' types. Times named `_ms` are milliseconds; those called `at_ms`, `start_ms` and `end_ms` count from the kernel's start.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The appliance and its units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The appliance's name.
    pub appliance: String,
    /// Its version.
    pub version: String,
    /// Its outside address; empty while it has none.
    pub address: String,
    /// What is to be known of the network: a device that is missing, a step that failed, a change that waits. In sentences.
    #[serde(default)]
    pub network: Vec<String>,
    /// Whether every unit that is wanted is ready.
    pub ready: bool,
    /// Whether the firewall stands.
    pub firewall: bool,
    /// `poweroff` or `reboot` while it goes down.
    pub going_down: Option<String>,
    /// How long ago the kernel started.
    pub uptime_ms: u64,
    /// The units, by name.
    pub units: Vec<UnitStatus>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// `stopped`, `waiting`, `preparing`, `setting-up`, `restoring`, `migrating`, `starting`, `ready`, `stopping`, `finishing`, `failed` or `restarting`.
    pub state: String,
    /// Why it failed; empty if it did not.
    pub reason: String,
    /// How long it has been in that state.
    pub for_ms: u64,
    /// Its sandbox's first process, as the host sees it; 0 if there is none.
    pub pid: i32,
    /// Its failures since it was last healthy.
    pub failures: u32,
    /// Whether it is to run.
    pub wanted: bool,
    /// What it says about itself.
    pub says: String,
    /// The kernel's error that it told last; 0 if none.
    pub errno: i32,
    /// Whether it reads its configuration again at the moment.
    pub reloading: bool,
    /// Its health checks.
    pub health: Health,
    /// When it is next started, if something waits for that: by its timer or after a failure.
    pub starts_in_ms: Option<u64>,
    /// How much longer it is learned from, while its system call filter refuses nothing.
    pub learning_ms: Option<u64>,
}

/// A unit's health checks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// How many failed in a row.
    pub failed: u32,
    /// What the last failed one said.
    pub last: String,
}

/// The boot's times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Boot {
    /// When the manager started.
    pub manager_ms: u64,
    /// Now.
    pub now_ms: u64,
    /// What came before the units, in its order.
    pub steps: Vec<Step>,
    /// The units.
    pub units: Vec<UnitPhases>,
}

/// One step of the boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What it was.
    pub name: String,
    /// When it began.
    pub start_ms: f64,
    /// When it ended.
    pub end_ms: f64,
}

/// A unit's states since the boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitPhases {
    /// The unit.
    pub name: String,
    /// The units that it waits for.
    pub waits_for: Vec<String>,
    /// Each state with the time of its beginning.
    pub phases: Vec<(String, u64)>,
}

impl UnitPhases {
    /// When it first was ready, and how long it took from its first start; `None` if it never was.
    pub fn first_ready(&self) -> Option<(u64, u64)> {
        let ready = self.phases.iter().find(|(phase, _)| phase == "ready")?.1;
        let begun = self
            .phases
            .iter()
            .find(|(phase, _)| phase != "waiting" && phase != "stopped");
        Some((ready, ready.saturating_sub(begun.map_or(ready, |(_, at)| *at))))
    }
}

/// What the units use now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    /// When it was read.
    pub at_ms: u64,
    /// The units, by name.
    pub units: Vec<Use>,
}

/// What one unit uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Use {
    /// The unit.
    pub name: String,
    /// Bytes of memory, with its files' cache.
    pub memory: u64,
    /// The most there has been.
    pub memory_peak: u64,
    /// What it may use.
    pub memory_max: u64,
    /// Microseconds of processor time so far.
    pub cpu_us: u64,
    /// Processes and threads.
    pub processes: u64,
    /// What it may have.
    pub processes_max: u64,
    /// Bytes read from disks so far.
    pub read: u64,
    /// Bytes written to disks so far.
    pub written: u64,
    /// Bytes that it keeps on the data partition.
    pub kept: u64,
    /// What it may keep there; 0 where nothing bounds it.
    pub kept_max: u64,
    /// The share of the last ten seconds in which some of it had to wait.
    pub pressure: Pressure,
}

/// Percentages of time (the kernel's PSI, `some avg10`).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// For a processor.
    pub cpu: f32,
    /// For memory.
    pub memory: f32,
    /// For a disk.
    pub io: f32,
}

/// The units and what is between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The units, by name.
    pub nodes: Vec<Node>,
    /// What is between them.
    pub edges: Vec<Edge>,
}

/// A unit in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// The unit.
    pub name: String,
    /// As in its status.
    pub state: String,
    /// Ports opened to the outside, like `443/tcp`.
    pub publishes: Vec<String>,
}

/// One unit starts after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// The one that waits.
    pub from: String,
    /// The one that is waited for.
    pub to: String,
    /// Why.
    pub kind: EdgeKind,
    /// A binding's name and place, like `db (3306)`; empty for an order.
    pub label: String,
}

/// Why one unit starts after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// It needs what the other provides.
    Binding,
    /// It is only to start later.
    Order,
}

/// Why a unit is as it is, and what will happen to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Its status.
    pub status: UnitStatus,
    /// One sentence: why it is in its state.
    pub why: String,
    /// What starts it.
    pub started_by: Vec<String>,
    /// The units that must be ready before it.
    pub waits_for: Vec<String>,
    /// The units that wait for it.
    pub needed_by: Vec<String>,
    /// When it counts as ready, and for how long that is waited for.
    pub ready: String,
    /// How it is watched once it is.
    pub health: String,
    /// What happens when it ends.
    pub restart: RestartPlan,
    /// How it is stopped.
    pub stop: String,
    /// How it reloads.
    pub reload: String,
    /// Its limits, as files of its cgroup and their values.
    pub limits: BTreeMap<String, String>,
    /// What its sandbox grants beyond the default.
    pub exceptions: Vec<String>,
    /// What the owner can choose for it.
    #[serde(default)]
    pub settings: Vec<crate::SettingState>,
}

/// What happens when a unit ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestartPlan {
    /// `never`, `on-failure` or `always`.
    pub policy: String,
    /// The delays before the first, second, ... restart; the last one repeats.
    pub delays_ms: Vec<u64>,
    /// After so many failures in a row it is not started again.
    pub limit: Option<u32>,
    /// How long it must be ready for its failures to be forgotten.
    pub healthy_after_ms: u64,
    /// What happens when it has failed for good.
    pub failure: String,
}

/// What was begun.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The units that it concerns.
    pub units: Vec<String>,
}

/// What a reload of the owner's choices changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The changes.
    pub changes: Vec<Change>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The unit; the appliance's name, or `network`, for what is the whole appliance's.
    pub unit: String,
    /// `limits`, `settings`, `enabled`, `disabled`, `identity`, `time` or `network`.
    pub change: String,
    /// Why it could not be put in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A line of the stream of events: a unit is in another state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// When.
    pub at_ms: u64,
    /// The unit.
    pub unit: String,
    /// As in its status.
    pub state: String,
    /// Why it failed; empty if it did not.
    pub reason: String,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// In words, with what to do.
    pub error: String,
    /// Where in a text that was sent, and why, if a text was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Place>,
}

/// One thing that is wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Its line, from 1; `null` where the whole text is meant.
    pub line: Option<usize>,
    /// Its column, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

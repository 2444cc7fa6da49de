//! What a unit can reach and use: its network, limits, log, and the sandbox's exceptions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Bytes, Seconds};

/// The unit's network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// `bridge`: a network namespace of its own on the internal bridge. `none`: loopback only.
    pub mode: NetworkMode,
    /// Ports opened to the outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Whether the unit may open connections to the outside.
    pub outbound: bool,
}

/// How the unit is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network namespace of its own on the internal bridge.
    #[default]
    Bridge,
    /// A network namespace of its own with loopback only.
    None,
    /// The appliance's own, beside everything else that is in it: an exception. Only the ports that it publishes are open to the outside.
    Host,
}

/// A port opened to the outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The port of the appliance.
    pub port: u16,
    /// The unit's port; left out: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// What to show as the address when everything is ready: `https`, `http`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// Bounds on what the unit can use. Every unit has them all; these are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory above which the unit is slowed down and reclaimed from (cgroup `memory.high`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bytes>,
    /// Memory above which the unit is killed as a whole (cgroup `memory.max`).
    pub memory_max: Bytes,
    /// Swap that it may use, where the appliance has any (cgroup `memory.swap.max`).
    pub swap_max: Bytes,
    /// Share of the processor under contention, 1 to 10000 (cgroup `cpu.weight`).
    pub cpu_weight: u16,
    /// Processor time at most, in percent of one processor (cgroup `cpu.max`); left out: all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<u32>,
    /// Share of the disk under contention, 1 to 10000 (cgroup `io.weight`).
    pub io_weight: u16,
    /// Bytes a second read from the data disk at most (cgroup `io.max`); left out: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read_max: Option<Bytes>,
    /// Bytes a second written to the data disk at most (cgroup `io.max`); left out: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_write_max: Option<Bytes>,
    /// What all folders of `[state]` together may hold; left out: nine tenths of the data partition, so that no unit alone can
    /// fill it (a project quota of ext4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_max: Option<Bytes>,
    /// Processes and threads (cgroup `pids.max`).
    pub processes: u32,
    /// Open files of each process (`RLIMIT_NOFILE`).
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_high: None,
            memory_max: Bytes(512 << 20),
            swap_max: Bytes(0),
            cpu_weight: 100,
            cpu_quota: None,
            io_weight: 100,
            io_read_max: None,
            io_write_max: None,
            disk_max: None,
            processes: 512,
            open_files: 16384,
        }
    }
}

/// What the sandbox grants beyond the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxGrants {
    /// Capabilities kept, inside the unit's own user namespace: `net-bind-service`, ...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// System calls allowed beyond the default profile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_calls: Vec<String>,
    /// Whether memory may be both writable and executable (just-in-time compilers).
    pub writable_code: bool,
    /// Whether it keeps the machine's clock: its calls that read and set it are done in its place, and any time client does. No time
    /// before the image was built is set, and each step is told in the log. One unit of an appliance may.
    pub clock: bool,
    /// How much of the control API it may ask: the socket is `/run/cairn/control.sock` in its sandbox. Left out: it does not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlScope>,
    /// Why; required as soon as anything is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether programs of the unit may gain privileges on exec (set-user-id programs).
    pub new_privileges: bool,
    /// Whether the stub that is PID 1 in the unit reaps orphans; `false` runs the service itself as PID 1.
    pub reaper: bool,
}

impl Default for SandboxGrants {
    fn default() -> Self {
        SandboxGrants {
            capabilities: Vec::new(),
            system_calls: Vec::new(),
            writable_code: false,
            clock: false,
            control: None,
            reason: None,
            new_privileges: false,
            reaper: true,
        }
    }
}

/// How much of the control API a unit may ask; each holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControlScope {
    /// The state of the appliance and its units.
    Observe,
    /// Starting and stopping units, and reading logs.
    Operate,
    /// The owner's choices, certificates, and the machine's power.
    Own,
}

/// What is kept of what the unit writes, and how fast it may write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogLimits {
    /// How much of its log is kept, compressed.
    pub size_max: Bytes,
    /// How long its log is kept.
    pub age_max: Seconds,
    /// Lines a second that it may write for longer than a moment; more are dropped and counted.
    pub rate: u32,
    /// How many lines it may write in one moment.
    pub burst: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits {
            size_max: Bytes(64 << 20),
            age_max: Seconds::from_secs(30 * 86_400),
            rate: 1000,
            burst: 10_000,
        }
    }
}

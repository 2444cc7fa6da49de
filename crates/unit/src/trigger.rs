//! What starts a unit other than the appliance's own start: time, a connection, a path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::values::{Mode, Path, Seconds};

/// Starts the unit by time. It is then not started with the appliance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timer {
    /// Times of the calendar, in UTC; any of them starts the unit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendar: Vec<Calendar>,
    /// The time from the unit's last end to its next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Seconds>,
    /// The time from the appliance's start to the unit's first start; left out with `interval`: as long as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_boot: Option<Seconds>,
    /// Whether a time of the calendar that passed while the appliance was off is made up for at its start.
    pub persistent: bool,
    /// At most so much is added to each time, at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Seconds>,
}

/// A socket that Cairn listens on for the unit and hands over by the protocol of sd_listen_fds(3), under this name and in the
/// order of the names. The first connection (or datagram) starts the unit, which is then not started with the appliance. It
/// stays open while the unit is not there: whoever connects waits, and is not refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenSocket {
    /// Where it listens.
    pub listen: Listen,
    /// How many connections may wait to be accepted.
    #[serde(default = "backlog")]
    pub backlog: u16,
    /// The permission bits of a Unix socket.
    #[serde(default = "socket_mode")]
    pub mode: Mode,
}

fn backlog() -> u16 {
    1024
}
fn socket_mode() -> Mode {
    Mode(0o666)
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// A TCP port of the unit, by IPv4 and IPv6.
    Tcp(u16),
    /// A UDP port of the unit, by IPv4 and IPv6.
    Udp(u16),
    /// A Unix stream socket in a folder of `[runtime]`, by its path in the unit.
    Unix(Path),
}

/// Starts the unit when something is there, by the path at which the unit sees it: in a folder of its own `[state]`, or in one
/// that it needs of another unit. It is then not started with the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathTrigger {
    /// A file or folder is at this path.
    Exists(Path),
    /// The folder has an entry.
    NotEmpty(Path),
    /// The file, or an entry of the folder, was written, made, renamed or removed since the unit's last start.
    Changed(Path),
}

impl PathTrigger {
    /// The path that is watched.
    pub fn path(&self) -> &Path {
        match self {
            PathTrigger::Exists(path) | PathTrigger::NotEmpty(path) | PathTrigger::Changed(path) => path,
        }
    }

    /// The key that it is written with.
    pub fn key(&self) -> &'static str {
        match self {
            PathTrigger::Exists(_) => "exists",
            PathTrigger::NotEmpty(_) => "not_empty",
            PathTrigger::Changed(_) => "changed",
        }
    }
}

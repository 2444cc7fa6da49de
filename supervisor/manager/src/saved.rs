//! What a successor must know, in `/run/cairn/manager/state.json`: written whole before anything that it describes is done.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::beside::Beside;
use crate::dhcp::Lease;
use crate::error::Error;
use crate::machine::{End, Machine};

/// One unit. What an older manager did not write has its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Where it stands.
    pub machine: Machine,
    /// Whether it is wanted up.
    pub up: bool,
    /// The request for its process; 0 if none is under way.
    pub token: u64,
    /// The sandbox's first process; 0 if not known.
    pub pid: i32,
    /// How that ended, while others of the unit are still there.
    pub ended: Option<End>,
    /// Kills for want of memory before this process.
    pub oom: u64,
    /// What the service says about itself.
    pub status: String,
    /// Each state with the time of its beginning, in milliseconds since the kernel's start; at most 64, from the first.
    pub phases: Vec<(String, u64)>,
    /// The error of the kernel that it told last; 0 if none.
    pub errno: i32,
    /// By when it must say that it is alive, and how often, in milliseconds.
    pub watchdog: Option<Watchdog>,
    /// A reload under way.
    pub reload: Option<Reloading>,
    /// Health checks that failed in a row, and what the last one said.
    pub ill: (u32, String),
    /// When its main process was last started, in seconds since 1970; also before this boot, if it has a timer.
    pub last_start: Option<u64>,
    /// When it last came to rest, in milliseconds.
    pub last_end: Option<u64>,
    /// The names of the descriptors kept for its next start.
    pub stored: Vec<String>,
    /// How often what it waits for has started it of late.
    pub pace: Pace,
    /// What was at its trigger's path when it was last started, as a number that tells one state from another.
    pub seen: Option<u64>,
}

/// How often a connection or a path has started a unit of late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Since when it is counted, in milliseconds.
    pub since_ms: u64,
    /// How often.
    pub count: u32,
}

/// How a unit's life is watched by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// The longest silence.
    pub every_ms: u64,
    /// When the present one is too long.
    pub at_ms: u64,
}

/// A reload that a service was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloading {
    /// Whether it has said that it began.
    pub begun: bool,
    /// By when it must be done.
    pub until_ms: u64,
}

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The units.
    pub units: BTreeMap<String, Kept>,
    /// The last request number given out.
    pub token: u64,
    /// The last exit known.
    pub exit: u64,
    /// Whether the machine is going down, and how: `poweroff` or `reboot`.
    pub power: Option<String>,
    /// When it began to.
    pub power_since: u64,
    /// Exits, process and status, that belong to nothing known yet: whose helper has not told the process's number so far.
    pub strays: VecDeque<(i32, i32)>,
    /// Processes beside the units' own.
    pub beside: Vec<Beside>,
    /// When the appliance began to start its units, in milliseconds.
    pub begun_ms: u64,
    /// Leases by device.
    pub leases: Vec<(String, Lease)>,
    /// Whether the firewall stands.
    pub firewall: bool,
    /// What was last said about the whole.
    pub announced: String,
}

impl Saved {
    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(path: &Path) -> Result<Option<Saved>, Error> {
        match fs::read(path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(saved) => Ok(Some(saved)),
                Err(e) => Err(Error::Init(format!(
                    "the saved state {} cannot be read: {e}",
                    path.display()
                ))),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    /// Writes it. `/run` is memory: no fsync.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self).map_err(|e| Error::Init(e.to_string()))?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, path))
            .map_err(Error::io("write", path))
    }
}

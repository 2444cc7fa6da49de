//! What a successor must know, in `/run/cairn/manager/state.json`: written whole before anything that it describes is done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dhcp::Lease;
use crate::error::Error;
use crate::machine::{End, Machine};

/// One unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
}

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// Programs of the host under way: name, request and process.
    pub host: Vec<(String, u64, i32)>,
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

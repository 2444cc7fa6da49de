//! Dumps of what units keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The units that can be dumped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Dumps {
    /// Each of them.
    pub units: Vec<UnitDumps>,
}

/// A unit's dumps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UnitDumps {
    /// The unit.
    pub unit: String,
    /// Whether one is made every night.
    pub daily: bool,
    /// How many are kept.
    pub keep: u32,
    /// Those that there are, the newest first.
    pub dumps: Vec<Dump>,
    /// Whether one is being made.
    pub under_way: bool,
    /// In how many milliseconds one is made without being asked for; `null` while that is not known, since the unit is not ready.
    pub next_ms: Option<u64>,
    /// Why the last try did not make one; empty if it did.
    pub failed: String,
    /// Whether one should have been made every night, and for two days none was.
    pub overdue: bool,
    /// The dump that the unit is going back to now; `null` if it is not.
    pub restoring: Option<String>,
    /// How the last restore since the appliance's start ended; `null` if there was none.
    pub restored: Option<RestoreEnd>,
    /// Whether there is the state of before a restore, to which `before` goes back.
    pub before: bool,
}

/// A dump.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Dump {
    /// Its name.
    pub name: String,
    /// When it was begun, in seconds since 1970.
    pub at: u64,
    /// Its size.
    pub bytes: u64,
    /// The version of the appliance that made it.
    pub appliance: String,
    /// Why the unit cannot go back to it; empty if it can.
    pub refused: String,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RestoreEnd {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The dump whose state is there; empty if it failed.
    pub dump: String,
    /// Why it failed, and the state is the one of before; empty if it did not.
    pub why: String,
}

//! The answer of learning: what a unit did, and what its file should say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What learning from a unit came to so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Learned {
    /// The unit.
    pub unit: String,
    /// Whether it is learned from at the moment.
    pub state: LearnState,
    /// How much longer.
    pub left_ms: u64,
    /// How long it has been, or was, learned from since its first call.
    pub heard_ms: u64,
    /// Why it ended before its time; empty if it did not.
    pub reason: String,
    /// How many calls were told.
    pub told: u64,
    /// Different things that found no room in the record; where there are any, nothing is said to be unused.
    pub dropped: u64,
    /// What was seen.
    pub seen: Sightings,
    /// What the unit's file should say.
    pub advice: Vec<Advice>,
    /// The same as TOML: the unit's tables as they would be, with the reasons as comments.
    pub toml: String,
}

/// Whether a unit is learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LearnState {
    /// It was not, since this manager started.
    #[default]
    Never,
    /// It was asked for, and the unit's first call has not come yet.
    Waiting,
    /// It is.
    Running,
    /// It was.
    Ended,
}

/// What was seen, each thing once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sightings {
    /// Calls that were told, by name.
    pub calls: Vec<Sighting>,
    /// Calls that would have been refused, by name.
    pub refused: Vec<Sighting>,
    /// Files and folders read, by their real path in the unit.
    pub read: Vec<Sighting>,
    /// Files and folders written, made, changed or removed, or tried to.
    pub written: Vec<Sighting>,
    /// Programs run.
    pub programs: Vec<Sighting>,
    /// Addresses that sockets were bound to.
    pub bound: Vec<Sighting>,
    /// Addresses connected or sent to.
    pub connected: Vec<Sighting>,
    /// Capabilities that calls needed.
    pub capabilities: Vec<Sighting>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sighting {
    /// What.
    pub what: String,
    /// How often.
    pub times: u64,
    /// Who did it first, and by which call.
    pub example: String,
}

/// One change of the unit's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// Whether it grants more, or less.
    pub direction: Direction,
    /// The key in the unit's file, like `sandbox.system_calls`; empty for a note.
    pub key: String,
    /// What is to be set, or added to or taken from the list, as TOML; empty where the key is to be removed.
    pub value: String,
    /// Why.
    pub why: String,
    /// How often that was seen.
    pub times: u64,
    /// Who did it first, and by which call.
    pub example: String,
}

/// Which way an advice goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The service does what the unit refuses.
    Wider,
    /// The unit grants what the service did not use.
    Tighter,
    /// The service does what no key of a unit's file can grant, or what is to be decided by a person.
    Note,
}

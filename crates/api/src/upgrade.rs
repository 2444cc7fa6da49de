//! The answers about upgrades.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The versions that the appliance has, what is being done about them, and what was found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrades {
    /// The version that runs.
    pub version: String,
    /// Whether the running version has proved itself, and what it is waited for otherwise.
    pub proving: Option<Proving>,
    /// The boot entries, as they were last looked at.
    pub versions: UpgradeVersions,
    /// What is being done, or was done last since the start.
    pub task: Option<UpgradeTask>,
    /// What a repository or bundle offered when it was last asked.
    pub offered: Option<UpgradeOffer>,
    /// Where later versions come from; null if only from bundles.
    pub url: Option<String>,
    /// The channel that is followed.
    pub channel: String,
    /// What the appliance does by itself.
    pub policy: UpgradePolicy,
}

/// What the appliance does about later versions by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradePolicy {
    /// `automatic`, `notify` or `off`.
    pub mode: String,
    /// When it may restart by itself, each as `[WEEKDAYS] HH:MM-HH:MM` in UTC; none: that is left to the owner.
    pub window: Vec<String>,
    /// How many bytes a second it fetches at most; null: as many as come.
    pub bandwidth: Option<u64>,
    /// The owner lets nothing be installed; null if not, or no longer.
    pub hold: Option<UpgradeHold>,
}

/// The owner lets nothing be installed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeHold {
    /// Until when, as in RFC 3339; null: until it is taken back.
    pub until: Option<String>,
    /// Why; may be empty.
    pub reason: String,
}

impl std::fmt::Display for UpgradeHold {
    /// As a sentence begins with it: `upgrades are held until 2027-01-31 00:00 UTC (audit)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("upgrades are held")?;
        if let Some(until) = &self.until {
            write!(f, " until {}", spoken(until))?;
        }
        match self.reason.trim() {
            "" => Ok(()),
            why => write!(f, " ({why})"),
        }
    }
}

/// A version that has to prove itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proving {
    /// What it still waits for, in a sentence.
    pub waits_for: String,
    /// In how many milliseconds it is given up.
    pub left_ms: u64,
}

/// The boot entries of the appliance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeVersions {
    /// That of the running version.
    pub running: Option<UpgradeVersion>,
    /// That of the other slot.
    pub other: Option<UpgradeVersion>,
    /// The last version that was given up, until another one has proved itself.
    pub failed: Option<FailedVersion>,
    /// Whether the running version has to have a network address before it is kept: the machine had one when it was installed.
    #[serde(default)]
    pub was_reached: bool,
    /// Whether firmware starts only what is signed by keys that it knows (Secure Boot).
    #[serde(default)]
    pub secure_boot: bool,
    /// What stands in the way of upgrades, in sentences.
    pub problems: Vec<String>,
}

/// A boot entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeVersion {
    /// The version.
    pub version: String,
    /// The file on the ESP.
    pub entry: String,
    /// How often it will still be tried; null once it has proved itself.
    pub tries_left: Option<u32>,
}

/// A version that was given up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedVersion {
    /// The version.
    pub version: String,
    /// Why.
    pub why: String,
    /// The last lines of the log: of the units because of which, or of all before it stopped.
    #[serde(default)]
    pub log: Vec<String>,
}

/// What is done about upgrades by a process of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeTask {
    /// `check`, `install`, `restart`, `rollback`, `commit` or `fail`.
    pub what: String,
    /// Whether the appliance began it by itself.
    pub automatic: bool,
    /// The version that it is about, once that is known.
    pub version: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// What it is at: `metadata`, `compare`, `write`, `verify`, `boot` or `done`; `data` while states are brought to what the version of before
    /// reads.
    pub phase: String,
    /// Bytes done of `total` in this phase.
    pub done: u64,
    /// All bytes of this phase.
    pub total: u64,
    /// Bytes of the new version that the appliance had already.
    pub reused: u64,
    /// Bytes that were read from the repository or bundle.
    pub fetched: u64,
    /// How long it has taken or took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What a repository or bundle offers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeOffer {
    /// The newest version of the channel.
    pub version: String,
    /// Whether that is newer than what runs.
    pub newer: bool,
    /// What the publisher says of it.
    pub notes: String,
    /// Which packages differ, each in a line.
    pub changes: Vec<String>,
    /// The version that the changes are counted from.
    pub since: Option<String>,
    /// Whether it is this appliance's turn to have it: `now`, `later`, `paused`, or `open` if the publisher has not said yet when.
    pub turn: String,
    /// When its turn comes, as in RFC 3339, if that is known and `later`.
    pub turn_at: Option<String>,
    /// What the publisher says of a pause; may be empty.
    pub turn_why: String,
    /// Why this appliance cannot have it, as far as that is known before it is fetched; null if nothing stands against it.
    #[serde(default)]
    pub refused: Option<String>,
    /// The publisher has withdrawn the version that runs, for this reason, which may be empty; null if not.
    pub withdrawn: Option<String>,
    /// When this was found out, as in RFC 3339.
    pub at: String,
}

impl UpgradeOffer {
    /// Why a newer version is not this appliance's yet, in a sentence without its full stop; `None` if it is.
    pub fn waits(&self) -> Option<String> {
        let version = &self.version;
        let because = match self.turn_why.trim() {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        match (self.turn.as_str(), &self.turn_at) {
            _ if !self.newer => None,
            ("later", Some(at)) => Some(format!(
                "Version {version} is being given out; this appliance's turn comes on {}",
                spoken(at)
            )),
            ("paused", _) => Some(format!("The publisher has paused version {version}{because}")),
            ("open" | "later", _) => Some(format!(
                "Version {version} is being given out; the publisher has not said yet when this appliance's turn comes"
            )),
            _ => None,
        }
    }

    /// That a newer version is not for this appliance, in a sentence without its full stop; `None` if it is.
    pub fn stands_against(&self) -> Option<String> {
        let why = self.refused.as_ref().filter(|_| self.newer)?;
        Some(format!(
            "Version {} is offered, but cannot be installed: {why}",
            self.version
        ))
    }

    /// That the version which runs was withdrawn, in a sentence with its full stop; `None` if not.
    pub fn taken_back(&self, running: &str) -> Option<String> {
        let because = match self.withdrawn.as_deref()?.trim() {
            "" => String::new(),
            why => format!(": {why}"),
        };
        let what = match self.newer {
            true => format!("install version {}", self.version),
            false => "`cairn upgrade rollback` starts the version of before, if the other slot has it".to_owned(),
        };
        Some(format!(
            "The publisher has withdrawn version {running}, which runs{because}; {what}."
        ))
    }
}

/// A time of RFC 3339 in UTC as a sentence has it.
fn spoken(at: &str) -> String {
    match (at.get(..10), at.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => at.to_owned(),
    }
}

/// What happened to versions, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeHistory {
    /// The lines.
    pub lines: Vec<UpgradeLine>,
}

/// One thing that happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeLine {
    /// When, as in RFC 3339.
    pub at: String,
    /// `offered`, `installed`, `not-installed`, `restarting`, `committed`, `failed`, `rolled-back`, `held` or `released`.
    pub what: String,
    /// Which version it is about.
    pub version: String,
    /// The version that ran.
    pub running: String,
    /// Why; empty where that says itself.
    pub why: String,
}

//! What a successor must know, in `/run/cairn/manager/state.json`: written whole before anything that it describes is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use cairn_unit::{Manifest, StateVersion};
use serde::{Deserialize, Serialize};

use crate::beside::Beside;
use crate::dhcp::Lease;
use crate::error::Error;
use crate::log::Word;
use crate::machine::{End, Machine};
use crate::migrate::Lowering;
use crate::rules::Rules;

/// No machine is up for so many requests or milliseconds: what counts on from less does not overflow.
const MOST: u64 = u64::MAX >> 1;

/// One unit. What an older manager did not write has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// What its sandbox reported instead of running the command, or how the command ended.
    pub report: Option<End>,
    /// Kills for want of memory before this process.
    pub oom: u64,
    /// What the service says about itself.
    pub status: String,
    /// Each state with the time of its beginning, in milliseconds since the kernel's start; at most 64, from the first.
    pub phases: Vec<(String, u64)>,
    /// Since when it is in its state, in milliseconds.
    pub since_ms: u64,
    /// The error of the kernel that it told last; 0 if none.
    pub errno: i32,
    /// By when it must say that it is alive, and how often, in milliseconds.
    pub watchdog: Option<Watchdog>,
    /// By when it must have ended, since it has said that it stops, in milliseconds.
    pub leaves_by: Option<u64>,
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
    /// While it is learned from.
    pub learning: Option<Learning>,
    /// Whether the filter of its process is one that refuses nothing.
    pub open: bool,
    /// What its process has granted to other units: each account with a number that tells one grant from another.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub granted: BTreeMap<String, u64>,
    /// When it was last told that a password of its is another one, in milliseconds.
    pub retold: u64,
    /// The version to which its state is brought down, for the version of the appliance that is gone back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<StateVersion>,
    /// The dump of which a state is being made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<String>,
    /// How the last restore of this boot ended: when, in seconds since 1970, and the dump, or why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<(u64, Result<String, String>)>,
}

/// How often a connection or a path has started a unit of late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Since when it is counted, in milliseconds.
    pub since_ms: u64,
    /// How often.
    pub count: u32,
}

/// A time in which a unit is learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learning {
    /// How long it was asked for.
    pub for_ms: u64,
    /// When it ends at the latest.
    pub until_ms: u64,
    /// Whether the unit's first call has come.
    pub begun: bool,
}

/// How a unit's life is watched by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// The longest silence.
    pub every_ms: u64,
    /// When the present one is too long; nothing until it is ready, which may take longer.
    pub at_ms: Option<u64>,
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
    /// When the last unit was done with bringing its state to another version, in milliseconds.
    pub migrated_ms: u64,
    /// States that are being brought down for the version of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowering: Option<Lowering>,
    /// Leases by device.
    pub leases: Vec<(String, Lease)>,
    /// What devices sent in one packet before a choice changed that, in bytes.
    pub mtus: BTreeMap<String, u32>,
    /// Devices that something was chosen for and that are not there.
    pub absent: BTreeSet<String>,
    /// Whether the firewall stands.
    pub firewall: bool,
    /// The number of the last word that was said.
    pub word: u64,
    /// What was said and is not known to be stored.
    pub words: VecDeque<Word>,
    /// Wrong codes that were given to set the appliance up.
    pub tries: crate::setup::Tries,
    /// What was last said about the whole.
    pub announced: String,
}

impl Saved {
    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read, or no manager of this appliance can have written it.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Option<Saved>, Error> {
        let refuse = |why: String| Error::Init(format!("the saved state {} cannot be read: {why}", path.display()));
        match fs::read(path) {
            Ok(text) => Saved::parse(&text, manifest).map(Some).map_err(refuse),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    /// Reads it from its text. Units that the appliance does not have are left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8], manifest: &Manifest) -> Result<Saved, String> {
        let mut saved: Saved = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        saved.units.retain(|name, _| manifest.units.contains_key(name.as_str()));
        saved.check(manifest).map(|()| saved)
    }

    /// Whether everything that is later relied on holds.
    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        for (name, kept) in &self.units {
            let rules = manifest.units.get(name.as_str()).map(|u| Rules::of(name, &u.unit));
            if !rules.is_some_and(|rules| kept.machine.legal(&rules)) {
                let state = kept.machine.state.name();
                return Err(format!("unit {name} cannot stand in the state `{state}` as it is told"));
            }
        }
        let pids = self.units.values().map(|k| k.pid);
        if pids.chain(self.beside.iter().map(|b| b.pid)).any(|pid| pid < 0) {
            return Err("a process has a negative number".into());
        }
        if self.token.max(self.power_since).max(self.word) > MOST {
            return Err("more requests, or a longer time, than there can have been".into());
        }
        if let Some(beside) = self.beside.iter().find(|b| !b.purpose.known(manifest)) {
            return Err(format!("nothing here does {:?}", beside.purpose));
        }
        match self.leases.iter().find(|(_, lease)| lease.prefix > 32) {
            Some((device, lease)) => Err(format!("the network of {device} has {} bits", lease.prefix)),
            None => Ok(()),
        }
    }
}

/// The state as it was written last. There may be hundreds of units, and what happens changes one or two of them: only their text
/// is made anew.
#[derive(Debug, Default)]
pub struct Text {
    units: BTreeMap<String, (Kept, String)>,
    rest: String,
}

impl Text {
    /// Brings the text up to date; whether anything has changed.
    pub fn update(&mut self, saved: &mut Saved) -> bool {
        let mut changed = false;
        let count = self.units.len();
        self.units.retain(|name, _| saved.units.contains_key(name));
        changed |= count != self.units.len();
        for (name, kept) in &saved.units {
            let known = self.units.get(name).is_some_and(|(before, _)| before == kept);
            if !known {
                let text = serde_json::to_string(kept).unwrap_or_default();
                self.units.insert(name.clone(), (kept.clone(), text));
                changed = true;
            }
        }
        let units = std::mem::take(&mut saved.units);
        let rest = serde_json::to_string(saved).unwrap_or_default();
        saved.units = units;
        changed |= rest != self.rest;
        self.rest = rest;
        changed
    }

    /// The whole, as [`Saved::parse`] reads it.
    #[must_use]
    pub fn whole(&self) -> String {
        const EMPTY: &str = r#"{"units":{}"#;
        let units = self.units.iter().map(|(name, (_, text))| {
            let name = serde_json::to_string(name).unwrap_or_default();
            format!("{name}:{text}")
        });
        let units = units.collect::<Vec<_>>().join(",");
        let rest = self.rest.strip_prefix(EMPTY).unwrap_or("}");
        format!(r#"{{"units":{{{units}}}{rest}"#)
    }

    /// Writes it. `/run` is memory: no fsync.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let new = path.with_extension("new");
        fs::write(&new, self.whole())
            .and_then(|()| fs::rename(&new, path))
            .map_err(Error::io("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    /// One unit's state as JSON, and the reading of it.
    fn read(kept: &str, more: &str) -> Result<Saved, String> {
        let manifest = manifest(&[("web", r#"{"service": {"command": ["/x"], "before": [["/y"]]}}"#)]);
        let text = format!(r#"{{"units": {{"web": {kept}, "gone": {{"pid": -1}}}}{more}}}"#);
        Saved::parse(text.as_bytes(), &manifest)
    }

    #[test]
    fn the_text_is_that_of_the_whole_state_whatever_has_changed_since_the_last() {
        let mut saved = Saved::default();
        let mut text = Text::default();
        let mut same = |saved: &mut Saved, changes: bool| {
            assert_eq!(text.update(saved), changes);
            assert_eq!(text.whole(), serde_json::to_string(saved).unwrap());
            assert!(!text.update(saved), "nothing has changed since");
        };
        same(&mut saved, true);
        for name in ["web", "db"] {
            saved.units.insert(name.into(), Kept::default());
        }
        same(&mut saved, true);
        saved.units.get_mut("db").unwrap().status = "a \"word\"".into();
        same(&mut saved, true);
        saved.exit = 7;
        same(&mut saved, true);
        saved.units.remove("web");
        same(&mut saved, true);
        same(&mut saved, false);
    }

    #[test]
    fn a_state_that_no_manager_wrote_is_refused_and_units_that_are_gone_are_left_out() {
        let machine = |state: &str, busy: &str, deadline: &str| {
            format!(
                r#"{{"machine": {{"state": {state}, "busy": "{busy}", "attempts": 0, "deadline": {deadline}, "ran": false}}}}"#
            )
        };
        let starting = |before: u64| {
            machine(
                &format!(r#"{{"state": "starting", "before": {before}}}"#),
                "process",
                "5",
            )
        };
        assert_eq!(read(&starting(1), "").unwrap().units.len(), 1);
        // Such a unit would wait for ever, or for a step that it does not have.
        let stopping = r#"{"state": "stopping", "then": "stop", "killed": false}"#;
        for bad in [starting(2), machine(stopping, "nothing", "null")] {
            assert!(
                read(&bad, "").unwrap_err().starts_with("unit web cannot stand in"),
                "{bad}"
            );
        }
        for (kept, more) in [
            (r#"{"pid": -1}"#, ""),
            ("{}", r#", "token": 18446744073709551615"#),
            ("{}", r#", "power": "reboot", "power_since": 18446744073709551615"#),
            (
                "{}",
                r#", "beside": [{"token": 1, "pid": -1, "purpose": {"host": "nft"}, "until_ms": null}]"#,
            ),
            (
                "{}",
                r#", "beside": [{"token": 1, "pid": 7, "purpose": {"host": "../x"}, "until_ms": null}]"#,
            ),
            (
                "{}",
                r#", "beside": [{"token": 1, "pid": 7, "purpose": {"reload": "gone"}, "until_ms": null}]"#,
            ),
            (
                "{}",
                r#", "leases": [["eth0", {"address": "10.0.0.2", "prefix": 33, "router": null, "dns": [], "domain": null, "server": "10.0.0.1", "seconds": 60}]]"#,
            ),
        ] {
            assert!(read("{}", "").is_ok() && read(kept, more).is_err(), "{kept}{more}");
        }
    }
}

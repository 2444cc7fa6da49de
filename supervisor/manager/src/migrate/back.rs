//! What going back to the version of before means for the data of units, and how it is done: worked out and said before anything is touched.

use std::collections::BTreeMap;

use cairn_api::Accepted;
use cairn_unit::{Manifest, Migration, StateVersion};
use serde::{Deserialize, Serialize};

use super::decide::{Found, NoWay, Way, way};
use super::follow::spoken;
use super::place::States;
use super::record::Record;
use crate::config::Config;
use crate::control::Answered;
use crate::error::Error;
use crate::machine::{Busy, Event, State};
use crate::supervisor::Supervisor;
use crate::upgrade::Work;

/// What going back means for the state of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Its steps bring it down to this version, and nothing is lost.
    Lower(StateVersion),
    /// The state of before takes its place; what was written since this time, in seconds since 1970, is lost.
    Lose(u64),
    /// That version could not read it, and why not.
    Impossible(String),
}

/// What going back to a version that reads `target` means for a state; nothing if that version can read it, or brings it up itself.
pub fn means(found: &Found, target: &StateVersion, migration: Option<&Migration>) -> Option<Means> {
    let recorded = found.record.as_ref().map(|record| &record.version);
    match way(recorded, target, migration) {
        Ok(Way::Down(_)) => Some(Means::Lower(target.clone())),
        Err(NoWay::Later(version, target)) => {
            let before = found.before.as_ref();
            let before = before.map(|record| record.as_ref().map(|r| r.version.clone()).unwrap_or_default());
            let since = found.record.as_ref().map_or(0, |record| record.since);
            Some(match before {
                Some(before) if before == target => Means::Lose(since),
                _ => Means::Impossible(format!(
                    "its data has version {version}, that version of the appliance reads {target}, and there is no copy of the data of before"
                )),
            })
        }
        Ok(Way::Stay | Way::Up(_)) | Err(NoWay::Gap(..)) => None,
    }
}

/// What going back means for all units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Back {
    /// States that are brought down.
    pub lower: BTreeMap<String, StateVersion>,
    /// States that give way to those of before, and since when what was written is lost.
    pub lose: BTreeMap<String, u64>,
    /// Units whose state would be left unreadable.
    pub impossible: BTreeMap<String, String>,
}

impl Back {
    /// Finds it out. `targets` are the versions that the other version of the appliance reads, by unit; none: it is from before there were any.
    ///
    /// # Errors
    /// A note that cannot be read.
    pub fn find(
        config: &Config,
        manifest: &Manifest,
        targets: Option<&BTreeMap<String, StateVersion>>,
    ) -> Result<Back, Error> {
        let mut back = Back::default();
        for (name, unit) in &manifest.units {
            let name = name.as_str();
            let target = match targets {
                // A unit that the other version does not have.
                Some(targets) => match targets.get(name) {
                    Some(target) => target.clone(),
                    None => continue,
                },
                None => StateVersion::default(),
            };
            if unit.unit.state.is_empty() || !config.state(name).exists() {
                continue;
            }
            let found = States::of(config, name)
                .find()
                .map_err(|e| Error::State(format!("unit {name}: {e}")))?;
            match means(&found, &target, unit.unit.migration.as_ref()) {
                None => {}
                Some(Means::Lower(target)) => drop(back.lower.insert(name.to_owned(), target)),
                Some(Means::Lose(since)) => drop(back.lose.insert(name.to_owned(), since)),
                Some(Means::Impossible(why)) => drop(back.impossible.insert(name.to_owned(), why)),
            }
        }
        Ok(back)
    }

    /// Why it is not done, if the owner has not said that data may be lost, or in any case.
    pub fn refusal(&self, other: &str, may_lose: bool) -> Option<String> {
        if !self.impossible.is_empty() {
            let all = self.impossible.iter().map(|(unit, why)| format!("unit {unit}: {why}"));
            return Some(format!(
                "version {other} cannot be gone back to: {}; nothing was changed",
                all.collect::<Vec<_>>().join("; ")
            ));
        }
        if self.lose.is_empty() || may_lose {
            return None;
        }
        let all = self
            .lose
            .iter()
            .map(|(unit, since)| format!("{unit} since {}", spoken(*since)));
        Some(format!(
            "version {other} cannot read the data of: {}. Going back puts the data of before in its place, and what was written since is lost; \
             `cairn upgrade rollback --lose-data` does that; nothing was changed",
            all.collect::<Vec<_>>().join(", ")
        ))
    }
}

/// States that are being brought down before the version of before is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowering {
    /// The version of the appliance that is gone back to.
    pub version: String,
    /// Units whose states are brought down, and to which version.
    pub units: BTreeMap<String, StateVersion>,
    /// Units whose states give way to those of before.
    pub lose: Vec<String>,
    /// Whether all that is done, and the boot entries are being changed.
    pub done: bool,
}

impl Supervisor {
    /// Which states the other version of the appliance reads; `None` if it was installed before that was noted.
    fn states_of(&self, version: &str) -> Result<Option<BTreeMap<String, StateVersion>>, Error> {
        let path = self.config.at("/data/upgrade/states.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut all: BTreeMap<String, BTreeMap<String, StateVersion>> = serde_json::from_slice(&text).map_err(|e| {
            Error::State(format!(
                "which data version {version} reads cannot be known: {} is damaged ({e})",
                path.display()
            ))
        })?;
        // A release that says nothing is from before there were versions.
        Ok(all.remove(version).filter(|states| !states.is_empty()))
    }

    /// `POST /v1/upgrade/rollback`: says what it means for the data of units, and begins if that is nothing or the owner agrees.
    pub(crate) fn roll_back_upgrade(&mut self, may_lose: bool) -> Answered {
        let versions = self.upgrading.versions.as_ref();
        let other = versions.and_then(|versions| Some(versions.other.as_ref()?.version.clone()));
        let Some(other) = other else {
            return self.work_on_upgrade("rollback", None, false);
        };
        if self.saved.lowering.is_some() {
            return Answered::error(409, "the version of before is being gone back to");
        }
        let at_work = |kept: &crate::saved::Kept| matches!(kept.machine.busy, Busy::Preparing | Busy::Committing);
        if let Some((name, _)) = self.saved.units.iter().find(|(_, kept)| at_work(kept)) {
            let why = format!("unit {name} is being started; try again when that is done; nothing was changed");
            return Answered::error(409, &why);
        }
        let back = self
            .states_of(&other)
            .and_then(|targets| Back::find(&self.config, &self.built, targets.as_ref()));
        let back = match back {
            Ok(back) => back,
            Err(e) => return Answered::error(409, &format!("{e}; nothing was changed")),
        };
        if let Some(why) = back.refusal(&other, may_lose) {
            return Answered::error(409, &why);
        }
        let lose: Vec<String> = back.lose.into_keys().collect();
        if back.lower.is_empty() {
            return match self.give_way(&lose) {
                Ok(()) => self.work_on_upgrade("rollback", None, false),
                Err(e) => Answered::error(500, &format!("{e}; nothing was changed")),
            };
        }
        if self.saved.power.is_some() || self.upgrade_runs() {
            return Answered::error(
                409,
                "something else is being done about versions; try again when it has ended",
            );
        }
        for (name, target) in &back.lower {
            if let Some(kept) = self.saved.units.get_mut(name) {
                kept.lower = Some(target.clone());
            }
        }
        self.console.say(&format!(
            "Going back to version {other}: the data of {} is brought to what it reads, then the appliance restarts",
            back.lower.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
        let names: Vec<String> = back.lower.keys().cloned().collect();
        self.saved.lowering = Some(Lowering {
            version: other,
            units: back.lower,
            lose,
            done: false,
        });
        for name in names {
            self.feed(&name, Event::Restart);
        }
        Answered::of(202, &Accepted::default())
    }

    /// Lets the states of these units give way to those of before.
    fn give_way(&self, units: &[String]) -> Result<(), Error> {
        units
            .iter()
            .try_for_each(|name| States::of(&self.config, name).set_unproved(true))
    }

    /// Goes on with going back when all states have been brought down.
    pub(crate) fn follow_lowering(&mut self) {
        let Some(lowering) = self.saved.lowering.clone().filter(|lowering| !lowering.done) else {
            return;
        };
        for (name, target) in &lowering.units {
            let Some(kept) = self.saved.units.get(name) else {
                continue;
            };
            let reason = match &kept.machine.state {
                State::Failed { reason } => reason.clone(),
                State::Stopped => {
                    let record = Record::read(&self.config.state(name));
                    match record {
                        Ok(Some(record)) if record.version == *target => continue,
                        Ok(_) => "it was stopped before it was done".to_owned(),
                        Err(e) => e.to_string(),
                    }
                }
                _ => return,
            };
            return self.stay(&format!("unit {name}: {reason}"));
        }
        if self.upgrade_runs() {
            return;
        }
        if let Err(e) = self.give_way(&lowering.lose) {
            return self.stay(&e.to_string());
        }
        self.saved.lowering = Some(Lowering { done: true, ..lowering });
        if !self.start_upgrade(Work::of(&["rollback"])) {
            self.stay("the boot entries could not be changed");
        }
    }

    /// Going back has come to an end: the appliance restarts, or the version that runs stays, and brings up again what was brought down.
    pub(crate) fn lowering_ended(&mut self, wrong: Option<&str>) {
        if self.saved.lowering.as_ref().is_some_and(|lowering| lowering.done) {
            match wrong {
                None => self.go_down("reboot"),
                Some(why) => self.stay(why),
            }
        }
    }

    fn stay(&mut self, why: &str) {
        let Some(lowering) = self.saved.lowering.take() else {
            return;
        };
        let version = lowering.version;
        self.console.say(&format!(
            "Version {version} is not gone back to: {why}; this version stays"
        ));
        for name in lowering.units.keys() {
            let Some(kept) = self.saved.units.get_mut(name) else {
                continue;
            };
            kept.lower = None;
            if kept.up {
                self.feed(name, Event::Restart);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str) -> Option<Record> {
        Some(Record {
            version: version.parse().unwrap(),
            appliance: "1.1.0".into(),
            unproved: false,
            since: 1_795_420_800,
            by: String::new(),
            restored: 0,
        })
    }

    fn what(now: &str, before: Option<&str>, target: &str, migration: &str) -> Option<Means> {
        let found = Found {
            record: record(now),
            before: before.map(record),
            ..Found::default()
        };
        let migration = serde_json::from_str(migration).unwrap();
        means(&found, &target.parse().unwrap(), Some(&migration))
    }

    const DOWN: &str = r#"{"version": 2, "steps": [{"from": 1, "to": 2, "up": ["/u"], "down": ["/d"]}]}"#;
    const UP: &str = r#"{"version": 2, "steps": [{"from": 1, "to": 2, "up": ["/u"]}]}"#;

    #[test]
    fn a_way_down_loses_nothing_and_the_copy_of_before_all_that_was_written_since() {
        assert_eq!(what("2", Some("1"), "2", DOWN), None);
        let lower = Means::Lower("1".parse().unwrap());
        assert_eq!(what("2", Some("1"), "1", DOWN), Some(lower));
        assert_eq!(what("2", Some("1"), "1", UP), Some(Means::Lose(1_795_420_800)));
        let Some(Means::Impossible(why)) = what("2", None, "1", UP) else {
            panic!()
        };
        assert!(
            why.contains("its data has version 2") && why.contains("reads 1"),
            "{why}"
        );
        // Forwards that version does it itself.
        assert_eq!(what("2", None, "3", UP), None);
        let follows = r#"{"package": "p", "steps": [{"up": ["/u"]}]}"#;
        assert_eq!(
            what("11.8", Some("10.11"), "10.11", follows),
            Some(Means::Lose(1_795_420_800))
        );
        assert_eq!(what("11.8", None, "12.3", follows), None);
    }

    #[test]
    fn what_would_be_lost_is_said_before_anything_is_touched() {
        let mut back = Back {
            lose: BTreeMap::from([("db".to_owned(), 1_795_420_800)]),
            ..Back::default()
        };
        let why = back.refusal("1.0.0", false).unwrap();
        assert!(
            why.starts_with("version 1.0.0 cannot read the data of: db since 2026-11-23 08:00 UTC.")
                && why.contains("what was written since is lost; `cairn upgrade rollback --lose-data` does that; nothing was changed"),
            "{why}"
        );
        assert_eq!(back.refusal("1.0.0", true), None);
        back.impossible.insert("web".into(), "no".into());
        assert!(
            back.refusal("1.0.0", true)
                .unwrap()
                .starts_with("version 1.0.0 cannot be gone back to: unit web: no;")
        );
    }
}

//! What the manager does about the versions of units' states beside the life of each unit: what a start found is said, what a kept version no longer
//! needs is removed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::place::{States, settle};
use crate::clock::now_ms;
use crate::machine::State;
use crate::supervisor::{Msg, Supervisor};

/// A time as a sentence has it, from seconds since 1970.
pub(crate) fn spoken(seconds: u64) -> String {
    let at = cairn_config::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

impl Supervisor {
    /// A unit's state in the machine is another one: what follows for its state on the disk.
    pub(crate) fn changed_state(&mut self, name: &str, before: &State, now: &State) {
        if matches!(before, State::Migrating { .. }) && !matches!(now, State::Migrating { .. }) {
            self.saved.migrated_ms = now_ms();
        }
        self.follow_restore(name, now);
        match now {
            State::Stopping { .. } => {
                if let Some(live) = self.live.get(name) {
                    live.halt.store(true, Ordering::Relaxed);
                }
            }
            // That ended before everybody's eyes: only what is cut off counts.
            State::Stopped | State::Failed { .. } if *before != State::Preparing => {
                States::of(&self.config, name).forget_tries();
                if matches!(before, State::Migrating { .. } | State::Stopping { .. }) {
                    self.discard_copy(name);
                }
            }
            State::Ready { .. } => self.settle_states(&[name.to_owned()]),
            _ => {}
        }
    }

    /// Removes the copy that steps worked on: it may take half of the disk.
    fn discard_copy(&self, name: &str) {
        let (config, unit) = (self.config.clone(), name.to_owned());
        let Some(folders) = self.live.get(name).map(|live| live.folders.clone()) else {
            return;
        };
        if !config.new_state(name).exists() {
            return;
        }
        tokio::task::spawn_blocking(move || {
            let _alone = folders.lock().unwrap_or_else(PoisonError::into_inner);
            // What stays is removed by the next start.
            let _ = States::of(&config, &unit).discard_copy();
        });
    }

    /// The owner wants a unit started: what was tried before does not count.
    pub(crate) fn try_states_again(&self, name: &str) {
        States::of(&self.config, name).forget_tries();
    }

    /// A unit's state was put back.
    pub(crate) fn restored(&mut self, name: &str, since: u64) {
        let line = format!(
            "unit {name}: its state is again what it was on {}, since the version of the appliance that changed it was given up; what was written \
             after that is gone",
            spoken(since)
        );
        self.console.say(&line);
    }

    /// If the version that runs is kept: notes it for these units, and removes states of before that nobody can go back to.
    pub(crate) fn settle_states(&self, units: &[String]) {
        let other = match &self.built.upgrade {
            // Without another slot nothing is gone back to once the unit is ready.
            None => None,
            Some(_) => {
                let Some(versions) = &self.upgrading.versions else {
                    return;
                };
                if versions
                    .running
                    .as_ref()
                    .is_none_or(|running| running.tries_left.is_some())
                {
                    return;
                }
                versions.other.as_ref().map(|other| other.version.clone())
            }
        };
        let keeps = |name: &&String| {
            let unit = self.built.units.get(name.as_str());
            unit.is_some_and(|unit| !unit.unit.state.is_empty())
        };
        let locked = |name: &String| Some((name.clone(), self.live.get(name)?.folders.clone()));
        let units: Vec<_> = units.iter().filter(keeps).filter_map(locked).collect();
        if units.is_empty() {
            return;
        }
        let (config, manifest) = (self.config.clone(), self.built.clone());
        let send = self.send.clone();
        tokio::task::spawn_blocking(move || {
            let mut wrong = Vec::new();
            for (name, folders) in units {
                let _alone = folders.lock().unwrap_or_else(PoisonError::into_inner);
                wrong.extend(settle(&config, &manifest, &[name], other.as_deref()));
            }
            let _ = send.send(Msg::Settled(wrong));
        });
    }
}

//! What the manager does about dumps: it has them made, one at a time, and units go back to them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use cairn_api::Accepted;
use cairn_log::Priority;

use super::restore::{BEFORE, Restores, fits};
use super::store::{Dumps, name_of, time_of};
use super::{Facts, wait};
use crate::beside::Purpose;
use crate::clock::{now_ms, seconds};
use crate::control::Answered;
use crate::error::Error;
use crate::machine::{Busy, Event, State};
use crate::supervisor::{Msg, Supervisor};

/// The real clock can be set, so the time of the next dump is worked out anew after so long, in milliseconds.
const LOOK_MS: u64 = 600_000;
/// A unit that was ready for less has not proved that a restored state is good, in milliseconds.
const PROVED_MS: u64 = 60_000;

/// What the manager holds of dumps.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// When each unit's newest dump was begun, in seconds since 1970.
    newest: BTreeMap<String, Option<u64>>,
    /// Since when a last try has failed, in milliseconds, and why.
    failed: BTreeMap<String, (u64, String)>,
    /// The dump that is being flushed and read.
    finishing: Option<(String, String)>,
}

impl Supervisor {
    /// Learns what dumps there are, once for each manager.
    pub(crate) fn begin_dumps(&mut self) {
        let units = self.built.units.iter().filter(|(_, unit)| unit.unit.dump.is_some());
        let newest = units.map(|(name, _)| {
            let name = name.to_string();
            let newest = Dumps::of(&self.config, &name).newest();
            (name, newest)
        });
        self.dumping.newest = newest.collect();
    }

    /// Whether a dump of the unit is being made.
    pub(crate) fn dumps_now(&self, name: &str) -> bool {
        let of = |b: &crate::beside::Beside| matches!(&b.purpose, Purpose::Dump(unit, _) if unit == name);
        self.saved.beside.iter().any(of) || self.dumping.finishing.as_ref().is_some_and(|(unit, _)| unit == name)
    }

    fn dumps_any(&self) -> bool {
        let is = |b: &crate::beside::Beside| matches!(b.purpose, Purpose::Dump(..));
        self.dumping.finishing.is_some() || self.saved.beside.iter().any(is)
    }

    pub(crate) fn newest_dump(&self, name: &str) -> Option<u64> {
        self.dumping.newest.get(name).copied().flatten()
    }

    pub(crate) fn dump_failure(&self, name: &str) -> &str {
        self.dumping.failed.get(name).map_or("", |(_, why)| why.as_str())
    }

    /// The milliseconds until a unit is dumped without being asked for; `None` if it is not ready, or never is.
    pub(crate) fn dump_wait(&self, name: &str) -> Option<u64> {
        let dump = self.manifest.units.get(name)?.unit.dump.as_ref()?;
        let State::Ready { since_ms } = self.saved.units.get(name)?.machine.state else {
            return None;
        };
        if !dump.daily || self.saved.power.is_some() {
            return None;
        }
        let now = now_ms();
        Some(wait(&Facts {
            now: seconds(),
            newest: self.newest_dump(name),
            ready_ms: now.saturating_sub(since_ms),
            failed_ms: self.dumping.failed.get(name).map(|(at, _)| now.saturating_sub(*at)),
            seed: self.live.get(name)?.rules.seed,
        }))
    }

    /// When dumps are to be looked at again, in milliseconds.
    pub(crate) fn next_dump(&self) -> Option<u64> {
        if self.dumps_any() {
            return None;
        }
        let waits = self.dumping.newest.keys().filter_map(|name| self.dump_wait(name));
        Some(now_ms().saturating_add(waits.min()?.min(LOOK_MS)))
    }

    /// Has the next dump made that is due. One at a time: the disk is everybody's.
    pub(crate) fn follow_dumps(&mut self) {
        if self.dumps_any() {
            return;
        }
        let due = self.dumping.newest.keys().find(|name| self.dump_wait(name) == Some(0));
        if let Some(name) = due.cloned()
            && let Err(e) = self.begin_dump(&name)
        {
            self.dump_failed(&name, &e.to_string());
        }
    }

    fn begin_dump(&mut self, name: &str) -> Result<(), Error> {
        let Some(dump) = self.manifest.units.get(name).and_then(|unit| unit.unit.dump.clone()) else {
            return Err(Error::State(format!("{name} is not dumped: its file has no [dump]")));
        };
        let own = name_of(seconds());
        let (file, room) = Dumps::of(&self.config, name).begin(&own)?;
        let purpose = Purpose::Dump(name.to_owned(), own.clone());
        let begun = self.enter_into(
            purpose,
            &dump.command,
            OwnedFd::from(file),
            room.most,
            dump.timeout.millis(),
        );
        if begun.is_err() {
            Dumps::of(&self.config, name).discard(&own);
        }
        begun
    }

    fn dump_failed(&mut self, name: &str, why: &str) {
        self.console
            .say_of(name, Priority::Warning, &format!("was not dumped: {why}"));
        self.dumping.failed.insert(name.to_owned(), (now_ms(), why.to_owned()));
    }

    /// The command that dumps a unit has ended.
    pub(crate) fn dump_written(&mut self, name: &str, dump: String, result: Result<(), String>) {
        if let Err(why) = result {
            Dumps::of(&self.config, name).discard(&dump);
            return self.dump_failed(name, &why);
        }
        let (Some(unit), Some(live)) = (self.manifest.units.get(name), self.live.get(name)) else {
            return;
        };
        let keep = unit.unit.dump.as_ref().map_or(1, |dump| dump.keep);
        let version = unit.state_version.clone();
        let ready_ms = match self.saved.units.get(name).map(|kept| &kept.machine.state) {
            Some(State::Ready { since_ms }) => now_ms().saturating_sub(*since_ms),
            _ => 0,
        };
        let proved = ready_ms >= PROVED_MS;
        let (config, appliance) = (self.config.clone(), self.manifest.version.clone());
        let (send, folders) = (self.send.clone(), live.folders.clone());
        self.dumping.finishing = Some((name.to_owned(), dump.clone()));
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || {
            let finished = Dumps::of(&config, &name).finish(&dump, &version, &appliance, keep);
            if finished.is_ok() && proved {
                // From here on the restored state is what is gone back to.
                let _alone = folders.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = Restores::of(&config, &name).drop_before();
            }
            let result = finished.map(|note| note.bytes).map_err(|e| e.to_string());
            let _ = send.send(Msg::Dumped(name, dump, result));
        });
    }

    /// A dump is whole, or could not be kept.
    pub(crate) fn dumped(&mut self, name: &str, dump: &str, result: Result<u64, String>) {
        self.dumping.finishing = None;
        match result {
            Ok(bytes) => {
                self.dumping.failed.remove(name);
                self.dumping.newest.insert(name.to_owned(), time_of(dump));
                let size = cairn_unit::Bytes(bytes);
                self.console
                    .say_of(name, Priority::Notice, &format!("was dumped ({dump}, {size})"));
            }
            Err(why) => self.dump_failed(name, &why),
        }
    }

    /// Has a dump made because somebody wants one.
    pub(crate) fn make_dump(&mut self, name: &str, who: &str) -> Answered {
        if self
            .manifest
            .units
            .get(name)
            .is_none_or(|unit| unit.unit.dump.is_none())
        {
            return Answered::error(409, &format!("{name} is not dumped: its file has no [dump]"));
        }
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        let ready = |kept: &crate::saved::Kept| kept.machine.ready() && kept.machine.busy == Busy::Process;
        if !self.saved.units.get(name).is_some_and(ready) {
            return Answered::error(
                409,
                &format!("{name} is not ready, so it cannot be dumped; see `cairn explain {name}`"),
            );
        }
        if self.dumps_any() {
            return Answered::error(409, "another dump is being made; try again when it is done");
        }
        match self.begin_dump(name) {
            Ok(()) => {
                self.console
                    .say_of(name, Priority::Notice, &format!("is dumped, as {who} wants it"));
                let units = vec![name.to_owned()];
                Answered::of(202, &Accepted { units })
            }
            Err(e) => Answered::error(409, &format!("{name} was not dumped: {e}")),
        }
    }

    /// A dump as it is.
    pub(crate) fn read_dump(&mut self, name: &str, dump: &str, who: &str) -> Answered {
        let dumps = Dumps::of(&self.config, name);
        if let Err(why) = dumps.note(dump) {
            return Answered::error(404, &why);
        }
        match std::fs::File::open(dumps.path(dump)) {
            Ok(file) => {
                self.console
                    .say_of(name, Priority::Notice, &format!("its dump {dump} is read by {who}"));
                Answered::file(file)
            }
            Err(e) => Answered::error(500, &format!("the dump {dump} cannot be read: {e}")),
        }
    }

    /// Lets a unit go back to a dump. What was accepted is on the disk: it is done whatever becomes of this manager or of the power.
    pub(crate) fn restore_unit(&mut self, name: &str, dump: &str, who: &str) -> Answered {
        let Some(unit) = self.manifest.units.get(name).filter(|unit| unit.unit.dump.is_some()) else {
            return Answered::error(409, &format!("{name} cannot be restored: its file has no [dump]"));
        };
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        if !self.site.enabled(name) {
            return Answered::error(409, &format!("{name} is disabled; `cairn enable {name}` lets it run"));
        }
        let Some(kept) = self.saved.units.get(name).filter(|kept| kept.lower.is_none()) else {
            return Answered::error(
                409,
                &format!("{name} is being made ready for another version of the appliance"),
            );
        };
        let changes = |state: &State| {
            matches!(
                state,
                State::SettingUp { .. } | State::Restoring { .. } | State::Migrating { .. }
            )
        };
        if kept.restoring.is_some() || changes(&kept.machine.state) {
            return Answered::error(
                409,
                &format!("the state of {name} is being made; try again when that is done"),
            );
        }
        let restores = Restores::of(&self.config, name);
        let possible = match dump {
            BEFORE if restores.before().exists() => Ok(()),
            BEFORE => Err((404, format!("there is no state of {name} of before a restore"))),
            dump => match Dumps::of(&self.config, name).note(dump) {
                Ok(note) => fits(&note.version, &unit.state_version)
                    .and_then(|()| {
                        let (size, free) = super::room::of_disk(&self.config.dumps()).map_err(|e| e.to_string())?;
                        super::room::room_to_restore(size, free, note.bytes)
                    })
                    .map_err(|why| (409, format!("{dump}: {why}"))),
                Err(why) => Err((404, why)),
            },
        };
        if let Err((status, why)) = possible {
            return Answered::error(status, &why);
        }
        if let Err(e) = restores.ask(dump, crate::clock::real_ns()) {
            return Answered::error(500, &format!("nothing was changed: {e}"));
        }
        self.console.say_of(
            name,
            Priority::Notice,
            &format!("goes back to the dump {dump}, as {who} wants it"),
        );
        self.try_states_again(name);
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.up = true;
            kept.restored = None;
        }
        self.feed(name, Event::Restart);
        let units = vec![name.to_owned()];
        Answered::of(202, &Accepted { units })
    }

    /// The file that a restore reads.
    pub(crate) fn dump_to_restore(&self, name: &str) -> Result<OwnedFd, Error> {
        let marker = Restores::of(&self.config, name).marker()?;
        let dump = marker.map_or_else(String::new, |marker| marker.dump);
        let path = Dumps::of(&self.config, name).path(&dump);
        let file = std::fs::File::open(&path).map_err(Error::io("open", path))?;
        Ok(file.into())
    }

    /// Which of the unit's commands is number `step` of a restore: first those of its setup whose work no dump holds.
    pub(crate) fn restore_role(&self, name: &str, step: usize) -> crate::plan::Role {
        let unit = self.manifest.units.get(name);
        let setup: Vec<usize> = unit.map_or_else(Vec::new, |unit| unit.unit.setup_before_restore().collect());
        match setup.get(step) {
            Some(number) => crate::plan::Role::Setup(*number),
            None => crate::plan::Role::Restore(step - setup.len()),
        }
    }

    /// A unit's state in the machine is another one: whether a restore has begun, succeeded or failed.
    pub(crate) fn follow_restore(&mut self, name: &str, now: &State) {
        let Some(kept) = self.saved.units.get_mut(name) else {
            return;
        };
        // What is under way is being killed.
        if matches!(now, State::Stopping { .. }) {
            return;
        }
        if matches!(now, State::Restoring { .. }) {
            if kept.restoring.is_none() {
                let marker = Restores::of(&self.config, name).marker();
                kept.restoring = Some(marker.ok().flatten().map_or_else(String::new, |marker| marker.dump));
            }
            return;
        }
        let Some(dump) = kept.restoring.take() else { return };
        match now {
            State::Starting { .. } => self.restore_ended(name, Ok(dump)),
            State::Failed { reason } | State::Restarting { reason, .. } => {
                let ended = match Restores::of(&self.config, name).give_up() {
                    Ok(true) => Ok(dump),
                    Ok(false) => Err(reason.clone()),
                    Err(e) => Err(format!("{reason}; {e}")),
                };
                self.restore_ended(name, ended);
                // It goes on with the state that it had, whatever its unit says of restarts.
                let _ = self.send.send(Msg::Done(name.to_owned(), Event::Start));
            }
            // Stopped or begun anew: the request is still there for the next start.
            _ => {}
        }
    }

    /// How a restore has ended.
    pub(crate) fn restore_ended(&mut self, name: &str, ended: Result<String, String>) {
        match &ended {
            Ok(dump) => {
                let line = format!("has what it kept in the dump {dump}");
                self.console.say_of(name, Priority::Notice, &line);
            }
            Err(why) => {
                let line = format!("could not go back to the dump, and its state is as it was: {why}");
                self.console.say_of(name, Priority::Warning, &line);
            }
        }
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.restored = Some((seconds(), ended));
        }
    }
}

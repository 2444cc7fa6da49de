//! Units as a whole: what an earlier manager left of them, which may go on, and what is due.

use cairn_init::protocol::{ExitStatus, Request};
use cairn_unit::Dependants;

use crate::cgroup;
use crate::clock::now_ms;
use crate::machine::{Busy, Event, State, Then};
use crate::supervisor::Supervisor;

impl Supervisor {
    /// A successor compares what was saved with what there is.
    pub(crate) fn adopt(&mut self) {
        self.adopt_beside();
        self.adopt_lessons();
        let mut missing = Vec::new();
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in names {
            self.read_status(&name);
            let Some(kept) = self.saved.units.get(&name).cloned() else {
                continue;
            };
            match kept.machine.busy {
                Busy::Nothing => {}
                Busy::Preparing | Busy::Committing => self.feed(&name, Event::Lost),
                Busy::Process => {
                    let folder = self.config.cgroup(&name);
                    let there = kept.pid != 0 && cgroup::holds(&folder, kept.pid);
                    if kept.ended.is_some() {
                        self.await_empty(&name, kept.token);
                    } else if there || self.helper_runs(kept.token) {
                        if matches!(kept.machine.state, State::Starting { before } if before == self.before(&name)) {
                            self.watch_sign(&name, kept.token);
                        }
                        self.read_notify(&name);
                        self.watch_health(&name);
                        self.ask_ready(&name, kept.token);
                    } else {
                        missing.push((name.clone(), kept.token));
                    }
                }
            }
            // All there is may have been said to the manager before.
            let shown = self.shown(&name);
            if let Some(live) = self.live.get_mut(&name) {
                live.shown = shown;
            }
        }
        if !missing.is_empty() {
            self.missing = missing;
            self.post(Request::Barrier, Vec::new());
        }
    }

    /// Every process that had ended when it was missed is reaped, and its exit has a number up to `passed`. What is missing when that
    /// exit was told has left no status: a manager was killed before it could ask for the process.
    pub(crate) fn judge_missing(&mut self) {
        let Some((_, all)) = self.passed.filter(|(seq, _)| *seq <= self.saved.exit) else {
            return;
        };
        self.passed = None;
        if !all {
            return self.post(Request::Barrier, Vec::new());
        }
        for (name, token) in std::mem::take(&mut self.missing) {
            self.read_status(&name);
            let waits = |k: &crate::saved::Kept| {
                k.token == token && k.machine.busy == Busy::Process && k.ended.is_none() && k.report.is_none()
            };
            let Some(pid) = self.saved.units.get(&name).filter(|k| waits(k)).map(|k| k.pid) else {
                continue;
            };
            let stray = self.saved.strays.iter().find(|(stray, _)| pid != 0 && *stray == pid);
            if let Some((_, status)) = stray.copied() {
                self.main_ended(&name, ExitStatus(status));
                self.saved.strays.retain(|(stray, _)| *stray != pid);
            } else {
                cgroup::kill(&self.config.cgroup(&name));
                self.feed(&name, Event::Lost);
            }
        }
    }

    fn before(&self, name: &str) -> usize {
        self.live.get(name).map_or(0, |l| l.rules.before)
    }

    /// Lets go what can start, and stops what is not wanted and not needed.
    pub(crate) fn reconcile(&mut self) {
        loop {
            let mut events = Vec::new();
            for (name, kept) in &self.saved.units {
                let Some(unit) = self.manifest.units.get(name.as_str()) else {
                    continue;
                };
                let serves = |other: &cairn_unit::Name| self.serves(other.as_str());
                let consumers_rest = self.manifest.units.iter().all(|(other, u)| {
                    !u.waits_for.iter().any(|w| w.as_str() == name)
                        || self.saved.units.get(other.as_str()).is_none_or(|k| k.machine.at_rest())
                });
                let stopping = matches!(
                    kept.machine.state,
                    State::Stopping { then: Then::Stop, .. } | State::Finishing { then: Then::Stop, .. }
                );
                let bereft = unit.waits_for.iter().any(|other| self.takes_along(other.as_str()))
                    && matches!(kept.machine.state, State::Starting { .. } | State::Ready { .. });
                if kept.lower.is_some() {
                    // It needs nobody for that, and is not stopped in the middle.
                    if kept.machine.state == State::Waiting {
                        events.push((name.clone(), Event::Go));
                    }
                } else if kept.up
                    && kept.machine.state == State::Waiting
                    && unit.waits_for.iter().all(serves)
                    && self.ungranted(name).is_empty()
                    && self.sockets(name).is_some()
                {
                    events.push((name.clone(), Event::Go));
                } else if !kept.up && !kept.machine.at_rest() && !stopping && consumers_rest {
                    events.push((name.clone(), Event::Stop));
                } else if kept.up && bereft {
                    // It then waits until what it needs is ready again.
                    events.push((name.clone(), Event::Restart));
                }
            }
            if events.is_empty() {
                return;
            }
            for (name, event) in events {
                self.feed(&name, event);
            }
        }
    }

    /// Whether a unit has failed and takes those that need it along.
    fn takes_along(&self, name: &str) -> bool {
        let declared = |u: &std::sync::Arc<cairn_unit::ManifestUnit>| u.unit.failure.dependants == Dependants::Stop;
        // One that is started again at once has left those two states before anybody looks.
        let failed = |k: &crate::saved::Kept| match k.machine.state {
            State::Failed { .. } | State::Restarting { .. } => true,
            State::Preparing
            | State::SettingUp { .. }
            | State::Restoring { .. }
            | State::Migrating { .. }
            | State::Starting { .. } => k.machine.attempts > 0,
            _ => false,
        };
        self.manifest.units.get(name).is_some_and(declared) && self.saved.units.get(name).is_some_and(failed)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        let now = now_ms();
        let due = |k: &crate::saved::Kept| k.machine.deadline.is_some_and(|d| d <= now);
        let names: Vec<String> = self
            .saved
            .units
            .iter()
            .filter(|(_, k)| due(k))
            .map(|(n, _)| n.clone())
            .collect();
        for name in names {
            self.feed(&name, Event::Tick);
        }
        self.look_after(now);
    }
}

//! What the manager does for units beyond starting and stopping them: reloads, watchdogs, health, timers, and what follows
//! from a failure.

use std::time::Duration;

use cairn_api::Accepted;
use cairn_unit::{Check, FailureAction, ReadyWhen, Reload};

use crate::address;
use crate::beside::Purpose;
use crate::clock::{now_ms, seconds};
use crate::control::Answered;
use crate::machine::{Event, State};
use crate::saved::{Kept, Reloading};
use crate::supervisor::{Msg, Supervisor};
use crate::timers::{self, Facts};

/// How long one question for readiness may take, in milliseconds.
const ASK_PATIENCE_MS: u64 = 10_000;
/// The time between two questions for readiness.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// The most descriptors that are kept for one unit.
const STORED: usize = cairn_init::protocol::MAX_LISTEN;

impl Supervisor {
    /// When something here is next due, in milliseconds.
    pub(crate) fn next_care(&self) -> Option<u64> {
        let now = now_ms();
        let kept = self.saved.units.iter().filter_map(|(name, kept)| {
            let timer = self.timer_wait(name).map(|wait| now.saturating_add(wait));
            let watchdog = kept.watchdog.and_then(|w| w.at_ms);
            let reload = kept.reload.map(|r| r.until_ms);
            let learning = kept.learning.map(|l| l.until_ms);
            [timer, watchdog, kept.leaves_by, reload, learning]
                .into_iter()
                .flatten()
                .min()
        });
        let beside = self.saved.beside.iter().filter_map(|b| b.until_ms);
        kept.chain(beside).min()
    }

    /// Time has passed.
    pub(crate) fn look_after(&mut self, now: u64) {
        self.end_late_beside(now);
        self.end_lessons(now);
        let names: Vec<String> = self.saved.units.keys().cloned().collect();
        for name in names {
            let Some(kept) = self.saved.units.get_mut(&name) else {
                continue;
            };
            if kept.reload.take_if(|r| r.until_ms <= now).is_some() {
                let line = format!("unit {name}: did not finish reloading in time; it runs on");
                self.console.say(&line);
            }
            if let Some(watchdog) = self
                .saved
                .units
                .get(&name)
                .and_then(|k| k.watchdog)
                .filter(|w| w.at_ms.is_some_and(|at| at <= now))
            {
                let reason = format!("was silent for {} ms (watchdog)", watchdog.every_ms);
                self.hung(&name, reason);
            }
            let leaves = self
                .saved
                .units
                .get_mut(&name)
                .and_then(|k| k.leaves_by.take_if(|by| *by <= now));
            if leaves.is_some() {
                self.hung(&name, "said that it stops, and did not end".into());
            }
            if self.timer_wait(&name) == Some(0)
                && let Some(kept) = self.saved.units.get_mut(&name)
            {
                kept.up = true;
                // A oneshot that is done rests as ready, so a start would mean nothing to it.
                self.feed(&name, Event::Restart);
            }
        }
    }

    /// A service that hangs is not asked: it would not hear.
    fn hung(&mut self, name: &str, reason: String) {
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.watchdog = None;
        }
        self.feed(name, Event::Unhealthy(reason));
        crate::cgroup::kill(&self.config.cgroup(name));
    }

    /// How long a unit at rest waits for its timer; nothing if it has none or is not at rest.
    pub(crate) fn timer_wait(&self, name: &str) -> Option<u64> {
        let timer = self.manifest.units.get(name)?.unit.timer.as_ref()?;
        let kept = self.saved.units.get(name)?;
        // A oneshot that is done rests as ready; after a failure it is `restart` that starts it.
        let rests = match kept.machine.state {
            State::Stopped | State::Failed { .. } => true,
            State::Ready { .. } => kept.machine.busy == crate::machine::Busy::Nothing,
            _ => false,
        };
        if !rests || self.saved.power.is_some() || !self.site.enabled(name) {
            return None;
        }
        let facts = Facts {
            now: seconds(),
            now_ms: now_ms(),
            last_start: kept.last_start,
            last_end_ms: kept.last_end,
            boot_ms: self.saved.begun_ms,
            dice: self.live.get(name)?.rules.seed ^ kept.last_start.unwrap_or(0),
        };
        timers::wait(timer, &facts)
    }

    /// Begins to check a unit that has become ready, until its process ends.
    pub(crate) fn watch_health(&mut self, name: &str) {
        let (Some(unit), Some(kept)) = (self.manifest.units.get(name), self.saved.units.get(name)) else {
            return;
        };
        let Some(health) = unit.unit.health.clone() else { return };
        let (send, of, token) = (self.send.clone(), name.to_owned(), kept.token);
        let host = address::ipv4(unit.index).into();
        if matches!(health.check, Check::Exec(_)) {
            self.check_again(name, token);
            return;
        }
        self.keep_task(name, async move {
            let within = health.timeout.duration();
            loop {
                tokio::time::sleep(health.interval.duration()).await;
                let result = match &health.check {
                    Check::Tcp(port) => crate::health::tcp(host, *port, within).await,
                    Check::Http(check) => crate::health::http(host, check, within).await,
                    Check::Exec(_) => return,
                };
                if send.send(Msg::Health(of.clone(), token, result)).is_err() {
                    return;
                }
            }
        });
    }

    /// Sets the time of the next check by a command.
    pub(crate) fn check_again(&mut self, name: &str, token: u64) {
        let interval = self
            .manifest
            .units
            .get(name)
            .and_then(|u| u.unit.health.as_ref())
            .map(|h| h.interval);
        if let Some(interval) = interval.filter(|_| self.runs(name, token)) {
            self.later(name, interval.duration(), Msg::CheckHealth(name.to_owned(), token));
        }
    }

    /// Checks a unit's health by its command.
    pub(crate) fn check_health(&mut self, name: &str, token: u64) {
        let health = self.manifest.units.get(name).and_then(|u| u.unit.health.clone());
        if let Some(health) = health.filter(|_| self.runs(name, token))
            && let Check::Exec(command) = &health.check
            && let Err(e) = self.enter(
                Purpose::Health(name.to_owned(), token),
                command,
                health.timeout.millis(),
            )
        {
            self.health_told(name, token, Err(e.to_string()));
            self.check_again(name, token);
        }
    }

    /// Asks by the unit's command whether it is ready.
    pub(crate) fn ask_ready(&mut self, name: &str, token: u64) {
        let ready = self.manifest.units.get(name).and_then(|u| u.unit.ready.clone());
        let starting = |k: &Kept| k.token == token && matches!(k.machine.state, State::Starting { .. });
        if let Some(ReadyWhen::Command(command)) = ready.map(|r| r.when)
            && self.saved.units.get(name).is_some_and(starting)
            && let Err(e) = self.enter(Purpose::Ready(name.to_owned(), token), &command, ASK_PATIENCE_MS)
        {
            self.console
                .say(&format!("unit {name}: cannot ask whether it is ready: {e}"));
            self.ask_ready_again(name, token);
        }
    }

    /// Asks once more in a moment.
    pub(crate) fn ask_ready_again(&mut self, name: &str, token: u64) {
        self.later(name, ASK_PAUSE, Msg::AskReady(name.to_owned(), token));
    }

    fn runs(&self, name: &str, token: u64) -> bool {
        let kept = self.saved.units.get(name);
        kept.is_some_and(|k| k.token == token && matches!(k.machine.state, State::Ready { .. }))
    }

    /// Sends a message to ourselves after a while, if the unit's process is still the same.
    fn later(&mut self, name: &str, pause: Duration, message: Msg) {
        let send = self.send.clone();
        self.keep_task(name, async move {
            tokio::time::sleep(pause).await;
            let _ = send.send(message);
        });
    }

    fn keep_task(&mut self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(live) = self.live.get_mut(name) {
            live.tasks.retain(|task| !task.is_finished());
            live.tasks.push(tokio::spawn(task));
        }
    }

    /// What a check of the process with this request number came to.
    pub(crate) fn health_told(&mut self, name: &str, token: u64, result: Result<(), String>) {
        let limit = self
            .manifest
            .units
            .get(name)
            .and_then(|u| u.unit.health.as_ref())
            .map_or(1, |h| h.failures);
        let Some(kept) = self.saved.units.get_mut(name).filter(|k| k.token == token) else {
            return;
        };
        let Err(why) = result else {
            kept.ill = (0, String::new());
            return;
        };
        kept.ill = (kept.ill.0.saturating_add(1), why.clone());
        if kept.ill.0 >= limit {
            let reason = format!("{limit} health checks in a row failed, the last: {why}");
            self.feed(name, Event::Unhealthy(reason));
        } else {
            let line = format!("unit {name}: health check {} of {limit} failed: {why}", kept.ill.0);
            self.console.say(&line);
        }
    }

    /// Asks a running unit to read its configuration again.
    pub(crate) fn reload_unit(&mut self, name: &str) -> Answered {
        let (Some(unit), Some(kept)) = (self.manifest.units.get(name), self.saved.units.get(name)) else {
            return Answered::error(404, &format!("there is no unit {name}"));
        };
        if !kept.machine.ready() {
            return Answered::error(
                409,
                &format!("{name} is not ready, so it cannot reload; see `cairn status`"),
            );
        }
        let until_ms = now_ms().saturating_add(self.live.get(name).map_or(0, |l| l.rules.start_ms));
        let sent = match &unit.unit.service.reload {
            None => {
                self.feed(name, Event::Restart);
                true
            }
            Some(Reload::Signal(signal)) => self.signal(name, signal.number()),
            Some(Reload::Notify) => {
                let sent = self.signal(name, 1);
                if let Some(kept) = self.saved.units.get_mut(name).filter(|_| sent) {
                    kept.reload = Some(Reloading { begun: false, until_ms });
                }
                sent
            }
            Some(Reload::Command(command)) => {
                let (command, within) = (command.clone(), until_ms.saturating_sub(now_ms()));
                match self.enter(Purpose::Reload(name.to_owned()), &command, within) {
                    Ok(()) => true,
                    Err(e) => return Answered::error(409, &e.to_string()),
                }
            }
        };
        if sent {
            let units = vec![name.to_owned()];
            Answered::of(202, &Accepted { units })
        } else {
            Answered::error(409, &format!("{name} has no process to ask"))
        }
    }

    /// What follows, once, when a unit has failed for good.
    pub(crate) fn failed_for_good(&mut self, name: &str, reason: &str) {
        let Some(unit) = self.manifest.units.get(name) else {
            return;
        };
        let failure = unit.unit.failure.clone();
        if let Some(command) = &failure.alert
            && let Err(e) = self.alert(name, command, reason)
        {
            self.console
                .say(&format!("unit {name}: nobody was told of its failure: {e}"));
        }
        if failure.action == FailureAction::Reboot && self.saved.power.is_none() {
            self.console.say(&format!(
                "unit {name} has failed; its unit says to start the machine again"
            ));
            self.go_down("reboot");
        }
    }

    /// The longest that the loop may sleep while a time of the calendar is waited for: the real clock can be set.
    pub(crate) fn calendar_pace(&self) -> Option<Duration> {
        let timed = |u: &std::sync::Arc<cairn_unit::ManifestUnit>| {
            u.unit.timer.as_ref().is_some_and(|t| !t.calendar.is_empty())
        };
        self.manifest
            .units
            .values()
            .any(timed)
            .then_some(Duration::from_secs(60))
    }

    /// A unit has come to rest, or its main process was started.
    pub(crate) fn note_times(&mut self, name: &str, rests: bool) {
        let Some(kept) = self.saved.units.get_mut(name) else {
            return;
        };
        if rests {
            kept.last_end = Some(now_ms());
            return;
        }
        let timer = self.manifest.units.get(name).is_some_and(|u| u.unit.timer.is_some());
        if let Some(started) = kept.last_start.filter(|_| timer) {
            let path = self.config.timer(name);
            // A time that could not be written is made up for once too often, which is better than once too seldom.
            tokio::task::spawn_blocking(move || timers::write_stamp(&path, started));
        }
    }

    /// Keeps descriptors for the unit's next start, also beyond this manager's life.
    pub(crate) fn keep_for_unit(&mut self, name: &str, kept_as: &str, fds: Vec<std::os::fd::OwnedFd>) {
        for fd in fds {
            // Its sockets and its network go the same way.
            let sockets = self.manifest.units.get(name).map_or(0, |u| u.unit.sockets.len());
            let others = if sockets == 0 { 0 } else { sockets + 1 };
            let Some(live) = self.live.get_mut(name) else { return };
            if live.stored.len() + others >= STORED {
                let line = format!("unit {name}: too many stored descriptors; the rest is closed");
                self.console.say(&line);
                return;
            }
            live.stored.push((kept_as.to_owned(), fd));
        }
        self.store_all(name);
    }

    /// Closes what is kept under a name.
    pub(crate) fn forget_for_unit(&mut self, name: &str, kept_as: &str) {
        if let Some(live) = self.live.get_mut(name) {
            live.stored.retain(|(own, _)| own != kept_as);
        }
        self.store_all(name);
    }

    /// Hands what is kept for a unit to cairn-init, by number, and saves the names.
    fn store_all(&mut self, name: &str) {
        let Some(live) = self.live.get(name) else { return };
        let copies: Vec<_> = live
            .stored
            .iter()
            .map(|(own, fd)| (own.clone(), fd.try_clone()))
            .collect();
        let before = self.saved.units.get(name).map_or(0, |k| k.stored.len());
        let mut names = Vec::new();
        for (own, copy) in copies {
            if let Ok(copy) = copy {
                self.store(&format!("fd{}", names.len()), name, copy);
                names.push(own);
            }
        }
        for number in names.len()..before {
            if let Some(id) = cairn_init::protocol::StoreId::new(format!("fd{number}@{name}")) {
                self.post(cairn_init::protocol::Request::Remove { id }, Vec::new());
            }
        }
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.stored = names;
        }
    }
}

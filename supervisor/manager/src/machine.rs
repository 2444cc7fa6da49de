//! The life of one unit as a pure function: (state, event) -> (state, actions).
//!
//! What it promises: whatever events come in whatever order, the state stays one of those below with its own
//! invariants ([`Machine::legal`]), never two things are under way at once, and after [`Event::Stop`] the unit comes to
//! rest as long as a kill ends its processes. It does no I/O and reads no clock: times are milliseconds of the caller's
//! monotonic clock.

use cairn_unit::Restart;
use serde::{Deserialize, Serialize};

use crate::rules::Rules;

/// How long after a kill it is repeated, in milliseconds.
const KILL_AGAIN_MS: u64 = 5_000;

/// Where a unit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// At rest: not asked for, or ended as it should.
    Stopped,
    /// Asked for; the units that it waits for are not all ready.
    Waiting,
    /// Its secrets, folders and templates are being made.
    Preparing,
    /// Setup step `step` (from 0) runs, or the finished state is being put in place (`step` = their number).
    SettingUp {
        /// Which.
        step: usize,
    },
    /// The same of the steps that make a new state of a dump; the state of before is there until that one takes its place.
    Restoring {
        /// Which.
        step: usize,
    },
    /// A copy of its state is being made, brought to another version, or put in the state's place.
    Migrating {
        /// Which step runs (from 0), once there is a copy; their number: it is being put in place.
        step: usize,
        /// How long each step may take, in milliseconds.
        timeouts: Vec<u64>,
        /// Whether it rests afterwards: the state is made for another version of the appliance.
        rest: bool,
    },
    /// `before` commands are done; the next one, or the main process, runs and is not ready.
    Starting {
        /// How many.
        before: usize,
    },
    /// It serves; a oneshot is done.
    Ready {
        /// Since when.
        since_ms: u64,
    },
    /// It was asked to stop or has failed, and something of it is still there.
    Stopping {
        /// What comes after.
        then: Then,
        /// Whether it has been killed.
        killed: bool,
    },
    /// The main process has ended; `after` command `step` (from 0) runs.
    Finishing {
        /// Which.
        step: usize,
        /// What comes after the last one.
        then: Then,
    },
    /// At rest: it could not be started or kept running, and will not be started again.
    Failed {
        /// Why.
        reason: String,
    },
    /// It failed and will be started again.
    Restarting {
        /// When.
        at_ms: u64,
        /// Why.
        reason: String,
    },
}

impl State {
    /// Its name, as it is saved and told.
    pub fn name(&self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Waiting => "waiting",
            State::Preparing => "preparing",
            State::SettingUp { .. } => "setting-up",
            State::Restoring { .. } => "restoring",
            State::Migrating { .. } => "migrating",
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Stopping { .. } => "stopping",
            State::Finishing { .. } => "finishing",
            State::Failed { .. } => "failed",
            State::Restarting { .. } => "restarting",
        }
    }
}

/// What comes after [`State::Stopping`] and [`State::Finishing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Rest.
    Stop,
    /// Another start at once.
    Start,
    /// What a failure leads to.
    Fail(String),
    /// Rest, as failed for good.
    GiveUp(String),
    /// A oneshot is done.
    Done,
}

/// The one thing that is under way for a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Busy {
    /// None.
    Nothing,
    /// [`Action::Prepare`] or [`Action::Copy`].
    Preparing,
    /// [`Action::Commit`], [`Action::PutBack`] or [`Action::Replace`].
    Committing,
    /// A process.
    Process,
}

/// What happens to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Someone wants it up.
    Start,
    /// Someone wants it down.
    Stop,
    /// Someone wants it down and up again.
    Restart,
    /// Everything that it waits for is ready.
    Go,
    /// [`Action::Prepare`] is done.
    Prepared {
        /// The state has to be made by the setup steps.
        setup: bool,
    },
    /// [`Action::Prepare`] is done, and another state has to be made of a dump.
    Restore,
    /// [`Action::Prepare`] is done, and the state has to be brought to another version.
    Migrate {
        /// How long each step may take, in milliseconds.
        timeouts: Vec<u64>,
        /// Whether the unit rests afterwards.
        rest: bool,
    },
    /// [`Action::Copy`] is done.
    Copied,
    /// [`Action::Prepare`] is done, and the unit cannot be started, however often that is tried.
    Refused(String),
    /// [`Action::Commit`], [`Action::PutBack`] or [`Action::Replace`] is done.
    Committed,
    /// What is under way, but no process, could not be done.
    Failed(String),
    /// The command has been executed: the sandbox stands.
    Executed,
    /// The sign of readiness.
    Ready,
    /// The process under way ended, and nothing of the unit runs any more.
    Exited(End),
    /// What was under way never began, or nobody knows how it ended: a manager died in between.
    Lost,
    /// It needs so many milliseconds more to start or to stop, from now on.
    Extend(u64),
    /// It does not serve although its process is there, for this reason.
    Unhealthy(String),
    /// Time has passed.
    Tick,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It never ran, or the kernel ended it, for this reason.
    Because(String),
}

impl End {
    fn reason(&self) -> String {
        match self {
            End::Code(code) => format!("ended with exit code {code}"),
            End::Signal(signal) => format!("ended by signal {signal}"),
            End::Because(reason) => reason.clone(),
        }
    }
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make secrets, folders and templates; answer [`Event::Prepared`], [`Event::Restore`], [`Event::Migrate`],
    /// [`Event::Refused`] or [`Event::Failed`].
    Prepare,
    /// Run this setup step; answer [`Event::Exited`].
    Setup(usize),
    /// Put the finished state in place; answer [`Event::Committed`] or [`Event::Failed`].
    Commit,
    /// Run this step of making a state of a dump; answer [`Event::Exited`].
    Restore(usize),
    /// Put that state in the place of the one of before; answer [`Event::Committed`] or [`Event::Failed`].
    PutBack,
    /// Copy the state; answer [`Event::Copied`] or [`Event::Failed`].
    Copy,
    /// Run this step between versions of the state on the copy; answer [`Event::Exited`].
    Migrate(usize),
    /// Put the copy in the state's place; answer [`Event::Committed`] or [`Event::Failed`].
    Replace,
    /// Run this command before the main one; answer [`Event::Exited`].
    Before(usize),
    /// Run the main process; answer [`Event::Executed`] and [`Event::Exited`].
    Main,
    /// Run this command after the main one; answer [`Event::Exited`].
    After(usize),
    /// Ask the process to stop.
    Signal,
    /// Kill every process of the unit.
    Kill,
}

/// A unit's state with what goes along with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Where it stands.
    pub state: State,
    /// What is under way.
    pub busy: Busy,
    /// Failures since it was last healthy.
    pub attempts: u32,
    /// When [`Event::Tick`] matters, in milliseconds.
    pub deadline: Option<u64>,
    /// Whether the main process was started and the `after` commands have not run yet.
    pub ran: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            state: State::Stopped,
            busy: Busy::Nothing,
            attempts: 0,
            deadline: None,
            ran: false,
        }
    }
}

impl Machine {
    /// Whether nothing of the unit runs and nothing will by itself.
    pub fn at_rest(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed { .. })
    }

    /// Whether the units that wait for it can start.
    pub fn ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether the state and what is under way fit together.
    pub fn legal(&self, rules: &Rules) -> bool {
        let timed = self.deadline.is_some();
        match &self.state {
            State::Stopped | State::Waiting | State::Failed { .. } => self.busy == Busy::Nothing && !timed,
            State::Preparing => self.busy == Busy::Preparing && !timed,
            State::SettingUp { step } if *step == rules.setup => self.busy == Busy::Committing && !timed,
            State::SettingUp { step } => *step < rules.setup && self.busy == Busy::Process && timed,
            State::Restoring { step } if *step == rules.restore => self.busy == Busy::Committing && !timed,
            State::Restoring { step } => *step < rules.restore && self.busy == Busy::Process && timed,
            State::Migrating { step, timeouts, .. } => match self.busy {
                Busy::Preparing => *step == 0 && !timed,
                Busy::Process => *step < timeouts.len() && timed,
                Busy::Committing => *step == timeouts.len() && !timed,
                Busy::Nothing => false,
            },
            State::Starting { before } => *before <= rules.before && self.busy == Busy::Process && timed,
            State::Ready { .. } if rules.oneshot => self.busy == Busy::Nothing && !timed,
            State::Ready { .. } => self.busy == Busy::Process && !timed,
            State::Stopping { .. } => match self.busy {
                Busy::Nothing => false,
                Busy::Process => timed,
                Busy::Preparing | Busy::Committing => !timed,
            },
            State::Finishing { step, .. } => *step < rules.after && self.busy == Busy::Process && timed,
            State::Restarting { at_ms, .. } => self.busy == Busy::Nothing && self.deadline == Some(*at_ms),
        }
    }

    fn to(&mut self, state: State, busy: Busy, deadline: Option<u64>) {
        self.state = state;
        self.busy = busy;
        self.deadline = deadline;
    }

    fn rest(&mut self) {
        self.attempts = 0;
        self.to(State::Stopped, Busy::Nothing, None);
    }

    fn fail(&mut self, rules: &Rules, reason: String, now: u64) {
        self.attempts = self.attempts.saturating_add(1);
        if rules.gives_up(self.attempts) {
            let reason = match rules.limit.filter(|_| rules.restart != Restart::Never) {
                Some(limit) => format!("{reason} ({limit} failures in a row: not started again)"),
                None => reason,
            };
            self.to(State::Failed { reason }, Busy::Nothing, None);
        } else {
            let at_ms = now.saturating_add(rules.delay(self.attempts));
            self.to(State::Restarting { at_ms, reason }, Busy::Nothing, Some(at_ms));
        }
    }

    /// Forgets earlier failures of a unit that was ready long enough.
    fn forget(&mut self, rules: &Rules, since_ms: u64, now: u64) {
        if now.saturating_sub(since_ms) >= rules.healthy_ms {
            self.attempts = 0;
        }
    }

    fn launch(&mut self, rules: &Rules, before: usize, now: u64) -> Action {
        let deadline = match self.state {
            State::Starting { .. } => self.deadline,
            _ => Some(now.saturating_add(rules.start_ms)),
        };
        self.to(State::Starting { before }, Busy::Process, deadline);
        if before < rules.before {
            Action::Before(before)
        } else {
            self.ran = true;
            Action::Main
        }
    }

    fn setup(&mut self, rules: &Rules, step: usize, now: u64) -> Action {
        if step < rules.setup {
            let deadline = now.saturating_add(rules.start_ms);
            self.to(State::SettingUp { step }, Busy::Process, Some(deadline));
            Action::Setup(step)
        } else {
            self.to(State::SettingUp { step }, Busy::Committing, None);
            Action::Commit
        }
    }

    fn restore(&mut self, rules: &Rules, step: usize, now: u64) -> Action {
        if step < rules.restore {
            let deadline = now.saturating_add(rules.restore_ms);
            self.to(State::Restoring { step }, Busy::Process, Some(deadline));
            Action::Restore(step)
        } else {
            self.to(State::Restoring { step }, Busy::Committing, None);
            Action::PutBack
        }
    }

    fn give_up(&mut self, reason: String) {
        self.to(State::Failed { reason }, Busy::Nothing, None);
    }

    fn migrate(&mut self, step: usize, timeouts: Vec<u64>, rest: bool, now: u64) -> Action {
        let (busy, deadline, action) = match timeouts.get(step) {
            Some(timeout) => (Busy::Process, Some(now.saturating_add(*timeout)), Action::Migrate(step)),
            None => (Busy::Committing, None, Action::Replace),
        };
        self.to(State::Migrating { step, timeouts, rest }, busy, deadline);
        action
    }

    fn stop(&mut self, rules: &Rules, then: Then, force: bool, now: u64) -> Option<Action> {
        if self.busy != Busy::Process {
            self.to(State::Stopping { then, killed: false }, self.busy, None);
            return None;
        }
        // A half-made state is discarded anyway, so nothing is gained by asking politely.
        let apart = matches!(
            self.state,
            State::SettingUp { .. } | State::Restoring { .. } | State::Migrating { .. }
        );
        let kill = force || apart;
        let wait = if kill { KILL_AGAIN_MS } else { rules.stop_ms };
        self.to(
            State::Stopping { then, killed: kill },
            Busy::Process,
            Some(now.saturating_add(wait)),
        );
        Some(if kill { Action::Kill } else { Action::Signal })
    }

    /// The main process has ended; what follows is `then`, after the commands that come after it.
    fn ended(&mut self, rules: &Rules, then: Then, now: u64) -> Option<Action> {
        if std::mem::take(&mut self.ran) && rules.after > 0 {
            return Some(self.finish(rules, 0, then, now));
        }
        self.stopped(rules, then, now);
        None
    }

    fn finish(&mut self, rules: &Rules, step: usize, then: Then, now: u64) -> Action {
        let deadline = now.saturating_add(rules.stop_ms);
        self.to(State::Finishing { step, then }, Busy::Process, Some(deadline));
        Action::After(step)
    }

    fn stopped(&mut self, rules: &Rules, then: Then, now: u64) {
        self.ran = false;
        match then {
            Then::Done => self.to(State::Ready { since_ms: now }, Busy::Nothing, None),
            Then::Stop => self.rest(),
            Then::Start => self.to(State::Waiting, Busy::Nothing, None),
            Then::Fail(reason) => self.fail(rules, reason, now),
            Then::GiveUp(reason) => self.give_up(reason),
        }
    }

    /// One step. Events that mean nothing in the present state change nothing.
    pub fn step(mut self, rules: &Rules, event: Event, now: u64) -> (Machine, Option<Action>) {
        let action = self.apply(rules, event, now);
        (self, action)
    }

    fn apply(&mut self, rules: &Rules, event: Event, now: u64) -> Option<Action> {
        match (self.state.clone(), event) {
            (State::Stopped | State::Failed { .. }, Event::Start | Event::Restart) => {
                self.attempts = 0;
                self.to(State::Waiting, Busy::Nothing, None);
                None
            }
            (State::Restarting { .. }, Event::Start | Event::Restart) => {
                self.to(State::Waiting, Busy::Nothing, None);
                None
            }
            (State::Restarting { at_ms, .. }, Event::Tick) if now >= at_ms => {
                self.to(State::Waiting, Busy::Nothing, None);
                None
            }
            (State::Waiting, Event::Go) => {
                self.to(State::Preparing, Busy::Preparing, None);
                Some(Action::Prepare)
            }
            (State::Waiting | State::Failed { .. } | State::Restarting { .. } | State::Stopped, Event::Stop) => {
                self.rest();
                None
            }

            (State::Preparing, Event::Prepared { setup: true }) => Some(self.setup(rules, 0, now)),
            (State::Preparing, Event::Prepared { setup: false }) => Some(self.launch(rules, 0, now)),
            (State::Preparing, Event::Restore) => Some(self.restore(rules, 0, now)),
            (State::SettingUp { .. } | State::Restoring { .. }, Event::Committed) if self.busy == Busy::Committing => {
                Some(self.launch(rules, 0, now))
            }
            (State::Preparing | State::SettingUp { .. } | State::Restoring { .. }, Event::Failed(reason))
                if self.busy != Busy::Process =>
            {
                self.fail(rules, reason, now);
                None
            }
            (State::Preparing, Event::Refused(reason)) => {
                self.give_up(reason);
                None
            }
            (State::Preparing, Event::Migrate { timeouts, rest }) => {
                let state = State::Migrating {
                    step: 0,
                    timeouts,
                    rest,
                };
                self.to(state, Busy::Preparing, None);
                Some(Action::Copy)
            }
            (State::Migrating { timeouts, rest, .. }, Event::Copied) if self.busy == Busy::Preparing => {
                Some(self.migrate(0, timeouts, rest, now))
            }
            (State::Migrating { step, timeouts, rest }, Event::Exited(end)) if self.busy == Busy::Process => {
                match end {
                    End::Code(0) => Some(self.migrate(step + 1, timeouts, rest, now)),
                    end => {
                        self.give_up(step_failed(step, &end.reason()));
                        None
                    }
                }
            }
            (State::Migrating { step, timeouts, .. }, Event::Tick) if self.deadline.is_some_and(|d| now >= d) => {
                let limit = timeouts.get(step).map_or(0, |timeout| timeout.div_ceil(1000));
                let reason = step_failed(step, &format!("took longer than {limit} s"));
                self.stop(rules, Then::GiveUp(reason), true, now)
            }
            (State::Migrating { .. }, Event::Failed(reason)) if self.busy != Busy::Process => {
                self.give_up(reason);
                None
            }
            (State::Migrating { rest, .. }, Event::Committed) if self.busy == Busy::Committing => match rest {
                true => {
                    self.rest();
                    None
                }
                false => Some(self.launch(rules, 0, now)),
            },
            (State::SettingUp { step }, Event::Exited(end)) if self.busy == Busy::Process => match end {
                End::Code(0) => Some(self.setup(rules, step + 1, now)),
                end => {
                    self.fail(rules, format!("setup step {} {}", step + 1, end.reason()), now);
                    None
                }
            },
            (State::Restoring { step }, Event::Exited(end)) if self.busy == Busy::Process => match end {
                End::Code(0) => Some(self.restore(rules, step + 1, now)),
                end => {
                    self.fail(rules, format!("step {} of the restore {}", step + 1, end.reason()), now);
                    None
                }
            },
            (State::Starting { before }, Event::Exited(End::Code(0))) if before < rules.before => {
                Some(self.launch(rules, before + 1, now))
            }
            (State::Starting { before }, Event::Exited(End::Code(0))) if before == rules.before && rules.oneshot => {
                self.attempts = 0;
                self.ended(rules, Then::Done, now)
            }
            (State::Starting { .. }, Event::Exited(End::Code(0))) if rules.awaits_sign => {
                let reason = "ended with exit code 0 before it was ready".into();
                self.ended(rules, Then::Fail(reason), now)
            }
            (State::Starting { .. }, Event::Exited(end)) => self.ended(rules, Then::Fail(end.reason()), now),
            (State::Starting { before }, Event::Executed)
                if before == rules.before && !rules.awaits_sign && !rules.oneshot =>
            {
                self.to(State::Ready { since_ms: now }, Busy::Process, None);
                None
            }
            (State::Starting { before }, Event::Ready)
                if before == rules.before && rules.awaits_sign && !rules.oneshot =>
            {
                self.to(State::Ready { since_ms: now }, Busy::Process, None);
                None
            }
            (State::Starting { .. } | State::SettingUp { .. }, Event::Tick)
                if self.deadline.is_some_and(|d| now >= d) =>
            {
                let what = if matches!(self.state, State::Starting { .. }) {
                    "not ready"
                } else {
                    "not set up"
                };
                let reason = format!("{what} within {} s", rules.start_ms.div_ceil(1000));
                self.stop(rules, Then::Fail(reason), true, now)
            }
            (State::Restoring { step }, Event::Tick) if self.deadline.is_some_and(|d| now >= d) => {
                let limit = rules.restore_ms.div_ceil(1000);
                let reason = format!("step {} of the restore took longer than {limit} s", step + 1);
                self.stop(rules, Then::Fail(reason), true, now)
            }
            (State::Ready { since_ms }, Event::Exited(end)) if self.busy == Busy::Process => {
                self.forget(rules, since_ms, now);
                if end == End::Code(0) && rules.restart != Restart::Always {
                    self.ended(rules, Then::Stop, now)
                } else {
                    self.ended(rules, Then::Fail(end.reason()), now)
                }
            }
            (State::Ready { since_ms }, Event::Unhealthy(reason)) if self.busy == Busy::Process => {
                self.forget(rules, since_ms, now);
                self.stop(rules, Then::Fail(reason), false, now)
            }
            (State::Starting { .. } | State::Stopping { killed: false, .. }, Event::Extend(more)) => {
                let until = now.saturating_add(more);
                self.deadline = self.deadline.map(|deadline| deadline.max(until));
                None
            }
            // A oneshot that is done.
            (State::Ready { .. }, Event::Stop) if self.busy == Busy::Nothing => {
                self.rest();
                None
            }
            (State::Ready { .. }, Event::Restart) if self.busy == Busy::Nothing => {
                self.to(State::Waiting, Busy::Nothing, None);
                None
            }
            (
                State::Preparing
                | State::SettingUp { .. }
                | State::Restoring { .. }
                | State::Migrating { .. }
                | State::Starting { .. }
                | State::Ready { .. },
                event @ (Event::Stop | Event::Restart),
            ) => {
                let then = if event == Event::Stop { Then::Stop } else { Then::Start };
                self.stop(rules, then, false, now)
            }

            (State::Stopping { then, .. }, Event::Exited(_)) if self.busy == Busy::Process => {
                self.ended(rules, then, now)
            }
            // How a command after the main one ends changes nothing.
            (State::Finishing { step, then }, Event::Exited(_) | Event::Lost) => {
                if step + 1 < rules.after {
                    return Some(self.finish(rules, step + 1, then, now));
                }
                self.stopped(rules, then, now);
                None
            }
            (State::Finishing { .. }, Event::Tick) if self.deadline.is_some_and(|d| now >= d) => {
                self.deadline = Some(now.saturating_add(KILL_AGAIN_MS));
                Some(Action::Kill)
            }
            (State::Finishing { step, .. }, Event::Stop) => {
                self.state = State::Finishing { step, then: Then::Stop };
                None
            }
            (State::Finishing { step, .. }, Event::Start | Event::Restart) => {
                self.state = State::Finishing {
                    step,
                    then: Then::Start,
                };
                None
            }
            (
                State::Stopping { then, .. },
                Event::Prepared { .. }
                | Event::Restore
                | Event::Migrate { .. }
                | Event::Copied
                | Event::Refused(_)
                | Event::Committed
                | Event::Failed(_),
            ) if self.busy != Busy::Process => {
                self.stopped(rules, then, now);
                None
            }
            (State::Stopping { killed, .. }, Event::Stop) => {
                self.state = State::Stopping {
                    then: Then::Stop,
                    killed,
                };
                None
            }
            (State::Stopping { killed, .. }, Event::Start | Event::Restart) => {
                self.state = State::Stopping {
                    then: Then::Start,
                    killed,
                };
                None
            }
            (State::Stopping { then, .. }, Event::Tick)
                if self.busy == Busy::Process && self.deadline.is_some_and(|d| now >= d) =>
            {
                let deadline = Some(now.saturating_add(KILL_AGAIN_MS));
                self.to(State::Stopping { then, killed: true }, Busy::Process, deadline);
                Some(Action::Kill)
            }

            (State::Stopping { then, .. }, Event::Lost) => self.ended(rules, then, now),
            (
                State::Preparing
                | State::SettingUp { .. }
                | State::Restoring { .. }
                | State::Migrating { .. }
                | State::Starting { .. },
                Event::Lost,
            ) => {
                self.to(State::Preparing, Busy::Preparing, None);
                Some(Action::Prepare)
            }
            (State::Ready { .. }, Event::Lost) if self.busy == Busy::Process => {
                self.ended(rules, Then::Fail("its process is gone and nobody saw how".into()), now)
            }
            _ => None,
        }
    }
}

/// What is said of a step between versions that did not succeed.
fn step_failed(step: usize, how: &str) -> String {
    format!(
        "step {} to the new version of its state {how}; its state is as it was before",
        step + 1
    )
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

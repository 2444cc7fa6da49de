//! When to start the manager again, and when to say that it will not stay up. Plain arithmetic over a clock.

use crate::protocol::{ExitStatus, Origin, REPLACEMENT_FAILURES};

const SECOND: u64 = 1_000_000_000;
/// The first pause before a new manager.
pub(super) const FIRST_PAUSE: u64 = SECOND / 10;
/// The longest pause.
pub(super) const LONGEST_PAUSE: u64 = 10 * SECOND;
/// A manager that lived so long was well.
pub(super) const HEALTHY: u64 = 60 * SECOND;
/// So many failures in a row are an emergency.
pub(super) const FAILURES: u32 = 6;

/// The pause after so many failures in a row, at least one.
pub(super) fn pause_after(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_PAUSE << doublings).min(LONGEST_PAUSE)
}

/// The manager's life, as far as starting it is concerned. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// To be started at that time.
    Waiting { start_at: u64 },
    /// Alive since then; `greeted` once it has said hello. `new` is the replacement of the image's manager.
    Alive {
        pid: i32,
        since: u64,
        greeted: bool,
        new: bool,
    },
}

/// What a step changed, for the console.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// It will not stay up.
    EmergencyBegins,
    /// It has been up long enough after all.
    EmergencyEnds,
    /// The replacement did not say hello in time and is given up. The process is to be killed.
    NoGreeting(i32),
    /// The replacement failed too often and is given up.
    NewFailed,
}

/// Whether the image's manager was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacement {
    None,
    /// It is used for every start; so many failures in a row.
    Used {
        failures: u32,
    },
    GivenUp,
}

#[derive(Debug)]
pub(super) struct Keeper {
    state: State,
    /// How many managers were started so far.
    pub(super) generation: u32,
    failures: u32,
    /// Kills in a row of managers that had not said hello: somebody's doing, or that of the kernel for want of memory.
    early_kills: u32,
    emergency: bool,
    replacement: Replacement,
    /// Whether the end of the manager that runs is expected.
    hands_over: bool,
    /// How long a replacement has until it says hello.
    greeting: u64,
}

impl Keeper {
    pub(super) fn new(greeting: u64) -> Self {
        Self {
            state: State::Waiting { start_at: 0 },
            generation: 0,
            failures: 0,
            early_kills: 0,
            emergency: false,
            replacement: Replacement::None,
            hands_over: false,
            greeting,
        }
    }

    pub(super) fn is_emergency(&self) -> bool {
        self.emergency
    }

    /// The one that runs, or has ended and was not reaped.
    pub(super) fn pid(&self) -> Option<i32> {
        match self.state {
            State::Alive { pid, .. } => Some(pid),
            State::Waiting { .. } => None,
        }
    }

    /// Whether it is time to start one.
    pub(super) fn is_due(&self, now: u64) -> bool {
        matches!(self.state, State::Waiting { start_at } if start_at <= now)
    }

    pub(super) fn started(&mut self, pid: i32, now: u64) {
        self.generation = self.generation.saturating_add(1);
        self.state = State::Alive {
            pid,
            since: now,
            greeted: false,
            new: self.uses_replacement(),
        };
    }

    /// The next starts are those of another program; the manager that runs will end for it.
    pub(super) fn replace(&mut self) {
        self.replacement = Replacement::Used { failures: 0 };
        self.hands_over = true;
    }

    /// Whether the next start is that of the replacement.
    pub(super) fn uses_replacement(&self) -> bool {
        matches!(self.replacement, Replacement::Used { .. })
    }

    /// Which program the one that runs is.
    pub(super) fn origin(&self) -> Origin {
        match (&self.state, self.replacement) {
            (State::Alive { new: true, .. }, _) => Origin::Replacement,
            (_, Replacement::GivenUp) => Origin::FellBack,
            _ => Origin::Image,
        }
    }

    pub(super) fn greeted(&mut self) {
        if let State::Alive { greeted, .. } = &mut self.state {
            *greeted = true;
            // The next one came up, so nothing was wrong with those before.
            self.early_kills = 0;
        }
    }

    /// It ended (or could not be started: no status).
    ///
    /// SIGKILL after a greeting is never the manager's own doing, so it does not count: a manager may be killed any
    /// number of times in a row and comes back at once each time. One before a greeting counts until the next manager says hello.
    pub(super) fn ended(&mut self, status: Option<ExitStatus>, now: u64) -> News {
        let (served, new, well) = match self.state {
            State::Alive {
                since, greeted, new, ..
            } => (greeted, new, greeted && now.saturating_sub(since) >= HEALTHY),
            State::Waiting { .. } => (false, self.uses_replacement(), false),
        };
        if well {
            self.recovered();
        }
        if std::mem::take(&mut self.hands_over) {
            self.state = State::Waiting { start_at: now };
            return News::None;
        }
        let killed = status.and_then(ExitStatus::signal) == Some(9);
        if served && killed {
            self.state = State::Waiting {
                start_at: now + FIRST_PAUSE,
            };
            return News::None;
        }
        if let (true, Replacement::Used { failures }) = (new, &mut self.replacement) {
            *failures += 1;
            if *failures >= REPLACEMENT_FAILURES {
                self.give_up();
                self.state = State::Waiting { start_at: now };
                return News::NewFailed;
            }
        }
        let counter = match killed {
            true => &mut self.early_kills,
            false => &mut self.failures,
        };
        *counter = counter.saturating_add(1);
        let all = self.failures.saturating_add(self.early_kills);
        self.state = State::Waiting {
            start_at: now + pause_after(all),
        };
        if all >= FAILURES && !self.emergency {
            self.emergency = true;
            return News::EmergencyBegins;
        }
        News::None
    }

    /// The image's manager gets its own chances.
    fn give_up(&mut self) {
        self.replacement = Replacement::GivenUp;
        self.failures = 0;
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.early_kills = 0;
        if let Replacement::Used { failures } = &mut self.replacement {
            *failures = 0;
        }
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self, now: u64) -> News {
        match self.state {
            // What made it an emergency were kills, and they are forgotten.
            State::Alive { greeted: true, .. } if self.emergency && self.failures == 0 => {
                self.emergency = false;
                News::EmergencyEnds
            }
            State::Alive {
                since, greeted: true, ..
            } if now.saturating_sub(since) >= HEALTHY => {
                self.recovered();
                match std::mem::replace(&mut self.emergency, false) {
                    true => News::EmergencyEnds,
                    false => News::None,
                }
            }
            State::Alive {
                pid,
                since,
                greeted: false,
                new: true,
            } if now.saturating_sub(since) >= self.greeting && self.uses_replacement() => {
                self.give_up();
                self.hands_over = true;
                News::NoGreeting(pid)
            }
            _ => News::None,
        }
    }

    /// When the clock is to be looked at next.
    pub(super) fn next(&self) -> Option<u64> {
        match self.state {
            State::Waiting { start_at } => Some(start_at),
            State::Alive {
                since,
                new: true,
                greeted: false,
                ..
            } if self.uses_replacement() => Some(since + self.greeting),
            State::Alive { since, .. } if self.emergency => Some(since + HEALTHY),
            State::Alive { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

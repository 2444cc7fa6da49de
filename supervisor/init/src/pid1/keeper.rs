//! When to start the manager again, and when to say that it will not stay up. Plain arithmetic over a clock.

use crate::protocol::ExitStatus;

const SECOND: u64 = 1_000_000_000;
/// The first pause before a new manager.
pub(super) const FIRST_PAUSE: u64 = SECOND / 10;
/// The longest pause.
pub(super) const LONGEST_PAUSE: u64 = 10 * SECOND;
/// A manager that lived so long was well.
const HEALTHY: u64 = 60 * SECOND;
/// So many failures in a row are an emergency.
pub(super) const FAILURES: u32 = 6;

/// The manager's life, as far as starting it is concerned. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be started at that time.
    Waiting { start_at: u64 },
    /// Alive since then; `greeted` once it has said hello.
    Alive { pid: i32, since: u64, greeted: bool },
}

/// What a step changed, for the console.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// It will not stay up.
    EmergencyBegins,
    /// It has been up long enough after all.
    EmergencyEnds,
}

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) state: State,
    /// How many managers were started so far.
    pub(super) generation: u32,
    failures: u32,
    emergency: bool,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            state: State::Waiting { start_at: 0 },
            generation: 0,
            failures: 0,
            emergency: false,
        }
    }

    pub(super) fn is_emergency(&self) -> bool {
        self.emergency
    }

    pub(super) fn is_manager(&self, pid: i32) -> bool {
        matches!(self.state, State::Alive { pid: own, .. } if own == pid)
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
        };
    }

    pub(super) fn greeted(&mut self) {
        if let State::Alive { greeted, .. } = &mut self.state {
            *greeted = true;
        }
    }

    /// It ended (or could not be started: no status).
    ///
    /// SIGKILL after a greeting is never the manager's own doing, so it does not count: a manager may be killed any
    /// number of times in a row and comes back at once each time.
    pub(super) fn ended(&mut self, status: Option<ExitStatus>, now: u64) -> News {
        let (well, served) = match self.state {
            State::Alive { since, greeted, .. } => (greeted && now.saturating_sub(since) >= HEALTHY, greeted),
            State::Waiting { .. } => (false, false),
        };
        if well {
            self.failures = 0;
        }
        let killed = served && status.and_then(ExitStatus::signal) == Some(9);
        let pause = if killed {
            FIRST_PAUSE
        } else {
            self.failures = self.failures.saturating_add(1);
            let doublings = (self.failures - 1).min(16);
            (FIRST_PAUSE << doublings).min(LONGEST_PAUSE)
        };
        self.state = State::Waiting { start_at: now + pause };
        if self.failures >= FAILURES && !self.emergency {
            self.emergency = true;
            return News::EmergencyBegins;
        }
        News::None
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self, now: u64) -> News {
        if let State::Alive {
            since, greeted: true, ..
        } = self.state
            && now.saturating_sub(since) >= HEALTHY
        {
            self.failures = 0;
            if std::mem::replace(&mut self.emergency, false) {
                return News::EmergencyEnds;
            }
        }
        News::None
    }

    /// When the clock is to be looked at next.
    pub(super) fn next(&self) -> Option<u64> {
        match self.state {
            State::Waiting { start_at } => Some(start_at),
            State::Alive { since, .. } if self.emergency => Some(since + HEALTHY),
            State::Alive { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Option<ExitStatus> = Some(ExitStatus(11));
    const KILL: Option<ExitStatus> = Some(ExitStatus(9));

    fn pause(keeper: &Keeper, now: u64) -> u64 {
        match keeper.state {
            State::Waiting { start_at } => start_at - now,
            State::Alive { .. } => 0,
        }
    }

    #[test]
    fn pauses_double_up_to_ten_seconds() {
        let mut keeper = Keeper::new();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            keeper.started(2, 0);
            keeper.ended(CRASH, 0);
            pauses.push(pause(&keeper, 0) / FIRST_PAUSE);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    }

    #[test]
    fn a_minute_of_health_forgets_earlier_failures() {
        let mut keeper = Keeper::new();
        for _ in 0..4 {
            keeper.started(2, 0);
            keeper.ended(CRASH, 0);
        }
        keeper.started(2, 0);
        keeper.greeted();
        keeper.ended(CRASH, HEALTHY);
        assert_eq!(pause(&keeper, HEALTHY), FIRST_PAUSE);
    }

    #[test]
    fn a_thousand_kills_are_no_emergency() {
        let mut keeper = Keeper::new();
        for _ in 0..1000 {
            keeper.started(2, 0);
            keeper.greeted();
            assert_eq!(keeper.ended(KILL, 1), News::None);
            assert_eq!(pause(&keeper, 1), FIRST_PAUSE);
        }
    }

    #[test]
    fn crashes_in_a_row_are_an_emergency_once_and_a_healthy_minute_ends_it() {
        let mut keeper = Keeper::new();
        let mut news = Vec::new();
        for _ in 0..FAILURES + 1 {
            keeper.started(2, 0);
            news.push(keeper.ended(CRASH, 0));
        }
        assert_eq!(news.iter().filter(|n| **n == News::EmergencyBegins).count(), 1);
        assert!(keeper.is_emergency());
        keeper.started(2, 0);
        keeper.greeted();
        assert_eq!(keeper.next(), Some(HEALTHY));
        assert_eq!(keeper.tick(HEALTHY), News::EmergencyEnds);
        assert!(!keeper.is_emergency());
    }

    #[test]
    fn a_manager_that_never_greets_is_not_healthy() {
        let mut keeper = Keeper::new();
        for _ in 0..FAILURES {
            keeper.started(2, 0);
            keeper.ended(KILL, HEALTHY * 2);
        }
        assert!(keeper.is_emergency());
    }
}

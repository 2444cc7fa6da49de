//! The child that loads modules for devices: started again when it ends. Plain arithmetic over a clock.

use super::keeper::{HEALTHY, pause_after};

/// So many of its ends in a row are told on the console.
const TELL: u32 = 3;

/// The child's life. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Never to be started.
    Off,
    /// To be started at that time.
    Waiting { start_at: u64 },
    /// Alive since then.
    Alive { pid: i32, since: u64 },
}

#[derive(Debug)]
pub(super) struct Loader {
    state: State,
    failures: u32,
}

impl Loader {
    pub(super) fn new(wanted: bool) -> Self {
        let state = match wanted {
            true => State::Waiting { start_at: 0 },
            false => State::Off,
        };
        Self { state, failures: 0 }
    }

    /// The one that runs, or has ended and was not reaped.
    pub(super) fn pid(&self) -> Option<i32> {
        match self.state {
            State::Alive { pid, .. } => Some(pid),
            State::Off | State::Waiting { .. } => None,
        }
    }

    /// Whether it is time to start it.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// When to start it.
    pub(super) fn next(&self) -> Option<u64> {
        match self.state {
            State::Waiting { start_at } => Some(start_at),
            State::Off | State::Alive { .. } => None,
        }
    }

    pub(super) fn started(&mut self, pid: i32, now: u64) {
        self.state = State::Alive { pid, since: now };
    }

    /// It ended, or could not be started. Returns whether to tell.
    pub(super) fn ended(&mut self, now: u64) -> bool {
        if let State::Alive { since, .. } = self.state
            && now.saturating_sub(since) >= HEALTHY
        {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting {
            start_at: now + pause_after(self.failures),
        };
        self.failures <= TELL
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::{FIRST_PAUSE, LONGEST_PAUSE};
    use super::*;

    #[test]
    fn it_comes_back_later_and_later_but_never_later_than_the_longest_pause() {
        let mut loader = Loader::new(true);
        let mut pauses = Vec::new();
        let mut told = 0;
        for _ in 0..20 {
            loader.started(5, 0);
            assert_eq!(loader.next(), None);
            told += u32::from(loader.ended(0));
            pauses.push(loader.next().unwrap());
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert_eq!(pauses[19], LONGEST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(told, TELL);
    }

    #[test]
    fn after_a_healthy_minute_it_comes_back_at_once() {
        let mut loader = Loader::new(true);
        for _ in 0..10 {
            loader.started(5, 0);
            loader.ended(0);
        }
        loader.started(5, 0);
        assert!(loader.ended(HEALTHY));
        assert_eq!(loader.next(), Some(HEALTHY + FIRST_PAUSE));
    }

    #[test]
    fn where_nobody_wants_it_it_is_never_due() {
        assert!(!Loader::new(false).is_due(u64::MAX));
    }
}

//! A limit on how fast a unit may log: a token bucket, as a value. Nothing here reads a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many lines a unit may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// So many at once.
    pub burst: u32,
    /// And then so many a second.
    pub per_second: u32,
}

impl Default for Rate {
    /// Ten thousand at once, then a thousand a second: what a service in trouble may say, and no disk minds.
    fn default() -> Self {
        Rate {
            burst: 10_000,
            per_second: 1_000,
        }
    }
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    Pass,
    /// Store first how many were dropped ([`Dropped::text`]), then it.
    PassAfter(Dropped),
    /// Drop it; it is counted.
    Drop,
}

/// Lines that were dropped, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub lines: u64,
    /// Over how long.
    pub during: Duration,
}

impl Dropped {
    /// The message of the record that says so.
    pub fn text(self) -> String {
        let (lines, seconds) = (self.lines, self.during.as_secs_f64());
        format!("{lines} lines of this unit were dropped during {seconds:.1} s: it logged faster than its limit")
    }
}

/// The bucket of one unit. It can be saved and restored, so a new manager does not hand out a new burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flood {
    rate: Rate,
    /// In billionths of a line: a line costs [`LINE`].
    tokens: u64,
    /// CLOCK_MONOTONIC in nanoseconds.
    seen: u64,
    dropped: u64,
    dropping_since: u64,
}

const LINE: u64 = 1_000_000_000;

impl Flood {
    /// A full bucket at `now` (CLOCK_MONOTONIC in nanoseconds).
    pub fn new(rate: Rate, now: u64) -> Flood {
        Flood {
            rate,
            tokens: u64::from(rate.burst) * LINE,
            seen: now,
            dropped: 0,
            dropping_since: now,
        }
    }

    /// The same with another rate.
    pub fn at_rate(self, rate: Rate) -> Flood {
        Flood { rate, ..self }
    }

    /// Asks for one line (of a line in pieces, for its first). After a flood lines pass again when a tenth of the burst is there:
    /// otherwise every line would come with a report.
    pub fn admit(&mut self, now: u64) -> Verdict {
        self.refill(now);
        let needed = match self.dropped {
            0 => LINE,
            _ => self.resume_at(),
        };
        if self.tokens < needed {
            if self.dropped == 0 {
                self.dropping_since = now;
            }
            self.dropped += 1;
            return Verdict::Drop;
        }
        self.tokens -= LINE;
        self.report(now).map_or(Verdict::Pass, Verdict::PassAfter)
    }

    /// What is to be reported though no line has come since: to be asked from time to time, and at a unit's end.
    pub fn settle(&mut self, now: u64) -> Option<Dropped> {
        self.refill(now);
        match self.tokens >= self.resume_at() {
            true => self.report(now),
            false => None,
        }
    }

    /// Whether there are dropped lines that were not reported yet.
    pub fn is_dropping(&self) -> bool {
        self.dropped > 0
    }

    fn report(&mut self, now: u64) -> Option<Dropped> {
        let lines = std::mem::take(&mut self.dropped);
        let during = Duration::from_nanos(now.saturating_sub(self.dropping_since));
        (lines > 0).then_some(Dropped { lines, during })
    }

    fn resume_at(&self) -> u64 {
        u64::from((self.rate.burst / 10).max(1)) * LINE
    }

    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.seen);
        self.seen = now.max(self.seen);
        let more = passed.saturating_mul(u64::from(self.rate.per_second));
        self.tokens = self.tokens.saturating_add(more).min(u64::from(self.rate.burst) * LINE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        burst: 20,
        per_second: 10,
    };

    #[test]
    fn a_flood_passes_its_burst_and_then_its_rate_and_says_what_was_dropped() {
        let mut flood = Flood::new(RATE, 0);
        let verdicts: Vec<_> = (0..100).map(|_| flood.admit(0)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Pass).count(), 20);
        assert_eq!(flood.settle(0), None, "not while it lasts");
        assert_eq!(
            flood.admit(LINE / 10),
            Verdict::Drop,
            "not before a tenth of the burst is there"
        );
        let after = flood.admit(LINE);
        let during = Duration::from_secs(1);
        assert_eq!(after, Verdict::PassAfter(Dropped { lines: 81, during }));
        assert_eq!(flood.admit(LINE), Verdict::Pass);
        while flood.admit(LINE) != Verdict::Drop {}
        assert_eq!(flood.settle(LINE * 2).unwrap().lines, 1);
    }

    proptest! {
        #[test]
        fn no_line_is_dropped_uncounted_and_the_rate_holds(steps in prop::collection::vec(0_u64..LINE / 5, 1..400)) {
            let mut flood = Flood::new(RATE, 0);
            let (mut now, mut passed, mut dropped, mut said) = (0, 0_u64, 0, 0);
            for step in &steps {
                now += step;
                match flood.admit(now) {
                    Verdict::Pass => passed += 1,
                    Verdict::PassAfter(d) => { passed += 1; said += d.lines }
                    Verdict::Drop => dropped += 1,
                }
            }
            said += flood.settle(now + LINE * 10).map_or(0, |d| d.lines);
            prop_assert_eq!(said, dropped);
            prop_assert!(passed <= 20 + now * 10 / LINE);
        }
    }
}

//! How often somebody may try something: buckets that fill again with time, in memory.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bound {
    /// Requests of an address.
    Requests,
    /// Tries of an address to log in, and to give the setup's code.
    TriesOfAddress,
    /// Tries to log in to an account, from wherever they come.
    TriesOfAccount,
}

impl Bound {
    /// How many at once, and seconds until there is one more.
    fn measure(self) -> (f64, f64) {
        match self {
            Bound::Requests => (300.0, 0.05),
            Bound::TriesOfAddress => (8.0, 15.0),
            // Higher than an address's: who tries from few addresses does not lock the owner out.
            Bound::TriesOfAccount => (30.0, 10.0),
        }
    }
}

/// Buckets are forgotten beyond this, the fullest first.
const KEPT: usize = 10_000;

/// Every bucket that is not full.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<HashMap<(Bound, String), (f64, Instant)>>);

impl Limits {
    /// Takes one; `Err` tells after how many seconds there is one again.
    pub(crate) fn take(&self, bound: Bound, key: &str, now: Instant) -> Result<(), u64> {
        let (most, every) = bound.measure();
        let Ok(mut all) = self.0.lock() else { return Err(1) };
        if all.len() > KEPT {
            all.retain(|(bound, _), (left, at)| {
                let (most, every) = bound.measure();
                *left + now.duration_since(*at).as_secs_f64() / every < most
            });
        }
        let (left, at) = all.entry((bound, key.to_owned())).or_insert((most, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() / every).min(most);
        *at = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        // Whole seconds, and at least one.
        Err(((1.0 - *left) * every).ceil().max(1.0) as u64)
    }

    /// Gives a key all that it had: it did what it was bounded in.
    pub(crate) fn forget(&self, bound: Bound, key: &str) {
        if let Ok(mut all) = self.0.lock() {
            all.remove(&(bound, key.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tries_run_out_and_come_back_with_time() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..8 {
            limits.take(Bound::TriesOfAddress, "a", now).unwrap();
        }
        assert_eq!(limits.take(Bound::TriesOfAddress, "a", now), Err(15));
        assert_eq!(limits.take(Bound::TriesOfAddress, "b", now), Ok(()));
        let later = now + Duration::from_secs(15);
        assert_eq!(limits.take(Bound::TriesOfAddress, "a", later), Ok(()));
        assert_eq!(limits.take(Bound::TriesOfAddress, "a", later), Err(15));
        limits.forget(Bound::TriesOfAddress, "a");
        assert_eq!(limits.take(Bound::TriesOfAddress, "a", later), Ok(()));
    }
}

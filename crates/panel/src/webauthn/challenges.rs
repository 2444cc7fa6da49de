//! Challenges that wait for their answer: each is of one browser, good once and for five minutes, and kept in memory alone.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Party;

/// How long an answer may take.
const GOOD: Duration = Duration::from_secs(300);
/// More than this do not wait at once; the oldest goes. One address cannot ask for so many while one is good.
const KEPT: usize = 10_000;

/// What a challenge is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Logging in.
    LogIn,
    /// Making a passkey of this name, for whom the authenticator knows by this handle.
    Add { name: String, handle: Vec<u8> },
}

/// A challenge that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) challenge: [u8; 32],
    /// Where it was asked for.
    pub(crate) party: Party,
    pub(crate) purpose: Purpose,
}

/// Every challenge that waits, by what is kept of the browser's cookie.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<HashMap<[u8; 32], (Instant, Pending)>>);

impl Challenges {
    /// Notes a challenge; one that the browser was given before is good no more.
    pub(crate) fn put(&self, browser: [u8; 32], pending: Pending, now: Instant) {
        let Ok(mut all) = self.0.lock() else { return };
        if all.len() >= KEPT {
            all.retain(|_, (at, _)| now.duration_since(*at) < GOOD);
        }
        if all.len() >= KEPT
            && let Some(oldest) = all.iter().min_by_key(|(_, (at, _))| *at).map(|(browser, _)| *browser)
        {
            all.remove(&oldest);
        }
        all.insert(browser, (now, pending));
    }

    /// Takes the browser's challenge, if it is still good.
    pub(crate) fn take(&self, browser: &[u8; 32], now: Instant) -> Option<Pending> {
        let (at, pending) = self.0.lock().ok()?.remove(browser)?;
        (now.duration_since(at) < GOOD).then_some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        let party = Party {
            name: "birch.local".into(),
            origin: "https://birch.local".into(),
        };
        Pending {
            challenge: [7; 32],
            party,
            purpose: Purpose::LogIn,
        }
    }

    #[test]
    fn a_challenge_is_good_once_for_its_browser_and_for_five_minutes() {
        let (all, now) = (Challenges::default(), Instant::now());
        all.put([1; 32], pending(), now);
        assert_eq!(all.take(&[2; 32], now), None);
        assert_eq!(all.take(&[1; 32], now), Some(pending()));
        assert_eq!(all.take(&[1; 32], now), None);
        for (after, good) in [(299, true), (300, false)] {
            all.put([1; 32], pending(), now);
            let found = all.take(&[1; 32], now + Duration::from_secs(after));
            assert_eq!(found.is_some(), good, "{after}");
        }
    }

    #[test]
    fn challenges_that_nobody_answers_do_not_fill_the_memory() {
        let (all, now) = (Challenges::default(), Instant::now());
        for i in 0..KEPT + 3 {
            let mut browser = [0; 32];
            browser[..8].copy_from_slice(&i.to_be_bytes());
            all.put(browser, pending(), now + Duration::from_millis(i as u64));
        }
        assert_eq!(all.0.lock().unwrap().len(), KEPT);
        // The newest is there, and the oldest is not.
        let mut newest = [0; 32];
        newest[..8].copy_from_slice(&(KEPT + 2).to_be_bytes());
        assert!(all.take(&newest, now).is_some() && all.take(&[0; 32], now).is_none());
    }
}

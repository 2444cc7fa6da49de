//! How long to wait after a failure, and numbers that spread appliances without a random generator: the same input gives the same
//! number, so that a plan can be made again and be the same.

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use crate::trouble::Kind;

/// A number from 0 up to 1 that a text decides.
pub(crate) fn fraction(of: &str) -> f64 {
    let hash = Sha256::digest(of.as_bytes());
    let top = hash.iter().take(4).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}

/// A part of a time.
pub(crate) fn part(whole: SignedDuration, fraction: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(whole.as_secs_f64() * fraction).unwrap_or(whole)
}

/// How long to wait after so many failures in a row. Public authorities allow five failed validations of a name in an hour: of what
/// they refuse there are four attempts in the first hour and then one more each time the wait has doubled, up to a day. A server
/// that does not answer counts nothing, so it is asked at least once an hour. A quarter more or less, by `seed`, keeps
/// appliances that fail together from coming back together.
pub(crate) fn delay(kind: Kind, failures: u32, seed: &str) -> SignedDuration {
    let (first, most) = match kind {
        Kind::Unreachable => (SignedDuration::from_mins(1), SignedDuration::from_mins(45)),
        Kind::Refused | Kind::Limited => (SignedDuration::from_mins(6), SignedDuration::from_hours(24)),
    };
    let doubled = (first.as_secs()).saturating_mul(1 << failures.saturating_sub(1).min(20));
    let seconds = SignedDuration::from_secs(doubled.min(most.as_secs()));
    part(seconds, 0.75 + fraction(&format!("{seed} {failures}")) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_is_tried_at_most_five_times_in_an_hour_and_then_less_and_less() {
        for seed in ["a.example", "b.example", "c.example", "d.example"] {
            let mut at = SignedDuration::ZERO;
            let attempts: Vec<_> = (1..=12)
                .map(|failures| {
                    at += delay(Kind::Refused, failures, seed);
                    at
                })
                .collect();
            let hour = attempts
                .iter()
                .filter(|at| **at < SignedDuration::from_hours(1))
                .count();
            assert!((2..=4).contains(&hour), "{seed}: {attempts:?}");
        }
        let day = delay(Kind::Refused, 40, "a");
        assert!(day >= SignedDuration::from_hours(18) && day <= SignedDuration::from_hours(30));
        assert!(delay(Kind::Unreachable, 40, "a") <= SignedDuration::from_hours(1));
    }

    #[test]
    fn appliances_that_fail_together_do_not_come_back_together_and_a_plan_stays_the_same() {
        assert_eq!(delay(Kind::Refused, 3, "a"), delay(Kind::Refused, 3, "a"));
        assert_ne!(delay(Kind::Refused, 3, "a"), delay(Kind::Refused, 3, "b"));
        let all: Vec<f64> = (0..100).map(|n| fraction(&n.to_string())).collect();
        assert!(all.iter().all(|one| (0.0..1.0).contains(one)));
        assert!(all.iter().any(|one| *one < 0.1) && all.iter().any(|one| *one > 0.9));
    }
}

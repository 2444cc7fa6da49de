//! When a unit is next dumped without being asked: a pure function of what is known of it.

/// The time in which nightly dumps begin, in seconds from midnight UTC.
const NIGHT: u64 = 5 * HOUR;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// A unit that was just started has other things to do, and one that fails again and again is not worth a dump, in milliseconds.
const SETTLED_MS: u64 = 600_000;
/// A state that was never dumped is, after the unit was ready for so long, in milliseconds.
const FIRST_MS: u64 = 3_600_000;
/// The pause after a dump that failed, in milliseconds.
const AGAIN_MS: u64 = 3_600_000;

/// What is known of a ready unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The real time, in seconds since 1970.
    pub now: u64,
    /// When its newest dump was begun, likewise; `None` if there is none.
    pub newest: Option<u64>,
    /// For how long it has been ready, in milliseconds.
    pub ready_ms: u64,
    /// For how long the last try has failed, in milliseconds; `None` if it did not.
    pub failed_ms: Option<u64>,
    /// What makes its time of the night its own.
    pub seed: u64,
}

/// The milliseconds until the unit is to be dumped; 0 if that is due.
pub fn wait(facts: &Facts) -> u64 {
    let nightly = match facts.newest {
        None => FIRST_MS.saturating_sub(facts.ready_ms),
        // Of a clock that was set back: what lies ahead of it says nothing.
        Some(newest) => {
            let since = newest.min(facts.now);
            let own = facts.seed % NIGHT;
            let tonight = since / DAY * DAY + own;
            let next = if tonight > since { tonight } else { tonight + DAY };
            next.saturating_sub(facts.now).saturating_mul(1000)
        }
    };
    let settled = SETTLED_MS.saturating_sub(facts.ready_ms);
    let again = facts.failed_ms.map_or(0, |ago| AGAIN_MS.saturating_sub(ago));
    nightly.max(settled).max(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31 22:00:00 UTC.
    const NOW: u64 = 1_769_896_800;

    fn facts() -> Facts {
        Facts {
            now: NOW,
            newest: Some(NOW - 16 * HOUR),
            ready_ms: 24 * HOUR * 1000,
            failed_ms: None,
            // Two in the morning, in every night.
            seed: 3 * NIGHT + 2 * HOUR,
        }
    }

    #[test]
    fn a_unit_has_its_own_time_of_the_night() {
        assert_eq!(wait(&facts()), 4 * HOUR * 1000);
        for seed in [0, 1, NIGHT - 1, u64::MAX] {
            let waited = wait(&Facts { seed, ..facts() }) / 1000;
            assert!((2 * HOUR..7 * HOUR).contains(&waited), "{seed}: {waited}");
        }
    }

    #[test]
    fn a_night_that_was_missed_is_made_up_for_once_the_unit_has_settled() {
        let missed = Facts {
            newest: Some(NOW - 30 * HOUR),
            ..facts()
        };
        assert_eq!(wait(&missed), 0);
        let fresh = Facts {
            ready_ms: 1000,
            ..missed
        };
        assert_eq!(wait(&fresh), SETTLED_MS - 1000);
    }

    #[test]
    fn a_state_without_a_dump_gets_one_after_an_hour() {
        let never = |ready_ms| Facts {
            newest: None,
            ready_ms,
            ..facts()
        };
        assert_eq!(wait(&never(0)), FIRST_MS);
        assert_eq!(wait(&never(FIRST_MS)), 0);
    }

    #[test]
    fn what_failed_is_tried_again_after_an_hour_and_a_clock_set_back_stops_nothing() {
        let failed = Facts {
            newest: Some(NOW - 30 * HOUR),
            failed_ms: Some(60_000),
            ..facts()
        };
        assert_eq!(wait(&failed), AGAIN_MS - 60_000);
        let back = Facts {
            newest: Some(NOW + 400 * DAY),
            ..facts()
        };
        assert_eq!(wait(&back), 4 * HOUR * 1000);
    }
}

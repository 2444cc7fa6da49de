//! When a unit with a timer is next to be started: a pure function of its text and of what has happened.

use std::path::Path;

use cairn_unit::Timer;

/// What a timer's next time depends on. Real times are seconds since 1970, others milliseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The real time.
    pub now: u64,
    /// The monotonic time.
    pub now_ms: u64,
    /// When it was last started, in real time, also before this boot; `None` if never.
    pub last_start: Option<u64>,
    /// When it last came to rest in this boot; `None` if it has not run in it.
    pub last_end_ms: Option<u64>,
    /// When the appliance began to start its units.
    pub boot_ms: u64,
    /// A number that is the same for one waiting and differs between waitings.
    pub dice: u64,
}

/// The milliseconds from now to the next start: 0 if it is due; `None` if it is never due again.
pub fn wait(timer: &Timer, facts: &Facts) -> Option<u64> {
    let jitter = timer.jitter.map_or(0, |j| facts.dice % (j.millis() + 1));
    let calendar = timer.calendar.iter().filter_map(|calendar| {
        // A time that has passed since the last start is due now, but one before this boot only if it is to be made up for.
        let boot = facts
            .now
            .saturating_sub((facts.now_ms - facts.boot_ms.min(facts.now_ms)) / 1000);
        let since = match facts.last_start {
            Some(last) if timer.persistent => last,
            Some(last) => last.max(boot),
            // It has never been started: what lies before its first boot is nothing that was missed.
            None => boot,
        };
        let at = calendar.next(since)?;
        Some((at.saturating_sub(facts.now) * 1000).saturating_add(if at > facts.now { jitter } else { 0 }))
    });
    let elapsed = |since: u64| facts.now_ms.saturating_sub(since);
    let spans = match facts.last_end_ms {
        Some(end) => timer
            .interval
            .map(|i| (i.millis() + jitter).saturating_sub(elapsed(end))),
        None => timer
            .after_boot
            .or(timer.interval)
            .map(|a| (a.millis() + jitter).saturating_sub(elapsed(facts.boot_ms))),
    };
    calendar.chain(spans).min()
}

/// Reads when a unit was last started; `None` if that is not known.
pub fn read_stamp(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes when a unit was last started, so that it is known after a power cut.
///
/// # Errors
/// The data partition's.
pub fn write_stamp(path: &Path, seconds: u64) -> std::io::Result<()> {
    use std::io::Write as _;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(seconds.to_string().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    /// 2026-01-31 22:00:00 UTC.
    const NOW: u64 = 1_769_896_800;

    fn timer(text: serde_json::Value) -> Timer {
        serde_json::from_value(text).unwrap()
    }

    /// Booted an hour ago, never run.
    fn facts() -> Facts {
        Facts {
            now: NOW,
            now_ms: 2 * HOUR * 1000,
            last_start: None,
            last_end_ms: None,
            boot_ms: HOUR * 1000,
            dice: 0,
        }
    }

    #[test]
    fn a_time_of_the_calendar_is_waited_for() {
        let timer = timer(serde_json::json!({"calendar": ["daily", "23:00"]}));
        assert_eq!(wait(&timer, &facts()), Some(HOUR * 1000));
    }

    #[test]
    fn a_time_that_passed_while_it_was_off_is_made_up_for_only_if_persistent() {
        let yesterday = Facts {
            last_start: Some(NOW - 30 * HOUR),
            ..facts()
        };
        for (persistent, expected) in [(true, 0), (false, 2 * HOUR * 1000)] {
            let timer = timer(serde_json::json!({"calendar": ["daily"], "persistent": persistent}));
            assert_eq!(wait(&timer, &yesterday), Some(expected), "{persistent}");
        }
        // An appliance that was never on has missed nothing.
        let timer = timer(serde_json::json!({"calendar": ["daily"], "persistent": true}));
        assert_eq!(wait(&timer, &facts()), Some(2 * HOUR * 1000));
    }

    #[test]
    fn a_time_that_passed_in_this_boot_is_due_now_and_once() {
        let timer = timer(serde_json::json!({"calendar": ["21:30"]}));
        assert_eq!(wait(&timer, &facts()), Some(0));
        let done = Facts {
            last_start: Some(NOW),
            ..facts()
        };
        assert_eq!(wait(&timer, &done), Some((24 * HOUR - HOUR / 2) * 1000));
    }

    #[test]
    fn an_interval_counts_from_the_last_end_and_first_from_the_boot() {
        let timer = timer(serde_json::json!({"interval": "90m"}));
        assert_eq!(wait(&timer, &facts()), Some(HOUR / 2 * 1000));
        let ended = Facts {
            last_end_ms: Some(facts().now_ms - 1000),
            ..facts()
        };
        assert_eq!(wait(&timer, &ended), Some(90 * 60_000 - 1000));
    }

    #[test]
    fn a_time_after_boot_comes_once_without_an_interval() {
        let timer = timer(serde_json::json!({"after_boot": "61m"}));
        assert_eq!(wait(&timer, &facts()), Some(60_000));
        let ended = Facts {
            last_end_ms: Some(5),
            ..facts()
        };
        assert_eq!(wait(&timer, &ended), None);
    }

    #[test]
    fn a_stamp_is_read_back_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timers/backup");
        assert_eq!(read_stamp(&path), None);
        write_stamp(&path, NOW).unwrap();
        assert_eq!(read_stamp(&path), Some(NOW));
        std::fs::write(&path, "soon").unwrap();
        assert_eq!(read_stamp(&path), None);
    }

    #[test]
    fn jitter_is_added_and_never_more_than_declared() {
        let timer = timer(serde_json::json!({"calendar": ["23:00"], "jitter": "10s"}));
        for dice in [0, 1, 10_000, 10_001, u64::MAX] {
            let waited = wait(&timer, &Facts { dice, ..facts() }).unwrap();
            assert!(
                (HOUR * 1000..=HOUR * 1000 + 10_000).contains(&waited),
                "{dice}: {waited}"
            );
        }
    }
}

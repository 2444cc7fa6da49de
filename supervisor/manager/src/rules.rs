//! What of a unit's text decides its life, as numbers.

use cairn_unit::{Kind, Restart, Unit};

/// The rules of one unit. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How many setup steps make its state.
    pub setup: usize,
    /// How many steps make its state of a dump; none if it is not dumped.
    pub restore: usize,
    /// How long each of them may take.
    pub restore_ms: u64,
    /// How many commands run before the main one.
    pub before: usize,
    /// How many commands run after it.
    pub after: usize,
    /// Whether the main process is done when it exits with 0.
    pub oneshot: bool,
    /// Whether it is ready only at a sign.
    pub awaits_sign: bool,
    /// When the main process is started again.
    pub restart: Restart,
    /// The first delay before a restart.
    pub delay_ms: u64,
    /// The longest one, before jitter.
    pub delay_max_ms: u64,
    /// By how much a delay varies, in percent.
    pub jitter: u8,
    /// How long it must have been ready for its failures to be forgotten.
    pub healthy_ms: u64,
    /// After so many failures in a row it is not started again.
    pub limit: Option<u32>,
    /// How long a start may take.
    pub start_ms: u64,
    /// How long a stop may take before the kill.
    pub stop_ms: u64,
    /// How long it may go without `WATCHDOG=1`.
    pub watchdog_ms: Option<u64>,
    /// What makes its jitter its own.
    pub seed: u64,
}

impl Rules {
    /// The rules in a unit's text.
    pub fn of(name: &str, unit: &Unit) -> Rules {
        let service = &unit.service;
        Rules {
            setup: unit.setup.len(),
            restore: (unit.dump.as_ref()).map_or(0, |d| unit.setup_before_restore().count() + d.restore.len()),
            restore_ms: unit.dump.as_ref().map_or(0, |d| d.timeout.millis()),
            before: service.before.len(),
            after: service.after.len(),
            oneshot: service.kind == Kind::Oneshot,
            awaits_sign: unit.ready.is_some(),
            restart: service.restart,
            delay_ms: service.restart_delay.millis(),
            delay_max_ms: service.restart_delay_max.millis(),
            jitter: service.restart_jitter,
            healthy_ms: service.healthy_after.millis(),
            limit: service.start_limit,
            start_ms: unit.ready.as_ref().map_or(120_000, |r| r.timeout.millis()),
            stop_ms: service.stop_timeout.millis(),
            watchdog_ms: service.watchdog.map(|w| w.millis()),
            seed: name
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte))),
        }
    }

    /// The delay before restart number `attempt` (from 1) without jitter: doubling, capped. Nothing doubled would stay nothing, and
    /// a unit that cannot run would keep the machine busy: where the first restart is at once, the second is after a second.
    pub fn base_delay(&self, attempt: u32) -> u64 {
        let (first, doubled) = match self.delay_ms {
            0 if attempt > 1 => (1000, attempt - 2),
            delay => (delay, attempt.saturating_sub(1)),
        };
        let factor = 1u64.checked_shl(doubled).unwrap_or(u64::MAX);
        first.saturating_mul(factor).min(self.delay_max_ms)
    }

    /// The delay before restart number `attempt`: the base lengthened or shortened by up to `jitter` percent. The same unit and
    /// attempt always give the same delay, so that it can be told beforehand.
    pub fn delay(&self, attempt: u32) -> u64 {
        let base = self.base_delay(attempt);
        let width = u64::from(self.jitter) * 2 + 1;
        let percent = 100 + mix(self.seed ^ u64::from(attempt)) % width - u64::from(self.jitter);
        base.saturating_mul(percent) / 100
    }

    /// The delays of the first restarts, up to the first that is the longest, and the limit.
    pub fn schedule(&self) -> Vec<u64> {
        let mut delays = Vec::new();
        let last = self.limit.map_or(64, |limit| limit.saturating_sub(1)).min(64);
        for attempt in 1..=last {
            delays.push(self.delay(attempt));
            if self.base_delay(attempt) >= self.delay_max_ms {
                break;
            }
        }
        delays
    }

    /// Whether so many failures in a row are the end.
    pub fn gives_up(&self, failures: u32) -> bool {
        self.restart == Restart::Never || self.limit.is_some_and(|limit| failures >= limit)
    }
}

/// A fixed mixing of bits (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: serde_json::Value) -> Rules {
        let mut unit = serde_json::json!({"description": "x", "service": {"command": ["/x"]}});
        unit["service"]
            .as_object_mut()
            .unwrap()
            .extend(text.as_object().unwrap().clone());
        Rules::of("db", &serde_json::from_value(unit).unwrap())
    }

    #[test]
    fn delays_double_to_the_cap_and_stay_within_their_jitter() {
        let rules = rules(serde_json::json!({"restart_jitter": 10}));
        let base: Vec<u64> = (1..9).map(|n| rules.base_delay(n)).collect();
        assert_eq!(base, [0, 1000, 2000, 4000, 8000, 16000, 32000, 60000]);
        for attempt in 1..2000 {
            let (delay, base) = (rules.delay(attempt), rules.base_delay(attempt));
            assert!(
                (base * 9 / 10..=base * 11 / 10).contains(&delay),
                "{attempt}: {delay} of {base}"
            );
        }
        let seen: std::collections::BTreeSet<u64> = (10..200).map(|n| rules.delay(n)).collect();
        assert!(seen.len() > 10, "they vary: {seen:?}");
    }

    #[test]
    fn two_units_that_fail_together_do_not_come_back_together() {
        let other = Rules::of(
            "web",
            &serde_json::from_value(serde_json::json!({"description": "x", "service": {"command": ["/x"]}})).unwrap(),
        );
        let rules = rules(serde_json::json!({}));
        let same = (2..=21).filter(|n| rules.delay(*n) == other.delay(*n)).count();
        assert!(same < 5, "{same} of 20 are the same");
    }

    #[test]
    fn the_schedule_ends_where_nothing_new_comes() {
        let plain = rules(serde_json::json!({"restart_jitter": 0}));
        assert_eq!(plain.schedule(), [0, 1000, 2000, 4000, 8000, 16000, 32000, 60000]);
        let given =
            rules(serde_json::json!({"restart_jitter": 0, "restart_delay": "50ms", "restart_delay_max": "300ms"}));
        assert_eq!(given.schedule(), [50, 100, 200, 300]);
        let limited = rules(serde_json::json!({"restart_jitter": 0, "start_limit": 3}));
        assert_eq!(limited.schedule(), [0, 1000]);
        assert!(!limited.gives_up(2) && limited.gives_up(3));
        assert!(rules(serde_json::json!({"restart": "never"})).gives_up(1));
    }
}

//! Whether a version that is being tried has proved itself: a pure function of how the units stand and of the time.

/// How one unit stands.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is to run.
    pub wanted: bool,
    /// Whether it is ready, or has done what it was to do.
    pub ready: bool,
    /// Whether its state is being brought to another version.
    pub migrating: bool,
    /// Why it has failed for good, if it has.
    pub failed: Option<&'a str>,
    /// Why it is not ready, or not healthy, if there is a reason.
    pub trouble: &'a str,
    /// How many checks of its health have failed in a row.
    pub ill: u32,
    /// Since when it stands so, in milliseconds.
    pub since_ms: u64,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Look again at this time, in milliseconds; and for what is waited, in a sentence.
    Wait {
        /// When.
        until_ms: u64,
        /// For what.
        what: String,
    },
    /// The version is kept.
    Commit,
    /// The version is given up.
    GiveUp {
        /// Why.
        why: String,
        /// The units because of which.
        units: Vec<String>,
    },
}

/// The times of a gate, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When the units were first started, or the last was done with bringing its state to another version.
    pub begun: u64,
    /// For how long all must be ready and healthy.
    pub healthy: u64,
    /// How long after the start the version has for that.
    pub deadline: u64,
}

/// Judges. `reached` is whether the machine has a network address, or had none either when the version was installed.
pub fn judge(units: &[Look<'_>], reached: bool, times: Times, now: u64) -> Verdict {
    let end = times.begun.saturating_add(times.deadline);
    let wanted = || units.iter().filter(|unit| unit.wanted);
    let lost = wanted().find(|u| u.failed.is_some() && u.since_ms.saturating_add(times.healthy) <= now);
    if let Some((unit, why)) = lost.and_then(|unit| Some((unit, unit.failed?))) {
        return Verdict::GiveUp {
            why: format!("unit {} failed: {why}", unit.name),
            units: vec![unit.name.to_owned()],
        };
    }
    // That takes as long as there is data; each step has a limit of its own.
    let migrating = wanted().filter(|unit| unit.migrating).map(|unit| unit.name);
    let migrating: Vec<&str> = migrating.collect();
    if !migrating.is_empty() {
        let what = format!("the state of {} is brought to this version", migrating.join(", "));
        let until_ms = now.saturating_add(times.healthy);
        return Verdict::Wait { until_ms, what };
    }
    let missing: Vec<&Look<'_>> = wanted().filter(|u| !u.ready || u.ill > 0).collect();
    if missing.is_empty() && reached {
        let since = wanted().map(|u| u.since_ms).max().unwrap_or(0).max(times.begun);
        let proved = since.saturating_add(times.healthy);
        if proved <= now {
            return Verdict::Commit;
        }
        if now < end {
            let until_ms = proved.min(end);
            let what = "every unit is ready, and has to stay so for a while".to_owned();
            return Verdict::Wait { until_ms, what };
        }
        let restless: Vec<&str> = wanted()
            .filter(|unit| unit.since_ms.saturating_add(times.healthy) > now)
            .map(|unit| unit.name)
            .collect();
        return Verdict::GiveUp {
            why: format!("unit {} did not stay ready", restless.join(", ")),
            units: restless.into_iter().map(str::to_owned).collect(),
        };
    }
    let said = |unit: &&Look<'_>| match unit.trouble {
        "" => format!("unit {} is not ready", unit.name),
        why => format!("unit {}: {why}", unit.name),
    };
    let alone = (!reached)
        .then(|| "the machine has no network address, and had one when this version was installed".to_owned());
    let what = missing.iter().map(said).chain(alone).collect::<Vec<_>>().join("; ");
    if now < end {
        let soon = wanted()
            .filter(|u| u.failed.is_some())
            .map(|u| u.since_ms.saturating_add(times.healthy));
        let until_ms = soon.chain([end]).min().unwrap_or(end);
        return Verdict::Wait { until_ms, what };
    }
    Verdict::GiveUp {
        why: format!("after {} s {what}", times.deadline / 1000),
        units: missing.iter().map(|unit| unit.name.to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        begun: 1_000,
        healthy: 30_000,
        deadline: 600_000,
    };

    fn ready(name: &str, since_ms: u64) -> Look<'_> {
        Look {
            name,
            wanted: true,
            ready: true,
            migrating: false,
            failed: None,
            trouble: "",
            ill: 0,
            since_ms,
        }
    }

    #[test]
    fn a_version_is_kept_when_all_that_should_run_was_ready_for_long_enough() {
        let units = [ready("a", 5_000), ready("b", 9_000)];
        let wait = Verdict::Wait {
            until_ms: 39_000,
            what: "every unit is ready, and has to stay so for a while".into(),
        };
        assert_eq!(judge(&units, true, TIMES, 10_000), wait);
        assert_eq!(judge(&units, true, TIMES, 38_999), wait);
        assert_eq!(judge(&units, true, TIMES, 39_000), Verdict::Commit);
        // What the owner switched off is not waited for.
        let off = Look {
            wanted: false,
            ready: false,
            ..ready("c", 0)
        };
        assert_eq!(judge(&[units[0].clone(), off], true, TIMES, 39_000), Verdict::Commit);
    }

    #[test]
    fn a_unit_that_is_not_ready_or_not_healthy_until_the_deadline_gives_the_version_up() {
        let late = Look {
            ready: false,
            trouble: "it ended with exit status 1",
            ..ready("web", 590_000)
        };
        let ill = Look {
            ill: 1,
            trouble: "no answer",
            ..ready("web", 2_000)
        };
        for (unit, why) in [(late, "it ended with exit status 1"), (ill, "no answer")] {
            let units = [ready("a", 5_000), unit];
            let Verdict::Wait { until_ms, what } = judge(&units, true, TIMES, 600_999) else {
                panic!()
            };
            assert_eq!((until_ms, what), (601_000, format!("unit web: {why}")));
            let why = format!("after 600 s unit web: {why}");
            let units_named = vec!["web".to_owned()];
            assert_eq!(
                judge(&units, true, TIMES, 601_000),
                Verdict::GiveUp {
                    why,
                    units: units_named
                }
            );
        }
    }

    #[test]
    fn a_unit_that_failed_for_good_is_not_waited_for_until_the_deadline() {
        let lost = Look {
            ready: false,
            failed: Some("its program is missing"),
            ..ready("web", 5_000)
        };
        let Verdict::Wait { until_ms, .. } = judge(std::slice::from_ref(&lost), true, TIMES, 6_000) else {
            panic!()
        };
        assert_eq!(until_ms, 35_000);
        let why = "unit web failed: its program is missing".to_owned();
        let units = vec!["web".to_owned()];
        assert_eq!(judge(&[lost], true, TIMES, 35_000), Verdict::GiveUp { why, units });
    }

    #[test]
    fn a_state_that_is_brought_to_the_new_version_is_waited_for_beyond_the_deadline() {
        let migrating = Look {
            ready: false,
            migrating: true,
            ..ready("db", 5_000)
        };
        let units = [ready("a", 5_000), migrating];
        let wait = Verdict::Wait {
            until_ms: 930_000,
            what: "the state of db is brought to this version".into(),
        };
        assert_eq!(judge(&units, true, TIMES, 900_000), wait);
        // Whoever has failed for good is not waited for.
        let failed = Look {
            ready: false,
            failed: Some("step 1 ended with exit code 1"),
            ..ready("web", 5_000)
        };
        let units = [failed, units[1].clone()];
        assert!(matches!(judge(&units, true, TIMES, 900_000), Verdict::GiveUp { .. }));
    }

    #[test]
    fn a_version_in_which_the_machine_is_no_longer_reached_is_given_up() {
        let units = [ready("a", 5_000)];
        let what = "the machine has no network address, and had one when this version was installed";
        let wait = Verdict::Wait {
            until_ms: 601_000,
            what: what.into(),
        };
        assert_eq!(judge(&units, false, TIMES, 39_000), wait);
        assert_eq!(judge(&units, true, TIMES, 39_001), Verdict::Commit);
        let why = format!("after 600 s {what}");
        let none = Vec::new();
        assert_eq!(
            judge(&units, false, TIMES, 601_000),
            Verdict::GiveUp { why, units: none }
        );
    }

    #[test]
    fn units_that_come_and_go_until_the_deadline_have_not_proved_anything() {
        let units = [ready("a", 590_000)];
        assert!(matches!(
            judge(&units, true, TIMES, 600_999),
            Verdict::Wait { until_ms: 601_000, .. }
        ));
        assert_eq!(
            judge(&units, true, TIMES, 601_000),
            Verdict::GiveUp {
                why: "unit a did not stay ready".into(),
                units: vec!["a".into()]
            }
        );
    }
}

//! What a start does about the version of a unit's state, as a pure function.

use cairn_unit::{Migration, StateVersion};

use super::record::{Record, Tries};

/// After so many tries that were cut off (by the power, or because the manager died) steps are not begun again by themselves.
pub const TRIES: u32 = 3;

/// The steps between two versions, by their places in the unit's file, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// None.
    Stay,
    /// These, upwards.
    Up(Vec<usize>),
    /// These, downwards.
    Down(Vec<usize>),
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// The state is of a later version, and no steps lead down.
    #[error("its state has version {0}, and this version of the appliance reads version {1}")]
    Later(StateVersion, StateVersion),
    /// Its steps begin at a later version.
    #[error(
        "its state has version {0}, and no step leads from there to version {1}; install a version of the appliance between them first"
    )]
    Gap(StateVersion, StateVersion),
}

/// The way from a recorded version to the one that is wanted. A state without a record was made before there were any: it has version 1, or, where
/// a package says which, some earlier one.
///
/// # Errors
/// There is none.
pub fn way(
    recorded: Option<&StateVersion>,
    wanted: &StateVersion,
    migration: Option<&Migration>,
) -> Result<Way, NoWay> {
    let steps = migration.map_or(&[][..], |migration| &migration.steps);
    if migration.is_some_and(|migration| migration.package.is_some()) {
        return match recorded {
            Some(recorded) if recorded == wanted => Ok(Way::Stay),
            Some(recorded) if recorded > wanted => Err(NoWay::Later(recorded.clone(), wanted.clone())),
            _ => Ok(Way::Up((0..steps.len()).collect())),
        };
    }
    let recorded = recorded.cloned().unwrap_or_default();
    if recorded == *wanted {
        return Ok(Way::Stay);
    }
    let up = recorded < *wanted;
    let none = || match up {
        true => NoWay::Gap(recorded.clone(), wanted.clone()),
        false => NoWay::Later(recorded.clone(), wanted.clone()),
    };
    let (mut at, end) = recorded.as_number().zip(wanted.as_number()).ok_or_else(none)?;
    let mut found = Vec::new();
    while at != end {
        let next = steps.iter().position(|step| match up {
            true => step.from == Some(at),
            false => step.to == Some(at) && step.down.is_some(),
        });
        let next = next.ok_or_else(none)?;
        found.push(next);
        let to = if up { steps[next].to } else { steps[next].from };
        at = to
            .filter(|to| if up { *to <= end } else { *to >= end })
            .ok_or_else(none)?;
    }
    Ok(if up { Way::Up(found) } else { Way::Down(found) })
}

/// What lies on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is noted of the state.
    pub record: Option<Record>,
    /// What is noted of the state of before, if that is kept; a state without a note has version 1.
    pub before: Option<Option<Record>>,
    /// Tries that were cut off.
    pub tries: Tries,
}

/// What a start does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The state is what it should be.
    Start,
    /// The state of before takes its place.
    Restore,
    /// Steps run on a copy.
    Migrate(Way),
    /// The unit does not start, and why.
    Refuse(String),
}

/// Decides. `appliance` is the version of the appliance that runs.
pub fn decide(
    found: &Found,
    wanted: &StateVersion,
    migration: Option<&Migration>,
    appliance: &str,
    unit: &str,
) -> Decision {
    let recorded = found.record.as_ref().map(|record| &record.version);
    let way_there = match way(recorded, wanted, migration) {
        Ok(Way::Stay) => return Decision::Start,
        Ok(way) => way,
        Err(why @ NoWay::Gap(..)) => return Decision::Refuse(why.to_string()),
        Err(why @ NoWay::Later(..)) => return back(found, wanted, migration, &why),
    };
    let tries = &found.tries;
    if tries.appliance == appliance && tries.count >= TRIES {
        return Decision::Refuse(format!(
            "the steps to version {wanted} of its state were begun {} times and cut off each time, by the power or a crash; its state is as it \
             was before; `cairn start {unit}` tries again",
            tries.count
        ));
    }
    Decision::Migrate(way_there)
}

/// The state is of a later version than this unit reads.
fn back(found: &Found, wanted: &StateVersion, migration: Option<&Migration>, why: &NoWay) -> Decision {
    let before = found.before.as_ref();
    let fits = before.is_some_and(|before| {
        let version = before.as_ref().map(|record| &record.version);
        way(version, wanted, migration) == Ok(Way::Stay)
    });
    let record = found.record.as_ref();
    if fits && record.is_some_and(|record| record.unproved) {
        return Decision::Restore;
    }
    let writer = record.map_or("a later version", |record| record.appliance.as_str());
    let how = match fits {
        true => "there `cairn upgrade rollback --lose-data` gives up what was written since",
        false => "there is no copy of the state of before",
    };
    Decision::Refuse(format!(
        "{why}; nothing was changed: start version {writer} of the appliance again (`cairn upgrade rollback`); {how}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(text: &str) -> Migration {
        serde_json::from_str(text).unwrap()
    }

    fn numbered() -> Migration {
        migration(
            r#"{"version": 5, "steps": [
                {"from": 3, "to": 5, "up": ["/u"]},
                {"from": 2, "to": 3, "up": ["/u"], "down": ["/d"]},
                {"from": 1, "to": 2, "up": ["/u"], "down": ["/d"]}]}"#,
        )
    }

    fn version(text: &str) -> StateVersion {
        text.parse().unwrap()
    }

    fn record(of: &str, unproved: bool) -> Record {
        Record {
            version: version(of),
            appliance: "1.1.0".into(),
            unproved,
            since: 0,
            by: String::new(),
            restored: 0,
        }
    }

    fn go(from: Option<&str>, to: &str, migration: &Migration) -> Result<Way, String> {
        way(from.map(version).as_ref(), &version(to), Some(migration)).map_err(|e| e.to_string())
    }

    #[test]
    fn steps_run_in_the_order_of_their_versions_and_down_only_where_each_has_a_way() {
        let all = numbered();
        assert_eq!(go(Some("1"), "5", &all), Ok(Way::Up(vec![2, 1, 0])));
        assert_eq!(
            go(None, "5", &all),
            Ok(Way::Up(vec![2, 1, 0])),
            "no record is version 1"
        );
        assert_eq!(go(Some("3"), "5", &all), Ok(Way::Up(vec![0])));
        assert_eq!(go(Some("5"), "5", &all), Ok(Way::Stay));
        assert_eq!(go(Some("3"), "1", &all), Ok(Way::Down(vec![1, 2])));
        let no_way = "its state has version 5, and this version of the appliance reads version 1";
        assert_eq!(go(Some("5"), "1", &all), Err(no_way.into()));
        let between = go(Some("4"), "5", &all).unwrap_err();
        assert!(between.contains("no step leads from there to version 5"), "{between}");
        assert!(go(Some("1"), "4", &all).is_err(), "a step leads past it");
        assert!(go(Some("11.8"), "12", &all).is_err(), "a version of another kind");
        assert!(way(Some(&version("2")), &version("1"), None).is_err());
    }

    #[test]
    fn a_packages_version_runs_all_steps_when_it_rises_and_none_down() {
        let all = migration(r#"{"package": "db-core", "steps": [{"up": ["/a"]}, {"up": ["/b"]}]}"#);
        for from in [None, Some("10.11"), Some("1")] {
            assert_eq!(go(from, "11.8", &all), Ok(Way::Up(vec![0, 1])));
        }
        assert_eq!(go(Some("11.8"), "11.8", &all), Ok(Way::Stay));
        assert!(go(Some("12.3"), "11.8", &all).is_err());
    }

    fn decided(found: &Found, wanted: &str) -> Decision {
        decide(found, &version(wanted), Some(&numbered()), "1.0.0", "db")
    }

    #[test]
    fn a_later_state_gives_way_to_the_one_of_before_only_if_its_version_was_not_kept() {
        let found = |unproved, before: Option<Option<Record>>| Found {
            record: Some(record("6", unproved)),
            before,
            ..Found::default()
        };
        let fits = Some(Some(record("5", false)));
        assert_eq!(decided(&found(true, fits.clone()), "5"), Decision::Restore);
        for (found, how) in [
            (
                found(false, fits),
                "rollback --lose-data` gives up what was written since",
            ),
            (found(true, None), "there is no copy of the state of before"),
            (
                found(true, Some(Some(record("4", false)))),
                "there is no copy of the state of before",
            ),
            (found(true, Some(None)), "there is no copy of the state of before"),
        ] {
            let Decision::Refuse(why) = decided(&found, "5") else {
                panic!("{found:?}")
            };
            assert!(
                why.starts_with(
                    "its state has version 6, and this version of the appliance reads version 5; nothing was changed"
                ) && why.contains("start version 1.1.0 of the appliance")
                    && why.ends_with(how),
                "{why}"
            );
        }
        // Before there were versions, all states were of the first.
        let first = decide(&found(true, Some(None)), &version("1"), None, "1.0.0", "db");
        assert_eq!(first, Decision::Restore);
    }

    #[test]
    fn steps_that_were_cut_off_each_time_are_not_begun_for_ever() {
        let found = |count, appliance: &str| Found {
            record: Some(record("3", false)),
            tries: Tries {
                count,
                appliance: appliance.into(),
            },
            ..Found::default()
        };
        let go = Decision::Migrate(Way::Up(vec![0]));
        assert_eq!(decided(&found(TRIES - 1, "1.0.0"), "5"), go);
        assert_eq!(
            decided(&found(TRIES, "0.9.0"), "5"),
            go,
            "that was another version's trouble"
        );
        let Decision::Refuse(why) = decided(&found(TRIES, "1.0.0"), "5") else {
            panic!()
        };
        assert!(
            why.contains("were begun 3 times") && why.contains("`cairn start db`"),
            "{why}"
        );
        assert_eq!(
            decided(&found(TRIES, "1.0.0"), "3"),
            Decision::Start,
            "nothing is to be done"
        );
    }
}

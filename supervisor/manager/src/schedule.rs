//! What the appliance does about later versions by itself, and when: a pure function of the owner's policy, of what is known, and of the time.
//! All times are seconds since 1970.

use cairn_unit::{UpgradeMode, UpgradePolicy};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The repository is asked so often.
const EVERY: u64 = DAY;
/// The first time after a start is so much later, so that the units come first; and spread over as much again.
const FIRST: u64 = 15 * MINUTE;
/// Appliances whose turn comes at the same moment are spread over so much.
const SPREAD: u64 = HOUR;

/// Whether what is offered is this appliance's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is.
    Now,
    /// It will be then.
    At(u64),
    /// It is not known when.
    Open,
}

/// What the repository offered when it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The version.
    pub version: &'a str,
    /// Whether it is newer than what runs.
    pub newer: bool,
    /// Whether it is this appliance's.
    pub turn: Turn,
}

/// Something that is tried again after it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tries {
    /// When it was last done.
    pub last: Option<u64>,
    /// How often in a row it failed.
    pub failed: u32,
}

impl Tries {
    /// When it is to be done again: after `every`, or sooner if it failed, later each time.
    fn again(&self, every: u64) -> Option<u64> {
        let pause = match self.failed {
            0 => every,
            failed => (HOUR << (failed - 1).min(8)).min(every),
        };
        Some(self.last?.saturating_add(pause))
    }

    /// It was done now, well or not.
    pub fn done(&mut self, now: u64, well: bool) {
        self.last = Some(now);
        self.failed = if well { 0 } else { self.failed.saturating_add(1) };
    }
}

/// What is known.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// When the appliance began.
    pub began: u64,
    /// A number that is this appliance's and stays.
    pub own: u64,
    /// Whether there is a repository to ask.
    pub reachable: bool,
    /// Whether something else comes first: a version that has to prove itself, work that is being done, a machine that goes down.
    pub busy: bool,
    /// How asking went.
    pub checks: &'a Tries,
    /// How installing what is offered went.
    pub installs: &'a Tries,
    /// What is offered.
    pub offer: Option<Offer<'a>>,
    /// The version in the other slot that the next restart starts for the first time.
    pub waiting: Option<&'a str>,
    /// Versions that were given up, or that a restart did not lead to.
    pub given_up: &'a [&'a str],
    /// The version that the owner was told of.
    pub told: Option<&'a str>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until then at the latest; `None`: until something happens.
    Nothing(Option<u64>),
    /// Ask the repository.
    Check,
    /// Install what is offered.
    Install,
    /// Restart into this version, which is installed.
    Restart(String),
    /// Tell the owner of this version.
    Notify(String),
}

/// What is to be done now.
pub fn decide(now: u64, policy: &UpgradePolicy, known: &Known<'_>) -> Action {
    if policy.mode == UpgradeMode::Off || known.busy {
        return Action::Nothing(None);
    }
    let mut later: Vec<u64> = Vec::new();
    let hold = policy.held(now);
    later.extend(hold.and_then(|hold| hold.until).map(|until| until.0));
    let acts = policy.mode == UpgradeMode::Automatic && hold.is_none();
    let mine = known.offer.filter(|offer| offer.newer && offer.turn == Turn::Now);
    if let Some(offer) = mine {
        let version = offer.version;
        let installed = known.waiting == Some(version);
        // What was given up once is the owner's to try again.
        let fine = !known.given_up.contains(&version);
        if acts && installed && fine {
            if policy.window.iter().any(|window| window.is_open(now)) {
                return Action::Restart(version.to_owned());
            }
            later.extend(policy.window.iter().map(|window| window.next(now)));
        } else if acts && fine && !installed {
            // Also if it went well and still is not there: never again and again.
            match known.installs.again(DAY) {
                Some(again) if again > now => later.push(again),
                _ => return Action::Install,
            }
        }
        // Who restarts by hand has to know that there is something to restart into.
        let owners = !acts || !fine || (installed && policy.window.is_empty());
        if owners && known.told != Some(version) {
            return Action::Notify(version.to_owned());
        }
    }
    if known.reachable {
        let first = known.began + FIRST + known.own % FIRST;
        let mut due = known.checks.again(EVERY).unwrap_or(first);
        if let Some(Turn::At(at)) = known.offer.map(|offer| offer.turn) {
            let turn = at.saturating_add(known.own % SPREAD);
            // Only once: if it still is not its turn then, the next look says when.
            if known.checks.last.is_none_or(|last| last < turn) {
                due = due.min(turn);
            }
        }
        // A clock that was set back does not keep it from asking.
        let ahead = known.checks.last.is_some_and(|last| last > now + HOUR);
        if due <= now || ahead {
            return Action::Check;
        }
        later.push(due);
    }
    Action::Nothing(later.into_iter().filter(|at| *at > now).min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_unit::{Hold, Moment};

    /// 2026-11-22 00:00 UTC, a Sunday.
    const SUNDAY: u64 = 1_795_305_600;
    /// It asks 15 minutes and these seconds after its start.
    const OWN: u64 = 100;

    /// One row: what differs from an automatic appliance with a window on Sundays from 02:00 to 05:00, that asked for the first time at 00:00 on
    /// Sunday and was offered 2.0.0.
    struct Row {
        now: u64,
        mode: UpgradeMode,
        windows: &'static [&'static str],
        hold: Option<Hold>,
        checks: Tries,
        installs: Tries,
        offer: Option<Offer<'static>>,
        waiting: Option<&'static str>,
        given_up: &'static [&'static str],
        told: Option<&'static str>,
        busy: bool,
        reachable: bool,
    }

    fn row() -> Row {
        Row {
            now: SUNDAY + HOUR,
            mode: UpgradeMode::Automatic,
            windows: &["Sun 02:00-05:00"],
            hold: None,
            checks: tries(SUNDAY, 0),
            installs: Tries::default(),
            offer: offer(Turn::Now),
            waiting: None,
            given_up: &[],
            told: None,
            busy: false,
            reachable: true,
        }
    }

    fn tries(last: u64, failed: u32) -> Tries {
        Tries {
            last: Some(last),
            failed,
        }
    }

    #[allow(clippy::unnecessary_wraps)]
    fn offer(turn: Turn) -> Option<Offer<'static>> {
        Some(Offer {
            version: "2.0.0",
            newer: true,
            turn,
        })
    }

    fn decided(row: &Row) -> Action {
        let policy = UpgradePolicy {
            mode: row.mode,
            window: row.windows.iter().map(|text| text.parse().unwrap()).collect(),
            bandwidth: None,
            hold: row.hold.clone(),
        };
        let known = Known {
            began: SUNDAY - HOUR,
            own: OWN,
            reachable: row.reachable,
            busy: row.busy,
            checks: &row.checks,
            installs: &row.installs,
            offer: row.offer,
            waiting: row.waiting,
            given_up: row.given_up,
            told: row.told,
        };
        decide(row.now, &policy, &known)
    }

    fn until(at: u64) -> Action {
        Action::Nothing(Some(at))
    }

    #[test]
    fn an_automatic_appliance_installs_at_any_time_and_restarts_only_in_its_window() {
        assert_eq!(decided(&row()), Action::Install);
        let waiting = || Row {
            waiting: Some("2.0.0"),
            ..row()
        };
        for (now, expected) in [
            (SUNDAY + HOUR, until(SUNDAY + 2 * HOUR)),
            (SUNDAY + 2 * HOUR, Action::Restart("2.0.0".into())),
            (SUNDAY + 5 * HOUR - 1, Action::Restart("2.0.0".into())),
            (SUNDAY + 5 * HOUR, until(SUNDAY + DAY)),
        ] {
            assert_eq!(decided(&Row { now, ..waiting() }), expected, "{now}");
        }
        // Without a window the restart is the owner's, who is told once.
        let windows = &[];
        let left = || Row { windows, ..waiting() };
        assert_eq!(decided(&left()), Action::Notify("2.0.0".into()));
        let told = Some("2.0.0");
        assert_eq!(decided(&Row { told, ..left() }), until(SUNDAY + DAY));
        // What is newer than what waits is installed first, also in the window.
        let now = SUNDAY + 3 * HOUR;
        assert_eq!(
            decided(&Row {
                now,
                waiting: Some("1.9.0"),
                ..row()
            }),
            Action::Install
        );
        // What is no longer offered, or paused, is not started by itself.
        for offer in [None, offer(Turn::Open)] {
            assert_eq!(
                decided(&Row {
                    now,
                    offer,
                    ..waiting()
                }),
                until(SUNDAY + DAY)
            );
        }
    }

    #[test]
    fn an_appliance_that_notifies_tells_once_and_does_nothing() {
        let mode = UpgradeMode::Notify;
        assert_eq!(decided(&Row { mode, ..row() }), Action::Notify("2.0.0".into()));
        let told = Some("2.0.0");
        assert_eq!(decided(&Row { mode, told, ..row() }), until(SUNDAY + DAY));
        let told = Some("1.9.0");
        assert_eq!(decided(&Row { mode, told, ..row() }), Action::Notify("2.0.0".into()));
        // Nor does it restart into what its owner installed.
        let (now, waiting, told) = (SUNDAY + 3 * HOUR, Some("2.0.0"), Some("2.0.0"));
        assert_eq!(
            decided(&Row {
                mode,
                now,
                waiting,
                told,
                ..row()
            }),
            until(SUNDAY + DAY)
        );
    }

    #[test]
    fn an_appliance_that_is_off_or_busy_does_nothing() {
        assert_eq!(
            decided(&Row {
                mode: UpgradeMode::Off,
                ..row()
            }),
            Action::Nothing(None)
        );
        assert_eq!(decided(&Row { busy: true, ..row() }), Action::Nothing(None));
        // Without a repository nothing is asked.
        let (reachable, offer) = (false, None);
        assert_eq!(
            decided(&Row {
                reachable,
                offer,
                ..row()
            }),
            Action::Nothing(None)
        );
    }

    #[test]
    fn a_held_appliance_is_told_and_not_upgraded() {
        let hold = |until: Option<u64>| {
            Some(Hold {
                until: until.map(Moment),
                reason: "audit".into(),
            })
        };
        let told = Some("2.0.0");
        assert_eq!(
            decided(&Row {
                hold: hold(None),
                ..row()
            }),
            Action::Notify("2.0.0".into())
        );
        assert_eq!(
            decided(&Row {
                hold: hold(None),
                told,
                ..row()
            }),
            until(SUNDAY + DAY)
        );
        // It still asks.
        let now = SUNDAY + DAY;
        assert_eq!(
            decided(&Row {
                hold: hold(None),
                told,
                now,
                ..row()
            }),
            Action::Check
        );
        // Nor is what waits started.
        let (now, waiting) = (SUNDAY + 3 * HOUR, Some("2.0.0"));
        assert_eq!(
            decided(&Row {
                hold: hold(None),
                told,
                now,
                waiting,
                ..row()
            }),
            until(SUNDAY + DAY)
        );
        // Until it ends.
        let hold = hold(Some(SUNDAY + 2 * HOUR));
        assert_eq!(
            decided(&Row {
                hold: hold.clone(),
                told,
                ..row()
            }),
            until(SUNDAY + 2 * HOUR)
        );
        let now = SUNDAY + 2 * HOUR;
        assert_eq!(
            decided(&Row {
                hold,
                told,
                now,
                ..row()
            }),
            Action::Install
        );
    }

    #[test]
    fn the_repository_is_asked_once_a_day_and_sooner_after_a_failure_or_for_its_turn() {
        let (none, later) = (|| Row { offer: None, ..row() }, |at| offer(Turn::At(at)));
        let began = SUNDAY - HOUR;
        for (checks, offer, now, expected) in [
            // After a start, when the units are up, at a moment of its own.
            (Tries::default(), None, began, until(began + FIRST + OWN)),
            (Tries::default(), None, began + FIRST + OWN, Action::Check),
            (tries(SUNDAY, 0), None, SUNDAY + DAY - 1, until(SUNDAY + DAY)),
            (tries(SUNDAY, 0), None, SUNDAY + DAY, Action::Check),
            (tries(SUNDAY, 1), None, SUNDAY + HOUR - 1, until(SUNDAY + HOUR)),
            (tries(SUNDAY, 1), None, SUNDAY + HOUR, Action::Check),
            (tries(SUNDAY, 3), None, SUNDAY + HOUR, until(SUNDAY + 4 * HOUR)),
            (tries(SUNDAY, 50), None, SUNDAY + HOUR, until(SUNDAY + DAY)),
            // Its turn comes before the day is over, and only once for the same.
            (
                tries(SUNDAY, 0),
                later(SUNDAY + 3 * HOUR),
                SUNDAY + HOUR,
                until(SUNDAY + 3 * HOUR + OWN),
            ),
            (
                tries(SUNDAY, 0),
                later(SUNDAY + 3 * HOUR),
                SUNDAY + 3 * HOUR + OWN,
                Action::Check,
            ),
            (
                tries(SUNDAY, 0),
                later(SUNDAY - OWN),
                SUNDAY + HOUR,
                until(SUNDAY + DAY),
            ),
            (
                tries(SUNDAY, 0),
                later(SUNDAY + 3 * DAY),
                SUNDAY + HOUR,
                until(SUNDAY + DAY),
            ),
            // The clock was set back by a year.
            (tries(SUNDAY, 0), None, SUNDAY - 365 * DAY, Action::Check),
        ] {
            assert_eq!(
                decided(&Row {
                    checks: checks.clone(),
                    offer,
                    now,
                    ..none()
                }),
                expected,
                "{checks:?} {offer:?} {now}"
            );
        }
    }

    #[test]
    fn a_version_that_was_given_up_is_not_installed_again_by_itself() {
        let given_up = &["2.0.0"];
        assert_eq!(decided(&Row { given_up, ..row() }), Action::Notify("2.0.0".into()));
        // Nor is it restarted into a second time.
        let (waiting, now) = (Some("2.0.0"), SUNDAY + 3 * HOUR);
        assert_eq!(
            decided(&Row {
                given_up,
                waiting,
                now,
                ..row()
            }),
            Action::Notify("2.0.0".into())
        );
        let told = Some("2.0.0");
        assert_eq!(
            decided(&Row {
                given_up,
                told,
                ..row()
            }),
            until(SUNDAY + DAY)
        );
    }

    #[test]
    fn an_install_that_failed_is_tried_again_later_each_time() {
        for (failed, again) in [(1, SUNDAY + 2 * HOUR), (2, SUNDAY + 3 * HOUR)] {
            let installs = tries(SUNDAY + HOUR, failed);
            assert_eq!(
                decided(&Row {
                    installs: installs.clone(),
                    ..row()
                }),
                until(again)
            );
            assert_eq!(
                decided(&Row {
                    installs,
                    now: again,
                    ..row()
                }),
                Action::Install
            );
        }
        let mut tries = Tries::default();
        tries.done(5, false);
        tries.done(6, false);
        assert_eq!((tries.last, tries.failed), (Some(6), 2));
        tries.done(7, true);
        assert_eq!(tries.failed, 0);
    }

    #[test]
    fn nothing_is_done_about_what_is_not_newer_or_not_its_turn() {
        let older = Some(Offer {
            version: "1.0.0",
            newer: false,
            turn: Turn::Now,
        });
        for offer in [older, offer(Turn::Open), offer(Turn::At(SUNDAY + 5 * DAY))] {
            assert_eq!(decided(&Row { offer, ..row() }), until(SUNDAY + DAY), "{offer:?}");
        }
    }
}

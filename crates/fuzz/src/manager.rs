//! What the manager is sent, and what it finds when it starts.

use cairn_manager::machine::{Action, Busy, End, Event, Machine, State};
use cairn_manager::notify::Word;
use cairn_manager::rules::Rules;
use cairn_manager::saved::Saved;
use cairn_unit::Manifest;
use serde_json::json;

/// A small appliance with every kind of life: commands before and after, setup steps, a sign of readiness, a oneshot by a timer.
pub(crate) fn manifest() -> Manifest {
    let unit = |index: u32, unit: serde_json::Value, waits_for: &[&str]| {
        json!({
            "unit": unit, "root": format!("/services/{index}"), "index": index, "templates": [], "waits_for": waits_for,
            "accounts": {"root": {"uid": 0, "gid": 0, "groups": [], "home": "/root"}}, "groups": {"root": 0},
        })
    };
    let web = json!({
        "description": "x", "ready": {"when": "notify"}, "needs": {"db": "store"},
        "service": {"command": ["/x"], "before": [["/b"]], "after": [["/a"], ["/a"]], "start_limit": 3, "watchdog": "10s"},
    });
    let db = json!({
        "description": "x", "service": {"command": ["/x"]}, "setup": [{"name": "make", "command": ["/s"]}],
        "provides": {"store": {"kind": "database", "port": 3306}},
    });
    let job = json!({
        "description": "x", "service": {"kind": "oneshot", "command": ["/x"]}, "timer": {"calendar": ["daily"]},
    });
    serde_json::from_value(json!({
        "name": "x", "version": "1", "description": "x", "built": 0,
        "units": {"web": unit(0, web, &["db"]), "db": unit(1, db, &[]), "job": unit(2, job, &[])},
    }))
    .expect("the manifest is right")
}

/// A request on the control socket: its first line.
pub fn control(data: &[u8]) {
    cairn_manager::fuzz::control(&String::from_utf8_lossy(data));
}

/// What a unit that is starting, and then one that serves, makes of a service's words.
pub(crate) fn heard(words: &[Word]) {
    let manifest = manifest();
    let rules = Rules::of("web", &manifest.units["web"].unit);
    let mut machine = Machine::default();
    for event in [
        Event::Start,
        Event::Go,
        Event::Prepared { setup: false },
        Event::Exited(End::Code(0)),
        Event::Executed,
    ] {
        machine = machine.step(&rules, event, 0).0;
    }
    for word in words {
        let event = match word {
            Word::Ready => Event::Ready,
            Word::WatchdogTrigger => Event::Unhealthy("ill".into()),
            Word::Extend(us) => Event::Extend(us.div_ceil(1000)),
            _ => continue,
        };
        let before = machine.clone();
        machine = machine.step(&rules, event, 1).0;
        assert!(machine.legal(&rules), "{word:?} makes {machine:?} of {before:?}");
        if machine.state == before.state {
            assert!(
                machine.deadline >= before.deadline,
                "a service gets more time, never less"
            );
        }
    }
}

/// The state in `/run` that a manager left to its successor: refused, or one that every unit can go on from.
pub fn saved(data: &[u8]) {
    let manifest = manifest();
    let Ok(saved) = Saved::parse(data, &manifest) else {
        return;
    };
    let text = serde_json::to_string(&saved).expect("what was read can be written");
    let again = Saved::parse(text.as_bytes(), &manifest).expect("and read");
    assert_eq!(serde_json::to_string(&again).expect("and written"), text);
    for (_, lease) in &saved.leases {
        assert!(lease.renew() < lease.rebind() && lease.rebind() < lease.end() && lease.prefix <= 32);
    }
    for (name, kept) in &saved.units {
        let rules = Rules::of(name, &manifest.units[name.as_str()].unit);
        assert!(kept.machine.legal(&rules) && kept.pid >= 0);
        for event in events() {
            for now in [0, 5_000, u64::MAX] {
                let (next, _) = kept.machine.clone().step(&rules, event.clone(), now);
                assert!(
                    next.legal(&rules),
                    "{event:?} at {now} makes {next:?} of {:?}",
                    kept.machine
                );
                stops(next, &rules, now);
            }
        }
    }
}

fn events() -> Vec<Event> {
    vec![
        Event::Start,
        Event::Stop,
        Event::Restart,
        Event::Go,
        Event::Prepared { setup: true },
        Event::Prepared { setup: false },
        Event::Migrate {
            timeouts: vec![1_000],
            rest: false,
        },
        Event::Copied,
        Event::Refused("x".into()),
        Event::Committed,
        Event::Failed("x".into()),
        Event::Executed,
        Event::Ready,
        Event::Exited(End::Code(0)),
        Event::Exited(End::Signal(9)),
        Event::Lost,
        Event::Extend(u64::MAX),
        Event::Unhealthy("x".into()),
        Event::Tick,
    ]
}

/// A stop ends, as long as a kill ends what runs.
fn stops(machine: Machine, rules: &Rules, mut now: u64) {
    let (mut machine, action) = machine.step(rules, Event::Stop, now);
    // A manager that was killed may have killed before.
    let killed_before = matches!(machine.state, State::Stopping { killed: true, .. });
    let mut killed = action == Some(Action::Kill) || killed_before;
    for _ in 0..50 {
        if machine.state == State::Stopped {
            return;
        }
        let event = match machine.busy {
            Busy::Preparing => Event::Prepared { setup: true },
            Busy::Committing => Event::Committed,
            Busy::Process if killed => Event::Exited(End::Signal(9)),
            _ => {
                now = machine.deadline.unwrap_or(now).max(now);
                Event::Tick
            }
        };
        let (next, action) = machine.step(rules, event, now);
        killed = action == Some(Action::Kill) || (killed && !matches!(action, Some(Action::After(_))));
        assert!(next.legal(rules));
        machine = next;
    }
    panic!("a stop never ends in {machine:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manager_writes_is_read_and_what_none_writes_is_refused() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/saved");
        let read = |name: &str| Saved::parse(&std::fs::read(corpus.join(name)).unwrap(), &manifest());
        for good in [
            "full",
            "empty",
            "web-ready",
            "web-finishing",
            "db-setting-up",
            "db-migrating",
            "db-committing",
            "job-ready",
        ] {
            assert_eq!(read(good).err(), None, "{good}");
        }
        for bad in ["cut", "token-too-high", "web-stuck", "web-step-too-far"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

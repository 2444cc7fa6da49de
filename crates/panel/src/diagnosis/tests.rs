//! Each trouble is found, and said in every language.

use super::*;
use serde_json::json;

fn keys(facts: &Facts) -> Vec<(&'static str, Mood)> {
    diagnose(facts)
        .iter()
        .map(|finding| (finding.key, finding.mood))
        .collect()
}

fn status(state: &str, firewall: bool, address: &str) -> Option<Status> {
    let unit = json!({
        "name": "web", "description": "", "state": state, "for_ms": 1, "errno": 0, "reloading": false, "reason": "it ended", "pid": 1,
        "failures": 0, "wanted": true, "says": "", "health": { "failed": 0, "last": "" }, "starts_in_ms": null, "learning_ms": null,
    });
    serde_json::from_value(json!({
        "appliance": "birch", "version": "1", "address": address, "ready": true, "firewall": firewall, "going_down": null, "uptime_ms": 1,
        "units": [unit],
    }))
    .ok()
}

fn top(kept: u64, kept_max: u64, waits: f32) -> Option<Top> {
    let pressure = cairn_api::Pressure {
        memory: waits,
        ..Default::default()
    };
    let unit = cairn_api::Use {
        name: "web".into(),
        kept,
        kept_max,
        memory: 5,
        memory_max: 9,
        pressure,
        ..Default::default()
    };
    Some(Top {
        at_ms: 1,
        units: vec![unit],
    })
}

fn room_of(free: u64) -> Option<Setup> {
    let machine = cairn_api::Machine {
        memory: 1 << 30,
        disk: free,
        cpus: 1,
    };
    Some(Setup {
        machine,
        ..Default::default()
    })
}

fn kept(synchronised: bool) -> Facts {
    let state = serde_json::json!({
        "memory": 1, "cpus": 1, "data": { "size": 1, "used": 0, "free": 1 }, "clock": { "now": "", "synchronised": synchronised, "error_us": null },
    });
    Facts {
        machine: Some(serde_json::from_value(state).unwrap()),
        ..well()
    }
}

fn copies(overdue: bool) -> Option<Dumps> {
    let dump = cairn_api::Dump {
        name: "20261120T020000Z".into(),
        at: 1_795_140_000,
        ..Default::default()
    };
    let unit = cairn_api::UnitDumps {
        unit: "web".into(),
        dumps: vec![dump],
        overdue,
        ..Default::default()
    };
    Some(Dumps { units: vec![unit] })
}

fn well() -> Facts {
    Facts {
        status: status("ready", true, "192.168.1.20"),
        top: top(1, 100, 0.0),
        setup: room_of(50 << 30),
        certificates: Some(Certificates {
            authority: None,
            certificates: Vec::new(),
            imported: Vec::new(),
            errors: Vec::new(),
        }),
        directory: Some(Ok(())),
        now: 1_800_000_000,
        ..Facts::default()
    }
}

#[test]
fn all_that_is_well_is_good_or_not_there() {
    assert!(
        keys(&well()).iter().all(|(_, mood)| *mood >= Mood::Good),
        "{:?}",
        keys(&well())
    );
    assert!(keys(&well()).len() >= 9);
}

#[test]
fn each_trouble_is_found_and_the_worst_comes_first() {
    let certificate = |until: &str, due: Option<&str>| cairn_api::Certificate {
        unit: "web".into(),
        secret: "tls".into(),
        names: vec!["birch.local".into()],
        issuer: String::new(),
        from: String::new(),
        until: until.into(),
        due: due.map(Into::into),
        imported: None,
    };
    let with = |own: Vec<cairn_api::Certificate>, errors: Vec<String>| {
        Some(Certificates {
            authority: None,
            certificates: own,
            imported: Vec::new(),
            errors,
        })
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let here = ("birch.example".to_owned(), Some(vec![ip("192.168.1.20")]));
    let away = DirectoryError::Away {
        url: "ldapi://x".into(),
        why: "no".into(),
    };
    let damaged = Trouble {
        damaged: Some("x".into()),
        ..Trouble::default()
    };
    let network = |change: fn(&mut NetworkState)| {
        let mut state = NetworkState::default();
        change(&mut state);
        Facts {
            network: Some(state),
            ..well()
        }
    };
    let cases = [
        (Facts { status: None, ..well() }, "manager", Mood::Bad),
        (
            Facts {
                status: status("failed", true, "1"),
                ..well()
            },
            "failed",
            Mood::Bad,
        ),
        (
            Facts {
                status: status("restarting", true, "1"),
                ..well()
            },
            "restarting",
            Mood::Warn,
        ),
        (
            Facts {
                status: status("failed", true, "1"),
                dumps: copies(false),
                ..well()
            },
            "failed-copies",
            Mood::Bad,
        ),
        (
            Facts {
                status: status("restarting", true, "1"),
                dumps: copies(false),
                ..well()
            },
            "restarting-copies",
            Mood::Warn,
        ),
        (
            Facts {
                dumps: copies(true),
                ..well()
            },
            "copy-overdue",
            Mood::Warn,
        ),
        (
            Facts {
                status: status("ready", false, "1"),
                ..well()
            },
            "firewall",
            Mood::Bad,
        ),
        (
            Facts {
                status: status("ready", true, ""),
                ..well()
            },
            "no-address",
            Mood::Bad,
        ),
        (network(|n| n.absent.push("eth9".into())), "network-absent", Mood::Warn),
        (network(|n| n.problems.push("no".into())), "network-problem", Mood::Warn),
        (
            network(|n| n.pending = Some(Default::default())),
            "network-pending",
            Mood::Warn,
        ),
        (Facts { now: 1_000, ..well() }, "clock-behind", Mood::Bad),
        (
            Facts {
                setup: room_of(1 << 20),
                ..well()
            },
            "disk-full",
            Mood::Bad,
        ),
        (
            Facts {
                setup: room_of(8 << 30),
                top: top(100 << 30, 0, 0.0),
                ..well()
            },
            "disk-low",
            Mood::Warn,
        ),
        (
            Facts {
                top: top(95, 100, 0.0),
                ..well()
            },
            "disk-unit",
            Mood::Warn,
        ),
        (
            Facts {
                top: top(1, 100, 30.0),
                ..well()
            },
            "memory-short",
            Mood::Warn,
        ),
        (
            Facts {
                certificates: with(Vec::new(), vec!["no".into()]),
                ..well()
            },
            "certificate-error",
            Mood::Bad,
        ),
        (
            Facts {
                certificates: with(vec![certificate("2001-01-01T00:00:00Z", None)], Vec::new()),
                ..well()
            },
            "certificate-ended",
            Mood::Bad,
        ),
        (
            Facts {
                certificates: with(vec![certificate("2101-01-01T00:00:00Z", Some("it"))], Vec::new()),
                ..well()
            },
            "certificate-due",
            Mood::Warn,
        ),
        (
            Facts {
                directory: Some(Err(away)),
                ..well()
            },
            "directory-away",
            Mood::Bad,
        ),
        (
            Facts {
                trouble: damaged,
                ..well()
            },
            "store-damaged",
            Mood::Bad,
        ),
        (
            Facts {
                domain: Some(("birch.example".into(), Some(vec![ip("203.0.113.9")]))),
                ..well()
            },
            "dns-elsewhere",
            Mood::Warn,
        ),
    ];
    for (facts, key, mood) in cases {
        assert_eq!(keys(&facts)[0], (key, mood), "{:?}", keys(&facts));
    }
    for (domain, key) in [
        (Some(here), "dns"),
        (Some(("birch.example".into(), None)), "dns-unknown"),
        (None, "no-domain"),
    ] {
        assert!(
            keys(&Facts { domain, ..well() })
                .iter()
                .any(|(found, mood)| *found == key && *mood >= Mood::Good),
            "{key}"
        );
    }
}

#[test]
fn whatever_is_not_well_says_what_it_means_and_what_to_do() {
    let view = View::load().unwrap();
    // Every key that stands in this file.
    let source = include_str!("findings.rs");
    let mut seen = 0;
    for part in source.split("found(\"").skip(1) {
        let mut words = part.split(['"', ',', ' ']).filter(|word| !word.is_empty());
        let (topic, mood, key) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        seen += 1;
        for lang in Lang::ALL {
            let say = |key: String| view.say(lang, &key, &[]);
            assert_ne!(
                say(format!("diagnosis.topic-{topic}")),
                format!("diagnosis.topic-{topic}")
            );
            let ends: &[&str] = if matches!(mood, "Mood::Bad" | "Mood::Warn") {
                &["", "-means", "-do"]
            } else {
                &[""]
            };
            for end in ends {
                let key = format!("diagnosis.{key}{end}");
                assert_ne!(say(key.clone()), key);
            }
        }
    }
    assert!(seen > 25, "{seen}");
}

#[test]
fn it_is_told_whether_a_time_server_keeps_the_clock() {
    for (facts, key, mood) in [
        (kept(true), "clock", Mood::Good),
        (kept(false), "clock-alone", Mood::Off),
    ] {
        assert!(keys(&facts).contains(&(key, mood)), "{:?}", keys(&facts));
    }
}

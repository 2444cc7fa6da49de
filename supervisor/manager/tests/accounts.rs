//! Accounts of bindings: a unit starts when its provider has granted it one, passwords change under running units, and who is not
//! bound any more has no rights.

mod fake_init;

use fake_init::World;
use serde_json::{Value, json};

/// A provider whose steps write down what they read, once the file `open` is there, and a consumer.
fn world(open: bool) -> World {
    prepared(open, |_| {})
}

fn prepared(open: bool, prepare: impl FnOnce(&std::path::Path)) -> World {
    let dir = tempfile::tempdir().unwrap().keep();
    let step = |name: &str| {
        let script = format!("test -e {0}/open && {{ echo {name}; cat; }} >> {0}/done", dir.display());
        json!({"command": ["/bin/sh", "-c", script], "stdin": "/account"})
    };
    let service = json!({"command": ["/fake-service", "ready"]});
    let db = json!({
        "service": service, "ready": {"when": "notify"}, "secrets": {"admin": {}},
        "provides": {"sql": {"kind": "database", "port": 1, "account": {
            "grant": step("grant"), "revoke": step("revoke"), "purge": step("purge"), "user": "svc",
            "tells": {"user": "{{ account.name }}_{{ account.turn }}", "at": "{{ site.name }}"},
        }}},
    });
    let told = format!("cat in >/dev/null; echo told >> {}/told", dir.display());
    let web = json!({
        "service": {"command": ["/fake-service", "ready"], "reload": {"command": ["/bin/sh", "-c", told]}},
        "ready": {"when": "notify"}, "needs": {"db": "sql"},
    });
    let world = World::prepared(&[("db", &db.to_string()), ("web", &web.to_string())], |at| {
        let text = "{{ account.name }} {{ account.password }} {% if account.old %}{{ account.old.password }}{% else %}-{% endif %} {{ consumer.unit }} {{ secrets.admin }}\n";
        std::fs::write(at.join("services/db/account"), text).unwrap();
        std::fs::write(at.join("place"), dir.display().to_string()).unwrap();
        prepare(at);
    });
    if open {
        std::fs::write(dir.join("open"), "").unwrap();
    }
    world
}

fn place(world: &World) -> std::path::PathBuf {
    std::fs::read_to_string(world.at("place")).unwrap().into()
}

/// The steps that were done: each its name, and the words that it read.
fn done(world: &World) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(place(world).join("done")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let words = |pair: &[&str]| {
        pair.iter()
            .flat_map(|line| line.split(' '))
            .map(str::to_owned)
            .collect()
    };
    lines.chunks(2).filter(|pair| pair.len() == 2).map(words).collect()
}

fn accounts(world: &World) -> Vec<Value> {
    let answer = world.ask_with("GET", "/v1/accounts", "").map(|(_, answer)| answer);
    answer
        .and_then(|all| all["accounts"].as_array().cloned())
        .unwrap_or_default()
}

fn granted(world: &World) -> bool {
    accounts(world)
        .first()
        .is_some_and(|account| account["state"] == "granted")
}

fn password(world: &World) -> String {
    std::fs::read_to_string(world.at("run/cairn/secrets/web/db")).unwrap_or_default()
}

#[test]
fn a_unit_starts_when_it_has_its_account_and_not_before() {
    let mut world = world(false);
    world.until("a failed grant", |w| {
        accounts(w).iter().any(|account| account["state"] == "failing")
    });
    assert_eq!(world.state("web"), "waiting");
    let why = world.ask_with("GET", "/v1/units/web/explain", "").unwrap().1["why"].to_string();
    assert!(why.contains("its account at db"), "{why}");
    std::fs::write(place(&world).join("open"), "").unwrap();
    world.until("the start", |w| w.state("web") == "ready");
    let steps = done(&world);
    let admin = std::fs::read_to_string(world.at("data/secrets/db/admin")).unwrap();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(steps[0], ["grant", "web_db", &password(&world), "-", "web", &admin]);
    let shown = accounts(&world);
    assert_eq!(
        (&shown[0]["state"], &shown[0]["name"]),
        (&json!("granted"), &json!("web_db"))
    );
    assert!(!shown[0].to_string().contains(&password(&world)));
    // Another manager knows that it was done; another process of the provider is told again.
    world.kill_manager();
    world.until("another manager", |w| w.state("web") == "ready" && granted(w));
    assert_eq!(done(&world).len(), 1);
    world.post("/v1/units/db/restart");
    world.until("the grant", |w| done(w).len() == 2);
    assert_eq!(done(&world)[1], steps[0]);
}

#[test]
fn a_password_changes_under_a_running_unit_also_if_managers_die_meanwhile() {
    for kill in [false, true] {
        let mut world = world(true);
        world.until("the start", |w| w.state("web") == "ready");
        let (old, pid) = (password(&world), world.pids()["web"]);
        assert_eq!(
            world.ask_with("POST", "/v1/accounts/rotate?unit=web", "").unwrap().0,
            202
        );
        if kill {
            for _ in 0..4 {
                world.kill_manager();
                world.until("another manager", |w| w.state("web") == "ready");
            }
        }
        world.until("the end", |w| {
            let last = done(w).last().cloned().unwrap_or_default();
            last.get(3).is_some_and(|old| old == "-") && last[2] != old && granted(w)
        });
        let new = password(&world);
        assert_ne!(new, old);
        let mut steps = done(&world);
        steps.dedup();
        let admin = steps[0][5].clone();
        let read = |new: &str, old: &str| ["grant", "web_db", new, old, "web", &admin].map(str::to_owned).to_vec();
        // Both are good before the unit is told, and the old one is not when it was.
        assert_eq!(steps, [read(&old, "-"), read(&new, &old), read(&new, "-")]);
        assert!(
            std::fs::read_to_string(place(&world).join("told"))
                .unwrap()
                .starts_with("told")
        );
        assert_eq!(world.pids()["web"], pid, "it was not restarted");
        assert_eq!(
            world.ask_with("POST", "/v1/accounts/rotate?unit=db", "").unwrap().0,
            409
        );
        assert_eq!(
            world.ask_with("POST", "/v1/accounts/rotate?unit=none", "").unwrap().0,
            404
        );
    }
}

#[test]
fn a_unit_sees_no_password_that_its_provider_does_not_take_yet() {
    let mut world = world(true);
    world.until("the start", |w| w.state("web") == "ready");
    let old = password(&world);
    // The provider refuses for a while.
    std::fs::remove_file(place(&world).join("open")).unwrap();
    world.post("/v1/accounts/rotate?unit=web");
    world.until("a refusal", |w| accounts(w)[0]["state"] == "failing");
    assert_eq!(password(&world), old);
    // Nor does another manager show it.
    world.kill_manager();
    world.until("another manager", |w| {
        accounts(w).first().is_some_and(|a| a["state"] == "failing")
    });
    assert_eq!(password(&world), old);
    std::fs::write(place(&world).join("open"), "").unwrap();
    world.until("the new one", |w| password(w) != old && granted(w));
}

#[test]
fn who_is_not_bound_any_more_has_no_rights_and_loses_what_it_owns_only_when_asked() {
    let mut world = world(true);
    world.until("the start", |w| w.state("web") == "ready");
    assert_eq!(
        world.ask_with("POST", "/v1/accounts/purge?unit=web", "").unwrap().0,
        409
    );
    let path = world.at("usr/lib/cairn/appliance.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["units"]["web"]["unit"]["needs"] = json!({});
    std::fs::write(&path, manifest.to_string()).unwrap();
    world.kill_manager();
    world.until("the loss of its rights", |w| {
        accounts(w).iter().any(|account| account["state"] == "gone")
    });
    assert_eq!(done(&world)[1][..2], ["revoke", "web_db"]);
    assert_eq!(
        world.ask_with("POST", "/v1/accounts/purge?unit=web", "").unwrap().0,
        202
    );
    world.until("nothing of it", |w| accounts(w).is_empty() && done(w).len() == 3);
    assert_eq!(done(&world)[2][..2], ["purge", "web_db"]);
    assert_eq!(
        std::fs::read_dir(world.at("data/secrets/.accounts")).unwrap().count(),
        0
    );
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_once_and_tried_again() {
    // What is in the folder's place stands for a disk that takes nothing.
    let mut world = prepared(true, |at| {
        std::fs::create_dir_all(at.join("data/secrets")).unwrap();
        std::fs::write(at.join("data/secrets/.accounts"), "").unwrap();
    });
    world.until("the trouble", |w| {
        w.console().contains("units that need an account wait for it")
    });
    world.until("the provider", |w| w.state("db") == "ready");
    // Nothing shows further tries, which is what is asked here: two of them at least fail in this time.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(world.state("web"), "waiting");
    std::fs::remove_file(world.at("data/secrets/.accounts")).unwrap();
    world.until("the start", |w| w.state("web") == "ready");
    let console = world.console();
    assert_eq!(
        console.matches("units that need an account wait for it").count(),
        1,
        "{console}"
    );
}

/// Two units that share a third one's secret. Each notes at every reload what it sees: the secret, and the other one.
fn sharing() -> World {
    let dir = tempfile::tempdir().unwrap().keep();
    let unit = |name: &str, file: &str, more: Value| {
        let seen = format!("{}/root/run/cairn/secrets/{name}/{file}", dir.display());
        let script = format!(
            "cat in >/dev/null 2>&1; echo \"$(cat {seen}) $(cat {seen}.other 2>/dev/null || echo -)\" >> {}/{name}",
            dir.display()
        );
        let mut unit = json!({
            "service": {"command": ["/fake-service", "ready"], "reload": {"command": ["/bin/sh", "-c", script]}},
            "ready": {"when": "notify"},
        });
        unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        unit.to_string()
    };
    let door = unit(
        "door",
        "key",
        json!({"provides": {"key": {"kind": "secret", "secret": {"length": 48}}}}),
    );
    let one = unit("one", "token", json!({"needs": {"token": "key"}}));
    let two = unit("two", "door-key", json!({"needs": {"door-key": "key"}}));
    let three = unit("three", "key", json!({}));
    World::prepared(
        &[("door", &door), ("one", &one), ("two", &two), ("three", &three)],
        |at| {
            std::os::unix::fs::symlink(at, dir.join("root")).unwrap();
            std::fs::write(at.join("place"), dir.display().to_string()).unwrap();
        },
    )
}

#[test]
fn a_shared_secret_changes_without_a_moment_in_which_one_refuses_the_other() {
    const UNITS: [(&str, &str); 3] = [("door", "key"), ("one", "token"), ("two", "door-key")];
    for kill in [false, true] {
        let mut world = sharing();
        world.until("the start", |w| UNITS.iter().all(|(unit, _)| w.state(unit) == "ready"));
        let shown = |w: &World, unit: &str, file: &str| {
            std::fs::read_to_string(w.at("run/cairn/secrets").join(unit).join(file)).unwrap_or_default()
        };
        let old = shown(&world, "door", "key");
        assert_eq!(old.len(), 48);
        assert!(UNITS.iter().all(|(unit, file)| shown(&world, unit, file) == old));
        assert!(
            !world.at("run/cairn/secrets/three").exists(),
            "who does not need it does not see it"
        );
        assert_eq!(
            world.ask_with("POST", "/v1/accounts/rotate?unit=one", "").unwrap().0,
            409
        );
        assert_eq!(
            world.ask_with("POST", "/v1/accounts/rotate?unit=door", "").unwrap().0,
            202
        );
        if kill {
            for _ in 0..4 {
                world.kill_manager();
                world.until("another manager", |w| w.state("two") == "ready");
            }
        }
        world.until("the end", |w| {
            let ended = |(unit, file): &(&str, &str)| {
                shown(w, unit, file) != old && shown(w, unit, &format!("{file}.other")).is_empty()
            };
            granted(w) && UNITS.iter().all(ended)
        });
        let new = shown(&world, "door", "key");
        assert_eq!(new.len(), 48);
        for (unit, file) in UNITS {
            assert_eq!(shown(&world, unit, file), new);
            let text = std::fs::read_to_string(place(&world).join(unit)).unwrap();
            let mut told: Vec<&str> = text.lines().collect();
            told.dedup();
            assert_eq!(told, [format!("{old} {new}"), format!("{new} {old}")], "{unit}");
        }
    }
}

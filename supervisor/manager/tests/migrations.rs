//! A manager whose units find a state of another version: steps between versions, versions that fail in them, and the way back.

mod fake_init;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fake_init::World;

/// Stands in for `cairn-upgrade`: 1 runs, with the tries that the test says; the other slot has 0.9.
const PROGRAM: &str = r#"#!/bin/sh
run=${0%/usr/lib/cairn/cairn-upgrade}/run/cairn/upgrade
case $1 in
look | note) ;;
*)
    echo "{\"what\":\"$1\",\"automatic\":false,\"version\":\"\",\"state\":\"done\",\"phase\":\"done\",\"done\":0,\"total\":0,\"reused\":0,
        \"fetched\":0,\"took_ms\":0,\"error\":null}" >$run/task.json
    ;;
esac
tries=$(cat $run/tries)
[ "$1" = rollback ] && tries=0
echo "{\"running\":{\"version\":\"1\",\"entry\":\"a.efi\",\"tries_left\":$tries},
    \"other\":{\"version\":\"0.9\",\"entry\":\"b.efi\",\"tries_left\":null},\"failed\":null,\"problems\":[]}" >$run/versions.json
echo "$*" >>$run/asked
"#;

fn put(place: &Path, name: &str, text: &str) {
    let path = place.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A unit with state version 2, whose steps are these shell commands.
fn unit(up: &str, down: Option<&str>) -> String {
    let sh = |text: &str| serde_json::json!(["/bin/sh", "-c", text]);
    let mut step = serde_json::json!({"from": 1, "to": 2, "up": sh(up), "timeout": "60s"});
    if let Some(down) = down {
        step["down"] = sh(down);
    }
    serde_json::json!({
        "service": {"command": ["/fake-service", "ready"]}, "ready": {"when": "notify"}, "state": {"/var/lib/db": {}},
        "migration": {"version": 2, "steps": [step]},
    })
    .to_string()
}

/// A world with data of version 1, as version 0.9 of the appliance left it. `tries` are those of the version that runs, or `null` if it is kept; none:
/// an appliance without upgrades.
fn world(unit: &str, tries: Option<&str>) -> World {
    World::prepared(&[("db", unit)], |place| {
        put(place, "data/state/db/.cairn", r#"{"version":"1","appliance":"0.9"}"#);
        put(place, "data/state/db/var-lib-db/text", "one");
        let path = place.join("usr/lib/cairn/appliance.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["units"]["db"]["state_version"] = "2".into();
        if let Some(tries) = tries {
            let program = place.join("usr/lib/cairn/cairn-upgrade");
            std::fs::write(&program, PROGRAM).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            put(place, "run/cairn/upgrade/tries", tries);
            put(
                place,
                "data/upgrade/states.json",
                r#"{"0.9":{"db":"1"},"1":{"db":"2"}}"#,
            );
            manifest["upgrade"] = serde_json::json!({"root": "r", "mode": "off", "healthy": "1s", "deadline": "10m"});
        }
        std::fs::write(&path, manifest.to_string()).unwrap();
    })
}

const UP: &str = "grep -qx one $STATE/text && echo two >$STATE/text";

fn text(world: &World) -> String {
    std::fs::read_to_string(world.at("data/state/db/var-lib-db/text"))
        .unwrap()
        .trim()
        .to_owned()
}

fn record(world: &World) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(world.at("data/state/db/.cairn")).unwrap()).unwrap()
}

fn asked(world: &World, what: &str) -> Option<String> {
    let text = std::fs::read_to_string(world.at("run/cairn/upgrade/asked")).unwrap_or_default();
    text.lines().find(|line| line.starts_with(what)).map(str::to_owned)
}

fn refused(world: &World, path: &str) -> String {
    let (status, answer) = world.ask_with("POST", path, "").unwrap();
    assert_eq!(status, 409, "{answer}");
    answer["error"].as_str().unwrap().to_owned()
}

#[test]
fn data_is_brought_to_the_new_version_before_the_unit_starts_and_kept_until_it_is_ready() {
    let check = format!("[ ! -e ${{STATE%.new/*}}.before ] && {UP}");
    let mut world = world(&unit(&check, None), None);
    world.until("ready", |w| w.state("db") == "ready");
    assert_eq!(text(&world), "two");
    assert_eq!(record(&world)["version"], "2");
    let phases: Vec<String> = world.spawned();
    assert_eq!(phases, ["db", "db"], "the step, then the service");
    world.until("nobody can go back", |w| !w.at("data/state/db.before").exists());
    world.until("it is noted", |w| record(w)["unproved"] == false);
    assert!(!world.at("data/state/db.new").exists());
}

#[test]
fn a_step_that_fails_is_not_repeated_and_leaves_the_data_and_the_version_is_given_up() {
    let mut world = world(&unit("echo half >$STATE/text; exit 7", None), Some("2"));
    world.until("the version is given up", |w| asked(w, "fail").is_some());
    assert_eq!(
        asked(&world, "fail").unwrap(),
        "fail unit db failed: step 1 to the new version of its state ended with exit code 7; its state is as it was before"
    );
    let steps = world.spawned().iter().filter(|name| *name == "db").count();
    assert_eq!((text(&world).as_str(), steps), ("one", 1));
    assert_eq!(record(&world)["version"], "1");
    world.until("the half-made copy is removed", |w| {
        !w.at("data/state/db.new").exists() && !w.at("data/state/db.gone").exists()
    });
}

#[test]
fn a_manager_that_dies_in_a_step_is_followed_by_one_that_begins_it_again_with_the_data_of_before() {
    // The first try leaves half of its work and waits; the second finds none of it.
    let up = format!(
        "if [ -e $STATE/../../once ]; then {UP}; else touch $STATE/../../once; echo half >$STATE/text; sleep 100; fi"
    );
    let mut world = world(&unit(&up, None), None);
    world.until("a step runs", |w| w.at("data/state/once").exists());
    world.kill_unit("db");
    world.kill_manager();
    world.until("ready or failed", |w| {
        ["ready", "failed"].contains(&w.state("db").as_str())
    });
    // A step that was killed while somebody looked has failed; else it was begun again. Either way nothing of it is left.
    if world.state("db") == "failed" {
        assert_eq!(text(&world), "one");
        world.post("/v1/units/db/start");
    }
    world.until("ready", |w| w.state("db") == "ready");
    assert_eq!(text(&world), "two");
}

#[test]
fn the_data_of_before_stays_while_the_other_slot_can_be_started_and_going_back_says_what_is_lost() {
    let mut world = world(&unit(UP, None), Some("null"));
    world.until("ready", |w| w.state("db") == "ready");
    world.until("it is noted that the version is kept", |w| {
        record(w)["unproved"] == false
    });
    assert_eq!(
        std::fs::read_to_string(world.at("data/state/db.before/var-lib-db/text")).unwrap(),
        "one"
    );
    let why = refused(&world, "/v1/upgrade/rollback");
    assert!(
        why.starts_with("version 0.9 cannot read the data of: db since 20") && why.contains("--lose-data"),
        "{why}"
    );
    assert_eq!(
        (asked(&world, "rollback"), record(&world)["unproved"].clone()),
        (None, false.into())
    );
    world.post("/v1/upgrade/rollback?lose-data=1");
    world.until("the boot entries are changed", |w| asked(w, "rollback").is_some());
    assert_eq!(record(&world)["unproved"], true);
    world.until("it is told", |w| {
        w.console()
            .contains("The version of before is started by the next restart")
    });
    assert_eq!(text(&world), "two", "until the restart nothing is lost");
}

#[test]
fn going_back_brings_the_data_down_first_where_a_step_can_and_restarts() {
    let down = "grep -qx two $STATE/text && echo one again >$STATE/text";
    let mut world = world(&unit(UP, Some(down)), Some("null"));
    world.until("ready", |w| w.state("db") == "ready");
    world.until("the first look", |w| w.at("run/cairn/upgrade/versions.json").exists());
    world.until("it is noted that the version is kept", |w| {
        record(w)["unproved"] == false
    });
    world.post("/v1/upgrade/rollback");
    world.until("it restarts", World::shut_down);
    assert!(asked(&world, "rollback").is_some());
    assert_eq!(
        (text(&world).as_str(), record(&world)["version"].clone()),
        ("one again", "1".into())
    );
    assert!(!world.at("data/state/db.before").exists());
}

#[test]
fn a_way_down_that_fails_leaves_the_version_that_runs_with_its_data() {
    let mut world = world(&unit(UP, Some("echo half >$STATE/text; exit 4")), Some("null"));
    world.until("ready", |w| w.state("db") == "ready");
    world.until("it is noted that the version is kept", |w| {
        record(w)["unproved"] == false
    });
    world.post("/v1/upgrade/rollback");
    world.until("it is told", |w| {
        w.console().contains("Version 0.9 is not gone back to: unit db: step 1")
    });
    world.until("it runs again", |w| w.state("db") == "ready");
    assert_eq!(
        (text(&world).as_str(), record(&world)["version"].clone()),
        ("two", "2".into())
    );
    assert!(asked(&world, "rollback").is_none() && !world.shut_down());
}

#[test]
fn data_of_a_later_version_is_not_touched_and_the_unit_says_what_to_do() {
    let mut world = World::prepared(&[("db", &unit(UP, None))], |place| {
        put(place, "data/state/db/.cairn", r#"{"version":"3","appliance":"2"}"#);
        put(place, "data/state/db/var-lib-db/text", "three");
    });
    world.until("failed", |w| w.state("db") == "failed");
    let reason = world.unit("db")["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.starts_with("its state has version 3, and this version of the appliance reads version 1")
            && reason.contains("start version 2"),
        "{reason}"
    );
    assert_eq!((text(&world).as_str(), world.spawned().len()), ("three", 0));
}

#[test]
fn data_of_a_version_that_was_given_up_gives_way_to_that_of_before() {
    let mut world = World::prepared(
        &[(
            "db",
            r#"{"service":{"command":["/fake-service","ready"]},"state":{"/var/lib/db":{}}}"#,
        )],
        |place| {
            put(
                place,
                "data/state/db/.cairn",
                r#"{"version":"2","appliance":"2","unproved":true,"since":1795420800,"by":"2"}"#,
            );
            put(place, "data/state/db/var-lib-db/text", "two");
            put(
                place,
                "data/state/db.before/.cairn",
                r#"{"version":"1","appliance":"1"}"#,
            );
            put(place, "data/state/db.before/var-lib-db/text", "one");
        },
    );
    world.until("ready", |w| w.state("db") == "ready");
    assert_eq!(text(&world), "one");
    let said = "unit db: its state is again what it was on 2026-11-23 08:00 UTC";
    world.until("it is told", |w| w.console().contains(said));
    assert!(!world.at("data/state/db.before").exists());
}

//! Dumps of what a unit keeps, and its way back to one: by the control API, with managers that die.

mod fake_init;

use std::path::PathBuf;

use fake_init::World;
use serde_json::{Value, json};

/// A unit whose dump is what stands in the file `source` (none: its command fails), and whose restore keeps what it reads; it fails once
/// the file `broken` is there. It waits while the file `wait` is there.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap().keep();
    let shell = |script: &str| {
        let held = format!(
            "while test -e {0}/wait; do sleep 0.01; done; {1}",
            dir.display(),
            script
        );
        json!(["/bin/sh", "-c", held.replace("DIR", &dir.display().to_string())])
    };
    let db = json!({
        "service": {"command": ["/fake-service", "ready"]}, "ready": {"when": "notify"},
        "state": {"/var/lib/db": {}},
        "setup": [
            {"name": "always", "command": shell("echo always >> $STATE/setup")},
            {"name": "first", "command": shell("echo first >> $STATE/setup"), "first_only": true},
        ],
        "dump": {
            "command": shell("cat DIR/source"), "keep": 2,
            "restore": [shell("cat > $STATE/text"), shell("test ! -e DIR/broken && echo done >> $STATE/setup")],
        },
    });
    let plain = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;
    let mut world = World::prepared(&[("db", &db.to_string()), ("web", plain)], |at| {
        std::fs::write(at.join("place"), dir.display().to_string()).unwrap();
    });
    world.until("the first start", |w| {
        w.state("db") == "ready" && w.state("web") == "ready"
    });
    world
}

fn place(world: &World, name: &str) -> PathBuf {
    PathBuf::from(std::fs::read_to_string(world.at("place")).unwrap()).join(name)
}

fn put(world: &World, name: &str, text: &str) {
    std::fs::write(place(world, name), text).unwrap();
}

fn kept(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.at("data/state/db/var-lib-db").join(name)).unwrap_or_default()
}

fn dumps(world: &World) -> Value {
    world
        .ask_with("GET", "/v1/units/db/dumps", "")
        .map_or(Value::Null, |(_, told)| told)
}

fn names(world: &World) -> Vec<String> {
    let told = dumps(world);
    let all = told["dumps"].as_array().into_iter().flatten();
    all.map(|dump| dump["name"].as_str().unwrap().to_owned()).collect()
}

/// Makes a dump of this text, and returns its name.
fn dump(world: &mut World, text: &str) -> String {
    put(world, "source", text);
    let before = names(world);
    // Two in one second have the same name.
    world.until("an accepted dump", |w| {
        w.ask_with("POST", "/v1/units/db/dumps", "").unwrap().0 == 202
    });
    world.until("a dump", |w| {
        names(w).first() != before.first() && dumps(w)["under_way"] == false
    });
    names(world).remove(0)
}

fn restore(world: &World, dump: &str) -> (u16, Value) {
    world
        .ask_with("POST", &format!("/v1/units/db/restore?dump={dump}"), "")
        .unwrap()
}

fn ended(world: &World) -> Value {
    dumps(world)["restored"].clone()
}

#[test]
fn a_unit_is_dumped_while_it_runs_and_goes_back_to_what_it_kept() {
    let mut world = world();
    assert_eq!(kept(&world, "setup"), "always\nfirst\n");
    let pid = world.pids()["db"];
    let one = dump(&mut world, "one");
    assert_eq!(world.pids()["db"], pid, "it runs on");
    world.until("a word of it", |w| {
        w.said("db").join("\n").contains(&format!("was dumped ({one}, "))
    });
    std::fs::write(world.at("data/state/db/var-lib-db/text"), "written since").unwrap();
    let (status, refused) = restore(&world, "20200101T000000Z");
    assert_eq!(status, 404, "{refused}");
    assert_eq!(restore(&world, &one).0, 202);
    world.until("the restore", |w| {
        w.state("db") == "ready" && ended(w)["dump"] == one.as_str()
    });
    assert_eq!(
        (kept(&world, "text").as_str(), kept(&world, "setup").as_str()),
        ("one", "always\ndone\n")
    );
    world.until("a word of it", |w| {
        let said = w.said("db").join("\n");
        said.contains("goes back to the dump") && said.contains("as root wants it")
    });
    // What was replaced is there until a later dump.
    assert_eq!(dumps(&world)["before"], true);
    assert_eq!(restore(&world, "before").0, 202);
    world.until("the way back", |w| {
        w.state("db") == "ready" && kept(w, "text") == "written since"
    });
    let (status, text) = world.ask_with("GET", "/v1/units/web/dumps", "").unwrap();
    assert_eq!(
        (status, &text["error"]),
        (404, &json!("web is not dumped: its file has no [dump]"))
    );
}

#[test]
fn a_dump_that_fails_leaves_nothing_and_the_oldest_go_only_then() {
    let mut world = world();
    assert_eq!(world.ask_with("POST", "/v1/units/db/dumps", "").unwrap().0, 202);
    world.until("a failure", |w| {
        dumps(w)["failed"].as_str().is_some_and(|why| !why.is_empty())
    });
    assert!(names(&world).is_empty());
    world.until("a word of it", |w| {
        w.said("db").join("\n").contains("was not dumped: the command ended")
    });
    assert_eq!(std::fs::read_dir(world.at("data/dumps/db")).unwrap().count(), 0);
    let all: Vec<String> = ["one", "two", "three"].map(|text| dump(&mut world, text)).into();
    assert_eq!(names(&world), [all[2].clone(), all[1].clone()]);
    assert_eq!(dumps(&world)["failed"], "");
    let mut text = String::new();
    let path = format!("/v1/units/db/dumps/{}", all[2]);
    std::io::Read::read_to_string(&mut world.open(&path), &mut text).unwrap();
    assert!(text.ends_with("\r\n\r\nthree"), "{text}");
}

#[test]
fn a_restore_that_fails_leaves_the_state_and_the_unit_starts_with_it() {
    let mut world = world();
    let one = dump(&mut world, "one");
    std::fs::write(world.at("data/state/db/var-lib-db/text"), "written since").unwrap();
    put(&world, "broken", "");
    assert_eq!(restore(&world, &one).0, 202);
    world.until("the failure", |w| {
        ended(w)["why"].is_string() && w.state("db") == "ready"
    });
    let why = ended(&world)["why"].to_string();
    assert!(why.contains("step 3 of the restore ended with exit code 1"), "{why}");
    assert_eq!(
        (kept(&world, "text"), kept(&world, "setup")),
        ("written since".into(), "always\nfirst\n".into())
    );
    assert_eq!(dumps(&world)["restoring"], Value::Null);
    assert!(!world.at("data/state/db.restore").exists() && !world.at("data/state/db.before-restore").exists());
}

#[test]
fn a_unit_that_has_failed_for_good_goes_back_to_a_dump() {
    let mut world = world();
    let one = dump(&mut world, "one");
    // Its state is damaged: not even its note can be read.
    std::fs::write(world.at("data/state/db/.cairn"), "{").unwrap();
    world.post("/v1/units/db/restart");
    world.until("a failure", |w| w.state("db") == "failed");
    assert_eq!(restore(&world, &one).0, 202);
    world.until("the restore", |w| {
        w.state("db") == "ready" && ended(w)["dump"] == one.as_str()
    });
    assert_eq!(kept(&world, "text"), "one");
}

#[test]
fn managers_that_die_in_a_dump_or_a_restore_lose_neither() {
    let mut world = world();
    let one = dump(&mut world, "one");
    put(&world, "source", "two");
    put(&world, "wait", "");
    world.until("an accepted dump", |w| {
        w.ask_with("POST", "/v1/units/db/dumps", "").unwrap().0 == 202
    });
    assert_eq!(dumps(&world)["under_way"], true);
    let (status, refused) = world.ask_with("POST", "/v1/units/db/dumps", "").unwrap();
    assert_eq!(status, 409, "{refused}");
    world.until("its process", |w| {
        w.spawned().iter().filter(|name| *name == "in db").count() == 2
    });
    world.kill_manager();
    world.until("another manager", |w| w.state("db") == "ready");
    // What was being made is whole, or no dump, and another one is made.
    world.until("its end", |w| dumps(w)["under_way"] == false);
    std::fs::remove_file(place(&world, "wait")).unwrap();
    dump(&mut world, "three");

    put(&world, "wait", "");
    assert_eq!(restore(&world, &one).0, 202);
    world.until("the restore", |w| w.state("db") == "restoring");
    world.kill_manager();
    world.until("another manager", |w| w.state("db") == "restoring");
    std::fs::remove_file(place(&world, "wait")).unwrap();
    world.until("the restore", |w| w.state("db") == "ready" && kept(w, "text") == "one");
    assert!(!world.at("data/state/db.restore").exists());
}

//! The versions of the owner's choices: what was chosen can be seen, compared and taken back, and a lost or wrong file is not lost
//! choices.

mod fake_init;

use std::io::Read as _;

use fake_init::World;
use serde_json::Value;

const SERVICE: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;

fn world() -> World {
    let mut world = World::new(&[("db", SERVICE), ("web", SERVICE)]);
    world.until("ready", |w| w.state("db") == "ready" && w.state("web") == "ready");
    world
}

fn get(world: &World, path: &str) -> Value {
    let mut text = String::new();
    world.open(path).read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The versions as `number why`, the one in force with a star.
fn versions(world: &World) -> Vec<String> {
    let history = get(world, "/v1/site/history");
    let line = |version: &Value| {
        let star = if version["in_force"] == true { "*" } else { "" };
        format!("{star}{} {}", version["number"], version["why"].as_str().unwrap())
    };
    history["versions"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn each_choice_is_a_version_that_can_be_compared_and_taken_back() {
    let mut world = world();
    assert_eq!(versions(&world), [""; 0]);
    world.post("/v1/units/web/disable");
    world.post("/v1/units/db/disable");
    world.until("down", |w| w.state("web") == "stopped" && w.state("db") == "stopped");
    assert_eq!(
        versions(&world),
        ["*3 db was disabled", "2 web was disabled", "1 nothing was chosen"]
    );
    let diff = get(&world, "/v1/site/diff");
    assert_eq!(
        diff["diff"],
        "--- version 2\n+++ site.toml\n@@ -1,2 +1,5 @@\n [units.web]\n enabled = false\n+\n+[units.db]\n+enabled = false\n"
    );
    assert_eq!(get(&world, "/v1/site/diff?from=3&to=3")["diff"], "");
    let reloaded = world.post("/v1/site/rollback?to=2");
    assert_eq!(
        reloaded["changes"],
        serde_json::json!([{"unit": "db", "change": "enabled"}])
    );
    world.until("up", |w| w.state("db") == "ready");
    assert_eq!(world.state("web"), "stopped");
    assert_eq!(versions(&world)[0], "*4 back to version 2");
    world.post("/v1/site/rollback?to=1");
    world.until("up", |w| w.state("web") == "ready");
    assert_eq!(std::fs::read_to_string(world.at("data/site/site.toml")).unwrap(), "");
}

#[test]
fn a_version_that_is_not_there_or_fits_no_more_is_refused_and_changes_nothing() {
    let world = world();
    world.post("/v1/units/web/disable");
    for (path, why) in [
        ("/v1/site/rollback", "which version? `cairn config history` lists them"),
        (
            "/v1/site/rollback?to=x",
            "`x` is not a version's number; `cairn config history` lists them",
        ),
        (
            "/v1/site/rollback?to=9",
            "there is no version 9; `cairn config history` lists them",
        ),
    ] {
        assert_eq!(world.post(path)["error"], why);
    }
    // Of an image that had another unit.
    let folder = world.at("data/site/history");
    std::fs::write(folder.join("3.toml"), "[units.old]\nenabled = false\n").unwrap();
    let refused = world.post("/v1/site/rollback?to=3");
    assert_eq!(
        refused["error"],
        "version 3 does not fit this appliance any more: the appliance has no unit `old`; `cairn status` lists the units; nothing \
         was changed"
    );
    std::fs::write(folder.join("1.toml"), "# changed\n").unwrap();
    let refused = world.post("/v1/site/rollback?to=1");
    assert_eq!(
        refused["error"],
        "version 1 is damaged: it is not the text that was accepted"
    );
    assert_eq!(versions(&world)[1], "*2 web was disabled");
}

#[test]
fn what_the_owner_writes_into_the_file_is_a_version_when_it_is_taken() {
    let mut world = world();
    let site = world.at("data/site/site.toml");
    std::fs::create_dir_all(site.parent().unwrap()).unwrap();
    std::fs::write(&site, "# mine\n[units.web]\nenabled = false\n").unwrap();
    world.post("/v1/reload");
    world.until("down", |w| w.state("web") == "stopped");
    world.until("kept", |w| versions(w) == ["*1 the file was changed"]);
    // A wrong one is refused, and is none.
    std::fs::write(&site, "wrong\n").unwrap();
    let refused = world.post("/v1/reload")["error"].as_str().unwrap().to_owned();
    assert!(refused.ends_with("Nothing was changed."), "{refused}");
    assert_eq!(world.state("web"), "stopped");
    let history = get(&world, "/v1/site/history");
    assert_eq!(history["versions"].as_array().unwrap().len(), 1);
    assert!(
        history["instead"]
            .as_str()
            .unwrap()
            .ends_with("version 1, the last good one, is in force"),
        "{history}"
    );
}

#[test]
fn a_lost_or_wrong_file_leaves_the_last_good_choices_in_force_and_the_console_says_so() {
    let mut world = world();
    world.post("/v1/units/web/disable");
    world.until("down", |w| w.state("web") == "stopped");
    let site = world.at("data/site/site.toml");
    let console = |world: &World| std::fs::read_to_string(world.at("dev/console")).unwrap();
    std::fs::write(&site, "wrong\n").unwrap();
    world.kill_manager();
    world.until("answering", |w| w.state("db") == "ready");
    let refused = world.post("/v1/units/web/start");
    assert!(
        refused["error"].as_str().unwrap().contains("web is disabled"),
        "{refused}"
    );
    assert!(console(&world).contains("version 2, the last good one, is in force"));
    assert_eq!(std::fs::read_to_string(&site).unwrap(), "wrong\n");
    std::fs::remove_file(&site).unwrap();
    assert_eq!(world.post("/v1/reload")["changes"], serde_json::json!([]));
    assert!(console(&world).contains("site.toml is gone; version 2, the last good one, is in force"));
    // A new choice is made on top of the last good ones, not of nothing.
    world.post("/v1/units/db/disable");
    let text = std::fs::read_to_string(&site).unwrap();
    assert!(text.contains("[units.web]") && text.contains("[units.db]"), "{text}");
}

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

#[test]
fn the_choices_are_written_as_a_whole_and_a_mistake_is_told_with_its_line_and_changes_nothing() {
    let mut world = world();
    let write = |world: &World, text: &str, version: Option<u64>| {
        let body = serde_json::json!({ "text": text, "version": version }).to_string();
        world.ask_with("POST", "/v1/site", &body).expect("an answer")
    };
    assert_eq!(
        get(&world, "/v1/site"),
        serde_json::json!({ "text": "", "version": null, "instead": null })
    );
    let own = "# mine\n[units.web]\nenabled = false\n";
    let (status, told) = write(&world, own, None);
    assert_eq!(
        (status, &told["changes"][0]["change"]),
        (200, &"disabled".into()),
        "{told}"
    );
    world.until("down", |w| w.state("web") == "stopped");
    assert_eq!(
        get(&world, "/v1/site"),
        serde_json::json!({ "text": own, "version": 2, "instead": null })
    );
    assert_eq!(
        versions(&world),
        ["*2 the choices were written anew", "1 nothing was chosen"]
    );
    // Every mistake with its place.
    let wrong = "[units.web]\nenabled = 3\n";
    let (status, told) = write(&world, wrong, Some(2));
    assert_eq!((status, &told["problems"][0]["line"]), (400, &2.into()), "{told}");
    let why = told["error"].as_str().unwrap();
    assert!(
        why.contains("site.toml:2:") && why.ends_with("Nothing was changed."),
        "{why}"
    );
    let (status, told) = write(&world, "[units.gone]\nenabled = true\n\n[units.wep]\n", None);
    let lines: Vec<&Value> = told["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["line"])
        .collect();
    assert_eq!((status, lines), (400, vec![&1.into(), &4.into()]), "{told}");
    // Somebody else was first, or the request is none.
    assert_eq!(write(&world, "", Some(1)).0, 409);
    let (status, _) = world.ask_with("POST", "/v1/site", "{\"texts\": \"\"}").unwrap();
    assert_eq!(status, 400);
    assert_eq!(get(&world, "/v1/site")["text"], own);
    assert_eq!(write(&world, "", Some(2)).0, 200);
    world.until("up", |w| w.state("web") == "ready");
    assert_eq!(versions(&world).len(), 3);
}

#[test]
fn another_network_in_the_choices_waits_to_be_confirmed() {
    let mut world = world();
    let text = "[network]\ndns = [\"192.0.2.53\"]\n";
    let body = serde_json::json!({ "text": text }).to_string();
    let ask = |world: &World, path: &str| world.ask_with("POST", path, &body).expect("an answer").0;
    assert_eq!(ask(&world, "/v1/site?within=2h"), 400);
    assert_eq!(ask(&world, "/v1/site?within=2s"), 200);
    assert_eq!(get(&world, "/v1/network")["chosen"]["dns"][0], "192.0.2.53");
    world.until("undone", |w| get(w, "/v1/network")["chosen"]["dns"].is_null());
}

#[test]
fn the_machine_tells_its_room_for_data_and_its_clock() {
    let world = world();
    let machine = get(&world, "/v1/machine");
    let of = |value: &Value| value.as_u64().unwrap();
    let data = &machine["data"];
    assert!(of(&data["size"]) >= of(&data["used"]) + of(&data["free"]), "{machine}");
    assert!(of(&data["free"]) > 0 && of(&machine["cpus"]) > 0, "{machine}");
    assert!(machine["clock"]["now"].as_str().unwrap().ends_with('Z'), "{machine}");
    assert_eq!(
        machine["clock"]["synchronised"].as_bool(),
        Some(machine["clock"]["error_us"].is_u64())
    );
}

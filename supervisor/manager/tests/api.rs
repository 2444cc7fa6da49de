//! The control API against its own description: every answer has the form that the OpenAPI document says, and does what it says.

mod fake_init;

use std::io::{BufRead as _, Read as _};

use fake_init::World;
use serde_json::Value;

const DB: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"},
    "provides":{"sql":{"kind":"database","port":3306}}}"#;
const WEB: &str = r#"{"service":{"command":["/fake-service","status=fine","ready"]},"ready":{"when":"notify"},"needs":{"db":"sql"},
    "network":{"publish":[{"port":443}]}}"#;

fn world() -> World {
    let mut world = World::new(&[("db", DB), ("web", WEB)]);
    world.until("ready", |w| w.state("db") == "ready" && w.state("web") == "ready");
    world
}

fn get(world: &World, path: &str) -> Value {
    let mut text = String::new();
    world.open(path).read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
}

#[test]
fn every_answer_has_the_form_that_the_document_says() {
    let world = world();
    let document = get(&world, "/v1/openapi.json");
    assert_eq!(document, cairn_api::openapi());
    let (mut checked, mut refused) = (0, Vec::new());
    for (path, methods) in document["paths"].as_object().unwrap() {
        let content = &methods["get"]["responses"]["2XX"]["content"]["application/json"]["schema"];
        if content.is_null() {
            continue;
        }
        let answer = get(&world, &path.replace("{unit}", "web"));
        // This appliance has no upgrades, no encryption and no dumps: what it refuses is no answer of that form.
        if answer["error"].is_string() {
            refused.push(path.as_str());
            continue;
        }
        let mut schema = content.clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let found: Vec<String> = validator.iter_errors(&answer).map(|e| e.to_string()).collect();
        assert_eq!(found, Vec::<String>::new(), "{path}: {answer}");
        checked += 1;
    }
    assert_eq!(
        refused,
        ["/v1/data/recovery-key", "/v1/units/{unit}/dumps", "/v1/upgrade"]
    );
    assert!(checked >= 5, "{checked}");
}

#[test]
fn a_unit_is_explained_and_the_graph_shows_what_it_needs() {
    let world = world();
    let web = get(&world, "/v1/units/web/explain");
    assert_eq!(web["why"], "It serves.");
    assert_eq!(web["status"]["says"], "fine");
    assert_eq!(web["waits_for"], serde_json::json!(["db"]));
    assert_eq!(
        get(&world, "/v1/units/db/explain")["needed_by"],
        serde_json::json!(["web"])
    );
    assert_eq!(web["limits"]["memory.max"], "536870912");
    let graph = get(&world, "/v1/graph");
    assert_eq!(graph["edges"][0]["label"], "db (3306)");
    assert_eq!(graph["nodes"][1]["publishes"], serde_json::json!(["443/tcp"]));
}

#[test]
fn what_is_not_there_is_refused_with_what_was_meant() {
    let world = world();
    let error = world.post("/v1/units/wbe/start")["error"].as_str().unwrap().to_owned();
    assert_eq!(error, "there is no unit wbe; did you mean web?");
    let error = world.post("/v1/units/web/kill?signal=NOPE")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("NOPE is not a signal's name"), "{error}");
    let error = world.post("/v1/status")["error"].as_str().unwrap().to_owned();
    assert_eq!(error, "/v1/status is asked by GET");
    let error = world.post("/v1/nothing")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("openapi.json"), "{error}");
}

#[test]
fn a_signal_reaches_the_service_and_events_tell_what_follows() {
    let mut world = world();
    let mut events = world.open("/v1/events");
    world.post("/v1/units/web/kill?signal=KILL");
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != "ready") {
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        assert_eq!(event["unit"], "web");
        if event["state"] == "restarting" {
            assert_eq!(event["reason"], "ended by signal 9");
        }
        states.push(event["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["restarting", "waiting", "preparing", "starting", "ready"]);
    world.until("ready", |w| w.state("web") == "ready");
}

#[test]
fn a_disabled_unit_stays_down_over_managers_and_an_enabled_one_comes_back() {
    let mut world = world();
    world.post("/v1/units/web/disable");
    world.until("down", |w| w.state("web") == "stopped");
    world.kill_manager();
    world.until("answering", |w| w.state("db") == "ready");
    assert_eq!(world.state("web"), "stopped");
    let refused = world.post("/v1/units/web/start");
    assert!(
        refused["error"].as_str().unwrap().contains("cairn enable web"),
        "{refused}"
    );
    world.post("/v1/units/web/enable");
    world.until("up", |w| w.state("web") == "ready");
    let refused = world.post("/v1/units/db/disable");
    assert_eq!(
        refused["error"],
        "`db` cannot be disabled: `web` needs it; disable `web` too"
    );
    let site = std::fs::read_to_string(world.at("data/site/site.toml")).unwrap();
    assert_eq!(site, "[units.web]\nenabled = true\n");
}

#[test]
fn the_recovery_key_of_encrypted_data_is_told_until_it_is_saved() {
    let world = world();
    let none = &get(&world, "/v1/machine")["encryption"];
    assert_eq!(none["encrypted"], false);
    let refused = get(&world, "/v1/data/recovery-key");
    assert!(
        refused["error"].as_str().unwrap().contains("not encrypted"),
        "{refused}"
    );

    // As the initrd stage leaves them.
    std::fs::write(world.at("run/cairn-data"), "not-sealed this machine has no TPM 2\n").unwrap();
    std::fs::write(world.at("data/recovery-key"), "abcd-efgh\n").unwrap();
    let told = &get(&world, "/v1/machine")["encryption"];
    assert_eq!(told["why"], "this machine has no TPM 2");
    assert_eq!((&told["encrypted"], &told["sealed"]), (&true.into(), &false.into()));
    assert_eq!(get(&world, "/v1/data/recovery-key")["key"], "abcd-efgh");
    assert_eq!(
        world.ask_with("POST", "/v1/data/recovery-key/saved", "").unwrap().0,
        202
    );
    assert!(!world.at("data/recovery-key").exists());
    assert_eq!(get(&world, "/v1/machine")["encryption"]["recovery_key_unsaved"], false);
    let refused = get(&world, "/v1/data/recovery-key");
    assert!(
        refused["error"].as_str().unwrap().contains("not kept here any more"),
        "{refused}"
    );
}

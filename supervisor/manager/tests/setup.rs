//! An appliance that waits to be set up: only the unit for that runs; who knows the console's code makes the first choices, once.

mod fake_init;

use fake_init::World;
use serde_json::{Value, json};

const SERVICE: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;

fn world() -> World {
    let mut world = World::prepared(&[("db", SERVICE), ("panel", SERVICE), ("web", SERVICE)], |dir| {
        let path = dir.join("usr/lib/cairn/appliance.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["setup"] = "panel".into();
        std::fs::write(path, manifest.to_string()).unwrap();
    });
    world.until("an invitation", |w| w.console().contains("The code for it: "));
    world
}

fn code(world: &World) -> String {
    let console = world.console();
    let (_, rest) = console.split_once("The code for it: ").unwrap();
    rest.lines().next().unwrap().trim().to_owned()
}

fn ask(world: &World, path: &str, body: &Value) -> (u16, Value) {
    world.ask_with("POST", path, &body.to_string()).expect("an answer")
}

#[test]
fn who_knows_the_code_chooses_what_runs_and_nobody_chooses_twice() {
    let mut world = world();
    assert_eq!(
        (world.state("panel"), world.state("db")),
        ("ready".into(), "stopped".into())
    );
    let (status, setup) = world.ask_with("GET", "/v1/setup", "").unwrap();
    assert_eq!((status, &setup["open"]), (200, &json!(true)));
    assert_eq!(setup["parts"][1]["unit"], "panel");
    assert_eq!(setup["parts"][1]["required"], true);
    // Nothing starts before.
    assert_eq!(ask(&world, "/v1/units/db/start", &json!(null)).0, 409);

    let code = code(&world);
    let answers = json!({"code": code, "name": "office", "domain": "example.org", "units": ["db"]});
    let with = |key: &str, value: Value| {
        let mut other = answers.clone();
        other[key] = value;
        other
    };
    let (status, answer) = ask(&world, "/v1/setup/apply", &with("name", "Büro".into()));
    assert_eq!((status, &answer["field"]), (400, &json!("name")));
    assert_eq!(ask(&world, "/v1/setup/apply", &with("more", 1.into())).0, 400);
    assert_eq!(
        ask(&world, "/v1/setup/apply", &with("code", "00000-00000".into())).0,
        403
    );
    assert_eq!(
        ask(&world, "/v1/setup/code", &json!({"code": code.to_lowercase()})).0,
        200
    );
    assert_eq!(world.state("db"), "stopped");

    // A manager that dies meanwhile takes nothing with it.
    world.kill_manager();
    world.until("another manager", |w| w.state("panel") == "ready");
    let (status, answer) = ask(&world, "/v1/setup/apply", &answers);
    assert_eq!(status, 200, "{answer}");
    world.until("what was chosen", |w| w.state("db") == "ready");
    assert_eq!(world.state("web"), "stopped");
    let site = std::fs::read_to_string(world.at("data/site/site.toml")).unwrap();
    assert!(site.contains("name = \"office\"") && !site.contains(&code), "{site}");
    assert_eq!(ask(&world, "/v1/setup/apply", &answers).0, 409);
    assert_eq!(ask(&world, "/v1/setup/code", &json!({ "code": code })).0, 409);
    assert!(!world.at("data/secrets/.setup/code").exists());
    assert_eq!(world.ask_with("GET", "/v1/setup", "").unwrap().1["name"], "office");
    // No log has the code.
    assert!(!world.said("cairn").join("\n").contains(&code));
}

#[test]
fn guesses_end_in_a_wait_that_another_manager_keeps() {
    let mut world = world();
    let guess = json!({"code": "AAAAA-AAAAA"});
    for _ in 0..5 {
        assert_eq!(ask(&world, "/v1/setup/code", &guess).0, 403);
    }
    let (status, answer) = ask(&world, "/v1/setup/code", &json!({"code": code(&world)}));
    assert_eq!(status, 429);
    assert!((1..=30).contains(&answer["after_s"].as_u64().unwrap()), "{answer}");
    world.kill_manager();
    world.until("another manager", |w| w.state("panel") == "ready");
    assert_eq!(ask(&world, "/v1/setup/code", &guess).0, 429);
}

#[test]
fn a_body_that_is_too_long_or_no_json_is_refused() {
    let world = world();
    assert_eq!(world.ask_with("POST", "/v1/setup/code", "{").unwrap().0, 400);
    assert_eq!(
        world.ask_with("POST", "/v1/setup/code", r#"{"code":7}"#).unwrap().0,
        400
    );
    let long = format!(r#"{{"code":"{}"}}"#, "x".repeat(256 << 10));
    assert_eq!(world.ask_with("POST", "/v1/setup/code", &long).unwrap().0, 413);
}

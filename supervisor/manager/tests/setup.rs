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
    let outside =
        json!({"devices": {"eth0": {"method": "static", "addresses": ["192.0.2.5/24"], "gateway": "198.51.100.1"}}});
    let (status, answer) = ask(&world, "/v1/setup/apply", &with("network", outside));
    assert_eq!((status, &answer["field"]), (400, &json!("network")), "{answer}");
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
    let fixed = json!({"devices": {"eth0": {"method": "static", "addresses": ["192.0.2.5/24"]}}});
    let (status, answer) = ask(&world, "/v1/setup/apply", &with("network", fixed));
    assert_eq!(status, 200, "{answer}");
    // What the owner sets up with has not to be confirmed.
    let network = world.ask_with("GET", "/v1/network", "").unwrap().1;
    assert_eq!(network["chosen"]["devices"]["eth0"]["method"], "static");
    assert!(network["pending"].is_null());
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

const CHOICES: &str = "[appliance]\nname = \"office\"\n[administrator]\nname = \"ada\"\npassword = \"correct horse\"\n[units.web]\nenabled = false\n";

fn bring(world: &World, text: &str) {
    let place = world.at("sys/firmware/qemu_fw_cfg/by_name/opt/cairn.setup");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("new"), text).unwrap();
    std::fs::rename(place.join("new"), place.join("raw")).unwrap();
}

#[test]
fn choices_that_somebody_brought_are_put_in_force_without_a_person() {
    let mut world = world();
    // With anything wrong, nothing of it holds, and both the console and the wizard say where.
    bring(&world, &CHOICES.replace("[units.web]", "[units.wbe]"));
    world.until("a word of the mistake", |w| {
        w.ask_with("GET", "/v1/setup", "")
            .is_some_and(|(_, setup)| setup["problems"][0].is_string())
    });
    let problem = world.ask_with("GET", "/v1/setup", "").unwrap().1["problems"][0].to_string();
    assert!(
        problem.contains("cairn.setup, line 6: the appliance has no unit `wbe`"),
        "{problem}"
    );
    assert!(world.console().contains("line 6: the appliance has no unit `wbe`"));
    assert_eq!(world.state("db"), "stopped");
    assert!(!world.at("data/site/site.toml").exists() && !world.at("data/secrets/.setup/administrator.json").exists());

    bring(&world, CHOICES);
    world.until("what was chosen", |w| w.state("db") == "ready");
    assert_eq!(world.state("web"), "stopped");
    // The account waits until it is taken, over another manager too, and no password is anywhere else.
    world.kill_manager();
    world.until("another manager", |w| w.state("db") == "ready");
    let (status, owner) = world.ask_with("GET", "/v1/setup/administrator", "").unwrap();
    let owner = &owner["administrator"];
    assert_eq!(
        (status, &owner["name"], &owner["password"]),
        (200, &json!("ada"), &json!("correct horse"))
    );
    assert_eq!(ask(&world, "/v1/setup/administrator/taken", &json!(null)).0, 200);
    let (_, nobody) = world.ask_with("GET", "/v1/setup/administrator", "").unwrap();
    assert!(nobody["administrator"].is_null());
    let site = std::fs::read_to_string(world.at("data/site/site.toml")).unwrap();
    assert!(!site.contains("correct horse"), "{site}");
    assert!(!world.console().contains("correct horse") && !world.said("cairn").join("\n").contains("correct horse"));
    assert!(!world.at("data/secrets/.setup/code").exists());
}

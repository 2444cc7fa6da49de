//! A change of the network by the API comes undone unless it is confirmed: also over a manager's death and a restart of the machine.

mod fake_init;

use fake_init::World;
use serde_json::{Value, json};

const SERVICE: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;
const OWN: &str = "# mine\n[network]\ndns = [\"192.0.2.53\"]\n";

fn world() -> World {
    let mut world = World::prepared(&[("web", SERVICE)], |dir| {
        std::fs::create_dir_all(dir.join("data/site")).unwrap();
        std::fs::write(dir.join("data/site/site.toml"), OWN).unwrap();
        boot(dir, "one");
    });
    world.until("ready", |w| w.state("web") == "ready");
    world
}

fn boot(dir: &std::path::Path, name: &str) {
    let place = dir.join("proc/sys/kernel/random");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("boot_id"), name).unwrap();
}

fn fixed(address: &str) -> Value {
    json!({"devices": {"eth0": {"method": "static", "addresses": [address], "gateway": "192.0.2.1"}}})
}

fn change(world: &World, within: &str, network: &Value) -> (u16, Value) {
    let path = format!("/v1/network?within={within}");
    world.ask_with("POST", &path, &network.to_string()).expect("an answer")
}

fn ask(world: &World, method: &str, path: &str) -> (u16, Value) {
    world.ask_with(method, path, "").expect("an answer")
}

fn site(world: &World) -> String {
    std::fs::read_to_string(world.at("data/site/site.toml")).unwrap()
}

fn newest(world: &World) -> (String, String) {
    let history = ask(world, "GET", "/v1/site/history").1;
    let text = |key: &str| history["versions"][0][key].as_str().unwrap().to_owned();
    (text("who"), text("why"))
}

#[test]
fn a_change_that_nobody_confirms_comes_undone_and_history_says_why() {
    let mut world = world();
    let (status, told) = change(&world, "2s", &fixed("192.0.2.5/24"));
    assert_eq!(
        (status, &told["changes"][0]["change"]),
        (200, &json!("network")),
        "{told}"
    );
    assert!(site(&world).contains("192.0.2.5/24") && !site(&world).contains("192.0.2.53"));
    assert!(
        newest(&world).1.contains("unless that is confirmed within 2s"),
        "{:?}",
        newest(&world)
    );
    let state = ask(&world, "GET", "/v1/network").1;
    assert_eq!(state["pending"]["before"], json!({"dns": ["192.0.2.53"]}));
    assert_eq!(state["chosen"]["devices"]["eth0"]["addresses"], json!(["192.0.2.5/24"]));
    world.until("the network of before", |w| !site(w).contains("192.0.2.5/24"));
    assert_eq!(site(&world), OWN);
    let undone = (
        "cairn".to_owned(),
        "nobody confirmed the change of the network in time".to_owned(),
    );
    assert_eq!(newest(&world), undone);
    world.until("nothing that waits", |w| {
        ask(w, "GET", "/v1/network").1["pending"].is_null()
    });
    assert!(!world.at("data/site/pending/network.json").exists());
    assert_eq!(ask(&world, "POST", "/v1/network/confirm").0, 409);
}

#[test]
fn a_confirmed_change_stays_and_a_second_one_leads_back_to_what_was_confirmed_last() {
    let mut world = world();
    assert_eq!(change(&world, "1h", &fixed("192.0.2.5/24")).0, 200);
    // The owner thinks again before the first one is confirmed.
    assert_eq!(change(&world, "1h", &fixed("192.0.2.6/24")).0, 200);
    let pending = ask(&world, "GET", "/v1/network").1["pending"].clone();
    assert_eq!(pending["before"], json!({"dns": ["192.0.2.53"]}));
    world.kill_manager();
    world.until("another manager", |w| w.state("web") == "ready");
    let left = ask(&world, "GET", "/v1/network").1["pending"]["left_s"]
        .as_u64()
        .unwrap();
    assert!((3000..=3602).contains(&left), "{left}");
    assert_eq!(ask(&world, "POST", "/v1/network/confirm").0, 200);
    assert!(site(&world).contains("192.0.2.6/24"));
    // What holds already has not to be confirmed.
    assert_eq!(change(&world, "1s", &fixed("192.0.2.6/24")).0, 200);
    assert!(ask(&world, "GET", "/v1/network").1["pending"].is_null());
    assert_eq!(change(&world, "1h", &json!({})).0, 200);
    assert!(!site(&world).contains("network"), "{}", site(&world));
    assert_eq!(ask(&world, "POST", "/v1/network/undo").0, 200);
    assert!(site(&world).contains("192.0.2.6/24"), "{}", site(&world));
    assert!(newest(&world).1.contains("was undone by"), "{:?}", newest(&world));
    assert_eq!(ask(&world, "POST", "/v1/network/undo").0, 409);
}

#[test]
fn a_restart_of_the_machine_confirms_nothing() {
    let mut world = world();
    assert_eq!(change(&world, "1h", &fixed("192.0.2.5/24")).0, 200);
    boot(&world.at(""), "two");
    world.kill_manager();
    world.until("the network of before", |w| site(w) == OWN);
    assert_eq!(newest(&world).1, "the network was not confirmed before the restart");
    assert!(!world.at("data/site/pending/network.json").exists());
    world.until("another manager", |w| {
        ask(w, "GET", "/v1/network").1["chosen"] == json!({"dns": ["192.0.2.53"]})
    });
}

#[test]
fn the_way_back_to_a_version_with_another_network_has_to_be_confirmed_and_an_editor_has_not() {
    let mut world = world();
    world.until("a first version", |w| w.at("data/site/history/1.toml").exists());
    std::fs::write(
        world.at("data/site/site.toml"),
        "[network]\nsearch = [\"example.org\"]\n",
    )
    .unwrap();
    let told = world.post("/v1/reload");
    assert_eq!(told["changes"][0]["change"], "network");
    assert!(ask(&world, "GET", "/v1/network").1["pending"].is_null());
    world.until("a second version", |w| w.at("data/site/history/2.toml").exists());
    assert_eq!(ask(&world, "POST", "/v1/site/rollback?to=1").0, 200);
    let pending = ask(&world, "GET", "/v1/network").1["pending"].clone();
    assert_eq!(pending["before"], json!({"search": ["example.org"]}));
    // Who edits the file meanwhile has decided.
    std::fs::write(
        world.at("data/site/site.toml"),
        "[network]\nsearch = [\"example.net\"]\n",
    )
    .unwrap();
    world.post("/v1/reload");
    world.until("nothing that waits", |w| {
        ask(w, "GET", "/v1/network").1["pending"].is_null()
    });
    assert!(site(&world).contains("example.net"));
}

#[test]
fn what_cannot_be_is_refused_and_nothing_waits() {
    let world = world();
    for (network, status, why) in [
        (fixed("192.0.2.5"), 400, "no prefix length"),
        (fixed("198.51.100.5/24"), 400, "in none of the device's networks"),
        (json!({"devices": {"eth0": {"method": "statc"}}}), 400, "unknown"),
        (json!({"device": {}}), 400, "unknown field"),
    ] {
        let (got, answer) = change(&world, "3m", &network);
        assert_eq!(got, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    assert_eq!(change(&world, "2h", &fixed("192.0.2.5/24")).0, 400);
    assert_eq!(change(&world, "soon", &fixed("192.0.2.5/24")).0, 400);
    assert_eq!(site(&world), OWN);
    assert!(ask(&world, "GET", "/v1/network").1["pending"].is_null());
}

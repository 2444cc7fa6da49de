//! Lessons: a unit runs open for its time and no longer, whatever happens meanwhile.

mod fake_init;

use fake_init::World;
use serde_json::Value;

const WEB: &str = r#"{"service":{"command":["/fake-service","ready"],"restart_delay":"50ms","restart_jitter":0},"ready":{"when":"notify"}}"#;
const OTHER: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;

fn world() -> World {
    let mut world = World::new(&[("other", OTHER), ("web", WEB)]);
    world.until("ready", |w| w.state("web") == "ready" && w.state("other") == "ready");
    world
}

fn learned(world: &World) -> Value {
    use std::io::Read as _;
    let mut text = String::new();
    world.open("/v1/units/web/learned").read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").expect("a head").1).unwrap()
}

/// Begins a lesson that nothing but the test ends.
fn begin(world: &mut World) {
    assert_eq!(
        world.post("/v1/units/web/learn?for=1h")["units"],
        serde_json::json!(["web"])
    );
    world.until("open", |w| {
        w.state("web") == "ready" && w.opened("web") == [false, true] && learned(w)["state"] == "running"
    });
}

/// Waits until it runs as it was, once more.
fn until_closed(world: &mut World) {
    world.until("closed", |w| {
        w.opened("web") == [false, true, false] && w.state("web") == "ready"
    });
    assert_eq!(world.unit("web")["learning_ms"], Value::Null);
    assert_eq!(learned(world)["state"], "ended");
    world.until("nothing is kept of it", |w| !w.keeps("learn@web"));
}

#[test]
fn a_unit_is_learned_from_for_its_time_and_then_started_again_as_it_was() {
    let mut world = world();
    assert_eq!(learned(&world)["state"], "never");
    world.post("/v1/units/web/learn?for=300ms");
    until_closed(&mut world);
    assert_eq!(learned(&world)["reason"], "");
    assert_eq!(world.opened("other"), [false], "nobody else is touched");
    assert!(
        world
            .console()
            .contains("unit web: learned from for 300ms; until then its system call filter refuses nothing")
    );
}

#[test]
fn a_lesson_shows_in_the_status_and_can_be_ended() {
    let mut world = world();
    begin(&mut world);
    let left = world.unit("web")["learning_ms"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&left), "{left}");
    assert!(world.keeps("learn@web"), "so that a successor can serve it");
    let again = world.post("/v1/units/web/learn?for=5s");
    assert_eq!(
        again["error"],
        "web is learned from already; `cairn status` says how much longer"
    );
    world.post("/v1/units/web/learn?for=0s");
    until_closed(&mut world);
    let none = world.post("/v1/units/web/learn?for=0s");
    assert_eq!(none["error"], "web is not learned from");
}

#[test]
fn a_unit_that_fails_during_its_lesson_is_learned_from_when_it_starts_again() {
    let mut world = world();
    begin(&mut world);
    world.kill_unit("web");
    world.until("open again", |w| {
        w.opened("web") == [false, true, true] && w.state("web") == "ready"
    });
    assert_eq!(learned(&world)["state"], "running");
    world.post("/v1/units/web/learn?for=0s");
    world.until("closed", |w| {
        w.opened("web") == [false, true, true, false] && w.state("web") == "ready"
    });
}

#[test]
fn a_manager_that_dies_leaves_no_unit_open() {
    let mut world = world();
    begin(&mut world);
    world.kill_manager();
    until_closed(&mut world);
    assert_eq!(
        learned(&world)["reason"],
        "another manager came, and the record of the former one is gone"
    );
}

#[test]
fn a_unit_whose_listener_breaks_is_ended_and_started_again_as_it_was() {
    let mut world = world();
    begin(&mut world);
    world.break_listener("web");
    until_closed(&mut world);
    let reason = learned(&world)["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("its calls could not be heard"), "{reason}");
}

#[test]
fn a_unit_that_was_stopped_meanwhile_stays_down() {
    let mut world = world();
    begin(&mut world);
    world.post("/v1/units/web/stop");
    world.until("stopped", |w| w.state("web") == "stopped");
    world.post("/v1/units/web/learn?for=0s");
    world.until("over", |w| learned(w)["state"] == "ended");
    assert_eq!(
        (world.state("web").as_str(), world.opened("web")),
        ("stopped", vec![false, true])
    );
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_a_sentence() {
    let mut world = world();
    let refused = |world: &World, path: &str| world.post(path)["error"].as_str().unwrap().to_owned();
    for (query, word) in [("?for=soon", "is not a duration"), ("?for=2d", "at most 1d")] {
        let error = refused(&world, &format!("/v1/units/web/learn{query}"));
        assert!(error.contains(word), "{error}");
    }
    assert!(refused(&world, "/v1/units/wbe/learn").contains("did you mean web?"));
    world.post("/v1/units/web/disable");
    world.until("down", |w| w.state("web") == "stopped");
    assert!(refused(&world, "/v1/units/web/learn").contains("cairn enable web"));
    world.post("/v1/units/other/stop");
    world.until("down", |w| w.state("other") == "stopped");
    assert!(refused(&world, "/v1/units/other/learn").contains("cairn start other"));
    assert_eq!(world.opened("web"), [false]);
}

#[test]
fn the_commands_around_the_main_one_are_learned_from_too() {
    let unit = r#"{"service":{"command":["/fake-service","ready"],"before":[["/bin/true"]],"after":[["/bin/true"]]},
        "ready":{"when":"notify"}}"#;
    let mut world = World::new(&[("web", unit)]);
    world.until("ready", |w| w.state("web") == "ready");
    world.post("/v1/units/web/learn?for=1h");
    // The first main one's end: its command after it belongs to the lesson already.
    world.until("open", |w| w.opened("web") == [false, false, true, true, true]);
    world.until("ready", |w| w.state("web") == "ready");
}

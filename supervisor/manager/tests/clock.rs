//! A unit that keeps the clock: its calls for that have somebody who does them, whoever is the manager.

mod fake_init;

use fake_init::World;

const KEEPER: &str = r#"{"service":{"command":["/fake-service","ready"],"restart_delay":"50ms","restart_jitter":0},"ready":{"when":"notify"},
    "sandbox":{"clock":true,"reason":"it is a time client"}}"#;

fn world() -> World {
    let mut world = World::new(&[("keeper", KEEPER)]);
    world.until("ready", |w| w.state("keeper") == "ready" && w.keeps("clock@keeper"));
    world
}

#[test]
fn another_manager_goes_on_doing_the_calls_and_the_unit_does_not_notice() {
    let mut world = world();
    let before = world.opened("keeper");
    world.kill_manager();
    world.until("another manager", |w| w.state("keeper") == "ready");
    assert_eq!((world.opened("keeper"), before), (vec![false], vec![false]));
    assert!(world.keeps("clock@keeper"));
    // It listens: what is no call is told.
    world.break_listener("keeper");
    world.until("told", |w| {
        w.console().contains("unit keeper: it can keep the clock no longer")
    });
}

#[test]
fn when_the_unit_is_gone_nothing_is_kept_of_it() {
    let mut world = world();
    world.post("/v1/units/keeper/stop");
    world.until("nothing is kept", |w| {
        w.state("keeper") == "stopped" && !w.keeps("clock@keeper")
    });
}

#[test]
fn a_unit_that_keeps_the_clock_is_not_learned_from() {
    let world = world();
    let error = world.post("/v1/units/keeper/learn")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("it keeps the clock"), "{error}");
}

//! The factory reset happens only to the appliance that was meant, and once.

mod fake_init;

use fake_init::World;

fn marked(world: &World) -> bool {
    world.at("data/factory-reset").exists()
}

fn ask(world: &World, query: &str) -> (u16, String) {
    let path = format!("/v1/power/factory-reset{query}");
    let (status, answer) = world.ask_with("POST", &path, "").expect("an answer");
    (status, answer.to_string())
}

#[test]
fn a_factory_reset_needs_the_appliances_name_and_then_restarts() {
    let unit = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;
    let mut world = World::new(&[("web", unit)]);
    world.until("ready", |w| w.state("web") == "ready");
    for wrong in ["", "?name=", "?name=another"] {
        let (status, answer) = ask(&world, wrong);
        assert_eq!(status, 409);
        assert!(answer.contains("needs this appliance's name, test"), "{answer}");
        assert!(!marked(&world));
    }
    assert_eq!(world.state("web"), "ready", "a refusal stops nothing");
    assert_eq!(ask(&world, "?name=test").0, 202);
    assert!(marked(&world), "the mark is there before the answer");
    world.until("the end", |w| w.state("web") != "ready");
    assert!(
        world
            .console()
            .contains("Factory reset: the next start removes all data")
    );
    // Until the very end, when init has been asked for it.
    world.until("init is asked", World::shut_down);
    let (status, answer) = ask(&world, "?name=test");
    assert!(answer.contains("going down"), "{status} {answer}");
}

//! What the manager does for units beyond starting them: reloads, watchdogs, health, timers, failures, the owner's choices.

mod fake_init;

use fake_init::World;

/// A unit whose service does these things, and more of its text.
fn unit(does: &str, more: &str) -> String {
    let does: Vec<String> = does.split_whitespace().map(|word| format!("\"{word}\"")).collect();
    format!(
        r#"{{"service":{{"command":["/fake-service",{}],"restart_delay":"50ms","restart_jitter":0{}"#,
        does.join(","),
        more
    )
}

fn world(units: &[(&str, String)]) -> World {
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    World::new(&units)
}

const BY_NOTIFY: &str = r#"},"ready":{"when":"notify","timeout":"20s"}}"#;

#[test]
fn a_service_that_is_told_to_reload_says_when_it_has() {
    let more = format!(r#","reload":"notify"{BY_NOTIFY}"#);
    let mut world = world(&[("web", unit("ready", &more))]);
    world.until("ready", |w| w.state("web") == "ready");
    let pids = world.pids();
    world.post("/v1/units/web/reload");
    world.until("reloaded", |w| w.console().contains("unit web: reloaded"));
    assert_eq!(world.unit("web")["reloading"], false);
    assert_eq!(world.pids(), pids, "a reload is no restart");
}

#[test]
fn a_reload_by_command_enters_the_sandbox_and_its_failure_changes_nothing() {
    let text = |name: &str, code: i32| {
        let more = format!(r#","reload":{{"command":["/bin/sh","-c","echo in {name}; exit {code}"]}}{BY_NOTIFY}"#);
        unit("ready", &more)
    };
    let mut world = world(&[("bad", text("bad", 3)), ("good", text("good", 0))]);
    world.until("ready", |w| w.state("good") == "ready" && w.state("bad") == "ready");
    world.post("/v1/units/good/reload");
    world.post("/v1/units/bad/reload");
    world.until("reloaded", |w| w.console().contains("unit good: reloaded"));
    world.until("not reloaded", |w| {
        w.console()
            .contains("unit bad: could not reload: the command ended: exit code 3")
    });
    assert!(world.log("good").contains("in good"), "its output is the unit's");
    assert_eq!(world.state("bad"), "ready");
    assert!(world.spawned().contains(&"in good".to_owned()));
}

#[test]
fn what_is_not_ready_cannot_reload() {
    let world = world(&[("web", unit("sleep=60000", BY_NOTIFY))]);
    let mut world = world;
    world.until("starting", |w| w.state("web") == "starting");
    let answer = world.post("/v1/units/web/reload");
    assert!(answer["error"].as_str().unwrap().contains("not ready"), "{answer}");
}

#[test]
fn a_service_that_falls_silent_is_killed_and_started_again() {
    let more = format!(r#","watchdog":"1s"{BY_NOTIFY}"#);
    let mut world = world(&[("web", unit("ready alive-for=1500", &more))]);
    world.until("ready", |w| w.state("web") == "ready");
    world.until("silent", |w| w.console().contains("was silent for 1000 ms (watchdog)"));
    world.until("again", |w| w.spawned().len() >= 2);
}

#[test]
fn a_service_that_says_that_it_stops_need_not_be_alive_and_must_end() {
    let more = format!(r#","watchdog":"1s","stop_timeout":"2s"{BY_NOTIFY}"#);
    let units = [
        ("hangs", unit("ready stopping sleep=60000", &more)),
        ("asks", unit("ready stopping extend=60000 sleep=60000", &more)),
        ("ends", unit("ready stopping sleep=1500 exit=0", &more)),
    ];
    let mut world = world(&units);
    world.until("killed", |w| {
        w.console()
            .contains("unit hangs: failed: said that it stops, and did not end")
    });
    world.until("again", |w| {
        w.spawned().iter().filter(|unit| *unit == "hangs").count() >= 2
    });
    world.until("ended", |w| w.ended().contains(&"ends".to_owned()));
    assert_eq!(world.state("asks"), "ready");
    assert!(!world.console().contains("was silent"), "{}", world.console());
}

#[test]
fn a_service_that_starts_slowly_is_not_silent_before_it_is_ready() {
    let more = format!(r#","watchdog":"1s"{BY_NOTIFY}"#);
    let mut world = world(&[("web", unit("sleep=2500 ready alive-for=1500", &more))]);
    world.until("ready", |w| w.state("web") == "ready");
    assert_eq!(world.spawned().len(), 1, "{}", world.console());
    world.until("silent", |w| w.console().contains("was silent for 1000 ms (watchdog)"));
}

#[test]
fn a_service_can_say_itself_that_it_is_not_well() {
    let mut world = world(&[("web", unit("ready trigger", BY_NOTIFY))]);
    world.until("told", |w| w.console().contains("said that it is not well"));
    world.until("again", |w| w.spawned().len() >= 2);
}

#[test]
fn a_start_takes_longer_if_the_service_asks_for_it() {
    let more = r#","restart":"never"},"ready":{"when":"notify","timeout":"600ms"}}"#;
    let units = [
        ("patient", unit("extend=30000 sleep=1200 ready", more)),
        ("rash", unit("sleep=1200 ready", more)),
    ];
    let mut world = world(&units);
    world.until("one is up, the other is not", |w| {
        w.state("patient") == "ready" && w.state("rash") == "failed"
    });
}

#[test]
fn a_line_of_the_log_or_a_command_can_be_the_sign_of_readiness() {
    let by_log = r#"},"ready":{"when":{"log":"now listening"},"timeout":"20s"}}"#;
    let by_command = r#"},"ready":{"when":{"command":["/bin/sh","-c","test -e $MARK"]},"timeout":"20s"}}"#;
    let mark = tempfile::tempdir().unwrap();
    let place = mark.path().join("up");
    let env = format!(r#","environment":{{"MARK":"{0}"}}{by_command}"#, place.display());
    let units = [
        ("command", unit(&format!("sleep=300 write={}", place.display()), &env)),
        (
            "log",
            unit("say=not-yet say=now sleep=200", by_log).replace("say=now", "say=now listening"),
        ),
        ("never", unit("say=nothing", by_log)),
    ];
    let mut world = world(&units);
    world.until("both ready", |w| {
        w.state("log") == "ready" && w.state("command") == "ready"
    });
    assert_eq!(world.state("never"), "starting");
}

#[test]
fn health_is_checked_by_a_command_and_an_ill_unit_is_started_again() {
    let mark = tempfile::tempdir().unwrap();
    let place = mark.path().join("well");
    std::fs::write(&place, "").unwrap();
    let more = format!(
        r#"}},"health":{{"check":{{"exec":["/bin/sh","-c","test -e {}"]}},"interval":"50ms","failures":2}},
        "ready":{{"when":"notify"}}}}"#,
        place.display()
    );
    let mut world = world(&[("web", unit("ready", &more))]);
    world.until("checked", |w| w.spawned().iter().filter(|s| *s == "in web").count() > 3);
    assert_eq!(
        world.spawned().iter().filter(|s| *s == "web").count(),
        1,
        "a healthy one is left alone"
    );
    std::fs::remove_file(&place).unwrap();
    world.until("ill", |w| {
        w.console()
            .contains("2 health checks in a row failed, the last: the command ended: exit code 1")
    });
    std::fs::write(&place, "").unwrap();
    world.until("again", |w| {
        w.spawned().iter().filter(|s| *s == "web").count() >= 2 && w.state("web") == "ready"
    });
}

#[test]
fn at_its_limit_a_unit_fails_for_good_and_someone_is_told_why() {
    let more = r#","start_limit":2},"failure":{"alert":["/bin/sh","-c","echo told: $CAIRN_UNIT: $CAIRN_REASON"]}}"#;
    let mut world = world(&[("web", unit("exit=7", more))]);
    world.until("failed", |w| w.state("web") == "failed");
    world.until("told", |w| {
        let said = "told: web: ended with exit code 7 (2 failures in a row: not started again)";
        w.log("web").contains(said)
    });
    assert_eq!(world.spawned().len(), 3, "two tries and the alert");
}

#[test]
fn a_failure_can_start_the_machine_again() {
    let more = r#","restart":"never"},"failure":{"action":"reboot"}}"#;
    let mut world = world(&[("web", unit("exit=1", more))]);
    world.until("going down", |w| w.shut_down());
}

#[test]
fn those_that_need_a_failed_unit_are_kept_or_stopped_as_it_declares() {
    let provider = |dependants: &str, delay: &str| {
        let more = format!(
            r#","restart_delay":"{delay}","restart_delay_max":"2s"}},"failure":{{"dependants":"{dependants}"}},
            "provides":{{"sql":{{"kind":"database","port":1}}}}}}"#
        );
        unit("sleep=1", &more).replacen(r#""restart_delay":"50ms","#, "", 1)
    };
    let consumer = unit("sleep=1", r#"},"needs":{"db":"sql"}}"#);
    for (dependants, delay, starts) in [
        ("keep", "2s", 1),
        ("stop", "2s", 2),
        ("keep", "0s", 1),
        ("stop", "0s", 2),
    ] {
        let mut world = world(&[("db", provider(dependants, delay)), ("web", consumer.clone())]);
        world.until("both ready", |w| w.state("db") == "ready" && w.state("web") == "ready");
        world.kill_unit("db");
        if delay == "2s" {
            world.until("failed", |w| w.state("db") == "restarting");
            if starts == 2 {
                world.until("it waits", |w| w.state("web") == "waiting");
            }
        }
        let count = |w: &World, unit: &str| w.spawned().iter().filter(|s| *s == unit).count();
        world.until("both ready again", |w| {
            let ready = w.state("db") == "ready" && w.state("web") == "ready";
            ready && count(w, "db") == 2 && count(w, "web") == starts
        });
    }
}

#[test]
fn commands_run_after_the_main_one_however_it_ended() {
    let more = r#","restart":"never","after":[["/bin/echo","swept"],["/bin/false"],["/bin/echo","closed"]]}}"#;
    let mut world = world(&[("web", unit("exit=4", more))]);
    world.until("failed", |w| w.state("web") == "failed");
    let log = world.log("web");
    assert!(log.find("swept").unwrap() < log.find("closed").unwrap(), "{log}");
}

#[test]
fn a_timer_starts_a_oneshot_again_and_again_and_not_with_the_appliance() {
    let timed = r#","kind":"oneshot"},"timer":{"interval":"1s"}}"#;
    let daily = r#","kind":"oneshot"},"timer":{"calendar":["2199-01-01"]}}"#;
    let units = [
        ("daily", unit("say=never", daily)),
        ("often", unit("say=tick exit=0", timed)),
    ];
    let mut world = world(&units);
    world.until("twice", |w| w.log("often").matches("tick").count() >= 2);
    assert!(!world.spawned().contains(&"daily".to_owned()));
    assert_eq!(world.state("daily"), "stopped");
    let stamp: u64 = std::fs::read_to_string(world.at("data/timers/often"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(stamp > 1_700_000_000);
}

#[test]
fn a_unit_of_many_states_is_told_with_the_time_of_its_last() {
    let more = r#","restart":"always","restart_delay_max":"50ms"}}"#;
    let mut world = world(&[("often", unit("exit=1", more))]);
    world.until("more phases than a boot's chart has", |w| w.spawned().len() > 20);
    let asked = world.status()["uptime_ms"].as_u64().unwrap();
    world.post("/v1/units/often/stop");
    world.until("stopped", |w| w.state("often") == "stopped");
    let status = world.status();
    let since_asked = status["uptime_ms"].as_u64().unwrap() - asked;
    let told = status["units"][0]["for_ms"].as_u64().unwrap();
    assert!(
        told <= since_asked,
        "{told} ms, and {since_asked} ms since it was asked to stop"
    );
}

#[test]
fn the_owners_choices_are_put_in_force_without_touching_the_others() {
    let units = [("one", unit("ready", BY_NOTIFY)), ("two", unit("ready", BY_NOTIFY))];
    let mut world = world(&units);
    world.until("ready", |w| w.state("one") == "ready" && w.state("two") == "ready");
    let before = world.pids();
    std::fs::create_dir_all(world.at("data/site")).unwrap();
    let choose = |world: &World, text: &str| {
        std::fs::write(world.at("data/site/site.toml"), text).unwrap();
        world.post("/v1/reload")
    };
    let answer = choose(
        &world,
        "[units.one]\nenabled = false\n[units.two.limits]\nmemory_max = \"1G\"\n",
    );
    assert_eq!(answer["changes"].as_array().unwrap().len(), 2, "{answer}");
    world.until("one is down", |w| w.state("one") == "stopped");
    assert_eq!(world.pids()["two"], before["two"]);
    let wrong = choose(&world, "[units.one]\nenabeld = true\n");
    assert!(
        wrong["error"].as_str().unwrap().contains("did you mean `enabled`?"),
        "{wrong}"
    );
    assert_eq!(world.state("two"), "ready");
    choose(&world, "");
    world.until("one is up", |w| w.state("one") == "ready");
}

#[test]
fn descriptors_that_a_service_gives_away_come_back_at_its_next_start_also_after_another_manager() {
    let mut world = world(&[("web", unit("stored store=one store=two ready", BY_NOTIFY))]);
    world.until("ready", |w| w.state("web") == "ready");
    assert_eq!(world.log("web"), "stored 0 ");
    world.kill_manager();
    world.until("answering", |w| w.state("web") == "ready");
    world.kill_unit("web");
    world.until("given back", |w| w.log("web").contains("stored 2 one:two"));
}

#[test]
fn another_manager_takes_the_place_of_this_one_and_no_unit_notices() {
    let mut world = world(&[("web", unit("ready", BY_NOTIFY))]);
    world.until("ready", |w| w.state("web") == "ready");
    let before = world.pids();
    let copy = world.at("new-manager");
    std::fs::copy(env!("CARGO_BIN_EXE_cairn-manager"), &copy).unwrap();
    let refused = world.post("/v1/manager/upgrade?file=nowhere");
    assert!(
        refused["error"].as_str().unwrap().contains("absolute path"),
        "{refused}"
    );
    world.post(&format!("/v1/manager/upgrade?file={}", copy.display()));
    world.until("replaced", |w| w.console().contains("makes room for another one"));
    world.until("answering", |w| w.state("web") == "ready");
    assert_eq!(world.pids(), before);
}

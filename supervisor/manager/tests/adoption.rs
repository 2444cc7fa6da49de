//! The manager against a stand-in for cairn-init: it keeps descriptors, starts processes for real (without a sandbox), reaps
//! them, and starts the manager again when it is killed.

mod fake_init;

use std::time::Duration;

use fake_init::World;

const SERVICE: &str = r#"{"service":{"command":["/bin/sh","-c","echo start $$; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"],
    "user":"svc"}, "state":{"/var/lib/x":{}}, "secrets":{"admin":{}}}"#;

#[test]
fn units_start_in_order_and_stop_before_the_machine_goes_down() {
    let mut world = World::new(&[
        (
            "db",
            r#"{"service":{"command":["/bin/sh","-c","trap 'exit 0' TERM; while :; do sleep 0.05; done"]},
            "provides":{"sql":{"kind":"database","port":3306}}}"#,
        ),
        (
            "web",
            r#"{"service":{"command":["/bin/sh","-c","trap 'exit 0' TERM; while :; do sleep 0.05; done"]},
            "needs":{"db":"sql"}}"#,
        ),
    ]);
    world.until("both ready", |w| w.state("db") == "ready" && w.state("web") == "ready");
    let order = world.spawned();
    assert_eq!(order, ["db", "web"]);
    world.power();
    world.until("shutdown asked", |w| w.shut_down());
    let ends = world.ended();
    assert_eq!(ends, ["web", "db"], "a provider outlives its consumers");
}

#[test]
fn a_first_start_runs_its_setup_and_a_second_does_not() {
    let mut world = World::new(&[(
        "db",
        r#"{"service":{"command":["/bin/sleep","1000"]}, "state":{"/s":{}},
            "setup":[{"name":"one","command":["/bin/sh","-c","cat > $STATE/made"],"stdin":["/in"]}]}"#,
    )]);
    world.until("ready", |w| w.state("db") == "ready");
    assert_eq!(
        std::fs::read_to_string(world.at("data/state/db/s/made")).unwrap(),
        "given\n"
    );
    world.kill_unit("db");
    world.until("ready again", |w| w.spawned().len() == 3 && w.state("db") == "ready");
}

#[test]
fn a_manager_killed_again_and_again_restarts_no_service_and_loses_no_line() {
    let mut world = World::new(&[("one", SERVICE), ("two", SERVICE)]);
    world.until("ready", |w| w.state("one") == "ready" && w.state("two") == "ready");
    let before = world.pids();
    for round in 0..30 {
        world.kill_manager();
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(round));
        }
    }
    world.until("answering", |w| w.state("one") == "ready" && w.state("two") == "ready");
    assert_eq!(world.pids(), before);
    assert_eq!(world.spawned().len(), 2);
    let pid = before["one"];
    world.until("logged", |w| w.logged("one") == [format!("start {pid}")]);
    world.post("/v1/units/one/stop");
    world.until("stopped", |w| w.state("one") == "stopped");
    world.until("logged", |w| {
        w.logged("one") == [format!("start {pid}"), "bye".to_owned()]
    });
    assert!(world.manager_kib() < 3 << 10, "{} KiB", world.manager_kib());
}

#[test]
fn an_end_while_no_manager_ran_is_seen_by_the_next() {
    let mut world = World::new(&[(
        "one",
        r#"{"service":{"command":["/bin/sleep","1000"],"restart":"never"}}"#,
    )]);
    world.until("ready", |w| w.state("one") == "ready");
    world.hold_manager();
    world.kill_unit("one");
    std::thread::sleep(Duration::from_millis(200));
    world.release_manager();
    world.until("failed", |w| w.state("one") == "failed");
}

/// Its process is gone when the successor looks, and its exit is still on its way.
#[test]
fn an_end_right_after_the_greeting_keeps_its_status() {
    let mut world = World::new(&[(
        "one",
        r#"{"service":{"command":["/bin/sh","-c","trap 'exit 7' TERM; while :; do sleep 0.01; done"],"restart":"never"}}"#,
    )]);
    world.until("ready", |w| w.state("one") == "ready");
    let pid = world.pids()["one"];
    world.hold_manager();
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    world.until("ended", |w| w.ended() == ["one"]);
    world.tell_late();
    world.release_manager();
    world.until("failed", |w| w.state("one") == "failed");
    let told = world.status().to_string();
    assert!(told.contains("exit code 7"), "{told}");
}

/// What the manager says of a unit is stored with the state from which it follows.
#[test]
fn each_failure_is_told_once_however_often_the_manager_is_killed() {
    let mut world = World::new(&[(
        "one",
        r#"{"service":{"command":["/bin/sh","-c","n=$(cat $STATE/n || echo 0); echo $((n+1)) >$STATE/n; sleep 0.02; exit 3"],
            "restart_delay":"1ms","restart_delay_max":"1ms","restart_jitter":0,"healthy_after":"1d"}, "state":{"/s":{}}}"#,
    )]);
    world.until("running", |w| !w.spawned().is_empty());
    // As many as it takes, where processes get little time.
    let mut round = 0;
    while round < 60 || (world.ended().len() < 12 && round < 2000) {
        world.kill_manager();
        std::thread::sleep(Duration::from_millis(round % 7 * 5));
        round += 1;
    }
    world.until("answering", |w| !w.state("one").is_empty());
    world.post("/v1/units/one/stop");
    world.until("stopped", |w| w.state("one") == "stopped");
    let runs = world.ended().len() as u64;
    assert!(runs > 10, "{runs} runs");
    let told = |w: &World| {
        let said = w.said("one");
        said.iter()
            .filter(|line| line.starts_with("failed: ended with exit code 3"))
            .count() as u64
    };
    // The last run may have been stopped.
    world.until("told", |w| told(w) >= runs - 1);
    assert!(told(&world) <= runs, "{:?}", world.said("one"));
}

#[test]
fn readiness_is_believed_of_the_service_only_and_a_silent_one_is_killed() {
    let mut world = World::new(&[(
        "mute",
        r#"{"service":{"command":["/bin/sleep","1000"],"restart":"never"}, "ready":{"when":"notify","timeout":"300ms"}}"#,
    )]);
    world.until("failed", |w| w.state("mute") == "failed");
    assert!(world.status().to_string().contains("not ready within 1 s"));
}

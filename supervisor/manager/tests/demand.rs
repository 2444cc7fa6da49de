//! Units that wait for a connection or a path.

mod fake_init;

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use fake_init::World;

/// Takes one connection at the first socket and ends.
const ONE: &str = r#"$| = 1; open(my $l, "+<&=", 3); accept(my $c, $l) or die; print $c "served by $ENV{LISTEN_FDNAMES}\n"; print "served\n""#;
/// Takes a file out of its state's folder and ends; says its name.
const TAKE: &str = r#"($f) = glob("$ENV{STATE}/*"); print "took ", $f =~ s,.*/,,r, "\n"; unlink $f"#;

fn unit(program: &str, more: &str) -> String {
    let more: serde_json::Value = serde_json::from_str(more).unwrap();
    let mut unit =
        serde_json::json!({"service": {"command": ["/usr/bin/perl", "-e", program], "restart_delay": "50ms"}});
    unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    unit.to_string()
}

const SOCKET: &str = r#"{"runtime":{"/run/db":{"user":"root"}},"sockets":{"sql":{"listen":{"unix":"/run/db/s"}}}}"#;

fn connect(world: &World) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(world.at("run/cairn/shared/db/run-db/s"))?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    Ok(stream)
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_connection_starts_the_unit_also_when_no_manager_is_there_to_see_it_come() {
    let needs = r#"{"service":{"command":["/bin/sleep","1000"]},"needs":{"db":"sql"}}"#;
    let mut world = World::new(&[("app", needs), ("db", &unit(ONE, SOCKET))]);
    // Who needs it does not wait for its start, but for its socket.
    world.until("listening", |w| {
        w.state("db") == "listening" && w.state("app") == "ready"
    });
    world.until("all is ready", |w| {
        w.status()["ready"] == true && w.console().contains("Ready")
    });
    assert_eq!(world.spawned(), ["app"]);
    assert_eq!(answer(connect(&world).unwrap()), "served by sql\n");
    world.until("at rest again", |w| {
        w.state("db") == "listening" && w.logged("db").len() == 1
    });
    world.hold_manager();
    let waits = connect(&world).unwrap();
    world.release_manager();
    assert_eq!(answer(waits), "served by sql\n");
    // One run serves one; a second client waits for the next.
    let two = [connect(&world).unwrap(), connect(&world).unwrap()];
    assert_eq!(two.map(answer), ["served by sql\n", "served by sql\n"]);
    world.until("all said", |w| w.logged("db").len() == 4);
    assert_eq!(world.spawned().iter().filter(|name| *name == "app").count(), 1);
}

#[test]
fn who_connects_to_a_failed_or_disabled_unit_is_refused() {
    let fails = unit(
        "exit 3",
        &SOCKET.replacen('{', r#"{"service":{"command":["/bin/false"],"restart":"never"},"#, 1),
    );
    let mut world = World::new(&[("db", &fails)]);
    world.until("listening", |w| w.state("db") == "listening");
    let first = connect(&world).unwrap();
    world.until("failed", |w| w.state("db") == "failed");
    world.until("closed", |w| connect(w).is_err());
    drop(first);
    world.post("/v1/units/db/stop");
    world.until("open again", |w| w.state("db") == "listening" && connect(w).is_ok());
    world.until("failed again", |w| w.state("db") == "failed");
    world.post("/v1/units/db/stop");
    world.post("/v1/units/db/disable");
    world.until("closed", |w| w.state("db") == "stopped" && connect(w).is_err());
    world.post("/v1/units/db/enable");
    world.until("open", |w| w.state("db") == "listening");
}

#[test]
fn a_unit_that_leaves_its_connection_waiting_does_not_take_the_machine() {
    let mut world = World::new(&[("db", &unit("exit 0", SOCKET))]);
    world.until("listening", |w| w.state("db") == "listening");
    let _waits = connect(&world).unwrap();
    let paused = "unit db: started 20 times in a moment by what it waits for, without taking it; a pause of 2 s";
    world.until("paused", |w| w.console().contains(paused) && w.spawned().len() == 20);
    world.until("tried again", |w| w.spawned().len() > 20);
}

#[test]
fn what_lies_in_a_folder_starts_the_unit_until_it_is_empty() {
    let more = r#"{"state":{"/spool":{"user":"root"}},"path":{"not_empty":"/spool"}}"#;
    let mut world = World::new(&[("worker", &unit(TAKE, more))]);
    world.until("watching", |w| w.state("worker") == "listening");
    let spool = world.at("data/state/worker/spool");
    std::fs::create_dir_all(&spool).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(spool.join(name), "x").unwrap();
    }
    world.until("taken", |w| {
        w.logged("worker").len() == 3 && w.state("worker") == "listening"
    });
    assert_eq!(world.logged("worker"), ["took a", "took b", "took c"]);
    world.hold_manager();
    std::fs::write(spool.join("d"), "x").unwrap();
    world.release_manager();
    world.until("taken", |w| {
        w.logged("worker").last().is_some_and(|line| line == "took d")
    });
    assert_eq!(world.spawned().len(), 4);
}

#[test]
fn a_change_starts_the_unit_once_also_one_that_comes_while_it_runs() {
    let program =
        r#"print "ran\n"; if (-e "$ENV{STATE}/wait") { unlink "$ENV{STATE}/wait"; sleep 1 until -e "$ENV{STATE}/go" }"#;
    let more = r#"{"state":{"/conf":{"user":"root"}},"path":{"changed":"/conf"}}"#;
    let mut world = World::new(&[("worker", &unit(program, more))]);
    world.until("watching", |w| w.state("worker") == "listening");
    let conf = world.at("data/state/worker/conf");
    std::fs::create_dir_all(&conf).unwrap();
    // To make the folder was a change.
    world.until("ran", |w| {
        w.logged("worker").len() == 1 && w.state("worker") == "listening"
    });
    std::fs::write(conf.join("wait"), "").unwrap();
    world.until("runs", |w| w.state("worker") == "ready" && !conf.join("wait").exists());
    std::fs::write(conf.join("go"), "").unwrap();
    world.until("ran again for what came meanwhile", |w| {
        w.logged("worker").len() == 3 && w.state("worker") == "listening"
    });
    world.kill_manager();
    std::fs::write(conf.join("more"), "").unwrap();
    world.until("ran", |w| {
        w.logged("worker").len() == 4 && w.state("worker") == "listening"
    });
}

//! Units that are started by what comes: a connection, something at a path, a time that was missed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::daemons::{AGENT, CAIRN, Guest, PATIENCE, STOP};
use super::*;

/// The port of `echo`, by TCP and UDP, and of the appliance, by TCP.
pub(super) const ECHO: u16 = 7007;
/// The end of a probe of a port or a Unix socket at which nobody listens.
const ECONNREFUSED: &str = "refused (errno 111)";

/// The sockets of `echo`, each by its name and its place as who connects on the host sees it.
fn sockets(guest: &mut Guest) -> [(&'static str, String); 3] {
    let appliance: Value = must(serde_json::from_str(&guest.read("/usr/lib/cairn/appliance.json")));
    // A unit's address is a function of its index.
    let at = format!("10.201.0.{}", appliance["units"]["echo"]["index"].as_u64().unwrap() + 2);
    [
        ("tcp", format!("tcp:{at}:{ECHO}")),
        ("udp", format!("udp:{at}:{ECHO}")),
        ("unix", "unix:/run/cairn/shared/echo/run-echo/echo.sock".to_owned()),
    ]
}

impl Guest {
    /// What `cairn status` says, also while a unit starts.
    pub(super) fn status(&mut self) -> String {
        self.ran(&[CAIRN, "status"], PATIENCE).1
    }

    /// What the agent does and says on the host.
    pub(super) fn agent_says(&mut self, words: &[&str]) -> String {
        let argv = [&[AGENT], words].concat();
        let (status, said) = self.ran(&argv, PATIENCE);
        assert_eq!(status, 0, "{argv:?}: {said}");
        said.trim_end().to_owned()
    }

    fn wait_listening(&mut self, name: &str) {
        let unit = self.wait(name, "listens and rests", |unit| unit["state"] == "listening");
        assert_eq!((&unit["pid"], &unit["failures"]), (&0.into(), &0.into()), "{unit}");
    }

    /// The lines that a unit itself has written.
    pub(super) fn written(&mut self, name: &str) -> Vec<String> {
        let text = self.cairn(&["logs", name, "-n", "all", "-o", "json"]);
        let records = text.lines().map(|line| must(serde_json::from_str::<Value>(line)));
        records
            .filter(|record| record["_TRANSPORT"] == "stdout")
            .map(|record| record["MESSAGE"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until a unit has written so many lines, which must be these.
    pub(super) fn wait_written(&mut self, name: &str, lines: &[&str]) {
        let mut all = Vec::new();
        wait_until(&format!("{name} has written {lines:?}"), PATIENCE, || {
            all = self.written(name);
            all.len() >= lines.len()
        });
        assert_eq!(all, lines, "{name}");
    }

    /// Waits until a manager answers.
    pub(super) fn wait_answered(&mut self) {
        wait_until("a manager answers", PATIENCE, || {
            self.ran(&[CAIRN, "status"], PATIENCE).0 != 4
        });
    }
}

pub(super) fn a_connection_starts_the_unit_and_is_answered(guest: &mut Guest) {
    guest.wait_listening("echo");
    let status = guest.status();
    let line = status.lines().find(|line| line.starts_with("echo ")).unwrap();
    assert!(line.contains(" listening "), "{status}");
    let places = sockets(guest);
    for (name, place) in &places {
        assert_eq!(guest.agent_says(&["say", "hello", place]), format!("{name}: hello"));
        let unit = guest.wait("echo", "runs", |unit| unit["state"] == "ready");
        // The others are answered by the process that the first one started.
        let all: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
        let said = guest.agent_says(&[&["say", "all"], all.as_slice()].concat());
        assert_eq!(said, "tcp: all\nudp: all\nunix: all");
        assert_eq!(guest.unit("echo")["pid"], unit["pid"]);
        if *name == "udp" {
            guest.cairn(&["stop", "echo"]);
        } else {
            // It ends by itself.
            assert_eq!(guest.agent_says(&["say", "bye", place]), format!("{name}: bye"));
        }
        guest.wait_listening("echo");
    }
    // From outside, by the port that the appliance publishes.
    let outside = must(guest.0.port(ECHO));
    let mut stream = must(TcpStream::connect(("127.0.0.1", outside)));
    must(stream.set_read_timeout(Some(PATIENCE)));
    must(stream.write_all(b"bye\n"));
    let mut said = String::new();
    must(stream.read_to_string(&mut said));
    assert_eq!(said, "tcp: bye\n");
    guest.wait_listening("echo");
}

pub(super) fn a_connection_made_while_the_manager_dies_is_answered(guest: &mut Guest) {
    guest.wait_listening("echo");
    let manager = guest.processes("manager")[0].to_string();
    let places = sockets(guest);
    let all: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
    let said = guest.agent_says(&[&["outlive", &manager, "hello"], all.as_slice()].concat());
    assert_eq!(said, "tcp: hello\nudp: hello\nunix: hello");
    guest.wait_answered();
    let other = guest.processes("manager")[0].to_string();
    assert_ne!(other, manager);
    guest.wait("echo", "runs", |unit| unit["state"] == "ready");
    // The successor listens as the first one did.
    guest.cairn(&["stop", "echo"]);
    guest.wait_listening("echo");
    assert_eq!(guest.agent_says(&["say", "bye", all[0]]), "tcp: bye");
    guest.wait_listening("echo");
}

pub(super) fn who_connects_to_a_disabled_unit_is_refused(guest: &mut Guest) {
    let places = sockets(guest);
    guest.cairn(&["disable", "echo"]);
    guest.wait("echo", "has stopped", |unit| unit["state"] == "stopped");
    for (name, place) in &places {
        let (_, at) = place.split_once(':').unwrap();
        if *name == "udp" {
            let (status, said) = guest.ran(&[AGENT, "say", "hello", place], PATIENCE);
            assert!(status != 0 && said.contains("Connection refused"), "{status}: {said}");
            continue;
        }
        let probe = if *name == "tcp" { "connect" } else { "unix" };
        let said = guest.agent_says(&["probe", probe, at]);
        assert_eq!(said, format!("PROBE {probe}: {ECONNREFUSED}"));
    }
    assert_eq!(guest.unit("echo")["state"], "stopped");
    guest.cairn(&["enable", "echo"]);
    guest.wait_listening("echo");
    assert_eq!(guest.agent_says(&["say", "bye", &places[0].1]), "tcp: bye");
    guest.wait_listening("echo");
}

pub(super) fn what_appears_at_a_path_starts_the_unit_also_while_the_manager_dies(guest: &mut Guest) {
    const UNITS: [&str; 3] = ["finder", "sorter", "reader"];
    // A oneshot that is done is told to be ready, and waits all the same.
    let rest = |guest: &mut Guest| {
        for (unit, state) in [("finder", "listening"), ("sorter", "ready"), ("reader", "ready")] {
            guest.wait(unit, "rests", |unit| unit["state"] == state);
        }
    };
    let at = |unit: &str, file: &str| format!("/data/state/{unit}/var-lib-{unit}/{file}");
    for unit in UNITS {
        guest.wait_listening(unit);
        // Its folder is made by its first start, which finds nothing there.
        guest.cairn(&["start", unit]);
    }
    rest(guest);
    let appear = |guest: &mut Guest, text: &str| {
        guest.write(&at("finder", "found"), "");
        guest.write(&at("sorter", text), "");
        // Another file in one step, so that it is one change; a new one beside it is none.
        guest.write(&at("reader", "new"), text);
        guest.agent_says(&["rename", &at("reader", "new"), &at("reader", "settings")]);
    };
    appear(guest, "one");
    guest.wait_written("finder", &["took found"]);
    guest.wait_written("sorter", &["took one"]);
    guest.wait_written("reader", &["read ", "read one"]);
    rest(guest);
    let manager = guest.processes("manager")[0];
    // It notices nothing any more, and then it is gone.
    must(must(guest.0.agent()).signal(manager, STOP));
    appear(guest, "two");
    must(must(guest.0.agent()).kill(manager));
    guest.wait_answered();
    assert_ne!(guest.processes("manager"), [manager]);
    guest.wait_written("finder", &["took found", "took found"]);
    guest.wait_written("sorter", &["took one", "took two"]);
    guest.wait_written("reader", &["read ", "read one", "read two"]);
    rest(guest);
}

/// Leaves the machine after its second boot.
pub(super) fn a_time_that_was_missed_while_the_machine_was_off_is_made_up_for(guest: &mut Guest) {
    const STAMP: &str = "/data/timers/night";
    const DAYS: u64 = 2 * 86_400;
    assert!(
        guest.written("night").is_empty(),
        "nothing was missed before the first boot"
    );
    guest.cairn(&["start", "night"]);
    guest.wait_written("night", &["night"]);
    wait_until("the time of its start is on the disk", PATIENCE, || {
        must(guest.0.agent()).read_file(STAMP).is_ok()
    });
    let started: u64 = must(guest.read(STAMP).parse());
    // As if it had been off since; the manager has the time of this boot's start in memory, and reads the disk's at the next boot.
    guest.write(STAMP, &(started - DAYS).to_string());
    // Nothing else has to start then.
    let others = daemons::DAEMONS.map(|unit| format!("[units.{unit}]\nenabled = false\n"));
    guest.write("/data/site/site.toml", &others.concat());
    let seen = guest.0.serial.mark();
    guest.cairn(&["reboot"]);
    must(guest.0.wait_reset(OFF));
    must(guest.0.serial.wait_from(seen, "test agent: serving", READY));
    guest.wait_answered();
    guest.wait_written("night", &["night", "night"]);
    wait_until("the time of this start is on the disk", PATIENCE, || {
        must(guest.read(STAMP).parse::<u64>()) > started - DAYS
    });
    // It is the second boot, with the owner's choices of the first.
    assert_eq!(guest.unit("knot")["state"], "stopped");
}

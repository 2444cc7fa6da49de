//! Daemons of other people's, each from Debian's own service file, and what the supervisor promises for any unit
//! (`appliances/daemons-test.toml`). One machine for all of it: the parts do not disturb each other.

use std::collections::BTreeMap;
use std::time::Duration;

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};
use serde_json::Value;

use super::*;

pub(super) const CAIRN: &str = "/usr/bin/cairn";
pub(super) const AGENT: &str = "/usr/lib/cairn/test-agent";
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// All that say themselves when they are ready.
pub(super) const DAEMONS: [&str; 7] = ["haproxy", "knot", "mosquitto", "php-fpm", "tor", "unbound", "valkey"];
/// Those that answer a reload by RELOADING=1 and, when it is done, READY=1.
const RELOADERS: [&str; 4] = ["haproxy", "knot", "tor", "unbound"];
/// SIGSTOP.
pub(super) const STOP: i32 = 19;

pub(super) struct Guest(pub(super) Machine);

impl Guest {
    /// A program's exit status and both of its outputs.
    pub(super) fn ran(&mut self, argv: &[&str], within: Duration) -> (i32, String) {
        let output = must(must(self.0.agent()).exec(argv, within));
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }

    /// What `cairn` says, which must succeed.
    pub(super) fn cairn(&mut self, words: &[&str]) -> String {
        let argv = [&[CAIRN], words].concat();
        let (status, said) = self.ran(&argv, PATIENCE);
        assert_eq!(status, 0, "{argv:?}: {said}");
        said
    }

    /// What `cairn` refuses.
    fn refused(&mut self, words: &[&str]) -> String {
        let argv = [&[CAIRN], words].concat();
        let (status, said) = self.ran(&argv, PATIENCE);
        assert_eq!(status, 1, "{argv:?}: {said}");
        said
    }

    pub(super) fn units(&mut self) -> BTreeMap<String, Value> {
        let (_, said) = self.ran(&[CAIRN, "--json", "status"], PATIENCE);
        let status: Value = must(serde_json::from_str(&said));
        let units = status["units"].as_array().unwrap().clone();
        units
            .into_iter()
            .map(|unit| (unit["name"].as_str().unwrap().to_owned(), unit))
            .collect()
    }

    pub(super) fn unit(&mut self, name: &str) -> Value {
        self.units().remove(name).unwrap()
    }

    /// Waits until a unit's status is so.
    pub(super) fn wait(&mut self, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_until(&format!("{name} {what}"), PATIENCE, || {
            last = self.unit(name);
            so(&last)
        });
        last
    }

    pub(super) fn wait_ready(&mut self, name: &str) {
        self.wait(name, "is ready", |unit| unit["state"] == "ready");
    }

    pub(super) fn processes(&mut self, group: &str) -> Vec<i32> {
        let text = self.read(&format!("/sys/fs/cgroup/cairn/{group}/cgroup.procs"));
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    pub(super) fn read(&mut self, path: &str) -> String {
        let bytes = must(must(self.0.agent()).read_file(path));
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    pub(super) fn write(&mut self, path: &str, text: &str) {
        must(must(self.0.agent()).write_file(path, text.as_bytes()));
    }

    pub(super) fn limit(&mut self, unit: &str, file: &str) -> String {
        self.read(&format!("/sys/fs/cgroup/cairn/units/{unit}/{file}"))
    }
}

pub(super) fn boot(name: &str) -> (Home, Guest) {
    let image = must(images::daemons());
    let options = Options {
        ports: vec![demand::ECHO],
        direct: Some(image.clone()),
        ..Options::default()
    };
    let home = must(Home::new(name, &image, options));
    let machine = must(home.start());
    must(machine.wait_for("Ready: ", READY * 2));
    (home, Guest(machine))
}

/// Each part leaves every unit as it found it.
#[test]
fn real_daemons_speak_for_themselves_and_the_supervisor_keeps_its_promises_to_them() {
    let (home, mut guest) = boot("daemons");
    each_is_ready_by_its_own_word(&mut guest);
    nothing_else_makes_a_unit_ready(&mut guest);
    confined::limits_are_in_force_as_declared(&mut guest);
    a_reload_is_over_when_the_service_says_so(&mut guest);
    instances_of_a_template_are_units_of_their_own(&mut guest);
    a_timer_fires_and_its_log_is_followed(&mut guest);
    a_unit_without_memory_is_killed_as_a_whole_and_told_so(&mut guest);
    a_service_that_hangs_is_started_again_by_its_watchdog(&mut guest);
    the_owners_choices_are_put_in_force_or_refused(&mut guest);
    what_the_units_use_is_shown(&mut guest);
    a_units_file_is_judged_on_the_appliance(&mut guest);
    another_manager_takes_over_or_is_given_up(&mut guest);
    forward::another_machine_gets_the_log_by_tcp(&mut guest);
    forward::another_machine_gets_the_log_by_udp(&mut guest);
    demand::a_connection_starts_the_unit_and_is_answered(&mut guest);
    demand::a_connection_made_while_the_manager_dies_is_answered(&mut guest);
    demand::who_connects_to_a_disabled_unit_is_refused(&mut guest);
    demand::what_appears_at_a_path_starts_the_unit_also_while_the_manager_dies(&mut guest);
    confined::a_lesson_names_the_call_and_leaves_the_unit_confined(&mut guest);
    confined::a_unit_that_spins_gets_its_share_and_no_more(&mut guest);
    confined::who_enters_a_unit_has_a_terminal_there(&mut guest);
    a_stop_ends_each_cleanly(&mut guest);
    demand::a_time_that_was_missed_while_the_machine_was_off_is_made_up_for(&mut guest);
    switch_off(guest.0);
    is_clean(&home);
}

fn each_is_ready_by_its_own_word(guest: &mut Guest) {
    let units = guest.units();
    for name in DAEMONS {
        let unit = &units[name];
        assert_eq!(
            (&unit["state"], &unit["failures"]),
            (&"ready".into(), &0.into()),
            "{unit}"
        );
        let said = guest.cairn(&["explain", name]);
        assert!(said.contains("when it says so (sd_notify)"), "{said}");
    }
    let status = guest.cairn(&["status"]);
    for said in [
        "Ready to accept connections",
        "Ready.",
        "Working on queue 1",
        "Working on queue 2",
    ] {
        assert!(status.contains(said), "{said:?} is not in\n{status}");
    }
    let php = guest.wait("php-fpm", "counts its processes", |unit| {
        unit["says"]
            .as_str()
            .is_some_and(|says| says.starts_with("Processes active: "))
    });
    assert_eq!(php["failures"], 0, "it said in time that it is alive: {php}");
}

fn nothing_else_makes_a_unit_ready(guest: &mut Guest) {
    guest.cairn(&["start", "shy"]);
    guest.wait("shy", "has a process", |unit| unit["pid"] != 0);
    // It has run for as long as it takes to say nothing: two lines of another unit.
    let (status, said) = guest.ran(&[AGENT, "follow", "tick", "2"], PATIENCE);
    assert_eq!(status, 0, "{said}");
    let unit = guest.unit("shy");
    assert_eq!((&unit["state"], &unit["says"]), (&"starting".into(), &"".into()));
    guest.write("/data/state/shy/var-lib-shy/speak", "");
    let unit = guest.wait("shy", "is ready", |unit| unit["state"] == "ready");
    assert_eq!(unit["says"], "Said so at last");
}

fn a_reload_is_over_when_the_service_says_so(guest: &mut Guest) {
    for name in RELOADERS {
        let before = guest.unit(name)["pid"].clone();
        let words = format!("unit {name}: reloaded");
        let seen = guest.0.serial.mark();
        guest.cairn(&["reload", name]);
        must(guest.0.serial.wait_from(seen, &words, PATIENCE));
        let unit = guest.wait(name, "is not reloading", |unit| unit["reloading"] == false);
        assert_eq!((&unit["state"], &unit["pid"]), (&"ready".into(), &before), "{unit}");
    }
}

fn instances_of_a_template_are_units_of_their_own(guest: &mut Guest) {
    for number in ["1", "2"] {
        let name = format!("worker@{number}");
        let log = guest.cairn(&["logs", &name, "-n", "all"]);
        assert!(log.contains(&format!("worker {number} works")), "{log}");
    }
    let other = guest.unit("worker@2")["pid"].clone();
    let one = guest.unit("worker@1")["pid"].clone();
    guest.cairn(&["restart", "worker@1"]);
    guest.wait("worker@1", "is another process", |unit| {
        unit["state"] == "ready" && unit["pid"] != one
    });
    assert_eq!(guest.unit("worker@2")["pid"], other);
}

fn a_timer_fires_and_its_log_is_followed(guest: &mut Guest) {
    let (status, said) = guest.ran(&[AGENT, "follow", "tick", "3"], PATIENCE);
    assert_eq!((status, said.lines().count()), (0, 3), "{said}");
    assert!(said.contains("tick: tick"), "{said}");
}

pub(super) fn neighbours(guest: &mut Guest) -> BTreeMap<&'static str, Vec<i32>> {
    DAEMONS
        .into_iter()
        .map(|unit| (unit, guest.processes(&format!("units/{unit}"))))
        .collect()
}

fn a_unit_without_memory_is_killed_as_a_whole_and_told_so(guest: &mut Guest) {
    guest.wait_ready("hog");
    let (before, others) = (guest.processes("units/hog"), neighbours(guest));
    // The stub, the service and its child.
    assert_eq!(before.len(), 3, "{before:?}");
    guest.write("/data/state/hog/var-lib-hog/eat", "");
    let reason = "used more memory than its limit of 64M";
    let unit = guest.wait("hog", "is told to have used too much", |unit| unit["reason"] == reason);
    assert_eq!(unit["state"], "restarting");
    let unit = guest.wait("hog", "is ready again", |unit| unit["state"] == "ready");
    assert_eq!(unit["failures"], 1);
    let after = guest.processes("units/hog");
    assert!(
        after.len() == 3 && after.iter().all(|pid| !before.contains(pid)),
        "{after:?}"
    );
    assert_eq!(neighbours(guest), others);
    let log = guest.cairn(&["logs", "hog", "--priority", "err"]);
    assert!(log.contains(reason), "{log}");
    let kernel = guest.cairn(&["logs", "kernel", "--grep", "oom-kill|Memory cgroup out of memory"]);
    assert!(kernel.contains("/cairn/units/hog"), "{kernel}");
}

fn a_service_that_hangs_is_started_again_by_its_watchdog(guest: &mut Guest) {
    let before = guest.processes("units/php-fpm");
    for pid in &before {
        must(must(guest.0.agent()).signal(*pid, STOP));
    }
    must(
        guest
            .0
            .wait_for("unit php-fpm: failed: was silent for 30000 ms (watchdog)", PATIENCE),
    );
    guest.wait_ready("php-fpm");
    let after = guest.processes("units/php-fpm");
    assert!(after.iter().all(|pid| !before.contains(pid)), "{after:?}");
}

fn the_owners_choices_are_put_in_force_or_refused(guest: &mut Guest) {
    let site = "/data/site/site.toml";
    guest.cairn(&["disable", "mosquitto"]);
    guest.wait("mosquitto", "has stopped", |unit| unit["state"] == "stopped");
    assert!(guest.processes("units/mosquitto").is_empty());
    assert_eq!(guest.read(site), "[units.mosquitto]\nenabled = false");
    guest.cairn(&["enable", "mosquitto"]);
    guest.wait_ready("mosquitto");
    let pids = guest.processes("units/mosquitto");
    let text = "[units.mosquitto.limits]\nmemory_max = \"100M\"\n";
    guest.write(site, text);
    let said = guest.cairn(&["reload"]);
    assert!(said.contains("mosquitto") && said.contains("limits"), "{said}");
    assert_eq!(guest.limit("mosquitto", "memory.max"), "104857600");
    assert_eq!(guest.processes("units/mosquitto"), pids);
    guest.write(site, "[units.mosquitto.limits]\nmemory_maxx = \"50M\"\n");
    let said = guest.refused(&["reload"]);
    assert!(said.contains("site.toml:2:") && said.contains("memory_max"), "{said}");
    assert_eq!(guest.limit("mosquitto", "memory.max"), "104857600");
    guest.write(site, text);
    guest.cairn(&["reload"]);
}

fn what_the_units_use_is_shown(guest: &mut Guest) {
    let table = guest.cairn(&["top", "--once"]);
    let figures: Value = must(serde_json::from_str(&guest.cairn(&["--json", "top"])));
    let units = figures["units"].as_array().unwrap();
    for name in DAEMONS {
        assert!(table.lines().any(|line| line.starts_with(name)), "{table}");
        let unit = units.iter().find(|unit| unit["name"] == name).unwrap();
        for key in ["cpu_us", "memory", "memory_max", "processes"] {
            assert!(unit[key].as_u64().is_some_and(|n| n > 0), "{key} of {unit}");
        }
        let pressure = guest.limit(name, "cpu.pressure");
        assert!(pressure.starts_with("some avg10="), "{pressure}");
        assert!(unit["pressure"]["cpu"].is_number(), "{unit}");
    }
}

fn a_units_file_is_judged_on_the_appliance(guest: &mut Guest) {
    let good = "description = \"A good one\"\n[service]\ncommand = [\"/bin/x\"]\n";
    guest.write("/run/good.toml", good);
    assert!(
        guest
            .cairn(&["check", "/run/good.toml"])
            .contains("Nothing is wrong with it.")
    );
    guest.write("/run/bad.toml", &good.replace("command", "comand"));
    let said = guest.refused(&["check", "/run/bad.toml"]);
    assert!(
        said.contains("bad.toml:3:") && said.contains("did you mean `command`?"),
        "{said}"
    );
}

fn another_manager_takes_over_or_is_given_up(guest: &mut Guest) {
    const IMAGES: &str = "/usr/lib/cairn/cairn-manager";
    let services = neighbours(guest);
    let program = |guest: &mut Guest| -> (Vec<i32>, String) {
        let pids = guest.processes("manager");
        let exe = pids
            .first()
            .map(|pid| must(guest.0.agent()).read_link(&format!("/proc/{pid}/exe")));
        (pids, exe.and_then(Result::ok).unwrap_or_default())
    };
    let runs = |guest: &mut Guest, wanted: &str| {
        wait_until(&format!("{wanted} is the manager and answers"), PATIENCE, || {
            program(guest).1 == wanted && guest.ran(&[CAIRN, "status"], PATIENCE).0 == 0
        });
    };
    for (from, to) in [(IMAGES, "/data/manager-2"), (CAIRN, "/data/no-manager")] {
        let (status, said) = guest.ran(&[AGENT, "copy", from, to], PATIENCE);
        assert_eq!(status, 0, "{said}");
    }
    runs(guest, IMAGES);
    guest.cairn(&["manager", "upgrade", "/data/manager-2"]);
    runs(guest, "/data/manager-2");
    assert_eq!(neighbours(guest), services);
    // Something that is no manager, by which this one is replaced all the same.
    guest.cairn(&["manager", "upgrade", "/data/no-manager"]);
    must(guest.0.wait_for("going back to the one in the image", PATIENCE));
    runs(guest, IMAGES);
    assert_eq!(neighbours(guest), services);
    assert!(
        guest
            .refused(&["manager", "upgrade", "/data/absent"])
            .contains("/data/absent")
    );
}

fn a_stop_ends_each_cleanly(guest: &mut Guest) {
    for name in DAEMONS {
        guest.cairn(&["stop", name]);
    }
    for name in DAEMONS {
        guest.wait(name, "has stopped", |unit| unit["state"] == "stopped");
        assert!(guest.processes(&format!("units/{name}")).is_empty(), "{name}");
    }
    // None of them had to be killed: the stub ends as the service did, and a killed one is told.
    let log = guest.cairn(&["logs", "valkey", "-n", "all"]);
    assert!(log.contains("bye bye"), "{log}");
    let log = guest.cairn(&["logs", "unbound", "knot", "tor", "mosquitto", "-n", "all"]);
    for words in [
        "service stopped",
        "shutting down",
        "Catching signal TERM|Interrupt",
        "mosquitto version",
    ] {
        assert!(
            words.split('|').any(|words| log.contains(words)),
            "{words:?} is not in\n{log}"
        );
    }
}

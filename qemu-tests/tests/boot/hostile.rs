//! A unit that tries everything to get out, beside two that must not notice (`appliances/hostile-test.toml`).
//!
//! Each probe is refused for the reason that its wall gives. The same probe made on the host of the same machine is the
//! control: there it succeeds, or fails for another reason, so that no refusal is an accident.

use std::collections::BTreeMap;
use std::time::Duration;

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};
use serde_json::Value;

use super::*;

const PROGRAM: &str = "/usr/lib/cairn/test-agent";
const ORDERS: &str = "/data/state/hostile/var-lib-hostile/orders";
const NEIGHBOURS: [&str; 2] = ["caddy", "slapd"];
const PATIENCE: Duration = Duration::from_secs(120);

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EADDRNOTAVAIL: i32 = 99;
const EDQUOT: i32 = 122;

/// How a probe ended, in its own words.
fn errno(number: i32) -> String {
    format!("refused (errno {number})")
}

struct Guest {
    machine: Machine,
    manifest: Value,
}

impl Guest {
    fn run(&mut self, argv: &[&str]) -> String {
        let output = must(must(self.machine.agent()).exec(argv, PATIENCE));
        assert_eq!(
            output.status,
            0,
            "{argv:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A probe in the unit.
    fn inside(&mut self, probe: &[&str]) -> String {
        // After it was killed for what it did, the unit needs a moment until it takes orders again.
        let argv = [&[PROGRAM, "ask", ORDERS], probe].concat();
        let mut said = String::new();
        wait_until("the hostile unit takes orders", PATIENCE, || {
            let output = must(must(self.machine.agent()).exec(&argv, PATIENCE));
            said = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status == 0
        });
        answer(probe, &said)
    }

    /// The same probe on the host.
    fn outside(&mut self, probe: &[&str]) -> String {
        let argv = [&[PROGRAM, "probe"], probe].concat();
        let said = self.run(&argv);
        answer(probe, &said)
    }

    /// Refused inside for this reason, and not so on the host.
    fn refused(&mut self, probe: &[&str], reason: &str) {
        assert_eq!(self.inside(probe), reason, "{probe:?} in the unit");
        let control = self.outside(probe);
        assert_ne!(control, reason, "{probe:?} on the host must not end in the same way");
        assert!(!control.contains("invalid"), "{probe:?}: {control}");
    }

    /// As [`Guest::refused`], and it succeeds on the host.
    fn allowed_outside_only(&mut self, probe: &[&str], reason: &str) {
        self.refused(probe, reason);
        assert_eq!(self.outside(probe), "SUCCEEDED", "{probe:?} on the host");
    }

    fn processes(&mut self, unit: &str) -> Vec<i32> {
        let path = format!("/sys/fs/cgroup/cairn/units/{unit}/cgroup.procs");
        let text = must(must(self.machine.agent()).read_file(&path));
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    fn neighbours(&mut self) -> BTreeMap<&'static str, Vec<i32>> {
        NEIGHBOURS
            .into_iter()
            .map(|unit| (unit, self.processes(unit)))
            .collect()
    }

    /// A unit's addresses: a function of its index.
    fn addresses(&self, unit: &str) -> [String; 2] {
        let index = self.manifest["units"][unit]["index"].as_u64().unwrap();
        [
            format!("10.201.0.{}", index + 2),
            format!("[fd63:6169:726e::{:x}]", index + 2),
        ]
    }

    /// Both answer, from the same processes as ever.
    fn neighbours_are_well(&mut self, before: &BTreeMap<&'static str, Vec<i32>>) {
        let (status, _) = must(https::get(must(self.machine.port(443)), "/"));
        assert_eq!(status, 200);
        assert!(must(ldap(&mut self.machine).exists(SUFFIX)));
        assert_eq!(&self.neighbours(), before);
        let status = must(must(self.machine.agent()).exec(&["/usr/bin/cairn", "--json", "status"], PATIENCE));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        for unit in status["units"].as_array().unwrap() {
            if NEIGHBOURS.contains(&unit["name"].as_str().unwrap()) {
                assert_eq!(unit["state"], "ready", "{unit}");
            }
        }
    }
}

/// The end of a probe from its line.
fn answer(probe: &[&str], said: &str) -> String {
    let start = format!("PROBE {}: ", probe[0]);
    let line = said.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("{probe:?} said {said:?}")).to_owned()
}

#[test]
fn a_hostile_unit_reaches_nothing_and_its_neighbours_do_not_notice() {
    let options = Options {
        ports: vec![443, 389],
        ..Options::default()
    };
    let home = must(Home::new("hostile", &must(images::hostile()), options));
    let mut machine = ready(&home);
    let manifest = must(must(machine.agent()).read_file("/usr/lib/cairn/appliance.json"));
    let manifest = serde_json::from_slice(&manifest).unwrap();
    let mut guest = Guest { machine, manifest };
    let before = guest.neighbours();
    assert!(before.values().all(|pids| !pids.is_empty()), "{before:?}");

    what_others_have_is_out_of_reach(&mut guest, &before);
    the_network_ends_at_what_is_declared(&mut guest);
    the_kernel_takes_no_orders(&mut guest);
    guest.neighbours_are_well(&before);
    what_is_in_force_is_what_was_declared(&mut guest);
    taking_everything_takes_it_from_itself_only(&mut guest, &before);
    what_is_in_force_is_what_was_declared(&mut guest);

    switch_off(guest.machine);
    is_clean(&home);
}

fn what_others_have_is_out_of_reach(guest: &mut Guest, before: &BTreeMap<&'static str, Vec<i32>>) {
    let victim = before["slapd"][0].to_string();
    guest.allowed_outside_only(&["signal", &victim], &errno(ESRCH));
    for path in [
        "/data/state/slapd",
        "/data/secrets/slapd",
        "/data/secrets/.ca",
        "/services/slapd/etc",
        "/run/cairn/notify",
        "/sys/class",
        &format!("/proc/{victim}/root/etc"),
    ] {
        guest.allowed_outside_only(&["list", path], &errno(ENOENT));
    }
    for path in ["/data/secrets/slapd/admin", "/usr/lib/cairn/appliance.json", "/dev/vda"] {
        guest.allowed_outside_only(&["read", path], &errno(ENOENT));
    }
    // The manager's own door, and what the stub has open.
    guest.allowed_outside_only(&["unix", "/run/cairn/control.sock"], &errno(ENOENT));
    guest.allowed_outside_only(&["list", "/proc/1/fd"], &errno(EACCES));
    guest.allowed_outside_only(&["list", "/proc/1/root"], &errno(EACCES));
    assert_eq!(guest.inside(&["read", "/proc/1/mem"]), errno(EACCES));
}

fn the_network_ends_at_what_is_declared(guest: &mut Guest) {
    let closed = "refused (timed out)";
    for (unit, port) in [("slapd", 389), ("caddy", 443)] {
        for address in guest.addresses(unit) {
            guest.allowed_outside_only(&["connect", &format!("{address}:{port}")], closed);
        }
    }
    // The host of the appliance, and what is outside: the control is answered, if only by "nobody listens here".
    for address in ["10.201.0.1:22", "[fd63:6169:726e::1]:22", "10.0.2.2:9"] {
        let said = guest.inside(&["connect", address]);
        // Without a route to the outside the kernel itself refuses.
        assert!(
            [closed, &errno(101), &errno(113)].contains(&said.as_str()),
            "{address}: {said}"
        );
        assert_ne!(guest.outside(&["connect", address]), said, "{address}");
    }
    let [slapd, slapd6] = guest.addresses("slapd");
    let [caddy, caddy6] = guest.addresses("caddy");
    for (from, to) in [(caddy, slapd), (caddy6, slapd6)] {
        let probe = ["spoof", &format!("{from}:0"), &format!("{to}:389")];
        assert_eq!(guest.inside(&probe), errno(EADDRNOTAVAIL));
    }
    for kind in ["packet", "raw", "raw6"] {
        guest.allowed_outside_only(&["socket", kind], &errno(EPERM));
    }
    for kind in ["vsock", "alg", "bluetooth"] {
        guest.refused(&["socket", kind], &errno(EPERM));
    }
}

fn the_kernel_takes_no_orders(guest: &mut Guest) {
    guest.allowed_outside_only(&["mount", "/tmp"], &errno(EPERM));
    guest.allowed_outside_only(&["unshare"], &errno(EPERM));
    guest.allowed_outside_only(&["limit"], &errno(EPERM));
    assert_eq!(guest.inside(&["module"]), errno(EPERM));
    assert_eq!(guest.inside(&["clock"]), errno(EPERM));
    assert_eq!(guest.inside(&["device", "/tmp/kmsg"]), errno(EPERM));
    for path in ["/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward"] {
        let probe = ["write", path, "1"];
        assert_eq!(guest.inside(&probe), errno(EACCES), "{path}");
    }
    guest.allowed_outside_only(&["write", "/proc/sysrq-trigger", "h"], &errno(EACCES));
    guest.allowed_outside_only(&["write", "/proc/self/oom_score_adj", "-1000"], &errno(EACCES));
    for path in ["/usr/x", "/x", "/etc/x", "/dev/x"] {
        assert_eq!(guest.inside(&["create", path]), errno(EROFS), "{path}");
    }
    // What it is granted works: the probes are not refused because nothing works.
    assert_eq!(guest.inside(&["create", "/var/lib/hostile/x"]), "SUCCEEDED");
    assert_eq!(guest.inside(&["create", "/tmp/x"]), "SUCCEEDED");
}

fn taking_everything_takes_it_from_itself_only(guest: &mut Guest, before: &BTreeMap<&'static str, Vec<i32>>) {
    guest.allowed_outside_only(&["fork", "150"], &errno(EAGAIN));
    guest.neighbours_are_well(before);

    let killed = "refused (the unit was killed)";
    assert_eq!(guest.inside(&["memory", "200"]), killed);
    assert_eq!(guest.outside(&["memory", "200"]), "SUCCEEDED");
    guest.neighbours_are_well(before);
    // Memory or the file system's size: whichever is smaller.
    let full = guest.inside(&["fill", "/tmp/full", "200"]);
    assert!([killed, &errno(ENOSPC)].contains(&full.as_str()), "{full}");
    guest.neighbours_are_well(before);

    assert_eq!(guest.inside(&["flood", "24"]), "SUCCEEDED");
    // All logs together stay below what this one unit wrote.
    let log = "/data/log";
    assert_eq!(guest.outside(&["larger", log, "0"]), "SUCCEEDED");
    assert_ne!(guest.outside(&["larger", log, "20"]), "SUCCEEDED");
    guest.neighbours_are_well(before);

    // To the last block of its share, of which the disk has more.
    let file = "/var/lib/hostile/all";
    let kept = "/data/state/hostile";
    assert_eq!(guest.inside(&["disk", file]), errno(EDQUOT));
    assert_eq!(guest.outside(&["larger", kept, "95"]), "SUCCEEDED");
    assert_ne!(guest.outside(&["larger", kept, "96"]), "SUCCEEDED");
    guest.neighbours_are_well(before);
    assert_eq!(guest.inside(&["remove", file]), "SUCCEEDED");
    guest.neighbours_are_well(before);
}

/// `cairn security` compares every unit's plan with the running processes.
fn what_is_in_force_is_what_was_declared(guest: &mut Guest) {
    // The unit is there again after it was killed.
    assert_eq!(guest.inside(&["list", "/"]), "SUCCEEDED");
    let output = must(must(guest.machine.agent()).exec(&["/usr/bin/cairn", "security"], PATIENCE));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status, 0, "{text}{}", String::from_utf8_lossy(&output.stderr));
    for unit in NEIGHBOURS.into_iter().chain(["hostile"]) {
        let line = text.lines().find(|line| line.starts_with(unit)).unwrap();
        assert!(line.ends_with("all as declared"), "{text}");
    }
}

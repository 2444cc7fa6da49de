//! A fixed address that the owner chose: it takes the place of the lease, stays over a restart, and a way back has to be confirmed.

use serde_json::Value;

use super::daemons::Guest;
use super::*;

const SITE: &str = "/data/site/site.toml";
/// The address that QEMU forwards ports to.
const FIXED: &str = "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"10.0.2.15/24\"]\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n";

fn eth0(guest: &mut Guest) -> Value {
    let state: Value = must(serde_json::from_str(&guest.cairn(&["--json", "network"])));
    state["devices"][0].clone()
}

/// Where the address of IPv4 comes from.
fn from(guest: &mut Guest, address: &str) -> String {
    let device = eth0(guest);
    let all = device["addresses"].as_array().unwrap();
    let own = all.iter().find(|one| one["address"] == address);
    own.map_or(String::new(), |one| one["from"].as_str().unwrap().to_owned())
}

fn answers(machine: &mut Machine) -> bool {
    https::get(must(machine.port(443)), "/").is_ok_and(|(status, _)| status == 200)
}

#[test]
fn a_fixed_address_takes_the_place_of_a_lease_and_stays_over_a_restart() {
    let home = set_up("network");
    let mut guest = Guest(ready(&home));
    let device = eth0(&mut guest);
    assert_eq!(
        (&device["method"], &device["lease"]["server"]),
        (&"dhcp".into(), &"10.0.2.2".into()),
        "{device}"
    );
    assert_eq!(from(&mut guest, "10.0.2.15/24"), "dhcp");

    guest.write(SITE, FIXED);
    let said = guest.cairn(&["reload"]);
    assert!(said.contains("network"), "{said}");
    wait_until("the fixed address", READY, || {
        from(&mut guest, "10.0.2.15/24") == "static"
    });
    let device = eth0(&mut guest);
    assert!(device["lease"].is_null(), "{device}");
    assert_eq!(device["routes"][0]["gateway"], "10.0.2.2", "{device}");
    assert_eq!(guest.read("/run/cairn/resolv.conf"), "nameserver 10.0.2.3");
    wait_until("an answer at the fixed address", READY, || answers(&mut guest.0));

    // A file with a mistake changes nothing.
    guest.write(SITE, &FIXED.replace("10.0.2.15/24", "10.0.2.15"));
    let (status, said) = guest.ran(&["/usr/bin/cairn", "reload"], READY);
    assert!(status == 1 && said.contains("has no prefix length"), "{said}");
    assert!(answers(&mut guest.0));
    guest.write(SITE, FIXED);
    switch_off(guest.0);

    let machine = must(home.start());
    must(machine.wait_for("Network: eth0 has 10.0.2.15, as chosen", READY));
    must(machine.wait_for("Ready: https://10.0.2.15", READY));
    let mut guest = Guest(machine);
    assert!(answers(&mut guest.0));
    assert_eq!(from(&mut guest, "10.0.2.15/24"), "static");

    // Another address holds at once for who edits the file, and the way back to this one has to be confirmed.
    guest.write(SITE, &FIXED.replace("10.0.2.15", "10.0.2.77"));
    guest.cairn(&["reload"]);
    must(guest.0.wait_for("Ready: https://10.0.2.77", READY));
    assert!(!answers(&mut guest.0));
    let history = guest.cairn(&["config", "history"]);
    let version = history
        .lines()
        .find(|line| !line.starts_with('*'))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    guest.cairn(&["config", "rollback", &version]);
    let said = guest.cairn(&["status"]);
    assert!(said.contains("cairn network confirm"), "{said}");
    wait_until("an answer at the address of before", READY, || answers(&mut guest.0));
    guest.cairn(&["network", "undo"]);
    wait_until("the other address", READY, || {
        from(&mut guest, "10.0.2.77/24") == "static"
    });
    guest.cairn(&["config", "rollback", &version]);
    wait_until("an answer at the address of before", READY, || answers(&mut guest.0));
    guest.cairn(&["network", "confirm"]);
    assert!(!guest.cairn(&["status"]).contains("cairn network confirm"));
    assert_eq!(from(&mut guest, "10.0.2.15/24"), "static");
    switch_off(guest.0);
}

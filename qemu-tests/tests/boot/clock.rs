//! The clock: of a machine that has none of its own, and kept by a time client that has no right to it (`appliances/clock-test.toml`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};
use qemu_tests::ntp::TimeServer;
use serde_json::Value;

use super::daemons::{CAIRN, Guest, PATIENCE};
use super::*;

const SITE: &str = "/data/site/site.toml";
const DAY: i64 = 86_400;

/// What the guest's clock shows, in seconds since 1970, and whether the kernel holds it to be right.
fn clock(guest: &mut Guest) -> (i64, bool) {
    let told: Value = must(serde_json::from_str(&guest.cairn(&["--json", "machine"])));
    let synchronised = told["clock"]["synchronised"].as_bool().unwrap();
    let now: jiff::Timestamp = told["clock"]["now"].as_str().unwrap().parse().unwrap();
    (now.as_second(), synchronised)
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn ask(guest: &mut Guest, server: &TimeServer) {
    let site = format!(
        "[appliance]\nname = \"clock-test\"\ntime = [\"10.0.2.2:{}\"]\n",
        server.port()
    );
    guest.write(SITE, &site);
    let said = guest.cairn(&["reload"]);
    assert!(said.contains("time"), "{said}");
}

#[test]
fn a_machine_without_a_clock_never_goes_back_and_a_time_client_without_rights_sets_it() {
    let options = Options {
        // As of a machine whose battery is empty; firmware takes a year before 1998 for one of the next century.
        clock: Some("2000-01-01T00:00:00".into()),
        ..Options::default()
    };
    let home = must(Home::new("clock", &must(images::clock()), options));
    let machine = must(home.start());
    must(machine.wait_for("The clock was before a time that has been", READY));
    must(machine.wait_for("Ready: ", READY));
    let mut guest = Guest(machine);
    // The image was built before this ran.
    let appliance: Value = must(serde_json::from_str(&guest.read("/usr/lib/cairn/appliance.json")));
    let built = appliance["built"].as_i64().unwrap();
    let (shown, synchronised) = clock(&mut guest);
    assert!(shown >= built && !synchronised, "{shown} {built}");

    let server = must(TimeServer::start(400 * DAY));
    ask(&mut guest, &server);
    must(guest.0.wait_for("unit chrony: the clock was set forward by", READY));
    wait_until("the clock is right", READY, || {
        let (shown, synchronised) = clock(&mut guest);
        synchronised && (shown - seconds(server.shows())).abs() <= 2
    });
    let processes = guest.processes("units/chrony");
    let exceptions = guest.cairn(&["security", "chrony"]);
    assert!(exceptions.contains("the machine's clock"), "{exceptions}");

    // Another manager goes on doing its calls.
    let manager = guest.processes("manager")[0];
    must(must(guest.0.agent()).kill(manager));
    wait_until("another manager", READY, || {
        guest.ran(&[CAIRN, "status"], PATIENCE).0 == 0 && guest.processes("manager").iter().all(|pid| *pid != manager)
    });
    let asked = server.asked();
    wait_until("it asks again", Duration::from_secs(300), || server.asked() > asked + 1);
    assert_eq!(guest.processes("units/chrony"), processes);
    switch_off(guest.0);

    // Off for a while, and nobody to ask: not before what it showed.
    drop(server);
    let mut guest = Guest(must(home.start()));
    must(guest.0.wait_for("Ready: ", READY));
    let (shown, _) = clock(&mut guest);
    assert!(shown >= seconds(SystemTime::now()) + 399 * DAY, "{shown}");

    // A server that shows a time from before the image is not followed.
    let wrong = must(TimeServer::start(built - seconds(SystemTime::now()) - DAY));
    ask(&mut guest, &wrong);
    must(guest.0.wait_for("unit chrony: the clock was not set", READY));
    assert!(clock(&mut guest).0 >= shown);
}

//! The real image through its real ports: it boots, remembers, shuts down cleanly, notices tampering, survives power cuts, a
//! unit that tries to break out and a manager that is killed; and runs other people's daemons.
//!
//! `CAIRN_SOAK=1` makes all twenty power cuts instead of five, two hundred while everything is generated instead of two (or as many as `CAIRN_CUTS` says), and a thousand kills of the manager instead of fifteen (or as
//! many as `CAIRN_KILLS` says); `CAIRN_SEED` repeats their times.

mod api;
mod bad_versions;
mod bindings;
mod browser;
mod clock;
mod confined;
mod crash_points;
mod daemons;
mod damage;
mod demand;
mod dumps;
mod encryption;
mod example;
mod first_boot;
mod first_choices;
mod forward;
mod harness;
mod hostile;
mod kills;
mod mail;
mod manager;
mod network;
mod power_cuts;
mod recovery;
mod reset;
mod secure_boot;
mod services;
mod setup;
mod shutdown;
mod upgrade;
mod watchdog;

use std::fmt::Display;
use std::time::{Duration, Instant};

use qemu_tests::client::https;
use qemu_tests::client::ldap::Ldap;
use qemu_tests::client::mariadb::MariaDb;
use qemu_tests::machine::{Home, Options};
use qemu_tests::prepared::{self, OFF, READY};
use qemu_tests::{Machine, disk, images};

const SUFFIX: &str = "dc=cairn,dc=internal";

/// A failure in the words that it has for people.
fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A disk as it was flashed.
fn fresh(name: &str) -> Home {
    must(Home::new(name, &must(images::base()), Options::default()))
}

/// A disk whose first boot is past.
fn set_up(name: &str) -> Home {
    must(Home::new(name, &must(prepared::base()).disk, Options::default()))
}

fn ready(home: &Home) -> Machine {
    let machine = must(home.start());
    must(machine.wait_for("Ready: https://", READY));
    machine
}

/// Switches off by the power button and waits for the end.
fn switch_off(mut machine: Machine) {
    must(machine.power_button());
    must(machine.wait_off(OFF));
}

/// Asks again until it is so.
fn wait_until(what: &str, within: Duration, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !so() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", within.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn secret(machine: &mut Machine, unit: &str, name: &str) -> String {
    let bytes = must(must(machine.agent()).read_file(&format!("/data/secrets/{unit}/{name}")));
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

fn sql(machine: &mut Machine) -> MariaDb {
    let password = secret(machine, "mariadb", "admin");
    must(MariaDb::connect(must(machine.port(3306)), "admin", &password))
}

fn ldap(machine: &mut Machine) -> Ldap {
    let password = secret(machine, "slapd", "admin");
    must(Ldap::bind(
        must(machine.port(389)),
        &format!("cn=admin,{SUFFIX}"),
        &password,
    ))
}

fn all_services_answer(machine: &mut Machine) {
    let (status, page) = must(https::get(must(machine.port(443)), "/"));
    assert_eq!(status, 200, "{page}");
    for shown in ["<h1>base-test</h1>", "Version 0.1.0"] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    assert!(must(ldap(machine).exists(SUFFIX)));
    let mut database = sql(machine);
    assert_eq!(must(database.query("SELECT 6 * 7")), [[Some("42".to_owned())]]);
    // The certificate is the unit's own, and the server could read it: otherwise it says DISABLED.
    assert_eq!(
        must(database.query("SELECT @@have_ssl, @@ssl_cert")),
        [[Some("YES".to_owned()), Some("/run/secrets/tls".to_owned())]]
    );
}

fn is_clean(home: &Home) {
    must(disk::check_data(&home.disk()));
}

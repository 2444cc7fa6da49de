//! The real image through its real ports: it boots, remembers, shuts down cleanly, notices tampering and survives power cuts.
//!
//! `CAIRN_SOAK=1` makes all twenty power cuts instead of five; `CAIRN_SEED` repeats their times.

use std::fmt::Debug;
use std::time::Duration;

use qemu_tests::client::https;
use qemu_tests::client::ldap::Ldap;
use qemu_tests::client::mariadb::MariaDb;
use qemu_tests::machine::{Home, Options};
use qemu_tests::random::Random;
use qemu_tests::{Machine, disk, gpt_edit, images};

/// A first boot under emulation on a loaded host.
const READY: Duration = Duration::from_secs(300);
const OFF: Duration = Duration::from_secs(120);
const SUFFIX: &str = "dc=cairn,dc=internal";

/// A failure in the words that it has for people.
fn must<T, E: Debug + std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn home(name: &str) -> Home {
    must(Home::new(name, &must(images::base()), Options::default()))
}

fn ready(home: &Home) -> Machine {
    let machine = must(home.start());
    must(machine.wait_for("Ready: https://", READY));
    machine
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
    assert!(must(ldap(machine).exists(SUFFIX)));
    assert_eq!(must(sql(machine).query("SELECT 6 * 7")), [[Some("42".to_owned())]]);
}

fn clean(home: &Home) {
    must(disk::check_data(&home.disk(), home.folder()));
}

#[test]
fn boots_by_uefi_and_answers_https_ldap_and_sql() {
    let home = home("boots");
    let mut machine = ready(&home);
    must(machine.wait_for("Cairn base", Duration::ZERO));
    all_services_answer(&mut machine);
}

#[test]
fn a_clean_reboot_keeps_rows_and_entries() {
    let home = home("reboot");
    let mut machine = ready(&home);
    let mut db = sql(&mut machine);
    must(db.query("CREATE DATABASE kept"));
    must(db.query("CREATE TABLE kept.t (n INT)"));
    must(db.query("INSERT INTO kept.t VALUES (42)"));
    let entry = format!("ou=kept,{SUFFIX}");
    must(ldap(&mut machine).add(&entry, &[("objectClass", "organizationalUnit"), ("ou", "kept")]));
    must(machine.power_button());
    must(machine.wait_off(OFF));
    drop(machine);

    let mut machine = ready(&home);
    assert_eq!(
        must(sql(&mut machine).query("SELECT n FROM kept.t")),
        [[Some("42".to_owned())]]
    );
    assert!(must(ldap(&mut machine).exists(&entry)));
}

#[test]
fn the_power_button_leaves_a_clean_file_system() {
    let home = home("power-button");
    let mut machine = ready(&home);
    must(machine.power_button());
    must(machine.wait_off(OFF));
    clean(&home);
}

#[test]
fn cairn_poweroff_leaves_a_clean_file_system() {
    let home = home("poweroff");
    let mut machine = ready(&home);
    // The answer may be lost when the machine is off first: its end is what counts.
    let _ = must(machine.agent()).exec(&["/usr/bin/cairn", "poweroff"], OFF);
    must(machine.wait_off(OFF));
    clean(&home);
}

#[test]
fn ctrl_alt_del_reboots_with_a_clean_file_system() {
    let home = home("ctrl-alt-del");
    let mut machine = ready(&home);
    must(machine.ctrl_alt_del());
    must(machine.wait_reset(OFF));
    // At the reset, before the next boot mounts anything.
    must(machine.kill());
    clean(&home);
}

#[test]
fn a_flipped_bit_in_the_root_is_caught_and_named_on_the_console() {
    let home = home("flipped-bit");
    let root = must(disk::find(&home.disk(), &[disk::ROOT]));
    // The EROFS superblock is at 1024: no boot can go without reading it.
    must(disk::flip_bit(&home.disk(), root.start + 1024 + 100, 3));
    let machine = must(home.start());
    let line = must(machine.wait_for("verity", READY));
    assert!(
        !machine.serial.lines().iter().any(|(_, line)| line.contains("Ready: ")),
        "{line}"
    );
}

/// Each cut falls at another time of a first boot that starts from the fresh image; the machine then boots to its end.
#[test]
fn no_power_cut_during_the_first_boot_loses_the_machine() {
    let soak = std::env::var("CAIRN_SOAK").is_ok_and(|value| value == "1");
    let cuts = if soak { 20 } else { 5 };
    let mut random = Random::seeded();
    // How long a first boot takes here, so that cuts fall all over it.
    let whole = {
        let home = home("cuts-measure");
        let machine = ready(&home);
        let lines = machine.serial.lines();
        lines
            .iter()
            .find(|(_, line)| line.contains("Ready: "))
            .map_or(READY, |(at, _)| *at)
    };
    for cut in 1..=cuts {
        let after = Duration::from_millis(random.below(whole.as_millis() as u64 + 1));
        eprintln!("cut {cut} of {cuts}: after {after:?} of {whole:?}");
        let home = home(&format!("cut-{cut}"));
        let mut machine = must(home.start());
        // Time is what is tested here, so time is waited for: a line that never comes.
        let waited = machine.wait_for("\u{0}", after);
        assert!(waited.is_err());
        must(machine.kill());
        drop(machine);
        let mut machine = ready(&home);
        all_services_answer(&mut machine);
        must(machine.power_button());
        must(machine.wait_off(OFF));
        clean(&home);
    }
}

/// A disk that cannot be booted from: a line that has one of `words`, then a reset ten seconds later.
fn says_and_reboots(home: &Home, words: &str) {
    let mut machine = must(home.start());
    must(machine.wait_for(words, READY));
    let said = machine
        .serial
        .lines()
        .iter()
        .find(|(_, line)| line.contains(words))
        .map_or(Duration::ZERO, |(at, _)| *at);
    let heard = std::time::Instant::now();
    must(machine.wait_reset(Duration::from_secs(60)));
    let waited = heard.elapsed();
    assert!(
        waited > Duration::from_secs(7),
        "reset {waited:?} after the message, said at {said:?}: too soon to be read"
    );
}

#[test]
fn a_missing_root_is_said_and_the_machine_reboots_after_ten_seconds() {
    let home = home("missing-root");
    let root = must(disk::find(&home.disk(), &[disk::ROOT]));
    must(gpt_edit::change_partuuid(&home.disk(), &root));
    says_and_reboots(&home, "root");
}

#[test]
fn a_disk_without_room_for_data_is_said_and_the_machine_reboots_after_ten_seconds() {
    // No growth: the disk ends with the image, so neither slot B nor data can be made.
    let image = must(images::base());
    let home = must(Home::new(
        "small-disk",
        &image,
        Options {
            disk_gib: 0,
            ..Options::default()
        },
    ));
    says_and_reboots(&home, "too small");
}

#[test]
fn a_lost_data_partition_is_said_and_the_machine_reboots_after_ten_seconds() {
    let home = home("lost-data");
    let mut machine = ready(&home);
    must(machine.power_button());
    must(machine.wait_off(OFF));
    drop(machine);
    let data = must(disk::find(&home.disk(), &disk::DATA));
    must(disk::wipe(&home.disk(), data.start, (16 << 20).min(data.length)));
    says_and_reboots(&home, "data");
}

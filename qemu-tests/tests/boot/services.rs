//! The services, from outside.

use std::time::Duration;

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};

use super::*;

#[test]
fn the_flashed_image_boots_by_uefi_and_answers_https_ldap_and_sql() {
    let options = Options {
        cpus: 2,
        ..Options::default()
    };
    let home = must(Home::new("uefi", &must(images::base()), options));
    let mut machine = ready(&home);
    must(machine.wait_for("Cairn: base-test ", Duration::ZERO));
    must(machine.wait_for("cairn: first boot: making the data partition vda6", Duration::ZERO));
    for unit in ["caddy", "mariadb", "slapd"] {
        must(machine.wait_for(&format!("unit {unit}: ready ("), Duration::ZERO));
    }
    all_services_answer(&mut machine);
}

#[test]
fn a_clean_reboot_keeps_rows_and_entries() {
    let home = set_up("reboot");
    let mut machine = ready(&home);
    let mut db = sql(&mut machine);
    must(db.query("CREATE DATABASE kept"));
    must(db.query("CREATE TABLE kept.t (n INT)"));
    must(db.query("INSERT INTO kept.t VALUES (42)"));
    let entry = format!("ou=kept,{SUFFIX}");
    must(ldap(&mut machine).add(&entry, &[("objectClass", "organizationalUnit"), ("ou", "kept")]));
    switch_off(machine);

    let mut machine = ready(&home);
    assert_eq!(
        must(sql(&mut machine).query("SELECT n FROM kept.t")),
        [[Some("42".to_owned())]]
    );
    assert!(must(ldap(&mut machine).exists(&entry)));
}

//! Dumps of real databases and of a directory (`appliances/bindings-test.toml`): what was damaged is told and becomes again what it was, and
//! the units that are bound to it go on.

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};

use super::bindings::{changing, inside, mariadb, password, postgresql, search, told};
use super::daemons::{CAIRN, Guest, PATIENCE};
use super::*;

const PERSON: &str =
    "dn: uid=ada,ou=people,dc=cairn,dc=internal\nobjectClass: inetOrgPerson\nuid: ada\ncn: Ada\nsn: L\n";

/// What the clerk finds in the two databases, and whether the directory has the person.
fn found(guest: &mut Guest) -> (String, String, bool) {
    let own = told(guest, "clerk");
    let sql = "select max(x) from dumped";
    let (db, pg, people) = (
        password(guest, "clerk", "db"),
        password(guest, "clerk", "pg"),
        password(guest, "clerk", "people"),
    );
    let (status, one) = mariadb(guest, "clerk", &own["db user"], &db, "clerk_db", sql);
    assert_eq!(status, 0, "{one}");
    let (status, other) = postgresql(guest, "clerk", &own["pg user"], &pg, "clerk_pg", sql);
    assert_eq!(status, 0, "{other}");
    let (status, said) = search(guest, "clerk", &own["people dn"], &people, &own["people base"]);
    assert_eq!(status, 0, "{said}");
    (
        one.trim().to_owned(),
        other.trim().to_owned(),
        said.contains("uid=ada,ou=people"),
    )
}

/// Writes a row into both databases.
fn write(guest: &mut Guest, sql: &str) {
    let own = told(guest, "clerk");
    let (db, pg) = (password(guest, "clerk", "db"), password(guest, "clerk", "pg"));
    let (status, said) = mariadb(guest, "clerk", &own["db user"], &db, "clerk_db", sql);
    assert_eq!(status, 0, "{said}");
    let (status, said) = postgresql(guest, "clerk", &own["pg user"], &pg, "clerk_pg", sql);
    assert_eq!(status, 0, "{said}");
}

/// A command of the directory's administrator.
fn administer(guest: &mut Guest, program: &str, more: &[&str]) {
    let own = [
        "-x",
        "-H",
        "ldapi:///",
        "-D",
        "cn=admin,dc=cairn,dc=internal",
        "-y",
        "/run/secrets/admin",
    ];
    let (status, said) = inside(guest, "slapd", &[&[program], &own[..], more].concat());
    assert_eq!(status, 0, "{said}");
}

fn settled(guest: &mut Guest) {
    for unit in ["mariadb", "postgresql", "slapd", "clerk", "rival"] {
        guest.wait_ready(unit);
    }
    let begun = Instant::now();
    while changing(guest) {
        assert!(begun.elapsed() < PATIENCE, "the accounts are not granted");
    }
}

#[test]
fn a_damaged_database_or_directory_is_told_and_becomes_what_it_was_in_its_dump() {
    let home = must(Home::new("dumps", &must(images::bindings()), Options::default()));
    let machine = must(home.start());
    must(machine.wait_for("Ready", READY));
    let guest = &mut Guest(machine);
    settled(guest);
    write(guest, "create table dumped (x int); insert into dumped values (1)");
    guest.write("/data/state/slapd/var-lib-ldap/person.ldif", PERSON);
    administer(guest, "/usr/bin/ldapadd", &["-f", "/var/lib/ldap/person.ldif"]);
    let before = ("1".to_owned(), "1".to_owned(), true);
    assert_eq!(found(guest), before);

    let units = [
        ("mariadb", "var-lib-mysql/ibdata1"),
        ("postgresql", "var-lib-postgresql/17/main/global/pg_control"),
        ("slapd", "var-lib-ldap/data.mdb"),
    ];
    let dumps = units.map(|(unit, _)| {
        let said = guest.cairn(&["dump", unit]);
        said.split(' ').next().unwrap_or_default().to_owned()
    });
    write(guest, "insert into dumped values (2)");
    administer(
        guest,
        "/usr/bin/ldapdelete",
        &["uid=ada,ou=people,dc=cairn,dc=internal"],
    );
    assert_eq!(found(guest), ("2".to_owned(), "2".to_owned(), false));

    for ((unit, file), dump) in units.iter().zip(&dumps) {
        guest.cairn(&["stop", unit]);
        guest.wait(unit, "rests", |unit| unit["state"] == "stopped");
        guest.write(&format!("/data/state/{unit}/{file}"), "damaged");
        for consumer in ["clerk", "rival"] {
            guest.cairn(&["start", consumer]);
        }
        // At first it is started again at once.
        let told = guest.wait(unit, "is told to fail", |unit| {
            unit["state"] == "restarting" && unit["failures"].as_u64() > Some(1)
        });
        let why = told["reason"].as_str().unwrap_or_default();
        assert!(why.contains("exit code") || why.contains("signal"), "{told}");
        let said = guest.cairn(&["restore", unit, dump, "--yes"]);
        assert!(said.contains(&format!("{unit} has what it kept in {dump}")), "{said}");
        settled(guest);
    }
    assert_eq!(found(guest), before);
    write(guest, "insert into dumped values (3)");
    assert_eq!(found(guest), ("3".to_owned(), "3".to_owned(), true));
    // Who is not asked changes nothing.
    let (status, said) = guest.ran(&[CAIRN, "restore", "mariadb", &dumps[0]], PATIENCE);
    assert!(status != 0 && said.contains("say `--yes`"), "{said}");
}

//! Bindings to two databases and a directory (`appliances/bindings-test.toml`): each unit has accounts of its own, sees nothing of
//! another's, and its passwords change while it works.

use std::collections::BTreeMap;

use qemu_tests::images;
use qemu_tests::machine::{Home, Options};
use serde_json::Value;

use super::daemons::{CAIRN, Guest, PATIENCE};
use super::*;

/// What a unit's rendered file says of its bindings.
pub(super) fn told(guest: &mut Guest, unit: &str) -> BTreeMap<String, String> {
    let (status, text) = inside(
        guest,
        unit,
        &["/usr/lib/cairn/test-agent", "show", "/etc/clerk/bindings"],
    );
    assert_eq!(status, 0, "{text}");
    let line = |line: &str| {
        line.rsplit_once(' ')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// A command in a unit's sandbox.
pub(super) fn inside(guest: &mut Guest, unit: &str, argv: &[&str]) -> (i32, String) {
    guest.ran(&[&[CAIRN, "enter", unit, "--"], argv].concat(), PATIENCE)
}

pub(super) fn password(guest: &mut Guest, unit: &str, need: &str) -> String {
    guest.read(&format!("/run/cairn/secrets/{unit}/{need}"))
}

/// MariaDB's answer to a unit that says it is `user`.
pub(super) fn mariadb(
    guest: &mut Guest,
    unit: &str,
    user: &str,
    password: &str,
    database: &str,
    sql: &str,
) -> (i32, String) {
    let (user, password) = (format!("--user={user}"), format!("--password={password}"));
    let arguments = [
        "--host=mariadb.bindings-test.internal",
        "--ssl-ca=/run/secrets/ca",
        "--batch",
        "--skip-column-names",
        "-e",
        sql,
    ];
    inside(
        guest,
        unit,
        &[&["/usr/bin/mariadb", &user, &password], &arguments[..], &[database]].concat(),
    )
}

pub(super) fn postgresql(
    guest: &mut Guest,
    unit: &str,
    user: &str,
    password: &str,
    database: &str,
    sql: &str,
) -> (i32, String) {
    let at = format!(
        "postgresql://{user}:{password}@postgresql.bindings-test.internal/{database}?sslmode=verify-full&sslrootcert=/run/secrets/ca"
    );
    let arguments = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "-c", sql];
    inside(guest, unit, &[&["/usr/bin/psql", &at], &arguments[..]].concat())
}

pub(super) fn search(guest: &mut Guest, unit: &str, dn: &str, password: &str, base: &str) -> (i32, String) {
    let argv = [
        "/usr/bin/ldapsearch",
        "-x",
        "-LLL",
        "-H",
        "ldap://slapd/",
        "-D",
        dn,
        "-w",
        password,
        "-b",
        base,
        "dn",
    ];
    inside(guest, unit, &argv)
}

pub(super) fn changing(guest: &mut Guest) -> bool {
    let (_, text) = guest.ran(&[CAIRN, "--json", "secrets"], PATIENCE);
    let all: Value = must(serde_json::from_str(&text));
    all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .any(|account| account["state"] != "granted")
}

#[test]
fn each_bound_unit_has_rights_of_its_own_and_no_others_and_keeps_them_over_new_passwords() {
    let home = must(Home::new("bindings", &must(images::bindings()), Options::default()));
    let machine = must(home.start());
    must(machine.wait_for("Ready", READY));
    let guest = &mut Guest(machine);
    for unit in ["clerk", "rival"] {
        guest.wait_ready(unit);
    }
    assert!(!changing(guest));
    let (clerk, rival) = (told(guest, "clerk"), told(guest, "rival"));
    assert_eq!(clerk["db database"], "clerk_db");

    // Its own database it can fill; another's it cannot see, whoever it says it is.
    for (unit, own) in [("clerk", &clerk), ("rival", &rival)] {
        let sql = format!("create table t (x int); insert into t values (1); select '{unit}', count(*) from t");
        let (status, said) = mariadb(
            guest,
            unit,
            &own["db user"],
            &own["db password"],
            &own["db database"],
            &sql,
        );
        assert_eq!((status, said.trim()), (0, format!("{unit}\t1").as_str()));
        let sql = format!("create table t (x int); insert into t values (1); select '{unit}', count(*) from t");
        let (status, said) = postgresql(
            guest,
            unit,
            &own["pg user"],
            &own["pg password"],
            &own["pg database"],
            &sql,
        );
        assert_eq!((status, said.trim()), (0, format!("{unit}|1").as_str()));
        let (status, said) = search(
            guest,
            unit,
            &own["people dn"],
            &own["people password"],
            &own["people base"],
        );
        assert!(status == 0 && said.contains("dn: ou=people"), "{said}");
    }
    let refused =
        |(status, said): (i32, String), why: &str| assert!(status != 0 && said.contains(why), "{status}: {said}");
    let sql = "select * from rival_db.t";
    refused(
        mariadb(
            guest,
            "clerk",
            &clerk["db user"],
            &clerk["db password"],
            "clerk_db",
            sql,
        ),
        "denied",
    );
    refused(
        mariadb(
            guest,
            "clerk",
            &clerk["db user"],
            &clerk["db password"],
            "mysql",
            "select 1",
        ),
        "denied",
    );
    refused(
        mariadb(
            guest,
            "clerk",
            &rival["db user"],
            &clerk["db password"],
            "rival_db",
            "select 1",
        ),
        "denied",
    );
    refused(
        mariadb(guest, "clerk", "root", &clerk["db password"], "mysql", "select 1"),
        "denied",
    );
    // In a grant's name `_` stands for any character, unless it is written as itself.
    refused(
        mariadb(
            guest,
            "clerk",
            &clerk["db user"],
            &clerk["db password"],
            "clerk_db",
            "create database clerkxdb",
        ),
        "denied",
    );
    refused(
        postgresql(
            guest,
            "clerk",
            &clerk["pg user"],
            &clerk["pg password"],
            "rival_pg",
            "select 1",
        ),
        "denied",
    );
    refused(
        postgresql(
            guest,
            "clerk",
            &rival["pg user"],
            &clerk["pg password"],
            "rival_pg",
            "select 1",
        ),
        "failed",
    );
    refused(
        postgresql(
            guest,
            "clerk",
            "postgres",
            &clerk["pg password"],
            "postgres",
            "select 1",
        ),
        "reject",
    );
    let (_, said) = search(
        guest,
        "clerk",
        &clerk["people dn"],
        &clerk["people password"],
        "ou=services,dc=cairn,dc=internal",
    );
    assert!(!said.contains("rival"), "{said}");
    refused(
        search(
            guest,
            "clerk",
            &rival["people dn"],
            &clerk["people password"],
            &clerk["people base"],
        ),
        "Invalid credentials",
    );

    // Passwords change, and no connection with the password that the unit sees fails meanwhile.
    let before: BTreeMap<&str, String> = ["db", "pg", "people"]
        .map(|need| (need, password(guest, "clerk", need)))
        .into();
    assert_eq!(before["db"], clerk["db password"]);
    guest.cairn(&["secrets", "rotate", "clerk"]);
    let mut connections = 0;
    while changing(guest) || connections == 0 {
        let now = password(guest, "clerk", "db");
        let (status, said) = mariadb(guest, "clerk", "clerk_db", &now, "clerk_db", "select count(*) from t");
        assert_eq!((status, said.trim()), (0, "1"));
        let now = password(guest, "clerk", "people");
        let (status, said) = search(guest, "clerk", &clerk["people dn"], &now, &clerk["people base"]);
        assert_eq!(status, 0, "{said}");
        connections += 1;
    }
    for (need, old) in &before {
        assert_ne!(password(guest, "clerk", need), *old, "{need}");
    }
    refused(
        mariadb(guest, "clerk", "clerk_db", &before["db"], "clerk_db", "select 1"),
        "denied",
    );
    refused(
        search(
            guest,
            "clerk",
            &clerk["people dn"],
            &before["people"],
            &clerk["people base"],
        ),
        "Invalid credentials",
    );
    refused(
        postgresql(guest, "clerk", &clerk["pg user"], &before["pg"], "clerk_pg", "select 1"),
        "failed",
    );
    // The next login of PostgreSQL's is another one, with the same tables.
    let now = password(guest, "clerk", "pg");
    let (status, said) = postgresql(guest, "clerk", "clerk_pg_b", &now, "clerk_pg", "select count(*) from t");
    assert_eq!((status, said.trim()), (0, "1"));
    // The other unit's are what they were.
    assert_eq!(password(guest, "rival", "db"), rival["db password"]);
    // No password has reached a log.
    let logs = guest.cairn(&["logs"]);
    for text in before.values().chain([&clerk["db password"], &rival["pg password"]]) {
        assert!(!logs.contains(text.as_str()));
    }
}

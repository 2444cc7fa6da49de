//! What the resolver says when there is no closure, and what the lock file promises. All lists are made here.

use std::collections::BTreeMap;
use std::path::Path;

use imagegen::archive::{Area, SuiteIndex};
use imagegen::cache::Digest;
use imagegen::resolve::{Ids, Lock, LockError, Request, ResolveError, Universe, diff, lock, resolve};

/// A suite from lines of `name version field: value; field: value`.
fn suite(lines: &[&str]) -> Vec<SuiteIndex> {
    let stanza = |line: &&str| {
        let mut words = line.splitn(3, ' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        let fields = words.next().unwrap_or_default().replace("; ", "\n");
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}\nFilename: pool/{name}.deb\nSize: 3\nSHA256: {}\n\n",
            Digest::of(format!("{name} {version}").as_bytes())
        )
        .replace("\n\nFilename", "\nFilename")
    };
    vec![SuiteIndex {
        name: "trixie".into(),
        area: Area::Main,
        date: "Sun, 01 Feb 2026 00:00:00 UTC".into(),
        inrelease: Digest::of(b"x"),
        packages: lines.iter().map(stanza).collect(),
    }]
}

fn fails(lines: &[&str], names: &[&str]) -> ResolveError {
    let suites = suite(lines);
    let universe = Universe::new(&suites, "amd64").unwrap();
    resolve(&universe, names).unwrap_err()
}

#[test]
fn an_unknown_name_brings_near_ones_the_best_first_and_no_far_ones() {
    let lines = ["mariadb-server 1", "mariadb-server-core 1", "slapd 1"];
    match fails(&lines, &["mariadb-sever"]) {
        ResolveError::Unknown { name, near } => {
            assert_eq!((name.as_str(), near[0].as_str()), ("mariadb-sever", "mariadb-server"));
            assert!(!near.contains(&"slapd".to_owned()), "{near:?}");
        }
        other => panic!("{other}"),
    }
    let said = fails(&lines, &["zzz"]).to_string();
    assert!(said.contains("there is no package zzz; search"), "{said}");
}

#[test]
fn a_virtual_name_with_several_providers_names_them_and_with_one_stands_for_it() {
    let said = fails(&["a 1 Provides: mta", "b 1 Provides: mta"], &["mta"]).to_string();
    assert!(said.contains("virtual") && said.ends_with("a, b"), "{said}");
    let suites = suite(&["a 1 Provides: mta"]);
    let universe = Universe::new(&suites, "amd64").unwrap();
    assert_eq!(resolve(&universe, &["mta"]).unwrap().packages.len(), 1);
}

#[test]
fn what_cannot_be_met_is_shown_with_the_whole_chain_and_what_there_is() {
    let lines = [
        "a 1 Depends: b",
        "b 1 Pre-Depends: c",
        "c 1 Depends: d (>= 2) | e",
        "d 1.5",
    ];
    match fails(&lines, &["a"]) {
        ResolveError::Unsatisfiable { chain, reason } => {
            assert_eq!(chain, ["a", "b", "c", "d (>= 2) | e"]);
            assert_eq!(reason, "d is at 1.5; no package is or provides e");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_dead_end_is_left_for_the_next_alternative_and_forgotten() {
    let lines = ["a 1 Depends: x | y", "x 1 Depends: helper, absent", "helper 1", "y 1"];
    let suites = suite(&lines);
    let universe = Universe::new(&suites, "amd64").unwrap();
    let closure = resolve(&universe, &["a"]).unwrap();
    let names: Vec<&str> = closure.packages.iter().map(|p| universe.get(p.id).name).collect();
    assert_eq!(names, ["a", "y"], "nothing of the dead end stays");
}

#[test]
fn a_conflict_shows_how_both_sides_got_in_whichever_declares_it() {
    let conflict = |lines: &[&str]| match fails(lines, &["a", "b"]) {
        ResolveError::Conflict {
            relation,
            first,
            second,
        } => (relation, first, second),
        other => panic!("{other}"),
    };
    let lines = [
        "a 1 Depends: left",
        "b 1 Depends: right",
        "left 1",
        "right 1 Conflicts: left (<< 2)",
    ];
    let (relation, first, second) = conflict(&lines);
    assert_eq!(relation, "right conflicts with left (<< 2)");
    assert_eq!(
        (first, second),
        (vec!["b".into(), "right".into()], vec!["a".into(), "left".into()])
    );
    let lines = [
        "a 1 Depends: left",
        "b 1 Depends: right",
        "left 1 Breaks: right",
        "right 1",
    ];
    let (relation, first, second) = conflict(&lines);
    assert_eq!(relation, "left breaks right");
    assert_eq!(
        (first, second),
        (vec!["a".into(), "left".into()], vec!["b".into(), "right".into()])
    );
}

#[test]
fn a_conflict_through_a_provided_name_counts_and_one_with_itself_does_not() {
    let said = fails(&["a 1 Provides: mta; Conflicts: mta", "b 1 Provides: mta"], &["a", "b"]).to_string();
    assert!(said.contains("a conflicts with mta"), "{said}");
    let suites = suite(&["a 1 Provides: mta; Conflicts: mta"]);
    assert!(resolve(&Universe::new(&suites, "amd64").unwrap(), &["a"]).is_ok());
}

fn locked(lines: &[&str], names: &[&str], previous: Option<&Lock>) -> (Lock, Request) {
    let suites = suite(lines);
    let universe = Universe::new(&suites, "amd64").unwrap();
    let request = Request {
        arch: "amd64".into(),
        units: BTreeMap::from([("one".to_owned(), names.iter().map(|n| (*n).to_owned()).collect())]),
    };
    (lock(&suites, &universe, &request, previous).unwrap(), request)
}

const PATH: &str = "appliances/a.amd64.lock";

#[test]
fn a_lock_read_back_is_the_one_written_and_the_same_request_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.lock");
    let lines = ["a 1:1.0-1 Depends: b; Source: src (2)", "b 2"];
    let (made, request) = locked(&lines, &["a"], None);
    made.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), made);
    assert!(made.is_current(&request));
    assert_eq!(
        locked(&lines, &["a"], None).0.to_text().unwrap(),
        made.to_text().unwrap()
    );
    let names: Vec<&str> = made.unit("one").unwrap().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        (
            made.packages[0].source.as_str(),
            made.packages[0].source_version.as_str()
        ),
        ("src", "2")
    );
    assert!(made.unit("two").is_none());
}

#[test]
fn another_request_makes_a_lock_stale() {
    let lines = ["a 1", "b 2"];
    let (made, _) = locked(&lines, &["a"], None);
    assert!(!made.is_current(&locked(&lines, &["a", "b"], None).1));
    let mut arm = locked(&lines, &["a"], None).1;
    arm.arch = "arm64".into();
    assert!(!made.is_current(&arm));
}

#[test]
fn a_refreshed_lock_keeps_the_numbers_of_users_and_tells_what_changed() {
    let (mut old, _) = locked(&["a 1 Depends: b", "b 1"], &["a"], None);
    old.uids.insert("mysql".into(), Ids { uid: 301, gid: 302 });
    let (new, _) = locked(&["a 2 Depends: c", "b 1", "c 7"], &["a"], Some(&old));
    assert_eq!(new.uids, old.uids);
    let changes: Vec<String> = diff(&old, &new)
        .into_iter()
        .map(|c| format!("{} {:?} {:?}", c.name, c.old.as_deref(), c.new.as_deref()))
        .collect();
    let expected = [r#"a Some("1") Some("2")"#, r#"b Some("1") None"#, r#"c None Some("7")"#];
    assert_eq!(changes, expected);
    assert!(diff(&new, &new).is_empty());
}

#[test]
fn other_bytes_under_the_same_version_are_a_change() {
    let (old, _) = locked(&["a 1"], &["a"], None);
    let mut new = old.clone();
    new.packages[0].sha256 = Digest::of(b"rebuilt");
    assert_eq!(diff(&old, &new).len(), 1);
}

#[test]
fn a_lock_is_never_half_understood() {
    let (made, _) = locked(&["a 1"], &["a"], None);
    let text = made.to_text().unwrap();
    let parse = |text: &str| Lock::parse(text, Path::new(PATH)).unwrap_err();
    let unknown = parse(&text.replace("version = \"1\"", "version = \"1\"\ncolour = \"red\"")).to_string();
    assert!(unknown.contains(PATH) && unknown.contains("colour"), "{unknown}");
    assert!(matches!(
        parse(&text.replace("schema = 1", "schema = 2")),
        LockError::Schema { found: 2, .. }
    ));
    let outside = parse(&text.replace("pool/a.deb", "../a.deb")).to_string();
    assert!(outside.contains("bad filename"), "{outside}");
    let absent = parse(&text.replace("closure = [\"a\"]", "closure = [\"a\", \"b\"]")).to_string();
    assert!(absent.contains("unit one has package b"), "{absent}");
    let folder = tempfile::tempdir().unwrap();
    let none = Lock::read(&folder.path().join("x.lock")).unwrap_err();
    assert!(matches!(none, LockError::Absent { .. }) && none.to_string().contains("imagegen lock"));
}

#[test]
fn a_lock_that_cannot_be_written_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (made, _) = locked(&["a 1"], &["a"], None);
    let path = folder.path().join("absent/a.lock");
    assert!(matches!(made.write(&path), Err(LockError::Io { .. })));
    made.write(&folder.path().join("a.lock")).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
}

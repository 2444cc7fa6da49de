use super::*;
use std::collections::BTreeMap;

use cairn_sandbox::learn::{Event, Heard};

use crate::config::Config;
use crate::plan::{Input, Role};
use crate::testing::manifest;

pub(in crate::learn) fn plan(manifest: &Manifest, name: &str) -> Plan {
    let none = BTreeMap::new();
    let input = Input {
        config: &Config::appliance(),
        manifest,
        name,
        unit: &manifest.units[name],
        secrets: &none,
        rendered: &none,
        resolv: None,
        optional: &[],
    };
    crate::plan::of(&input, Role::Main).unwrap()
}

/// A trace of these calls, after the program itself.
fn trace(calls: &[(&str, bool, Vec<Event>)]) -> Trace {
    let mut trace = Trace::default();
    let own = ("execve", false, vec![run("/bin/web", false)]);
    for (name, refused, events) in [&own].into_iter().chain(calls) {
        trace.note(&Heard {
            name: (*name).into(),
            detail: "detail".into(),
            process: "web".into(),
            refused: *refused,
            events: events.clone(),
        });
    }
    trace
}

fn run(path: &str, set_id: bool) -> Event {
    Event::Run {
        path: path.into(),
        set_id,
    }
}

fn writes(path: &str) -> (&'static str, bool, Vec<Event>) {
    ("openat", false, vec![Event::Write(path.into())])
}

fn needs(capability: &'static str) -> (&'static str, bool, Vec<Event>) {
    ("setuid", false, vec![Event::Capability(capability)])
}

fn at(transport: Transport, at: &str) -> Place {
    Place::Ip {
        transport,
        at: at.parse().unwrap(),
    }
}

fn connects(to: &str) -> (&'static str, bool, Vec<Event>) {
    ("connect", false, vec![Event::Connect(at(Transport::Tcp, to))])
}

fn binds(to: &str) -> (&'static str, bool, Vec<Event>) {
    ("bind", false, vec![Event::Bind(at(Transport::Tcp, to))])
}

const DB: &str = r#"{"service":{"command":["/bin/db"],"user":"svc"},
    "provides":{"sql":{"kind":"database","port":3306,"socket":"/run/db/sock"},"admin":{"kind":"console","port":9},
    "files":{"kind":"folder","folder":"/var/lib/files"}},
    "runtime":{"/run/db":{}},"state":{"/var/lib/files":{}}}"#;

/// The advice for a unit `web` beside the database `db`: its direction, key and value.
fn told(web: &str, calls: &[(&str, bool, Vec<Event>)]) -> Vec<(Direction, String, String)> {
    let all = whole(web, calls).into_iter();
    all.map(|one| (one.direction, one.key, one.value)).collect()
}

fn whole(web: &str, calls: &[(&str, bool, Vec<Event>)]) -> Vec<Advice> {
    advised(web, &trace(calls), false)
}

fn advised(web: &str, trace: &Trace, handed: bool) -> Vec<Advice> {
    let manifest = manifest(&[("db", DB), ("web", web)]);
    let subject = Subject {
        manifest: &manifest,
        name: "web",
        unit: &manifest.units["web"],
        plan: &plan(&manifest, "web"),
        handed,
    };
    let all = advise(&subject, trace);
    let text = super::super::toml::text(&manifest.units["web"].unit, &all);
    // Whatever the advice, it is TOML, and nobody can write a line of his own into it.
    let _: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    all
}

fn wider(key: &str, value: &str) -> (Direction, String, String) {
    (Direction::Wider, key.into(), value.into())
}

fn tighter(key: &str, value: &str) -> (Direction, String, String) {
    (Direction::Tighter, key.into(), value.into())
}

/// A unit with nothing: no network, so that only what is tested is told.
const PLAIN: &str = r#"{"service":{"command":["/bin/web"],"user":"svc"},"network":{"mode":"none"}}"#;
/// The same on the network, with a port that it uses in every test.
const WEB: &str = r#"{"service":{"command":["/bin/web"],"user":"svc"},"provides":{"http":{"kind":"http","port":80}}}"#;
const USED: &str = "0.0.0.0:80";

fn with(unit: &str, more: &str) -> String {
    let mut unit: serde_json::Value = serde_json::from_str(unit).unwrap();
    let more: serde_json::Value = serde_json::from_str(more).unwrap();
    unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    unit.to_string()
}

#[test]
fn a_unit_that_does_what_it_declares_is_told_nothing() {
    let web = with(
        WEB,
        r#"{"needs":{"db":"sql"},"state":{"/var/lib/web":{}},"runtime":{"/run/web":{}},
        "network":{"outbound":true,"publish":[{"port":443,"to":80},{"port":53,"protocol":"udp"}]},
        "sandbox":{"capabilities":["chown","dac-override"],"system_calls":["ptrace"],"writable_code":true,"new_privileges":true,"reason":"r"}}"#,
    );
    let dns = ("bind", false, vec![Event::Bind(at(Transport::Udp, "[::]:53"))]);
    let calls = [
        binds(USED),
        dns,
        connects("10.201.0.2:3306"),
        connects("192.0.2.7:443"),
        connects("127.0.0.1:5"),
        writes("/var/lib/web/x"),
        writes("/run/web/pid"),
        writes("/tmp/x"),
        writes("/dev/shm/x"),
        writes("/dev/null"),
        writes("/proc/self/oom_score_adj"),
        ("ptrace", false, vec![]),
        ("mmap", false, vec![Event::WritableCode]),
        ("execve", false, vec![run("/usr/bin/sudo", true)]),
        needs("chown"),
    ];
    assert_eq!(whole(&web, &calls), []);
}

#[test]
fn a_refused_call_is_asked_for_by_name_with_its_example() {
    let calls = [
        ("kcmp", true, vec![]),
        ("kcmp", true, vec![]),
        ("io_uring_setup", true, vec![]),
    ];
    let all = whole(PLAIN, &calls);
    let keys: Vec<&str> = all.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(keys, ["\"io_uring_setup\"", "\"kcmp\""]);
    assert!(
        all.iter()
            .all(|one| one.key == "sandbox.system_calls" && one.direction == Direction::Wider)
    );
    assert_eq!((all[1].times, all[1].example.as_str()), (2, "web: kcmp(detail)"));
    assert!(
        all[0].why.contains("only if the service fails") && !all[1].why.contains("only if"),
        "{all:?}"
    );
    let all = whole(
        PLAIN,
        &[("clock_adjtime", true, vec![]), ("settimeofday", true, vec![])],
    );
    let keys: Vec<&str> = all.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["sandbox.clock"]);
    for nobody in ["swapon", "number 1073741824"] {
        let all = whole(PLAIN, &[(nobody, true, vec![])]);
        assert_eq!(
            (all.len(), all[0].direction, all[0].key.as_str()),
            (1, Direction::Note, ""),
            "{all:?}"
        );
    }
}

#[test]
fn a_missing_capability_is_asked_for_and_one_that_nobody_can_have_is_not() {
    assert_eq!(
        told(PLAIN, &[needs("net-raw")]),
        [wider("sandbox.capabilities", "\"net-raw\"")]
    );
    let user = whole(PLAIN, &[needs("setuid")]);
    assert!(!user[0].why.contains("service.user"));
    let root = whole(r#"{"network":{"mode":"none"}}"#, &[needs("setuid")]);
    assert!(
        root[0].why.contains("service.user"),
        "root that gives itself up needs no capability"
    );
    assert_eq!(whole(PLAIN, &[needs("mknod")])[0].direction, Direction::Note);
    let code = ("mprotect", false, vec![Event::WritableCode]);
    assert_eq!(told(PLAIN, &[code]), [wider("sandbox.writable_code", "true")]);
}

#[test]
fn what_is_written_elsewhere_becomes_a_folder_of_state_or_runtime() {
    for (path, want) in [
        ("/var/lib/web/a/b", "state.\"/var/lib/web\""),
        ("/var/lib/web", "state.\"/var/lib/web\""),
        ("/var/lib/web.db", "state.\"/var/lib\""),
        ("/var/lib", "state.\"/var/lib\""),
        ("/srv/site/x", "state.\"/srv/site\""),
        ("/var/cache/web/x", "state.\"/var/cache/web\""),
        ("/run/web/x.pid", "runtime.\"/run/web\""),
        ("/run/x.pid", "runtime.\"/run\""),
        ("/run/lock/web/x", "runtime.\"/run/lock/web\""),
        ("/data/x", "state.\"/data\""),
    ] {
        assert_eq!(told(PLAIN, &[writes(path)]), [wider(want, "{}")], "{path}");
    }
    // Several files of a folder are one advice.
    let all = whole(
        PLAIN,
        &[
            writes("/var/lib/web/a"),
            writes("/var/lib/web/b"),
            writes("/var/lib/web/c/d"),
        ],
    );
    assert_eq!((all.len(), all[0].times), (1, 3));
    let log = whole(PLAIN, &[writes("/var/log/web/access.log")]);
    assert!(log[0].why.contains("standard output"));
    for never in [
        "/etc/web.conf",
        "/usr/lib/x",
        "/x",
        "/dev/kvm",
        "/proc/sys/net/x",
        "/sys/x",
    ] {
        let all = whole(PLAIN, &[writes(never)]);
        assert_eq!((all.len(), all[0].direction), (1, Direction::Note), "{never}: {all:?}");
    }
}

#[test]
fn writing_in_run_needs_no_folder_where_the_service_is_its_owner() {
    let root = r#"{"network":{"mode":"none"}}"#;
    assert_eq!(told(root, &[writes("/run/x.pid")]), []);
    let own = with(PLAIN, r#"{"runtime":{"/run":{}}}"#);
    assert_eq!(told(&own, &[writes("/run/x.pid")]), []);
}

#[test]
fn a_peer_without_a_binding_is_bound_and_one_that_provides_nothing_is_told() {
    let socket = (
        "connect",
        false,
        vec![Event::Connect(Place::Path("/run/db/sock".into()))],
    );
    for peer in [
        connects("10.201.0.2:3306"),
        connects("[fd63:6169:726e::2]:3306"),
        socket.clone(),
    ] {
        assert_eq!(told(WEB, &[binds(USED), peer]), [wider("needs.sql", "\"sql\"")]);
    }
    let own = ("bind", false, vec![Event::Bind(Place::Path("/run/db/sock".into()))]);
    assert_eq!(
        told(WEB, &[binds(USED), own, socket]),
        [],
        "a socket of its own at that path"
    );
    for (closed, word) in [
        ("10.201.0.2:22", "does not provide it"),
        ("10.201.0.1:53", "the appliance itself"),
        ("10.201.9.9:80", "where no unit is"),
    ] {
        let all = whole(WEB, &[binds(USED), connects(closed)]);
        assert!(
            all.len() == 1 && all[0].direction == Direction::Note && all[0].why.contains(word),
            "{all:?}"
        );
    }
    for nothing in ["224.0.0.251:5353", "10.201.0.2:0", "10.201.0.3:7"] {
        assert_eq!(told(WEB, &[binds(USED), connects(nothing)]), [], "{nothing}");
    }
}

#[test]
fn the_outside_is_opened_for_whom_it_is_closed() {
    let out = connects("192.0.2.7:443");
    assert_eq!(
        told(WEB, &[binds(USED), out.clone()]),
        [wider("network.outbound", "true")]
    );
    let none = [wider("network.mode", "\"bridge\""), wider("network.outbound", "true")];
    assert_eq!(told(PLAIN, &[out]), none);
}

#[test]
fn a_port_that_nobody_can_reach_is_provided_or_published() {
    let value = "{ kind = \"service\", port = 8080 }";
    assert_eq!(
        told(WEB, &[binds(USED), binds("0.0.0.0:8080"), binds("[::]:8080")]),
        [wider("provides.web-8080", value)]
    );
    let udp = |port: u16| {
        (
            "bind",
            false,
            vec![Event::Bind(at(Transport::Udp, &format!("0.0.0.0:{port}")))],
        )
    };
    let publish = wider("network.publish", "{ port = 514, protocol = \"udp\" }");
    assert_eq!(told(WEB, &[binds(USED), udp(514)]), [publish]);
    assert_eq!(
        told(
            WEB,
            &[binds(USED), udp(40_000), binds("127.0.0.1:99"), binds("0.0.0.0:0")]
        ),
        []
    );
    assert_eq!(whole(PLAIN, &[binds("0.0.0.0:80")])[0].direction, Direction::Note);
}

#[test]
fn grants_that_nothing_used_are_given_back() {
    let grants = |text: &str| with(PLAIN, &format!(r#"{{"sandbox":{{{text},"reason":"r"}}}}"#));
    let calls = grants(r#""system_calls":["ptrace","read","kcmp"]"#);
    let used = ("kcmp", false, vec![]);
    let key = "sandbox.system_calls";
    assert_eq!(
        told(&calls, &[used]),
        [tighter(key, "\"ptrace\""), tighter(key, "\"read\"")]
    );
    let key = "sandbox.capabilities";
    let capabilities = grants(r#""capabilities":["chown","net-bind-service","dac-override","setuid"]"#);
    let want = [tighter(key, "\"chown\""), tighter(key, "\"net-bind-service\"")];
    assert_eq!(
        told(&capabilities, &[needs("setuid")]),
        want,
        "dac-override leaves no sign"
    );
    assert_eq!(
        told(&grants(r#""writable_code":true"#), &[]),
        [tighter("sandbox.writable_code", "false")]
    );
    assert_eq!(
        told(&grants(r#""new_privileges":true"#), &[]),
        [tighter("sandbox.new_privileges", "false")]
    );
}

#[test]
fn folders_ports_and_needs_that_nothing_used_are_given_back() {
    let folders = with(
        PLAIN,
        r#"{"state":{"/var/lib/a":{},"/var/lib/a/b":{}},"runtime":{"/run/x":{}}}"#,
    );
    let want = [tighter("state.\"/var/lib/a\"", ""), tighter("runtime.\"/run/x\"", "")];
    assert_eq!(told(&folders, &[writes("/var/lib/a/b/file")]), want);
    assert_eq!(told(WEB, &[]), [tighter("provides.http", "")]);
    assert_eq!(
        told(WEB, &[binds("127.0.0.1:80")]),
        [tighter("provides.http", "")],
        "loopback is no one's"
    );
    let published = with(WEB, r#"{"network":{"publish":[{"port":443,"to":8443}]}}"#);
    assert_eq!(told(&published, &[binds(USED)]), [tighter("network.publish", "8443")]);
    let bound = with(WEB, r#"{"needs":{"db":"sql"}}"#);
    assert_eq!(told(&bound, &[binds(USED)]), [tighter("needs.db", "")]);
    assert_eq!(
        told(&bound, &[binds(USED), connects("10.201.0.2:9")]).len(),
        2,
        "another port of it"
    );
    let socket = (
        "connect",
        false,
        vec![Event::Connect(Place::Path("/run/db/sock".into()))],
    );
    assert_eq!(told(&bound, &[binds(USED), socket]), []);
    let open = with(PLAIN, r#"{"network":{"outbound":true}}"#);
    let want = [
        tighter("network.outbound", "false"),
        tighter("network.mode", "\"none\""),
    ];
    assert_eq!(told(&open, &[]), want);
}

#[test]
fn sockets_that_were_handed_over_are_not_missed() {
    assert_eq!(advised(WEB, &trace(&[]), true), []);
    let listening = with(
        WEB,
        r#"{"sockets":{"x":{"listen":{"unix":"/run/web/x"}}},"runtime":{"/run/web":{}}}"#,
    );
    assert_eq!(advised(&listening, &trace(&[]), true), []);
}

#[test]
fn a_shared_folder_is_used_by_its_files_and_its_owner_is_not_its_only_user() {
    let bound = with(WEB, r#"{"needs":{"files":"files"}}"#);
    assert_eq!(told(&bound, &[binds(USED)]), [tighter("needs.files", "")]);
    let reads = ("openat", false, vec![Event::Read("/var/lib/files/x".into())]);
    assert_eq!(told(&bound, &[binds(USED), reads]), []);
    let all = whole(&bound, &[binds(USED), writes("/var/lib/files/x")]);
    assert!(
        all.len() == 1 && all[0].direction == Direction::Note,
        "read-only there: {all:?}"
    );
    let owner = r#"{"network":{"mode":"none"},"state":{"/var/lib/own":{}},
        "provides":{"own":{"kind":"folder","folder":"/var/lib/own"}}}"#;
    assert_eq!(told(owner, &[]), []);
}

#[test]
fn nothing_is_unused_where_nothing_ran_or_the_record_is_not_whole() {
    let folders = with(PLAIN, r#"{"state":{"/var/lib/a":{}}}"#);
    assert_eq!(advised(&folders, &Trace::default(), false), []);
    let mut full = trace(&[]);
    full.dropped = 3;
    let all = advised(&folders, &full, false);
    assert!(
        all.len() == 1 && all[0].direction == Direction::Note && all[0].why.contains("3 different"),
        "{all:?}"
    );
}

#[test]
fn the_text_is_the_tables_as_they_would_be() {
    let web = with(
        WEB,
        r#"{"sandbox":{"capabilities":["chown","kill"],"system_calls":["ptrace"],"reason":"r"},"needs":{"db":"sql"}}"#,
    );
    let udp = ("bind", false, vec![Event::Bind(at(Transport::Udp, "0.0.0.0:514"))]);
    let evil = "/var/lib/a\"]\nevil = 1\n#/x";
    let calls = [
        binds(USED),
        udp,
        ("kcmp", true, vec![]),
        needs("net-raw"),
        writes(evil),
        connects("192.0.2.7:443"),
        ("execve", false, vec![run("/tmp/x\ny = 1", true), run("/bin/su", true)]),
    ];
    let manifest = manifest(&[("db", DB), ("web", &web)]);
    let unit = &manifest.units["web"].unit;
    let text = super::super::toml::text(unit, &whole(&web, &calls));
    let table: toml::Table = text.parse().unwrap();
    let list = |key: &str| {
        table["sandbox"][key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("capabilities"), ["kill", "net-raw"], "chown was not used");
    assert_eq!(list("system_calls"), ["kcmp"], "nor ptrace");
    assert_eq!(table["sandbox"]["new_privileges"].as_bool(), Some(true));
    assert!(table["sandbox"].get("reason").is_none(), "there is one");
    assert_eq!(table["network"]["outbound"].as_bool(), Some(true));
    assert_eq!(table["network"]["publish"][0]["protocol"].as_str(), Some("udp"));
    assert_eq!(
        table["state"].as_table().unwrap().keys().collect::<Vec<_>>(),
        ["/var/lib/a\"]\nevil = 1\n#"]
    );
    assert!(table.get("evil").is_none() && table.get("y").is_none());
    assert!(
        text.contains("# remove needs.db: the database of db was not used"),
        "{text}"
    );
    assert!(text.contains("(once: web: kcmp(detail))"), "{text}");
    let without = super::super::toml::text(&manifest.units["db"].unit, &whole(PLAIN, &[("kcmp", true, vec![])]));
    let table: toml::Table = without.parse().unwrap();
    assert!(table["sandbox"]["reason"].is_str());
    assert_eq!(super::super::toml::text(unit, &[]), "");
}

#[test]
fn the_tables_can_be_read_as_a_unit() {
    let calls = [
        writes("/var/lib/web/x"),
        writes("/run/web/x"),
        binds("0.0.0.0:8080"),
        connects("10.201.0.2:3306"),
        ("bind", false, vec![Event::Bind(at(Transport::Udp, "0.0.0.0:514"))]),
        ("ptrace", true, vec![]),
        needs("net-raw"),
    ];
    let all: Vec<Advice> = whole(WEB, &calls)
        .into_iter()
        .filter(|one| one.direction == Direction::Wider)
        .collect();
    let unit = &manifest(&[("web", WEB)]).units["web"].unit;
    let text = super::super::toml::text(unit, &all);
    let text = format!("description = \"x\"\n[service]\ncommand = [\"/bin/web\"]\n{text}");
    let source = cairn_unit::Source {
        file: "web.toml".into(),
        text: text.clone(),
    };
    let unit = cairn_unit::Unit::parse(&source).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(unit.provides["web-8080"].port, Some(8080));
    assert_eq!(unit.needs["sql"].from.as_str(), "sql");
    assert!(unit.state.contains_key("/var/lib/web") && unit.runtime.contains_key("/run/web"));
    assert_eq!(unit.network.publish[0].port, 514);
}

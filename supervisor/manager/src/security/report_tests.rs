use super::*;
use crate::config::Config;
use crate::plan::{Input, Role};
use crate::security::mounts;
use crate::testing::manifest;
use std::collections::BTreeMap;

const WEB: &str = r#"{"service":{"command":["/bin/web"],"user":"svc"}, "state":{"/var/lib/web":{}},
    "provides":{"web":{"kind":"http","port":443}}, "network":{"publish":[{"port":443}]},
    "sandbox":{"capabilities":["net-bind-service"],"reason":"a low port"}}"#;

fn unit() -> (cairn_unit::ManifestUnit, Plan) {
    let manifest = manifest(&[("web", WEB)]);
    let none = BTreeMap::new();
    let input = Input {
        config: &Config::appliance(),
        manifest: &manifest,
        name: "web",
        unit: &manifest.units["web"],
        secrets: &none,
        rendered: &none,
        resolv: None,
        optional: &[],
    };
    let plan = crate::plan::of(&input, Role::Main).unwrap();
    (manifest.units["web"].as_ref().clone(), plan)
}

fn process(pid: i32) -> Process {
    let namespaces = NAMESPACES.map(|(name, _)| (name.to_owned(), format!("{name}:[7]")));
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| (set.to_owned(), 0x400));
    Process {
        pid,
        namespaces: namespaces.into(),
        uid_map: vec![0, 65_536, 65_536],
        gid_map: vec![0, 65_536, 65_536],
        threads: vec![Thread {
            uids: vec![65_637; 4],
            gids: vec![65_638; 4],
            capabilities: sets.into(),
            no_new_privs: true,
            seccomp: 2,
            filters: 1,
        }],
        oom_score_adj: Some(0),
        limits: BTreeMap::from([
            ("Max open files".to_owned(), (1024, 1024)),
            ("Max core file size".to_owned(), (0, 0)),
        ]),
    }
}

/// What a unit that is as declared looks like.
fn seen(unit: &cairn_unit::ManifestUnit) -> Seen {
    let host = NAMESPACES.map(|(name, _)| (name.to_owned(), format!("{name}:[1]")));
    let cgroup = crate::cgroup::limits(&unit.unit.limits, None);
    let mut stub = process(10);
    for thread in &mut stub.threads {
        thread.capabilities =
            BTreeMap::from(["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|set| (set.to_owned(), 1 << 5)));
    }
    let mut processes = vec![process(11), process(12)];
    for process in &mut processes {
        let files = unit.unit.limits.open_files;
        process.limits.insert("Max open files".into(), (files, files));
    }
    let text = "1 0 0:1 / / ro,nosuid,nodev - erofs x ro\n\
                2 1 0:2 / /proc rw,nosuid,nodev,noexec - proc x rw\n\
                3 2 0:2 /sys /proc/sys ro,nosuid,nodev,noexec - proc x rw\n\
                4 2 0:3 /null /proc/kcore ro,nosuid,nodev,noexec - devtmpfs x rw\n\
                5 1 0:4 / /dev ro,nosuid,nodev,noexec - tmpfs x rw\n\
                6 5 0:3 /null /dev/null rw,nosuid,noexec - devtmpfs x rw\n\
                7 1 0:5 / /tmp rw,nosuid,nodev,noexec - tmpfs x rw\n\
                8 1 0:6 / /var/lib/web rw,nosuid,nodev,noexec - ext4 x rw\n";
    Seen {
        processes,
        stub: Some(stub),
        host: host.into(),
        others: vec!["net:[2]".into()],
        cgroup: cgroup
            .into_iter()
            .map(|(file, value)| (file.to_owned(), value))
            .collect(),
        mounts: mounts::parse(text),
        interfaces: vec!["eth0".into(), "lo".into()],
        listening: vec!["tcp 443".into()],
        existing: vec!["/proc/kcore".into(), "/proc/sys".into()],
    }
}

fn differing(change: impl FnOnce(&mut Seen)) -> Vec<String> {
    let (unit, plan) = unit();
    let mut seen = seen(&unit);
    change(&mut seen);
    let report = report("web", &unit, &plan, &seen);
    let rows: Vec<String> = report
        .rows
        .into_iter()
        .filter(|row| row.state == State::Differs)
        .map(|row| row.item)
        .collect();
    assert_eq!(rows.len(), report.differs);
    rows
}

#[test]
fn a_unit_as_declared_has_no_difference() {
    assert_eq!(differing(|_| {}), [""; 0]);
    let (unit, plan) = unit();
    let report = report("web", &unit, &plan, &seen(&unit));
    assert_eq!(report.processes, 2);
    assert_eq!(
        report.exceptions,
        [Exception {
            what: "capability net-bind-service".into(),
            reason: "a low port".into()
        }]
    );
}

#[test]
fn a_unit_that_is_learned_from_differs_from_what_is_declared_and_is_more_open() {
    let (unit, mut plan) = unit();
    let mut seen = seen(&unit);
    let tight = report("web", &unit, &plan, &seen);
    plan.seccomp.as_mut().unwrap().on_violation = cairn_sandbox::OnViolation::UnsafeLearn;
    for thread in seen.processes.iter_mut().flat_map(|process| &mut process.threads) {
        thread.filters = plan.seccomp.as_ref().unwrap().programs();
    }
    let open = report("web", &unit, &plan, &seen);
    let differs: Vec<&str> = open
        .rows
        .iter()
        .filter(|row| row.state == State::Differs)
        .map(|row| row.item.as_str())
        .collect();
    assert_eq!((differs, open.differs), (vec!["calls outside the list"], 1));
    assert!(open.score > tight.score + 0.9, "{} {}", open.score, tight.score);
}

/// What a map gave back when it was changed.
fn ignore<T>(_: T) {}

/// One way to weaken what is in force.
type Change = fn(&mut Seen);

#[test]
fn whatever_is_weaker_than_declared_differs_in_its_row() {
    let cases: Vec<(&str, Change)> = vec![
        ("user namespace", |s| {
            ignore(s.processes[1].namespaces.insert("user".into(), "user:[1]".into()))
        }),
        ("network namespace", |s| {
            ignore(s.processes[0].namespaces.insert("net".into(), "net:[2]".into()))
        }),
        ("clock namespace", |s| ignore(s.processes[0].namespaces.remove("time"))),
        ("ids on the host", |s| s.processes[1].gid_map = vec![0, 0, 65_536]),
        ("user inside", |s| s.processes[1].threads[0].uids[2] = 0),
        ("user inside", |s| s.processes[0].threads[0].uids[0] = 65_536),
        ("group inside", |s| s.processes[0].threads[0].gids[3] = 200_000),
        ("bounding capabilities", |s| {
            ignore(s.processes[1].threads[0].capabilities.insert("CapBnd".into(), 0x401))
        }),
        ("permitted capabilities", |s| {
            ignore(s.processes[0].threads[0].capabilities.insert("CapPrm".into(), 0x401))
        }),
        ("effective capabilities", |s| {
            ignore(s.processes[0].threads[0].capabilities.insert("CapEff".into(), 0x401))
        }),
        ("inheritable capabilities", |s| {
            ignore(s.processes[0].threads[0].capabilities.insert("CapInh".into(), 1))
        }),
        ("ambient capabilities", |s| {
            ignore(s.processes[0].threads[0].capabilities.remove("CapAmb"))
        }),
        ("new privileges", |s| s.processes[1].threads[0].no_new_privs = false),
        ("system calls", |s| s.processes[1].threads[0].seccomp = 0),
        ("system calls", |s| s.processes[1].threads[0].filters = 0),
        ("writable", |s| {
            s.mounts
                .extend(mounts::parse("9 1 0:1 / /usr rw,nosuid,nodev,noexec - erofs x rw"))
        }),
        ("executable", |s| {
            s.mounts
                .extend(mounts::parse("9 1 0:1 / /tmp rw,nosuid,nodev - tmpfs x rw"))
        }),
        ("set-user-ID works", |s| {
            s.mounts
                .extend(mounts::parse("9 1 0:1 / /x ro,nodev,noexec - erofs x ro"))
        }),
        ("device nodes", |s| {
            s.mounts
                .extend(mounts::parse("9 1 0:1 / /dev/kvm ro,nosuid,noexec - ext4 x ro"))
        }),
        ("file systems of the host", |s| {
            s.mounts
                .extend(mounts::parse("9 1 0:1 / /sys ro,nosuid,nodev,noexec - sysfs x ro"))
        }),
        ("hidden", |s| s.mounts.retain(|mount| mount.target != "/proc/kcore")),
        ("protected", |s| s.mounts.retain(|mount| mount.target != "/proc/sys")),
        ("interfaces", |s| s.interfaces.push("eth1".into())),
        ("ports", |s| s.listening.push("tcp 22".into())),
        ("memory.max", |s| {
            ignore(s.cgroup.insert("memory.max".into(), "max".into()))
        }),
        ("pids.max", |s| ignore(s.cgroup.remove("pids.max"))),
        ("open files", |s| {
            ignore(s.processes[0].limits.insert("Max open files".into(), (1, 1 << 20)))
        }),
        ("core file size", |s| {
            ignore(s.processes[0].limits.remove("Max core file size"))
        }),
        ("out-of-memory score", |s| s.processes[1].oom_score_adj = Some(-1000)),
        ("stub", |s| s.stub = None),
        ("stub", |s| s.stub.as_mut().unwrap().threads[0].no_new_privs = false),
        ("stub", |s| {
            ignore(
                s.stub.as_mut().unwrap().threads[0]
                    .capabilities
                    .insert("CapEff".into(), 0x21),
            )
        }),
    ];
    for (item, change) in cases {
        assert_eq!(differing(change), [item]);
    }
}

#[test]
fn what_is_tighter_than_declared_is_fine() {
    let tighter: [Change; 3] = [
        |s| ignore(s.processes[0].threads[0].capabilities.insert("CapEff".into(), 0)),
        |s| s.processes[0].threads[0].filters = 3,
        |s| s.listening.clear(),
    ];
    for change in tighter {
        assert_eq!(differing(change), [""; 0]);
    }
}

#[test]
fn a_unit_that_does_not_run_differs_in_nothing_and_is_scored_as_declared() {
    let (unit, plan) = unit();
    let stopped = report("web", &unit, &plan, &Seen::default());
    assert!(stopped.rows.is_empty() && stopped.differs == 0 && stopped.processes == 0);
    assert_eq!(stopped.score, report("web", &unit, &plan, &seen(&unit)).score);
}

#[test]
fn the_score_tells_a_tight_unit_from_an_open_one() {
    let (unit, mut plan) = unit();
    let mut seen = seen(&unit);
    let tight = score::of(&unit, &plan, &seen);
    assert!(tight < 1.0, "{tight}");
    // Each wall that goes makes it worse.
    let mut last = tight;
    let mut worse = |plan: &Plan, seen: &Seen| {
        let score = score::of(&unit, plan, seen);
        assert!(score > last, "{score} after {last}");
        last = score;
    };
    seen.processes[0].threads[0]
        .capabilities
        .insert("CapBnd".into(), u64::MAX);
    worse(&plan, &seen);
    seen.processes[0].threads[0].seccomp = 0;
    worse(&plan, &seen);
    plan.landlock = false;
    worse(&plan, &seen);
    seen.processes[0].namespaces = seen.host.clone();
    worse(&plan, &seen);
    plan.network = Network::Host;
    worse(&plan, &seen);
    seen.cgroup.clear();
    worse(&plan, &seen);
    assert!(last > 7.0 && last <= 10.0, "{last}");
}

//! The plan as text, and what it refuses.

use std::path::Path;

use cairn_sandbox::{
    Content, Failure, Ids, Ipv4, Ipv6, Mount, Network, Plan, Report, Resource, Rlimit, Root, Seccomp, User, Veth, file,
};

fn plan() -> Plan {
    Plan::new(
        "web",
        Path::new("/services/web"),
        100_000,
        vec!["/usr/bin/web".into(), "--now".into()],
    )
}

/// One way to spoil a plan.
type Change = Box<dyn FnOnce(&mut Plan)>;

/// A plan with every field away from its default.
fn full() -> Plan {
    let mut plan = plan();
    plan.hostname = Some("web".into());
    plan.mounts.push(Mount::Bind {
        source: "/data/state/web".into(),
        target: "/var/lib/web".into(),
        read_only: false,
        idmapped: true,
        recursive: true,
        exec: true,
        suid: true,
    });
    plan.mounts.push(file("/etc/hosts", "10.0.0.2 db\n", 0o644));
    plan.mounts
        .push(file("/run/credentials/key", [0xff, 0x00, 0x80], 0o400));
    plan.mounts.push(Mount::Symlink {
        target: "/run/link".into(),
        to: "there".into(),
    });
    plan.user = User {
        uid: 33,
        gid: 34,
        groups: vec![35],
    };
    plan.env.insert("LANG".into(), "C.UTF-8".into());
    plan.rlimits.push(Rlimit {
        resource: Resource::Nofile,
        soft: 1024,
        hard: u64::MAX,
    });
    plan.capabilities.bounding = vec!["CAP_CHOWN".into(), "CAP_KILL".into()];
    plan.capabilities.ambient = vec!["CAP_KILL".into()];
    plan.seccomp = Some(Seccomp {
        allow: vec!["chroot".into()],
        deny: vec!["mknod".into()],
        ..Seccomp::default()
    });
    plan.oom_score_adj = Some(-500);
    plan.network = Network::Veth(Veth {
        host_name: "v-web".into(),
        bridge: Some("cairn0".into()),
        name: "eth0".into(),
        mac: Some("02:00:00:00:00:01".into()),
        ipv4: Some(Ipv4 {
            address: [10, 0, 0, 3].into(),
            prefix: 24,
            gateway: Some([10, 0, 0, 1].into()),
        }),
        ipv6: Some(Ipv6 {
            address: "fd00::3".parse().unwrap(),
            prefix: 64,
            gateway: None,
        }),
    });
    plan.listen_fds = vec!["http".into()];
    plan.notify_socket = Some("/run/notify".into());
    plan
}

fn refusal(change: impl FnOnce(&mut Plan)) -> Failure {
    let mut plan = full();
    plan.check().unwrap();
    change(&mut plan);
    plan.check().unwrap_err()
}

#[test]
fn a_plan_survives_its_text() {
    for plan in [plan(), full()] {
        let text = serde_json::to_string_pretty(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}

#[test]
fn an_unknown_key_is_refused_at_every_level() {
    let text = serde_json::to_string(&full()).unwrap();
    for (known, wrong) in [
        ("\"umask\"", "\"umaks\""),
        ("\"read_only\":false", "\"readonly\":false"),
        ("\"gid\":34", "\"gdi\":34"),
        ("\"prefix\":24", "\"perfix\":24"),
        ("\"pid\":true", "\"pids\":true"),
        ("\"idmapped\":true", "\"id_mapped\":true"),
        ("\"on_violation\"", "\"violation\""),
    ] {
        assert!(text.contains(known), "{known}");
        let error = serde_json::from_str::<Plan>(&text.replacen(known, wrong, 1)).unwrap_err();
        assert!(error.to_string().contains("unknown field"), "{wrong}: {error}");
    }
}

#[test]
fn what_is_left_out_is_the_strict_default() {
    let text = r#"{"name":"x","ids":"single","root":"empty","argv":["/x"]}"#;
    let plan: Plan = serde_json::from_str(text).unwrap();
    assert!(plan.no_new_privs && plan.landlock && plan.reaper && plan.namespaces.time);
    assert_eq!((plan.network, plan.umask), (Network::Loopback, 0o022));
    assert!(plan.capabilities.bounding.is_empty());
    let mount: Mount = serde_json::from_str(r#"{"bind":{"source":"/a","target":"/b"}}"#).unwrap();
    assert!(matches!(
        mount,
        Mount::Bind {
            read_only: true,
            exec: false,
            suid: false,
            ..
        }
    ));
}

#[test]
fn a_wrong_plan_is_refused_by_field() {
    let cases: Vec<(&str, Change)> = vec![
        ("argv", Box::new(|plan| plan.argv.clear())),
        ("argv", Box::new(|plan| plan.argv[0] = "web".into())),
        ("argv", Box::new(|plan| plan.argv[1] = "a\0b".into())),
        (
            "ids.range.base",
            Box::new(|plan| plan.ids = Ids::Range { base: 0, count: 1 }),
        ),
        (
            "ids.range",
            Box::new(|plan| {
                plan.ids = Ids::Range {
                    base: u32::MAX,
                    count: 65_536,
                }
            }),
        ),
        ("user", Box::new(|plan| plan.user.uid = 65_536)),
        ("user.groups", Box::new(|plan| plan.ids = Ids::Single)),
        (
            "root.path",
            Box::new(|plan| {
                plan.root = Root::Tree {
                    path: "a/b".into(),
                    idmapped: false,
                }
            }),
        ),
        ("root.idmapped", Box::new(|plan| plan.ids = Ids::Host)),
        (
            "mounts.target",
            Box::new(|plan| plan.mounts.push(file("/etc/../x", "", 0))),
        ),
        ("mounts.target", Box::new(|plan| plan.mounts.push(file("/", "", 0)))),
        ("masked", Box::new(|plan| plan.masked.push("x".into()))),
        (
            "env.A=B",
            Box::new(|plan| drop(plan.env.insert("A=B".into(), String::new()))),
        ),
        ("umask", Box::new(|plan| plan.umask = 0o1000)),
        ("rlimits", Box::new(|plan| plan.rlimits[0].hard = 1)),
        (
            "capabilities.ambient",
            Box::new(|plan| plan.capabilities.bounding.clear()),
        ),
        (
            "reaper",
            Box::new(|plan| {
                plan.namespaces.pid = false;
                plan.mounts.clear();
            }),
        ),
        ("mounts.proc", Box::new(|plan| plan.namespaces.pid = false)),
        ("hostname", Box::new(|plan| plan.namespaces.uts = false)),
        ("sysctls", Box::new(|plan| plan.network = Network::Host)),
        (
            "sysctls.kernel.panic",
            Box::new(|plan| drop(plan.sysctls.insert("kernel.panic".into(), "1".into()))),
        ),
        (
            "sysctls.net../kernel",
            Box::new(|plan| drop(plan.sysctls.insert("net../kernel".into(), "1".into()))),
        ),
        ("oom_score_adj", Box::new(|plan| plan.oom_score_adj = Some(1001))),
        (
            "network.host_name",
            Box::new(|plan| veth(plan).host_name = "a-name-too-long-".into()),
        ),
        ("network.mac", Box::new(|plan| veth(plan).mac = Some("02:00".into()))),
        (
            "network.ipv4.prefix",
            Box::new(|plan| veth(plan).ipv4.as_mut().unwrap().prefix = 33),
        ),
    ];
    for (field, change) in cases {
        let failure = refusal(change);
        assert_eq!(
            (failure.step.as_str(), failure.path.to_str()),
            ("plan", Some(field)),
            "{failure}"
        );
    }
}

fn veth(plan: &mut Plan) -> &mut Veth {
    match &mut plan.network {
        Network::Veth(veth) => veth,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_is_not_in_the_debug_text() {
    assert_eq!(format!("{:?}", Content::new("geheim")), "<6 bytes>");
}

#[test]
fn reports_have_the_agreed_text() {
    for (report, text) in [
        (Report::Pid { pid: 7 }, r#"{"pid":7}"#),
        (Report::Execed { execed: true }, r#"{"execed":true}"#),
        (
            Report::Failed(Failure::new("mount", "/x", "no")),
            r#"{"step":"mount","path":"/x","error":"no"}"#,
        ),
        (Report::Exited { exited: 3 }, r#"{"exited":3}"#),
        (
            Report::Signaled {
                signaled: 9,
                core: false,
            },
            r#"{"signaled":9,"core":false}"#,
        ),
    ] {
        assert_eq!(report.to_line(), format!("{text}\n").into_bytes());
        assert_eq!(Report::parse(text.as_bytes()).unwrap(), report);
    }
    assert!(Report::parse(b"{}").is_err());
}

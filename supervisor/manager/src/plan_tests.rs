use cairn_sandbox::{Ids, Namespaces};

use super::*;
use crate::testing::manifest;

fn build(units: &[(&str, &str)], name: &str, role: Role) -> Plan {
    build_in(units, name, role, &OPTIONAL)
}

fn build_in(units: &[(&str, &str)], name: &str, role: Role, optional: &[&str]) -> Plan {
    let manifest = manifest(units);
    let secrets = BTreeMap::from([("admin".to_owned(), "s3cret".to_owned())]);
    let rendered = BTreeMap::from([("/etc/x.conf".to_owned(), "x".to_owned())]);
    let input = Input {
        config: &Config::appliance(),
        manifest: &manifest,
        name,
        unit: &manifest.units[name],
        secrets: &secrets,
        rendered: &rendered,
        resolv: Some(Path::new("/run/cairn/resolv.conf")),
        optional,
    };
    of(&input, role).unwrap()
}

fn target<'a>(plan: &'a Plan, path: &str) -> &'a Mount {
    plan.mounts
        .iter()
        .find(|m| m.target() == Path::new(path))
        .unwrap_or_else(|| panic!("no {path} in {plan:?}"))
}

const WEB: &str = r#"{"service":{"command":["/bin/web"],"user":"svc"}, "needs":{"db":"sql"},
    "state":{"/var/lib/web":{}}, "sandbox":{"capabilities":["net-bind-service"],"reason":"r"}}"#;
const DB: &str = r#"{"service":{"command":["/bin/db"],"user":"svc"}, "setup":[{"name":"s","command":["/bin/s"]}],
    "provides":{"sql":{"kind":"database","port":3306,"socket":"/run/db/sock"}}, "state":{"/var/lib/db":{}},
    "runtime":{"/run/db":{}}}"#;
const OTHER: &str = r#"{"network":{"mode":"none"}}"#;

#[test]
fn every_grant_is_one_that_the_unit_states() {
    let plan = build(&[("web", WEB), ("db", DB), ("other", OTHER)], "other", Role::Main);
    assert_eq!(plan.capabilities, Capabilities::default());
    assert!(plan.no_new_privs && plan.landlock && plan.seccomp.is_some() && plan.reaper);
    assert_eq!(plan.network, Network::Loopback);
    assert_eq!(plan.namespaces, Namespaces::default());
    let binds: Vec<&Mount> = plan.mounts.iter().filter(|m| matches!(m, Mount::Bind { .. })).collect();
    let binds: Vec<&Path> = binds.iter().map(|bind| bind.target()).collect();
    assert_eq!(binds, [Path::new("/dev/log"), Path::new("/run/notify")]);
}

#[test]
fn a_unit_is_told_of_a_locale_only_where_its_root_has_it() {
    let lang = |optional: &[&str]| build_in(&[("other", OTHER)], "other", Role::Main, optional).env["LANG"].clone();
    assert_eq!((lang(&OPTIONAL).as_str(), lang(&[]).as_str()), ("C.UTF-8", "C"));
    let plan = build(&[("other", OTHER)], "other", Role::Main);
    assert!(plan.mounts.iter().all(|m| !m.target().starts_with("/usr/lib/locale")));
}

#[test]
fn a_unit_runs_as_its_account_in_its_own_id_range() {
    let plan = build(&[("web", WEB), ("db", DB)], "web", Role::Main);
    assert_eq!(
        plan.user,
        User {
            uid: 101,
            gid: 102,
            groups: vec![7]
        }
    );
    assert_eq!(
        plan.ids,
        Ids::Range {
            base: 2 * 65_536,
            count: 65_536
        }
    );
    assert_eq!(plan.capabilities.ambient, ["CAP_NET_BIND_SERVICE"]);
}

#[test]
fn steps_between_versions_write_only_the_copy_and_have_no_network() {
    let db = r#"{"service": {"command": ["/db"], "user": "svc"}, "state": {"/var/lib/db": {}}, "secrets": {"admin": {}},
        "runtime": {"/run/db": {}}, "provides": {"sql": {"kind": "database", "socket": "/run/db/s"}},
        "migration": {"version": 2, "steps": [{"from": 1, "to": 2, "up": ["/up"], "down": ["/down"], "user": "root"}]}}"#;
    for (down, program) in [(false, "/up"), (true, "/down")] {
        let web = r#"{"needs": {"db": {"from": "sql", "optional": true}}}"#;
        let plan = build(&[("db", db), ("web", web)], "db", Role::Migrate { step: 0, down });
        assert_eq!((plan.argv.as_slice(), plan.user.uid), (&[program.to_owned()][..], 0));
        assert_eq!(plan.network, Network::Loopback);
        let states = plan.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { source, target, .. } if target == Path::new("/var/lib/db") => Some(source.clone()),
            _ => None,
        });
        assert_eq!(states.collect::<Vec<_>>(), [Path::new("/data/state/db.new/var-lib-db")]);
        // Its socket is not where others look for it.
        assert!(matches!(target(&plan, "/run/db"), Mount::Tmpfs { .. }));
    }
}

#[test]
fn setup_steps_write_only_the_new_state_and_have_no_network() {
    let plan = build(&[("db", DB)], "db", Role::Setup(0));
    assert_eq!(plan.network, Network::Loopback);
    let Mount::Bind { source, idmapped, .. } = target(&plan, "/var/lib/db") else {
        panic!()
    };
    assert_eq!(source, Path::new("/data/state/db.new/var-lib-db"));
    assert!(idmapped);
    assert!(
        plan.seccomp.is_some_and(|seccomp| seccomp.skip_sync),
        "it is flushed as a whole"
    );
    let plan = build(&[("db", DB)], "db", Role::Main);
    assert!(plan.seccomp.as_ref().is_some_and(|seccomp| !seccomp.skip_sync));
    let Mount::Bind { source, .. } = target(&plan, "/var/lib/db") else {
        panic!()
    };
    assert_eq!(source, Path::new("/data/state/db/var-lib-db"));
}

#[test]
fn a_bound_socket_is_the_same_folder_in_both_units_and_read_only_for_the_consumer() {
    let units = [("web", WEB), ("db", DB)];
    let (provider, consumer) = (build(&units, "db", Role::Main), build(&units, "web", Role::Main));
    let Mount::Bind {
        source: a,
        read_only: false,
        ..
    } = target(&provider, "/run/db")
    else {
        panic!()
    };
    let Mount::Bind {
        source: b,
        read_only: true,
        ..
    } = target(&consumer, "/run/db")
    else {
        panic!()
    };
    assert_eq!(a, b);
    let alone = build(&[("db", DB)], "db", Role::Main);
    assert!(matches!(target(&alone, "/run/db"), Mount::Tmpfs { .. }));
}

#[test]
fn a_provider_that_connects_sees_the_folder_of_each_socket_at_a_place_of_its_own() {
    let app = r#"{"needs":{"web":{"from":"web","socket":"/run/app/http.sock"}},"runtime":{"/run/app":{"mode":"0755"}},"network":{"mode":"none"}}"#;
    let proxy = r#"{"provides":{"web":{"kind":"http","upstream":{}}}}"#;
    let units = [("a", app), ("b", app), ("proxy", proxy)];
    let plan = build(&units, "proxy", Role::Main);
    for unit in ["a", "b"] {
        let Mount::Bind {
            source,
            read_only,
            idmapped,
            ..
        } = target(&plan, &format!("/run/upstream/{unit}.web"))
        else {
            panic!("no bind mount");
        };
        assert_eq!(*source, Config::appliance().shared(unit).join("run-app"));
        assert!(*read_only && *idmapped);
    }
    let Mount::Bind { source, read_only, .. } = target(&build(&units, "a", Role::Main), "/run/app").clone() else {
        panic!("no bind mount");
    };
    assert_eq!(source, Config::appliance().shared("a").join("run-app"));
    assert!(!read_only);
    let setup = build(&units, "proxy", Role::Setup(0));
    assert!(!setup.mounts.iter().any(|m| m.target().starts_with("/run/upstream")));
}

#[test]
fn a_shared_volume_is_the_providers_folder_and_written_by_others_only_if_it_says_so() {
    for writable in [false, true] {
        let store = format!(
            r#"{{"state":{{"/var/lib/store":{{}}}},"provides":{{"files":{{"kind":"volume","folder":"/var/lib/store","writable":{writable}}}}}}}"#
        );
        let units = [
            ("store", store.as_str()),
            ("app", r#"{"needs":{"files":"files"}}"#),
            ("other", "{}"),
        ];
        let plan = build(&units, "app", Role::Main);
        let Mount::Bind {
            source,
            read_only,
            idmapped,
            ..
        } = target(&plan, "/var/lib/store")
        else {
            panic!("no bind mount");
        };
        assert_eq!(*source, Config::appliance().state("store").join("var-lib-store"));
        assert!(*read_only != writable && *idmapped);
        let other = build(&units, "other", Role::Main);
        assert!(!other.mounts.iter().any(|m| m.target() == Path::new("/var/lib/store")));
    }
}

#[test]
fn hosts_names_the_unit_and_what_it_is_bound_to_and_nobody_else() {
    let units = [("web", WEB), ("db", DB), ("zed", r#"{"network":{"mode":"bridge"}}"#)];
    let plan = build(&units, "web", Role::Main);
    let Mount::File { content, .. } = target(&plan, "/etc/hosts") else {
        panic!()
    };
    let text = String::from_utf8(content.as_bytes().to_vec()).unwrap();
    assert!(
        text.contains("10.201.0.3 web web.test.internal\n") && text.contains("10.201.0.2 db db.test.internal\n"),
        "{text}"
    );
    assert!(!text.contains("zed"));
}

#[test]
fn secrets_are_for_the_service_account_alone_and_never_in_the_environment() {
    let plan = build(&[("web", WEB), ("db", DB)], "web", Role::Main);
    let Mount::Bind {
        source,
        read_only,
        idmapped,
        ..
    } = target(&plan, "/run/secrets")
    else {
        panic!()
    };
    assert_eq!(source, Path::new("/run/cairn/secrets/web"));
    assert!(*read_only && *idmapped);
    let setup = build(&[("web", WEB), ("db", DB)], "web", Role::Setup(0));
    let Mount::File { mode, uid, .. } = target(&setup, "/run/secrets/admin") else {
        panic!()
    };
    assert_eq!((*mode, *uid), (0o400, 101));
    assert!(!plan.env.values().any(|v| v.contains("s3cret")));
    assert!(!format!("{plan:?}").contains("s3cret"));
}

#[test]
fn rendered_files_are_in_a_folder_so_that_a_running_unit_sees_new_ones() {
    let mut all = manifest(&[("web", WEB), ("db", DB)]);
    let unit = all.units.get_mut("web").map(std::sync::Arc::make_mut).unwrap();
    unit.templates = vec![Template {
        path: "/etc/x.conf".parse().unwrap(),
    }];
    let (none, rendered) = (
        BTreeMap::new(),
        BTreeMap::from([("/etc/x.conf".to_owned(), "x".to_owned())]),
    );
    let build = |role| {
        let input = Input {
            config: &Config::appliance(),
            manifest: &all,
            name: "web",
            unit: &all.units["web"],
            secrets: &none,
            rendered: &rendered,
            resolv: None,
            optional: &[],
        };
        of(&input, role).unwrap()
    };
    let plan = build(Role::Main);
    let Mount::Bind { source, read_only, .. } = target(&plan, "/run/config") else {
        panic!()
    };
    assert!(source == Path::new("/run/cairn/config/web") && *read_only);
    // A setup step ends soon and may have another account.
    let setup = build(Role::Setup(0));
    let Mount::File { mode, uid, gid, .. } = target(&setup, "/run/config/etc/x.conf") else {
        panic!()
    };
    assert_eq!((*mode, *uid, *gid), (0o640, 0, 102));
}

#[test]
fn who_connects_knows_the_other_one_by_name() {
    let proxy = r#"{"provides":{"http":{"kind":"http","upstream":{}}}}"#;
    let wiki = r#"{"needs":{"web":{"from":"http","port":8000}}}"#;
    let text = |name| match target(
        &build_in(&[("proxy", proxy), ("wiki", wiki)], name, Role::Main, &["/etc/hosts"]),
        "/etc/hosts",
    ) {
        Mount::File { content, .. } => String::from_utf8_lossy(content.as_bytes()).into_owned(),
        other => panic!("{other:?}"),
    };
    assert!(text("proxy").contains(" wiki wiki.test.internal"), "{}", text("proxy"));
    assert!(!text("wiki").contains("proxy"), "{}", text("wiki"));
}

#[test]
fn name_servers_are_only_for_units_that_may_go_out() {
    let plan = build(&[("web", WEB), ("db", DB)], "web", Role::Main);
    assert!(plan.mounts.iter().all(|m| m.target() != Path::new("/etc/resolv.conf")));
    let plan = build(&[("out", r#"{"network":{"outbound":true}}"#)], "out", Role::Main);
    // What the network says later is seen by a unit that runs.
    let Mount::Bind { source, read_only, .. } = target(&plan, "/etc/resolv.conf") else {
        panic!()
    };
    assert!(source == Path::new("/run/cairn/resolv.conf") && *read_only);
}

#[test]
fn a_unit_in_the_appliances_own_network_changes_nothing_of_it() {
    let plan = build(&[("mdns", r#"{"network":{"mode":"host"}}"#)], "mdns", Role::Main);
    assert_eq!((plan.network.clone(), plan.sysctls.len()), (Network::Host, 0));
    plan.check().unwrap();
}

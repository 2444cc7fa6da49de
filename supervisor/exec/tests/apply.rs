//! What a plan grants is there, and a step that fails says which.

mod common;
use common::{bind, helper, plan, root, run, run_waiting, script, start, start_on};

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cairn_sandbox::{FAILED_EXIT, Ids, Mount, Network, Outcome, Plan, Report, Resource, Rlimit, Root, file};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

fn fails(plan: &Plan, step: &str, path: &str) {
    let ran = run(plan);
    let failure = ran.failure();
    assert_eq!(
        (failure.step.as_str(), failure.path.to_str().unwrap()),
        (step, path),
        "{ran:?}"
    );
    assert!(ran.helper == FAILED_EXIT, "{ran:?}");
    assert!(
        !ran.reports.iter().any(|report| matches!(report, Report::Execed { .. })),
        "{ran:?}"
    );
    assert_eq!(ran.output, "", "nothing ran");
}

#[test]
fn each_failing_step_says_its_name_and_path() {
    if !root("each_failing_step_says_its_name_and_path") {
        return;
    }
    let with = |change: &dyn Fn(&mut Plan)| {
        let mut plan = script("echo ran");
        change(&mut plan);
        plan
    };
    fails(
        &with(&|plan| plan.mounts.push(bind(Path::new("/nowhere"), "/tmp/x", false))),
        "bind",
        "/nowhere",
    );
    fails(
        &with(&|plan| plan.mounts.push(bind(Path::new("/etc"), "/not-there", false))),
        "mount",
        "/not-there",
    );
    fails(
        &with(&|plan| plan.mounts.push(bind(Path::new("/etc/passwd"), "/usr", false))),
        "mount",
        "/usr",
    );
    fails(
        &with(&|plan| {
            plan.root = Root::Tree {
                path: "/nowhere".into(),
                idmapped: true,
            }
        }),
        "bind",
        "/nowhere",
    );
    fails(
        &with(&|plan| plan.mounts.push(bind(Path::new("/proc/self"), "/tmp/x", false))),
        "idmap",
        "/proc/self",
    );
    fails(
        &with(&|plan| plan.argv = vec!["/bin/nothing".into()]),
        "exec",
        "/bin/nothing",
    );
    fails(
        &with(&|plan| plan.argv = vec!["/etc/passwd".into()]),
        "exec",
        "/etc/passwd",
    );
    fails(&with(&|plan| plan.cwd = "/nowhere".into()), "cwd", "/nowhere");
    fails(&with(&|plan| plan.masked.push("/nowhere".into())), "mask", "/nowhere");
    fails(
        &with(&|plan| plan.read_only.push("/nowhere".into())),
        "read-only",
        "/nowhere",
    );
    fails(
        &with(&|plan| plan.capabilities.bounding.push("CAP_NONE".into())),
        "capabilities",
        "CAP_NONE",
    );
    fails(
        &with(&|plan| drop(plan.sysctls.insert("net.no.such".into(), "1".into()))),
        "sysctl",
        "net.no.such",
    );
    fails(
        &with(&|plan| plan.seccomp.as_mut().unwrap().allow.push("opan".into())),
        "seccomp",
        "opan",
    );
    fails(&with(&|plan| plan.argv.clear()), "plan", "argv");
    fails(&with(&|plan| plan.listen_fds.push("web".into())), "listen-fds", "web");
    for reaper in [true, false] {
        fails(
            &with(&|plan| {
                plan.reaper = reaper;
                plan.argv = vec!["/bin/nothing".into()];
            }),
            "exec",
            "/bin/nothing",
        );
    }
}

#[test]
fn an_unknown_key_in_the_plan_is_refused() {
    let text = serde_json::to_string(&script("true"))
        .unwrap()
        .replacen("\"name\"", "\"nmae\"", 1);
    let ran = start(text.as_bytes(), &[]).finish(Vec::new());
    assert_eq!(ran.failure().step, "plan");
    assert!(ran.failure().error.contains("nmae"), "{ran:?}");
}

#[test]
fn reports_come_in_order_and_the_status_is_exact() {
    if !root("reports_come_in_order_and_the_status_is_exact") {
        return;
    }
    let ran = run(&script("exit 7"));
    assert!(
        matches!(
            ran.reports.as_slice(),
            [
                Report::Pid { .. },
                Report::Execed { execed: true },
                Report::Exited { exited: 7 }
            ]
        ),
        "{ran:?}"
    );
    assert!(
        matches!(ran.first, Some(WaitStatus::Exited(_, 7))) && ran.helper == 0,
        "{ran:?}"
    );
    let ran = run(&script("kill -SEGV $$"));
    assert!(
        matches!(ran.reports.last(), Some(Report::Signaled { signaled: 11, .. })),
        "{ran:?}"
    );
    assert!(matches!(ran.first, Some(WaitStatus::Exited(_, 139))), "{ran:?}");
}

#[test]
fn ids_are_mapped_and_state_is_written_as_inside() {
    if !root("ids_are_mapped_and_state_is_written_as_inside") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut inside = script("id -u; id -g; id -G; echo x > /mnt/f; cat /proc/self/uid_map");
    inside.user = cairn_sandbox::User {
        uid: 33,
        gid: 34,
        groups: vec![35],
    };
    inside.mounts.push(bind(state.path(), "/mnt", true));
    let ran = run(&inside);
    let words: Vec<_> = ran.ok().split_whitespace().collect();
    assert_eq!(words, ["33", "34", "34", "35", "0", "900000", "65536"]);
    let file = state.path().join("f").metadata().unwrap();
    assert_eq!((file.uid(), file.gid()), (33, 34));
}

#[test]
fn the_process_is_not_root_on_the_host() {
    if !root("the_process_is_not_root_on_the_host") {
        return;
    }
    let mut started = start(&serde_json::to_vec(&script("id -u; sleep 5")).unwrap(), &[]);
    let (first, reports) = started.until_running();
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("Uid:\t900000\t900000"), "{status}");
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    let ran = started.finish(reports);
    assert!(
        matches!(ran.reports.last(), Some(Report::Signaled { signaled: 15, .. })),
        "{ran:?}"
    );
}

#[test]
fn a_credential_is_readable_by_its_user_only_and_only_inside() {
    if !root("a_credential_is_readable_by_its_user_only_and_only_inside") {
        return;
    }
    let mut inside = script(
        "cat /tmp/credentials/password; echo; stat -c '%a %u' /tmp/credentials/password; echo x > /tmp/credentials/password",
    );
    let credential = Mount::File {
        target: "/tmp/credentials/password".into(),
        content: cairn_sandbox::Content::new("geheim"),
        mode: 0o400,
        uid: 33,
        gid: 33,
    };
    inside.mounts.push(credential);
    inside.user = cairn_sandbox::User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    let ran = run(&inside);
    assert!(ran.output.starts_with("geheim\n400 33\n"), "{ran:?}");
    assert!(
        ran.output.contains("Read-only file system") || ran.output.contains("ermission denied"),
        "{ran:?}"
    );
    assert!(!Path::new("/tmp/credentials").exists());
    assert!(!format!("{inside:?}").contains("geheim"), "Debug must not show secrets");
    inside.user = cairn_sandbox::User {
        uid: 34,
        gid: 34,
        groups: Vec::new(),
    };
    assert!(!run(&inside).output.contains("geheim"));
}

#[test]
fn a_file_replaces_one_of_the_read_only_root() {
    if !root("a_file_replaces_one_of_the_read_only_root") {
        return;
    }
    let mut inside = script("cat /etc/hosts");
    inside.mounts.push(file("/etc/hosts", "10.0.0.2 db\n", 0o644));
    assert_eq!(run(&inside).ok(), "10.0.0.2 db");
}

#[test]
fn no_descriptor_leaks_into_the_command() {
    if !root("no_descriptor_leaks_into_the_command") {
        return;
    }
    // Sockets beyond what the plan lists are not passed on either.
    let extra: Vec<std::os::fd::OwnedFd> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap().into())
        .collect();
    for reaper in [true, false] {
        let mut inside = plan(&[
            "/usr/bin/perl",
            "-e",
            "opendir D, '/proc/self/fd'; print join ' ', sort grep !/\\./, readdir D",
        ]);
        inside.reaper = reaper;
        let ran = start(&serde_json::to_vec(&inside).unwrap(), &extra).finish(Vec::new());
        // 3 is the folder being listed.
        assert_eq!(ran.output.trim(), "0 1 2 3", "{ran:?}");
    }
}

#[test]
fn listening_sockets_arrive_in_order() {
    if !root("listening_sockets_arrive_in_order") {
        return;
    }
    let sockets: Vec<std::os::fd::OwnedFd> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap().into())
        .collect();
    let mut inside = script("echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$; ls -l /proc/self/fd/ | grep -c socket");
    inside.listen_fds = vec!["a".into(), "b".into(), "c".into()];
    let ran = start(&serde_json::to_vec(&inside).unwrap(), &sockets).finish(Vec::new());
    assert_eq!(ran.ok(), "3 a:b:c 2 2\n3");
}

#[test]
fn orphans_are_reaped_and_end_with_the_command() {
    if !root("orphans_are_reaped_and_end_with_the_command") {
        return;
    }
    let ran = run(&script(
        "(sleep 0.05 &) ; (sleep 100 &); sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status; exit 0",
    ));
    assert_eq!(ran.ok(), "");
}

#[test]
fn signals_reach_the_command() {
    if !root("signals_reach_the_command") {
        return;
    }
    let text = "trap 'echo hup' HUP; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut started = start(&serde_json::to_vec(&script(text)).unwrap(), &[]);
    let (first, reports) = started.until_running();
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(Pid::from_raw(first), Signal::SIGHUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    let ran = started.finish(reports);
    assert_eq!(ran.output, "ready\nhup\nterm\n");
    assert_eq!(ran.reports.last(), Some(&Report::Exited { exited: 3 }));
}

#[test]
fn limits_masks_and_the_environment_are_as_planned() {
    if !root("limits_masks_and_the_environment_are_as_planned") {
        return;
    }
    let mut inside = script("ulimit -n; umask; hostname; env | sort | tr '\\n' ' '; pwd; cat /proc/self/oom_score_adj");
    inside.rlimits.push(Rlimit {
        resource: Resource::Nofile,
        soft: 77,
        hard: 99,
    });
    inside.umask = 0o027;
    inside.hostname = Some("unit".into());
    inside.cwd = "/tmp".into();
    inside.notify_socket = Some("/run/notify".into());
    inside.oom_score_adj = Some(321);
    let ran = run(&inside);
    let want = "77\n0027\nunit\nNOTIFY_SOCKET=/run/notify PATH=/usr/sbin:/usr/bin:/sbin:/bin PWD=/tmp /tmp\n321";
    assert_eq!(ran.ok(), want);
}

#[test]
fn a_low_port_needs_no_capability() {
    if !root("a_low_port_needs_no_capability") {
        return;
    }
    let mut inside = plan(&[
        "/usr/bin/perl",
        "-MIO::Socket::INET",
        "-e",
        "IO::Socket::INET->new(LocalAddr=>'127.0.0.1:80',Listen=>1) or die $!; print 'bound'",
    ]);
    inside.user = cairn_sandbox::User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    assert_eq!(run(&inside).ok(), "bound");
    inside.sysctls.clear();
    assert!(run(&inside).output.contains("Permission denied"));
}

#[test]
fn ambient_capabilities_are_what_is_kept() {
    if !root("ambient_capabilities_are_what_is_kept") {
        return;
    }
    let mut inside = script("grep -E '^Cap' /proc/self/status | cut -f2 | sort -u | tr '\\n' ' '");
    inside.user = cairn_sandbox::User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    inside.capabilities.bounding = vec!["CAP_NET_BIND_SERVICE".into()];
    inside.capabilities.ambient = vec!["CAP_NET_BIND_SERVICE".into()];
    assert_eq!(run(&inside).ok(), "0000000000000400");
}

#[test]
fn without_no_new_privs_the_filter_still_holds() {
    if !root("without_no_new_privs_the_filter_still_holds") {
        return;
    }
    let mut inside =
        script("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2 | tr '\\n' ' '; echo x > /usr/x");
    inside.no_new_privs = false;
    inside.user = cairn_sandbox::User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    let ran = run(&inside);
    assert!(ran.output.starts_with("0 2"), "{ran:?}");
}

#[test]
fn a_waiting_helper_gives_output_and_status() {
    if !root("a_waiting_helper_gives_output_and_status") {
        return;
    }
    assert_eq!(
        run_waiting(&script("echo hello; exit 4")),
        (Outcome::Exited(4), "hello\n".to_owned())
    );
    let mut inside = script("echo $$");
    inside.reaper = false;
    assert_eq!(run_waiting(&inside).1, "1\n");
}

#[test]
fn the_host_network_and_ids_are_granted_when_stated() {
    if !root("the_host_network_and_ids_are_granted_when_stated") {
        return;
    }
    let mut inside = script("readlink /proc/self/ns/net /proc/self/ns/user");
    inside.network = Network::Host;
    inside.sysctls.clear();
    inside.ids = Ids::Host;
    inside.root = Root::Tree {
        path: "/".into(),
        idmapped: false,
    };
    let ran = run(&inside);
    for (line, kind) in ran.ok().lines().zip(["net", "user"]) {
        assert_eq!(
            Path::new(line),
            std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap()
        );
    }
    assert!(helper().exists());
}

#[test]
fn a_process_that_is_named_main_takes_its_place() {
    if !root("a_process_that_is_named_main_takes_its_place") {
        return;
    }
    // The first main process leaves a successor behind, which gets the signals and whose end is the sandbox's.
    let text = "sh -c 'trap \"exit 7\" TERM; echo up; while :; do sleep 0.05; done' & echo $!; read line; exit 0";
    let (read, write) = std::io::pipe().unwrap();
    let output = tempfile::tempfile().unwrap();
    let streams = [
        read.into(),
        output.try_clone().unwrap().into(),
        output.try_clone().unwrap().into(),
    ];
    let mut started = start_on(streams, &[], &serde_json::to_vec(&script(text)).unwrap(), &[]);
    let (first, reports) = started.until_running();
    let said = || std::fs::read_to_string(format!("/proc/self/fd/{}", output.as_raw_fd())).unwrap();
    while !said().contains("up") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Numbers of no process change nothing.
    for other in [0, 1, -5, 30_000] {
        cairn_sandbox::set_main(first, other).unwrap();
    }
    let successor = said().lines().find_map(|line| line.parse().ok()).unwrap();
    cairn_sandbox::set_main(first, successor).unwrap();
    drop(write);
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    let ran = started.finish(reports);
    assert_eq!(ran.reports.last(), Some(&Report::Exited { exited: 7 }), "{ran:?}");
}

//! Probes from inside a hostile unit under the default plan: each must fail.

mod common;
use common::{bind, plan, root, run, script};

use std::net::TcpListener;
use std::path::Path;

use cairn_sandbox::{Mount, Plan, file};

/// Runs a shell test that must not succeed, after one that shows that the sandbox works at all.
fn refused(plan: Plan, what: &str) {
    let mut plan = plan;
    plan.argv = vec![
        "/bin/sh".into(),
        "-c".into(),
        format!("echo alive; if {what}; then echo REACHED; fi; exit 0"),
    ];
    let ran = run(&plan);
    let output = ran.ok();
    assert!(
        output.contains("alive") && !output.contains("REACHED"),
        "{what}: {output}"
    );
}

/// What a Perl system call answers: its errno, 0 if it succeeded.
fn errno(plan: Plan, call: &str) -> i32 {
    let mut plan = plan;
    let code = format!("my $r = syscall({call}); print $r == -1 ? $!+0 : 0");
    plan.argv = vec!["/usr/bin/perl".into(), "-e".into(), code];
    let ran = run(&plan);
    ran.ok().parse().unwrap_or_else(|_| panic!("{ran:?}"))
}

const EPERM: i32 = 1;

/// The default plan without seccomp and Landlock: the other walls alone have to hold.
fn bare() -> Plan {
    let mut plan = plan(&["/bin/true"]);
    plan.seccomp = None;
    plan.landlock = false;
    plan
}

#[test]
fn host_processes_do_not_exist_inside() {
    if !root("host_processes_do_not_exist_inside") {
        return;
    }
    let ran = run(&script(
        "cd /proc && ls -d [0-9]* | sort -n | tr '\\n' ' '; kill -0 100 2>&1; true",
    ));
    let ids: Vec<u32> = ran
        .ok()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .map_while(|id| id.parse().ok())
        .collect();
    assert!(ids.len() >= 2 && ids.iter().all(|id| *id < 12), "{ran:?}");
    refused(bare(), "grep -qs cargo /proc/[0-9]*/comm");
}

#[test]
fn the_host_tree_is_gone_behind_the_root() {
    if !root("the_host_tree_is_gone_behind_the_root") {
        return;
    }
    let hidden = tempfile::tempdir().unwrap();
    std::fs::write(hidden.path().join("mark"), "x").unwrap();
    let service = tempfile::tempdir().unwrap();
    for folder in ["bin", "lib", "lib64", "usr", "proc", "dev", "tmp"] {
        std::fs::create_dir(service.path().join(folder)).unwrap();
    }
    let mut inside = bare();
    inside.root = cairn_sandbox::Root::Tree {
        path: service.path().into(),
        idmapped: true,
    };
    for folder in ["/bin", "/lib", "/lib64", "/usr"] {
        let mount = bind(Path::new(folder), folder, false);
        let Mount::Bind { source, target, .. } = mount else {
            unreachable!()
        };
        inside.mounts.push(Mount::Bind {
            source,
            target,
            read_only: true,
            idmapped: true,
            recursive: false,
            exec: true,
            suid: false,
        });
    }
    let mark = hidden.path().join("mark");
    let mark = mark.to_str().unwrap();
    refused(inside.clone(), &format!("test -e {mark}"));
    refused(
        inside.clone(),
        &format!("test -e /../{mark} || (cd /.. && test -e ./{mark})"),
    );
    refused(inside.clone(), &format!("test -e /proc/1/root/{mark}"));
    inside.argv = vec![
        "/bin/sh".into(),
        "-c".into(),
        "cut -d' ' -f5 /proc/self/mountinfo".into(),
    ];
    let ran = run(&inside);
    let allowed = ["/", "/bin", "/lib", "/lib64", "/usr", "/tmp"];
    for point in ran.ok().lines() {
        assert!(
            allowed.contains(&point) || point.starts_with("/proc") || point.starts_with("/dev"),
            "{point}"
        );
    }
}

#[test]
fn nothing_but_declared_places_can_be_written() {
    if !root("nothing_but_declared_places_can_be_written") {
        return;
    }
    for place in [
        "/x",
        "/usr/x",
        "/etc/x",
        "/dev/x",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
    ] {
        refused(plan(&["/bin/true"]), &format!("echo 1 > {place}"));
        refused(bare(), &format!("echo 1 > {place}"));
    }
    assert_eq!(
        run(&script(
            "echo ok > /tmp/x && echo ok > /dev/shm/x && echo > /dev/null && cat /tmp/x"
        ))
        .ok(),
        "ok"
    );
}

#[test]
fn mounting_is_refused() {
    if !root("mounting_is_refused") {
        return;
    }
    refused(plan(&["/bin/true"]), "mount -t tmpfs none /tmp");
    refused(
        bare(),
        "mount -t tmpfs none /tmp || mount -o remount,rw / || umount /proc/sys",
    );
}

#[test]
fn a_namespace_of_its_own_is_refused() {
    if !root("a_namespace_of_its_own_is_refused") {
        return;
    }
    refused(plan(&["/bin/true"]), "unshare -U true");
    // clone with CLONE_NEWUSER, and clone3, which would hide it.
    assert_eq!(errno(plan(&["/bin/true"]), "56, 0x10000000 | 17, 0, 0, 0, 0"), EPERM);
    assert_eq!(errno(plan(&["/bin/true"]), "435, 0, 0"), 38);
}

#[test]
fn system_calls_that_reach_the_host_are_refused() {
    if !root("system_calls_that_reach_the_host_are_refused") {
        return;
    }
    for (name, call) in [
        ("ptrace", "101, 16, 1, 0, 0"),
        ("init_module", "175, 0, 0, 0"),
        ("finit_module", "313, 0, 0, 0"),
        ("bpf", "321, 0, 0, 0"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0"),
        ("keyctl", "250, 0, 0, 0, 0, 0"),
        ("reboot", "169, 0, 0, 0, 0"),
        ("clock_settime", "227, 0, 0"),
        ("settimeofday", "164, 0, 0"),
        ("unshare", "272, 0x10000000"),
        ("io_uring_setup", "425, 1, 0"),
        ("socket AF_PACKET", "41, 17, 3, 0"),
        ("socket AF_ALG", "41, 38, 5, 0"),
        ("personality", "135, 0x0400000"),
    ] {
        assert_eq!(errno(plan(&["/bin/true"]), call), EPERM, "{name}");
    }
    assert_eq!(errno(plan(&["/bin/true"]), "41, 1, 1, 0"), 0, "an ordinary socket");
}

#[test]
fn a_refused_call_can_kill_instead() {
    if !root("a_refused_call_can_kill_instead") {
        return;
    }
    let mut inside = plan(&["/usr/bin/perl", "-e", "syscall(169, 0, 0, 0, 0)"]);
    inside.seccomp = Some(cairn_sandbox::Seccomp {
        on_violation: cairn_sandbox::OnViolation::Kill,
        ..cairn_sandbox::Seccomp::default()
    });
    let ran = run(&inside);
    assert!(
        matches!(
            ran.reports.last(),
            Some(cairn_sandbox::Report::Signaled { signaled: 31, .. })
        ),
        "{ran:?}"
    );
}

#[test]
fn where_nothing_waits_for_the_disk_a_call_for_it_succeeds_and_does_nothing() {
    if !root("where_nothing_waits_for_the_disk_a_call_for_it_succeeds_and_does_nothing") {
        return;
    }
    // fsync and fdatasync of nothing: EBADF where the kernel is asked.
    for call in ["74, 99", "75, 99"] {
        assert_eq!(errno(plan(&["/bin/true"]), call), 9);
        let mut skipping = plan(&["/bin/true"]);
        skipping.seccomp.get_or_insert_default().skip_sync = true;
        assert_eq!(errno(skipping, call), 0);
    }
}

#[test]
fn the_reaper_cannot_be_traced_or_looked_into() {
    if !root("the_reaper_cannot_be_traced_or_looked_into") {
        return;
    }
    assert_eq!(errno(bare(), "101, 16, 1, 0, 0"), EPERM, "PTRACE_ATTACH to PID 1");
    refused(bare(), "ls /proc/1/fd || ls /proc/1/root || readlink /proc/1/exe");
}

#[test]
fn device_nodes_cannot_be_made_or_opened() {
    if !root("device_nodes_cannot_be_made_or_opened") {
        return;
    }
    refused(bare(), "mknod /tmp/vda b 254 0");
    refused(bare(), "mknod /tmp/kmsg c 1 11");
    let ran = run(&script("ls /dev | tr '\\n' ' '"));
    assert_eq!(
        ran.ok(),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    refused(bare(), "head -c1 /proc/kcore || head -c1 /proc/kallsyms | grep -q .");
}

#[test]
fn the_host_loopback_is_out_of_reach() {
    if !root("the_host_loopback_is_out_of_reach") {
        return;
    }
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let connect = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null");
    refused(plan(&["/bin/true"]), &connect);
    let ran = run(&script("cut -d: -f1 -s /proc/net/dev | tr -d ' \\n'"));
    assert!(
        ["lo", "losit0", "lotunl0sit0"].contains(&ran.ok()) || !ran.ok().contains("eth"),
        "{ran:?}"
    );
}

#[test]
fn no_capability_is_left() {
    if !root("no_capability_is_left") {
        return;
    }
    let ran = run(&script(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | cut -f2 | sort -u | tr '\\n' ' '",
    ));
    assert_eq!(ran.ok(), "0000000000000000 1 2");
}

#[test]
fn landlock_is_in_force_and_keeps_signals_inside() {
    if !root("landlock_is_in_force_and_keeps_signals_inside") {
        return;
    }
    // The reaper is outside the Landlock domain and of the same user: nothing but Landlock keeps a signal from it.
    let mut inside = script("kill -0 1 2>/dev/null && echo reached || echo refused");
    inside.seccomp = None;
    assert_eq!(run(&inside).ok(), "refused");
    inside.landlock = false;
    assert_eq!(run(&inside).ok(), "reached");
}

#[test]
fn a_link_in_the_state_does_not_lead_a_mount_outside() {
    if !root("a_link_in_the_state_does_not_lead_a_mount_outside") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), state.path().join("sub")).unwrap();
    let mut inside = script("ls -l /mnt");
    inside.mounts.push(bind(state.path(), "/mnt", true));
    inside.mounts.push(file("/mnt/sub/hosts", "evil", 0o644));
    let ran = run(&inside);
    // The link names a path that exists inside as well (the test's root is the host's), but is looked up there: read-only.
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{ran:?}");
    assert_eq!(ran.failure().step, "mount");
}

#[test]
fn later_mounts_of_the_host_do_not_appear_inside() {
    const SHARED: &str = "CAIRN_TEST_SHARED";
    let test = "later_mounts_of_the_host_do_not_appear_inside";
    if !root(test) {
        return;
    }
    if std::env::var_os(SHARED).is_none() {
        let ran = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "shared"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(SHARED, "1")
            .status()
            .unwrap();
        assert!(ran.success());
        return;
    }
    let mut inside = script("cat /proc/self/mountinfo");
    inside.mounts.push(bind(Path::new("/usr"), "/mnt", false));
    inside.mounts.push(file("/etc/hosts", "", 0o644));
    let ran = run(&inside);
    assert!(
        ran.ok().contains("/mnt") && !ran.ok().contains("shared:") && !ran.ok().contains("master:"),
        "{ran:?}"
    );
}

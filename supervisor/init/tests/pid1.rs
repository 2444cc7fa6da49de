//! PID 1 with a manager that follows a script.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use common::World;

#[test]
fn a_spawned_process_is_reported_with_its_end() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 7 exit 3\nexpect token=7 exit code 3\nspawn 8 kill -9 $$\nexpect token=8 signal 9\nshutdown 100",
        )
        .run();
    assert_eq!(
        end.of(0)[2..],
        [
            "spawned token=7",
            "exited seq=1 token=7 exit code 3",
            "spawned token=8",
            "exited seq=2 token=8 signal 9"
        ]
    );
    assert_eq!(end.code, Some(0));
}

#[test]
fn the_successor_of_a_killed_manager_gets_processes_descriptors_and_exits_back() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 1 sleep 1000\nexpect spawned token=1\nspawn 2 exit 4\nexpect token=2 exit\nack 1\n\
             spawn 3 exit 5\nexpect token=3 exit\nstore pipe hello there\nstore gone x\nremove gone\ndie",
        )
        .manager(1, "hello\nexpect token=3 exit code 5\nack 2\nshutdown 100")
        .run();
    assert_eq!(
        end.of(1),
        [
            "Welcome { generation: 1, running: 1, stored: 1, exits: 1, origin: Image }",
            "running token=1",
            "stored pipe hello there",
            "Resumed",
            "exited seq=2 token=3 exit code 5",
        ]
    );
}

/// Each time the manager asks as soon as the kernel says that the process has ended, which is before or after it is reaped.
#[test]
fn a_barrier_names_the_exit_of_everything_that_has_ended() {
    let round = |n: u32| format!("spawn {n} exit 4\nawait-end {n}\nbarrier\nexpect Passed {{ seq: {n}, all: true }}\n");
    let rounds: String = (1..=50).map(round).collect();
    let script = format!(
        "hello\nbarrier\nexpect Passed {{ seq: 0, all: true }}\n{rounds}expect seq=50 token=50 exit code 4\nshutdown 100"
    );
    let end = World::new().manager(0, &script).run();
    let passed = |line: &&str| line.starts_with("Passed");
    assert_eq!(end.of(0).into_iter().filter(passed).count(), 51, "{:#?}", end.log);
    assert_eq!(end.code, Some(0));
}

#[test]
fn what_a_manager_asked_for_before_its_death_is_done() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 1 exit 4\nexpect token=1 exit\nspawn 2 exit 5\nspawn 3 exit 5\nspawn 4 exit 5\nstore last words\ndie",
        )
        .manager(1, "hello\nexpect token=2 exit code 5\nexpect token=3 exit code 5\nexpect token=4 exit code 5\nshutdown 100")
        .run();
    assert!(end.has("stored last words"), "{:#?}", end.log);
}

#[test]
fn thirty_killed_managers_stop_no_service_and_lose_no_exit() {
    let mut world = World::new().manager(
        0,
        "hello\nspawn 1 sleep 1000\nspawn 2 exit 6\nexpect spawned token=2\ndie",
    );
    world = world.manager(30, "hello\nexpect Resumed\nexpect token=2 exit code 6\nshutdown 100");
    let end = world.others("hello\ndie").run();
    assert_eq!(end.count("started"), 31);
    let last = end.of(30);
    assert!(last.contains(&"running token=1"), "{last:?}");
    assert!(last.contains(&"exited seq=1 token=2 exit code 6"), "{last:?}");
    assert!(!end.console.contains("EMERGENCY"));
}

#[test]
fn an_orphan_is_reaped_and_reported_without_a_token() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 1 (sleep 0.2; exit 9) & exit 0\nexpect token=1 exit code 0\nexpect token=0 exit code 9\nshutdown 100",
        )
        .run();
    assert!(end.has("seq=2 token=0 exit code 9"));
}

#[test]
fn more_exits_than_fit_wait_in_the_kernel_and_the_manager_that_dies_meanwhile_is_followed_by_another() {
    let orphans = "n=0; while [ $n -lt 4200 ]; do (: &); n=$((n+1)); done; exit 7";
    let end = World::new()
        .manager(0, &format!("hello\nspawn 1 {orphans}\nexpect seq=4096 \ndie"))
        .manager(
            1,
            "hello\nexpect seq=4096 \nack 4096\nexpect token=1 exit code 7\nexpect seq=4201 \nshutdown 100",
        )
        .run();
    assert!(end.of(1)[0].contains("exits: 4096"), "{}", end.of(1)[0]);
    assert_eq!(end.of(1).iter().filter(|line| line.starts_with("exited")).count(), 4201);
}

#[test]
fn malformed_requests_are_refused_and_the_next_good_one_works() {
    let end = World::new()
        .manager(
            0,
            "hello\nraw 1\nraw 96\nraw 97\nraw 5000\nexpect Resumed\nspawn 1 exit 2\nexpect token=1 exit code 2\nshutdown 100",
        )
        .run();
    assert_eq!(end.count("Refused { request: 255, errno: 22 }"), 3);
    assert_eq!(end.count("Refused { request: 0, errno: 22 }"), 1);
    assert!(end.console.contains("refused a request of the manager"));
}

#[test]
fn nothing_is_done_for_a_manager_that_has_not_said_hello() {
    let end = World::new()
        .manager(0, "spawn 1 exit 2\nexpect Refused\nhello\nexpect Resumed\nshutdown 100")
        .run();
    assert!(end.has("Refused { request: 2, errno: 71 }"));
    assert!(!end.has("spawned"));
}

#[test]
fn a_second_process_under_one_token_is_refused() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 1 sleep 1000\nspawn 1 sleep 1000\nexpect SpawnFailed\nshutdown 100",
        )
        .run();
    assert!(end.has("SpawnFailed { token: 1, errno: 17 }"));
}

#[test]
fn a_program_that_cannot_run_is_reported_with_its_errno_and_no_exit() {
    let mut world = World::new();
    let file = world.folder.path().join("not-a-program");
    fs::write(&file, "text").unwrap();
    world.exec = file;
    let end = world
        .manager(0, "hello\nspawn 1 x\nexpect SpawnFailed\nshutdown 100")
        .run();
    assert!(end.has("SpawnFailed { token: 1, errno: 13 }"), "{:#?}", end.log);
    assert!(!end.has("exited"));
}

#[test]
fn a_manager_that_will_not_stay_up_is_an_emergency_that_still_ends_cleanly() {
    // The sixth manager asks for the power to go off on its way out: nobody is there to answer.
    let end = World::new()
        .manager(6, "kill-init SIGTERM\nserve")
        .others("hello\nexit 1")
        .run();
    assert!(end.console.contains("EMERGENCY"), "{}", end.console);
    assert!(end.console.contains("stopping: switching off"));
    assert_eq!(end.code, Some(0));
}

#[test]
fn the_manager_is_asked_before_the_power_goes_off() {
    let end = World::new()
        .manager(0, "hello\nspawn 1 sleep 1000\nexpect spawned\nkill-init SIGTERM\nserve")
        .run();
    assert!(end.has("PowerRequest { kind: PowerOff }"));
    assert_eq!(end.code, Some(0));
}

#[test]
fn ctrl_alt_del_restarts() {
    let end = World::new()
        .manager(0, "hello\nexpect Resumed\nkill-init SIGINT\nserve")
        .run();
    assert_eq!(end.code, Some(64));
}

#[test]
fn a_manager_that_ignores_the_button_is_not_waited_for_for_ever() {
    let end = World::new()
        .arguments(&["--power-patience-ms", "500"])
        .manager(0, "hello\nexpect Resumed\nkill-init SIGTERM\nexpect never")
        .run();
    assert!(end.console.contains("did not stop the units in time"));
    assert_eq!(end.code, Some(0));
}

#[test]
fn what_ignores_sigterm_is_named_and_killed_at_the_deadline() {
    let end = World::new()
        .manager(
            0,
            "hello\nspawn 1 trap '' TERM; while :; do sleep 1; done\nexpect spawned\nspawn 2 sleep 0.5\nexpect token=2 exit\nshutdown 4000",
        )
        .run();
    assert!(end.console.contains("s more for"), "{}", end.console);
    assert!(end.console.contains("killing what did not stop in 4 s"));
    assert!(end.took < Duration::from_secs(20));
}

#[test]
fn a_service_gets_its_listening_sockets_behind_the_five_descriptors() {
    let check = "n=0; while [ $n -lt 16 ]; do [ \"$(cat /proc/self/fd/$((n+5)))\" = \"socket $n\" ] || exit 1; n=$((n+1)); done; \
                 [ ! -e /proc/self/fd/21 ] || exit 2; exit 5";
    let none = "[ ! -e /proc/self/fd/5 ] || exit 2; exit 6";
    let end = World::new()
        .manager(
            0,
            &format!(
                "hello\nlisten 16 1 {check}\nexpect token=1 exit\nlisten 0 2 {none}\nexpect token=2 exit\nshutdown 100"
            ),
        )
        .run();
    assert!(end.has("token=1 exit code 5"), "{:#?}", end.log);
    assert!(end.has("token=2 exit code 6"), "{:#?}", end.log);
}

#[test]
fn an_exit_tells_the_cgroup_it_happened_in() {
    let end = World::new()
        .manager(
            0,
            "hello\ncgroups\nspawn 1 (exit 9) & exit 3\nexpect cgroup of 1\nexpect cgroup of 0\nshutdown 100",
        )
        .run();
    let own = end
        .log
        .iter()
        .find_map(|line| line.strip_prefix("cgroup of this manager is "));
    let own = own.unwrap();
    assert!(end.has(&format!("cgroup of 1 is {own}")), "{:#?}", end.log);
    assert!(end.has(&format!("cgroup of 0 is {own}")), "{:#?}", end.log);
    // A host with cgroups shows a number.
    let host = fs::read_to_string("/proc/self/mounts").unwrap();
    assert_eq!(
        own != "0",
        host.contains(" /sys/fs/cgroup cgroup2 ") || host.contains(" /sys/fs/cgroup/unified cgroup2 ")
    );
}

#[test]
fn the_last_words_of_a_manager_that_will_not_stay_up_are_shown_again_and_cannot_touch_the_terminal() {
    let end = World::new()
        .manager(6, "kill-init SIGTERM\nserve")
        .others("hello\nprint the disk is ^[2J full\nexit 1")
        .run();
    let (before, after) = end.console.split_once("last words of the manager:").unwrap();
    assert!(
        before.contains("the disk is \x1b[2J full"),
        "it was on the console at once:\n{before}"
    );
    assert!(before.contains("EMERGENCY"));
    assert!(after.contains("cairn:   the disk is \\x1b[2J full"), "{after}");
}

#[test]
fn what_a_manager_prints_before_it_dies_stands_before_its_end() {
    let end = World::new()
        .manager(0, "hello\nprint my last words\ndie")
        .manager(1, "hello\nexpect Resumed\nshutdown 100")
        .run();
    let words = end.console.find("my last words").unwrap();
    assert!(words < end.console.find("the manager ended").unwrap());
}

#[test]
fn a_manager_that_floods_the_console_is_served_all_the_same() {
    let mut script = String::from("flood\nhello\n");
    for token in 1..100 {
        script += &format!("spawn {token} exit 3\nexpect token={token} exit code 3\n");
    }
    let end = World::new().manager(0, &(script + "shutdown 100")).run();
    assert_eq!(end.count("exit code 3"), 99);
    let seconds = end.took.as_secs() as usize + 1;
    assert!(
        end.console.len() <= (seconds + 1) * 80 * 1024,
        "{} bytes in {seconds} s",
        end.console.len()
    );
    assert!(end.console.contains("flood flood"));
}

#[test]
fn the_module_loader_is_started_again_when_it_ends() {
    let world = World::new().manager(0, "hello\nexpect never");
    let loader = world.folder.path().join("loader");
    let runs = world.folder.path().join("runs");
    // The fourth run has seen enough and presses the power button three times.
    let script = format!(
        "#!/bin/sh\necho \"$0 $@\" >>{runs}\n[ $(wc -l <{runs}) -lt 4 ] && kill -9 $$\nfor i in 1 2 3; do kill -TERM 1; sleep 0.1; done\n",
        runs = runs.display()
    );
    fs::write(&loader, script).unwrap();
    fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
    let end = world.arguments(&["--loader", loader.to_str().unwrap()]).run();
    assert!(
        end.console
            .contains("the module loader ended: signal 9; starting it again"),
        "{}",
        end.console
    );
    assert!(!end.has("exited"), "it is nobody's business: {:#?}", end.log);
}

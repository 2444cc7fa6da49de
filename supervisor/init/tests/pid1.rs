//! cairn-init as PID 1 of an unprivileged user, PID and mount namespace, with a manager that follows a script.
//!
//! Needs `unshare` (util-linux), a shell, and a kernel that lets users make user namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// One namespace: a folder with the manager, its scripts and its log.
struct World {
    folder: tempfile::TempDir,
    exec: PathBuf,
    patience_ms: u32,
}

/// What was left when PID 1 had ended.
struct End {
    /// What the managers heard, a line for each event.
    log: Vec<String>,
    console: String,
    code: Option<i32>,
    took: Duration,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Tests lie in target/PROFILE/deps, examples in target/PROFILE/examples.
        let test = std::env::current_exe().unwrap();
        let example = test.parent().unwrap().parent().unwrap().join("examples/fake-manager");
        fs::copy(example, folder.path().join("manager")).expect("build the examples too: run without --test");
        Self {
            folder,
            exec: PathBuf::from("/bin/sh"),
            patience_ms: 90_000,
        }
    }

    /// The script of the n-th manager.
    fn manager(self, number: u32, script: &str) -> Self {
        fs::write(self.folder.path().join(format!("script-{number}")), script).unwrap();
        self
    }

    /// The script of all other managers.
    fn others(self, script: &str) -> Self {
        fs::write(self.folder.path().join("script"), script).unwrap();
        self
    }

    fn run(self) -> End {
        let start = Instant::now();
        let output: Output = Command::new("timeout")
            .args(["-s", "KILL", "60"])
            .args(["unshare", "--user", "--map-root-user", "--pid", "--fork"])
            .args(["--mount", "--mount-proc", "--kill-child"])
            .arg(env!("CARGO_BIN_EXE_cairn-init"))
            .arg("--no-mounts")
            .arg("--manager")
            .arg(self.folder.path().join("manager"))
            .arg("--exec")
            .arg(&self.exec)
            .args(["--power-patience-ms", &self.patience_ms.to_string()])
            .output()
            .unwrap();
        let end = End {
            log: lines(&self.folder.path().join("log")),
            console: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
            took: start.elapsed(),
        };
        assert!(
            end.console.contains("cairn: 0 allocations after start"),
            "it ended cleanly and allocated nothing:\n{}\n{:#?}",
            end.console,
            end.log
        );
        end
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl End {
    fn count(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }

    fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// The events of the n-th manager.
    fn of(&self, number: usize) -> Vec<&str> {
        let mut managers = self.log.split(|line| line.starts_with("started"));
        let own = managers.nth(number + 1).unwrap_or_default();
        own.iter().map(String::as_str).collect()
    }
}

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
            "Welcome { generation: 1, running: 1, stored: 1, exits: 1 }",
            "running token=1",
            "stored pipe hello there",
            "Resumed",
            "exited seq=2 token=3 exit code 5",
        ]
    );
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
    let mut world = World::new();
    world.patience_ms = 500;
    let end = world
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

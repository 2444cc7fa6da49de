//! Tools run without privileges: each test runs itself again as nobody, and as root too where it is root.

mod common;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_sandbox::{Child, Outcome, Stream, ToolSpec, run_tool};

const HELPER: &str = "CAIRN_TEST_HELPER";
const AS_NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// True in the process that runs the test as nobody; otherwise runs that process, and true again for root's own run.
fn also_as_nobody(test: &str) -> bool {
    if std::env::var_os(HELPER).is_some() || !common::root(test) {
        return true;
    }
    let place = tempfile::tempdir_in("/tmp").unwrap();
    make_readable(place.path());
    let copy = |from: &Path, name: &str| {
        let to = place.path().join(name);
        std::fs::copy(from, &to).unwrap();
        to
    };
    let helper = copy(common::helper(), "cairn-exec");
    let program = copy(&std::env::current_exe().unwrap(), "test");
    let ran = Command::new("setpriv")
        .args(AS_NOBODY)
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(HELPER, helper)
        .env("TMPDIR", "/tmp")
        .status()
        .unwrap();
    assert!(ran.success(), "{test} as nobody");
    true
}

fn make_readable(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn tool(script: &str) -> ToolSpec {
    let mut spec = ToolSpec::new("/", ["/bin/sh", "-c", script]);
    spec.helper = Some(std::env::var_os(HELPER).map_or_else(|| common::helper().to_owned(), PathBuf::from));
    spec.stdout = Stream::Pipe;
    spec.stderr = Stream::Inherit;
    spec
}

fn output(child: &mut Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_tool_sees_its_tree_read_only_and_its_binds() {
    if !also_as_nobody("a_tool_sees_its_tree_read_only_and_its_binds") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("in"), "input").unwrap();
    let script = "id -u; cat /w/in; echo; echo made > /w/out; echo x > /usr/x || echo refused; \
                  echo x > /r/in || echo refused; ls -d /sys /home 2>/dev/null; cat /dev/stdin";
    let mut spec = tool(script)
        .bind(work.path(), "/w", true)
        .bind(work.path(), "/r", false);
    spec.stdin = Stream::Pipe;
    spec.stderr = Stream::Null;
    let mut child = run_tool(spec).unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(output(&mut child), "0\ninput\nrefused\nrefused\n/home\npiped");
    assert_eq!(child.wait().unwrap(), Outcome::Exited(0));
    assert_eq!(std::fs::read_to_string(work.path().join("out")).unwrap(), "made\n");
}

#[test]
fn a_tool_reports_its_exact_end() {
    if !also_as_nobody("a_tool_reports_its_exact_end") {
        return;
    }
    assert_eq!(run_tool(tool("exit 42")).unwrap().wait().unwrap(), Outcome::Exited(42));
    assert_eq!(
        run_tool(tool("kill -ABRT $$")).unwrap().wait().unwrap(),
        Outcome::Signaled(6)
    );
    let child = run_tool(tool("trap 'exit 9' TERM; while :; do sleep 0.05; done")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child.signal(15).unwrap();
    let mut child = child;
    assert_eq!(child.wait().unwrap(), Outcome::Exited(9));
}

#[test]
fn a_failed_step_is_the_error() {
    if !also_as_nobody("a_failed_step_is_the_error") {
        return;
    }
    let failure = run_tool(tool("true").bind("/nowhere", "/w", true)).unwrap_err();
    assert_eq!(
        (failure.step.as_str(), failure.path.to_str()),
        ("bind", Some("/nowhere"))
    );
    let mut missing = tool("");
    missing.argv = vec!["/bin/nothing".into()];
    assert_eq!(run_tool(missing).unwrap_err().step, "exec");
    let failure = run_tool(tool("true").bind("/tmp", "/usr/not-there", true)).unwrap_err();
    assert_eq!(
        (failure.step.as_str(), failure.path.to_str()),
        ("mount", Some("/usr/not-there"))
    );
}

/// Waits until no process has this word on its command line.
fn gone(word: &str) {
    let start = Instant::now();
    loop {
        let found = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes()))
        });
        if !found {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "still running: {word}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killing_the_handle_kills_everything() {
    if !also_as_nobody("killing_the_handle_kills_everything") {
        return;
    }
    let word = format!("{}.25", 1000 + std::process::id());
    let start = |end: fn(Child)| {
        let mut spec = tool(&format!("setsid sleep {word} & sleep {word}"));
        spec.stdout = Stream::Null;
        end(run_tool(spec).unwrap());
        gone(&word);
    };
    start(drop);
    start(|mut child| {
        child.kill();
        assert_eq!(child.wait().unwrap(), Outcome::Signaled(9));
    });
    // The helper alone, as the kernel's OOM killer might.
    start(|mut child| {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.pid()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap(), Outcome::Signaled(9));
    });
}

#[test]
fn the_network_is_absent_unless_asked_for() {
    if !also_as_nobody("the_network_is_absent_unless_asked_for") {
        return;
    }
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let mut spec = tool("readlink /proc/self/ns/net");
    assert_ne!(output(&mut run_tool(spec).unwrap()).trim(), own.to_str().unwrap());
    spec = tool("readlink /proc/self/ns/net");
    spec.network = true;
    assert_eq!(output(&mut run_tool(spec).unwrap()).trim(), own.to_str().unwrap());
}

#[test]
fn tools_run_from_many_threads_at_once() {
    if !also_as_nobody("tools_run_from_many_threads_at_once") {
        return;
    }
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                let mut child = run_tool(tool(&format!("ls /proc/self/fd | wc -l; exit {number}"))).unwrap();
                // Standard streams and the folder being listed: no other thread's descriptors.
                assert_eq!(output(&mut child).trim(), "4");
                assert_eq!(child.wait().unwrap(), Outcome::Exited(number));
            });
        }
    });
}

//! A lesson with nothing in it made up: the real cairn-init as PID 1 of a PID namespace, the real cairn-exec, a real sandbox.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Says again and again whether a call that its filter refuses is refused.
const SERVICE: &str = "mkdir /opt/webx; while :; do \
    if unshare -U true 2>/dev/null; then echo open; else echo closed; fi > /srv/new; mv /srv/new /srv/said; sleep 0.05; done";

/// The appliance: one unit, whose root is this machine's.
struct World {
    folder: tempfile::TempDir,
    init: Child,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["usr/lib/cairn", "run/cairn", "data", "dev", "services"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        symlink("/", at("services/web")).unwrap();
        std::fs::write(at("dev/console"), "").unwrap();
        let unit = json!({
            "description": "x", "network": {"mode": "none"}, "state": {"/srv": {}},
            "sandbox": {"system_calls": ["kcmp"], "reason": "none"},
            "service": {"command": ["/bin/sh", "-c", SERVICE], "stop_timeout": "1s"},
        });
        let root = json!({"uid": 0, "gid": 0, "groups": [], "home": "/"});
        let manifest = json!({
            "name": "test", "version": "1", "description": "x", "built": 0,
            "units": {"web": {
                "unit": unit, "root": "/services/web", "index": 0, "templates": [], "waits_for": [],
                "accounts": {"root": root}, "groups": {},
            }},
        });
        std::fs::write(at("usr/lib/cairn/appliance.json"), manifest.to_string()).unwrap();
        // cairn-init starts its manager without arguments.
        let manager = at("manager");
        let program = env!("CARGO_BIN_EXE_cairn-manager");
        let script = format!("#!/bin/sh\nexec {program} --prefix {}\n", folder.path().display());
        std::fs::write(&manager, script).unwrap();
        std::fs::set_permissions(&manager, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Tests lie in target/PROFILE/deps, examples in target/PROFILE/examples.
        let test = std::env::current_exe().unwrap();
        let both = test.parent().unwrap().parent().unwrap().join("examples/init-and-exec");
        assert!(both.exists(), "build the examples too: run without --test");
        let init = Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"])
            .arg(&both)
            .args([
                Path::new("--no-mounts"),
                "--manager".as_ref(),
                &manager,
                "--exec".as_ref(),
                &both,
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, init }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn ask(&self, method: &str, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.at("run/cairn/control.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    fn learned(&self) -> Value {
        self.ask("GET", "/v1/units/web/learned").unwrap_or_default()
    }

    /// What the service says: `open` or `closed`.
    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.at("data/state/web/srv/said"));
        said.unwrap_or_default().trim().to_owned()
    }

    fn until(&self, what: &str, good: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !good(self) {
            let console = std::fs::read_to_string(self.at("dev/console")).unwrap_or_default();
            let late = start.elapsed() > Duration::from_secs(60);
            assert!(!late, "never: {what}\n{console}\n{}", self.learned());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The manager's process: the one whose arguments name this world.
    fn manager(&self) -> i32 {
        let own = self.folder.path().as_os_str().as_encoded_bytes();
        let program: &[u8] = env!("CARGO_BIN_EXE_cairn-manager").as_bytes();
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = arguments.split(|byte| *byte == 0);
            let is_it = words.next() == Some(program) && words.nth(1) == Some(own);
            is_it.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
        });
        processes.next().expect("a manager")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Its child, PID 1 of the namespace, dies with it, and everybody else with that.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

#[test]
fn a_unit_is_open_only_during_its_lesson_also_if_the_manager_dies_in_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a_unit_is_open_only_during_its_lesson_also_if_the_manager_dies_in_it needs root");
        return;
    }
    let world = World::start();
    world.until("closed at first", |w| w.said() == "closed");

    world.ask("POST", "/v1/units/web/learn?for=1h").unwrap();
    world.until("open during the lesson", |w| w.said() == "open");
    let learned = world.learned();
    assert_eq!(learned["seen"]["refused"][0]["what"], "unshare", "{learned}");
    let advice: Vec<String> = learned["advice"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!("{} {} {}", one["direction"], one["key"], one["value"])
                .replace("\\\"", "'")
                .replace('"', "")
        })
        .collect();
    let want = [
        "wider sandbox.system_calls 'unshare'",
        "wider state.'/opt/webx' {}",
        "tighter sandbox.system_calls 'kcmp'",
    ];
    assert_eq!(advice, want, "{learned}");

    let manager = rustix::process::Pid::from_raw(world.manager()).unwrap();
    rustix::process::kill_process(manager, rustix::process::Signal::KILL).unwrap();
    world.until("closed again", |w| {
        w.said() == "closed" && w.learned()["state"] == "ended"
    });

    world.ask("POST", "/v1/units/web/learn?for=1h").unwrap();
    world.until("open once more", |w| w.said() == "open");
    world.ask("POST", "/v1/units/web/learn?for=0s").unwrap();
    world.until("closed at the end", |w| {
        w.said() == "closed" && w.learned()["state"] == "ended"
    });
    assert!(world.learned()["told"].as_u64().unwrap() > 10);
}

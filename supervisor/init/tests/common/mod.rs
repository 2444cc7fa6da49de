//! cairn-init as PID 1 of an unprivileged user, PID and mount namespace.
//!
//! Needs `unshare` (util-linux), a shell, and a kernel that lets users make user namespaces.

// Each test program uses its part.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// One namespace: a folder with the manager, its scripts and its log.
pub(crate) struct World {
    /// Where everything lies.
    pub(crate) folder: tempfile::TempDir,
    /// What runs as PID 1.
    pub(crate) init: PathBuf,
    /// What runs in place of cairn-exec.
    pub(crate) exec: PathBuf,
    /// More arguments for PID 1.
    pub(crate) arguments: Vec<String>,
    /// Seconds until the world is ended by force.
    pub(crate) limit: u32,
}

/// What was left when PID 1 had ended.
pub(crate) struct End {
    /// What the managers heard, a line for each event.
    pub(crate) log: Vec<String>,
    /// What PID 1 and the managers printed.
    pub(crate) console: String,
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// An example of this crate, as a test build made it.
pub(crate) fn example(name: &str) -> PathBuf {
    // Tests lie in target/PROFILE/deps, examples in target/PROFILE/examples.
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "build the examples too: run without --test");
    example
}

impl World {
    /// With the manager that follows scripts.
    pub(crate) fn new() -> Self {
        Self::with("fake-manager")
    }

    /// With an example of this crate as its manager.
    pub(crate) fn with(manager: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(example(manager), folder.path().join("manager")).unwrap();
        Self {
            folder,
            init: PathBuf::from(env!("CARGO_BIN_EXE_cairn-init")),
            exec: PathBuf::from("/bin/sh"),
            arguments: Vec::new(),
            limit: 60,
        }
    }

    /// The script of the n-th manager.
    pub(crate) fn manager(self, number: u32, script: &str) -> Self {
        fs::write(self.folder.path().join(format!("script-{number}")), script).unwrap();
        self
    }

    /// The script of all other managers.
    pub(crate) fn others(self, script: &str) -> Self {
        fs::write(self.folder.path().join("script"), script).unwrap();
        self
    }

    /// Another copy of the manager, under this name.
    pub(crate) fn program(self, name: &str) -> Self {
        fs::copy(self.folder.path().join("manager"), self.folder.path().join(name)).unwrap();
        self
    }

    /// More arguments for PID 1.
    pub(crate) fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Runs it to its end. The folder stays until the world is dropped.
    pub(crate) fn run(&self) -> End {
        let start = Instant::now();
        let output: Output = Command::new("timeout")
            .args(["-s", "KILL", &self.limit.to_string()])
            .args(["unshare", "--user", "--map-root-user", "--pid", "--fork"])
            .args(["--mount", "--mount-proc", "--kill-child"])
            .arg(&self.init)
            .arg("--no-mounts")
            .arg("--manager")
            .arg(self.folder.path().join("manager"))
            .arg("--exec")
            .arg(&self.exec)
            .args(&self.arguments)
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

/// The lines of a file; none if it is absent.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl End {
    /// How many lines of the log hold this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }

    /// Whether a line of the log holds this text.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// The events of the n-th manager.
    pub(crate) fn of(&self, number: usize) -> Vec<&str> {
        let mut managers = self.log.split(|line| line.starts_with("started"));
        let own = managers.nth(number + 1).unwrap_or_default();
        own.iter().map(String::as_str).collect()
    }
}

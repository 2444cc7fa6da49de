//! Entering a running sandbox, as a value: a second command beside a service's own, under the same walls.
//!
//! Reload commands, health checks and a shell for the owner are entered commands. They come to be outside, so what the
//! service's process has by inheritance (limits, filter, Landlock) they are given anew: [`Enter::new`] takes it from the
//! unit's plan. No plan's secrets are in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::mounts::Root;
use crate::network::Network;
use crate::plan::{Capabilities, Ids, Namespaces, OnViolation, Plan, Rlimit, Seccomp, User};
use crate::report::Failure;

/// One command that enters a running sandbox. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enter {
    /// The unit's name, for messages only.
    pub name: String,
    /// A process of the sandbox in the host's process ids, after it has reported that it executed its command.
    pub pid: i32,
    /// The unit's cgroup as the host's `/proc/PID/cgroup` shows it (`/units/web`). The process must be in it or below, so
    /// that a number that another process has got since is not entered.
    pub cgroup: PathBuf,
    /// The sandbox's ids, as in its plan.
    pub ids: Ids,
    /// The sandbox's own namespaces, as in its plan; all are entered.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Whether the sandbox has an own network namespace. Default true.
    #[serde(default = "yes")]
    pub own_network: bool,
    /// Who the command is, inside.
    #[serde(default)]
    pub user: User,
    /// The whole environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working folder inside. Default `/`.
    #[serde(default = "root_path")]
    pub cwd: PathBuf,
    /// The command; the first is an absolute path inside.
    pub argv: Vec<String>,
    /// The file creation mask, 0 to 0o777. Default 0o022.
    #[serde(default = "default_umask")]
    pub umask: u32,
    /// Resource limits; what is not listed is inherited.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Capabilities left; none by default.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Refuse privileges by exec. Default true.
    #[serde(default = "yes")]
    pub no_new_privs: bool,
    /// Let memory be writable and executable, as in the plan. Default false.
    #[serde(default)]
    pub writable_code: bool,
    /// The system call allowlist; none lets every call through.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// What Landlock lets the command reach; none for no Landlock. Signals and abstract sockets stay free where the
    /// sandbox has namespaces of its own for them: the service is in another Landlock domain, and a reload command has to
    /// reach it.
    pub landlock: Option<Vec<Grant>>,
    /// -1000 to 1000. None inherits.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
    /// Make standard input the controlling terminal of the command's session. It has to be a terminal that was made for
    /// this command: whoever is inside can type into it.
    #[serde(default)]
    pub terminal: bool,
}

/// What Landlock lets a command do below a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Absolute path inside.
    pub path: PathBuf,
    /// What is let through.
    pub access: Access,
}

/// Kinds of access, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reading and executing.
    Read,
    /// Writing to files that exist.
    WriteFiles,
    /// Control calls on device nodes.
    Devices,
    /// Everything.
    All,
}

impl Enter {
    /// `argv` beside process `pid` of the sandbox made from `plan`: same user, environment, folder, limits, filter and
    /// Landlock rules, no capabilities, no terminal. Where the sandbox is learned from or keeps the clock, what enters is and does
    /// not: it has the ordinary filter.
    #[must_use]
    pub fn new(plan: &Plan, pid: i32, cgroup: &Path, argv: Vec<String>) -> Self {
        let mut seccomp = plan.seccomp.clone();
        if let Some(seccomp) = &mut seccomp {
            if seccomp.on_violation == OnViolation::UnsafeLearn {
                seccomp.on_violation = OnViolation::default();
            }
            seccomp.clock = false;
        }
        Self {
            name: plan.name.clone(),
            pid,
            cgroup: cgroup.to_owned(),
            ids: plan.ids,
            namespaces: plan.namespaces,
            own_network: plan.network != Network::Host,
            user: plan.user.clone(),
            env: plan.env.clone(),
            cwd: plan.cwd.clone(),
            argv,
            umask: plan.umask,
            rlimits: plan.rlimits.clone(),
            capabilities: Capabilities::default(),
            no_new_privs: plan.no_new_privs,
            writable_code: plan.writable_code,
            seccomp,
            landlock: plan.grants(),
            oom_score_adj: plan.oom_score_adj,
            terminal: false,
        }
    }

    /// Checks what can be known without doing anything.
    ///
    /// # Errors
    /// A [`Failure`] of the step `enter` that names the field.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |field: &str, why: &str| Err(Failure::new("enter", field, why));
        if self.pid <= 1 {
            return refuse("pid", "is a process of a sandbox, so more than 1");
        }
        if !self.cgroup.is_absolute() {
            return refuse("cgroup", "is a path as /proc/PID/cgroup shows it, from /");
        }
        let relative = |grant: &&Grant| !grant.path.is_absolute();
        if let Some(grant) = self.landlock.iter().flatten().find(relative) {
            return refuse(
                "landlock.path",
                &format!("{} is not an absolute path", grant.path.display()),
            );
        }
        self.command().check().map_err(|failure| Failure {
            step: "enter".into(),
            ..failure
        })
    }

    /// The command as a plan without a world of its own, so that one place confines both.
    pub(crate) fn command(&self) -> Plan {
        Plan {
            name: self.name.clone(),
            ids: self.ids,
            namespaces: self.namespaces,
            hostname: None,
            root: Root::Empty,
            mounts: Vec::new(),
            masked: Vec::new(),
            read_only: Vec::new(),
            user: self.user.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            argv: self.argv.clone(),
            umask: self.umask,
            rlimits: self.rlimits.clone(),
            sysctls: BTreeMap::new(),
            capabilities: self.capabilities.clone(),
            no_new_privs: self.no_new_privs,
            writable_code: self.writable_code,
            seccomp: self.seccomp.clone(),
            landlock: self.landlock.is_some(),
            oom_score_adj: self.oom_score_adj,
            network: if self.own_network {
                Network::Loopback
            } else {
                Network::Host
            },
            listen_fds: Vec::new(),
            notify_socket: None,
            reaper: false,
        }
    }
}

fn yes() -> bool {
    true
}

fn root_path() -> PathBuf {
    PathBuf::from("/")
}

fn default_umask() -> u32 {
    0o022
}

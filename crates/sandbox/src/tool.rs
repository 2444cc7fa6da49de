//! Runs a command of a tools tree in a sandbox, without privileges: what imagegen runs mkfs, veritysetup and QEMU with.
//!
//! The calling program may have threads, so it does none of the work: it starts a helper (by default itself, with
//! [`HELPER_ARG`] as its first argument) and hands it the plan.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};

use crate::helper::{Mode, helper_main};
use crate::mounts::{Mount, Root};
use crate::network::Network;
use crate::plan::{
    Capabilities, FIRST_LISTEN_FD, Ids, Namespaces, Plan, User, masked_by_default, read_only_by_default,
};
use crate::report::{Failure, Report};
use crate::sys;

/// The first argument that makes a program the helper.
pub const HELPER_ARG: &str = "__sandbox";

/// Turns this process into the helper if its first argument is [`HELPER_ARG`]; else does nothing. A program that calls
/// [`run_tool`] calls this first thing in `main`, before it starts a thread.
pub fn helper_if_asked() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == HELPER_ARG)
    {
        helper_main(Mode::Wait);
    }
}

/// A standard stream of a tool.
#[derive(Debug, Default)]
pub enum Stream {
    /// `/dev/null`.
    #[default]
    Null,
    /// The caller's own.
    Inherit,
    /// A new pipe, whose other end is in the [`Child`].
    Pipe,
    /// This file, socket or pipe end.
    Fd(OwnedFd),
}

/// A host path that a tool sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolBind {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path inside: on none of the tools tree's own folders unless it exists there.
    pub inside: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
}

/// A command and what it sees. Start from [`ToolSpec::new`].
#[derive(Debug)]
pub struct ToolSpec {
    /// The tools tree, or `/` for the host's: each of its top-level entries is bound read-only (but not `dev`, `proc`, `sys`,
    /// `run`, `tmp`, which the sandbox has of its own or not at all).
    pub root: PathBuf,
    /// Further paths of the host.
    pub binds: Vec<ToolBind>,
    /// The command; the first is an absolute path inside.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working folder inside.
    pub cwd: PathBuf,
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// The host's network instead of an own loopback.
    pub network: bool,
    /// Bind `/dev/kvm`.
    pub dev_kvm: bool,
    /// The helper's executable; none is this program itself, by `/proc/self/exe`.
    pub helper: Option<PathBuf>,
}

impl ToolSpec {
    /// `argv` in the tools tree `root`: no binds, PATH and nothing else in the environment, `/` as folder, no streams, no
    /// network.
    pub fn new(root: impl Into<PathBuf>, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            root: root.into(),
            binds: Vec::new(),
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::from([("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())]),
            cwd: "/".into(),
            stdin: Stream::Null,
            stdout: Stream::Null,
            stderr: Stream::Null,
            network: false,
            dev_kvm: false,
            helper: None,
        }
    }

    /// Adds a host path.
    #[must_use]
    pub fn bind(mut self, host: impl Into<PathBuf>, inside: impl Into<PathBuf>, writable: bool) -> Self {
        self.binds.push(ToolBind {
            host: host.into(),
            inside: inside.into(),
            writable,
        });
        self
    }

    /// The plan: single ids, an own everything (but the network, if asked for), a 1 GiB `/tmp`, no capabilities. No system
    /// call filter and no Landlock: the tools are the build's own, and must run on any host.
    ///
    /// # Errors
    /// The tools tree cannot be read.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let name = self
            .argv
            .first()
            .map_or("tool", |command| command.rsplit('/').next().unwrap_or(command));
        let own = ["dev", "proc", "sys", "run", "tmp"].map(std::ffi::OsStr::new);
        let mut entries = fs::read_dir(&self.root)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| Failure::new("tools", &self.root, error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut mounts = Vec::new();
        for entry in entries
            .iter()
            .filter(|entry| !own.contains(&entry.file_name().as_os_str()))
        {
            let failed = |error| Failure::new("tools", entry.path(), error);
            let target = Path::new("/").join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_symlink() {
                mounts.push(Mount::Symlink {
                    target,
                    to: fs::read_link(entry.path()).map_err(failed)?,
                });
            } else {
                mounts.push(bind(entry.path(), target, true));
            }
        }
        // With root's ids the files of /proc would let a tool write what root may; anyone else has no more than before.
        let root = rustix::process::geteuid().is_root();
        let extra = if self.dev_kvm {
            vec!["/dev/kvm".into()]
        } else {
            Vec::new()
        };
        mounts.push(Mount::Proc { target: "/proc".into() });
        mounts.push(Mount::Dev {
            target: "/dev".into(),
            shm_size: Some(1 << 30),
            extra,
        });
        mounts.extend(["/tmp", "/run"].map(|target| Mount::Tmpfs {
            target: target.into(),
            size: 1 << 30,
            mode: 0o1777,
            uid: 0,
            gid: 0,
            exec: true,
        }));
        mounts.extend(
            self.binds
                .iter()
                .map(|it| bind(it.host.clone(), it.inside.clone(), !it.writable)),
        );
        Ok(Plan {
            name: name.to_owned(),
            ids: Ids::Single,
            namespaces: Namespaces::default(),
            hostname: Some("tools".into()),
            root: Root::Empty,
            mounts,
            masked: if root { masked_by_default() } else { Vec::new() },
            read_only: if root { read_only_by_default() } else { Vec::new() },
            user: User::default(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            argv: self.argv.clone(),
            umask: 0o022,
            rlimits: Vec::new(),
            sysctls: BTreeMap::new(),
            capabilities: Capabilities::default(),
            no_new_privs: true,
            // QEMU is a compiler.
            writable_code: true,
            seccomp: None,
            landlock: false,
            oom_score_adj: None,
            network: if self.network { Network::Host } else { Network::Loopback },
            listen_fds: Vec::new(),
            notify_socket: None,
            reaper: true,
        })
    }
}

fn bind(source: PathBuf, target: PathBuf, read_only: bool) -> Mount {
    Mount::Bind {
        source,
        target,
        read_only,
        idmapped: false,
        recursive: true,
        exec: true,
        suid: false,
    }
}

/// Starts a tool; returns when its command has been executed.
///
/// # Errors
/// The step that failed. Nothing of the tool is left.
pub fn run_tool(mut spec: ToolSpec) -> Result<Child, Failure> {
    let plan = spec.plan()?;
    let helper = spec.helper.take().unwrap_or_else(|| "/proc/self/exe".into());
    let streams = [spec.stdin, spec.stdout, spec.stderr];
    run_plan(&plan, &helper, streams)
}

/// Starts any plan under a helper that waits for it ([`Mode::Wait`]); returns when the command has been executed. `streams`
/// are standard input, output and error.
///
/// # Errors
/// As for [`run_tool`].
pub fn run_plan(plan: &Plan, helper: &Path, streams: [Stream; 3]) -> Result<Child, Failure> {
    plan.check()?;
    if !plan.listen_fds.is_empty() {
        return Err(Failure::new("plan", "listen_fds", "a tool is not handed sockets"));
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            "helper",
            helper,
            format!("{error}; the program must call helper_if_asked first in main"),
        )
    };
    let (status, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
    let plan = plan_file(plan).map_err(|error| failed(&error))?;
    // Above the numbers that they are copied to, so that no copy overwrites an original.
    let lift = |number| sys::dup_above(number, FIRST_LISTEN_FD).map_err(|error| failed(&error));
    let mut pass = vec![(lift(plan.as_raw_fd())?, 3), (lift(theirs.as_raw_fd())?, 4)];
    drop(theirs);
    let mut pipes = [None, None, None];
    for (number, stream) in streams.into_iter().enumerate() {
        let end: OwnedFd = match stream {
            Stream::Inherit => continue,
            Stream::Null => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(|error| failed(&error))?
                .into(),
            Stream::Fd(end) => end,
            Stream::Pipe => {
                let (reader, writer) = std::io::pipe().map_err(|error| failed(&error))?;
                let (theirs, ours) = if number == 0 {
                    (OwnedFd::from(reader), OwnedFd::from(writer))
                } else {
                    (writer.into(), reader.into())
                };
                pipes[number] = Some(File::from(ours));
                theirs
            }
        };
        pass.push((lift(end.as_raw_fd())?, number as i32));
    }
    let mut actions = PosixSpawnFileActions::init().map_err(|error| failed(&error))?;
    for (descriptor, number) in &pass {
        actions
            .add_dup2(descriptor.as_raw_fd(), *number)
            .map_err(|error| failed(&error))?;
    }
    let attributes = PosixSpawnAttr::init().map_err(|error| failed(&error))?;
    let path = CString::new(helper.as_os_str().as_bytes()).map_err(|error| failed(&error))?;
    let arguments = [path.clone(), CString::new(HELPER_ARG).map_err(|error| failed(&error))?];
    let pid = posix_spawn::<_, _, CString>(path.as_c_str(), &actions, &attributes, &arguments, &[])
        .map_err(|error| failed(&error))?
        .as_raw();
    drop(pass);
    let pidfd = sys::pidfd_open(pid).map_err(|error| failed(&error))?;
    let [stdin, stdout, stderr] = pipes;
    let mut child = Child {
        pid,
        pidfd,
        sandbox: None,
        status: BufReader::new(status),
        reaped: false,
        stdin,
        stdout,
        stderr,
    };
    loop {
        match child.report()? {
            Some(Report::Pid { pid }) => child.sandbox = sys::pidfd_open(pid).ok(),
            Some(Report::Execed { .. }) => return Ok(child),
            Some(Report::Failed(failure)) => return Err(failure),
            _ => return Err(failed(&"it ended without a report")),
        }
    }
}

/// The plan as a sealed-off file in memory, as the helper wants it.
fn plan_file(plan: &Plan) -> std::io::Result<File> {
    let descriptor = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(&serde_json::to_vec(plan)?)?;
    Ok(file)
}

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Outcome {
    /// Ended with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// A running tool. Dropping it kills the tool and everything that it started; so does the end of this program.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    sandbox: Option<OwnedFd>,
    status: BufReader<UnixStream>,
    reaped: bool,
    /// The pipe to standard input, if asked for.
    pub stdin: Option<File>,
    /// The pipe from standard output, if asked for.
    pub stdout: Option<File>,
    /// The pipe from standard error, if asked for.
    pub stderr: Option<File>,
}

impl Child {
    /// The helper's process id, which lives as long as the tool.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle that becomes readable for poll(2) when the tool has ended.
    #[must_use]
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Waits for the tool's end. Closes standard input first.
    ///
    /// # Errors
    /// The tool was killed together with its sandbox, so that its status is not known.
    pub fn wait(&mut self) -> Result<Outcome, Failure> {
        self.stdin = None;
        let outcome = loop {
            match self.report() {
                Ok(Some(Report::Exited { exited })) => break Ok(Outcome::Exited(exited)),
                Ok(Some(Report::Signaled { signaled, .. })) => break Ok(Outcome::Signaled(signaled)),
                Ok(Some(_)) => {}
                Ok(None) => break Ok(Outcome::Signaled(libc::SIGKILL)),
                Err(failure) => break Err(failure),
            }
        };
        self.reap();
        outcome
    }

    /// Sends a signal to the command, which may act on it. Nothing happens if it has ended.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn signal(&self, signal: i32) -> Result<(), Failure> {
        match self.sandbox.as_ref().map(|sandbox| sys::pidfd_signal(sandbox, signal)) {
            Some(Err(error)) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Failure::new("signal", signal.to_string(), error))
            }
            _ => Ok(()),
        }
    }

    /// Kills the tool and everything that it started, at once.
    pub fn kill(&self) {
        for process in self.sandbox.iter().chain([&self.pidfd]) {
            let _ = sys::pidfd_signal(process, libc::SIGKILL);
        }
    }

    fn report(&mut self) -> Result<Option<Report>, Failure> {
        let mut line = Vec::new();
        let failed = |error: &dyn std::fmt::Display| Failure::new("helper", "status", error);
        if self
            .status
            .read_until(b'\n', &mut line)
            .map_err(|error| failed(&error))?
            == 0
        {
            return Ok(None);
        }
        Report::parse(&line).map(Some).map_err(|error| failed(&error))
    }

    fn reap(&mut self) {
        if !self.reaped {
            let _ = sys::wait_child(self.pid, true);
            self.reaped = true;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

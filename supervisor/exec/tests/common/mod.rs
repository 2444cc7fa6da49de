//! Runs plans through the real cairn-exec, as cairn-init does (detached) or as imagegen does (waiting).
#![allow(dead_code, unreachable_pub)]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cairn_sandbox::{Failure, Mount, Plan, Report, Stream, run_plan};
use nix::fcntl::{FcntlArg, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The binary under test.
pub fn helper() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cairn-exec"))
}

/// False, with the reason printed, when a test that needs root has to be skipped.
pub fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test} needs root");
    }
    root
}

/// The tightest plan over the host's own tree, ids shifted.
pub fn plan(argv: &[&str]) -> Plan {
    let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
    let mut plan = Plan::new("probe", Path::new("/"), 900_000, argv);
    plan.env.insert("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into());
    plan
}

/// The tightest plan for a shell script.
pub fn script(text: &str) -> Plan {
    plan(&["/bin/sh", "-c", text])
}

/// What a finished sandbox left.
#[derive(Debug)]
pub struct Ran {
    pub reports: Vec<Report>,
    pub helper: i32,
    /// How the sandbox's first process ended, if it came to be.
    pub first: Option<WaitStatus>,
    pub output: String,
}

impl Ran {
    pub fn failure(&self) -> &Failure {
        self.reports
            .iter()
            .find_map(|report| match report {
                Report::Failed(failure) => Some(failure),
                _ => None,
            })
            .unwrap_or_else(|| panic!("nothing failed: {self:?}"))
    }

    /// The output of a command that ended well.
    pub fn ok(&self) -> &str {
        assert_eq!(self.reports.last(), Some(&Report::Exited { exited: 0 }), "{self:?}");
        self.output.trim()
    }
}

/// A sandbox that was started as cairn-init starts one.
pub struct Started {
    status: UnixStream,
    helper: Pid,
    output: File,
}

/// Starts without waiting; sockets go to descriptors 5 and up.
pub fn start(plan_text: &[u8], sockets: &[OwnedFd]) -> Started {
    start_with(&[], plan_text, sockets)
}

/// As [`start`], with arguments for the helper.
pub fn start_with(arguments: &[&str], plan_text: &[u8], sockets: &[OwnedFd]) -> Started {
    let output = tempfile::tempfile().unwrap();
    let streams = [
        File::open("/dev/null").unwrap().into(),
        output.try_clone().unwrap().into(),
        output.try_clone().unwrap().into(),
    ];
    Started {
        output,
        ..start_on(streams, arguments, plan_text, sockets)
    }
}

/// As [`start_with`], on these standard streams.
pub fn start_on(streams: [OwnedFd; 3], arguments: &[&str], plan_text: &[u8], sockets: &[OwnedFd]) -> Started {
    let mut plan = tempfile::tempfile().unwrap();
    plan.write_all(plan_text).unwrap();
    let (status, theirs) = UnixStream::pair().unwrap();
    let lift = |fd: BorrowedFd<'_>| {
        let number = nix::unistd::dup(fd).unwrap();
        fcntl(&number, FcntlArg::F_DUPFD_CLOEXEC(50)).unwrap()
    };
    let mut actions = PosixSpawnFileActions::init().unwrap();
    let mut lifted = Vec::new();
    let passed: [(BorrowedFd<'_>, i32); 5] = [
        (streams[0].as_fd(), 0),
        (streams[1].as_fd(), 1),
        (streams[2].as_fd(), 2),
        (plan.as_fd(), 3),
        (theirs.as_fd(), 4),
    ];
    for (from, to) in passed {
        lifted.push((lift(from), to));
    }
    for (socket, to) in sockets.iter().zip(5..) {
        lifted.push((lift(socket.as_fd()), to));
    }
    for (from, to) in &lifted {
        actions.add_dup2(*from, *to).unwrap();
    }
    let path = CString::new(helper().to_str().unwrap()).unwrap();
    let attributes = PosixSpawnAttr::init().unwrap();
    let mut argv = vec![path.clone()];
    argv.extend(arguments.iter().map(|argument| CString::new(*argument).unwrap()));
    let helper = posix_spawn::<_, _, CString>(path.as_c_str(), &actions, &attributes, &argv, &[]).unwrap();
    for (from, _) in lifted {
        nix::unistd::close(from).unwrap();
    }
    Started {
        status,
        helper,
        output: tempfile::tempfile().unwrap(),
    }
}

impl Started {
    /// Reads reports until the command runs or has failed; the first process.
    pub fn until_running(&mut self) -> (i32, Vec<Report>) {
        let mut reports = Vec::new();
        let mut pid = 0;
        loop {
            let mut line = Vec::new();
            let mut byte = [0];
            while self.status.read(&mut byte).unwrap() == 1 {
                line.push(byte[0]);
                if byte[0] == b'\n' {
                    break;
                }
            }
            if line.is_empty() {
                return (pid, reports);
            }
            let report = Report::parse(&line).unwrap();
            reports.push(report.clone());
            match report {
                Report::Pid { pid: first } => pid = first,
                Report::Execed { .. } => return (pid, reports),
                _ => {}
            }
        }
    }

    /// Reads reports until one comes with a descriptor: the listener of a command that is learned from.
    pub fn until_listener(&mut self) -> (Vec<Report>, OwnedFd) {
        let (mut reports, mut line, mut listener) = (Vec::new(), Vec::new(), None);
        loop {
            let mut byte = [0];
            let (length, came) = cairn_sandbox::receive(&self.status, &mut byte, true).unwrap();
            assert_eq!(length, 1, "no listener came: {reports:?}");
            listener = came.or(listener);
            line.push(byte[0]);
            if byte[0] == b'\n' {
                reports.push(Report::parse(&line).unwrap());
                line.clear();
                if let Some(listener) = listener.take() {
                    return (reports, listener);
                }
            }
        }
    }

    /// Waits for the end of everything.
    pub fn finish(mut self, mut reports: Vec<Report>) -> Ran {
        let mut text = Vec::new();
        self.status.read_to_end(&mut text).unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        reports.extend(lines.map(|line| Report::parse(line).unwrap()));
        let helper = match waitpid(self.helper, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        };
        let first = reports.iter().find_map(|report| match report {
            Report::Pid { pid } => Some(waitpid(Pid::from_raw(*pid), None).unwrap()),
            _ => None,
        });
        let mut output = String::new();
        self.output.rewind().unwrap();
        self.output.read_to_string(&mut output).unwrap();
        Ran {
            reports,
            helper,
            first,
            output,
        }
    }
}

/// Runs a plan to its end, detached.
pub fn run(plan: &Plan) -> Ran {
    start(&serde_json::to_vec(plan).unwrap(), &[]).finish(Vec::new())
}

/// Runs a plan to its end under a waiting helper: its output.
pub fn run_waiting(plan: &Plan) -> (cairn_sandbox::Outcome, String) {
    let mut child = run_plan(plan, helper(), [Stream::Null, Stream::Pipe, Stream::Inherit]).unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    (child.wait().unwrap(), output)
}

/// A bind of a host path, read-only unless `writable`, owners shifted.
pub fn bind(source: &Path, target: &str, writable: bool) -> Mount {
    Mount::Bind {
        source: source.to_owned(),
        target: PathBuf::from(target),
        read_only: !writable,
        idmapped: true,
        recursive: false,
        exec: false,
        suid: false,
    }
}

//! `cairn enter UNIT`: a command in a unit's sandbox, on this terminal.

use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use command_fds::{CommandFdExt as _, FdMapping};
use serde_json::Value;

use crate::pty::{self, Pty};

/// The helper that applies a sandbox.
const HELPER: &str = "/usr/lib/cairn/cairn-exec";

/// Runs `command` beside the unit's own; gives its exit code.
pub(crate) fn run(answer: &Value, command: &[String]) -> std::io::Result<ExitCode> {
    let invalid = || {
        std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the manager's answer is not understood",
        )
    };
    let mut job = answer["job"].clone();
    let enter = job.get_mut("enter").ok_or_else(invalid)?;
    enter["argv"] = command.into();
    let pty = if pty::is_wanted() { Some(Pty::open()?) } else { None };
    if pty.is_some() {
        enter["terminal"] = true.into();
        if let Some(terminal) = std::env::var_os("TERM").and_then(|t| t.into_string().ok()) {
            enter["env"]["TERM"] = terminal.into();
        }
    }
    // What it uses counts as the unit's.
    let group = answer["cgroup"].as_str().ok_or_else(invalid)?;
    std::fs::write(Path::new(group).join("cgroup.procs"), "0")?;
    let mut plan = std::fs::File::from(rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::empty())?);
    plan.write_all(job.to_string().as_bytes())?;
    plan.rewind()?;
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut helper = Command::new(HELPER);
    helper.arg("__sandbox");
    let (plan, status): (OwnedFd, OwnedFd) = (plan.into(), theirs.into());
    let mappings = [(plan, 3), (status, 4)].map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    helper
        .fd_mappings(mappings.into())
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    let ended = match pty {
        None => helper.status()?,
        Some(pty) => {
            helper.stdin(pty.theirs()?).stdout(pty.theirs()?).stderr(pty.theirs()?);
            let mut child = helper.spawn()?;
            // The command's ends are the child's alone, or the terminal would never be closed.
            drop(helper);
            pty.show()?;
            child.wait()?
        }
    };
    let code = ended
        .code()
        .or_else(|| ended.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

//! What the helper says on the status socket: one JSON value a message, ended by a newline.

use std::fmt;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Deserialize, Serialize};

/// One message of the status socket, in the order in which they come: `Pid`, then (when learning) `Listener`, then `Execed` or
/// `Failed`, then (with a reaper) `Exited` or `Signaled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// `{"pid":N}`: the sandbox's first process, in the caller's process ids.
    Pid {
        /// The process id.
        pid: i32,
    },
    /// `{"listener":true}` with a descriptor: where the command's calls are told, see [`crate::learn::Listener`].
    Listener {
        /// Always true.
        listener: bool,
    },
    /// `{"execed":true}`: every step was done and the command has been executed.
    Execed {
        /// Always true.
        execed: bool,
    },
    /// `{"step":S,"path":P,"error":E}`: a step failed; nothing of the command ran. The exit code is [`FAILED_EXIT`].
    Failed(Failure),
    /// `{"exited":CODE}`: the command ended by itself.
    Exited {
        /// Exit code, 0 to 255.
        exited: i32,
    },
    /// `{"signaled":SIGNAL,"core":BOOL}`: a signal ended the command. The reaper's exit code is 128 + signal.
    Signaled {
        /// Signal number.
        signaled: i32,
        /// A core was dumped.
        core: bool,
    },
}

/// Exit code of the helper and of the sandbox's first process when a step failed.
pub const FAILED_EXIT: i32 = 125;

impl Report {
    /// Reads one message, with or without its newline.
    ///
    /// # Errors
    /// What is wrong with the JSON, or with a value in it.
    pub fn parse(message: &[u8]) -> Result<Self, serde_json::Error> {
        let refuse = |why: &str| Err(serde::de::Error::custom(why));
        match serde_json::from_slice(message)? {
            Self::Pid { pid: ..=0 } => refuse("a process's number is more than 0"),
            Self::Execed { execed: false } => refuse("what was not executed is not told so"),
            Self::Listener { listener: false } => refuse("where there is no listener none is told of"),
            report => Ok(report),
        }
    }

    /// The message as sent, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Takes one message from a status socket, with the descriptor that [`Report::Listener`] comes with: its length, 0 at the
/// other side's end. Without `wait` it fails with `EAGAIN` where there is none.
///
/// # Errors
/// What recvmsg(2) says.
pub fn receive(status: impl AsFd, buffer: &mut [u8], wait: bool) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let length = recvmsg(status, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?.bytes;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptor = received.into_iter().next().or(descriptor);
        }
    }
    Ok((length, descriptor))
}

/// A step of the application that could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The step's name: `plan`, `clone`, `id-map`, `bind`, `mount`, `pivot-root`, `veth`, `seccomp`, `exec` and so on.
    pub step: String,
    /// The path, interface, setting or call that it was about.
    pub path: PathBuf,
    /// Why, and what to do.
    pub error: String,
}

impl Failure {
    /// Of a step and what it was about.
    pub fn new(step: &str, path: impl Into<PathBuf>, error: impl fmt::Display) -> Self {
        Self {
            step: step.to_owned(),
            path: path.into(),
            error: error.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sandbox step {} on {}: {}",
            self.step,
            self.path.display(),
            self.error
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_no_helper_sends_is_refused() {
        for good in [
            Report::Pid { pid: 7 },
            Report::Execed { execed: true },
            Report::Listener { listener: true },
            Report::Exited { exited: 0 },
        ] {
            assert_eq!(Report::parse(&good.to_line()).unwrap(), good);
        }
        for bad in [
            r#"{"pid":0}"#,
            r#"{"pid":-7}"#,
            r#"{"execed":false}"#,
            r#"{"listener":false}"#,
            r#"{"pid":"7"}"#,
            "{}",
            "",
        ] {
            assert!(Report::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

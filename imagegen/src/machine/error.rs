//! What can go wrong between a machine's description and its end.

use std::path::PathBuf;
use std::time::Duration;

/// A failure to describe, start, drive or end a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// QEMU's program is nowhere on the search path.
    #[error("{program} was not found on PATH; install QEMU for x86, or let imagegen use its own tools tree")]
    NoQemu {
        /// The program's name.
        program: &'static str,
    },
    /// No UEFI firmware where the tree should hold it.
    #[error("no UEFI firmware in {}: it should hold {code} and OVMF_VARS_4M.fd (package ovmf); boot the kernel directly, or add the package", .folder.display())]
    NoFirmware {
        /// The folder that was looked into.
        folder: PathBuf,
        /// The file of the code.
        code: &'static str,
    },
    /// QEMU could not be started at all.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program's path.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// QEMU ended although nobody asked it to.
    #[error("QEMU ended ({status}) while {during}; it said: {stderr}")]
    Ended {
        /// Its exit status.
        status: String,
        /// What was being waited for.
        during: String,
        /// The last lines of its error output.
        stderr: String,
    },
    /// Something did not come within its time.
    #[error("{what} did not come within {} s", .after.as_secs_f32())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused the command {command}: {reason}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QEMU's own words.
        reason: String,
    },
    /// QEMU said something that is no QMP.
    #[error("QEMU answered {command} with what is not QMP: {answer}")]
    Protocol {
        /// The QMP command.
        command: String,
        /// The line.
        answer: String,
    },
    /// An operation of the host's failed on a file, socket or process.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl MachineError {
    /// For `map_err`: `what` was tried on `path`.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> MachineError {
        let path = path.into();
        move |source| MachineError::Io { what, path, source }
    }
}

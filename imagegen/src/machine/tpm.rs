//! A TPM 2 for a virtual machine: swtpm, beside QEMU and as long as it.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::error::MachineError;
use super::launch::{Bind, Launch, Launcher};

const SWTPM: &str = "swtpm";
/// How long it may take until it listens.
const LISTENS: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// A running TPM; ended when dropped.
#[derive(Debug)]
pub(super) struct Tpm(Child);

impl Tpm {
    /// Starts it with its state in the folder `state`, which is made if need be: an empty one is a new TPM. Returns when it listens at
    /// `socket`, in a folder of its own.
    pub(super) fn start(launcher: &dyn Launcher, state: &Path, socket: &Path) -> Result<Tpm, MachineError> {
        let folder = socket.parent().map_or_else(PathBuf::new, Path::to_owned);
        for path in [state, &folder] {
            std::fs::create_dir_all(path).map_err(MachineError::io("create", path))?;
        }
        let launch = Launch {
            program: SWTPM,
            args: args(state, socket),
            binds: vec![Bind::writable(state), Bind::writable(&folder)],
        };
        let mut tpm = Tpm(launcher.spawn(&launch)?);
        let begun = Instant::now();
        while !socket.exists() {
            let ended = tpm.0.try_wait().map_err(MachineError::io("watch", SWTPM))?;
            if let Some(status) = ended {
                return Err(MachineError::Ended {
                    status: status.to_string(),
                    during: "its TPM (swtpm) was started".into(),
                    stderr: tpm.said(),
                });
            }
            if begun.elapsed() > LISTENS {
                return Err(MachineError::Deadline {
                    what: "the socket of swtpm".into(),
                    after: LISTENS,
                });
            }
            std::thread::sleep(LOOK);
        }
        Ok(tpm)
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(pipe) = &mut self.0.stderr {
            // What cannot be read is not said.
            let _ = std::io::Read::read_to_string(pipe, &mut text);
        }
        text
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// swtpm(8)'s arguments. It ends with QEMU's connection; its own filter of system calls is one that a sandbox's cannot be put on top of.
fn args(state: &Path, socket: &Path) -> Vec<String> {
    let words = [
        "socket".to_owned(),
        "--tpm2".to_owned(),
        "--tpmstate".to_owned(),
        format!("dir={},mode=0600", state.display()),
        "--ctrl".to_owned(),
        format!("type=unixio,path={}", socket.display()),
        "--seccomp".to_owned(),
        "action=none".to_owned(),
        "--terminate".to_owned(),
    ];
    words.into()
}

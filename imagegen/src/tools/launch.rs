//! The tools tree as the machine module's [`Launcher`]: QEMU in the sandbox.
//!
//! A [`Launcher`] hands out a plain child process, and the sandbox's own handle is none. So this program is started once
//! more as that child ([`LAUNCH_ARG`]); it starts the tool in the sandbox, passes its streams through, and ends with its
//! status. When it is killed, the tool is.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cairn_sandbox::{Outcome, Stream, ToolSpec, run_tool};
use serde::{Deserialize, Serialize};

use super::ToolsTree;
use crate::machine::{Launch, Launcher, MachineError};

const LAUNCH_ARG: &str = "__launch";

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    root: std::path::PathBuf,
    argv: Vec<String>,
    binds: Vec<(std::path::PathBuf, bool)>,
    kvm: bool,
}

/// Turns this process into the sandbox's helper, or into the child that stands for a launched tool, if its arguments say
/// so. A program that uses a [`ToolsTree`] calls this first in `main`, before it starts a thread.
pub fn helper_if_asked() {
    cairn_sandbox::helper_if_asked();
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(LAUNCH_ARG) {
        let request = args.next().unwrap_or_default();
        std::process::exit(match stand_in(&request) {
            Ok(code) => code,
            Err(why) => {
                eprintln!("imagegen: {why}");
                125
            }
        });
    }
}

fn stand_in(request: &str) -> Result<i32, String> {
    let request: Request = serde_json::from_str(request).map_err(|e| e.to_string())?;
    // The tool ends with its caller, whatever ends that.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|e| e.to_string())?;
    let mut spec = ToolSpec::new(request.root, request.argv);
    for (path, writable) in request.binds {
        spec = spec.bind(path.clone(), path, writable);
    }
    (spec.stdin, spec.stdout, spec.stderr) = (Stream::Inherit, Stream::Inherit, Stream::Inherit);
    spec.network = true;
    spec.dev_kvm = request.kvm;
    let mut child = run_tool(spec).map_err(|failure| failure.to_string())?;
    match child.wait().map_err(|failure| failure.to_string())? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Signaled(signal) => Ok(128 + signal),
    }
}

impl Launcher for ToolsTree {
    fn spawn(&self, launch: &Launch) -> Result<Child, MachineError> {
        let failed = |source| MachineError::Start {
            program: launch.program.to_owned(),
            source,
        };
        let program = self.program(launch.program).map_err(|_| MachineError::NoQemu {
            program: launch.program,
        })?;
        let mut argv = vec![program];
        argv.extend(launch.args.iter().cloned());
        let kvm = Path::new("/dev/kvm");
        let binds = launch.binds.iter().filter(|b| b.path != kvm);
        let request = Request {
            root: self.root.clone(),
            argv,
            binds: binds.map(|b| (b.path.clone(), b.writable)).collect(),
            kvm: launch.binds.iter().any(|b| b.path == kvm),
        };
        let request = serde_json::to_string(&request).map_err(|e| failed(e.into()))?;
        let helper = self.helper.as_deref().unwrap_or(Path::new("/proc/self/exe"));
        Command::new(helper)
            .arg(LAUNCH_ARG)
            .arg(request)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)
    }

    fn tree(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> Result<String, MachineError> {
        Ok(self.hash.clone())
    }
}

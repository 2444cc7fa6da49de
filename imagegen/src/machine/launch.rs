//! Finding and starting QEMU: from the host's search path here, or from the tools tree by another [`Launcher`].

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::MachineError;

/// QEMU's program for the architecture of the machines here.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// A file that QEMU opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Its path, the same inside and outside.
    pub path: PathBuf,
    /// Whether QEMU writes to it.
    pub writable: bool,
}

impl Bind {
    /// A file that is only read.
    pub fn read_only(path: &Path) -> Bind {
        Bind {
            path: path.to_owned(),
            writable: false,
        }
    }

    /// A file, socket or device that is written.
    pub fn writable(path: &Path) -> Bind {
        Bind {
            path: path.to_owned(),
            writable: true,
        }
    }
}

/// One start of a program: what a [`Launcher`] is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program's name, without a folder.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// The files that it opens.
    pub binds: Vec<Bind>,
}

/// A way to start programs of QEMU's package.
///
/// What it starts must be in a process group of its own (Ctrl-C in the terminal is the caller's to handle), have no standard
/// input, pipes as standard output and error, the caller's network, and end when the calling thread's process does.
pub trait Launcher: Send + Sync {
    /// Starts it. The child's id must be the program's own or that of a process whose death by SIGKILL ends it.
    ///
    /// # Errors
    /// [`MachineError::NoQemu`] or [`MachineError::Start`].
    fn spawn(&self, launch: &Launch) -> Result<Child, MachineError>;

    /// The tree that the programs come from, as a path of the host: `/`, or the tools tree. Firmware is looked for under it.
    fn tree(&self) -> &Path;

    /// What tells this QEMU from another, for what is remembered about it: a version, or the tree's hash.
    ///
    /// # Errors
    /// When QEMU cannot be found or started.
    fn version(&self) -> Result<String, MachineError>;
}

/// Starts what is on the host's search path.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostLauncher;

impl Launcher for HostLauncher {
    fn spawn(&self, launch: &Launch) -> Result<Child, MachineError> {
        let program = on_path(launch.program).ok_or(MachineError::NoQemu {
            program: launch.program,
        })?;
        // util-linux's setpriv asks the kernel to kill QEMU when we die, whatever we die of; it then becomes QEMU. Without it
        // a machine outlives a killed test.
        let mut command = match on_path("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command
            .args(&launch.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| MachineError::Start {
                program: program.display().to_string(),
                source,
            })
    }

    fn tree(&self) -> &Path {
        Path::new("/")
    }

    fn version(&self) -> Result<String, MachineError> {
        let launch = Launch {
            program: QEMU,
            args: vec!["--version".into()],
            binds: Vec::new(),
        };
        let output = self
            .spawn(&launch)?
            .wait_with_output()
            .map_err(|source| MachineError::Start {
                program: QEMU.to_owned(),
                source,
            })?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

//! A machine that runs: QEMU's process, its serial output, its QMP connection and the guest's control channel.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::error::MachineError;
use super::launch::{Bind, Launch, Launcher, QEMU};
use super::qmp::Qmp;
use super::spec::{Boot, MachineSpec, Sockets};
use super::tpm::Tpm;

/// How long QEMU may take from its start until it connects back.
const CONNECT: Duration = Duration::from_secs(30);

/// The one folder that QEMU may make files in, below the machine's own.
const PICTURES: &str = "pictures";

/// How much of QEMU's error output is kept, in lines.
const STDERR_LINES: usize = 20;

/// A started machine. Dropping it kills QEMU, by its own process id, and waits for its end.
#[derive(Debug)]
pub struct Running {
    /// What was started, for the record.
    pub args: Vec<String>,
    child: Child,
    pidfd: OwnedFd,
    qmp: Qmp,
    serial: Option<ChildStdout>,
    keys: Option<ChildStdin>,
    control: Option<UnixStream>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: Option<JoinHandle<()>>,
    status: Option<ExitStatus>,
    // After QEMU's own end, which its drop sees to.
    tpm: Option<Tpm>,
    folder: TempDir,
}

impl Running {
    /// Starts the machine and returns when QEMU has made its connections; the guest then runs.
    ///
    /// # Errors
    /// When QEMU cannot start; its own words are in the error.
    pub fn start(launcher: &dyn Launcher, spec: &MachineSpec) -> Result<Running, MachineError> {
        // Unix socket paths end at 107 bytes, so not in a caller's deep folder.
        let folder = tempfile::Builder::new()
            .prefix("cairn-vm-")
            .tempdir()
            .map_err(MachineError::io("create a folder in", std::env::temp_dir()))?;
        let sockets = Sockets {
            qmp: folder.path().join("qmp"),
            control: folder.path().join("control"),
            tpm: folder.path().join("tpm/socket"),
        };
        let tpm = match &spec.tpm {
            Some(state) => Some(Tpm::start(launcher, state, &sockets.tpm)?),
            None => None,
        };
        let qmp_listener = listen(&sockets.qmp)?;
        let control_listener = if spec.control {
            Some(listen(&sockets.control)?)
        } else {
            None
        };

        let pictures = folder.path().join(PICTURES);
        std::fs::create_dir(&pictures).map_err(MachineError::io("create", &pictures))?;

        let spec = unpack_kernel(spec, &folder.path().join("kernel"))?;
        let args = spec.args(&sockets);
        let mut binds = spec.binds(&sockets);
        binds.push(Bind::writable(&pictures));
        let launch = Launch {
            program: QEMU,
            args: args.clone(),
            binds,
        };
        let mut child = launcher.spawn(&launch)?;
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let stderr_reader = child.stderr.take().map(|pipe| {
            let kept = Arc::clone(&stderr);
            std::thread::spawn(move || keep_last_lines(pipe, &kept))
        });
        let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(MachineError::io("watch", "QEMU's process")(error.into()));
            }
        };
        let mut starting = Starting {
            child: Some(child),
            pidfd: Some(pidfd),
            stderr,
            stderr_reader,
        };
        let qmp = starting.accept(&qmp_listener)?;
        let control = control_listener
            .map(|listener| starting.accept(&listener))
            .transpose()?;
        let qmp = Qmp::new(qmp).map_err(|error| starting.explain(error))?;
        let mut running = starting.finish(args, qmp, control, folder)?;
        running.tpm = tpm;
        Ok(running)
    }

    /// The QMP connection.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The serial port's output; once.
    pub fn take_serial(&mut self) -> Option<ChildStdout> {
        self.serial.take()
    }

    /// Types a line at the serial port.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn type_line(&mut self, text: &str) -> Result<(), MachineError> {
        let typed = self.keys.as_mut().map_or_else(
            || Err(std::io::ErrorKind::BrokenPipe.into()),
            |keys| writeln!(keys, "{text}").and_then(|()| keys.flush()),
        );
        typed.map_err(MachineError::io("type at", "the serial port"))
    }

    /// The guest's control channel, when the machine has one; once.
    pub fn take_control(&mut self) -> Option<UnixStream> {
        self.control.take()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The host's port that stands for the guest's.
    ///
    /// # Errors
    /// When the machine does not forward it, or QEMU does not answer.
    pub fn port(&mut self, guest: u16) -> Result<u16, MachineError> {
        self.qmp.forwarded_port(guest)?.ok_or_else(|| MachineError::Refused {
            command: "info usernet".into(),
            reason: format!("port {guest} of the guest is not forwarded; add it to the machine's forwards"),
        })
    }

    /// Writes the screen to `file`: as PPM if its name ends so, otherwise as PNG.
    ///
    /// # Errors
    /// When the machine has no graphics card, or the file cannot be written.
    pub fn screenshot(&mut self, file: &Path) -> Result<(), MachineError> {
        let format = match file.extension() {
            Some(extension) if extension == "ppm" => "ppm",
            _ => "png",
        };
        // QEMU's sandbox shows it no folder of the caller's.
        let picture = self.folder.path().join(PICTURES).join("screen");
        self.qmp.screendump(&picture, format)?;
        std::fs::copy(&picture, file).map_err(MachineError::io("write", file))?;
        std::fs::remove_file(&picture).map_err(MachineError::io("remove", &picture))
    }

    /// Kills QEMU at once, as a power cut does: nothing is flushed that the guest had not flushed to the host.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus, MachineError> {
        if self.status.is_none() {
            match pidfd_send_signal(&self.pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(MachineError::io("kill", "QEMU's process")(error.into())),
            }
        }
        self.reap()
    }

    /// Waits for QEMU to end by itself.
    ///
    /// # Errors
    /// [`MachineError::Deadline`]; the machine then still runs.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, MachineError> {
        if self.status.is_none() && !readable(&[self.pidfd.as_fd()], within)?[0] {
            return Err(MachineError::Deadline {
                what: "the machine's end".into(),
                after: within,
            });
        }
        self.reap()
    }

    /// The last lines of QEMU's error output.
    pub fn stderr(&self) -> String {
        joined(&self.stderr)
    }

    fn reap(&mut self) -> Result<ExitStatus, MachineError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self
            .child
            .wait()
            .map_err(MachineError::io("wait for", "QEMU's process"))?;
        self.status = Some(status);
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A QEMU that has not connected yet; ended when it is dropped before [`Starting::finish`].
struct Starting {
    child: Option<Child>,
    pidfd: Option<OwnedFd>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Starting {
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, MachineError> {
        let Some(pidfd) = &self.pidfd else {
            return Err(self.ended("starting"));
        };
        let deadline = Instant::now() + CONNECT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = readable(&[listener.as_fd(), pidfd.as_fd()], left)?;
            if ready[0] {
                let (stream, _) = listener
                    .accept()
                    .map_err(MachineError::io("accept on", "QEMU's socket"))?;
                return Ok(stream);
            }
            if ready[1] {
                return Err(self.ended("starting"));
            }
            if left.is_zero() {
                return Err(MachineError::Deadline {
                    what: "QEMU's connection".into(),
                    after: CONNECT,
                });
            }
        }
    }

    fn ended(&mut self, during: &str) -> MachineError {
        let status = self.end();
        MachineError::Ended {
            status,
            during: during.to_owned(),
            stderr: joined(&self.stderr),
        }
    }

    /// A failed conversation with a QEMU that has died is about its death.
    fn explain(&mut self, error: MachineError) -> MachineError {
        let died = self
            .pidfd
            .as_ref()
            .is_some_and(|fd| readable(&[fd.as_fd()], Duration::from_millis(200)).is_ok_and(|ready| ready[0]));
        if died { self.ended("starting") } else { error }
    }

    fn end(&mut self) -> String {
        let Some(mut child) = self.child.take() else {
            return "unknown".into();
        };
        let _ = child.kill();
        let status = child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        status
    }

    fn finish(
        mut self,
        args: Vec<String>,
        qmp: Qmp,
        control: Option<UnixStream>,
        folder: TempDir,
    ) -> Result<Running, MachineError> {
        let (Some(mut child), Some(pidfd)) = (self.child.take(), self.pidfd.take()) else {
            return Err(self.ended("starting"));
        };
        Ok(Running {
            args,
            serial: child.stdout.take(),
            keys: child.stdin.take(),
            child,
            pidfd,
            qmp,
            control,
            stderr: Arc::clone(&self.stderr),
            stderr_reader: self.stderr_reader.take(),
            status: None,
            tpm: None,
            folder,
        })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.end();
    }
}

/// The same machine with its kernel unpacked, where QEMU can start that.
fn unpack_kernel(spec: &MachineSpec, to: &Path) -> Result<MachineSpec, MachineError> {
    let mut spec = spec.clone();
    if let Boot::Direct { kernel, .. } = &mut spec.boot {
        let image = std::fs::read(&*kernel).map_err(MachineError::io("read", &*kernel))?;
        if let Some(elf) = super::kernel::unpack(&image) {
            std::fs::write(to, elf).map_err(MachineError::io("write", to))?;
            *kernel = to.to_owned();
        }
    }
    Ok(spec)
}

fn listen(path: &Path) -> Result<UnixListener, MachineError> {
    UnixListener::bind(path).map_err(MachineError::io("listen on", path))
}

/// Which of them can be read (or, for a process, has ended), waiting at most so long for the first.
fn readable(fds: &[rustix::fd::BorrowedFd<'_>], within: Duration) -> Result<Vec<bool>, MachineError> {
    let deadline = Instant::now() + within;
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(MachineError::io("wait on", "QEMU")(error.into())),
        }
    }
}

fn keep_last_lines(pipe: impl std::io::Read, kept: &Mutex<VecDeque<String>>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if kept.len() > STDERR_LINES {
            kept.pop_front();
        }
        line.clear();
    }
}

fn joined(lines: &Mutex<VecDeque<String>>) -> String {
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().cloned().collect::<Vec<_>>().join("\n")
}

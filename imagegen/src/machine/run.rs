//! `imagegen run`: a machine at a terminal.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::MachineError;
use super::launch::Launcher;
use super::running::Running;
use super::spec::MachineSpec;

/// How `run_interactive` behaves.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How long the guest may take to shut down after Ctrl-C before the machine is switched off.
    pub shutdown: Duration,
    /// The guest's port whose address is printed, with `https://` in front.
    pub https: Option<u16>,
    /// Whether the guest's console goes to standard error, so that standard output is free for something else.
    pub console_on_stderr: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            shutdown: Duration::from_secs(90),
            https: Some(443),
            console_on_stderr: false,
        }
    }
}

enum Happening {
    Serial(Vec<u8>),
    SerialEnded,
    Signal,
}

/// Starts the machine, shows its serial output, prints where to reach it, and waits for its end. The first Ctrl-C presses the
/// power button; the second, or the end of the time to shut down, switches it off.
///
/// Returns the exit code for the command: 0 when the guest ended by itself or shut down when asked, 1 when it had to be
/// switched off.
///
/// # Errors
/// When the machine cannot be started.
pub fn run_interactive(launcher: &dyn Launcher, spec: &MachineSpec, options: &RunOptions) -> Result<u8, MachineError> {
    let (sender, happenings) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(MachineError::io("catch", "Ctrl-C"))?;
    let handle = signals.handle();
    let from_signals = sender.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if from_signals.send(Happening::Signal).is_err() {
                return;
            }
        }
    });
    let mut machine = Running::start(launcher, spec)?;
    if let Some(guest) = options.https
        && spec.forwards.iter().any(|forward| forward.guest == guest)
    {
        eprintln!(
            "The appliance will answer at https://127.0.0.1:{}/ (Ctrl-C shuts it down)",
            machine.port(guest)?
        );
    }
    for forward in spec
        .forwards
        .iter()
        .filter(|forward| Some(forward.guest) != options.https)
    {
        eprintln!(
            "port {} of the appliance is 127.0.0.1:{}",
            forward.guest,
            machine.port(forward.guest)?
        );
    }
    if let Some(mut serial) = machine.take_serial() {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = serial.read(&mut buffer) {
                if sender.send(Happening::Serial(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
            let _ = sender.send(Happening::SerialEnded);
        });
    }
    let code = follow(&mut machine, &happenings, options);
    handle.close();
    code
}

fn follow(
    machine: &mut Running,
    happenings: &mpsc::Receiver<Happening>,
    options: &RunOptions,
) -> Result<u8, MachineError> {
    let mut out: Box<dyn Write> = match options.console_on_stderr {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout().lock()),
    };
    let mut until: Option<Instant> = None;
    loop {
        let happening = match until {
            None => happenings.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(end) => happenings.recv_timeout(end.saturating_duration_since(Instant::now())),
        };
        match happening {
            // A terminal that has gone away is no reason to end the appliance badly.
            Ok(Happening::Serial(bytes)) => drop(out.write_all(&bytes).and_then(|()| out.flush())),
            // QEMU's end closes the serial port.
            Ok(Happening::SerialEnded) | Err(RecvTimeoutError::Disconnected) => {
                let status = machine.wait(Duration::from_secs(10))?;
                if status.success() {
                    return Ok(0);
                }
                return Err(MachineError::Ended {
                    status: status.to_string(),
                    during: "the appliance ran".into(),
                    stderr: machine.stderr(),
                });
            }
            Ok(Happening::Signal) if until.is_none() => {
                eprintln!("\nShutting down; Ctrl-C again switches off at once.");
                machine.qmp().power_button()?;
                until = Some(Instant::now() + options.shutdown);
            }
            Ok(Happening::Signal) => {
                eprintln!("\nSwitched off.");
                return switch_off(machine);
            }
            Err(RecvTimeoutError::Timeout) => {
                eprintln!(
                    "\nThe appliance did not shut down within {} s: switched off.",
                    options.shutdown.as_secs()
                );
                return switch_off(machine);
            }
        }
    }
}

fn switch_off(machine: &mut Running) -> Result<u8, MachineError> {
    // `quit` lets QEMU write its own buffers; a QEMU that does not even do that is killed.
    if machine.qmp().quit().is_err() || machine.wait(Duration::from_secs(10)).is_err() {
        machine.kill()?;
    }
    Ok(1)
}

//! One machine under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imagegen::machine::{
    Boot, Cache, Disk, Filter, Firmware, Forward, MachineError, MachineSpec, Running, Video, decide_accel,
};
use tempfile::TempDir;

use crate::control::Agent;
use crate::disk;
use crate::error::HarnessError;
use crate::images;
use crate::serial::Serial;
use crate::share::Share;
use crate::tools;

/// How a test's machine is made from an image.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its disk's size in GiB.
    pub disk_gib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Ports of the guest to reach from the host.
    pub ports: Vec<u16>,
    /// Whether the disk is kept beside the logs when the test fails.
    pub keep_disk: bool,
    /// Kernel, initrd and command line that QEMU loads itself, from this image's build; `None` boots by UEFI firmware.
    pub direct: Option<PathBuf>,
    /// Whether the firmware has Secure Boot; it begins without keys.
    pub secure_boot: bool,
    /// Whether it has a TPM, whose state the home keeps ([`Home::tpm`]).
    pub tpm: bool,
    /// Whether all writes of all its starts are logged ([`Home::writes`]).
    pub log_writes: bool,
    /// What its clock shows when it is switched on; left out, the time.
    pub clock: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            disk_gib: 8,
            // Two machines side by side get more done on two emulated processors than one machine with both.
            cpus: 1,
            memory_mib: 2048,
            ports: vec![443, 80, 389, 3306],
            keep_disk: false,
            direct: None,
            secure_boot: false,
            tpm: false,
            log_writes: false,
            clock: None,
        }
    }
}

/// A running machine, its console and the folder that it lives in. Ended when dropped; its logs are kept when the test fails.
#[derive(Debug)]
pub struct Machine {
    /// The console.
    pub serial: Serial,
    name: String,
    running: Running,
    agent: Option<Agent>,
    folder: PathBuf,
    _share: Share,
}

/// A machine's folder: its disk and firmware variables, which outlive each of its starts. Removed at the end, but for the disk when
/// the test fails and asked for it.
#[derive(Debug)]
pub struct Home {
    name: String,
    options: Options,
    folder: TempDir,
}

impl Home {
    /// A fresh disk from an image, for the test called `name`.
    ///
    /// # Errors
    /// When the disk cannot be made.
    pub fn new(name: &str, image: &Path, options: Options) -> Result<Home, HarnessError> {
        let base = images::target().join("qemu-tests/run");
        std::fs::create_dir_all(&base).map_err(HarnessError::io("create", &base))?;
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&base);
        let folder = folder.map_err(HarnessError::io("create a folder in", &base))?;
        let home = Home {
            name: name.to_owned(),
            options,
            folder,
        };
        disk::copy_grown(image, &home.disk(), home.options.disk_gib << 30)?;
        Ok(home)
    }

    /// The disk, raw. Only to be touched while no machine runs on it.
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk.raw")
    }

    /// The log of what was written to the disk since it was made, for [`crate::blocklog`].
    pub fn writes(&self) -> PathBuf {
        self.folder.path().join("writes.log")
    }

    /// The folder of its TPM's state: without it the next start has another TPM.
    pub fn tpm(&self) -> PathBuf {
        self.folder.path().join("tpm")
    }

    /// The folder, for what a check needs beside the disk.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What [`Home::start`] starts: firmware or a kernel, this disk, the ports, the control channel.
    ///
    /// # Errors
    /// When QEMU or its firmware are missing.
    pub fn spec(&self) -> Result<MachineSpec, HarnessError> {
        let tools = tools::tools()?;
        let accel = decide_accel(&tools, &tools::cache()?.root().join("accel.json"))?.accel;
        let boot: Boot = match &self.options.direct {
            Some(image) => direct(image)?,
            None => Firmware::find(&tools.root, self.options.secure_boot)?.boot(self.folder.path())?,
        };
        let mut spec = MachineSpec::new(&self.name, accel, boot);
        spec.cpus = self.options.cpus;
        spec.memory_mib = self.options.memory_mib;
        spec.video = Video::Offscreen;
        spec.clock.clone_from(&self.options.clock);
        spec.control = true;
        spec.tpm = self.options.tpm.then(|| self.tpm());
        spec.forwards = self
            .options
            .ports
            .iter()
            .map(|guest| Forward { host: 0, guest: *guest })
            .collect();
        let mut disk = Disk::raw("disk0", &self.disk());
        // A killed QEMU loses nothing that is in the host's page cache, and the host is not what is cut off.
        disk.cache = Cache::Unsafe;
        if self.options.log_writes {
            // Flushes have to get as far as the log.
            disk.cache = Cache::Writeback;
            let log = self.writes();
            let file = std::fs::File::options().create(true).append(true).open(&log);
            let length = file.and_then(|file| file.metadata()).map(|file| file.len());
            let append = length.map_err(HarnessError::io("open", &log))? > 0;
            disk.filter = Some(Filter::LogWrites { log, append });
        }
        spec.disks.push(disk);
        Ok(spec)
    }

    /// Switches the machine on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Machine, HarnessError> {
        Machine::start(&self.name, &self.spec()?, self.folder.path())
    }
}

/// What imagegen left beside the image.
fn direct(image: &Path) -> Result<Boot, HarnessError> {
    let line = image.with_extension("cmdline");
    let text = std::fs::read_to_string(&line).map_err(HarnessError::io("read", &line))?;
    Ok(Boot::Direct {
        kernel: image.with_extension("vmlinuz"),
        initrd: image.with_extension("initrd"),
        command_line: text.trim().to_owned(),
    })
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.options.keep_disk && std::thread::panicking() {
            let kept = images::target().join("qemu-tests").join(&self.name);
            let moved =
                std::fs::create_dir_all(&kept).and_then(|()| std::fs::rename(self.disk(), kept.join("disk.raw")));
            eprintln!("the machine's disk is in {} ({moved:?})", kept.display());
        }
    }
}

impl Machine {
    /// Starts any machine; `folder` takes its logs while it runs. Waits first until the host has room for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, spec: &MachineSpec, folder: &Path) -> Result<Machine, HarnessError> {
        let share = Share::take(spec.cpus, spec.memory_mib)?;
        let mut running = Running::start(&tools::tools()?, spec)?;
        let log = folder.join("serial.log");
        let copy = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(HarnessError::io("open", &log))?;
        let args = folder.join("qemu.args");
        std::fs::write(&args, running.args.join("\n")).map_err(HarnessError::io("write", &args))?;
        let agent = running.take_control().map(Agent::new);
        let serial = match running.take_serial() {
            Some(pipe) => Serial::follow(pipe, copy),
            None => Serial::follow(std::io::empty(), copy),
        };
        let name = name.to_owned();
        Ok(Machine {
            serial,
            name,
            running,
            agent,
            folder: folder.to_owned(),
            _share: share,
        })
    }

    /// Waits for a console line with this text, from the machine's start on.
    ///
    /// # Errors
    /// When it does not come in time or the machine ends first.
    pub fn wait_for(&self, pattern: &str, within: Duration) -> Result<String, HarnessError> {
        self.serial.wait_from(0, pattern, within).map(|(_, line)| line)
    }

    /// How long it has been on.
    pub fn uptime(&self) -> Duration {
        self.serial.elapsed()
    }

    /// When a line with this text first came, counted from the machine's start.
    pub fn said_at(&self, pattern: &str) -> Option<Duration> {
        let lines = self.serial.lines();
        lines.iter().find(|(_, line)| line.contains(pattern)).map(|(at, _)| *at)
    }

    /// The host's port for a port of the guest's.
    ///
    /// # Errors
    /// When it is not forwarded.
    pub fn port(&mut self, guest: u16) -> Result<u16, HarnessError> {
        Ok(self.running.port(guest)?)
    }

    /// The agent inside.
    ///
    /// # Errors
    /// When the machine was started without a control channel.
    pub fn agent(&mut self) -> Result<&mut Agent, HarnessError> {
        self.agent.as_mut().ok_or_else(|| HarnessError::Agent {
            what: "be reached".into(),
            reason: "the machine has no control channel".into(),
        })
    }

    /// Types a line at the serial console.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn type_line(&mut self, text: &str) -> Result<(), HarnessError> {
        Ok(self.running.type_line(text)?)
    }

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn power_button(&mut self) -> Result<(), HarnessError> {
        Ok(self.running.qmp().power_button()?)
    }

    /// Presses reset.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn reset(&mut self) -> Result<(), HarnessError> {
        Ok(self.running.qmp().reset()?)
    }

    /// Presses Ctrl-Alt-Del.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn ctrl_alt_del(&mut self) -> Result<(), HarnessError> {
        Ok(self.running.qmp().send_keys(&["ctrl", "alt", "delete"])?)
    }

    /// Cuts the power: SIGKILL to QEMU.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        Ok(self.running.kill().map(drop)?)
    }

    /// Waits for the machine to switch itself off.
    ///
    /// # Errors
    /// When it does not in time, or QEMU fails.
    pub fn wait_off(&mut self, within: Duration) -> Result<(), HarnessError> {
        let status = self.running.wait(within)?;
        if status.success() {
            return Ok(());
        }
        let (status, stderr) = (status.to_string(), self.running.stderr());
        Err(MachineError::Ended {
            status,
            during: "the machine shut down".into(),
            stderr,
        }
        .into())
    }

    /// Waits until the guest resets the machine.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_reset(&mut self, within: Duration) -> Result<(), HarnessError> {
        self.running
            .qmp()
            .wait_event("a reset", within, |event| event.name == "RESET")?;
        Ok(())
    }

    /// Pulls a device out and waits until it is gone.
    ///
    /// # Errors
    /// When the guest does not let go of it within 30 s.
    pub fn hot_unplug(&mut self, id: &str) -> Result<(), HarnessError> {
        self.running.qmp().device_del(id)?;
        self.running
            .qmp()
            .wait_event(&format!("the end of {id}"), Duration::from_secs(30), |event| {
                event.name == "DEVICE_DELETED" && event.data["device"] == id
            })?;
        Ok(())
    }

    /// Writes the screen as PNG, or as PPM where the file's name ends so.
    ///
    /// # Errors
    /// When the machine has no screen.
    pub fn screenshot(&mut self, file: &Path) -> Result<(), HarnessError> {
        Ok(self.running.screenshot(file)?)
    }

    fn keep(&mut self) -> Result<PathBuf, HarnessError> {
        let kept = images::target().join("qemu-tests").join(&self.name);
        std::fs::create_dir_all(&kept).map_err(HarnessError::io("create", &kept))?;
        // The screen is worth having but a dead machine has none.
        let _ = self.running.screenshot(&kept.join("screen.png"));
        let _ = self.running.kill();
        for file in ["serial.log", "qemu.args"] {
            let from = self.folder.join(file);
            std::fs::copy(&from, kept.join(file)).map_err(HarnessError::io("keep", &from))?;
        }
        std::fs::write(kept.join("qemu.stderr"), self.running.stderr()).map_err(HarnessError::io("write", &kept))?;
        Ok(kept)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match self.keep() {
                Ok(kept) => eprintln!("the machine's logs are in {}", kept.display()),
                Err(error) => eprintln!("the machine's logs could not be kept: {error}"),
            }
        }
    }
}

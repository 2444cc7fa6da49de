//! A machine that is on, and what is asked of it.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use imagegen::machine::{Boot, Disk, MachineSpec, Video, decide_accel};
use qemu_tests::Machine;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at something that is not being measured.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A system on a disk.
pub(super) struct System {
    pub(super) name: &'static str,
    pub(super) boot: Boot,
    pub(super) disk: PathBuf,
}

/// It, on.
pub(super) struct Guest {
    name: &'static str,
    machine: Machine,
}

impl Guest {
    /// Switches it on and waits for its agent. Both systems get the same machine.
    pub(super) fn start(system: &System, folder: &std::path::Path) -> Result<Guest, Box<dyn Error>> {
        let tools = qemu_tests::tools::tools()?;
        let accel = decide_accel(&tools, &qemu_tests::tools::cache()?.root().join("accel.json"))?.accel;
        let mut spec = MachineSpec::new(system.name, accel, system.boot.clone());
        spec.cpus = 2;
        spec.memory_mib = 2048;
        spec.video = Video::Off;
        spec.control = true;
        spec.disks.push(Disk::raw("disk0", &system.disk));
        eprintln!("{}: switched on", system.name);
        let mut guest = Guest {
            name: system.name,
            machine: Machine::start(system.name, &spec, folder)?,
        };
        guest.machine.agent()?.exec(&["/usr/bin/cairn-probe", "stamp"], LIMIT)?;
        Ok(guest)
    }

    /// What a program of it says, if it ends well.
    pub(super) fn run(&mut self, argv: &[&str]) -> Result<String, Box<dyn Error>> {
        let output = self.machine.agent()?.exec(argv, LIMIT)?;
        if output.status == 0 {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("{} ended with {}: {said}", argv.join(" "), output.status).into())
    }

    /// The same, and nothing if it does not end well.
    pub(super) fn try_run(&mut self, argv: &[&str]) -> Result<Option<String>, Box<dyn Error>> {
        let output = self.machine.agent()?.exec(argv, LIMIT)?;
        Ok((output.status == 0).then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    pub(super) fn read(&mut self, path: &str) -> Result<String, Box<dyn Error>> {
        Ok(String::from_utf8(self.machine.agent()?.read_file(path)?)?)
    }

    pub(super) fn write(&mut self, path: &str, text: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.machine.agent()?.write_file(path, text.as_bytes())?)
    }

    /// Looks again and again until there is something to be seen.
    pub(super) fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Guest) -> Result<Option<T>, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        eprintln!("{}: waiting for {what}", self.name);
        let start = Instant::now();
        loop {
            if let Some(seen) = look(self)? {
                return Ok(seen);
            }
            if start.elapsed() > LIMIT {
                return Err(format!("{what} did not come within {} s", LIMIT.as_secs()).into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The resident memory of a process, in bytes.
    pub(super) fn resident(&mut self, pid: &str) -> Result<f64, Box<dyn Error>> {
        let text = self.read(&format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .ok_or("no VmRSS")?
            .trim()
            .parse()?;
        Ok(kib * 1024.0)
    }

    /// The process that runs a program, by its name.
    pub(super) fn find(&mut self, name: &str) -> Result<String, Box<dyn Error>> {
        let pids = self.run(&["/usr/bin/cairn-probe", "find", name])?;
        let first = pids.lines().next().ok_or_else(|| format!("no process {name}"))?;
        Ok(first.to_owned())
    }

    /// Ends it by its own command.
    pub(super) fn off(mut self, command: &[&str]) -> Result<(), Box<dyn Error>> {
        self.run(command)?;
        Ok(self.machine.wait_off(LIMIT)?)
    }
}

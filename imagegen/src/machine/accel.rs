//! How a machine's instructions are run, decided by trying.
//!
//! `/dev/kvm` can open, create a machine and still be useless: under some nested hypervisors a guest hangs at full load, under others
//! KVM does most instructions itself, slowly, and stops at the first that it does not know, such as those for floating point. So a
//! guest of one sector is booted under KVM once, with a deadline, and the answer is kept for as long as the host runs the
//! same kernel boot and QEMU stays the same.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::error::MachineError;
use super::launch::{Bind, Launch, Launcher, QEMU};

/// How instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the processor, through KVM.
    Kvm,
    /// Translated by QEMU.
    Tcg,
}

/// What is remembered, as `machine-accel.json` in the cache folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccelCache {
    /// The host kernel's boot, by its random id.
    pub boot_id: String,
    /// QEMU, by its version.
    pub qemu: String,
    /// What was tried, by the sector's number.
    pub tried: u32,
    /// The decision.
    pub accel: Accel,
    /// Why, for the curious.
    pub reason: String,
}

/// How long the guest of one sector may take under KVM; it needs a tenth of this on a slow machine.
const DEADLINE: Duration = Duration::from_secs(3);

/// The number of what that guest does: another one when it does something else, so that older answers are not taken.
const SECTOR: u32 = 2;

/// What that guest writes to the debug-exit port, and what QEMU makes of it: `value << 1 | 1`.
const EXIT_VALUE: u8 = 0x15;
const EXIT_STATUS: i32 = (EXIT_VALUE as i32) << 1 | 1;

/// Says how to run machines here. `IMAGEGEN_ACCEL=kvm` or `tcg` in the environment overrules everything.
///
/// # Errors
/// When QEMU cannot be found. A KVM that does not work is no error but the answer [`Accel::Tcg`].
pub fn decide_accel(launcher: &dyn Launcher, cache: &Path) -> Result<AccelCache, MachineError> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let qemu = launcher.version()?;
    let answer = |accel, reason: String| AccelCache {
        boot_id: boot_id.clone(),
        qemu: qemu.clone(),
        tried: SECTOR,
        accel,
        reason,
    };
    match std::env::var("IMAGEGEN_ACCEL").as_deref() {
        Ok("kvm") => return Ok(answer(Accel::Kvm, "IMAGEGEN_ACCEL says so".into())),
        Ok("tcg") => return Ok(answer(Accel::Tcg, "IMAGEGEN_ACCEL says so".into())),
        _ => {}
    }
    let file = cache.join("machine-accel.json");
    if let Some(known) = read(&file)
        && known.boot_id == boot_id
        && known.qemu == qemu
        && known.tried == SECTOR
    {
        return Ok(known);
    }
    let decided = match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Err(error) => answer(Accel::Tcg, format!("/dev/kvm cannot be opened: {error}")),
        Ok(_) => match boot_sector(launcher, Accel::Kvm, cache, DEADLINE)? {
            Ok(()) => answer(Accel::Kvm, "a guest ran to its end under KVM".into()),
            Err(reason) => answer(Accel::Tcg, format!("KVM is of no use here: {reason}")),
        },
    };
    write(&file, &decided)?;
    Ok(decided)
}

/// Boots one sector under `accel`; the inner error says how it failed to end as it should.
fn boot_sector(
    launcher: &dyn Launcher,
    accel: Accel,
    cache: &Path,
    deadline: Duration,
) -> Result<Result<(), String>, MachineError> {
    fs::create_dir_all(cache).map_err(MachineError::io("create", cache))?;
    let disk = tempfile::Builder::new()
        .prefix("probe-")
        .suffix(".img")
        .tempfile_in(cache)
        .map_err(MachineError::io("create a file in", cache))?;
    fs::write(disk.path(), sector()).map_err(MachineError::io("write", disk.path()))?;
    let mut binds = vec![Bind::read_only(disk.path())];
    let words = match accel {
        Accel::Kvm => {
            binds.push(Bind::writable(Path::new("/dev/kvm")));
            ["-accel", "kvm", "-cpu", "host"]
        }
        Accel::Tcg => ["-accel", "tcg", "-cpu", "max"],
    };
    let drive = format!(
        "if=none,id=d,format=raw,readonly=on,file={}",
        disk.path().display().to_string().replace(',', ",,")
    );
    let args = [
        "-nodefaults",
        "-no-user-config",
        "-machine",
        "q35",
        "-m",
        "16M",
        "-display",
        "none",
    ]
    .into_iter()
    .chain(words)
    .chain(["-drive", &drive, "-device", "virtio-blk-pci,drive=d"])
    .chain(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
    .map(str::to_owned)
    .collect();
    let mut child = launcher.spawn(&Launch {
        program: QEMU,
        args,
        binds,
    })?;
    Ok(match wait(&mut child, deadline) {
        Ok(Some(status)) if status.code() == Some(EXIT_STATUS) => Ok(()),
        Ok(Some(status)) => Err(format!("the guest ended with {status}")),
        Ok(None) => Err(format!(
            "a guest of one sector did not end within {} s",
            deadline.as_secs()
        )),
        Err(error) => Err(error.to_string()),
    })
}

/// A boot sector that waits for two timer interrupts, calculates with floating point, and then leaves through the debug-exit port.
/// The disk is a megabyte, as SeaBIOS boots from none that is smaller than a cylinder.
fn sector() -> Vec<u8> {
    let mut sector = vec![0; 1 << 20];
    let code = [
        &[0xfb, 0xf4, 0xf4][..],                     // sti; hlt; hlt
        &[0xdb, 0xe3, 0x9b, 0xd9, 0xeb, 0xdd, 0xd8], // fninit; fwait; fldpi; fstp st0
        &[0xb0, EXIT_VALUE, 0xe6, 0xf4],             // mov al, EXIT_VALUE; out 0xf4, al
        &[0xfa, 0xf4, 0xeb, 0xfe],                   // cli; hlt; jmp $
    ]
    .concat();
    sector[..code.len()].copy_from_slice(&code);
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Waits for the child and kills it at the deadline; `None` then.
pub(super) fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec {
        tv_sec: deadline.as_secs() as i64,
        tv_nsec: i64::from(deadline.subsec_nanos()),
    };
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    if poll(&mut fds, Some(&timeout))? == 0 {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

fn read(file: &Path) -> Option<AccelCache> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn write(file: &Path, answer: &AccelCache) -> Result<(), MachineError> {
    let text = serde_json::to_vec_pretty(answer).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(MachineError::io("create", folder))?;
    // Through a name of its own: two tests may decide at once.
    let mut temporary =
        tempfile::NamedTempFile::new_in(folder).map_err(MachineError::io("create a file in", folder))?;
    std::io::Write::write_all(&mut temporary, &text).map_err(MachineError::io("write", temporary.path()))?;
    temporary
        .persist(file)
        .map_err(|error| MachineError::io("write", file)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::launch::HostLauncher;
    use super::*;

    fn qemu_is_here() -> bool {
        let here = HostLauncher.version().is_ok();
        if !here {
            eprintln!("skipped: no QEMU on PATH");
        }
        here
    }

    #[test]
    fn the_sector_ends_under_emulation_so_a_hang_is_kvms_fault() {
        if !qemu_is_here() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let ended = boot_sector(&HostLauncher, Accel::Tcg, folder.path(), Duration::from_secs(60)).unwrap();
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn a_guest_that_does_not_end_is_killed_at_the_deadline() {
        if !qemu_is_here() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let ended = boot_sector(&HostLauncher, Accel::Tcg, folder.path(), Duration::ZERO).unwrap();
        assert!(ended.unwrap_err().contains("did not end"));
    }

    #[test]
    fn an_answer_of_this_boot_and_qemu_is_used_again_and_no_other() {
        if !qemu_is_here() || std::env::var_os("IMAGEGEN_ACCEL").is_some() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut first = decide_accel(&HostLauncher, folder.path()).unwrap();
        first.reason = "remembered".into();
        write(&folder.path().join("machine-accel.json"), &first).unwrap();
        assert_eq!(decide_accel(&HostLauncher, folder.path()).unwrap().reason, "remembered");
        first.boot_id = "another boot".into();
        write(&folder.path().join("machine-accel.json"), &first).unwrap();
        assert_ne!(decide_accel(&HostLauncher, folder.path()).unwrap().reason, "remembered");
    }
}

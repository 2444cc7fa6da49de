//! The harness judged by a guest that is known to be right: a plain kernel and an initrd that starts the test agent.
//!
//! `CAIRN_GUEST_KERNEL` and `CAIRN_GUEST_INITRD` name them; the initrd's init prints `guest: up`, mounts /proc, /sys and /dev, and runs
//! the agent. Without them these tests say that they are skipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use imagegen::machine::{Accel, Boot, Disk, MachineSpec, Video};
use qemu_tests::{HarnessError, Machine};

const BOOT: Duration = Duration::from_secs(180);

fn guest(name: &str) -> Option<MachineSpec> {
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    let (Some(kernel), Some(initrd)) = (path("CAIRN_GUEST_KERNEL"), path("CAIRN_GUEST_INITRD")) else {
        eprintln!("skipped: CAIRN_GUEST_KERNEL and CAIRN_GUEST_INITRD name no guest");
        return None;
    };
    let command_line = "console=ttyS0 quiet panic=-1".to_owned();
    let mut spec = MachineSpec::new(
        name,
        Accel::Tcg,
        Boot::Direct {
            kernel,
            initrd,
            command_line,
        },
    );
    spec.cpus = 1;
    spec.memory_mib = 512;
    spec.control = true;
    spec.video = Video::Offscreen;
    Some(spec)
}

fn start(spec: &MachineSpec, folder: &Path) -> Machine {
    let machine = Machine::start(&spec.name, spec, folder).unwrap();
    machine.wait_for("guest: up", BOOT).unwrap();
    machine.wait_for("test agent: serving", BOOT).unwrap();
    machine
}

#[test]
fn the_agent_runs_programs_and_moves_files_both_ways() {
    let Some(spec) = guest("harness-agent") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut machine = start(&spec, folder.path());
    let agent = machine.agent().unwrap();
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    agent.write_file("/tmp-file", &data).unwrap();
    assert_eq!(agent.read_file("/tmp-file").unwrap(), data);
    let output = agent.exec(&["/init", "echo", "out"], BOOT).unwrap();
    assert_eq!((output.status, output.stdout.as_slice()), (3, b"out\n".as_slice()));
    let error = agent.read_file("/absent").unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let screen = folder.path().join("screen.png");
    machine.screenshot(&screen).unwrap();
    assert!(std::fs::read(&screen).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_reset_boots_again_and_a_power_cut_ends_at_once() {
    let Some(spec) = guest("harness-reset") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut machine = start(&spec, folder.path());
    let mark = machine.serial.mark();
    machine.reset().unwrap();
    machine.wait_reset(Duration::from_secs(30)).unwrap();
    machine.serial.wait_from(mark, "guest: up", BOOT).unwrap();
    machine.kill().unwrap();
    let error = machine.wait_for("never said", BOOT).unwrap_err();
    assert!(matches!(error, HarnessError::EndedSilent { .. }), "{error}");
}

#[test]
fn a_machine_that_cannot_start_says_why_in_qemus_words() {
    let Some(mut spec) = guest("harness-broken") else {
        return;
    };
    spec.disks.push(Disk::raw("disk0", Path::new("/nonexistent/disk.raw")));
    let error = Machine::start("harness-broken", &spec, tempfile::tempdir().unwrap().path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/disk.raw"), "{error}");
}

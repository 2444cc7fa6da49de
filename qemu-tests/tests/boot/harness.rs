//! The harness judged by the image itself, through the kernel that QEMU loads directly.

use std::path::Path;
use std::time::Duration;

use imagegen::machine::Disk;
use qemu_tests::HarnessError;
use qemu_tests::machine::{Home, Options};

use super::*;

const BOOT: Duration = Duration::from_secs(180);
const BANNER: &str = "Cairn: base-test ";

fn direct(name: &str, disk: &Path) -> Home {
    let options = Options {
        direct: Some(must(images::base())),
        ..Options::default()
    };
    must(Home::new(name, disk, options))
}

#[test]
fn the_agent_runs_programs_and_moves_files_both_ways() {
    let home = direct("harness-agent", &must(prepared::base()).disk);
    let mut machine = must(home.start());
    must(machine.wait_for("test agent: serving", BOOT));
    let agent = must(machine.agent());
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    must(agent.write_file("/run/there-and-back", &data));
    assert_eq!(must(agent.read_file("/run/there-and-back")), data);
    let output = must(agent.exec(&["/usr/bin/cairn", "--version"], BOOT));
    assert_eq!(output.status, 0);
    assert!(output.stdout.starts_with(b"cairn "), "{output:?}");
    let output = must(agent.exec(&["/usr/bin/cairn", "no-such-word"], BOOT));
    assert_eq!(output.status, 2);
    assert!(!output.stderr.is_empty());
    let error = agent.read_file("/absent").unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn a_reset_boots_again_and_a_power_cut_ends_at_once() {
    let home = direct("harness-reset", &must(images::base()));
    let mut machine = must(home.start());
    must(machine.wait_for(BANNER, BOOT));
    let mark = machine.serial.mark();
    must(machine.reset());
    must(machine.wait_reset(Duration::from_secs(30)));
    must(machine.serial.wait_from(mark, BANNER, BOOT));
    must(machine.kill());
    let error = machine.wait_for("never said", BOOT).unwrap_err();
    assert!(matches!(error, HarnessError::EndedSilent { .. }), "{error}");
}

#[test]
fn a_machine_that_cannot_start_says_why_in_qemus_words() {
    let home = direct("harness-broken", &must(images::base()));
    let mut spec = must(home.spec());
    spec.disks.push(Disk::raw("disk1", Path::new("/nonexistent/disk.raw")));
    let error = Machine::start("harness-broken", &spec, home.folder())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/disk.raw"), "{error}");
}

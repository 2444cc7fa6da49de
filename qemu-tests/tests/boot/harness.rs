//! The harness judged by the image itself, through the kernel that QEMU loads directly.

use std::collections::HashSet;
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

/// The width, height and number of colours of a binary PPM.
fn measure(ppm: &[u8]) -> (usize, usize, usize) {
    let mut rest = ppm;
    let mut word = || {
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        String::from_utf8_lossy(word).into_owned()
    };
    assert_eq!(word(), "P6");
    let [width, height, depth] = [word(), word(), word()].map(|number| must(number.parse::<usize>()));
    assert_eq!((depth, rest.len()), (255, width * height * 3));
    let colours: HashSet<&[u8]> = rest.chunks(3).collect();
    (width, height, colours.len())
}

#[test]
fn a_picture_of_the_screen_shows_what_the_firmware_wrote() {
    let home = direct("harness-screen", &must(images::base()));
    let mut machine = must(home.start());
    must(machine.wait_for(BANNER, BOOT));
    let (ppm, png) = (home.folder().join("screen.ppm"), home.folder().join("screen.png"));
    must(machine.screenshot(&ppm));
    let (width, height, colours) = measure(&must(std::fs::read(&ppm)));
    assert!(width >= 640 && height >= 400, "{width} x {height}");
    assert!(colours > 1, "the screen is of one colour");
    must(machine.screenshot(&png));
    assert!(must(std::fs::read(&png)).starts_with(b"\x89PNG\r\n\x1a\n"));
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

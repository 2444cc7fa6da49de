//! When nothing starts (`appliances/upgrade-test.toml`): the boot loader comes to recovery, which says why and gets the machine going again, by
//! another try and by a bundle from a stick; and a version that is damaged gives way to the other by itself.

use std::collections::BTreeMap;
use std::path::Path;

use imagegen::image::fat;
use imagegen::machine::Disk;
use qemu_tests::esp;

use super::daemons::Guest;
use super::upgrade::{INSTALLED, PROVED, Scene};
use super::*;

const MENU: &str = "Type a number, or Enter to look again.";

/// A medium with one file.
fn stick(path: &Path, name: &str, content: Vec<u8>) {
    let size = (content.len() as u64 + fat::MIN_SIZE).next_multiple_of(1 << 20);
    let file = must(std::fs::File::create_new(path));
    must(file.set_len(size));
    let contents = fat::Contents {
        label: "STICK".into(),
        serial: 1,
        epoch: 1_700_000_000,
        files: BTreeMap::from([(name.to_owned(), content)]),
    };
    must(fat::write(&file, path, 0, size, &contents));
}

/// Waits for the screen, and returns the line behind it.
fn screen(machine: &Machine, from: usize) -> usize {
    must(machine.serial.wait_from(from, MENU, READY)).0 + 1
}

/// That a screen, which ends at this line, says this.
fn says(machine: &Machine, end: usize, words: &str) {
    // Lines are broken at 80 columns.
    let lines = machine.serial.lines();
    let text: Vec<&str> = lines[..end]
        .iter()
        .flat_map(|(_, line)| line.split_whitespace())
        .collect();
    let text = text.join(" ");
    assert!(text.contains(words), "not said: {words}\nbut: {text}");
}

/// Takes the choice with these words from the screen that ends at this line, and confirms it.
fn choose(machine: &mut Machine, end: usize, words: &str) {
    let lines = machine.serial.lines();
    let line = lines[..end].iter().rev().find(|(_, line)| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("no choice {words}")).1.trim();
    let number = line.split_whitespace().next().unwrap_or_default().to_owned();
    must(machine.type_line(&number));
    must(machine.serial.wait_from(end, "  - restart", READY));
    must(machine.type_line("y"));
}

#[test]
fn a_machine_on_which_nothing_starts_is_got_going_again() {
    let scene = Scene::new("recovery", false);
    let (work, publisher, home) = (&scene.work, &scene.publisher, &scene.home);
    let second = must(images::upgraded("1.1.0", images::Changes::default(), work.path()));
    publisher.publish("1.1.0", &second);
    switch_off(scene.start().0);

    // Given up, and nothing else there: one more try.
    must(esp::rename_entry(
        &home.disk(),
        "upgrade-test_1.0.0.efi",
        "upgrade-test_1.0.0+0-3.efi",
    ));
    let mut machine = must(home.start());
    let end = screen(&machine, 0);
    says(&machine, end, "Recovery of upgrade-test");
    says(&machine, end, "Slot A holds version 1.0.0: given up, tried 3 times.");
    says(&machine, end, "Slot B is empty. The data partition can be read.");
    // What is no choice changes nothing.
    must(machine.type_line("77"));
    must(machine.wait_for("There is no choice \"77\"", READY));
    choose(&mut machine, end, "Try version 1.0.0 again");
    must(machine.wait_reset(OFF));
    must(machine.wait_for("Cairn: upgrade-test 1.0.0", READY));
    must(machine.wait_for(PROVED, READY));
    switch_off(machine);

    // Kept again, and damaged since: it would be started for ever. A bundle comes on a stick.
    let flip = |label: &str| {
        let found = must(disk::partitions(&home.disk()));
        let roots: Vec<_> = found.iter().filter(|partition| partition.kind == disk::ROOT).collect();
        let root = roots[usize::from(label == "B")];
        must(disk::flip_bit(&home.disk(), root.start + 1024 + 120, 3));
    };
    flip("A");
    let bundle = work.path().join("stick.raw");
    stick(&bundle, "upgrade.cairn", publisher.whole("1.1.0"));
    let mut spec = must(home.spec());
    spec.disks.push(Disk::raw("stick", &bundle));
    let mut machine = must(Machine::start("recovery", &spec, home.folder()));
    must(machine.wait_for("is damaged: its content is not what the root hash stands for", READY));
    must(machine.wait_for("cairn: the boot loader starts recovery.efi next", READY));
    must(machine.wait_reset(OFF));
    let end = screen(&machine, 0);
    says(
        &machine,
        end,
        "Slot A holds version 1.0.0: it had proved itself. It could not be started: the root on",
    );
    choose(&mut machine, end, "Install upgrade.cairn from vdb");
    must(
        machine
            .serial
            .wait_from(end, "write version 1.1.0 from upgrade.cairn into slot B", READY),
    );
    must(
        machine
            .serial
            .wait_from(end, "give up version 1.0.0, which cannot be started", READY),
    );
    must(machine.serial.wait_from(end, "It is installed.", INSTALLED));
    must(machine.wait_reset(OFF));
    must(machine.serial.wait_from(end, "Cairn: upgrade-test 1.1.0", READY));
    must(machine.serial.wait_from(end, PROVED, READY));
    switch_off(machine);

    // Two versions that had proved themselves, and the newer is damaged: the other starts without anybody.
    flip("A");
    flip("B");
    must(esp::rename_entry(
        &home.disk(),
        "upgrade-test_1.0.0+0-1.efi",
        "upgrade-test_1.0.0.efi",
    ));
    let mut machine = must(home.start());
    must(machine.wait_for("cairn: the boot loader starts upgrade-test_1.0.0.efi next", READY));
    must(machine.wait_reset(OFF));
    must(machine.wait_for("Cairn: upgrade-test 1.0.0", READY));
    must(machine.wait_for("Ready", READY));
    let mut guest = Guest(machine);
    wait_until("the damaged version is given up", READY, || {
        let history = guest.cairn(&["upgrade", "history"]);
        history
            .lines()
            .next()
            .is_some_and(|line| line.contains("failed") && line.contains("1.1.0"))
    });
    switch_off(guest.0);
    is_clean(home);
}

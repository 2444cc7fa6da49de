//! Firmware with Secure Boot and an image that is signed by its owner's keys: the first start enrols them, a signed version is installed and
//! starts, and what is altered or not signed does not.

use std::path::{Path, PathBuf};

use imagegen::image::secureboot;
use qemu_tests::esp;
use qemu_tests::images::Changes;
use qemu_tests::machine::Options;

use super::daemons::Guest;
use super::upgrade::{INSTALLED, PROVED, Scene, restart_into};
use super::*;

/// Firmware's word for a program that it does not start.
const REFUSED: &str = "Access denied";

/// A version that is signed by the keys in the folder `keys`.
fn signed(version: &str, work: &Path) -> PathBuf {
    // Not under the name of the project that the test of upgrades has.
    let folder = work.join("signed");
    let keys = folder.join(version).join("keys");
    must(std::fs::create_dir_all(&keys));
    must(std::os::unix::fs::symlink(work.join("keys"), keys.join("secureboot")));
    let changes = Changes {
        recipe: &[("[image]", "[image]\nsecure_boot = \"keys/secureboot\"")],
        ..Changes::default()
    };
    must(images::upgraded(version, changes, &folder))
}

/// That firmware does not start the entry, which has one try left, and comes by itself to what is to be started in its place.
fn is_refused(scene: &Scene, entry: &str, instead: &str) -> Machine {
    let machine = must(scene.home.start());
    let (line, said) = must(machine.serial.wait_from(0, REFUSED, READY));
    assert!(said.contains(entry), "{said}");
    must(machine.serial.wait_from(line, instead, READY));
    machine
}

#[test]
fn firmware_takes_the_owners_keys_and_starts_what_is_signed_by_them_and_nothing_else() {
    let options = Options {
        secure_boot: true,
        ..Options::default()
    };
    let scene = Scene::with("secure-boot", options, |work| {
        must(secureboot::create(
            &work.join("keys"),
            "Test",
            must("2026-01-01T00:00:00Z".parse()),
        ));
        signed("1.0.0", work)
    });
    let (work, disk) = (scene.work.path(), scene.home.disk());
    let mut guest = scene.start();
    must(guest.0.wait_for("Custom Secure Boot keys successfully enrolled", READY));
    // The kernel says so where SecureBoot is 1 and SetupMode is 0.
    let said = guest.cairn(&["logs", "kernel"]);
    assert!(said.contains("Secure boot enabled"), "{said}");

    // Another version comes as any does.
    scene.publisher.publish("1.1.0", &signed("1.1.0", work));
    let bundle = scene.publisher.bundle("1.1.0", "1.0.0");
    must(must(guest.0.agent()).write_file("/data/update.cairn", &bundle));
    guest.ran(
        &["/usr/bin/cairn", "upgrade", "install", "/data/update.cairn"],
        INSTALLED,
    );
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, PROVED, READY));
    switch_off(guest.0);

    // One bit of its initrd; firmware does not load it, and the version of before is next.
    let one_try = |version: &str| {
        let entry = format!("upgrade-test_{version}");
        must(esp::rename_entry(
            &disk,
            &format!("{entry}.efi"),
            &format!("{entry}+1.efi"),
        ));
        format!("{entry}+1.efi")
    };
    must(esp::change_entry(&disk, &one_try("1.1.0"), |uki| {
        let middle = uki.len() / 2;
        uki[middle] ^= 1;
    }));
    let machine = is_refused(&scene, "upgrade-test_1.1.0", "Cairn: upgrade-test 1.0.0");
    must(machine.wait_for("Ready", READY));
    let mut guest = Guest(machine);
    // Its power button may not be there yet.
    guest.cairn(&["poweroff"]);
    must(guest.0.wait_off(OFF));

    // Not signed at all: recovery, which is.
    must(esp::change_entry(&disk, &one_try("1.0.0"), |uki| {
        *uki = must(secureboot::unsigned(uki));
    }));
    is_refused(&scene, "upgrade-test_1.0.0", "Recovery of upgrade-test");
}

//! An encrypted data partition whose key the TPM keeps: it is made at the first start, opens by itself as long as Secure Boot lets the owner's versions
//! through on this machine, and asks for the recovery key everywhere else.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use imagegen::image::secureboot;
use imagegen::machine::Firmware;
use qemu_tests::esp;
use qemu_tests::machine::Options;
use qemu_tests::tools;

use super::daemons::Guest;
use super::upgrade::{INSTALLED, PROVED, Scene, restart_into};
use super::*;

const KNOWN: &str = "what nobody may read who has the disk alone: 7f31c0ffee5d";
const ASKED: &str = "type the recovery key";
const STATE: &str = "/run/cairn-data";

fn version(version: &str, work: &Path) -> PathBuf {
    let folder = work.join("signed");
    let keys = folder.join(version).join("keys");
    must(std::fs::create_dir_all(&keys));
    must(std::os::unix::fs::symlink(work.join("keys"), keys.join("secureboot")));
    must(images::version_of(
        "encrypted-test",
        version,
        images::Changes::default(),
        &folder,
    ))
}

/// Where the data partition begins, in bytes, and how long it is.
fn data(disk: &Path) -> (u64, u64) {
    let found = must(qemu_tests::disk::partitions(disk));
    let data = found.iter().find(|partition| partition.label == "data").unwrap();
    (data.start, data.length)
}

/// Whether a text stands somewhere on the data partition.
fn is_on(disk: &Path, text: &str) -> bool {
    const STEP: usize = 1 << 20;
    let (start, length) = data(disk);
    let file = must(std::fs::File::open(disk));
    let mut piece = vec![0; STEP + text.len()];
    (0..length).step_by(STEP).any(|at| {
        let end = piece.len().min((length - at) as usize);
        must(file.read_exact_at(&mut piece[..end], start + at));
        piece[..end].windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// The size of the data file system, in bytes.
fn size(guest: &mut Guest) -> u64 {
    let machine: serde_json::Value = must(serde_json::from_str(&guest.cairn(&["--json", "machine"])));
    machine["data"]["size"].as_u64().unwrap()
}

/// By word: its power button may not be there yet.
fn power_off(mut guest: Guest) {
    guest.cairn(&["poweroff"]);
    must(guest.0.wait_off(OFF));
}

#[test]
fn the_tpm_opens_the_data_for_the_owners_versions_on_this_machine_and_the_recovery_key_elsewhere() {
    let options = Options {
        secure_boot: true,
        tpm: true,
        ..Options::default()
    };
    let scene = Scene::with("encryption", options, |work| {
        must(secureboot::create(
            &work.join("keys"),
            "Test",
            must("2026-01-01T00:00:00Z".parse()),
        ));
        version("1.0.0", work)
    });
    let (work, disk) = (scene.work.path(), scene.home.disk());
    let mut guest = scene.start();
    let made = must(guest.0.wait_for("first boot: making the data partition", READY));
    let device = format!("/dev/{}", made.split(' ').next_back().unwrap_or_default());
    assert_eq!(guest.read(STATE), "sealed");
    guest.write("/data/known", KNOWN);
    let key = guest.cairn(&["data", "recovery-key"]).trim().to_owned();
    let shown = format!("Recovery key of the data partition: {key}");
    must(guest.0.wait_for(&shown, READY));
    assert!(
        guest
            .cairn(&["data"])
            .starts_with("LUKS2; this machine's TPM opens it; its recovery key is not saved yet")
    );
    guest.cairn(&["data", "saved"]);
    assert_eq!(guest.cairn(&["data"]), "LUKS2; this machine's TPM opens it\n");
    assert_eq!(guest.ran(&["/usr/bin/cairn", "data", "recovery-key"], READY).0, 1);

    // PCR 15 is not zero any more: root itself gets nothing from the TPM.
    let (code, said) = guest.ran(
        &[
            "/usr/sbin/cryptsetup",
            "open",
            "--test-passphrase",
            "--token-only",
            &device,
        ],
        READY,
    );
    assert_ne!(code, 0, "{said}");

    // Another version, signed by the same keys, opens it by itself.
    scene.publisher.publish("1.1.0", &version("1.1.0", work));
    let bundle = scene.publisher.bundle("1.1.0", "1.0.0");
    must(must(guest.0.agent()).write_file("/data/update.cairn", &bundle));
    guest.ran(
        &["/usr/bin/cairn", "upgrade", "install", "/data/update.cairn"],
        INSTALLED,
    );
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, PROVED, READY));
    assert_eq!(
        (guest.read(STATE), guest.read("/data/known")),
        ("sealed".into(), KNOWN.into())
    );
    switch_off(guest.0);
    assert!(!is_on(&disk, KNOWN) && !is_on(&disk, &key));

    // Another TPM. A mistake in typing is told; the key opens, and is sealed anew.
    must(std::fs::remove_dir_all(scene.home.tpm()));
    let tries = |from: &str, to: &str| {
        let entry = |tries: &str| format!("encrypted-test_1.1.0{tries}.efi");
        must(esp::rename_entry(&disk, &entry(from), &entry(to)));
    };
    tries("", "+2");
    let mut machine = must(scene.home.start());
    must(machine.serial.wait_from(0, ASKED, READY));
    // Nobody came. That was no try of the version's, which would have one less now.
    must(machine.kill());
    drop(machine);
    tries("+2", "+1");
    let mut machine = must(scene.home.start());
    let (mark, _) = must(machine.serial.wait_from(0, ASKED, READY));
    must(machine.type_line(&key.replacen(&key[..1], if key.starts_with('x') { "y" } else { "x" }, 1)));
    let (mark, _) = must(machine.serial.wait_from(mark, "a letter is wrong or missing", READY));
    must(machine.type_line(&key.to_uppercase()));
    must(
        machine
            .serial
            .wait_from(mark, "from the next start on this machine's TPM opens it again", READY),
    );
    must(machine.serial.wait_from(mark, PROVED, READY));
    let mut guest = Guest(machine);
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, "Ready", READY));
    assert_eq!(
        (guest.read(STATE), guest.read("/data/known")),
        ("sealed".into(), KNOWN.into())
    );
    let before = size(&mut guest);
    power_off(guest);
    let file = must(std::fs::File::options().write(true).open(&disk));
    must(file.set_len(must(file.metadata()).len() + (1 << 30)));

    // Secure Boot switched off: the key opens it, and is not given to a TPM that would give it to anybody.
    let mut spec = must(scene.home.spec());
    let open = work.join("open");
    must(std::fs::create_dir_all(&open));
    spec.boot = must(must(Firmware::find(&must(tools::tools()).root, false)).boot(&open));
    let mut machine = must(Machine::start("encryption", &spec, scene.home.folder()));
    let (mark, _) = must(machine.serial.wait_from(0, ASKED, READY));
    must(machine.type_line(&key));
    must(machine.serial.wait_from(
        mark,
        "the next start asks for the recovery key again: Secure Boot is not in force",
        READY,
    ));
    must(machine.serial.wait_from(mark, "Ready", READY));
    let mut guest = Guest(machine);
    assert!(guest.read(STATE).starts_with("not-sealed Secure Boot"));
    // The disk is a GiB larger since.
    let now = size(&mut guest);
    assert!(now > before + (900 << 20), "{before} bytes, then {now}");
    assert_eq!(guest.read("/data/known"), KNOWN);
    power_off(guest);

    // With Secure Boot it opens by itself as before. A factory reset makes new keys, by the same TPM in the same start.
    let machine = must(scene.home.start());
    must(machine.wait_for("Ready", READY));
    let mut guest = Guest(machine);
    assert_eq!(guest.read(STATE), "sealed");
    let mark = guest.0.serial.mark();
    guest.cairn(&["factory-reset", "--yes", "encrypted-test"]);
    must(guest.0.wait_reset(OFF));
    let (mark, _) = must(
        guest
            .0
            .serial
            .wait_from(mark, "factory reset: making the data partition", READY),
    );
    must(guest.0.serial.wait_from(mark, "Ready", READY));
    let another = guest.cairn(&["data", "recovery-key"]).trim().to_owned();
    assert_ne!(another, key);
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, "Ready", READY));
    assert_eq!(
        (guest.read(STATE), guest.cairn(&["data", "recovery-key"]).trim()),
        ("sealed".into(), &*another)
    );
    power_off(guest);

    // Something else in its place is not taken for it, and not formatted.
    let (start, _) = data(&disk);
    let file = must(std::fs::File::options().write(true).open(&disk));
    must(file.write_all_at(&[0; 1 << 15], start));
    let machine = must(scene.home.start());
    must(machine.wait_for("this version wants it encrypted and it is not", READY));
}

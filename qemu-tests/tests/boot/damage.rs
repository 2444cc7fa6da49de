//! Disks that must not be booted from, or not to the end: each is told in one sentence.

use std::time::{Duration, Instant};

use qemu_tests::gpt_edit;
use qemu_tests::machine::{Home, Options};

use super::*;

/// A program of the image that nothing runs.
const UNUSED: &str = "/services/slapd/usr/bin/ldapexop";

/// The line that contains `words`, without what stands before it.
fn line(machine: &Machine, words: &str) -> String {
    let line = must(machine.wait_for(words, READY));
    let at = line.find(words).unwrap_or(0);
    line[at..].to_owned()
}

/// How dm-verity's message begins and ends.
const KERNEL_SAYS: (&str, &str) = ("device-mapper: verity: ", " is corrupted");

/// The console without dm-verity's messages. The kernel writes them whole, but into the middle of a line of ours if it comes to that.
fn without_the_kernels_words(machine: &Machine) -> String {
    let lines = machine.serial.lines();
    let mut rest: String = lines.iter().map(|(_, line)| line.replace('\r', "")).collect();
    while let Some(words) = rest.find(KERNEL_SAYS.0) {
        let (Some(start), Some(length)) = (rest[..words].rfind('['), rest[words..].find(KERNEL_SAYS.1)) else {
            break;
        };
        rest.replace_range(start..words + length + KERNEL_SAYS.1.len(), "");
    }
    rest
}

/// The reason for which this disk cannot be started from, once it was seen that the machine starts again ten seconds after it.
fn reason(home: &Home) -> String {
    let mut machine = must(home.start());
    let reason = line(&machine, "cairn: cannot start: ");
    let heard = Instant::now();
    must(machine.wait_for("cairn: starting again in 10 seconds", Duration::from_secs(5)));
    must(machine.wait_reset(Duration::from_secs(60)));
    let waited = heard.elapsed();
    assert!(
        (8..30).contains(&waited.as_secs()),
        "a reset {waited:?} after the message"
    );
    assert_eq!(machine.said_at("Ready: "), None);
    reason.replacen("cairn: cannot start: ", "", 1)
}

#[test]
fn a_flipped_bit_in_the_roots_superblock_stops_the_boot() {
    let home = fresh("flipped-superblock");
    let root = must(disk::find(&home.disk(), disk::ROOT));
    // The EROFS superblock is at 1024; the bit is in its unused tail: only verity can know.
    must(disk::flip_bit(&home.disk(), root.start + 1024 + 120, 3));
    assert_eq!(
        reason(&home),
        "the root on /dev/vda3 is damaged: its content is not what the root hash stands for (mount the root: \
         Input/output error (os error 5)); choose another boot entry or flash the image again"
    );
}

#[test]
fn a_flipped_bit_in_a_file_is_told_and_neither_read_nor_the_end_of_the_services() {
    let home = set_up("flipped-file");
    let root = must(disk::find(&home.disk(), disk::ROOT));
    let at = must(disk::byte_of_root_file(&home.disk(), UNUSED));
    must(disk::flip_bit(&home.disk(), at, 6));
    let mut machine = ready(&home);
    let error = must(machine.agent()).read_file(UNUSED).unwrap_err().to_string();
    assert!(error.contains("Input/output error"), "{error}");
    must(machine.wait_for(KERNEL_SAYS.1, READY));
    all_services_answer(&mut machine);
    let sentence = format!(
        "The root file system is damaged: data block {} does not match its signature; start the other version or write \
         the image again.",
        (at - root.start) / 4096
    );
    let console = without_the_kernels_words(&machine);
    assert!(console.contains(&sentence), "not said: {sentence}\nbut: {console}");
}

#[test]
fn a_missing_root_is_told_and_the_machine_starts_again_after_ten_seconds() {
    let home = fresh("missing-root");
    let root = must(disk::find(&home.disk(), disk::ROOT));
    must(gpt_edit::change_partuuid(&home.disk(), &root));
    assert_eq!(
        reason(&home),
        format!(
            "no disk holds the root partition {} that this boot entry belongs to (disks: vda (another root)); attach the \
             disk, choose another boot entry, or flash the image again",
            root.id
        )
    );
}

#[test]
fn a_disk_without_room_for_data_is_told_and_the_machine_starts_again_after_ten_seconds() {
    // No growth: the disk ends with the image, so neither slot B nor data can be made.
    let image = must(images::base());
    let options = Options {
        disk_gib: 0,
        ..Options::default()
    };
    let home = must(Home::new("small-disk", &image, options));
    let has = must(std::fs::metadata(home.disk())).len() >> 20;
    let reason = reason(&home);
    let words =
        format!("cannot set up the data partition on vda: disk too small: it has {has} MiB, this appliance needs ");
    let needs = reason.strip_prefix(&words).and_then(|rest| {
        rest.strip_suffix(" MiB; use a larger disk, or enlarge the virtual one")?
            .parse::<u64>()
            .ok()
    });
    assert!(needs.is_some_and(|needs| needs > has), "{reason}");
}

#[test]
fn a_deleted_data_partition_is_told_and_never_made_anew() {
    let home = set_up("deleted-data");
    let data = must(disk::find(&home.disk(), disk::DATA));
    must(gpt_edit::delete(&home.disk(), &data));
    assert_eq!(
        reason(&home),
        "cannot set up the data partition on vda: the disk was set up before, but its data partition is gone; restore the \
         partition table, or flash the image again to begin without data"
    );
    assert!(disk::find(&home.disk(), disk::DATA).is_err());
}

#[test]
fn a_wiped_data_partition_is_told_and_never_formatted() {
    let home = set_up("wiped-data");
    let data = must(disk::find(&home.disk(), disk::DATA));
    must(disk::wipe(&home.disk(), data.start, data.length));
    assert_eq!(
        reason(&home),
        "the data partition /dev/vda6 cannot be repaired (Invalid argument (os error 22); e2fsck -p: exit status: 8); \
         restore it from a backup or repair it from another machine"
    );
}

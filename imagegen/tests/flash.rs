//! Flashing onto plain files, which stand for disks: what is refused, what arrives, what is proven.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use imagegen::flash::{self, FlashError, Obstacle, Step};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// An image of 3 MiB and a bit, with a partition table's mark, and a disk of `disk` bytes full of ones.
    fn new(disk: usize) -> World {
        let world = World {
            folder: tempfile::tempdir().unwrap(),
        };
        let mut image: Vec<u8> = (0..3 * 1024 * 1024 + 512u32).map(|i| (i / 512) as u8).collect();
        image[512..520].copy_from_slice(b"EFI PART");
        fs::write(world.image(), image).unwrap();
        fs::write(world.disk(), vec![0xff; disk]).unwrap();
        world
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image.raw")
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn flash(&self, force: bool) -> Result<flash::Flashed, FlashError> {
        flash::apply(&flash::plan(&self.image(), &self.disk())?, force, &|_, _| {})
    }
}

#[test]
fn what_is_flashed_is_the_image_and_both_steps_cover_it() {
    let world = World::new(8 << 20);
    let (written, read) = (Cell::new(0), Cell::new(0));
    let plan = flash::plan(&world.image(), &world.disk()).unwrap();
    let done = flash::apply(&plan, true, &|step, more| {
        let count = if step == Step::Write { &written } else { &read };
        count.set(count.get() + more);
    })
    .unwrap();
    let (image, disk) = (fs::read(world.image()).unwrap(), fs::read(world.disk()).unwrap());
    assert_eq!(disk[..image.len()], image);
    assert_eq!((written.get(), read.get()), (image.len() as u64, image.len() as u64));
    assert_eq!(done.sha256, imagegen::cache::Digest::of(&image).to_string());
    assert_eq!(disk.len(), 8 << 20, "the disk keeps its size");
}

#[test]
fn an_earlier_partition_tables_copy_at_the_end_is_erased_and_nothing_else() {
    let world = World::new(8 << 20);
    world.flash(true).unwrap();
    let disk = fs::read(world.disk()).unwrap();
    let tail = disk.len() - 33 * 512;
    assert!(disk[tail..].iter().all(|b| *b == 0));
    assert!(disk[3 * 1024 * 1024 + 512..tail].iter().all(|b| *b == 0xff));
}

#[test]
fn a_target_that_just_fits_is_written_whole() {
    let world = World::new(3 * 1024 * 1024 + 512);
    world.flash(true).unwrap();
    assert_eq!(fs::read(world.disk()).unwrap(), fs::read(world.image()).unwrap());
}

#[test]
fn a_target_that_is_too_small_is_refused_also_by_force_and_left_alone() {
    let world = World::new(1 << 20);
    assert!(matches!(
        world.flash(true),
        Err(FlashError::TooSmall { device: 1_048_576, .. })
    ));
    assert!(fs::read(world.disk()).unwrap().iter().all(|b| *b == 0xff));
}

#[test]
fn what_is_not_removable_is_refused_without_force_and_left_alone() {
    let world = World::new(8 << 20);
    match world.flash(false) {
        Err(FlashError::Refused { obstacles, .. }) => assert_eq!(obstacles, vec![Obstacle::NotRemovable]),
        other => panic!("{other:?}"),
    }
    assert!(fs::read(world.disk()).unwrap().iter().all(|b| *b == 0xff));
}

#[test]
fn what_is_no_raw_image_is_refused_with_its_name() {
    let world = World::new(8 << 20);
    for (magic, name) in [(&b"QFI\xfb"[..], "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx")] {
        let mut bytes = vec![0; 4096];
        bytes[..magic.len()].copy_from_slice(magic);
        fs::write(world.image(), bytes).unwrap();
        let said = world.flash(true).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains("--format raw"), "{said}");
    }
    fs::write(world.image(), vec![0; 4096]).unwrap();
    assert!(
        world
            .flash(true)
            .unwrap_err()
            .to_string()
            .contains("without a partition table")
    );
}

#[test]
fn an_image_is_not_flashed_onto_itself() {
    let world = World::new(8 << 20);
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(world.image(), &link).unwrap();
    assert!(matches!(
        flash::plan(&world.image(), &link),
        Err(FlashError::Unsuitable { .. })
    ));
}

#[test]
fn a_target_that_is_neither_disk_nor_file_is_refused() {
    let world = World::new(8 << 20);
    assert!(matches!(
        flash::plan(&world.image(), Path::new("/dev/null")),
        Err(FlashError::Unsuitable { .. })
    ));
    assert!(matches!(
        flash::plan(&world.image(), Path::new("/absent")),
        Err(FlashError::Target { .. })
    ));
}

#[test]
fn a_byte_that_did_not_arrive_is_found_with_its_place() {
    let world = World::new(8 << 20);
    let plan = flash::plan(&world.image(), &world.disk()).unwrap();
    // The disk loses a byte of its second mebibyte after it was written, before it is read back.
    let spoil = |step, _| {
        if step == Step::Write {
            use std::os::unix::fs::FileExt;
            let disk = fs::OpenOptions::new().write(true).open(world.disk()).unwrap();
            disk.write_all_at(&[0xAA], (1 << 20) + 7).unwrap();
        }
    };
    // Spoilt after each chunk; the last time is after the second chunk was written.
    match flash::apply(&plan, true, &spoil) {
        Err(FlashError::Differs { at, .. }) => assert_eq!(at, 1 << 20),
        other => panic!("{other:?}"),
    }
}

use std::fs::File;
use std::os::unix::fs::FileExt;

use cairn_disk::{BlockDevice, FileDevice, SectorSize};

use super::*;

const MIB: u64 = 1 << 20;

fn hash() -> RootHash {
    RootHash(std::array::from_fn(|i| i as u8 + 1))
}

fn ids() -> impl FnMut() -> Guid {
    let mut n = 0;
    move || {
        n += 1;
        Guid::from_u128(0x1000 + n)
    }
}

const SIZES: Sizes = Sizes {
    slot: Some(64 * MIB),
    verity: Some(4 * MIB),
    data_min: 32 * MIB,
};

/// A disk with the shipped image on it, as a sparse file.
struct Disk(FileDevice);

impl Disk {
    fn shipped(bytes: u64) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * MIB).unwrap();
        let mut device = FileDevice::new(file).unwrap();
        let mut table = Table::new(SectorSize::B512, 64 * MIB, Guid::from_u128(7)).unwrap();
        let mut add = |kind, id, name, size| table.add(kind, id, name, Size::Bytes(size)).unwrap();
        add(PartitionType::Esp, Guid::from_u128(8), "esp", 16 * MIB);
        add(
            PartitionType::RootVerity(ARCH),
            hash().partuuid_verity(),
            "verity_1",
            4 * MIB,
        );
        add(PartitionType::Root(ARCH), hash().partuuid_root(), "root_1", 30 * MIB);
        table.write(&mut device).unwrap();
        Self(device).resized(bytes)
    }

    fn resized(self, bytes: u64) -> Self {
        let file: File = self.0.into_file();
        file.set_len(bytes).unwrap();
        Self(FileDevice::new(file).unwrap())
    }

    fn plan(&self) -> Result<Plan, LayoutError> {
        let found = Table::read(&self.0).unwrap();
        plan(&found, self.0.size(), &hash(), SIZES, &mut ids())
    }

    fn write(&mut self, table: &Table) {
        table.write(&mut self.0).unwrap();
    }

    fn first_boot(bytes: u64) -> Self {
        let mut disk = Self::shipped(bytes);
        let plan = disk.plan().unwrap();
        disk.write(&formatted(&plan.table, plan.data));
        disk
    }
}

#[test]
fn first_boot_adds_the_second_slot_and_data() {
    let disk = Disk::shipped(512 * MIB);
    let plan = disk.plan().unwrap();
    let sizes: Vec<(String, u64)> = plan
        .table
        .partitions
        .values()
        .map(|p| (p.name.clone(), plan.table.range(p).1 / MIB))
        .collect();
    let expected = [
        ("esp", 16),
        ("verity_1", 4),
        ("root_1", 64),
        ("_empty", 4),
        ("_empty", 64),
        ("data-new", 512 - 1 - 152 - 1),
    ];
    assert_eq!(sizes, expected.map(|(name, size)| (name.to_owned(), size)).to_vec());
    assert!(plan.format);
    assert_eq!(plan.data, 6);
    for number in [4, 5] {
        assert!(plan.table.partitions[&number].attributes.has(Attributes::NO_AUTO));
    }
    assert_eq!(plan.table.partitions[&4].kind, PartitionType::RootVerity(ARCH));
    assert_eq!(plan.table.partitions[&5].kind, PartitionType::Root(ARCH));
}

#[test]
fn the_second_boot_changes_nothing() {
    let disk = Disk::first_boot(512 * MIB);
    let plan = disk.plan().unwrap();
    assert_eq!(plan.changes, []);
    assert!(!plan.format);
}

#[test]
fn power_cut_before_the_table_is_written_starts_over() {
    let disk = Disk::shipped(512 * MIB);
    assert_eq!(disk.plan().unwrap().changes, disk.plan().unwrap().changes);
    assert!(disk.plan().unwrap().format);
}

#[test]
fn power_cut_during_mkfs_formats_again_and_adds_nothing() {
    let mut disk = Disk::shipped(512 * MIB);
    let first = disk.plan().unwrap();
    disk.write(&first.table);
    let second = disk.plan().unwrap();
    assert!(second.format);
    assert_eq!(second.changes, []);
    assert_eq!(second.table, first.table);
}

#[test]
fn power_cut_between_the_two_copies_of_the_table_repairs_it() {
    let mut disk = Disk::shipped(512 * MIB);
    let plan = disk.plan().unwrap();
    disk.write(&plan.table);
    // The primary copy is torn: its header's checksum no longer holds.
    let file = disk.0.into_file();
    file.write_all_at(&[0xff; 8], 512 + 16).unwrap();
    let mut disk = Disk(FileDevice::new(file).unwrap());
    let again = disk.plan().unwrap();
    assert_eq!(again.changes, [Change::Repair]);
    assert_eq!(again.table, plan.table);
    disk.write(&again.table);
    assert_eq!(disk.plan().unwrap().changes, []);
}

#[test]
fn a_partition_named_data_is_never_formatted() {
    let mut disk = Disk::first_boot(512 * MIB);
    let mut table = disk.plan().unwrap().table;
    table.partitions.get_mut(&4).unwrap().name = DATA_NEW.to_owned();
    disk.write(&table);
    let plan = disk.plan().unwrap();
    assert!(!plan.format);
    assert_eq!(plan.data, 6);
}

#[test]
fn a_factory_reset_that_was_cut_short_formats_again_and_touches_nothing_else() {
    let mut disk = Disk::first_boot(512 * MIB);
    let before = disk.plan().unwrap();
    disk.write(&unformatted(&before.table, before.data));
    let again = disk.plan().unwrap();
    assert!(again.format);
    assert_eq!((again.data, again.changes), (before.data, vec![]));
    assert_eq!(formatted(&again.table, again.data), before.table);
}

#[test]
fn a_deleted_data_partition_is_not_made_anew() {
    let mut disk = Disk::first_boot(512 * MIB);
    let mut table = Table::read(&disk.0).unwrap().table;
    table.partitions.remove(&6);
    disk.write(&table);
    assert!(matches!(disk.plan(), Err(LayoutError::NoData)));
}

#[test]
fn data_grows_with_the_disk() {
    let disk = Disk::first_boot(512 * MIB).resized(1024 * MIB);
    let plan = disk.plan().unwrap();
    assert!(!plan.format);
    assert_eq!(size_of(&plan.table, plan.data) / MIB, 1024 - 1 - 152 - 1);
    assert!(matches!(plan.changes.last(), Some(Change::Grow { number: 6, .. })));
}

#[test]
fn a_small_disk_is_refused_with_both_figures() {
    let disk = Disk::shipped(128 * MIB);
    let text = disk.plan().unwrap_err().to_string();
    assert!(text.contains("128 MiB") && text.contains("186 MiB"), "{text}");
    assert!(Disk::shipped(185 * MIB).plan().is_err());
    assert!(Disk::shipped(186 * MIB).plan().is_ok());
}

#[test]
fn another_root_on_the_disk_is_not_taken() {
    let disk = Disk::shipped(512 * MIB);
    let found = Table::read(&disk.0).unwrap();
    let other = RootHash([9; 32]);
    assert!(matches!(
        plan(&found, 512 * MIB, &other, SIZES, &mut ids()),
        Err(LayoutError::NoRoot)
    ));
}

#[test]
fn without_sizes_the_second_slot_is_like_the_first() {
    let disk = Disk::shipped(512 * MIB);
    let found = Table::read(&disk.0).unwrap();
    let sizes = Sizes {
        slot: None,
        verity: None,
        ..SIZES
    };
    let plan = plan(&found, 512 * MIB, &hash(), sizes, &mut ids()).unwrap();
    assert_eq!(size_of(&plan.table, 5), 30 * MIB);
    assert_eq!(size_of(&plan.table, 4), 4 * MIB);
}

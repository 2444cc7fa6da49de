//! The two slots of an appliance's disk, and which of them an install may write.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_disk::FileDevice;
use cairn_disk::gpt::{Arch, Attributes, Partition, PartitionType, Table};
use cairn_disk::verity::RootHash;

use crate::error::Error;

#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Arm64;

/// A stretch of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The partition's number.
    pub number: u32,
    /// Where it begins.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

/// A root partition and its verity partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The root.
    pub root: Stretch,
    /// Its hash tree.
    pub verity: Stretch,
}

impl Stretch {
    fn of(table: &Table, (number, partition): (u32, &Partition)) -> Self {
        let (start, length) = table.range(partition);
        Self { number, start, length }
    }
}

/// The ESP of a disk.
///
/// # Errors
/// It has none.
pub fn esp(table: &Table) -> Result<Stretch, Error> {
    let found = table.by_type(PartitionType::Esp).next();
    found
        .map(|found| Stretch::of(table, found))
        .ok_or_else(|| Error::Slots("the disk has no EFI system partition; write the image again".into()))
}

/// Whether a disk holds a root of an appliance at all.
pub fn has_root(table: &Table) -> bool {
    table.by_type(PartitionType::Root(ARCH)).next().is_some()
}

/// The two slots of a disk in the order of their partitions' numbers: the first start adds those of the second behind those of the first.
///
/// # Errors
/// The disk has not two of each.
pub fn both(table: &Table) -> Result<[Slot; 2], Error> {
    let all = |kind| -> Vec<Stretch> { table.by_type(kind).map(|found| Stretch::of(table, found)).collect() };
    let (roots, trees) = (all(PartitionType::Root(ARCH)), all(PartitionType::RootVerity(ARCH)));
    match (&roots[..], &trees[..]) {
        (&[root, other], &[verity, tree]) => Ok([
            Slot { root, verity },
            Slot {
                root: other,
                verity: tree,
            },
        ]),
        _ => Err(Error::Slots(format!(
            "the disk has {} root and {} verity partitions, and an appliance has two of each once it was started; write the image again",
            roots.len(),
            trees.len()
        ))),
    }
}

/// Both slots and the ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// The slot that an install leaves as it is: the one that runs, if one does.
    pub kept: Slot,
    /// The root hash of it, if it runs.
    pub running: Option<RootHash>,
    /// The other one, which an install writes.
    pub free: Slot,
    /// The ESP.
    pub esp: Stretch,
}

impl Slots {
    /// Finds them in the table of the disk whose root with this hash runs.
    ///
    /// # Errors
    /// The disk is not laid out as an appliance's.
    pub fn find(table: &Table, hash: RootHash) -> Result<Self, Error> {
        let stretch = |found: (u32, &Partition)| Stretch::of(table, found);
        let pair = |kind: PartitionType, what: &str, own: cairn_disk::Guid| {
            let all: Vec<_> = table.by_type(kind).collect();
            let running = all.iter().find(|(_, p)| p.id == own);
            let other: Vec<_> = all.iter().filter(|(_, p)| p.id != own).collect();
            match (running, &other[..]) {
                (Some(running), [other]) => Ok((stretch(*running), stretch(**other))),
                (None, _) => Err(Error::Slots(format!(
                    "the disk has no {what} partition of the running version: it was changed since the start; start again"
                ))),
                (_, others) => Err(Error::Slots(format!(
                    "the disk has {} {what} partitions beside the running one, and an upgrade needs exactly one; write the image \
                     again to a disk that has room for two slots",
                    others.len()
                ))),
            }
        };
        let (root, free_root) = pair(PartitionType::Root(ARCH), "root", hash.partuuid_root())?;
        let (verity, free_verity) = pair(PartitionType::RootVerity(ARCH), "verity", hash.partuuid_verity())?;
        Ok(Self {
            kept: Slot { root, verity },
            running: Some(hash),
            free: Slot {
                root: free_root,
                verity: free_verity,
            },
            esp: esp(table)?,
        })
    }

    /// Those of a disk of which neither runs, as recovery finds it: number `free` (0 or 1) in the order of [`both`] is to be written.
    ///
    /// # Errors
    /// The disk is not laid out as an appliance's.
    pub fn at_rest(table: &Table, free: usize) -> Result<Self, Error> {
        let [first, second] = both(table)?;
        let (free, kept) = if free == 0 { (first, second) } else { (second, first) };
        Ok(Self {
            kept,
            running: None,
            free,
            esp: esp(table)?,
        })
    }

    /// The table with the free slot holding the root with this hash.
    pub fn filled(&self, table: &Table, hash: &RootHash, version: &str) -> Table {
        let mut table = table.clone();
        for (number, id, label) in [
            (self.free.root.number, hash.partuuid_root(), label("root", version)),
            (
                self.free.verity.number,
                hash.partuuid_verity(),
                label("verity", version),
            ),
        ] {
            if let Some(partition) = table.partitions.get_mut(&number) {
                partition.id = id;
                partition.name = label;
                partition.attributes = Attributes::READ_ONLY;
            }
        }
        table
    }
}

/// The label of a partition of this version.
pub fn label(what: &str, version: &str) -> String {
    format!("{what}-{version}")
}

/// The root hash on the kernel's command line.
///
/// # Errors
/// There is none.
pub fn running_hash(command_line: &str) -> Result<RootHash, Error> {
    let mut words = command_line.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix("roothash=")?.parse().ok());
    found.ok_or_else(|| {
        Error::Slots("the kernel's command line has no root hash: this system was not started by its own entry".into())
    })
}

/// The folder in `/sys` of the disk with the root of this hash, among those with a node in `dev`. The tables say it, as they did when the machine
/// started: not every kernel shows a partition's id.
///
/// # Errors
/// There is none.
pub fn disk_of(hash: &RootHash, sys: &Path, dev: &Path) -> Result<PathBuf, Error> {
    let folder = sys.join("block");
    for found in fs::read_dir(&folder).map_err(Error::io("list", &folder))?.flatten() {
        let file = fs::File::open(dev.join(found.file_name()));
        let device = file.and_then(FileDevice::new);
        let table = device.ok().and_then(|device| Table::read(&device).ok());
        if table.is_some_and(|found| found.table.by_id(hash.partuuid_root()).is_some()) {
            return Ok(found.path());
        }
    }
    Err(Error::Slots("no disk within reach holds the root that runs".into()))
}

/// The name of a partition of a disk, by the disk's folder in `/sys`.
///
/// # Errors
/// The kernel shows none.
pub fn partition(disk: &Path, number: u32) -> Result<String, Error> {
    for found in fs::read_dir(disk).map_err(Error::io("list", disk))?.flatten() {
        let text = fs::read_to_string(found.path().join("partition")).unwrap_or_default();
        if text.trim().parse() == Ok(number) {
            return Ok(found.file_name().to_string_lossy().into_owned());
        }
    }
    Err(Error::Slots(format!("{} has no partition {number}", disk.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_disk::gpt::Size;
    use cairn_disk::{Guid, SectorSize};

    fn hash(byte: u8) -> RootHash {
        RootHash([byte; 32])
    }

    fn table(others: u32) -> Table {
        let mut table = Table::new(SectorSize::B512, 64 << 20, Guid::from_u128(1)).unwrap();
        let mut next = 100;
        let mut add = |kind, id: Option<Guid>, name| {
            next += 1;
            table
                .add(kind, id.unwrap_or(Guid::from_u128(next)), name, Size::Bytes(1 << 20))
                .unwrap();
        };
        add(PartitionType::Esp, None, "esp");
        let mut distinct = [7; 32];
        distinct[16..].fill(8);
        let own = RootHash(distinct);
        add(PartitionType::RootVerity(ARCH), Some(own.partuuid_verity()), "verity-a");
        add(PartitionType::Root(ARCH), Some(own.partuuid_root()), "root-a");
        for _ in 0..others {
            add(PartitionType::RootVerity(ARCH), None, "_empty");
            add(PartitionType::Root(ARCH), None, "_empty");
        }
        table
    }

    fn own() -> RootHash {
        let mut distinct = [7; 32];
        distinct[16..].fill(8);
        RootHash(distinct)
    }

    #[test]
    fn the_slot_that_does_not_run_is_the_free_one_whatever_it_holds() {
        let slots = Slots::find(&table(1), own()).unwrap();
        let numbers = |slot: Slot| (slot.verity.number, slot.root.number);
        assert_eq!((numbers(slots.kept), numbers(slots.free)), ((2, 3), (4, 5)));
        let mut new = [9; 32];
        new[16..].fill(10);
        let new = RootHash(new);
        let filled = slots.filled(&table(1), &new, "1.2.0");
        filled.check().unwrap();
        let numbers = Slots::find(&filled, new).unwrap();
        assert_eq!((numbers.kept.root.number, numbers.free.root.number), (5, 3));
        let free = &filled.partitions[&5];
        assert_eq!(
            (free.name.as_str(), free.attributes),
            ("root-1.2.0", Attributes::READ_ONLY)
        );
        // Of what runs nothing is another.
        assert_eq!(filled.partitions[&3], table(1).partitions[&3]);
    }

    #[test]
    fn a_disk_without_a_second_slot_or_with_too_many_is_told() {
        for (others, said) in [(0, "has 0 root"), (2, "has 2 root")] {
            let why = Slots::find(&table(others), own()).unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        }
        let why = Slots::find(&table(1), hash(1)).unwrap_err().to_string();
        assert!(why.contains("changed since the start"), "{why}");
    }

    #[test]
    fn where_no_slot_runs_either_can_be_written() {
        let numbers = |slot: Slot| (slot.verity.number, slot.root.number);
        for (free, expected) in [(0, ((4, 5), (2, 3))), (1, ((2, 3), (4, 5)))] {
            let slots = Slots::at_rest(&table(1), free).unwrap();
            assert_eq!((numbers(slots.kept), numbers(slots.free)), expected);
            assert_eq!(slots.running, None);
        }
        let why = Slots::at_rest(&table(0), 0).unwrap_err().to_string();
        assert!(why.contains("has 1 root and 1 verity"), "{why}");
    }

    #[test]
    fn the_running_root_is_named_by_the_command_line() {
        let line = format!("quiet roothash={} panic=10\n", "ab".repeat(32));
        assert_eq!(running_hash(&line).unwrap(), hash(0xab));
        assert!(running_hash("quiet").is_err());
    }
}

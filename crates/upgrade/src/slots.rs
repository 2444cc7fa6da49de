//! The two slots of the disk that the running root lies on.

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

/// Both slots and the ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// The slot that runs.
    pub running: Slot,
    /// The root hash of it.
    pub hash: RootHash,
    /// The other one.
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
        let stretch = |(number, partition): (u32, &Partition)| {
            let (start, length) = table.range(partition);
            Stretch { number, start, length }
        };
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
        let esp = table.by_type(PartitionType::Esp).next().map(stretch);
        Ok(Self {
            running: Slot { root, verity },
            hash,
            free: Slot {
                root: free_root,
                verity: free_verity,
            },
            esp: esp
                .ok_or_else(|| Error::Slots("the disk has no EFI system partition; write the image again".into()))?,
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
        assert_eq!((numbers(slots.running), numbers(slots.free)), ((2, 3), (4, 5)));
        let mut new = [9; 32];
        new[16..].fill(10);
        let new = RootHash(new);
        let filled = slots.filled(&table(1), &new, "1.2.0");
        filled.check().unwrap();
        let numbers = Slots::find(&filled, new).unwrap();
        assert_eq!((numbers.running.root.number, numbers.free.root.number), (5, 3));
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
    fn the_running_root_is_named_by_the_command_line() {
        let line = format!("quiet roothash={} panic=10\n", "ab".repeat(32));
        assert_eq!(running_hash(&line).unwrap(), hash(0xab));
        assert!(running_hash("quiet").is_err());
    }
}

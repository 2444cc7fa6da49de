//! The partitions that an appliance's disk should have, worked out from those it has. No I/O.
//!
//! The shipped image holds `[ESP][verity A][root A]`. The first boot makes of it
//! `[ESP][verity A][root A, extended][verity B][root B][data]`; later boots only let `data` grow with the disk.
//! All of the first boot's changes are one table, so one write. `data` is born under the name `data-new` and gets its
//! own name in a second write when its file system is whole: whatever is cut short is seen and done again, and a
//! partition named `data` is never formatted.

use std::fmt;

use cairn_disk::gpt::{self, ALIGNMENT, Arch, Attributes, Found, Partition, PartitionType, Size, Table};
use cairn_disk::{Guid, verity::RootHash};

/// The label of the data partition.
pub(crate) const DATA: &str = "data";
/// The label of a data partition that has no whole file system yet.
pub(crate) const DATA_NEW: &str = "data-new";
/// The label of a slot that holds nothing (as systemd-sysupdate names them).
const EMPTY: &str = "_empty";

#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Arm64;

/// How large things are to be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) slot: Option<u64>,
    pub(crate) verity: Option<u64>,
    pub(crate) data_min: u64,
}

/// One change, for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A copy of the table is damaged or old.
    Repair,
    /// The disk has another size than the table says.
    FitDisk { bytes: u64 },
    /// A partition grows.
    Grow { number: u32, name: String, bytes: u64 },
    /// A partition is added.
    Add { number: u32, name: String, bytes: u64 },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| bytes / ALIGNMENT;
        match self {
            Self::Repair => write!(f, "repair the partition table"),
            Self::FitDisk { bytes } => write!(f, "use the whole disk of {} MiB", mib(bytes)),
            Self::Grow { number, name, bytes } => {
                write!(f, "grow partition {number} ({name}) to {} MiB", mib(bytes))
            }
            Self::Add { number, name, bytes } => {
                write!(f, "add partition {number} ({name}) of {} MiB", mib(bytes))
            }
        }
    }
}

/// What is to be done to a disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The table that the disk should have.
    pub(crate) table: Table,
    /// What differs from the one that it has; empty if it need not be written.
    pub(crate) changes: Vec<Change>,
    /// The number of the data partition.
    pub(crate) data: u32,
    /// Whether the data partition is to be formatted.
    pub(crate) format: bool,
}

/// Why a disk cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error(
        "disk too small: it has {has} MiB, this appliance needs {needs} MiB; use a larger disk, or enlarge the virtual one"
    )]
    TooSmall { has: u64, needs: u64 },
    #[error("the disk has no partition with the root's identifier")]
    NoRoot,
    #[error(
        "the disk was set up before, but its data partition is gone; restore the partition table, or flash the image \
         again to begin without data"
    )]
    NoData,
    #[error(transparent)]
    Table(#[from] gpt::Error),
}

/// Works out the plan for a disk of `bytes` bytes that holds the root with this hash. `new_id` yields fresh GUIDs.
pub(crate) fn plan(
    found: &Found,
    bytes: u64,
    root: &RootHash,
    sizes: Sizes,
    new_id: &mut dyn FnMut() -> Guid,
) -> Result<Plan, LayoutError> {
    match lay_out(found, bytes, root, sizes, new_id, Size::Rest) {
        Ok(plan) if !plan.format || size_of(&plan.table, plan.data) >= sizes.data_min => Ok(plan),
        Ok(_) | Err(LayoutError::Table(gpt::Error::NoRoom { .. } | gpt::Error::Inconsistent(_))) => {
            Err(too_small(found, bytes, root, sizes))
        }
        Err(error) => Err(error),
    }
}

/// The table with the data partition under its final name.
pub(crate) fn formatted(table: &Table, data: u32) -> Table {
    let mut table = table.clone();
    if let Some(partition) = table.partitions.get_mut(&data) {
        partition.name = DATA.to_owned();
    }
    table
}

/// The table with the data partition as it is before it has a file system: the next start makes one, whatever lies there.
pub(crate) fn unformatted(table: &Table, data: u32) -> Table {
    let mut table = table.clone();
    if let Some(partition) = table.partitions.get_mut(&data) {
        partition.name = DATA_NEW.to_owned();
    }
    table
}

fn size_of(table: &Table, number: u32) -> u64 {
    table.partitions.get(&number).map_or(0, |p| table.range(p).1)
}

/// How large the disk would have to be: laid out on one that is large enough for anything.
fn too_small(found: &Found, bytes: u64, root: &RootHash, sizes: Sizes) -> LayoutError {
    let has = bytes / ALIGNMENT;
    let mut counter = 0;
    let mut ids = || {
        counter += 1;
        Guid::from_u128(0xca12_0000 + counter)
    };
    let boundless = 1 << 60;
    match lay_out(found, boundless, root, sizes, &mut ids, Size::Bytes(sizes.data_min)) {
        Ok(plan) => {
            let ends = plan.table.partitions.values().map(|p| {
                let (start, length) = plan.table.range(p);
                start + length
            });
            // One more for the backup copy of the table.
            let needs = ends.max().unwrap_or(0).div_ceil(ALIGNMENT) + 1;
            if needs > has {
                LayoutError::TooSmall { has, needs }
            } else {
                LayoutError::Table(gpt::Error::Inconsistent(
                    "something lies where the second slot or the data must go".to_owned(),
                ))
            }
        }
        Err(error) => error,
    }
}

fn lay_out(
    found: &Found,
    bytes: u64,
    root: &RootHash,
    sizes: Sizes,
    new_id: &mut dyn FnMut() -> Guid,
    data_size: Size,
) -> Result<Plan, LayoutError> {
    let mut table = found.table.clone();
    let mut changes = Vec::new();
    if found.needs_repair() {
        changes.push(Change::Repair);
    }
    if table.sectors != bytes / table.sector.bytes() {
        table.fit_disk(bytes)?;
        changes.push(Change::FitDisk { bytes });
    }
    let (own, _) = table.by_id(root.partuuid_root()).ok_or(LayoutError::NoRoot)?;
    let own_verity = table.by_id(root.partuuid_verity()).map(|(n, _)| n);
    let slot = sizes.slot.unwrap_or_else(|| size_of(&table, own));
    let verity = sizes
        .verity
        .unwrap_or_else(|| own_verity.map_or(0, |n| size_of(&table, n)));

    // With one root only this is the first boot, or one that was cut off before the table was written.
    let is_new = table.by_type(PartitionType::Root(ARCH)).count() == 1;
    if is_new {
        grow(&mut table, &mut changes, own, slot)?;
        let kind = PartitionType::RootVerity(ARCH);
        if table.by_type(kind).count() < 2 {
            add(&mut table, &mut changes, kind, EMPTY, Size::Bytes(verity), new_id())?;
        }
        let kind = PartitionType::Root(ARCH);
        add(&mut table, &mut changes, kind, EMPTY, Size::Bytes(slot), new_id())?;
    }

    let named = |table: &Table, name: &str| table.by_name(name).map(|(n, _)| n);
    let (data, format) = match (named(&table, DATA), named(&table, DATA_NEW)) {
        (Some(data), _) => (data, false),
        (None, Some(data)) => (data, true),
        // The second slot and the data come in one write: whoever has the one had the other, and someone may miss it.
        (None, None) if !is_new => return Err(LayoutError::NoData),
        (None, None) => {
            let kind = PartitionType::LinuxGeneric;
            let data = add(&mut table, &mut changes, kind, DATA_NEW, data_size, new_id())?;
            (data, true)
        }
    };
    if data_size == Size::Rest {
        let room = room(&table, data);
        grow(&mut table, &mut changes, data, room)?;
    }
    Ok(Plan {
        table,
        changes,
        data,
        format,
    })
}

fn add(
    table: &mut Table,
    changes: &mut Vec<Change>,
    kind: PartitionType,
    name: &str,
    size: Size,
    id: Guid,
) -> Result<u32, gpt::Error> {
    let number = table.add(kind, id, name, size)?;
    if name == EMPTY
        && let Some(partition) = table.partitions.get_mut(&number)
    {
        partition.attributes = partition.attributes.with(Attributes::NO_AUTO);
    }
    changes.push(Change::Add {
        number,
        name: name.to_owned(),
        bytes: size_of(table, number),
    });
    Ok(number)
}

fn grow(table: &mut Table, changes: &mut Vec<Change>, number: u32, bytes: u64) -> Result<(), gpt::Error> {
    if size_of(table, number) >= bytes {
        return Ok(());
    }
    table.grow(number, bytes)?;
    let name = table.partitions.get(&number).map(|p| p.name.clone());
    changes.push(Change::Grow {
        number,
        name: name.unwrap_or_default(),
        bytes: size_of(table, number),
    });
    Ok(())
}

/// How large a partition can become without moving anything, in whole MiB (or as it is).
fn room(table: &Table, number: u32) -> u64 {
    let Some(own) = table.partitions.get(&number) else {
        return 0;
    };
    let behind = |p: &&Partition| p.first > own.first;
    let next = table.partitions.values().filter(behind).map(|p| p.first).min();
    let end = next.unwrap_or(table.last_usable().saturating_add(1));
    let room = end.saturating_sub(own.first).saturating_mul(table.sector.bytes());
    (room / ALIGNMENT * ALIGNMENT).max(size_of(table, number))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;

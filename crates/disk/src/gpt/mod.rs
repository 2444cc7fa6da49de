//! GUID partition tables (UEFI specification 2.10, chapter 5), as a plain value.
//!
//! [`Table`] is edited in memory only; [`Table::read`] and [`Table::write`] alone touch the disk. Writing is ordered
//! so that at each moment one of the two copies on the disk is whole: see [`Table::write`].

mod codec;
mod io;
mod types;

use std::collections::BTreeMap;

pub use io::{Copy, CopyState, Found};
pub use types::{Arch, Attributes, PartitionType};

use crate::{Guid, SectorSize};

/// Partitions start at multiples of so many bytes: what every partitioner and every SSD agrees on.
pub const ALIGNMENT: u64 = 1 << 20;

/// One partition. Sectors are the table's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: PartitionType,
    /// Its own GUID: what Linux calls PARTUUID.
    pub id: Guid,
    /// The first sector.
    pub first: u64,
    /// The last sector, inclusive.
    pub last: u64,
    /// Attribute bits.
    pub attributes: Attributes,
    /// The label: at most 36 UTF-16 units.
    pub name: String,
}

impl Partition {
    /// The length in sectors.
    pub fn sectors(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// How much room a new partition takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many bytes, rounded up to whole MiB, in the first gap that holds them.
    Bytes(u64),
    /// The whole of the largest gap.
    Rest,
}

/// A partition table: what both copies on the disk say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The sector size of the disk that the table is for.
    pub sector: SectorSize,
    /// The size of the disk in sectors; the last one holds the backup header.
    pub sectors: u64,
    /// The disk's own GUID.
    pub disk: Guid,
    /// The first sector that partitions may use.
    pub first_usable: u64,
    /// How many entries the arrays have room for; 128 in nearly every table.
    pub slots: u32,
    /// The partitions by number, from 1 on, as in `/dev/sda1`.
    pub partitions: BTreeMap<u32, Partition>,
}

/// Why a table cannot be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed.
    #[error("cannot {doing} the partition table at byte {offset} of the disk: {source}")]
    Io {
        /// "read", "write" or "flush".
        doing: &'static str,
        /// Where on the disk.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither copy is whole.
    #[error(
        "no valid partition table: primary: {primary}; backup: {backup}; the disk is blank, damaged, or not ours: flash the image again"
    )]
    NoTable {
        /// What is wrong with the copy at the start.
        primary: Damage,
        /// What is wrong with the copy at the end.
        backup: Damage,
    },
    /// The table is well-formed but contradicts itself or the disk.
    #[error("the partition table is not consistent: {0}")]
    Inconsistent(String),
    /// There is no such partition.
    #[error("the partition table has no partition {0}")]
    NoPartition(u32),
    /// No gap is large enough.
    #[error(
        "no room for partition `{name}`: it needs {wanted} bytes, the largest gap has {largest}; use a larger disk"
    )]
    NoRoom {
        /// The partition's label.
        name: String,
        /// What was asked for, in bytes.
        wanted: u64,
        /// The largest aligned gap, in bytes.
        largest: u64,
    },
}

/// What is wrong with one copy of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The disk ends before it, or could not be read there.
    #[error("cannot be read ({0})")]
    Unreadable(String),
    /// No `EFI PART`.
    #[error("no signature")]
    Signature,
    /// The header's checksum is wrong.
    #[error("header checksum mismatch")]
    HeaderChecksum,
    /// The entries' checksum is wrong.
    #[error("entry array checksum mismatch")]
    ArrayChecksum,
    /// A field has a value that the format does not allow, or that we refuse to trust.
    #[error("bad {0}")]
    Field(&'static str),
}

impl Table {
    /// An empty table for a disk of `bytes` bytes.
    ///
    /// # Errors
    /// The disk is too small for two copies of a table.
    pub fn new(sector: SectorSize, bytes: u64, disk: Guid) -> Result<Self, Error> {
        let slots = 128;
        let table = Self {
            sector,
            sectors: bytes / sector.bytes(),
            disk,
            first_usable: 2 + codec::array_sectors(sector, slots),
            slots,
            partitions: BTreeMap::new(),
        };
        table.check()?;
        Ok(table)
    }

    /// The last sector that partitions may use.
    pub fn last_usable(&self) -> u64 {
        self.sectors
            .saturating_sub(2 + codec::array_sectors(self.sector, self.slots))
    }

    /// Checks what must hold of every table: partitions in range, not overlapping, with GUIDs of their own.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] names the first contradiction.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Inconsistent(text));
        let array = codec::array_sectors(self.sector, self.slots);
        if self.slots < 1 || self.slots > codec::MAX_SLOTS {
            return wrong(format!(
                "{} entries; 1 to {} are supported",
                self.slots,
                codec::MAX_SLOTS
            ));
        }
        if self.first_usable < 2 + array || self.sectors < self.first_usable.saturating_add(2 + array) {
            return wrong(format!(
                "a disk of {} sectors of {} bytes has no room for partitions",
                self.sectors, self.sector
            ));
        }
        let mut by_start: Vec<(&u32, &Partition)> = self.partitions.iter().collect();
        by_start.sort_by_key(|(_, p)| p.first);
        let mut end = self.first_usable;
        for (number, p) in by_start {
            if *number < 1 || *number > self.slots {
                return wrong(format!("partition number {number} is outside 1 to {}", self.slots));
            }
            if p.kind.guid() == Guid::NIL || p.id == Guid::NIL {
                return wrong(format!("partition {number} has a type or GUID of all zeros"));
            }
            if p.name.encode_utf16().count() > codec::NAME_UNITS || p.name.contains('\0') {
                return wrong(format!(
                    "the name of partition {number} is longer than 36 UTF-16 units or holds a zero"
                ));
            }
            if p.first > p.last || p.last > self.last_usable() {
                return wrong(format!(
                    "partition {number} spans sectors {} to {}; the disk allows {} to {}",
                    p.first,
                    p.last,
                    self.first_usable,
                    self.last_usable()
                ));
            }
            if p.first < end {
                return wrong(format!(
                    "partition {number} starts at sector {}, inside what lies before it",
                    p.first
                ));
            }
            end = p.last + 1;
            if self.partitions.iter().any(|(n, other)| n != number && other.id == p.id) {
                return wrong(format!("partition {number} has the same GUID as another: {}", p.id));
            }
        }
        Ok(())
    }

    /// The byte range of a partition: start and length.
    pub fn range(&self, partition: &Partition) -> (u64, u64) {
        (
            partition.first.saturating_mul(self.sector.bytes()),
            partition.sectors().saturating_mul(self.sector.bytes()),
        )
    }

    /// The partitions of a type, by number.
    pub fn by_type(&self, kind: PartitionType) -> impl Iterator<Item = (u32, &Partition)> {
        self.partitions
            .iter()
            .filter(move |(_, p)| p.kind == kind)
            .map(|(n, p)| (*n, p))
    }

    /// The partition with this PARTUUID.
    pub fn by_id(&self, id: Guid) -> Option<(u32, &Partition)> {
        self.partitions.iter().find(|(_, p)| p.id == id).map(|(n, p)| (*n, p))
    }

    /// The first partition with this label.
    pub fn by_name(&self, name: &str) -> Option<(u32, &Partition)> {
        self.partitions
            .iter()
            .find(|(_, p)| p.name == name)
            .map(|(n, p)| (*n, p))
    }

    /// Uses all of a disk that is now `bytes` bytes long: the backup copy moves to its end.
    ///
    /// # Errors
    /// A partition would lie outside the disk; the table is then unchanged.
    pub fn fit_disk(&mut self, bytes: u64) -> Result<(), Error> {
        self.edit(|table| {
            table.sectors = bytes / table.sector.bytes();
            Ok(())
        })
    }

    /// Makes a partition `bytes` bytes long (rounded up to whole MiB), keeping its start. A partition that is already
    /// that long, or longer, stays as it is: nothing here shrinks.
    ///
    /// # Errors
    /// There is no such partition, or it would run into the next one; the table is then unchanged.
    pub fn grow(&mut self, number: u32, bytes: u64) -> Result<(), Error> {
        let sectors = bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT) / self.sector.bytes();
        self.edit(|table| {
            let partition = table.partitions.get_mut(&number).ok_or(Error::NoPartition(number))?;
            partition.last = partition
                .last
                .max(partition.first.saturating_add(sectors).saturating_sub(1));
            Ok(())
        })
    }

    /// Adds a partition in free space, aligned to [`ALIGNMENT`], under the lowest free number, which is returned.
    ///
    /// # Errors
    /// No gap is large enough, the GUID is taken, or the name is too long; the table is then unchanged.
    pub fn add(&mut self, kind: PartitionType, id: Guid, name: &str, size: Size) -> Result<u32, Error> {
        let unit = ALIGNMENT / self.sector.bytes();
        let gaps = self.gaps();
        let largest = gaps
            .iter()
            .max_by_key(|(first, sectors)| (*sectors, u64::MAX - first))
            .copied();
        let wanted = match size {
            Size::Bytes(bytes) => bytes.div_ceil(ALIGNMENT).max(1).saturating_mul(unit),
            Size::Rest => largest.map_or(unit, |(_, sectors)| sectors),
        };
        let Some((first, _)) = gaps.iter().find(|(_, sectors)| *sectors >= wanted).copied() else {
            return Err(Error::NoRoom {
                name: name.to_owned(),
                wanted: wanted.saturating_mul(self.sector.bytes()),
                largest: largest.map_or(0, |(_, sectors)| sectors.saturating_mul(self.sector.bytes())),
            });
        };
        let number = (1..=self.slots).find(|n| !self.partitions.contains_key(n));
        let number = number.ok_or_else(|| Error::Inconsistent(format!("all {} entries are in use", self.slots)))?;
        let last = first + wanted - 1;
        let partition = Partition {
            kind,
            id,
            first,
            last,
            attributes: Attributes::default(),
            name: name.to_owned(),
        };
        self.edit(|table| {
            table.partitions.insert(number, partition);
            Ok(number)
        })
    }

    /// The free stretches (first sector, sectors) in disk order, cut to whole aligned MiB.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let unit = ALIGNMENT / self.sector.bytes();
        let mut used: Vec<(u64, u64)> = self.partitions.values().map(|p| (p.first, p.last)).collect();
        used.sort_unstable();
        let after = self.last_usable().saturating_add(1);
        used.push((after, after));
        let mut gaps = Vec::new();
        let mut free = self.first_usable;
        for (first, last) in used {
            let start = free.div_ceil(unit).saturating_mul(unit);
            if first > start && first - start >= unit {
                gaps.push((start, (first - start) / unit * unit));
            }
            free = free.max(last.saturating_add(1));
        }
        gaps
    }

    /// Changes a copy, checks it, and only then takes it.
    fn edit<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let mut changed = self.clone();
        let result = change(&mut changed)?;
        changed.check()?;
        *self = changed;
        Ok(result)
    }
}

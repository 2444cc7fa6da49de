//! Tables to bytes and back. No I/O.

use std::collections::BTreeMap;

use super::{Attributes, Damage, Partition, PartitionType, Table};
use crate::{Guid, SectorSize};

/// More entries than anyone uses; bounds the memory that a hostile header can ask for.
pub(super) const MAX_SLOTS: u32 = 1024;
/// The longest label.
pub(super) const NAME_UNITS: usize = 36;
const ENTRY_SIZE: usize = 128;
const MAX_ENTRY_SIZE: u32 = 4096;
const HEADER_SIZE: usize = 92;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// How many sectors the entry array takes; at least the 16 KiB that the specification reserves.
pub(super) fn array_sectors(sector: SectorSize, slots: u32) -> u64 {
    (u64::from(slots) * ENTRY_SIZE as u64)
        .max(16384)
        .div_ceil(sector.bytes())
}

/// The header fields that are needed to find and check the entries.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) own: u64,
    pub(super) other: u64,
    first_usable: u64,
    disk: Guid,
    pub(super) array: u64,
    slots: u32,
    entry_size: u32,
    array_crc: u32,
}

impl Header {
    pub(super) fn array_bytes(&self) -> usize {
        // Both factors are bounded by `parse_header`.
        self.slots as usize * self.entry_size as usize
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn guid(bytes: &[u8], at: usize) -> Guid {
    bytes
        .get(at..at + 16)
        .and_then(|b| b.try_into().ok())
        .map_or(Guid::NIL, Guid::from_disk)
}

/// Reads the header that was found in sector `at`.
pub(super) fn parse_header(bytes: &[u8], at: u64) -> Result<Header, Damage> {
    if bytes.get(..8) != Some(SIGNATURE) {
        return Err(Damage::Signature);
    }
    let size = le32(bytes, 12) as usize;
    if size < HEADER_SIZE {
        return Err(Damage::Field("header size"));
    }
    let mut header = bytes.get(..size).ok_or(Damage::Field("header size"))?.to_vec();
    header[16..20].fill(0);
    if crc32fast::hash(&header) != le32(bytes, 16) {
        return Err(Damage::HeaderChecksum);
    }
    let parsed = Header {
        own: le64(bytes, 24),
        other: le64(bytes, 32),
        first_usable: le64(bytes, 40),
        disk: guid(bytes, 56),
        array: le64(bytes, 72),
        slots: le32(bytes, 80),
        entry_size: le32(bytes, 84),
        array_crc: le32(bytes, 88),
    };
    if le32(bytes, 8) != REVISION {
        return Err(Damage::Field("revision"));
    }
    if parsed.own != at {
        return Err(Damage::Field("own position"));
    }
    if parsed.slots < 1 || parsed.slots > MAX_SLOTS {
        return Err(Damage::Field("number of entries"));
    }
    if parsed.entry_size > MAX_ENTRY_SIZE || parsed.entry_size < 128 || !parsed.entry_size.is_power_of_two() {
        return Err(Damage::Field("entry size"));
    }
    Ok(parsed)
}

/// Reads the entries that belong to a header.
pub(super) fn parse_table(header: &Header, array: &[u8], sector: SectorSize) -> Result<Table, Damage> {
    if crc32fast::hash(array) != header.array_crc {
        return Err(Damage::ArrayChecksum);
    }
    let mut partitions = BTreeMap::new();
    for (number, entry) in (1..).zip(array.chunks_exact(header.entry_size as usize)) {
        let kind = guid(entry, 0);
        if kind == Guid::NIL {
            continue;
        }
        let units: Vec<u16> = entry[56..ENTRY_SIZE]
            .chunks_exact(2)
            .map(|c| u16::from_le_bytes([c[0], c[1]]))
            .collect();
        let length = units.iter().position(|u| *u == 0).unwrap_or(units.len());
        partitions.insert(
            number,
            Partition {
                kind: PartitionType::from_guid(kind),
                id: guid(entry, 16),
                first: le64(entry, 32),
                last: le64(entry, 40),
                attributes: Attributes(le64(entry, 48)),
                name: String::from_utf16_lossy(&units[..length]),
            },
        );
    }
    let table = Table {
        sector,
        sectors: header.own.max(header.other).saturating_add(1),
        disk: header.disk,
        first_usable: header.first_usable,
        slots: header.slots,
        partitions,
    };
    table.check().map_err(|_| Damage::Field("partition entry"))?;
    Ok(table)
}

/// The entry array, padded to whole sectors.
fn array(table: &Table) -> Vec<u8> {
    let mut bytes = vec![0; (array_sectors(table.sector, table.slots) * table.sector.bytes()) as usize];
    for (number, p) in &table.partitions {
        let Some(entry) = bytes
            .chunks_exact_mut(ENTRY_SIZE)
            .nth((*number as usize).wrapping_sub(1))
        else {
            continue;
        };
        entry[0..16].copy_from_slice(&p.kind.guid().to_disk());
        entry[16..32].copy_from_slice(&p.id.to_disk());
        entry[32..40].copy_from_slice(&p.first.to_le_bytes());
        entry[40..48].copy_from_slice(&p.last.to_le_bytes());
        entry[48..56].copy_from_slice(&p.attributes.0.to_le_bytes());
        for (unit, to) in p.name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
    }
    bytes
}

fn header(table: &Table, array: &[u8], own: u64, other: u64, array_at: u64) -> Vec<u8> {
    let mut bytes = vec![0; table.sector.bytes() as usize];
    let used = table.slots as usize * ENTRY_SIZE;
    bytes[0..8].copy_from_slice(SIGNATURE);
    bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(HEADER_SIZE as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&own.to_le_bytes());
    bytes[32..40].copy_from_slice(&other.to_le_bytes());
    bytes[40..48].copy_from_slice(&table.first_usable.to_le_bytes());
    bytes[48..56].copy_from_slice(&table.last_usable().to_le_bytes());
    bytes[56..72].copy_from_slice(&table.disk.to_disk());
    bytes[72..80].copy_from_slice(&array_at.to_le_bytes());
    bytes[80..84].copy_from_slice(&table.slots.to_le_bytes());
    bytes[84..88].copy_from_slice(&(ENTRY_SIZE as u32).to_le_bytes());
    bytes[88..92].copy_from_slice(&crc32fast::hash(array.get(..used).unwrap_or(array)).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..HEADER_SIZE]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Pieces of bytes and the sectors that they go to.
pub(super) type Pieces = Vec<(u64, Vec<u8>)>;

/// The copy at the start of the disk: entries, then header.
pub(super) fn primary(table: &Table) -> Pieces {
    let array = array(table);
    let header = header(table, &array, 1, table.sectors - 1, 2);
    vec![(2, array), (1, header)]
}

/// The copy at the end of the disk: entries, then header.
pub(super) fn backup(table: &Table) -> Pieces {
    let array = array(table);
    let at = table.last_usable() + 1;
    let header = header(table, &array, table.sectors - 1, 1, at);
    vec![(at, array), (table.sectors - 1, header)]
}

/// Where the protective entry, with the boot signature after the four entries, stands in the first sector.
pub(super) const MBR_RANGE: std::ops::Range<usize> = 446..512;

/// The protective MBR's four entries and signature: one entry of type 0xEE over the whole disk.
pub(super) fn protective_mbr(table: &Table) -> [u8; 66] {
    let mut bytes = [0; 66];
    let sectors = u32::try_from(table.sectors - 1).unwrap_or(u32::MAX);
    bytes[1..8].copy_from_slice(&[0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&sectors.to_le_bytes());
    bytes[64..66].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

//! VHDX, dynamic (Microsoft, [MS-VHDX]): blocks of 1 MiB, those of zeros left out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cairn_disk::Guid;

use super::Source;
use crate::image::guid_for;

pub(super) const MAGIC: &[u8] = b"vhdxfile";
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const BLOCK: u64 = MIB;
const SECTOR: u64 = 512;
/// After so many block entries the table has one for a sector bitmap, which only differencing disks use.
const RATIO: u64 = (1 << 23) * SECTOR / BLOCK;
const LOG_AT: u64 = MIB;
const METADATA_AT: u64 = 2 * MIB;
const BAT_AT: u64 = 3 * MIB;
const STATE_ZERO: u64 = 2;
const STATE_PRESENT: u64 = 6;

const BAT: Guid = Guid::from_u128(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
const METADATA: Guid = Guid::from_u128(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);
const FILE_PARAMETERS: Guid = Guid::from_u128(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
const DISK_SIZE: Guid = Guid::from_u128(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
const DISK_ID: Guid = Guid::from_u128(0xbeca12ab_b2e6_4523_93ef_c309e000c746);
const LOGICAL_SECTOR: Guid = Guid::from_u128(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
const PHYSICAL_SECTOR: Guid = Guid::from_u128(0xcda348c7_445d_4471_9cc9_e9885251c556);

/// CRC-32C, which this format uses and nothing else here does; only headers are summed.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Fills up with zeros and puts the checksum at byte 4.
fn sealed(mut bytes: Vec<u8>, length: u64) -> Vec<u8> {
    bytes.resize(length as usize, 0);
    let sum = crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub(super) fn write(source: &Source<'_>, to: &File, identity: Guid) -> io::Result<()> {
    if !source.size.is_multiple_of(SECTOR) || source.size == 0 || source.size > 64 << 40 {
        return Err(io::Error::other("a VHDX holds whole sectors, up to 64 TiB"));
    }
    let blocks = source.size.div_ceil(BLOCK);
    let entries = blocks + (blocks - 1) / RATIO;
    let bat_size = (entries * 8).next_multiple_of(MIB);
    let mut bat = vec![0_u64; entries as usize];
    for block in 0..blocks {
        bat[(block + block / RATIO) as usize] = STATE_ZERO;
    }
    let mut end = BAT_AT + bat_size;
    source.each(BLOCK, Ok, |number, bytes| {
        to.write_all_at(&bytes, end)?;
        // The place is in MiB from bit 20 on, which is the offset itself.
        bat[(number + number / RATIO) as usize] = end | STATE_PRESENT;
        end += BLOCK;
        Ok(())
    })?;
    to.set_len(end)?;
    let bat: Vec<u8> = bat.iter().flat_map(|e| e.to_le_bytes()).collect();
    to.write_all_at(&bat, BAT_AT)?;
    write_metadata(to, source.size, identity)?;
    let regions = regions(bat_size);
    for at in [192 * KIB, 256 * KIB] {
        to.write_all_at(&regions, at)?;
    }
    for (number, at) in [(0_u64, 64 * KIB), (1, 128 * KIB)] {
        to.write_all_at(&header(number, identity), at)?;
    }
    let creator = "Cairn imagegen".encode_utf16().flat_map(u16::to_le_bytes);
    to.write_all_at(&MAGIC.iter().copied().chain(creator).collect::<Vec<u8>>(), 0)
}

fn header(number: u64, identity: Guid) -> Vec<u8> {
    let mut bytes = b"head\0\0\0\0".to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(guid_for("vhdx file write", &identity.bytes()).to_disk());
    bytes.extend(guid_for("vhdx data write", &identity.bytes()).to_disk());
    bytes.extend(Guid::NIL.to_disk()); // the log is empty
    bytes.extend(0_u16.to_le_bytes()); // log version
    bytes.extend(1_u16.to_le_bytes()); // version
    bytes.extend((MIB as u32).to_le_bytes()); // log length
    bytes.extend(LOG_AT.to_le_bytes());
    sealed(bytes, 4 * KIB)
}

fn regions(bat_size: u64) -> Vec<u8> {
    let mut bytes = b"regi\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    for (id, at, length) in [(BAT, BAT_AT, bat_size), (METADATA, METADATA_AT, MIB)] {
        bytes.extend(id.to_disk());
        bytes.extend(at.to_le_bytes());
        bytes.extend((length as u32).to_le_bytes());
        bytes.extend(1_u32.to_le_bytes()); // required
    }
    sealed(bytes, 64 * KIB)
}

fn write_metadata(to: &File, size: u64, identity: Guid) -> io::Result<()> {
    const REQUIRED: u32 = 4;
    const OF_DISK: u32 = 2;
    let parameters = [(BLOCK as u32).to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let items: [(Guid, Vec<u8>, u32); 5] = [
        (FILE_PARAMETERS, parameters, REQUIRED),
        (DISK_SIZE, size.to_le_bytes().to_vec(), REQUIRED | OF_DISK),
        (
            DISK_ID,
            guid_for("vhdx disk", &identity.bytes()).to_disk().to_vec(),
            REQUIRED | OF_DISK,
        ),
        (
            LOGICAL_SECTOR,
            (SECTOR as u32).to_le_bytes().to_vec(),
            REQUIRED | OF_DISK,
        ),
        (PHYSICAL_SECTOR, 4096_u32.to_le_bytes().to_vec(), REQUIRED | OF_DISK),
    ];
    let mut table = b"metadata\0\0\x05\0".to_vec();
    table.resize(32, 0);
    let mut at = 64 * KIB;
    for (id, value, flags) in items {
        table.extend(id.to_disk());
        table.extend((at as u32).to_le_bytes());
        table.extend((value.len() as u32).to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend([0; 4]);
        to.write_all_at(&value, METADATA_AT + at)?;
        at += value.len() as u64;
    }
    to.write_all_at(&table, METADATA_AT)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}

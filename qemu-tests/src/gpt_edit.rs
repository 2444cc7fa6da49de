//! Edits of a partition table, in both copies, so that both are valid and agree.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::disk::Partition;
use crate::error::HarnessError;

/// Inverts the first byte of the partition's unique id. Whoever looks for the old id finds nothing.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn change_partuuid(disk: &Path, partition: &Partition) -> Result<(), HarnessError> {
    edit(disk, partition, |entry| entry[16] = !entry[16])
}

/// Takes the partition out of the table. Its content stays where it is.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn delete(disk: &Path, partition: &Partition) -> Result<(), HarnessError> {
    edit(disk, partition, |entry| entry.fill(0))
}

fn edit(disk: &Path, partition: &Partition, change: fn(&mut [u8])) -> Result<(), HarnessError> {
    let edit = || {
        let mut file = File::options().read(true).write(true).open(disk)?;
        let backup = edit_copy(&mut file, 1, partition, change)?;
        edit_copy(&mut file, backup, partition, change).map(drop)
    };
    edit().map_err(HarnessError::io("change the partition table of", disk))
}

/// Edits the copy whose header is in this sector; gives the sector of the other header. Offsets from the UEFI specification 2.10, 5.3.
fn edit_copy(file: &mut File, header_at: u64, partition: &Partition, change: fn(&mut [u8])) -> std::io::Result<u64> {
    let mut header = [0; 92];
    file.seek(SeekFrom::Start(header_at * 512))?;
    file.read_exact(&mut header)?;
    let table_at = u64_at(&header, 72) * 512;
    let mut table = vec![0; (u32_at(&header, 80) * u32_at(&header, 84)) as usize];
    file.seek(SeekFrom::Start(table_at))?;
    file.read_exact(&mut table)?;
    for entry in table.chunks_mut(u32_at(&header, 84) as usize) {
        if u64_at(entry, 32) * 512 == partition.start {
            change(entry);
        }
    }
    header[88..92].copy_from_slice(&crc32(&table).to_le_bytes());
    header[16..20].fill(0);
    let crc = crc32(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    file.seek(SeekFrom::Start(table_at))?;
    file.write_all(&table)?;
    file.seek(SeekFrom::Start(header_at * 512))?;
    file.write_all(&header)?;
    Ok(u64_at(&header, 32))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}

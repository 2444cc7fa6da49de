//! Carries out a layout plan: writes the table and tells the kernel, without touching what is mounted.

use std::fs::{self, File};
use std::path::Path;

use cairn_disk::gpt::Table;
use cairn_disk::{FileDevice, Guid};

use super::disks::{KernelPartition, kernel_partitions, node};
use super::failure::{Doing as _, Failure};
use super::layout::LayoutError;
use crate::sys;

/// Opens a disk to change its table.
pub(crate) fn open(disk: &str) -> Result<File, Failure> {
    let path = node(disk);
    let file = File::options().read(true).write(true).open(&path);
    file.doing(|| format!("open {} for writing; is the disk write-protected", path.display()))
}

/// Writes a table, safely against a power cut at any moment.
pub(crate) fn write(disk: &str, table: &Table) -> Result<(), Failure> {
    let mut device = FileDevice::new(open(disk)?).doing(|| format!("use disk {disk}"))?;
    table.write(&mut device).map_err(|source| Failure::Layout {
        disk: disk.to_owned(),
        source: LayoutError::Table(source),
    })
}

/// Makes the kernel's view of a disk the table's: adds and resizes partitions, one by one, since the disk is in use.
/// Returns the view of one partition.
pub(crate) fn tell_kernel(disk: &str, table: &Table, wanted: u32) -> Result<KernelPartition, Failure> {
    let known = kernel_partitions(disk);
    let file = open(disk)?;
    for (number, partition) in &table.partitions {
        let (start, length) = table.range(partition);
        let result = match known.get(number) {
            None => sys::kernel_add_partition(&file, *number, start, length),
            Some(known) if known.start != start => {
                return Err(Failure::KernelTable {
                    disk: disk.to_owned(),
                    number: *number,
                });
            }
            Some(known) if known.length != length => sys::kernel_resize_partition(&file, *number, start, length),
            Some(_) => Ok(()),
        };
        result.doing(|| format!("tell the kernel of partition {number} on {disk}"))?;
    }
    kernel_partitions(disk)
        .remove(&wanted)
        .ok_or_else(|| Failure::KernelTable {
            disk: disk.to_owned(),
            number: wanted,
        })
}

/// A fresh random GUID, from the kernel.
pub(crate) fn new_id() -> Guid {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random/uuid")).unwrap_or_default();
    // The nil GUID is refused by the table's own check, so a missing /proc cannot go unnoticed.
    text.trim().parse().unwrap_or(Guid::NIL)
}

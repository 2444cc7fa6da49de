//! Which disk holds the root: looks at the partition table of every disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cairn_disk::gpt::{Found, Table};
use cairn_disk::verity::RootHash;
use cairn_disk::{BlockDevice, FileDevice, Guid};

use crate::console::debug;

/// A partition as the kernel knows it.
#[derive(Debug, Clone)]
pub(crate) struct KernelPartition {
    /// Its name under /sys/class/block.
    pub(crate) name: String,
    /// Start and length in bytes.
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl KernelPartition {
    /// The device node.
    pub(crate) fn path(&self) -> PathBuf {
        node(&self.name)
    }

    /// `MAJOR:MINOR`.
    pub(crate) fn number(&self) -> std::io::Result<String> {
        let path = Path::new("/sys/class/block").join(&self.name).join("dev");
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }
}

/// The disk that holds the root.
#[derive(Debug)]
pub(crate) struct RootDisk {
    /// Its name under /sys/block.
    pub(crate) name: String,
    pub(crate) found: Found,
    pub(crate) bytes: u64,
    pub(crate) root: KernelPartition,
    pub(crate) verity: Option<KernelPartition>,
}

/// What a search has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) Vec<String>);

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.join(", "))
    }
}

/// The device node of a block device; `!` in sysfs names stands for `/`.
pub(crate) fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// The partition with this id, on any disk.
pub(crate) fn partition(id: Guid) -> Option<KernelPartition> {
    physical().into_iter().find_map(|name| {
        let (number, _) = read_table(&name).ok()?.0.table.by_id(id)?;
        kernel_partitions(&name).remove(&number)
    })
}

/// The names of all disks, in order.
fn physical() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/block")
        .map(|entries| {
            let names = entries.flatten().filter(is_physical);
            names.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

/// Looks at all disks that are there now. `None` if no disk has the root's partition, or the kernel does not show it yet.
pub(crate) fn find(hash: &RootHash, seen: &mut Seen) -> Option<RootDisk> {
    seen.0.clear();
    for name in physical() {
        let (found, bytes) = match read_table(&name) {
            Ok(read) => read,
            Err(why) => {
                debug!("disk {name}: {why}");
                seen.0.push(format!("{name} (no usable partition table)"));
                continue;
            }
        };
        let Some((root, _)) = found.table.by_id(hash.partuuid_root()) else {
            seen.0.push(format!("{name} (another root)"));
            continue;
        };
        let verity = found.table.by_id(hash.partuuid_verity()).map(|(n, _)| n);
        let mut partitions = kernel_partitions(&name);
        let Some(root) = partitions.remove(&root) else {
            seen.0
                .push(format!("{name} (partition {root} not shown by the kernel)"));
            continue;
        };
        return Some(RootDisk {
            verity: verity.and_then(|n| partitions.remove(&n)),
            name,
            found,
            bytes,
            root,
        });
    }
    None
}

/// Leaves out what no hardware is behind (loop, ram, device-mapper), and the single paths of NVMe disks, which have
/// no device node. The NVMe disks themselves stand under `/devices/virtual/nvme-subsystem`.
fn is_physical(entry: &fs::DirEntry) -> bool {
    let hidden = fs::read_to_string(entry.path().join("hidden"));
    let target = fs::read_link(entry.path());
    !hidden.is_ok_and(|text| text.trim() == "1")
        && target.is_ok_and(|target| !target.to_string_lossy().contains("/devices/virtual/block/"))
}

fn read_table(name: &str) -> Result<(Found, u64), String> {
    let file = File::open(node(name)).map_err(|e| e.to_string())?;
    let device = FileDevice::new(file).map_err(|e| e.to_string())?;
    let found = Table::read(&device).map_err(|e| e.to_string())?;
    Ok((found, device.size()))
}

/// The partitions of a disk that the kernel knows, by number.
pub(crate) fn kernel_partitions(disk: &str) -> BTreeMap<u32, KernelPartition> {
    let mut partitions = BTreeMap::new();
    let Ok(entries) = fs::read_dir(Path::new("/sys/block").join(disk)) else {
        return partitions;
    };
    for entry in entries.flatten() {
        let number = |file: &str| -> Option<u64> {
            let text = fs::read_to_string(entry.path().join(file)).ok()?;
            text.trim().parse().ok()
        };
        // sysfs counts in sectors of 512 bytes, whatever the disk's own are.
        if let (Some(n), Some(start), Some(length)) = (number("partition"), number("start"), number("size"))
            && let Ok(n) = u32::try_from(n)
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            partitions.insert(
                n,
                KernelPartition {
                    name,
                    start: start * 512,
                    length: length * 512,
                },
            );
        }
    }
    partitions
}

//! FAT32, as much as an EFI system partition needs: a fresh file system is written with folders and contiguous
//! files, and any FAT32 file system is read ([`read`]). Layout and names follow Microsoft's "FAT32 File System
//! Specification" (fatgen103); times are those of SOURCE_DATE_EPOCH, so the same files give the same bytes.

mod names;
pub mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;
use names::{is_short, long_name, short_names};

const SECTOR: u64 = 512;
const RESERVED: u64 = 32;
/// Below this many clusters a file system counts as FAT16.
const MIN_CLUSTERS: u64 = 65525;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// The smallest size that we write, in bytes: FAT32 does not exist below about 32 MiB.
pub const MIN_SIZE: u64 = 34 << 20;

/// What a file system is made from.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Up to 11 capital letters, digits, spaces.
    pub label: String,
    /// The volume's serial number: derive it from the content.
    pub serial: u32,
    /// The time of everything, in seconds since 1970.
    pub epoch: u64,
    /// Content by path (`EFI/BOOT/BOOTX64.EFI`); folders are made as needed.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A folder while it is laid out.
#[derive(Default)]
struct Node<'a> {
    folders: BTreeMap<String, Node<'a>>,
    files: BTreeMap<String, &'a [u8]>,
}

/// Sizes of a file system, in sectors and clusters.
struct Geometry {
    sectors: u64,
    per_cluster: u64,
    fat_sectors: u64,
    clusters: u64,
}

impl Geometry {
    fn new(size: u64) -> Result<Self, Error> {
        let sectors = size / SECTOR;
        // The largest clusters, up to 4 KiB, that still make it FAT32.
        for per_cluster in [8, 4, 2, 1] {
            let fat_sectors = ((sectors - sectors.min(RESERVED)) / per_cluster + 2).div_ceil(SECTOR / 4);
            let clusters = sectors.saturating_sub(RESERVED + 2 * fat_sectors) / per_cluster;
            if (MIN_CLUSTERS + 16..0x0fff_fff0).contains(&clusters) && u32::try_from(sectors).is_ok() {
                return Ok(Self {
                    sectors,
                    per_cluster,
                    fat_sectors,
                    clusters,
                });
            }
        }
        Err(Error::input(
            "ESP",
            format!("{size} bytes are not a size for FAT32: choose 34 MiB to 1 TiB"),
        ))
    }

    fn cluster_bytes(&self) -> u64 {
        self.per_cluster * SECTOR
    }

    fn data_start(&self) -> u64 {
        (RESERVED + 2 * self.fat_sectors) * SECTOR
    }

    fn clusters_of(&self, bytes: usize) -> u32 {
        (bytes as u64).div_ceil(self.cluster_bytes()) as u32
    }
}

/// The file system being written: chains and data, clusters given out in order.
struct Writer<'a> {
    file: &'a File,
    path: &'a Path,
    start: u64,
    geometry: Geometry,
    fat: Vec<u32>,
    date: u16,
    time: u16,
}

/// Writes the file system into `size` bytes of `file` from byte `start` on, which must read as zeros (a fresh sparse
/// file does); what is not used stays a hole. `path` is for messages.
///
/// # Errors
/// A name or size that FAT32 cannot hold, not enough room, or the file cannot be written.
pub fn write(file: &File, path: &Path, start: u64, size: u64, contents: &Contents) -> Result<(), Error> {
    let mut root = Node::default();
    for (name, content) in &contents.files {
        let mut parts: Vec<&str> = name.split('/').collect();
        let last = parts.pop().unwrap_or_default();
        let mut node = &mut root;
        for part in parts {
            node = node.folders.entry(part.to_owned()).or_default();
        }
        node.files.insert(last.to_owned(), content);
    }
    let geometry = Geometry::new(size)?;
    let (date, time) = dos_time(contents.epoch);
    let fat = vec![0x0fff_fff8, 0x0fff_ffff];
    let mut writer = Writer {
        file,
        path,
        start,
        geometry,
        fat,
        date,
        time,
    };
    let label = volume_label(&contents.label)?;
    let label_entry = writer.entry(&label, 0x08, 0, 0);
    writer.folder(&root, None, label_entry.to_vec())?;
    writer.finish(&label, contents.serial, start)
}

impl Writer<'_> {
    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, self.start + at)
            .map_err(Error::io("write", self.path))
    }

    /// Gives out the next `count` clusters as one chain.
    fn chain(&mut self, count: u32) -> Result<u32, Error> {
        let first = self.fat.len() as u32;
        if self.fat.len() as u64 + u64::from(count) > self.geometry.clusters + 2 {
            let why = "its files do not fit; choose a larger ESP in the recipe".to_owned();
            return Err(Error::input("ESP", why));
        }
        self.fat.extend((1..count).map(|n| first + n).chain([0x0fff_ffff]));
        Ok(first)
    }

    fn put_chain(&self, first: u32, bytes: &[u8]) -> Result<(), Error> {
        self.put(
            self.geometry.data_start() + u64::from(first - 2) * self.geometry.cluster_bytes(),
            bytes,
        )
    }

    /// Writes a folder and all below it; returns its first cluster. `head` are entries to start with; `parent` is the
    /// folder above (0 for the root, which has no `.` and `..`).
    fn folder(&mut self, node: &Node<'_>, parent: Option<u32>, head: Vec<u8>) -> Result<u32, Error> {
        let names: Vec<&String> = node.folders.keys().chain(node.files.keys()).collect();
        let shorts = short_names(&names)?;
        let dots = if parent.is_some() { 64 } else { 0 };
        let length = |name: &str, short: &[u8; 11]| {
            32 + if is_short(name, short) {
                0
            } else {
                32 * name.encode_utf16().count().div_ceil(13)
            }
        };
        let size = head.len() + dots + names.iter().zip(&shorts).map(|(n, s)| length(n, s)).sum::<usize>();
        let own = self.chain(self.geometry.clusters_of(size).max(1))?;
        let mut bytes = head;
        if let Some(parent) = parent {
            bytes.extend(self.entry(b".          ", FOLDER, own, 0));
            bytes.extend(self.entry(b"..         ", FOLDER, parent, 0));
        }
        let link = if parent.is_some() { own } else { 0 };
        for ((name, below), short) in node.folders.iter().zip(&shorts) {
            let first = self.folder(below, Some(link), Vec::new())?;
            bytes.extend(long_name(name, short));
            bytes.extend(self.entry(short, FOLDER, first, 0));
        }
        for ((name, content), short) in node.files.iter().zip(&shorts[node.folders.len()..]) {
            let too_large = |_| Error::input(format!("ESP file {name}"), "4 GiB or more");
            let size = u32::try_from(content.len()).map_err(too_large)?;
            let first = if size == 0 {
                0
            } else {
                self.chain(self.geometry.clusters_of(content.len()))?
            };
            if size > 0 {
                self.put_chain(first, content)?;
            }
            bytes.extend(long_name(name, short));
            bytes.extend(self.entry(short, ARCHIVE, first, size));
        }
        self.put_chain(own, &bytes)?;
        Ok(own)
    }

    fn entry(&self, short: &[u8; 11], attributes: u8, first: u32, size: u32) -> [u8; 32] {
        let mut entry = [0; 32];
        entry[0..11].copy_from_slice(short);
        entry[11] = attributes;
        for (at, value) in [
            (14, self.time),
            (16, self.date),
            (18, self.date),
            (22, self.time),
            (24, self.date),
        ] {
            entry[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        entry[20..22].copy_from_slice(&((first >> 16) as u16).to_le_bytes());
        entry[26..28].copy_from_slice(&(first as u16).to_le_bytes());
        entry[28..32].copy_from_slice(&size.to_le_bytes());
        entry
    }

    /// Both FATs, the boot sector, the free-space sector, and their backups.
    fn finish(&self, label: &[u8; 11], serial: u32, start: u64) -> Result<(), Error> {
        let fat: Vec<u8> = self.fat.iter().flat_map(|e| e.to_le_bytes()).collect();
        for copy in 0..2 {
            self.put((RESERVED + copy * self.geometry.fat_sectors) * SECTOR, &fat)?;
        }
        let mut boot = [0_u8; 512];
        let mut set = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, &[0xeb, 0x58, 0x90]);
        set(3, b"MSWIN4.1"); // the name that every reader accepts
        set(11, &512_u16.to_le_bytes());
        set(13, &[self.geometry.per_cluster as u8]);
        set(14, &(RESERVED as u16).to_le_bytes());
        set(16, &[2]);
        set(21, &[0xf8]);
        set(24, &63_u16.to_le_bytes());
        set(26, &255_u16.to_le_bytes());
        set(28, &u32::try_from(start / SECTOR).unwrap_or(0).to_le_bytes());
        set(32, &(self.geometry.sectors as u32).to_le_bytes());
        set(36, &(self.geometry.fat_sectors as u32).to_le_bytes());
        set(44, &2_u32.to_le_bytes());
        set(48, &1_u16.to_le_bytes());
        set(50, &6_u16.to_le_bytes());
        set(64, &[0x80, 0, 0x29]);
        set(67, &serial.to_le_bytes());
        set(71, label);
        set(82, b"FAT32   ");
        set(90, &[0xf4, 0xeb, 0xfd]); // halt, for a BIOS that tries
        set(510, &[0x55, 0xaa]);
        let mut info = [0_u8; 512];
        let mut set = |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, b"RRaA");
        set(484, b"rrAa");
        set(
            488,
            &((self.geometry.clusters + 2 - self.fat.len() as u64) as u32).to_le_bytes(),
        );
        set(492, &(self.fat.len() as u32 - 1).to_le_bytes());
        set(510, &[0x55, 0xaa]);
        for base in [0, 6] {
            self.put(base * SECTOR, &boot)?;
            self.put((base + 1) * SECTOR, &info)?;
            let mut third = [0; 512];
            third[510..].copy_from_slice(&[0x55, 0xaa]);
            self.put((base + 2) * SECTOR, &third)?;
        }
        Ok(())
    }
}

fn volume_label(label: &str) -> Result<[u8; 11], Error> {
    let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ' || b == b'_';
    if label.is_empty() || label.len() > 11 || !label.bytes().all(fine) {
        return Err(Error::input(
            "ESP",
            format!("`{label}` is not a FAT label: at most 11 capital letters and digits"),
        ));
    }
    let mut bytes = [b' '; 11];
    bytes[..label.len()].copy_from_slice(label.as_bytes());
    Ok(bytes)
}

/// Date and time as FAT stores them (UTC, two-second steps, from 1980 to 2107).
fn dos_time(epoch: u64) -> (u16, u16) {
    let epoch = epoch.clamp(315_532_800, 4_354_819_198);
    // The civil date of a day number, counted in years that start in March.
    let (days, seconds) = (epoch / 86400 + 719_468, epoch % 86400);
    let era_day = days % 146_097;
    let year_of_era = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * year_day + 2) / 153;
    let day = year_day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + days / 146_097 * 400 + u64::from(month <= 2);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = ((seconds / 3600) << 11) | ((seconds / 60 % 60) << 5) | (seconds % 60 / 2);
    (date as u16, time as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil_dates() {
        let ymd = |epoch| {
            let (date, time) = dos_time(epoch);
            (
                1980 + (date >> 9),
                date >> 5 & 15,
                date & 31,
                time >> 11,
                time >> 5 & 63,
                (time & 31) * 2,
            )
        };
        assert_eq!(ymd(0), (1980, 1, 1, 0, 0, 0));
        assert_eq!(ymd(951_827_696), (2000, 2, 29, 12, 34, 56));
        assert_eq!(ymd(1_767_225_599), (2025, 12, 31, 23, 59, 58));
        assert_eq!(ymd(u64::MAX), (2107, 12, 31, 23, 59, 58));
    }
}

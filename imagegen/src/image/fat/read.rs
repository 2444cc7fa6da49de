//! Reading FAT32: list and extract. Nothing that a disk holds makes it panic, loop or take unbounded memory.

use cairn_disk::ReadAt;

use crate::image::Error;

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root, without a leading slash.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// In bytes; 0 for folders.
    pub size: u32,
    first: u32,
}

/// An opened file system.
pub struct Fat<'a, R: ?Sized> {
    source: &'a R,
    cluster_bytes: u64,
    data_start: u64,
    root: u32,
    table: Vec<u32>,
}

const MAX_FOLDER: usize = 2 << 20;
const MAX_ENTRIES: usize = 100_000;

fn bad(why: &str) -> Error {
    Error::input("ESP", format!("{why}; it is damaged or not FAT32"))
}

fn le16(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u32::from(b[0]) | u32::from(b[1]) << 8)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    le16(bytes, at) | le16(bytes, at + 2) << 16
}

impl<'a, R: ReadAt + ?Sized> Fat<'a, R> {
    /// Reads the boot sector and the allocation table.
    ///
    /// # Errors
    /// It is not FAT32, or cannot be read.
    pub fn open(source: &'a R) -> Result<Self, Error> {
        let mut boot = [0; 512];
        source.fill_at(&mut boot, 0).map_err(|e| bad(&e.to_string()))?;
        let sector = u64::from(le16(&boot, 11));
        let per_cluster = u64::from(boot[13]);
        let (reserved, fats) = (u64::from(le16(&boot, 14)), u64::from(boot[16]));
        let (sectors, fat_sectors) = (u64::from(le32(&boot, 32)), u64::from(le32(&boot, 36)));
        if boot[510..] != [0x55, 0xaa] || le16(&boot, 22) != 0 || !matches!(sector, 512 | 4096) || per_cluster == 0 {
            return Err(bad("no FAT32 boot sector"));
        }
        let data = reserved + fats * fat_sectors;
        let clusters = sectors.saturating_sub(data) / per_cluster;
        if clusters + 2 > fat_sectors * sector / 4 || clusters > 1 << 24 {
            return Err(bad("its sizes contradict each other"));
        }
        let mut bytes = vec![0; (clusters as usize + 2) * 4];
        source
            .fill_at(&mut bytes, reserved * sector)
            .map_err(|e| bad(&e.to_string()))?;
        let table = bytes.chunks_exact(4).map(|b| le32(b, 0) & 0x0fff_ffff).collect();
        Ok(Self {
            source,
            cluster_bytes: per_cluster * sector,
            data_start: data * sector,
            root: le32(&boot, 44),
            table,
        })
    }

    /// The content of a chain of clusters, at most `limit` bytes.
    fn chain(&self, first: u32, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while bytes.len() < limit && cluster < 0x0fff_fff8 {
            let next = self.table.get(cluster as usize).filter(|_| cluster >= 2);
            let next = *next.ok_or_else(|| bad("a file's chain leads nowhere"))?;
            // Whole stretches of adjacent clusters at once would be faster; files here are few.
            let from = bytes.len();
            bytes.resize(from + self.cluster_bytes as usize, 0);
            let at = self.data_start + u64::from(cluster - 2) * self.cluster_bytes;
            self.source
                .fill_at(&mut bytes[from..], at)
                .map_err(|e| bad(&e.to_string()))?;
            cluster = next;
        }
        bytes.truncate(limit);
        Ok(bytes)
    }

    /// Everything in the file system, folders before what is in them.
    ///
    /// # Errors
    /// It is damaged.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        let mut open = vec![(String::new(), self.root)];
        let mut seen = Vec::new();
        while let Some((path, first)) = open.pop() {
            if seen.contains(&first) || all.len() > MAX_ENTRIES {
                return Err(bad("its folders form a loop"));
            }
            seen.push(first);
            let entries = parse_folder(&self.chain(first, MAX_FOLDER)?, &path);
            open.extend(
                entries
                    .iter()
                    .filter(|e| e.folder)
                    .map(|e| (format!("{}/", e.path), e.first)),
            );
            all.extend(entries);
        }
        Ok(all)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// It is a folder, or shorter than it says.
    pub fn extract(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        let bytes = if entry.size == 0 {
            Vec::new()
        } else {
            self.chain(entry.first, entry.size as usize)?
        };
        if entry.folder || bytes.len() != entry.size as usize {
            return Err(bad(&format!("{} is a folder or cut short", entry.path)));
        }
        Ok(bytes)
    }
}

fn parse_folder(bytes: &[u8], path: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    for raw in bytes.chunks_exact(32) {
        match (raw[0], raw[11]) {
            (0, _) => break,
            (0xe5, _) => long.clear(),
            (order, 0x0f) => {
                if order & 0x40 != 0 {
                    long.clear();
                }
                let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
                let piece: Vec<u16> = places.map(|at| le16(raw, at) as u16).collect();
                long.splice(0..0, piece);
            }
            (_, attributes) if attributes & 0x08 != 0 => long.clear(),
            (first, attributes) => {
                let end = long.iter().position(|u| *u == 0).unwrap_or(long.len());
                let name = if long.is_empty() {
                    let mut short = [b' '; 11];
                    short.copy_from_slice(&raw[..11]);
                    super::names::plain(&short)
                } else {
                    String::from_utf16_lossy(&long[..end])
                };
                long.clear();
                if first != b'.' {
                    entries.push(Entry {
                        path: format!("{path}{name}"),
                        folder: attributes & 0x10 != 0,
                        size: le32(raw, 28),
                        first: le16(raw, 20) << 16 | le16(raw, 26),
                    });
                }
            }
        }
    }
    entries
}

//! Small releases, a disk and an ESP in memory that lose power, and a publisher's repository of two versions.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cairn_disk::gpt::{Arch, PartitionType, Size, Table};
use cairn_disk::verity::{self, HashTree, RootHash};
use cairn_disk::{BlockDevice, Guid, ReadAt, SectorSize};
use cairn_upgrade::device::Disk;
use cairn_upgrade::entries::{Entry, EntryName, root_of};
use cairn_upgrade::esp::{Entries, HEAD_SECTOR};
use cairn_upgrade::index::Release;
use cairn_upgrade::metadata::About;
use cairn_upgrade::plan::Found;
use cairn_upgrade::publish::{Added, Expiry, Image, Publisher, Threshold};
use cairn_upgrade::slots::Slots;

#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Arm64;

pub(crate) const NAME: &str = "box";
pub(crate) const BLOCK: usize = 4096;

/// A small generator, so that a failure comes back with the same seed.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub(crate) fn noise(seed: u64, blocks: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = Vec::with_capacity(blocks * BLOCK);
    while out.len() < blocks * BLOCK {
        out.extend(random.next().to_le_bytes());
    }
    out
}

/// A version of the test appliance.
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) root: Vec<u8>,
    pub(crate) tree: HashTree,
    pub(crate) uki: Vec<u8>,
}

/// A PE file with `.cmdline` and then a kernel.
fn uki(hash: &RootHash, kernel: &[u8]) -> Vec<u8> {
    let line = format!("quiet roothash={hash} panic=10");
    let mut file = vec![0; 0x200];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0x86..0x88].copy_from_slice(&1_u16.to_le_bytes());
    let table = 0x80 + 24;
    file[table..table + 8].copy_from_slice(b".cmdline");
    for (at, value) in [(8, line.len()), (16, 512), (20, 0x200)] {
        file[table + at..table + at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    file.extend(line.as_bytes());
    file.resize(BLOCK, 0);
    file.extend(kernel);
    file
}

impl Version {
    /// Version 1.0.0, and later ones of which the middle differs and something is put in before it.
    pub(crate) fn new(version: &str) -> Self {
        let number: u64 = version.split('.').next().unwrap().parse().unwrap();
        let mut root = noise(1, 60);
        root.extend(noise(100 + number, 4 + number as usize));
        root.extend(noise(2, 60));
        root.extend(vec![0; 8 * BLOCK]);
        Self::holding(version, root)
    }

    /// A version with this root.
    pub(crate) fn holding(version: &str, root: Vec<u8>) -> Self {
        let number: u64 = version.split('.').next().unwrap().parse().unwrap();
        let salt = [number as u8; 32];
        let tree = verity::build(&root, root.len() as u64, &salt, Guid::from_u128(number.into()), 1).unwrap();
        let uki = uki(&tree.root, &[noise(3, 12), noise(50 + number, 2)].concat());
        Self {
            version: version.to_owned(),
            root,
            tree,
            uki,
        }
    }

    pub(crate) fn release(&self) -> Release {
        Release {
            name: NAME.into(),
            version: self.version.clone(),
            arch: "amd64".into(),
            minimum: None,
            states: Default::default(),
            root_hash: self.tree.root.to_string(),
            salt: self.tree.superblock.salt.iter().map(|b| format!("{b:02x}")).collect(),
            uuid: self.tree.superblock.uuid.to_string(),
            root_size: 0,
            uki_size: 0,
            packs: Vec::new(),
            root_chunks: 0,
        }
    }

    pub(crate) fn add_to(&self, publisher: &Publisher) -> Added {
        self.add_saying(publisher, self.release())
    }

    /// Adds it as this release.
    pub(crate) fn add_saying(&self, publisher: &Publisher, release: Release) -> Added {
        let about = About {
            notes: format!("Notes of {}", self.version),
            since: None,
            changes: Vec::new(),
            sbom: None,
        };
        let image = Image {
            release,
            root: &mut &self.root[..],
            uki: &mut &self.uki[..],
        };
        publisher.add(image, &about, None).unwrap()
    }
}

/// A repository in a folder of its own.
pub(crate) struct Repository {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) publisher: Publisher,
}

impl Repository {
    pub(crate) fn new(threshold: Threshold) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (repo, keys) = (folder.path().join("repo"), folder.path().join("keys"));
        let publisher = Publisher::init(&repo, &keys, NAME, threshold, Expiry::default()).unwrap();
        Self { folder, publisher }
    }

    /// One with these versions published, the last in `stable`.
    pub(crate) fn of(versions: &[&str]) -> Self {
        let repository = Self::new(Threshold { keys: 1, sign: 1 });
        versions.iter().for_each(|version| repository.publish(version));
        repository
    }

    pub(crate) fn publish(&self, version: &str) {
        Version::new(version).add_to(&self.publisher);
        self.publisher.promote(version, "stable", None).unwrap();
        self.publisher.publish(Expiry::default()).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn first_root(&self) -> Vec<u8> {
        std::fs::read(self.path().join("metadata/1.root.json")).unwrap()
    }

    pub(crate) fn known(&self) -> PathBuf {
        self.folder.path().join("known")
    }
}

/// When the power goes: before the change with this number.
#[derive(Debug)]
pub(crate) struct Power {
    pub(crate) left: Mutex<u64>,
    /// Whether only that change fails, as on a disk with a bad place.
    once: bool,
}

impl Power {
    pub(crate) fn lasting(changes: u64) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(changes),
            once: false,
        })
    }

    /// The power stays, and the change with this number fails.
    pub(crate) fn failing_at(change: u64) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(change),
            once: true,
        })
    }

    fn change(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            if self.once {
                *left = u64::MAX;
                return Err(io::Error::from_raw_os_error(5));
            }
            return Err(io::Error::other("the power is gone"));
        }
        *left -= 1;
        Ok(())
    }

    pub(crate) fn used(&self, of: u64) -> u64 {
        of - *self.left.lock().unwrap()
    }
}

/// A disk in memory. What is not flushed may be lost.
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    unflushed: Vec<(u64, Vec<u8>)>,
    pub(crate) power: Arc<Power>,
    /// Reads back this block wrongly.
    pub(crate) bad: Option<u64>,
}

impl MemoryDisk {
    /// What is on it after a power cut: all that was flushed, and of the rest any part, in sectors.
    pub(crate) fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (offset, data) in &self.unflushed {
            for (number, sector) in data.chunks(512).enumerate() {
                if random.next() & 0x100 != 0 {
                    let at = *offset as usize + number * 512;
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        bytes
    }
}

impl BlockDevice for MemoryDisk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn sector(&self) -> SectorSize {
        SectorSize::B512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.fill_at(buf, offset)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.power.change() {
            // What was on its way may have got there in part.
            self.unflushed.push((offset, data.to_vec()));
            return Err(error);
        }
        let at = offset as usize;
        self.bytes[at..at + data.len()].copy_from_slice(data);
        self.unflushed.push((offset, data.to_vec()));
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.power.change()?;
        self.durable.copy_from_slice(&self.bytes);
        self.unflushed.clear();
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn uncached(&self) -> io::Result<Box<dyn ReadAt + Send>> {
        let mut bytes = self.durable.clone();
        if let Some(bad) = self.bad {
            bytes[bad as usize] ^= 1;
        }
        Ok(Box::new(bytes))
    }
}

/// An ESP in memory.
#[derive(Clone)]
pub(crate) struct MemoryEsp {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Files whose content is not on the disk yet.
    unsettled: Vec<String>,
    pub(crate) free: u64,
    pub(crate) power: Arc<Power>,
}

impl MemoryEsp {
    pub(crate) fn cut(&self, random: &mut Random) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        for file in &self.unsettled {
            if let Some(content) = files.get_mut(file) {
                content.truncate(random.next() as usize % (content.len() + 1));
            }
        }
        files
    }
}

impl Entries for MemoryEsp {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let all = self.files.iter().filter_map(|(file, content)| {
            Some(Entry {
                name: EntryName::parse(file)?,
                file: file.clone(),
                size: content.len() as u64,
                root: root_of(content),
            })
        });
        Ok(all.collect())
    }
    fn free(&self) -> io::Result<u64> {
        Ok(self.free)
    }
    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.files
            .get(file)
            .ok_or(io::ErrorKind::NotFound)?
            .fill_at(into, offset)
    }
    fn remove(&mut self, file: &str) -> io::Result<()> {
        if let Some(content) = self.files.get_mut(file).filter(|content| content.len() >= HEAD_SECTOR) {
            self.power.change()?;
            content[..HEAD_SECTOR].fill(0);
        }
        self.power.change()?;
        self.files.remove(file);
        Ok(())
    }
    fn write_at(&mut self, file: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power.change()?;
        self.unsettled.push(file.to_owned());
        let content = self.files.entry(file.to_owned()).or_default();
        content.truncate(offset as usize);
        content.resize(offset as usize, 0);
        content.extend(data);
        Ok(())
    }
    fn settle(&mut self, file: &str) -> io::Result<()> {
        self.power.change()?;
        self.unsettled.retain(|own| own != file);
        Ok(())
    }
    fn write_head(&mut self, file: &str, head: &[u8; HEAD_SECTOR]) -> io::Result<()> {
        self.power.change()?;
        assert!(
            !self.unsettled.iter().any(|own| own == file),
            "{file} is not on the disk yet"
        );
        let content = self.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
        content[..HEAD_SECTOR].copy_from_slice(head);
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.power.change()?;
        if self.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_owned(), content);
        if self.unsettled.iter().any(|own| own == from) {
            self.unsettled.push(to.to_owned());
        }
        Ok(())
    }
}

/// A machine that runs a version from slot A; slot B holds another.
pub(crate) fn machine(version: &Version, other: &Version) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut bytes = vec![0; 10 << 20];
    let mut table = Table::new(SectorSize::B512, bytes.len() as u64, Guid::from_u128(99)).unwrap();
    let mut add = |kind, id, name: &str| table.add(kind, id, name, Size::Bytes(1 << 20)).unwrap();
    add(PartitionType::Esp, Guid::from_u128(1), "esp");
    let mut files = BTreeMap::new();
    let mut contents = Vec::new();
    for held in [version, other] {
        let mut tree = Vec::new();
        held.tree.write(&mut tree).unwrap();
        let verity = add(
            PartitionType::RootVerity(ARCH),
            held.tree.root.partuuid_verity(),
            "verity",
        );
        let root = add(PartitionType::Root(ARCH), held.tree.root.partuuid_root(), "root");
        contents.extend([(verity, tree), (root, held.root.clone())]);
        files.insert(format!("{NAME}_{}.efi", held.version), held.uki.clone());
    }
    for (number, content) in contents {
        let start = table.range(&table.partitions[&number]).0 as usize;
        bytes[start..start + content.len()].copy_from_slice(&content);
    }
    let mut disk = disk_of(bytes, Power::lasting(u64::MAX));
    table.write(&mut disk).unwrap();
    (disk.bytes, files)
}

pub(crate) fn disk_of(bytes: Vec<u8>, power: Arc<Power>) -> MemoryDisk {
    MemoryDisk {
        durable: bytes.clone(),
        bytes,
        unflushed: Vec::new(),
        power,
        bad: None,
    }
}

pub(crate) fn esp_of(files: BTreeMap<String, Vec<u8>>, power: Arc<Power>) -> MemoryEsp {
    MemoryEsp {
        files,
        unsettled: Vec::new(),
        free: 1 << 20,
        power,
    }
}

/// What an install finds.
pub(crate) fn found(disk: &MemoryDisk, esp: &MemoryEsp, running: &Version) -> Found {
    let table = Table::read(disk).unwrap().table;
    Found {
        states: Default::default(),
        name: NAME.into(),
        version: Some(running.version.clone()),
        arch: "amd64".into(),
        slots: Slots::find(&table, running.tree.root).unwrap(),
        table,
        entries: esp.list().unwrap(),
        esp_free: esp.free().unwrap(),
        secure_boot: false,
    }
}

/// Whether the slot with this root hash is whole.
pub(crate) fn verifies(bytes: &[u8], hash: &RootHash) -> bool {
    let disk = disk_of(bytes.to_vec(), Power::lasting(0));
    let Ok(table) = Table::read(&disk).map(|found| found.table) else {
        return false;
    };
    let range = |id| table.by_id(id).map(|(_, p)| table.range(p));
    let (Some((root, size)), Some((tree, length))) = (range(hash.partuuid_root()), range(hash.partuuid_verity()))
    else {
        return false;
    };
    let window = |start: u64, length: u64| bytes[start as usize..(start + length) as usize].to_vec();
    verity::verify(&window(root, size), size, &window(tree, length), hash, 1).is_ok()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

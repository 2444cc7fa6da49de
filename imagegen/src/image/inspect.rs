//! What is in a finished image, read from the image alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;

use cairn_disk::gpt::{CopyState, PartitionType, Table};
use cairn_disk::verity::{self, RootHash, Superblock};
use cairn_disk::{FileDevice, Window};

use super::fat::read::Fat;
use super::formats::Format;
use super::secureboot::{self, Signed};
use super::{Error, uki};

/// An image.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The size of the disk in bytes.
    pub size: u64,
    /// What the image file takes on the build machine's disk, in bytes.
    pub allocated: u64,
    /// The disk's GUID.
    pub disk: String,
    /// `good`, or what is wrong with the two copies of the partition table.
    pub table: String,
    /// The partitions in order.
    pub partitions: Vec<Partition>,
    /// The files on the ESP with their sizes in bytes.
    pub esp: Vec<(String, u64)>,
    /// The boot loader's programs, and who signed them.
    pub loaders: Vec<(String, Signed)>,
    /// The boot entries.
    pub entries: Vec<BootEntry>,
}

/// A partition.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    /// From 1 on.
    pub number: u32,
    /// As systemd names it, or a GUID.
    pub kind: String,
    /// The label.
    pub name: String,
    /// PARTUUID.
    pub id: String,
    /// In bytes.
    pub start: u64,
    /// In bytes.
    pub size: u64,
}

/// A UKI on the ESP.
#[derive(Debug, Clone, Serialize)]
pub struct BootEntry {
    /// On the ESP.
    pub path: String,
    /// The kernel's release.
    pub kernel: String,
    /// Who signed it.
    pub signed: Signed,
    /// The command line.
    pub cmdline: String,
    /// The sections with their sizes in bytes.
    pub sections: Vec<(String, u64)>,
    /// The `roothash=` of the command line.
    pub root_hash: Option<String>,
    /// Whether both partitions that the root hash names are there.
    pub root_present: bool,
    /// The size of the root file system's data in bytes, as the hash tree says.
    pub root_size: Option<u64>,
}

/// A raw image, opened.
pub struct Image {
    file: File,
    table: Table,
    states: String,
}

impl Image {
    /// Opens a raw image.
    ///
    /// # Errors
    /// It cannot be read, is of another format, or has no partition table.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut start = [0; 512];
        file.read_exact_at(&mut start, 0).map_err(Error::io("read", path))?;
        let format = Format::detect(&start);
        if format != Format::Raw {
            let why = format!(
                "it is {format}; convert it first: imagegen tool qemu-img convert -f {format} -O raw IMAGE IMAGE.raw"
            );
            return Err(Error::input(path.display().to_string(), why));
        }
        let device = FileDevice::new(file.try_clone().map_err(Error::io("open", path))?);
        let found = Table::read(&device.map_err(Error::io("read", path))?)?;
        let states = match (&found.primary, &found.backup) {
            (CopyState::Good, CopyState::Good) => "good".to_owned(),
            (primary, backup) => format!("primary {primary:?}, backup {backup:?}"),
        };
        Ok(Self {
            file,
            table: found.table,
            states,
        })
    }

    /// The partition table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn window(&self, partition: &cairn_disk::gpt::Partition) -> Window<'_, File> {
        let (start, size) = self.table.range(partition);
        Window::new(&self.file, start, size)
    }

    /// The root and hash partitions that a root hash names: each start and length in bytes.
    pub fn root(&self, hash: &RootHash) -> Option<[(u64, u64); 2]> {
        let root = self.table.by_id(hash.partuuid_root())?.1;
        let hashes = self.table.by_id(hash.partuuid_verity())?.1;
        Some([self.table.range(root), self.table.range(hashes)])
    }

    /// Checks every block of the root that a hash names.
    ///
    /// # Errors
    /// Its partitions are missing, or a block is not what the hash says.
    pub fn verify(&self, hash: &RootHash) -> Result<(), Error> {
        let ranges = self
            .root(hash)
            .ok_or_else(|| Error::input(hash.to_string(), "no partitions have this root hash"))?;
        let [root, hashes] = ranges.map(|(start, size)| Window::new(&self.file, start, size));
        Ok(verity::verify(&root, root.size(), &hashes, hash, 2)?)
    }

    /// The files on the ESP with their content.
    ///
    /// # Errors
    /// There is no ESP, or it is damaged.
    pub fn esp_files(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let esp = self.table.by_type(PartitionType::Esp).next();
        let esp = self.window(
            esp.ok_or_else(|| Error::input("image", "it has no EFI system partition"))?
                .1,
        );
        let fat = Fat::open(&esp)?;
        let files = fat.list()?.into_iter().filter(|e| !e.folder);
        files.map(|e| Ok((e.path.clone(), fat.extract(&e)?))).collect()
    }

    /// Everything that can be told without mounting the root.
    ///
    /// # Errors
    /// The ESP or a UKI on it is damaged.
    pub fn report(&self) -> Result<Report, Error> {
        let failed = |source| Error::Io {
            doing: "read",
            path: "image".into(),
            source,
        };
        let metadata = self.file.metadata().map_err(failed)?;
        let files = self.esp_files()?;
        let is_uki =
            |path: &str| path.to_lowercase().starts_with("efi/linux/") && path.to_lowercase().ends_with(".efi");
        let entries = files
            .iter()
            .filter(|(path, _)| is_uki(path))
            .map(|(path, bytes)| self.entry(path, bytes));
        let is_loader = |path: &str| {
            let path = path.to_lowercase();
            path.ends_with(".efi") && (path.starts_with("efi/boot/") || path.starts_with("efi/systemd/"))
        };
        let loaders = files.iter().filter(|(path, _)| is_loader(path));
        // What is no program is not signed, and is not what this tells.
        let loaders = loaders.map(|(path, bytes)| (path.clone(), secureboot::signed(bytes).unwrap_or(Signed::No)));
        let partitions = self.table.partitions.iter().map(|(number, p)| {
            let (start, size) = self.table.range(p);
            let (kind, name, id) = (p.kind.to_string(), p.name.clone(), p.id.to_string());
            Partition {
                number: *number,
                kind,
                name,
                id,
                start,
                size,
            }
        });
        Ok(Report {
            size: metadata.len(),
            allocated: std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            disk: self.table.disk.to_string(),
            table: self.states.clone(),
            partitions: partitions.collect(),
            loaders: loaders.collect(),
            entries: entries.collect::<Result<_, _>>()?,
            esp: files
                .iter()
                .map(|(path, bytes)| (path.clone(), bytes.len() as u64))
                .collect(),
        })
    }

    fn entry(&self, path: &str, bytes: &[u8]) -> Result<BootEntry, Error> {
        let sections = uki::read(bytes)?;
        let cmdline = uki::text(&sections, ".cmdline").unwrap_or_default();
        let hash = root_hash(cmdline);
        let ranges = hash.and_then(|h| self.root(&h));
        let superblock = ranges.and_then(|[_, (at, size)]| Superblock::read(&Window::new(&self.file, at, size)).ok());
        Ok(BootEntry {
            path: path.to_owned(),
            kernel: uki::text(&sections, ".uname").unwrap_or_default().to_owned(),
            signed: secureboot::signed(bytes)?,
            cmdline: cmdline.to_owned(),
            sections: sections
                .iter()
                .map(|s| (s.name.to_owned(), s.data.len() as u64))
                .collect(),
            root_hash: hash.map(|h| h.to_string()),
            root_present: ranges.is_some(),
            root_size: superblock.map(|s| s.data_blocks * verity::BLOCK),
        })
    }
}

/// The `roothash=` of a command line; the last one counts.
pub fn root_hash(cmdline: &str) -> Option<RootHash> {
    cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("roothash="))
        .next_back()?
        .parse()
        .ok()
}

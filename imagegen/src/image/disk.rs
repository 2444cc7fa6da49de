//! The disk image: partition table, ESP, hash tree, root, in one sparse raw file.
//!
//! [`Layout`] says where everything goes, and can be printed; [`write`] does it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom};
use std::path::Path;

use cairn_disk::gpt::{ALIGNMENT, Arch, Attributes, PartitionType, Size, Table};
use cairn_disk::verity::{self, HashTree};
use cairn_disk::{BlockDevice, FileDevice, Guid, SectorSize};

use super::{Error, esp, fat, guid_for, write_whole};

/// The labels of the partitions of a shipped image, in order.
pub const LABELS: [&str; 3] = ["esp", "verity-a", "root-a"];

/// The hash tree of a root, with salt and UUID computed from the root's own UUID (which comes from its content).
///
/// # Errors
/// The root cannot be read or is not whole blocks.
pub fn hash_tree(root: &File, size: u64, root_uuid: Guid) -> Result<HashTree, Error> {
    let salt = [
        guid_for("verity salt 1", &root_uuid.bytes()),
        guid_for("verity salt 2", &root_uuid.bytes()),
    ];
    let salt = salt.map(|g| g.bytes()).concat();
    let uuid = guid_for("verity uuid", &root_uuid.bytes());
    Ok(verity::build(root, size, &salt, uuid, 2)?)
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The size of the image in bytes.
    pub size: u64,
    /// The partitions.
    pub table: Table,
}

/// What a layout is computed from. Sizes are in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The ESP.
    pub esp: u64,
    /// The root file system as it is.
    pub root: u64,
    /// The room that a root may have in later versions: the hash partition is made for it.
    pub slot: u64,
}

impl Layout {
    /// Lays out an image. All GUIDs come from the root hash and the ESP's content.
    ///
    /// # Errors
    /// The root does not fit its slot.
    pub fn plan(arch: Arch, sizes: Sizes, tree: &HashTree, esp_digest: &[u8; 32]) -> Result<Self, Error> {
        if sizes.root > sizes.slot {
            let why = format!(
                "{} bytes do not fit a slot of {}; raise the slot size in the recipe",
                sizes.root, sizes.slot
            );
            return Err(Error::input("root file system", why));
        }
        let whole = |bytes: u64| bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT);
        let verity = verity::hash_device_size(whole(sizes.slot));
        // One MiB for the table at the start, one for its copy at the end.
        let size = [sizes.esp, verity, sizes.root]
            .iter()
            .map(|s| whole(*s))
            .fold(2 * ALIGNMENT, u64::saturating_add);
        let identity = [tree.root.0, *esp_digest].concat();
        let mut table = Table::new(SectorSize::B512, size, guid_for("disk", &identity))?;
        table.add(
            PartitionType::Esp,
            guid_for("esp", &identity),
            LABELS[0],
            Size::Bytes(sizes.esp),
        )?;
        let hashes = PartitionType::RootVerity(arch);
        let number = table.add(hashes, tree.root.partuuid_verity(), LABELS[1], Size::Bytes(verity))?;
        let root = PartitionType::Root(arch);
        let last = table.add(root, tree.root.partuuid_root(), LABELS[2], Size::Bytes(sizes.root))?;
        for number in [number, last] {
            if let Some(partition) = table.partitions.get_mut(&number) {
                partition.attributes = Attributes::READ_ONLY;
            }
        }
        Ok(Self { size, table })
    }

    /// Start and length in bytes of the partition with a label.
    ///
    /// # Errors
    /// There is none.
    pub fn range(&self, label: &str) -> Result<(u64, u64), Error> {
        let found = self.table.by_name(label).map(|(_, p)| self.table.range(p));
        found.ok_or_else(|| Error::input("layout", format!("no partition `{label}`")))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "disk {}, {} bytes", self.table.disk, self.size)?;
        for (number, p) in &self.table.partitions {
            let (start, size) = self.table.range(p);
            writeln!(
                f,
                "{number} {start:>12} {size:>12} {:<18} {:<10} {}",
                p.kind.to_string(),
                p.name,
                p.id
            )?;
        }
        Ok(())
    }
}

/// What [`write`] puts into the partitions.
pub struct Contents<'a> {
    /// For the ESP.
    pub esp: &'a fat::Contents,
    /// For the hash partition.
    pub tree: &'a HashTree,
    /// For the root partition, from its start.
    pub root: &'a File,
}

/// Writes the image to `path`, under a temporary name until it is whole. Unused space stays a hole.
///
/// # Errors
/// A part does not fit, or a file cannot be read or written; an earlier image at `path` is then left as it was.
pub fn write(layout: &Layout, contents: &Contents<'_>, path: &Path) -> Result<(), Error> {
    let (esp_at, esp_size) = layout.range(LABELS[0])?;
    let (tree_at, tree_size) = layout.range(LABELS[1])?;
    let (root_at, root_size) = layout.range(LABELS[2])?;
    let failed = || Error::io("write", path);
    write_whole(path, |file| {
        file.set_len(layout.size).map_err(failed())?;
        fat::write(file, path, esp_at, esp_size, contents.esp)?;
        let at = |offset| (&*file).seek(SeekFrom::Start(offset)).map(|_| file).map_err(failed());
        if contents.tree.size() > tree_size {
            return Err(Error::input("hash tree", "it does not fit its partition"));
        }
        let mut out = BufWriter::with_capacity(1 << 20, at(tree_at)?);
        contents
            .tree
            .write(&mut out)
            .and_then(|()| io::Write::flush(&mut out))
            .map_err(failed())?;
        let mut root = contents.root;
        root.seek(SeekFrom::Start(0)).map_err(failed())?;
        // Between files this is copy_file_range: shared extents where the file system has them.
        let copied = io::copy(&mut root, &mut at(root_at)?).map_err(failed())?;
        if copied > root_size || copied != contents.tree.superblock.data_blocks * verity::BLOCK {
            return Err(Error::input(
                "root file system",
                "it is not the one that the layout and hash tree were made for",
            ));
        }
        let device = FileDevice::with_sector(file.try_clone().map_err(failed())?, SectorSize::B512);
        layout.table.write(&mut Unflushed(device.map_err(failed())?))?;
        Ok(())
    })
}

/// A file that nobody sees before it is whole: flushing would cost seconds and protect nothing.
struct Unflushed(FileDevice);

impl BlockDevice for Unflushed {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn sector(&self) -> SectorSize {
        self.0.sector()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// [`Layout::plan`] and the ESP's digest, for the usual case that the ESP's content is at hand.
///
/// # Errors
/// As [`Layout::plan`].
pub fn plan(arch: Arch, sizes: Sizes, tree: &HashTree, esp: &fat::Contents) -> Result<Layout, Error> {
    Layout::plan(arch, sizes, tree, &esp::digest(esp))
}

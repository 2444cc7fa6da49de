//! Looks at disks, boot entries and records, and changes nothing.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use cairn_disk::efivars::{CAIRN, FAILED, LOADER};
use cairn_disk::gpt::Table;
use cairn_disk::verity::Superblock;
use cairn_disk::{BlockDevice as _, Window};
use cairn_upgrade::device::RealDisk;
use cairn_upgrade::entries::Entry;
use cairn_upgrade::esp::{Entries as _, EspFolder};
use cairn_upgrade::record::Records;
use cairn_upgrade::slots;

use super::mounts::{Access, Mounted};
use super::{DATA_NEW, Machine, Outcome, OwnDisk, Reader};
use crate::findings::{Content, Data, Findings, Medium, Slot};

/// The label of a slot that holds nothing.
const EMPTY: &str = "_empty";
/// The most bundles that are offered from one medium.
const BUNDLES: usize = 8;

impl Machine {
    /// The disk whose ESP the machine was started from; where the boot loader did not say, the first that is laid out as an appliance's.
    pub(super) fn own_disk(&self) -> Outcome<OwnDisk> {
        let esp = self.vars.text(LOADER, "LoaderDevicePartUUID");
        let esp = esp.and_then(|text| text.trim().to_lowercase().parse().ok());
        let mut disks = Vec::new();
        for folder in physical() {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .replace('!', "/");
            let Ok(disk) = RealDisk::open(&Path::new("/dev").join(name)) else {
                continue;
            };
            let Ok(found) = Table::read(&disk) else { continue };
            if slots::esp(&found.table).is_ok() && slots::has_root(&found.table) {
                let table = found.table;
                disks.push(OwnDisk { folder, disk, table });
            }
        }
        let own = disks
            .iter()
            .position(|own| esp.is_some_and(|id| own.table.by_id(id).is_some()));
        match disks.is_empty() {
            true => Err("no disk of an appliance was found; attach it, or write the image again".into()),
            false => Ok(disks.swap_remove(own.unwrap_or(0))),
        }
    }

    pub(super) fn findings(&self) -> Findings {
        let mut findings = Findings {
            name: self.manifest.name.clone(),
            stopped: stopped(&self.vars.text(CAIRN, FAILED).unwrap_or_default()),
            ..Findings::default()
        };
        let own = match self.own_disk() {
            Ok(own) => own,
            Err(why) => {
                findings.trouble.push(format!("The disk cannot be used: {why}."));
                findings.media = media(None);
                return findings;
            }
        };
        let entries = self.esp(&own, Access::Read).and_then(|mounted| {
            let listed = EspFolder::new(mounted.path()).list();
            listed.map_err(|e| format!("its boot entries cannot be listed ({e})"))
        });
        let entries: Vec<Entry> = entries.unwrap_or_else(|why| {
            findings
                .trouble
                .push(format!("The EFI system partition cannot be read: {why}."));
            Vec::new()
        });
        let entries: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| entry.name.name == findings.name)
            .collect();
        let mut led = Vec::new();
        let both = slots::both(&own.table).map_err(|error| findings.trouble.push(format!("{error}.")));
        for slot in both.into_iter().flatten() {
            let Some(partition) = own.table.partitions.get(&slot.root.number) else {
                continue;
            };
            let entry = entries
                .iter()
                .find(|e| e.root.is_some_and(|root| root.partuuid_root() == partition.id));
            led.extend(entry.map(|entry| entry.file.clone()));
            findings.slots.push(Slot {
                label: partition.name.clone(),
                entry: entry.map(|entry| entry.name.clone()),
                file: entry.map(|entry| entry.file.clone()).unwrap_or_default(),
                content: self.content(&own, &slot, &partition.name, entry),
            });
        }
        let astray = entries.into_iter().map(|entry| entry.file);
        findings.astray = astray.filter(|file| !led.contains(file)).collect();
        findings.data = match own.table.by_name(DATA_NEW) {
            Some(_) => Data::New,
            None => self.noted(&own).unwrap_or_else(Data::Closed),
        };
        findings.media = media(Some(&own));
        findings
    }

    fn content(&self, own: &OwnDisk, slot: &slots::Slot, label: &str, entry: Option<&Entry>) -> Content {
        if label == EMPTY {
            return Content::Empty;
        }
        let hash = entry.and_then(|entry| entry.root).map(|root| root.to_string());
        if let Some(known) = hash.and_then(|hash| self.checked.get(&hash)) {
            return known.clone();
        }
        let reader = Reader(&own.disk);
        let superblock = Superblock::read(&Window::new(&reader, slot.verity.start, slot.verity.length));
        // EROFS has its superblock at 1024 (linux/fs/erofs/erofs_fs.h).
        let mut magic = [0; 4];
        let root = own.disk.read_at(slot.root.start + 1024, &mut magic);
        match (superblock, root) {
            (Err(error), _) => Content::Damaged(format!("its hash tree cannot be read ({error})")),
            (_, Err(error)) => Content::Damaged(format!("its root cannot be read ({error})")),
            (Ok(_), Ok(())) if magic != [0xe2, 0xe1, 0xf5, 0xe0] => {
                Content::Damaged("its root is no file system".into())
            }
            (Ok(_), Ok(())) => Content::Readable,
        }
    }

    /// What stands in `/data/upgrade`.
    fn noted(&self, own: &OwnDisk) -> Outcome<Data> {
        let mounted = self.data(own, Access::Read)?;
        let folder = mounted.path().join("upgrade");
        let records = folder.is_dir().then(|| Records::open(&folder).ok()).flatten();
        Ok(Data::Open {
            tried: records.as_ref().and_then(Records::tried).map(Box::new),
            history: records.as_ref().map(Records::history).unwrap_or_default(),
        })
    }
}

/// The lines that the initrd stage left: an entry's name without its tries, and why it stopped.
fn stopped(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(id, why)| (id.to_owned(), why.to_owned())).collect()
}

/// The folders in `/sys/block` of disks that hardware is behind.
fn physical() -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|found| found.path())
        .filter(|path| {
            let target = fs::read_link(path).unwrap_or_default();
            let hidden = fs::read_to_string(path.join("hidden")).unwrap_or_default();
            hidden.trim() != "1" && !target.to_string_lossy().contains("/devices/virtual/block/")
        })
        .collect();
    folders.sort();
    folders
}

/// The file systems beside the appliance's own disk that can be mounted.
fn media(own: Option<&OwnDisk>) -> Vec<Medium> {
    let others = physical()
        .into_iter()
        .filter(|folder| own.is_none_or(|own| own.folder != *folder));
    let mut media = Vec::new();
    for folder in others {
        let parts = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|found| found.path());
        let mut all: Vec<_> = parts.filter(|path| path.join("partition").is_file()).collect();
        all.sort();
        all.insert(0, folder);
        for device in all {
            let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
            media.extend(medium(&name));
        }
    }
    media
}

fn medium(device: &str) -> Option<Medium> {
    let node = Path::new("/dev").join(device.replace('!', "/"));
    let mut head = [0; 2048];
    File::open(&node).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    let kind = kind(&head)?;
    let mounted = Mounted::new(&node, kind, Access::Read).ok()?;
    let names = fs::read_dir(mounted.path()).into_iter().flatten().flatten();
    let mut bundles: Vec<String> = names
        .filter(|found| found.path().is_file())
        .map(|found| found.file_name().to_string_lossy().into_owned())
        .filter(|name| name.to_lowercase().ends_with(".cairn") && !name.starts_with('.'))
        .collect();
    bundles.sort();
    bundles.truncate(BUNDLES);
    Some(Medium {
        device: device.to_owned(),
        kind: kind.to_owned(),
        bundles,
    })
}

/// The file system that a device begins with, of those that a bundle may lie on: to try would fill the console with the kernel's complaints.
fn kind(head: &[u8; 2048]) -> Option<&'static str> {
    // ext2 to ext4: the magic number of the superblock, which is at 1024 (Linux, Documentation/filesystems/ext4/super.rst).
    if head[1080..1082] == [0x53, 0xef] {
        return Some("ext4");
    }
    // FAT12 to FAT32: the boot sector's mark, and its file system's name (Microsoft's fatgen103).
    let named = |at: usize| &head[at..at + 3] == b"FAT";
    (head[510..512] == [0x55, 0xaa] && (named(54) || named(82))).then_some("vfat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_first_sectors() {
        let mut head = [0; 2048];
        assert_eq!(kind(&head), None);
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(kind(&head), None, "a partition table ends so too");
        head[82..90].copy_from_slice(b"FAT32   ");
        assert_eq!(kind(&head), Some("vfat"));
        let mut head = [0; 2048];
        head[1080..1082].copy_from_slice(&0xef53_u16.to_le_bytes());
        assert_eq!(kind(&head), Some("ext4"));
    }

    #[test]
    fn what_the_initrd_stage_left_is_read_line_by_line() {
        let found = stopped("box_1.0.efi the root is damaged\nbox_2.0.efi no hash tree\nnothing\n");
        assert_eq!(
            found,
            [
                ("box_1.0.efi".to_owned(), "the root is damaged".to_owned()),
                ("box_2.0.efi".to_owned(), "no hash tree".to_owned())
            ]
        );
    }
}

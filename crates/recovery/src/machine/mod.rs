//! The machine itself: the one place that looks at disks and changes them.

mod export;
mod install;
mod look;
mod mounts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_disk::efivars::{self, CAIRN, EfiVars, FAILED, LOADER};
use cairn_disk::gpt::Table;
use cairn_disk::verity;
use cairn_disk::{BlockDevice, ReadAt, Window};
use cairn_upgrade::appliance::Manifest;
use cairn_upgrade::device::RealDisk;
use cairn_upgrade::esp::{Entries as _, EspFolder, mark};
use cairn_upgrade::slots;
use rustix::system::{RebootCommand, reboot};

use crate::findings::{Content, Findings, letter};
use crate::menu::World;
use crate::plan::{Offer, Plan, Step, plan};
use mounts::{Access, Mounted};

/// What recovery was built with: its own appliance, and whom it believes.
const MANIFEST: &str = "/usr/lib/cairn/appliance.json";
const ROOT: &str = "/usr/lib/cairn/upgrade-root.json";
/// The labels of the data partition with a file system and without (`layout.rs` of the initrd stage).
const DATA: &str = "data";
const DATA_NEW: &str = "data-new";

/// The machine that recovery was started on.
#[derive(Debug)]
pub struct Machine {
    manifest: Manifest,
    vars: EfiVars,
    /// What a full check found, by the slot's root hash: it takes too long to be done at each look.
    checked: BTreeMap<String, Content>,
}

/// The appliance's disk, opened.
struct OwnDisk {
    /// Its folder in `/sys/block`.
    folder: PathBuf,
    disk: RealDisk,
    table: Table,
}

type Outcome<T> = Result<T, String>;

/// LUKS2's header (LUKS2 On-Disk Format Specification 1.1.3, 2.1).
fn is_encrypted(first: &[u8]) -> bool {
    first.starts_with(b"LUKS\xba\xbe\x00\x02")
}

impl Machine {
    /// Reads what recovery was built with, and makes the firmware's variables visible.
    ///
    /// # Errors
    /// The recovery entry is not whole.
    pub fn open() -> Outcome<Self> {
        let text = fs::read(MANIFEST).map_err(|e| format!("cannot read {MANIFEST}: {e}"))?;
        let manifest = serde_json::from_slice(&text).map_err(|e| format!("{MANIFEST} is damaged: {e}"))?;
        // Only machines with UEFI have them.
        let _ = mounts::mount_variables(Path::new(efivars::FOLDER));
        Ok(Self {
            manifest,
            vars: EfiVars::default(),
            checked: BTreeMap::new(),
        })
    }

    /// The appliance's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Whether the appliance's disk is there: right after a start it may still be on its way.
    pub fn is_there(&self) -> bool {
        self.own_disk().is_ok()
    }

    fn esp(&self, own: &OwnDisk, access: Access) -> Outcome<Mounted> {
        let esp = slots::esp(&own.table).map_err(|e| e.to_string())?;
        let node = node(&own.folder, esp.number)?;
        Mounted::new(&node, "vfat", access)
    }

    fn data(&self, own: &OwnDisk, access: Access) -> Outcome<Mounted> {
        let (number, partition) = own.table.by_name(DATA).ok_or("the disk has no data partition")?;
        let mut first = [0; 8];
        let read = own.disk.read_at(own.table.range(partition).0, &mut first);
        if read.is_ok() && is_encrypted(&first) {
            return Err("it is encrypted, and only a version of the appliance opens it".into());
        }
        Mounted::new(&node(&own.folder, number)?, "ext4", access)
    }

    fn mark(&self, file: &str, to: &cairn_upgrade::entries::EntryName) -> Outcome<()> {
        let mounted = self.esp(&self.own_disk()?, Access::Write)?;
        let mut folder = EspFolder::new(mounted.path());
        let entries = folder
            .list()
            .map_err(|e| format!("cannot list the boot entries: {e}"))?;
        let entry = entries.iter().find(|entry| entry.file == file);
        let entry = entry.ok_or_else(|| format!("the boot entry {file} is gone"))?;
        mark(&mut folder, entry, to).map_err(|e| e.to_string())
    }

    /// Compares a slot with the root hash of its entry.
    fn check(&mut self, at: usize, tell: &mut dyn FnMut(&str)) -> Outcome<Vec<String>> {
        let own = self.own_disk()?;
        let slot = slots::both(&own.table).map_err(|e| e.to_string())?[at];
        let mounted = self.esp(&own, Access::Read)?;
        let entries = EspFolder::new(mounted.path()).list();
        let entries = entries.map_err(|e| format!("cannot list the boot entries: {e}"))?;
        let id = own.table.partitions.get(&slot.root.number).map(|p| p.id);
        let hash = entries
            .iter()
            .filter_map(|entry| entry.root)
            .find(|root| Some(root.partuuid_root()) == id);
        let hash = hash.ok_or_else(|| format!("no boot entry leads to slot {}", letter(at)))?;
        tell(&format!("Reading slot {}.", letter(at)));
        let reader = Reader(&own.disk);
        let root = Window::new(&reader, slot.root.start, slot.root.length);
        let tree = Window::new(&reader, slot.verity.start, slot.verity.length);
        let content = match verity::verify(&root, slot.root.length, &tree, &hash, 2) {
            Ok(()) => Content::Whole,
            Err(error) => Content::Damaged(error.to_string()),
        };
        let said = match &content {
            Content::Damaged(why) => format!("Slot {} is damaged: {why}.", letter(at)),
            _ => format!("Slot {} is whole.", letter(at)),
        };
        self.checked.insert(hash.to_string(), content);
        Ok(vec![said])
    }

    /// The data partition as it is before it has a file system: the next start makes one, whatever lies there.
    fn reset(&self) -> Outcome<()> {
        let mut own = self.own_disk()?;
        let (number, _) = own.table.by_name(DATA).ok_or("the disk has no data partition")?;
        if let Some(partition) = own.table.partitions.get_mut(&number) {
            partition.name = DATA_NEW.to_owned();
        }
        own.table
            .write(&mut own.disk)
            .map_err(|e| format!("cannot write the partition table: {e}"))
    }

    fn step(&mut self, step: &Step, findings: &Findings, tell: &mut dyn FnMut(&str)) -> Outcome<Vec<String>> {
        let said = |text: &str| Ok(vec![text.to_owned()]);
        match step {
            Step::Show(lines) => Ok(lines.clone()),
            Step::Check(at) => self.check(*at, tell),
            Step::Mark { file, to } => self.mark(file, to).map(|()| Vec::new()),
            Step::Forget => {
                // What is shown once too often does no harm.
                let _ = self.vars.remove(CAIRN, FAILED);
                Ok(Vec::new())
            }
            Step::Install {
                medium,
                file,
                version,
                slot,
            } => {
                self.install(medium, file, version, *slot, tell)?;
                said("It is installed.")
            }
            Step::Next(id) => {
                // Without it the boot loader takes the newest version that it may: most often that is the same.
                if let Err(error) = self.vars.set_text(LOADER, "LoaderEntryOneShot", id) {
                    tell(&format!("The boot loader cannot be told what to start next: {error}"));
                }
                Ok(Vec::new())
            }
            Step::Export(medium) => self
                .export(medium, findings)
                .map(|file| vec![format!("Written: {file}.")]),
            Step::Reset => {
                self.reset()?;
                said("The next start removes all data and begins anew. The installed versions stay.")
            }
            Step::Restart => down(RebootCommand::Restart, tell),
            Step::PowerOff => down(RebootCommand::PowerOff, tell),
        }
    }
}

impl World for Machine {
    fn look(&mut self) -> Findings {
        self.findings()
    }

    fn prepare(&mut self, offer: &Offer, findings: &Findings) -> Outcome<Plan> {
        let bundled = match offer {
            Offer::Install { medium, file } => Some(self.bundled(medium, file)?),
            _ => None,
        };
        plan(offer, findings, bundled.as_deref())
    }

    fn apply(&mut self, plan: &Plan, findings: &Findings, tell: &mut dyn FnMut(&str)) -> Outcome<()> {
        for step in &plan.steps {
            for line in self.step(step, findings, tell)? {
                tell(&line);
            }
        }
        Ok(())
    }
}

fn down(how: RebootCommand, tell: &mut dyn FnMut(&str)) -> Outcome<Vec<String>> {
    tell(match how {
        RebootCommand::PowerOff => "Switching off.",
        _ => "Restarting.",
    });
    rustix::fs::sync();
    reboot(how).map_err(|e| format!("the kernel refuses: {e}"))?;
    Ok(Vec::new())
}

/// The node of a disk's partition.
fn node(folder: &Path, number: u32) -> Outcome<PathBuf> {
    let name = slots::partition(folder, number).map_err(|e| e.to_string())?;
    Ok(Path::new("/dev").join(name.replace('!', "/")))
}

/// A disk as something that is read by position.
struct Reader<'a>(&'a RealDisk);

impl ReadAt for Reader<'_> {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_partition_is_told_from_a_file_system() {
        assert!(is_encrypted(b"LUKS\xba\xbe\x00\x02"));
        assert!(!is_encrypted(&[0; 8]) && !is_encrypted(b"LUKS"));
    }
}

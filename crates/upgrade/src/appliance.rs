//! The running appliance as the program works on it: its disk, its mounted ESP, and where it leaves what it found.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_api::{FailedVersion, UpgradeVersion, UpgradeVersions};
use cairn_disk::efivars::{self, CAIRN, EfiVars, FAILED};
use cairn_disk::gpt::Table;
use cairn_disk::verity::RootHash;
use cairn_unit::StateVersion;
use nix::mount::{MsFlags, mount};
use serde::Deserialize;

use crate::device::RealDisk;
use crate::efi;
use crate::entries::Entry;
use crate::error::Error;
use crate::esp::{Entries as _, EspFolder, entry_of, mark};
use crate::loader;
use crate::plan::Found;
use crate::record::{Happened, Records};
use crate::slots::{Slots, disk_of, partition, running_hash};

/// What the program needs of the compiled appliance.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where later versions come from.
    pub upgrade: Option<Follow>,
    /// The units, by name.
    #[serde(default)]
    pub units: BTreeMap<String, ManifestUnit>,
}

/// What the program needs of a unit.
#[derive(Debug, Clone, Deserialize)]
pub struct ManifestUnit {
    /// The unit as written.
    pub unit: UnitState,
    /// The version of its state.
    #[serde(default)]
    pub state_version: StateVersion,
}

/// The folders that a unit keeps.
#[derive(Debug, Clone, Deserialize)]
pub struct UnitState {
    /// By path.
    #[serde(default)]
    pub state: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// The version of the state of each unit that keeps one.
    pub fn states(&self) -> BTreeMap<String, StateVersion> {
        let keep = self.units.iter().filter(|(_, unit)| !unit.unit.state.is_empty());
        keep.map(|(name, unit)| (name.clone(), unit.state_version.clone()))
            .collect()
    }
}

/// Where later versions come from.
#[derive(Debug, Clone, Deserialize)]
pub struct Follow {
    /// The repository.
    pub url: Option<String>,
    /// The channel.
    pub channel: String,
}

/// Debian's name of this machine's architecture.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// The appliance's disk and ESP, opened.
#[derive(Debug)]
pub struct Appliance {
    /// What it is.
    pub manifest: Manifest,
    /// What it remembers.
    pub records: Records,
    /// The whole disk.
    pub disk: RealDisk,
    /// The boot entries.
    pub esp: EspFolder,
    hash: RootHash,
    efivars: EfiVars,
}

/// Where the ESP is mounted, in the program's own mount namespace.
const ESP: &str = "/efi";
const LAST_LINES: &str = "/run/cairn/upgrade/last.json";

impl Appliance {
    /// Finds the disk and mounts its ESP.
    ///
    /// # Errors
    /// This machine was not started from such a disk, or the ESP cannot be mounted.
    pub fn open() -> Result<Self, Error> {
        let text = |path: &str| std::fs::read_to_string(path).map_err(Error::io("read", path));
        let path = "/usr/lib/cairn/appliance.json";
        let manifest = serde_json::from_str(&text(path)?).map_err(|e| Error::Wrong(format!("{path}: {e}")))?;
        let hash = running_hash(&text("/proc/cmdline")?)?;
        let folder = disk_of(&hash, Path::new("/sys"), Path::new("/dev"))?;
        let node = Path::new("/dev").join(folder.file_name().unwrap_or_default());
        let disk = RealDisk::open(&node).map_err(Error::io("open", &node))?;
        let slots = Slots::find(&Table::read(&disk)?.table, hash)?;
        let source = Path::new("/dev").join(partition(&folder, slots.esp.number)?);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = Some("umask=0077,errors=remount-ro");
        mount(Some(&source), ESP, Some("vfat"), flags, options).map_err(Error::io("mount the ESP", &source))?;
        // Only machines with UEFI have them.
        let _ = mount(Some("efivarfs"), efivars::FOLDER, Some("efivarfs"), flags, None::<&str>);
        Ok(Self {
            manifest,
            records: Records::open(Path::new("/data/upgrade"))?,
            disk,
            esp: EspFolder::new(Path::new(ESP)),
            hash,
            efivars: EfiVars::default(),
        })
    }

    fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.esp.list().map_err(Error::io("list the boot entries in", ESP))
    }

    /// What an install finds.
    ///
    /// # Errors
    /// Disk or ESP cannot be read.
    pub fn found(&self) -> Result<Found, Error> {
        let table = Table::read(&self.disk)?.table;
        Ok(Found {
            name: self.manifest.name.clone(),
            version: Some(self.manifest.version.clone()),
            arch: arch().to_owned(),
            states: self.manifest.states(),
            slots: Slots::find(&table, self.hash)?,
            table,
            entries: self.entries()?,
            esp_free: self.esp.free().map_err(Error::io("look at the space of", ESP))?,
            secure_boot: self.efivars.secure_boot(),
        })
    }

    /// The entry of the version that the other slot holds, if that slot really does.
    fn other(&self, entries: &[Entry]) -> Result<Option<Entry>, Error> {
        let table = Table::read(&self.disk)?.table;
        let held = |entry: &&Entry| {
            let root = entry.root.filter(|root| *root != self.hash);
            root.is_some_and(|root| {
                table.by_id(root.partuuid_root()).is_some() && table.by_id(root.partuuid_verity()).is_some()
            })
        };
        Ok(entries.iter().find(held).cloned())
    }

    /// How it stands. A version that was tried and given up since the last look is noted.
    ///
    /// # Errors
    /// Disk, ESP or data cannot be read or written.
    pub fn look(&self) -> Result<UpgradeVersions, Error> {
        let entries = self.entries()?;
        let (running, other) = (entry_of(&entries, &self.hash), self.other(&entries)?);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        let mut problems = efi::problems(&self.efivars, &names);
        if running.is_none() {
            problems.push("the ESP has no boot entry of the running version; write the image again".to_owned());
        }
        let tried = self.records.tried();
        let is_own = |tried: &crate::record::Tried| tried.root_hash == self.hash.to_string();
        let was_reached = tried.as_ref().is_some_and(|tried| is_own(tried) && tried.reached);
        let mut tried = tried.filter(|tried| !is_own(tried));
        if let Some(one) = tried.as_mut().filter(|tried| !tried.noted) {
            let is = |entry: &&Entry| entry.root.is_some_and(|root| root.to_string() == one.root_hash);
            match entries.iter().find(is) {
                Some(entry) if entry.name.is_bad() => {
                    let times = entry.name.tries.map_or(0, |(_, done)| done);
                    let why = format!(
                        "it was started {times} times and did not prove itself: it stopped, hung, or the power was cut"
                    );
                    self.records
                        .add(Happened::Failed, &one.version, &self.manifest.version, &why)?;
                    (one.failed, one.noted, one.log) = (Some(why), true, last_lines());
                    self.records.set_tried(Some(one))?;
                }
                // It waits for a restart, or for the loader's next try.
                Some(_) => {}
                // Its entry is the last that an install writes.
                None => {
                    let why = "the install was interrupted; install it again";
                    self.records
                        .add(Happened::NotInstalled, &one.version, &self.manifest.version, why)?;
                    self.records.set_tried(None)?;
                    tried = None;
                }
            }
        }
        let failed = tried.and_then(|tried| {
            Some(FailedVersion {
                why: tried.failed?,
                version: tried.version,
                log: tried.log,
            })
        });
        Ok(UpgradeVersions {
            running: running.map(shown),
            other: other.as_ref().map(shown),
            failed,
            was_reached,
            secure_boot: self.efivars.secure_boot(),
            problems,
        })
    }

    fn running(&self, entries: &[Entry]) -> Result<Entry, Error> {
        let entry = entry_of(entries, &self.hash).cloned();
        entry.ok_or_else(|| {
            Error::Wrong("the ESP has no boot entry of the running version; write the image again".into())
        })
    }

    /// Writes what is damaged of the boot loader on the ESP again, from the copy in the root.
    ///
    /// # Errors
    /// The ESP cannot be written.
    pub fn mend_loader(&self) -> Result<Vec<String>, Error> {
        match Path::new(loader::COPY).is_dir() {
            true => loader::mend(Path::new(loader::COPY), Path::new(ESP)),
            false => Ok(Vec::new()),
        }
    }

    /// Versions that had proved themselves, and could not be started since, are given up: the initrd stage noted them in a variable, and had this
    /// version started in their place.
    ///
    /// # Errors
    /// The ESP or the data partition cannot be written.
    pub fn give_up_stopped(&mut self) -> Result<(), Error> {
        let Some(noted) = self.efivars.text(CAIRN, FAILED) else {
            return Ok(());
        };
        // Before anything else: of what stays, a version that is installed later would be given up.
        if let Err(error) = self.efivars.remove(CAIRN, FAILED) {
            eprintln!("cairn-upgrade: cannot remove the EFI variable {FAILED}: {error}");
            return Ok(());
        }
        for (entry, why) in stopped(&noted, &self.entries()?, &self.hash) {
            mark(&mut self.esp, &entry, &entry.name.bad())?;
            let own = &self.manifest.version;
            self.records.add(Happened::Failed, &entry.name.version, own, &why)?;
        }
        Ok(())
    }

    /// The running version has proved itself: its entry is no longer counted. `away` is for how many seconds the services were away when it took
    /// over, where that is known; the history keeps it.
    ///
    /// # Errors
    /// The ESP cannot be written, or the name is taken.
    pub fn commit(&mut self, away: Option<u64>) -> Result<(), Error> {
        let entry = self.running(&self.entries()?)?;
        mark(&mut self.esp, &entry, &entry.name.good())?;
        let version = self.manifest.version.clone();
        let why = away.map_or_else(String::new, |seconds| format!("the services were away for {seconds} s"));
        self.records.add(Happened::Committed, &version, &version, &why)?;
        self.records.set_tried(None)
    }

    /// The running version is given up, if there is another that can be started.
    ///
    /// # Errors
    /// There is none, or the ESP cannot be written: then a restart would only lead here again.
    pub fn give_up(&mut self, why: &str, happened: Happened) -> Result<(), Error> {
        let entries = self.entries()?;
        let (entry, other) = (self.running(&entries)?, self.other(&entries)?);
        let Some(other) = other.filter(|other| !other.name.is_bad()) else {
            return Err(Error::Refused("there is no other version that could be started".into()));
        };
        mark(&mut self.esp, &entry, &entry.name.bad())?;
        let version = self.manifest.version.clone();
        let tried = crate::record::Tried {
            version,
            root_hash: self.hash.to_string(),
            from: other.name.version,
            reached: false,
            failed: Some(why.to_owned()),
            log: last_lines(),
            noted: true,
        };
        let noted = match happened {
            Happened::RolledBack => self.records.set_tried(None),
            _ => self.records.set_tried(Some(&tried)),
        };
        // The entry counts, not the note: a full data partition does not keep a version that failed.
        let noted = noted.and_then(|()| self.records.add(happened, &tried.version, &tried.version, why));
        if let Err(error) = noted {
            eprintln!("cairn-upgrade: {error}");
        }
        Ok(())
    }
}

/// The entries of a note of the initrd stage that the boot loader would take again for ever, each with its reason. One that is counted uses up its
/// tries; the running one has started after all.
fn stopped(noted: &str, entries: &[Entry], running: &RootHash) -> Vec<(Entry, String)> {
    let lines = noted.lines().filter_map(|line| line.split_once(' '));
    let entry = |id: &str| {
        let same = |entry: &&Entry| entry.name.good().file().to_lowercase() == id && entry.root != Some(*running);
        entries
            .iter()
            .filter(|entry| entry.name.tries.is_none())
            .find(same)
            .cloned()
    };
    lines
        .filter_map(|(id, why)| Some((entry(id)?, why.to_owned())))
        .collect()
}

/// The last lines of the log that bear on a version that is given up, as the manager leaves them. Without them only the reason is known.
fn last_lines() -> Vec<String> {
    let text = std::fs::read(LAST_LINES).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn shown(entry: &Entry) -> UpgradeVersion {
    UpgradeVersion {
        version: entry.name.version.clone(),
        entry: entry.file.clone(),
        tries_left: entry.name.tries.map(|(left, _)| left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_could_not_start_are_given_up_and_not_the_one_that_runs() {
        use crate::entries::EntryName;
        let entry = |file: &str, byte| Entry {
            name: EntryName::parse(file).unwrap(),
            file: file.into(),
            size: 1,
            root: Some(RootHash([byte; 32])),
        };
        let entries = [entry("Box_2.0.efi", 2), entry("Box_1.0.efi", 1)];
        let noted = "box_2.0.efi the root is damaged\nbox_1.0.efi once\nbox_0.9.efi long gone\nnonsense\n";
        let found = stopped(noted, &entries, &RootHash([1; 32]));
        assert_eq!(found, [(entries[0].clone(), "the root is damaged".to_owned())]);
        for counted in ["Box_2.0+0-1.efi", "Box_2.0+2-1.efi"] {
            assert_eq!(stopped(noted, &[entry(counted, 2)], &RootHash([1; 32])), []);
        }
    }

    #[test]
    fn only_units_that_keep_a_state_have_a_version_of_it() {
        let text = r#"{"name": "box", "version": "1", "upgrade": null, "units": {
            "db": {"unit": {"description": "x", "state": {"/var/lib/db": {"mode": "0700"}}}, "root": "/x", "state_version": "11.8"},
            "web": {"unit": {"description": "x", "state": {"/var/lib/web": {}}}, "root": "/y"},
            "job": {"unit": {"description": "x"}, "root": "/z"}}}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        let states: Vec<String> = manifest
            .states()
            .iter()
            .map(|(name, v)| format!("{name} {v}"))
            .collect();
        assert_eq!(states, ["db 11.8", "web 1"]);
    }
}

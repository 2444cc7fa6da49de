//! What an install will do, worked out and checked before anything is touched. No I/O.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use cairn_disk::Guid;
use cairn_disk::gpt::Table;
use cairn_disk::verity::{self, RootHash};
use cairn_unit::StateVersion;

use crate::entries::{Entry, EntryName, is_version, newer};
use crate::error::Error;
use crate::esp::entry_of;
use crate::index::{Index, Release};
use crate::slots::{Slots, label};

/// The longest label of a partition, in UTF-16 units.
const LABEL: usize = 36;
/// What vfat may need on the ESP beside the UKI's own bytes: clusters of the folder and rounding.
const ESP_SPARE: u64 = 256 << 10;

/// The appliance as it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// The version that runs; `None` in recovery, where none does.
    pub version: Option<String>,
    /// Debian's name of the architecture.
    pub arch: String,
    /// The version of the state that each unit has, by unit.
    pub states: BTreeMap<String, StateVersion>,
    /// The partition table.
    pub table: Table,
    /// The slots.
    pub slots: Slots,
    /// The boot entries.
    pub entries: Vec<Entry>,
    /// The free bytes of the ESP.
    pub esp_free: u64,
    /// Whether firmware starts only what is signed.
    pub secure_boot: bool,
}

/// What an install will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version that it brings.
    pub version: String,
    /// The root hash of it.
    pub hash: RootHash,
    /// The salt of its hash tree.
    pub salt: Vec<u8>,
    /// The UUID of its hash tree.
    pub uuid: Guid,
    /// The slots.
    pub slots: Slots,
    /// Boot entries that are removed first: those of what the free slot holds.
    pub remove: Vec<String>,
    /// The partition table at the end.
    pub table: Table,
    /// The new boot entry.
    pub entry: EntryName,
    /// Whether that has to be signed.
    pub signed: bool,
    /// The running version's UKI, if one runs, from which the new one takes what is the same.
    pub own_uki: Option<(String, u64)>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.remove {
            writeln!(f, "remove the boot entry {file}")?;
        }
        let (root, verity) = (self.slots.free.root.number, self.slots.free.verity.number);
        writeln!(
            f,
            "write version {} to partitions {root} (root) and {verity} (verity)",
            self.version
        )?;
        writeln!(f, "read them back and compare with root hash {}", self.hash)?;
        writeln!(f, "add the boot entry {}", self.entry.file())
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Whether a release fits this appliance at all, whatever else is going on: it is for it, newer, can read its data, and its slots hold it.
///
/// # Errors
/// [`Error::Refused`] says what does not fit.
pub fn fits(found: &Found, release: &Release) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Refused(why));
    let version = &release.version;
    if release.name != found.name {
        return refuse(format!(
            "this is a release of `{}`, and this appliance is `{}`",
            release.name, found.name
        ));
    }
    if release.arch != found.arch {
        return refuse(format!(
            "this release is for {}, and this machine is {}",
            release.arch, found.arch
        ));
    }
    if !is_version(version) {
        return refuse(format!("`{version}` is not a version"));
    }
    if let Some(own) = &found.version {
        match newer(version, own) {
            Ordering::Greater => {}
            Ordering::Equal => return refuse(format!("version {own} runs already")),
            Ordering::Less => {
                return refuse(format!(
                    "version {version} is older than {own}, which runs; `cairn upgrade rollback` starts the version of before while it is there"
                ));
            }
        }
        if let Some(minimum) = release
            .minimum
            .as_ref()
            .filter(|least| newer(own, least) == Ordering::Less)
        {
            return refuse(format!(
                "version {version} can be reached from {minimum} on, and {own} runs; install {minimum} first"
            ));
        }
    }
    if let Some((unit, has, reads)) = unreadable(&found.states, &release.states) {
        return refuse(format!(
            "version {version} cannot read the data of unit {unit}: that has version {has}, and it reads {reads}"
        ));
    }
    let (root, tree) = (release.root_size, verity::hash_device_size(release.root_size));
    for (what, needs, has) in [
        ("root", root, found.slots.free.root.length),
        ("hash tree", tree, found.slots.free.verity.length),
    ] {
        if needs > has {
            return refuse(format!(
                "the {what} of version {version} has {} MiB, and the slot {}; this disk has to be written anew with a larger slot",
                mib(needs),
                mib(has)
            ));
        }
    }
    if ["root", "verity"]
        .iter()
        .any(|what| label(what, version).encode_utf16().count() > LABEL)
    {
        return refuse(format!("the version `{version}` is too long for a partition's label"));
    }
    Ok(())
}

/// Works out the plan.
///
/// # Errors
/// [`Error::Refused`] says what does not fit.
pub fn plan(found: &Found, index: &Index) -> Result<Plan, Error> {
    let refuse = |why: String| Err(Error::Refused(why));
    let release = &index.release;
    fits(found, release)?;
    let version = &release.version;
    let hash = index.root_hash()?;
    let kept = found.table.partitions.get(&found.slots.kept.root.number);
    let in_kept = |hash: &RootHash| kept.is_some_and(|partition| partition.id == hash.partuuid_root());
    if in_kept(&hash) {
        return refuse(match found.slots.running {
            Some(_) => "the release has the root that runs already".into(),
            None => format!(
                "version {version} lies in the other slot, which is kept; try that again, or install into that slot"
            ),
        });
    }
    let running = found.slots.running.map(|hash| entry_of(&found.entries, &hash));
    match running {
        Some(None) => {
            return refuse(
                "the ESP has no boot entry of the running version: a failed upgrade would leave nothing to start"
                    .into(),
            );
        }
        Some(Some(running)) if running.name.tries.is_some() => {
            return refuse(format!(
                "version {} has not proved itself yet, and the other slot is what would be started if it fails; wait until it has",
                running.name.version
            ));
        }
        _ => {}
    }
    let entry = EntryName::fresh(&release.name, version);
    let ours = |e: &&Entry| e.name.name == found.name;
    let (kept, stale): (Vec<&Entry>, Vec<&Entry>) = found
        .entries
        .iter()
        .filter(ours)
        .partition(|e| e.root.as_ref().is_some_and(in_kept));
    // The boot loader knows entries by name and version alone.
    if kept.iter().any(|e| e.name.version == *version) {
        return refuse(format!(
            "the slot that is kept holds another build of version {version}; install into that slot, or a version with another number"
        ));
    }
    let room = found.esp_free + stale.iter().map(|e| e.size).sum::<u64>();
    let needs = release.uki_size.saturating_add(ESP_SPARE);
    if needs > room {
        return refuse(format!(
            "the boot entry of version {version} needs {} MiB on the ESP, and there are {}; remove what is not Cairn's from it",
            mib(needs),
            room >> 20
        ));
    }
    let (salt, uuid) = index.tree()?;
    if salt.len() > verity::MAX_SALT {
        return Err(Error::Index("salt"));
    }
    Ok(Plan {
        version: version.clone(),
        hash,
        salt,
        uuid,
        slots: found.slots.clone(),
        remove: stale.iter().map(|e| e.file.clone()).collect(),
        table: found.slots.filled(&found.table, &hash, version),
        entry,
        signed: found.secure_boot,
        own_uki: running.flatten().map(|entry| (entry.file.clone(), entry.size)),
    })
}

/// The first unit whose state is of a later version than the release reads, with both. A unit that the release does not have is nobody's trouble.
fn unreadable(
    states: &BTreeMap<String, StateVersion>,
    release: &BTreeMap<String, StateVersion>,
) -> Option<(String, StateVersion, StateVersion)> {
    let read = |unit: &String| match release.is_empty() {
        true => Some(StateVersion::default()),
        false => release.get(unit).cloned(),
    };
    let mut compared = states.iter().filter_map(|(unit, has)| Some((unit, has, read(unit)?)));
    let found = compared.find(|(_, has, reads)| *has > reads);
    found.map(|(unit, has, reads)| (unit.clone(), has.clone(), reads))
}

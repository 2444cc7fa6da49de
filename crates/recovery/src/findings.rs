//! What recovery found on the machine, as plain values, and what that means in sentences. No I/O.

use cairn_upgrade::entries::EntryName;
use cairn_upgrade::record::{Happened, Line, Tried};

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The appliance's name.
    pub name: String,
    /// What keeps the disk, or the EFI system partition on it, from being used.
    pub trouble: Vec<String>,
    /// The two slots; none if the disk cannot be read.
    pub slots: Vec<Slot>,
    /// Boot entries of the appliance that lead to neither slot, by file.
    pub astray: Vec<String>,
    /// Boot entries that stopped before their root was there, and why: the entry's name without its tries, and a sentence.
    pub stopped: Vec<(String, String)>,
    /// What is noted on the data partition.
    pub data: Data,
    /// What can be read beside the appliance's disk.
    pub media: Vec<Medium>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The label of its root partition.
    pub label: String,
    /// The boot entry that leads to it.
    pub entry: Option<EntryName>,
    /// The file of that entry.
    pub file: String,
    /// What is known of its content.
    pub content: Content,
}

/// What is known of a slot's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing was ever written there.
    Empty,
    /// Its hash tree can be read; the root was not compared with it.
    Readable,
    /// Every block of the root is what its entry stands for.
    Whole,
    /// It is not.
    Damaged(String),
}

/// The data partition, mounted for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// It cannot be read, and why.
    Closed(String),
    /// It waits for its file system: the next start makes it.
    New,
    /// It can be read.
    Open {
        /// The version that was tried last, with the reason for which it was given up.
        tried: Option<Box<Tried>>,
        /// The history of versions, the oldest first.
        history: Vec<Line>,
    },
}

impl Default for Data {
    fn default() -> Self {
        Self::Closed("the appliance's disk was not found".into())
    }
}

/// A file system beside the appliance's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// The name of its device, as `sdb1`.
    pub device: String,
    /// How the kernel mounts it.
    pub kind: String,
    /// The bundles in its top folder.
    pub bundles: Vec<String>,
}

/// How a slot stands when something is to be written or started. The order is that in which slots are taken for a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No entry leads there.
    Free,
    /// It cannot start.
    Broken,
    /// It was given up.
    GivenUp,
    /// It could start.
    Startable,
}

impl Findings {
    /// How slot number `at` stands.
    pub fn standing(&self, at: usize) -> Standing {
        let Some(slot) = self.slots.get(at) else {
            return Standing::Free;
        };
        let Some(entry) = &slot.entry else {
            return Standing::Free;
        };
        if matches!(slot.content, Content::Damaged(_) | Content::Empty) || self.stopped(entry).is_some() {
            return Standing::Broken;
        }
        match entry.is_bad() {
            true => Standing::GivenUp,
            false => Standing::Startable,
        }
    }

    /// Why an entry stopped before its root was there, if it did.
    pub fn stopped(&self, entry: &EntryName) -> Option<&str> {
        let id = id(entry);
        let found = self.stopped.iter().find(|(stopped, _)| *stopped == id);
        found.map(|(_, why)| why.as_str())
    }

    /// Why a version was given up, as far as that is noted.
    pub fn given_up(&self, version: &str) -> Option<&str> {
        let Data::Open { tried, history } = &self.data else {
            return None;
        };
        let tried = tried.as_ref().filter(|tried| tried.version == version);
        let noted = history
            .iter()
            .rfind(|line| line.version == version && matches!(line.what, Happened::Failed | Happened::RolledBack));
        tried
            .and_then(|tried| tried.failed.as_deref())
            .or_else(|| noted.map(|line| line.why.as_str()))
            .filter(|why| !why.is_empty())
    }

    /// Why the machine is here, in sentences.
    pub fn reasons(&self) -> Vec<String> {
        let mut said = self.trouble.clone();
        for (at, slot) in self.slots.iter().enumerate() {
            said.push(self.slot_sentence(at, slot));
        }
        for file in &self.astray {
            said.push(format!("The boot entry {file} leads to no slot of this disk."));
        }
        let in_slot = |stopped: &str| {
            self.slots
                .iter()
                .filter_map(|s| s.entry.as_ref())
                .any(|entry| id(entry) == stopped)
        };
        for (entry, why) in self.stopped.iter().filter(|(stopped, _)| !in_slot(stopped)) {
            said.push(format!("{entry} could not be started: {why}."));
        }
        said.push(match &self.data {
            Data::Closed(why) => format!("The data partition cannot be read: {why}."),
            Data::New => "The data partition is empty; the next start makes its file system.".into(),
            Data::Open { .. } => "The data partition can be read.".into(),
        });
        if self.trouble.is_empty() && (0..self.slots.len()).any(|at| self.standing(at) == Standing::Startable) {
            said.push(
                "A version could be started: recovery was chosen, or the boot loader did not see that version.".into(),
            );
        }
        said
    }

    fn slot_sentence(&self, at: usize, slot: &Slot) -> String {
        let letter = letter(at);
        let Some(entry) = &slot.entry else {
            return match slot.content {
                Content::Empty => format!("Slot {letter} is empty."),
                _ => format!("Slot {letter} ({}) has no boot entry.", slot.label),
            };
        };
        let version = &entry.version;
        let how = match entry.tries {
            None => "it had proved itself".to_owned(),
            Some((0, done)) => format!("given up, tried {}", times(done)),
            Some((left, done)) => format!("tried {}, {left} left", times(done)),
        };
        let mut text = format!("Slot {letter} holds version {version}: {how}.");
        if let Some(why) = self.given_up(version).filter(|_| entry.is_bad()) {
            text += &format!(" Why: {why}.");
        }
        if let Some(why) = self.stopped(entry) {
            text += &format!(" It could not be started: {why}.");
        }
        text += &match &slot.content {
            Content::Damaged(why) => format!(" It is damaged: {why}."),
            Content::Whole => " All of it was checked and is whole.".into(),
            Content::Empty => " The slot is empty.".into(),
            Content::Readable => String::new(),
        };
        text
    }
}

/// The name by which systemd-boot knows an entry: its file's in small letters, without the tries.
pub fn id(entry: &EntryName) -> String {
    entry.good().file().to_lowercase()
}

/// A slot's letter.
pub fn letter(at: usize) -> char {
    if at == 0 { 'A' } else { 'B' }
}

fn times(number: u32) -> String {
    match number {
        1 => "once".into(),
        2 => "twice".into(),
        number => format!("{number} times"),
    }
}

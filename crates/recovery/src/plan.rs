//! What can be done, and what doing it means: plain values that are shown before they are carried out. No I/O.

use std::fmt;

use cairn_upgrade::entries::{EntryName, newer};

use crate::findings::{Content, Data, Findings, Medium, Slot, Standing, id, letter};

/// A choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Start the version in this slot, with three tries.
    Try(usize),
    /// Install a bundle that lies on a medium.
    Install {
        /// The medium.
        medium: Medium,
        /// The bundle's file on it.
        file: String,
    },
    /// Show the last lines of the version that was given up.
    Lines,
    /// Compare all of a slot with what it should be.
    Check(usize),
    /// Write logs and records to a medium.
    Export(Medium),
    /// Remove all data.
    Reset,
    /// Restart.
    Restart,
    /// Switch off.
    PowerOff,
}

/// What a plan wants before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirm {
    /// Nothing: it changes nothing.
    Nothing,
    /// A `y`.
    Yes,
    /// The appliance's name.
    Name(String),
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Show these lines.
    Show(Vec<String>),
    /// Compare a slot with its hash tree.
    Check(usize),
    /// Give a boot entry another state.
    Mark {
        /// Its file.
        file: String,
        /// How it is called then.
        to: EntryName,
    },
    /// Forget why entries stopped: they are to be tried again.
    Forget,
    /// Write a version into a slot.
    Install {
        /// The medium with the bundle.
        medium: Medium,
        /// The bundle's file on it.
        file: String,
        /// Its version.
        version: String,
        /// The slot.
        slot: usize,
    },
    /// Have the boot loader start this entry next, once.
    Next(String),
    /// Write logs and records to a medium.
    Export(Medium),
    /// Let the next start make the data partition anew.
    Reset,
    /// Restart.
    Restart,
    /// Switch off.
    PowerOff,
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What is to be thought of before.
    pub warnings: Vec<String>,
    /// What it wants before.
    pub confirm: Confirm,
}

impl Plan {
    fn of(steps: Vec<Step>, confirm: Confirm) -> Self {
        Self {
            steps,
            warnings: Vec::new(),
            confirm,
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Try(at) => write!(f, "Try the version in slot {} again", letter(*at)),
            Self::Install { medium, file } => write!(f, "Install {file} from {}", medium.device),
            Self::Lines => f.write_str("Show the last lines of the version that was given up"),
            Self::Check(at) => write!(f, "Check all of slot {} (takes a while)", letter(*at)),
            Self::Export(medium) => write!(f, "Write the logs to {}", medium.device),
            Self::Reset => f.write_str("Factory reset: remove all data, keep the installed versions"),
            Self::Restart => f.write_str("Restart"),
            Self::PowerOff => f.write_str("Switch off"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Show(_) => f.write_str("show them"),
            Self::Check(at) => write!(f, "read all of slot {} and compare it", letter(*at)),
            Self::Mark { to, .. } if to.is_bad() => {
                write!(f, "give up version {}, which cannot be started", to.version)
            }
            Self::Mark { to, .. } => {
                let tries = to.tries.map_or(0, |(left, _)| left);
                write!(f, "give version {} {tries} tries", to.version)
            }
            Self::Forget => f.write_str("forget what could not be started"),
            Self::Install {
                file, version, slot, ..
            } => {
                write!(f, "write version {version} from {file} into slot {}", letter(*slot))
            }
            Self::Next(id) => write!(f, "start {id} next"),
            Self::Export(medium) => write!(f, "write logs and records to {}", medium.device),
            Self::Reset => f.write_str("remove all data of all units at the next start; there is no way back"),
            Self::Restart => f.write_str("restart"),
            Self::PowerOff => f.write_str("switch off"),
        }
    }
}

/// What can be done in this state.
pub fn offers(findings: &Findings) -> Vec<Offer> {
    let mut offers = Vec::new();
    let slots = findings.slots.iter().enumerate();
    for (at, slot) in slots.clone() {
        let damaged = matches!(slot.content, Content::Damaged(_) | Content::Empty);
        if slot.entry.is_some() && !damaged {
            offers.push(Offer::Try(at));
        }
    }
    if findings.slots.len() == 2 {
        for medium in &findings.media {
            offers.extend(medium.bundles.iter().map(|file| Offer::Install {
                medium: medium.clone(),
                file: file.clone(),
            }));
        }
    }
    if lines(findings).is_some() {
        offers.push(Offer::Lines);
    }
    offers.extend(
        slots
            .filter(|(_, slot)| slot.entry.is_some())
            .map(|(at, _)| Offer::Check(at)),
    );
    if matches!(findings.data, Data::Open { .. }) {
        offers.extend(findings.media.iter().cloned().map(Offer::Export));
    }
    if !findings.slots.is_empty() && findings.data != Data::New {
        offers.push(Offer::Reset);
    }
    offers.extend([Offer::Restart, Offer::PowerOff]);
    offers
}

/// The last lines of a version that was given up.
fn lines(findings: &Findings) -> Option<&Vec<String>> {
    match &findings.data {
        Data::Open { tried: Some(tried), .. } if !tried.log.is_empty() => Some(&tried.log),
        _ => None,
    }
}

/// The slot that a new version is written to: one that cannot start before one that was given up, and one that could start only if both
/// could. Of two alike, that with the older version.
pub fn free_slot(findings: &Findings) -> Option<usize> {
    let version = |at: &usize| findings.slots[*at].entry.as_ref().map_or("0", |entry| &entry.version);
    let mut all: Vec<usize> = (0..findings.slots.len()).collect();
    all.sort_by(|a, b| {
        let standing = findings.standing(*a).cmp(&findings.standing(*b));
        standing.then_with(|| newer(version(a), version(b)))
    });
    all.first().copied()
}

/// What choosing this means. `bundled` is the version that the bundle of an install was proved to hold.
///
/// # Errors
/// It cannot be done, in a sentence.
pub fn plan(offer: &Offer, findings: &Findings, bundled: Option<&str>) -> Result<Plan, String> {
    Ok(match offer {
        Offer::Try(at) => {
            let entry = entry(findings, *at)?;
            let fresh = EntryName::fresh(&entry.name, &entry.version);
            let mut steps = give_up_broken(findings, *at);
            steps.push(Step::Mark {
                file: findings.slots[*at].file.clone(),
                to: fresh.clone(),
            });
            steps.extend([Step::Forget, Step::Next(id(&fresh)), Step::Restart]);
            let mut plan = Plan::of(steps, Confirm::Yes);
            if let Some(why) = findings.stopped(entry) {
                plan.warnings
                    .push(format!("It could not be started the last time: {why}."));
            }
            plan
        }
        Offer::Install { medium, file } => {
            let slot = free_slot(findings).ok_or("the disk has no slots to install into")?;
            let version = bundled.ok_or("it is not known which version the bundle holds")?;
            let mut steps = give_up_broken(findings, slot);
            steps.push(Step::Install {
                medium: medium.clone(),
                file: file.clone(),
                version: version.to_owned(),
                slot,
            });
            let fresh = EntryName::fresh(&findings.name, version);
            steps.extend([Step::Forget, Step::Next(id(&fresh)), Step::Restart]);
            let mut plan = Plan::of(steps, Confirm::Yes);
            if let (Standing::Startable, Ok(entry)) = (findings.standing(slot), entry(findings, slot)) {
                plan.warnings.push(format!(
                    "Version {} in slot {} could still be started, and is overwritten.",
                    entry.version,
                    letter(slot)
                ));
            }
            if let Data::Closed(_) = findings.data {
                plan.warnings.push(
                    "The data partition cannot be read: whether this version can read its data is not known.".into(),
                );
            }
            plan
        }
        Offer::Lines => {
            let lines = lines(findings).ok_or("no lines are noted")?;
            Plan::of(vec![Step::Show(lines.clone())], Confirm::Nothing)
        }
        Offer::Check(at) => Plan::of(vec![Step::Check(*at)], Confirm::Nothing),
        Offer::Export(medium) => Plan::of(vec![Step::Export(medium.clone())], Confirm::Yes),
        Offer::Reset => Plan::of(vec![Step::Reset], Confirm::Name(findings.name.clone())),
        Offer::Restart => Plan::of(vec![Step::Restart], Confirm::Yes),
        Offer::PowerOff => Plan::of(vec![Step::PowerOff], Confirm::Yes),
    })
}

/// Versions that the boot loader would take again although they cannot start are given up, but for the one in slot `but`.
fn give_up_broken(findings: &Findings, but: usize) -> Vec<Step> {
    let others = findings.slots.iter().enumerate().filter(|(at, _)| *at != but);
    let broken = others.filter(|(at, _)| findings.standing(*at) == Standing::Broken);
    let mark = |slot: &Slot| {
        let entry = slot.entry.as_ref().filter(|entry| !entry.is_bad())?;
        Some(Step::Mark {
            file: slot.file.clone(),
            to: entry.bad(),
        })
    };
    broken.filter_map(|(_, slot)| mark(slot)).collect()
}

fn entry(findings: &Findings, at: usize) -> Result<&EntryName, String> {
    let slot = findings.slots.get(at).and_then(|slot| slot.entry.as_ref());
    slot.ok_or_else(|| format!("no boot entry leads to slot {}", letter(at)))
}

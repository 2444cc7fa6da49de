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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{findings, medium};

    fn steps(offer: &Offer, findings: &Findings) -> Vec<String> {
        let plan = plan(offer, findings, Some("3.0.0")).unwrap();
        plan.steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_version_that_was_given_up_can_be_tried_three_times_more() {
        let findings = findings("box_1.0.0+0-3.efi", "box_2.0.0+0-3.efi");
        assert_eq!(
            steps(&Offer::Try(0), &findings),
            [
                "give version 1.0.0 3 tries",
                "forget what could not be started",
                "start box_1.0.0.efi next",
                "restart"
            ]
        );
        assert_eq!(plan(&Offer::Try(0), &findings, None).unwrap().confirm, Confirm::Yes);
    }

    #[test]
    fn a_broken_version_beside_the_one_that_is_tried_is_given_up() {
        let mut findings = findings("box_1.0.0+0-3.efi", "box_2.0.0.efi");
        findings.slots[1].content = Content::Damaged("a block differs".into());
        assert_eq!(
            steps(&Offer::Try(0), &findings)[0],
            "give up version 2.0.0, which cannot be started"
        );
        // A damaged version is not offered for another try, but it can be checked.
        let offers = offers(&findings);
        assert!(
            !offers.contains(&Offer::Try(1)) && offers.contains(&Offer::Check(1)),
            "{offers:?}"
        );
        findings.slots[1].content = Content::Readable;
        findings.stopped = vec![("box_2.0.0.efi".into(), "no hash tree".into())];
        assert_eq!(
            steps(&Offer::Try(0), &findings)[0],
            "give up version 2.0.0, which cannot be started"
        );
        let plan = plan(&Offer::Try(1), &findings, None).unwrap();
        assert_eq!(plan.warnings, ["It could not be started the last time: no hash tree."]);
    }

    #[test]
    fn a_new_version_never_takes_a_slot_that_could_start_if_the_other_cannot() {
        let cases = [
            // An empty slot, then a broken one, then one that was given up.
            (("box_1.0.0.efi", ""), 1),
            (("box_1.0.0+0-3.efi", "box_2.0.0.efi"), 0),
            (("box_2.0.0+0-3.efi", "box_1.0.0+0-3.efi"), 1),
            (("box_1.0.0.efi", "box_2.0.0+2-1.efi"), 0),
        ];
        for ((first, second), slot) in cases {
            let findings = findings(first, second);
            assert_eq!(free_slot(&findings), Some(slot), "{first} {second}");
        }
        let mut findings = findings("box_2.0.0+0-3.efi", "box_1.0.0.efi");
        findings.slots[1].content = Content::Damaged("x".into());
        assert_eq!(free_slot(&findings), Some(1));
        assert_eq!(free_slot(&Findings::default()), None);
    }

    #[test]
    fn an_install_over_a_version_that_could_start_says_so() {
        let medium = medium("new.cairn");
        let offer = Offer::Install {
            medium: medium.clone(),
            file: "new.cairn".into(),
        };
        let mut findings = findings("box_1.0.0.efi", "box_2.0.0.efi");
        findings.media = vec![medium];
        assert!(offers(&findings).contains(&offer));
        let bundled = plan(&offer, &findings, Some("3.0.0")).unwrap();
        assert_eq!(
            bundled.warnings,
            ["Version 1.0.0 in slot A could still be started, and is overwritten."]
        );
        assert_eq!(
            steps(&offer, &findings),
            [
                "write version 3.0.0 from new.cairn into slot A",
                "forget what could not be started",
                "start box_3.0.0.efi next",
                "restart"
            ]
        );
        findings.slots[0].entry = findings.slots[0].entry.as_ref().map(EntryName::bad);
        assert_eq!(plan(&offer, &findings, Some("3.0.0")).unwrap().warnings, [""; 0]);
        findings.data = Data::Closed("it is damaged".into());
        let warnings = plan(&offer, &findings, Some("3.0.0")).unwrap().warnings;
        assert!(warnings[0].contains("whether this version can read its data is not known"));
        assert!(plan(&offer, &findings, None).is_err(), "a bundle that was not proved");
    }

    #[test]
    fn a_reset_wants_the_appliances_name_and_nothing_is_offered_twice() {
        let mut findings = findings("box_1.0.0+0-3.efi", "");
        let reset = plan(&Offer::Reset, &findings, None).unwrap();
        assert_eq!(reset.confirm, Confirm::Name("box".into()));
        findings.data = Data::New;
        let offers = offers(&findings);
        assert!(!offers.contains(&Offer::Reset), "it is reset already");
        assert_eq!(
            offers,
            [Offer::Try(0), Offer::Check(0), Offer::Restart, Offer::PowerOff]
        );
    }

    #[test]
    fn without_a_disk_only_restarting_is_left() {
        assert_eq!(offers(&Findings::default()), [Offer::Restart, Offer::PowerOff]);
    }
}

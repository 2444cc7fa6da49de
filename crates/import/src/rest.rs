//! The directives that no other module has looked at: each gets its fate from the table.

use crate::Level::{Behaviour, Hint};
use crate::job::{Job, Part, foreign};
use crate::table::{COVERED, NOTES, PREFIXES, SANDBOX};
use crate::values::boolean;

/// Gives every directive that has none yet its fate.
pub(crate) fn rest(job: &mut Job) {
    for id in 0..job.entries.len() {
        if job.open(id) {
            one(job, id);
        }
    }
}

fn one(job: &mut Job, id: usize) {
    let entry = &job.entries[id];
    let (key, value, part) = (entry.key.clone(), entry.value.clone(), entry.part());
    if foreign(&entry.section) || key.starts_with("X-") || value.is_empty() {
        return job.covered(id);
    }
    if part != Part::Service && (entry.section == "Unit" || entry.section == "Install") {
        return beside(job, id, &key, &value);
    }
    if SANDBOX.contains(&key.as_str()) {
        // `auto` leaves every device to the service; the others loosen what is refused in any unit.
        let loose = ["auto", "shared", "all", "default", "inherit"].contains(&value.as_str());
        return match loose || boolean(&value) == Some(false) {
            true => job.hint(id, "Cairn holds every unit back in this way: it cannot be switched off"),
            false => job.covered(id),
        };
    }
    if COVERED.contains(&key.as_str()) {
        return job.covered(id);
    }
    let exact = NOTES.iter().find(|(name, ..)| *name == key);
    let (level, text) = match exact.or_else(|| PREFIXES.iter().find(|(prefix, ..)| key.starts_with(prefix))) {
        Some((_, level, text)) => (*level, *text),
        None if part == Part::Socket => (
            Hint,
            "an option of a socket, which the service that listens itself sets itself",
        ),
        None if part == Part::Path => (Hint, "an option of the path, which is not carried over"),
        None if part == Part::Timer => (Hint, "an option of the timer that a unit does not have"),
        None => (Behaviour, "a unit has nothing of this name: look at what it is for"),
    };
    job.note(id, level, text);
}

/// `[Unit]` and `[Install]` of a timer or socket: those of the service count.
fn beside(job: &mut Job, id: usize, key: &str, value: &str) {
    match key {
        "Description"
        | "Documentation"
        | "DefaultDependencies"
        | "WantedBy"
        | "Before"
        | "After"
        | "Wants"
        | "Requires"
        | "PartOf" => job.covered(id),
        "Conflicts" if value == "shutdown.target" => job.covered(id),
        _ => job.hint(
            id,
            "it is part of the service's unit here, and this is not carried over",
        ),
    }
}

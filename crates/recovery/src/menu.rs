//! The console: what was found, a numbered list of choices, and a question before anything is changed. Lines of at most 80 columns.

use std::io::{self, BufRead, Write};
use std::sync::{Mutex, PoisonError};

use crate::findings::Findings;
use crate::plan::{Confirm, Offer, Plan, offers};

/// The widest line.
const WIDTH: usize = 79;

/// The machine as the console sees it.
pub trait World {
    /// Looks at everything.
    fn look(&mut self) -> Findings;
    /// Says what a choice means.
    ///
    /// # Errors
    /// It cannot be done, in a sentence.
    fn prepare(&mut self, offer: &Offer, findings: &Findings) -> Result<Plan, String>;
    /// Carries a plan out; `tell` is told how far it is. Returns lines to be shown.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    fn apply(&mut self, plan: &Plan, findings: &Findings, tell: &mut dyn FnMut(&str)) -> Result<Vec<String>, String>;
}

/// Serves one console until its input ends.
///
/// # Errors
/// The console's.
pub fn run(world: &Mutex<impl World>, mut from: impl BufRead, mut to: impl Write) -> io::Result<()> {
    let alone = || world.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let findings = alone().look();
        let choices = offers(&findings);
        to.write_all(screen(&findings, &choices).as_bytes())?;
        let offer = loop {
            write!(to, "Your choice: ")?;
            to.flush()?;
            let Some(line) = read(&mut from)? else { return Ok(()) };
            if line.is_empty() {
                break None;
            }
            let number = line.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            match number.and_then(|at| choices.get(at)) {
                Some(offer) => break Some(offer),
                None => writeln!(
                    to,
                    "There is no choice {line:?}; type a number from 1 to {}.",
                    choices.len()
                )?,
            }
        };
        let Some(offer) = offer else { continue };
        writeln!(to)?;
        let plan = match alone().prepare(offer, &findings) {
            Ok(plan) => plan,
            Err(why) => {
                to.write_all(wrapped(&format!("Nothing was changed: {why}."), "", "").as_bytes())?;
                continue;
            }
        };
        if !confirmed(&plan, &mut from, &mut to)? {
            writeln!(to, "Nothing was changed.")?;
            continue;
        }
        let applied = {
            let mut tell = |text: &str| {
                let _ = writeln!(to, "{text}");
                let _ = to.flush();
            };
            alone().apply(&plan, &findings, &mut tell)
        };
        match applied {
            Ok(lines) => {
                for line in lines {
                    to.write_all(wrapped(&line, "", "").as_bytes())?;
                }
            }
            Err(why) => to.write_all(wrapped(&format!("It failed: {why}."), "", "").as_bytes())?,
        }
    }
}

/// A line without its end; `None` at the end of the input.
fn read(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    match from.read_until(b'\n', &mut bytes)? {
        0 => Ok(None),
        _ => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
    }
}

/// Shows a plan and asks once more.
fn confirmed(plan: &Plan, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<bool> {
    if plan.confirm == Confirm::Nothing {
        return Ok(true);
    }
    let mut text = String::from("This will be done:\n");
    for step in &plan.steps {
        text += &wrapped(&step.to_string(), "  - ", "    ");
    }
    for warning in &plan.warnings {
        text += &wrapped(warning, "", "");
    }
    to.write_all(text.as_bytes())?;
    match &plan.confirm {
        Confirm::Name(name) => write!(to, "Type the appliance's name, {name}, to go on: ")?,
        _ => write!(to, "Type y to go on: ")?,
    }
    to.flush()?;
    let said = read(from)?.unwrap_or_default();
    Ok(match &plan.confirm {
        Confirm::Name(name) => said == *name,
        _ => said == "y" || said == "Y",
    })
}

/// All that is shown before the question.
pub fn screen(findings: &Findings, choices: &[Offer]) -> String {
    let mut text = format!("\nRecovery of {}\n\n", findings.name);
    text += &wrapped(
        "No version of this appliance was started. This is how it stands:",
        "",
        "",
    );
    text += "\n";
    for reason in findings.reasons() {
        text += &wrapped(&reason, "  ", "    ");
    }
    text += "\n";
    for (number, offer) in (1..).zip(choices) {
        let start = format!("{number:>3}  ");
        text += &wrapped(&described(offer, findings), &start, "     ");
    }
    text + "\nType a number, or Enter to look again.\n"
}

/// A choice with what is known of its slot.
fn described(offer: &Offer, findings: &Findings) -> String {
    let version = |at: &usize| {
        findings
            .slots
            .get(*at)?
            .entry
            .as_ref()
            .map(|entry| entry.version.clone())
    };
    match offer {
        Offer::Try(at) => version(at).map_or_else(|| offer.to_string(), |v| format!("Try version {v} again")),
        Offer::Check(at) => version(at).map_or_else(
            || offer.to_string(),
            |v| format!("Check all of version {v} (takes a while)"),
        ),
        other => other.to_string(),
    }
}

/// Breaks a text into lines. Control characters, which could come from a disk, are left out.
pub fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut out = first.to_owned();
    let mut width = first.chars().count();
    let mut empty = true;
    for word in text.split_whitespace() {
        let mut word = word;
        let mut length = word.chars().count();
        if !empty && width + 1 + length > WIDTH {
            out.push('\n');
            out += rest;
            (width, empty) = (rest.chars().count(), true);
        }
        if !empty {
            out.push(' ');
            width += 1;
        }
        // A word that is longer than a line is cut.
        while width + length > WIDTH {
            let at = word.char_indices().nth(WIDTH - width).map_or(word.len(), |(at, _)| at);
            out += &word[..at];
            out.push('\n');
            out += rest;
            word = &word[at..];
            (width, length) = (rest.chars().count(), word.chars().count());
        }
        out += word;
        (width, empty) = (width + length, false);
    }
    out + "\n"
}

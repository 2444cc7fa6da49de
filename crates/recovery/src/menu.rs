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
    /// Carries a plan out; `tell` is told lines as they come, since the last step may be the machine's end.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    fn apply(&mut self, plan: &Plan, findings: &Findings, tell: &mut dyn FnMut(&str)) -> Result<(), String>;
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
                let _ = to.write_all(wrapped(text, "", "").as_bytes());
                let _ = to.flush();
            };
            alone().apply(&plan, &findings, &mut tell)
        };
        if let Err(why) = applied {
            to.write_all(wrapped(&format!("It failed: {why}."), "", "").as_bytes())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Step, plan};
    use crate::testing::{findings, medium};

    /// A machine on paper, which notes what it was told to do.
    #[derive(Default)]
    struct Paper {
        findings: Findings,
        applied: Vec<Step>,
        looked: usize,
    }

    impl World for Paper {
        fn look(&mut self) -> Findings {
            self.looked += 1;
            self.findings.clone()
        }
        fn prepare(&mut self, offer: &Offer, findings: &Findings) -> Result<Plan, String> {
            plan(offer, findings, None)
        }
        fn apply(&mut self, plan: &Plan, _: &Findings, tell: &mut dyn FnMut(&str)) -> Result<(), String> {
            self.applied.extend(plan.steps.clone());
            tell("Done.");
            Ok(())
        }
    }

    fn session(findings: Findings, typed: &str) -> (Paper, String) {
        let world = Mutex::new(Paper {
            findings,
            ..Paper::default()
        });
        let mut out = Vec::new();
        run(&world, typed.as_bytes(), &mut out).unwrap();
        (world.into_inner().unwrap(), String::from_utf8(out).unwrap())
    }

    fn given_up() -> Findings {
        findings("box_1.0.0+0-3.efi", "box_2.0.0+0-3.efi")
    }

    #[test]
    fn nothing_is_done_that_was_not_confirmed() {
        for (typed, done) in [("1\ny\n", true), ("1\nn\n", false), ("1\n\n", false), ("1\n", false)] {
            let (paper, out) = session(given_up(), typed);
            assert_eq!(!paper.applied.is_empty(), done, "{typed:?}");
            assert!(out.contains("  - give version 1.0.0 3 tries\n"), "{out}");
            assert_eq!(
                (out.contains("Done."), out.contains("Nothing was changed.")),
                (done, !done)
            );
        }
        // A reset is not confirmed by a slip of a finger.
        for (typed, done) in [("5\ny\n", false), ("5\nbox\n", true)] {
            let (paper, out) = session(given_up(), typed);
            assert_eq!(paper.applied == [Step::Reset], done, "{out}");
        }
    }

    #[test]
    fn enter_looks_again_and_what_is_no_choice_is_said() {
        let (paper, out) = session(given_up(), "\n99\nx\n0\n");
        assert_eq!(paper.looked, 2);
        for said in [
            "There is no choice \"99\"; type a number from 1 to 7.",
            "no choice \"x\"",
            "no choice \"0\"",
        ] {
            assert!(out.contains(said), "{said} in {out}");
        }
        assert_eq!(paper.applied, []);
    }

    #[test]
    fn a_bundle_that_is_not_proved_is_refused_before_anything_is_asked() {
        let mut findings = given_up();
        findings.media = vec![medium("new.cairn")];
        let (paper, out) = session(findings, "3\ny\n");
        assert!(
            out.contains("Nothing was changed: it is not known which version"),
            "{out}"
        );
        assert_eq!(paper.applied, []);
    }

    #[test]
    fn the_screen_says_why_and_fits_80_columns() {
        let mut findings = given_up();
        let why = "unit web failed: ".to_owned()
            + &"very-long-word".repeat(12)
            + "\u{1b}[2J and more words that go on and on";
        findings.stopped = vec![("box_1.0.0.efi".into(), why)];
        findings.media = vec![medium(&("x".repeat(120) + ".cairn"))];
        let text = screen(&findings, &offers(&findings));
        for line in text.lines() {
            assert!(line.chars().count() < 80, "{line}");
        }
        for said in [
            "Recovery of box\n",
            "Slot A holds version 1.0.0: given up, tried 3 times. It could not be started:",
            "Slot B holds version 2.0.0: given up, tried 3 times.",
            "  1  Try version 1.0.0 again\n",
        ] {
            assert!(text.contains(said), "{said} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "a disk's text moves no cursor");
    }

    #[test]
    fn a_version_that_could_start_is_told_as_such() {
        let mut findings = findings("box_1.0.0.efi", "");
        let told = |findings: &Findings| screen(findings, &[]).contains("A version could be started");
        assert!(told(&findings));
        findings.stopped = vec![("box_1.0.0.efi".into(), "its root is damaged".into())];
        assert!(!told(&findings));
        // Where no slot is, the reason is told all the same.
        findings.slots.clear();
        assert!(screen(&findings, &[]).contains("box_1.0.0.efi could not be started: its root is damaged."));
    }
}

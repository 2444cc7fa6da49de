//! `cairn learn UNIT`: watches a lesson to its end, and prints what the unit's file should say.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use cairn_api::{Direction, LearnState, Learned};
use cairn_unit::Seconds;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::table::span;

/// What is to be done with the manager meanwhile.
pub(crate) trait Ask {
    /// Why an answer is missing.
    type Error;
    /// Begins a lesson of so long; of no time ends it.
    fn learn(&self, wanted: Seconds) -> Result<(), Self::Error>;
    /// How it stands, with the answer as it came.
    fn learned(&self) -> Result<(Learned, Vec<u8>), Self::Error>;
}

/// Begins the lesson and waits for its end, or ends it at Ctrl-C: what it came to.
///
/// # Errors
/// Of an answer that is missing. The manager ends the lesson in its time then, whoever is there.
pub(crate) fn run<A: Ask>(unit: &str, wanted: Seconds, ask: &A) -> Result<(Learned, Vec<u8>), A::Error> {
    // Before it begins, so that no Ctrl-C leaves it alone.
    let wishes = wishes();
    ask.learn(wanted)?;
    say(&format!(
        "{unit} is started again. For {wanted} its system call filter lets pass and records what it would refuse; every other \
         wall of its sandbox stands. Use the service now, all of it. Ctrl-C ends it earlier.\n"
    ));
    let told = loop {
        let (learned, body) = ask.learned()?;
        match learned.state {
            LearnState::Waiting | LearnState::Running => {}
            LearnState::Ended | LearnState::Never => break (learned, body),
        }
        progress(&learned);
        if wishes.recv_timeout(Duration::from_secs(1)).is_ok() {
            // It may have ended by itself at this very moment.
            let ended = ask.learn(Seconds::from_secs(0));
            let now = ask.learned()?;
            if matches!(now.0.state, LearnState::Waiting | LearnState::Running) {
                ended?;
            }
            break now;
        }
    };
    if std::io::stderr().is_terminal() {
        say("\r\x1b[K");
    }
    say(&format!("{unit} is started again as it was.\n"));
    Ok(told)
}

/// Receives when somebody wants it to end.
fn wishes() -> mpsc::Receiver<()> {
    let (send, wishes) = mpsc::channel();
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        std::thread::spawn(move || signals.forever().take_while(|_| send.send(()).is_ok()).for_each(drop));
    } else {
        // Without a sender nothing is waited for, so it is kept.
        std::mem::forget(send);
    }
    wishes
}

/// To the error stream, so that the advice alone is the output.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn progress(learned: &Learned) {
    if std::io::stderr().is_terminal() {
        say(&format!("\r\x1b[K{}", line(learned)));
    }
}

/// One line: time left, calls, files.
fn line(learned: &Learned) -> String {
    if learned.state == LearnState::Waiting {
        return "waiting for its first call".to_owned();
    }
    let seen = &learned.seen;
    format!(
        "{} left: {} calls, {} of them to be refused; {} files read, {} written; {} addresses",
        span(learned.left_ms),
        learned.told,
        seen.refused.iter().map(|call| call.times).sum::<u64>(),
        seen.read.len(),
        seen.written.len(),
        seen.bound.len() + seen.connected.len(),
    )
}

/// The advice as text: TOML with comments, to be put into the unit's file.
pub(crate) fn text(learned: &Learned) -> String {
    let count = |direction: Direction| learned.advice.iter().filter(|one| one.direction == direction).count();
    let mut out = format!(
        "# {}: learned from for {}, {} calls. {} to grant, {} not used, {} to decide.\n",
        learned.unit,
        span(learned.heard_ms),
        learned.told,
        count(Direction::Wider),
        count(Direction::Tighter),
        count(Direction::Note),
    );
    if !learned.reason.is_empty() {
        let _ = writeln!(out, "# It ended early: {}.", learned.reason);
    }
    match (learned.told, learned.toml.as_str()) {
        (0, _) => out.push_str("# Nothing was heard: it did not start, see `cairn explain`.\n"),
        (_, "") => out.push_str("# It did what its unit declares, and all of it.\n"),
        (_, toml) => {
            let _ = write!(
                out,
                "# What the service does more rarely was not seen: read each line before you take it over.\n\n{toml}"
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn learned(state: LearnState) -> Learned {
        Learned {
            unit: "web".into(),
            state,
            left_ms: 5000,
            told: 7,
            ..Learned::default()
        }
    }

    /// A manager that says these things one after the other, and what it was asked.
    struct Said(RefCell<Vec<LearnState>>, RefCell<Vec<u64>>);

    impl Ask for Said {
        type Error = ();
        fn learn(&self, wanted: Seconds) -> Result<(), ()> {
            self.1.borrow_mut().push(wanted.millis());
            Ok(())
        }
        fn learned(&self) -> Result<(Learned, Vec<u8>), ()> {
            let mut states = self.0.borrow_mut();
            if states.is_empty() {
                return Err(());
            }
            Ok((learned(states.remove(0)), Vec::new()))
        }
    }

    fn said(states: &[LearnState]) -> Said {
        Said(RefCell::new(states.to_vec()), RefCell::default())
    }

    #[test]
    fn a_lesson_is_watched_to_its_end_and_ended_once_it_is_over() {
        let minute = Seconds::from_secs(60);
        let manager = said(&[LearnState::Ended]);
        assert_eq!(run("web", minute, &manager).unwrap().0.state, LearnState::Ended);
        assert_eq!(*manager.1.borrow(), [60_000], "it ended by itself");
        // A manager that was replaced knows of none.
        assert_eq!(
            run("web", minute, &said(&[LearnState::Never])).unwrap().0.state,
            LearnState::Never
        );
        assert!(run("web", minute, &said(&[])).is_err(), "no answer");
    }

    #[test]
    fn the_output_can_be_put_into_the_units_file() {
        let mut told = learned(LearnState::Ended);
        assert!(text(&told).contains("all of it"));
        told.toml = "[state]\n\"/var/lib/web\" = {}\n".into();
        told.reason = "another manager came".into();
        let text = text(&told);
        assert!(
            text.ends_with(&told.toml) && text.contains("# It ended early: another manager came."),
            "{text}"
        );
        let comments = text.strip_suffix(told.toml.as_str()).unwrap().lines();
        assert!(
            comments.clone().count() >= 3
                && comments
                    .into_iter()
                    .all(|line| line.is_empty() || line.starts_with('#'))
        );
        told.told = 0;
        assert!(super::text(&told).contains("Nothing was heard"));
    }

    #[test]
    fn progress_tells_the_time_left_and_what_was_heard() {
        assert!(line(&learned(LearnState::Running)).starts_with("5 s left: 7 calls"));
        assert_eq!(line(&learned(LearnState::Waiting)), "waiting for its first call");
    }
}

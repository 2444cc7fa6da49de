//! The console's lines, each with its time, and waits that are woken by them.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::HarnessError;

#[derive(Debug, Default)]
struct State {
    lines: Vec<(Duration, String)>,
    ended: bool,
}

/// The serial log of one machine. Cheap to clone; all clones are the same log.
#[derive(Debug, Clone)]
pub struct Serial {
    shared: Arc<(Mutex<State>, Condvar)>,
    started: Instant,
}

impl Serial {
    /// Reads `pipe` to its end in a thread of its own, and copies each line with its time to `copy`.
    pub fn follow(pipe: impl Read + Send + 'static, mut copy: impl Write + Send + 'static) -> Serial {
        let serial = Serial {
            shared: Arc::default(),
            started: Instant::now(),
        };
        let writer = serial.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let at = writer.started.elapsed();
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                // The log is for people; a full disk must not end the test's own view of the console.
                let _ = writeln!(copy, "[{:9.3}] {text}", at.as_secs_f64());
                writer.state().lines.push((at, text));
                writer.shared.1.notify_all();
                line.clear();
            }
            writer.state().ended = true;
            writer.shared.1.notify_all();
        });
        serial
    }

    /// The time since the machine's start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How many lines there are: a place from which to wait.
    pub fn mark(&self) -> usize {
        self.state().lines.len()
    }

    /// Waits for a line, the `from`th or later, that contains `pattern`; gives its number and text.
    ///
    /// # Errors
    /// [`HarnessError::NotSaid`] at the deadline, [`HarnessError::EndedSilent`] when the machine ends first.
    pub fn wait_from(&self, from: usize, pattern: &str, within: Duration) -> Result<(usize, String), HarnessError> {
        let deadline = Instant::now() + within;
        let mut next = from;
        let mut state = self.state();
        loop {
            while let Some((_, line)) = state.lines.get(next) {
                if line.contains(pattern) {
                    return Ok((next, line.clone()));
                }
                next += 1;
            }
            if state.ended {
                return Err(HarnessError::EndedSilent {
                    pattern: pattern.to_owned(),
                    tail: tail(&state),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tail = tail(&state);
                return Err(HarnessError::NotSaid {
                    pattern: pattern.to_owned(),
                    after: within,
                    tail,
                });
            }
            state = self
                .shared
                .1
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Every line so far, with its time since the machine's start.
    pub fn lines(&self) -> Vec<(Duration, String)> {
        self.state().lines.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(state: &State) -> String {
    let first = state.lines.len().saturating_sub(25);
    state.lines[first..]
        .iter()
        .map(|(at, line)| format!("  [{:8.3}] {line}\n", at.as_secs_f64()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_woken_by_its_line_and_not_by_earlier_ones() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let serial = Serial::follow(reader, std::io::sink());
        writeln!(writer, "Ready: one").unwrap();
        let (at, _) = serial.wait_from(0, "Ready", Duration::from_secs(10)).unwrap();
        let again = serial.clone();
        let waiter = std::thread::spawn(move || again.wait_from(at + 1, "Ready", Duration::from_secs(10)));
        writeln!(writer, "Ready: two").unwrap();
        assert_eq!(waiter.join().unwrap().unwrap().1, "Ready: two");
    }

    #[test]
    fn the_machines_end_ends_a_wait() {
        let (reader, writer) = std::io::pipe().unwrap();
        let serial = Serial::follow(reader, std::io::sink());
        drop(writer);
        let error = serial.wait_from(0, "Ready", Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, HarnessError::EndedSilent { .. }));
    }
}

//! One unit's lesson: its record, and the thread that listens.
//!
//! The thread does nothing but read calls and let them pass; a call waits for it, so it must not wait for anything else. When it
//! ends, however it does, the supervisor is told.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_api::{Sighting, Sightings};
use cairn_sandbox::learn::{Listener, Seen, Trace};

/// What was heard of a unit, and when.
#[derive(Debug, Default)]
pub(crate) struct Lesson {
    trace: Arc<Mutex<Trace>>,
    /// The number of the last listener: a unit's commands each have one, and only the last one's end means something.
    pub(super) listener: u64,
    /// Whether it was ever asked for.
    pub(super) asked: bool,
    /// When the first call came, and when the lesson ended.
    pub(super) began: Option<u64>,
    pub(super) ended: Option<u64>,
    /// Why it ended early.
    pub(super) reason: String,
}

impl Lesson {
    /// A new one, whose listeners are numbered on.
    pub(super) fn anew(&self) -> Lesson {
        Lesson {
            listener: self.listener,
            asked: true,
            ..Lesson::default()
        }
    }

    /// What was heard so far.
    pub(super) fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens in a thread of its own until nobody is left, and then calls `done`: with what went wrong, if something did.
    pub(super) fn listen(
        &self,
        listener: Listener,
        done: impl FnOnce(Option<String>) + Send + 'static,
    ) -> io::Result<()> {
        let trace = self.trace.clone();
        let mut end = End {
            done: Some(done),
            why: Some("its listener broke down".to_owned()),
        };
        let listen = move || {
            end.why = loop {
                match listener.hear() {
                    Ok(Some(heard)) => trace.lock().unwrap_or_else(PoisonError::into_inner).note(&heard),
                    Ok(None) => break None,
                    Err(error) => break Some(format!("its calls could not be heard: {error}")),
                }
            };
            // Before the supervisor is told: what still waits fails then, instead of waiting for ever.
            drop(listener);
            drop(end);
        };
        std::thread::Builder::new().name("learn".into()).spawn(listen).map(drop)
    }
}

/// Tells of the thread's end, also where it panicked or was never started.
struct End<D: FnOnce(Option<String>)> {
    done: Option<D>,
    why: Option<String>,
}

impl<D: FnOnce(Option<String>)> Drop for End<D> {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.why.take());
        }
    }
}

/// A record for the answer.
pub(super) fn sightings(trace: &Trace) -> Sightings {
    let sighting = |what: String, seen: &Seen| Sighting {
        what,
        times: seen.times,
        example: seen.example.clone(),
    };
    let named = |map: &std::collections::BTreeMap<String, Seen>| -> Vec<Sighting> {
        map.iter().map(|(what, seen)| sighting(what.clone(), seen)).collect()
    };
    let programs = trace.programs.iter();
    Sightings {
        calls: named(&trace.calls),
        refused: named(&trace.refused),
        read: named(&trace.read),
        written: named(&trace.written),
        programs: programs
            .map(|(path, program)| sighting(path.clone(), &program.seen))
            .collect(),
        bound: trace
            .bound
            .iter()
            .map(|(place, seen)| sighting(place.to_string(), seen))
            .collect(),
        connected: trace
            .connected
            .iter()
            .map(|(place, seen)| sighting(place.to_string(), seen))
            .collect(),
        capabilities: named(&trace.capabilities),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn whatever_ends_the_listening_is_told() {
        let lesson = Lesson::default();
        let manifest = crate::testing::manifest(&[("web", "{}")]);
        let plan = super::super::advise::tests::plan(&manifest, "web");
        let broken = std::fs::File::open("/dev/null").unwrap();
        let (told, hears) = mpsc::channel();
        let listener = Listener::new(broken.into(), &plan).unwrap();
        lesson.listen(listener, move |why| told.send(why).unwrap()).unwrap();
        let why = hears.recv().unwrap().expect("a reason");
        assert!(why.starts_with("its calls could not be heard"), "{why}");
    }
}

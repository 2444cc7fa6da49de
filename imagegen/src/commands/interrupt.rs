//! Ctrl-C, SIGTERM and a terminal that goes away: one line that says what is left whole, then exit status 130.
//!
//! Nothing has to be undone: everything that a build keeps appears under its final name by a rename only, and
//! sandboxed tools die with this process. What is unfinished is removed ([`crate::leftovers`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The watch over SIGINT, SIGTERM and SIGHUP.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    armed: Arc<AtomicBool>,
    note: Arc<Mutex<&'static str>>,
}

impl Interrupt {
    /// Starts watching.
    pub(super) fn install(json: bool) -> std::io::Result<Interrupt> {
        let watch = Interrupt {
            armed: Arc::new(AtomicBool::new(true)),
            note: Arc::new(Mutex::new(
                "the cache and earlier images are whole; run the same command again to go on",
            )),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let theirs = watch.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                if !theirs.armed.load(Ordering::SeqCst) {
                    continue;
                }
                crate::leftovers::clear();
                let note = theirs.note.lock().map(|n| *n).unwrap_or_default();
                crate::report::interrupted(note, json);
                std::process::exit(130);
            }
        })?;
        Ok(watch)
    }

    /// Leaves the signals to someone else, who has a guest to shut down.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Says what an interruption from here on leaves behind.
    pub(crate) fn note(&self, text: &'static str) {
        if let Ok(mut note) = self.note.lock() {
            *note = text;
        }
    }
}

//! Ctrl-C and SIGTERM: one line that says what is left whole, then exit status 130.
//!
//! Nothing has to be undone: everything that a build keeps appears under its final name by a rename only, and
//! sandboxed tools die with this process. Temporary files registered here are removed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The watch over SIGINT and SIGTERM.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    armed: Arc<AtomicBool>,
    temporary: Arc<Mutex<Vec<PathBuf>>>,
    note: Arc<Mutex<&'static str>>,
}

impl Interrupt {
    /// Starts watching.
    pub(super) fn install(json: bool) -> std::io::Result<Interrupt> {
        let watch = Interrupt {
            armed: Arc::new(AtomicBool::new(true)),
            temporary: Arc::default(),
            note: Arc::new(Mutex::new(
                "the cache and earlier images are whole; run the same command again to go on",
            )),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let theirs = watch.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                if !theirs.armed.load(Ordering::SeqCst) {
                    continue;
                }
                for path in theirs.temporary.lock().map(|t| t.clone()).unwrap_or_default() {
                    let _ = std::fs::remove_file(path);
                }
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

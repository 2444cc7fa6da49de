//! The fuzz targets: each takes bytes that somebody else chose, gives them to what reads such bytes in the system, and checks what
//! that promises. Nothing may panic, and what is let through is as it is said to be.
//!
//! `make fuzz` runs them under libFuzzer (`fuzz/` at the top), where a file of the corpus is one input. The tests of this crate
//! run the whole corpus without it, on any machine.

mod manager;
mod messages;
mod release;
mod text;

pub use manager::{control, saved};
pub use messages::{exec_report, init_protocol, notify};
pub use release::{release, taken as release_taken};
pub use text::{import, unit};

/// A target: it panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus and of its program.
pub const TARGETS: &[(&str, Target)] = &[
    ("control", control),
    ("exec_report", exec_report),
    ("import", import),
    ("init_protocol", init_protocol),
    ("logs", logs),
    ("notify", notify),
    ("release", release),
    ("saved", saved),
    ("unit", unit),
];

/// What the log store reads: syslog, the kernel's messages, its own files, lines, times. The first byte chooses.
pub fn logs(data: &[u8]) {
    cairn_log::fuzz::run(data);
}

//! Learning: a unit runs for a while with its system calls recorded instead of refused, and what it did is set beside what its
//! file says.
//!
//! [`cairn_sandbox::learn`] hears the calls, [`advise`](advise()) compares (a pure function), [`toml`] writes the result down,
//! and the supervisor's part begins and ends it. A unit never stays open: its process is marked in what is saved, and whenever a
//! marked process runs without its time still running, the unit is started again as it was.

mod advise;
mod control;
mod lesson;
mod places;
mod tighter;
pub mod toml;
mod wider;

pub use advise::{Subject, advise};
pub(crate) use lesson::Lesson;

//! Boots real images under QEMU and drives them: the harness behind the tests in `tests/`.
//!
//! A [`Machine`] is always ended, by its own process id, when it is dropped; when the test panics its serial log, QEMU's words
//! and what else is asked for stay in `target/qemu-tests/NAME/`, and the path is printed. Every wait has a deadline and is woken
//! by what it waits for. Several tests at once share the host through [`share`].

pub mod authority;
pub mod blocklog;
pub mod client;
pub mod control;
pub mod crash;
pub mod disk;
pub mod error;
pub mod esp;
pub mod gpt_edit;
pub mod images;
pub mod machine;
pub mod ntp;
pub mod prepared;
pub mod python;
pub mod random;
pub mod seed;
pub mod serial;
pub mod served;
pub mod share;
pub mod tools;
pub mod verdict;

pub use control::{Agent, Output};
pub use error::HarnessError;
pub use machine::{Machine, Options};

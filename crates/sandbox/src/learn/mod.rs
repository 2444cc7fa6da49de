//! Learning: hearing what a command does, while it does it in its sandbox.
//!
//! A plan whose filter has [`OnViolation::UnsafeLearn`](crate::OnViolation::UnsafeLearn) is applied like any other, with one
//! difference: calls outside the list are not refused. They, and calls of interest that the list has (files, programs, sockets,
//! identity, memory that is written and executed), wait for a [`Listener`], which notes them in a [`Trace`] and lets them pass.
//!
//! The kernel's own log was not chosen: it tells a call's number but neither paths nor addresses, and it drops what comes too fast.
//! A listener misses nothing, since a call waits for it. What it cannot see: arguments that another thread changes after they were
//! read (a trace is no proof against malice), messages sent by `sendmsg` to an address of their own, and what `io_uring` does where
//! that is granted.
//!
//! When the last copy of a listener is closed, calls that wait fail with `ENOSYS`, and so does every later one. Whoever holds one
//! therefore ends the command before he lets go of it.

mod call;
pub(crate) mod filter;
mod listener;
mod process;
mod trace;

pub use call::{Event, Heard, Place, Transport};
pub use listener::{Listener, supported};
pub use trace::{LIMIT, Program, Seen, Trace};

/// Whether the ordinary filter lets a call of this name through without a grant, whatever its arguments.
#[must_use]
pub fn in_profile(name: &str) -> bool {
    let conditional = ["clone", "socket", "personality"];
    !conditional.contains(&name) && crate::seccomp::names(&crate::Seccomp::default()).contains(&name)
}

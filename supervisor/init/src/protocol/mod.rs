//! The messages between cairn-init and cairn-manager.
//!
//! They travel over one `SOCK_SEQPACKET` socket pair: the manager finds its end at fd 3
//! ([`MANAGER_FD`]). Every message is one packet of exactly [`FRAME_LEN`] bytes, and some carry
//! file descriptors. Integers are little endian; unused bytes are zero, and a message with
//! anything else in them is refused.
//!
//! ```text
//! byte 0   version (2)
//! byte 1   kind: requests count from 1, events from 128
//! byte 2   how many descriptors travel with it
//! byte 3-7 zero
//! byte 8.. the fields in the order of the Rust declaration, then zeros
//! ```
//!
//! What the two sides promise:
//! - A request that was sent before a manager died is still carried out, in order.
//! - Nothing but [`Request::Hello`] makes init talk to a manager; before it, init only listens.
//! - After `Hello`: one [`Event::Welcome`], every process still running that was asked for
//!   ([`Event::Running`]), every stored descriptor ([`Event::Stored`]), then [`Event::Resumed`],
//!   then every exit not acknowledged yet. A manager may send `Hello` again (after an exec).
//! - Every process that init reaps is one [`Event::Exited`] with a number that never repeats in
//!   this boot; it is sent again to each new manager until [`Request::Ack`] names it or a later one.
//! - A process that a manager finds gone has its [`Event::Exited`] among those up to the number in the next [`Event::Passed`].
//! - With 4,096 exits not acknowledged init reaps nothing more but the manager: the kernel keeps the statuses. What is not reaped counts
//!   as running.
//! - A malformed request is answered by [`Event::Refused`]; the connection stays open.
//! - Init reads no request while an answer finds no room in the socket: a manager that waits to send must read events meanwhile.
//! - What a manager writes to stdout and stderr goes through init to the console, slowed down to 64 KiB a second. Init keeps the last
//!   4 KiB of it, across managers: if managers will not stay up, it prints the last lines again as "last words of the manager",
//!   with everything but printable ASCII escaped.
//! - A manager of another protocol version is refused at its first message, and so is given up: see [`Request::ReplaceManager`].
//!
//! This module allocates nothing and does no I/O; [`crate::channel`] moves frames and descriptors.

mod event;
mod request;
mod values;
mod wire;

use core::fmt;

pub use event::Event;
pub use request::Request;
pub use values::{ExitStatus, FACTORY_RESET, Origin, PowerKind, StoreId};

/// The descriptor at which a manager finds its end of the socket pair.
pub const MANAGER_FD: i32 = 3;
/// The version byte of every message.
pub const VERSION: u8 = 2;
/// The length of every message in bytes.
pub const FRAME_LEN: usize = 96;
/// How many descriptors every [`Request::Spawn`] carries.
pub(crate) const SPAWN_FDS: usize = 6;
/// The most listening sockets that one [`Request::Spawn`] carries beyond those.
pub const MAX_LISTEN: usize = 16;
/// The most descriptors that one message carries.
pub const MAX_FDS: usize = SPAWN_FDS + MAX_LISTEN;
/// How many seconds a manager that replaced another has until its first [`Request::Hello`].
pub const GREETING_SECONDS: u64 = 30;
/// After so many failures in a row a manager that replaced another is given up.
pub const REPLACEMENT_FAILURES: u32 = 3;
/// The length of a stored descriptor's name in bytes.
pub const STORE_ID_LEN: usize = 64;
/// How many descriptors init keeps for managers to come.
pub const STORE_CAPACITY: usize = 1024;
/// How many processes asked for by [`Request::Spawn`] can run at once.
pub const RUNNING_CAPACITY: usize = 2048;

/// One message as it stands on the wire.
pub type Frame = [u8; FRAME_LEN];

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not [`FRAME_LEN`] bytes long.
    Length(usize),
    /// Its version byte is not [`VERSION`].
    Version(u8),
    /// No message of this direction has this kind byte.
    Kind(u8),
    /// It came with another number of descriptors than its kind needs.
    Descriptors {
        /// How many its kind needs.
        wanted: usize,
        /// How many came.
        got: usize,
    },
    /// A field holds a value that it cannot have.
    Field,
    /// Bytes that must be zero are not.
    Padding,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "message of {n} bytes, expected {FRAME_LEN}"),
            Self::Version(v) => write!(f, "protocol version {v}, expected {VERSION}"),
            Self::Kind(k) => write!(f, "unknown kind {k}"),
            Self::Descriptors { wanted, got } => {
                write!(f, "{got} descriptors, expected {wanted}")
            }
            Self::Field => write!(f, "a field has an impossible value"),
            Self::Padding => write!(f, "unused bytes are not zero"),
        }
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests;

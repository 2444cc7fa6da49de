//! cairn-init: the initrd's /init, PID 1, and the kernel's module loader, in one static binary.
//!
//! The library is what its two users share: [`protocol`] and [`channel`] are how cairn-manager
//! talks to it.

pub mod channel;
pub mod protocol;

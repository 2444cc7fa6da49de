//! cairn-manager: everything of the supervisor that needs thought.
//!
//! It never waits on children (cairn-init does) and can be killed at any moment: what it knows stands in `/run` before it
//! acts on it, and what it holds is also held by cairn-init.

pub mod address;
pub mod cgroup;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod data;
pub mod dhcp;
pub mod error;
pub mod firewall;
mod io;
pub mod log;
pub mod machine;
pub mod netlink;
pub mod network;
pub mod notify;
pub mod plan;
pub mod rules;
pub mod saved;
pub mod security;
mod supervisor;
pub mod template;
#[cfg(test)]
mod testing;
mod units;
mod whole;

pub use supervisor::run;

/// The socket to cairn-init, at the descriptor that its protocol names. Call once, first thing in `main`.
pub fn manager_socket() -> std::os::fd::OwnedFd {
    io::manager_socket()
}

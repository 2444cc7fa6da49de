//! cairn-manager: everything of the supervisor that needs thought.
//!
//! It never waits on children (cairn-init does) and can be killed at any moment: what it knows stands in `/run` before it
//! acts on it, and what it holds is also held by cairn-init.

mod accounts;
pub mod address;
mod answers;
pub mod beside;
mod care;
pub(crate) mod certificates;
pub mod cgroup;
pub mod choices;
pub mod clock;
pub mod config;
pub(crate) mod console;
pub mod control;
pub mod data;
mod demand;
pub mod dhcp;
pub mod dumps;
mod encryption;
mod ends;
pub mod error;
mod events;
pub mod explain;
mod files;
pub mod firewall;
mod from_init;
#[doc(hidden)]
pub mod fuzz;
pub mod gate;
mod granting;
pub mod health;
pub mod host_plan;
mod imported;
pub mod inventory;
mod io;
pub mod learn;
mod listening;
pub mod log;
pub mod machine;
pub mod migrate;
mod net_change;
mod net_run;
mod net_state;
pub mod netlink;
pub mod network;
mod notices;
pub mod notify;
mod outage;
pub mod outside;
mod paths;
pub mod plan;
mod reconcile;
mod renewal;
mod reset;
pub mod rules;
pub mod saved;
pub mod schedule;
mod secrets;
pub mod security;
mod settings;
mod setup;
mod site_text;
mod supervisor;
#[cfg(test)]
mod testing;
mod timekeeping;
pub mod timers;
mod unattended;
mod units;
mod upgrade;
mod upgrade_policy;
pub mod usage;
mod versions;
mod whole;

pub use supervisor::run;

/// The socket to cairn-init, at the descriptor that its protocol names. Call once, first thing in `main`.
pub fn manager_socket() -> std::os::fd::OwnedFd {
    io::manager_socket()
}

//! A sandbox as a value, and its application.
//!
//! [`Plan`] says everything that one sandboxed command may see and do; it is made, printed, compared and tested without any
//! privileges. [`Enter`] is a further command in a sandbox that runs. Every step of its application that fails stops the start
//! and reports its own name and path ([`Failure`]). Nothing degrades.

mod calls;
mod check;
mod child;
pub mod clock;
mod command;
mod confine;
mod content;
mod enter;
#[doc(hidden)]
pub mod fuzz;
mod handover;
mod helper;
mod job;
mod join;
pub mod learn;
mod mounts;
mod netlink;
mod network;
mod plan;
mod report;
mod search;
mod seccomp;
mod standing;
mod sys;
mod syscalls;
mod systemd;
mod tool;
mod tree;

pub use content::Content;
pub use enter::{Access, Enter, Grant};
pub use helper::{Mode, helper_main, set_main};
pub use job::Job;
pub use mounts::{Mount, Root};
pub use network::{Ipv4, Ipv6, Network, Veth};
pub use plan::{
    Capabilities, FIRST_LISTEN_FD, Ids, Namespaces, OnViolation, Plan, Profile, Resource, Rlimit, Seccomp, User, file,
    masked_by_default, read_only_by_default,
};
pub use report::{FAILED_EXIT, Failure, Report, receive};
pub use standing::{in_network, make_network};
pub use tool::{Child, HELPER_ARG, Outcome, Stream, ToolBind, ToolSpec, helper_if_asked, run_plan, run_tool};

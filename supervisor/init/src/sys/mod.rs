//! The one room for unsafe code: what rustix and nix do not offer as safe calls.
//!
//! Nothing here decides anything; each function is one system call, or the few that must happen between clone and
//! exec, with its result as an errno.
#![allow(unsafe_code)]

mod alloc;
mod ioctl;
mod memory;
mod process;

pub use alloc::CountingAllocator;
pub(crate) use alloc::{allocations_after_seal, seal};
pub(crate) use ioctl::{
    dm_ioctl, ext4_resize, has_power_key, kernel_add_partition, kernel_resize_partition, watchdog_ping,
    watchdog_set_timeout,
};
pub(crate) use memory::{Constant, c_library, give_back_start, keep_code, lock_memory};
pub(crate) use process::{
    Program, Spawn, ended_child, output_in_root, run_in_root, send_signal, spawn, supervise_defaults,
};

use nix::errno::Errno;
use nix::libc;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

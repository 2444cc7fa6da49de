//! The listener: takes calls one by one, reads what they are about, and lets them pass.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;

use super::call::{self, Heard, Inside as _};
use super::filter::Ordinary;
use super::process::Process;
use crate::plan::{Ids, Plan};
use crate::report::Failure;
use crate::{calls, sys, syscalls};

/// Hears the calls of one sandbox. It has to be kept, and [`Listener::hear`] called, for as long as the sandbox runs: without
/// it every call that would be told fails with `ENOSYS`.
#[derive(Debug)]
pub struct Listener {
    descriptor: OwnedFd,
    ordinary: Ordinary,
    base: u32,
}

/// Whether this kernel can be listened to.
///
/// # Errors
/// Why not, in a sentence.
pub fn supported() -> Result<(), String> {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    match std::fs::read_to_string(path) {
        Ok(text) if text.split_whitespace().any(|action| action == "user_notif") => Ok(()),
        Ok(_) => Err("this kernel's system call filters cannot ask a listener (user_notif)".into()),
        Err(error) => Err(format!(
            "what this kernel's system call filters can do is not known: {path}: {error}"
        )),
    }
}

impl Listener {
    /// Of the descriptor that came with [`crate::Report::Listener`], for a sandbox made from this plan.
    ///
    /// # Errors
    /// The plan has no filter, or one that cannot be made.
    pub fn new(descriptor: OwnedFd, plan: &Plan) -> Result<Self, Failure> {
        let seccomp = plan.seccomp.as_ref();
        let seccomp = seccomp.ok_or_else(|| Failure::new("seccomp", "listener", "the plan has no filter"))?;
        Ok(Self {
            descriptor,
            ordinary: Ordinary::new(seccomp)?,
            base: match plan.ids {
                Ids::Range { base, .. } => base,
                Ids::Single => rustix::process::geteuid().as_raw(),
                Ids::Host => 0,
            },
        })
    }

    /// Waits for the next call, reads it and lets it pass; none when there is nobody left who could call.
    ///
    /// # Errors
    /// The descriptor is not a listener, or a call cannot be let pass: whoever gets this ends the sandbox, whose caller waits.
    pub fn hear(&self) -> io::Result<Option<Heard>> {
        while let Some(call) = calls::next(&self.descriptor)? {
            let heard = self.read(&call);
            // Otherwise its number may be another process's already, and what was read that one's.
            if !sys::still_waits(&self.descriptor, call.id) {
                continue;
            }
            match sys::let_pass(&self.descriptor, call.id) {
                Ok(()) => return Ok(Some(heard)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read(&self, call: &libc::seccomp_notif) -> Heard {
        let process = Process::new(call.pid, self.base);
        let known = syscalls::name(call.data.nr.into());
        let name = known.map_or_else(|| format!("number {}", call.data.nr), str::to_owned);
        let (detail, events) = call::read(&name, &call.data.args, &process);
        Heard {
            name,
            detail,
            process: process.who().name,
            refused: self.ordinary.refuses(&call.data),
            events,
        }
    }
}

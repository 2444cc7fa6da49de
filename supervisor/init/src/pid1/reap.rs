//! Children that end.

use rustix::process::{Pid, WaitOptions, waitpid};

use super::Init;
use crate::console::say;
use crate::protocol::ExitStatus;
use crate::{sys, times};

/// What reaping came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// Nothing has ended that was not reaped, as far as there is room to note it.
    AllDone,
    /// There is no child at all.
    NoChildren,
}

impl Init {
    /// Reaps all that has ended, as long as there is room to note it (in an emergency, nobody will read it anyway). The
    /// manager is reaped in any case: only its successor can make room.
    pub(super) fn reap_all(&mut self) -> Reaped {
        while !self.ledger.is_full() || self.keeper.is_emergency() || self.ending.is_some() {
            let ended = match sys::ended_child() {
                Ok(Some(pid)) => pid,
                Ok(None) => return Reaped::AllDone,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return Reaped::NoChildren,
            };
            // While it is a zombie it has its pid and its cgroup.
            let cgroup = self.cgroups.of(ended);
            if !self.reap(ended, cgroup) {
                // Cannot be: it has ended and nobody else waits. The next turn looks again.
                return Reaped::AllDone;
            }
        }
        for own in [self.keeper.pid(), self.loader.pid()].into_iter().flatten() {
            self.reap(own, 0);
        }
        Reaped::AllDone
    }

    /// Reaps one process. Returns whether it had ended.
    fn reap(&mut self, pid: i32, cgroup: u64) -> bool {
        match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                self.reaped(pid, ExitStatus(status.as_raw()), cgroup);
                true
            }
            _ => false,
        }
    }

    fn reaped(&mut self, pid: i32, status: ExitStatus, cgroup: u64) {
        if self.keeper.pid() == Some(pid) {
            self.manager_ended(Some(status));
        } else if self.loader.pid() == Some(pid) {
            // At the end of the boot it is stopped with everything else.
            if self.loader.ended(times::now()) && self.ending.is_none() {
                say!("the module loader ended: {status}; starting it again");
            }
        } else {
            self.ledger.exited(pid, status, cgroup, times::now());
        }
    }
}

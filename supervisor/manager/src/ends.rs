//! How a unit's processes end: what their helper reports, what cairn-init reaped, and what is still there.

use std::time::Duration;

use cairn_init::protocol::ExitStatus;
use cairn_sandbox::{FAILED_EXIT, Report};

use crate::cgroup;
use crate::machine::{End, Event};
use crate::supervisor::{Msg, Supervisor};

impl Supervisor {
    /// What cairn-exec said on the status socket; it may be said again after a manager that was killed. The status of a process
    /// that had ended before its number was known.
    pub(crate) fn reported(&mut self, name: &str, report: Report) -> Option<ExitStatus> {
        match report {
            Report::Pid { pid } => {
                if let Some(kept) = self.saved.units.get_mut(name) {
                    kept.pid = pid;
                }
                let at = self.saved.strays.iter().position(|(stray, _)| *stray == pid);
                return at.map(|at| ExitStatus(self.saved.strays[at].1));
            }
            Report::Execed { .. } => {
                self.feed(name, Event::Executed);
                let token = self.saved.units.get(name).map_or(0, |k| k.token);
                self.ask_ready(name, token);
            }
            // What it comes with is taken with it.
            Report::Listener { .. } => {}
            Report::Failed(failure) => self.note(name, End::Because(failure.to_string())),
            Report::Exited { exited } => self.note(name, End::Code(exited)),
            Report::Signaled { signaled, .. } => self.note(name, End::Signal(signaled)),
        }
        None
    }

    fn note(&mut self, name: &str, end: End) {
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.report = Some(end);
        }
    }

    /// A process was reaped.
    pub(crate) fn exited(&mut self, token: u64, pid: i32, status: ExitStatus) {
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in &names {
            if self
                .saved
                .units
                .get(name)
                .is_some_and(|k| k.token != 0 && (k.token == token || k.pid == 0))
            {
                self.read_status(name);
            }
        }
        let by = |k: &crate::saved::Kept| {
            (token != 0 && k.token == token) || (pid != 0 && k.pid == pid && k.ended.is_none())
        };
        if let Some((name, kept)) = self.saved.units.iter().find(|(_, k)| by(k)) {
            let name = name.clone();
            let helper = token != 0 && kept.token == token && kept.pid != pid;
            // A helper that did its work leaves the sandbox behind; that is the unit.
            if !helper || !status.success() {
                self.main_ended(&name, status);
            }
            return;
        }
        if self.beside_exited(token, pid, status) {
            return;
        }
        if self.saved.strays.len() == 256 {
            self.saved.strays.pop_front();
        }
        self.saved.strays.push_back((pid, status.0));
    }

    pub(crate) fn spawn_failed(&mut self, token: u64, why: &str) {
        let found = self
            .saved
            .units
            .iter()
            .find(|(_, k)| k.token == token)
            .map(|(n, _)| n.clone());
        match found {
            Some(name) => self.feed(&name, Event::Exited(End::Because(why.to_owned()))),
            None => drop(self.beside_exited(token, 0, ExitStatus(FAILED_EXIT << 8))),
        }
    }

    /// The unit's process (or its helper, without success) ended.
    pub(crate) fn main_ended(&mut self, name: &str, status: ExitStatus) {
        self.read_status(name);
        self.read_notify(name);
        self.logs.finish(name);
        let folder = self.config.cgroup(name);
        if let Some(live) = self.live.get_mut(name) {
            live.tasks.drain(..).for_each(|t| t.abort());
        }
        let Some(kept) = self.saved.units.get_mut(name) else {
            return;
        };
        let said = kept.report.take();
        let mut end = match (said, status.code(), status.signal()) {
            (Some(said), ..) => said,
            (None, Some(code), _) => End::Code(code),
            (None, _, Some(signal)) => End::Signal(signal),
            _ => End::Because(status.to_string()),
        };
        if end != End::Code(0) && cgroup::out_of_memory(&folder) > kept.oom {
            let limit = self
                .manifest
                .units
                .get(name)
                .map(|u| u.unit.limits.memory_max.to_string());
            end = End::Because(format!(
                "used more memory than its limit of {}",
                limit.unwrap_or_default()
            ));
        }
        kept.ended = Some(end.clone());
        let token = kept.token;
        cgroup::kill(&folder);
        if cgroup::empty(&folder) {
            self.gone(name, end);
        } else {
            self.await_empty(name, token);
        }
    }

    pub(crate) fn await_empty(&mut self, name: &str, token: u64) {
        let (send, name, folder) = (self.send.clone(), name.to_owned(), self.config.cgroup(name));
        tokio::spawn(async move {
            while !cgroup::empty(&folder) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                cgroup::kill(&folder);
            }
            let _ = send.send(Msg::Empty(name, token));
        });
    }

    /// Nothing of the unit runs any more.
    pub(crate) fn gone(&mut self, name: &str, end: End) {
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.ended = None;
        }
        self.feed(name, Event::Exited(end));
    }

    pub(crate) fn end(&mut self, name: &str, kill: bool) {
        let Some(unit) = self.manifest.units.get(name) else {
            return;
        };
        let number = if kill {
            9
        } else {
            unit.unit.service.stop_signal.number()
        };
        // Where nothing has begun there is nobody to ask politely.
        if !self.signal(name, number) || kill {
            cgroup::kill(&self.config.cgroup(name));
        }
    }

    /// Sends a signal to the unit's process; whether there is one.
    pub(crate) fn signal(&self, name: &str, number: i32) -> bool {
        let pid = self.saved.units.get(name).map_or(0, |k| k.pid);
        // The group is asked so that a number that now belongs to someone else is never hit.
        let process = rustix::process::Pid::from_raw(pid).filter(|_| cgroup::holds(&self.config.cgroup(name), pid));
        let (Some(process), Some(signal)) = (process, rustix::process::Signal::from_named_raw(number)) else {
            return false;
        };
        let flags = rustix::process::PidfdFlags::empty();
        rustix::process::pidfd_open(process, flags)
            .and_then(|fd| rustix::process::pidfd_send_signal(fd, signal))
            .is_ok()
    }
}

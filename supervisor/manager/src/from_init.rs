//! What cairn-init says: what it kept, what ended, what somebody wants of the machine.

use std::os::fd::OwnedFd;

use cairn_init::channel;
use cairn_init::protocol::{Event as InitEvent, PowerKind, Request};

use crate::io::watch;
use crate::supervisor::{Msg, Supervisor};

impl Supervisor {
    /// Everything that cairn-init has said until now.
    pub(crate) fn read_init(&mut self) {
        loop {
            let mut packet = match channel::receive(self.init.get_ref()) {
                Ok(Some(packet)) => packet,
                Err(rustix::io::Errno::AGAIN) => return,
                Ok(None) | Err(_) => {
                    self.done = true;
                    return;
                }
            };
            let fd = packet.fds[0].take();
            match InitEvent::decode(packet.bytes(), packet.fd_count) {
                Ok(event) => self.init_event(event, fd),
                Err(e) => self
                    .console
                    .say(&format!("cairn-init sent what this manager does not understand: {e}")),
            }
        }
    }

    fn init_event(&mut self, event: InitEvent, fd: Option<OwnedFd>) {
        match event {
            InitEvent::Welcome { generation, exits, .. } => {
                self.pending = Some(exits);
                if generation == 0 && self.saved.units.is_empty() {
                    crate::data::sweep(&self.config);
                }
            }
            InitEvent::Running { token, .. } => self.running.push(token),
            InitEvent::Stored { id } => {
                if let Some(fd) = fd {
                    self.take_stored(&id.to_string(), fd);
                }
            }
            InitEvent::Resumed => {
                self.begin();
                if self.pending == Some(0) {
                    self.pending = None;
                    self.adopt();
                }
            }
            // Nothing here asks to be replaced yet.
            InitEvent::Spawned { .. } => {}
            InitEvent::Replacing => {
                self.console.say("The manager makes room for another one.");
                self.done = true;
            }
            InitEvent::SpawnFailed { token, errno } => {
                let why = std::io::Error::from_raw_os_error(errno);
                self.spawn_failed(token, &format!("no process could be made: {why}"));
            }
            InitEvent::Exited {
                seq,
                token,
                pid,
                status,
                ..
            } => {
                if seq > self.saved.exit {
                    self.exited(token, pid, status);
                    // Not before: what is read on the way is saved at once, and an exit must not count as known while what follows
                    // from it is not saved.
                    self.saved.exit = seq;
                }
                self.post(Request::Ack { seq }, Vec::new());
                if let Some(left) = &mut self.pending {
                    *left = left.saturating_sub(1);
                    if *left == 0 && self.begun {
                        self.pending = None;
                        self.adopt();
                    }
                }
                self.judge_missing();
            }
            InitEvent::PowerRequest { kind } => {
                let word = if kind == PowerKind::Reboot {
                    "reboot"
                } else {
                    "poweroff"
                };
                self.go_down(word);
            }
            InitEvent::Passed { seq, all } => {
                self.passed = Some((seq, all));
                self.judge_missing();
            }
            InitEvent::Refused { request, errno } => {
                let why = std::io::Error::from_raw_os_error(errno);
                self.console
                    .say(&format!("cairn-init refused request {request}: {why}"));
            }
        }
    }

    fn take_stored(&mut self, id: &str, fd: OwnedFd) {
        let Some((kind, name)) = id.split_once('@') else { return };
        if kind == "control" {
            self.control = Some(fd);
            return;
        }
        let (send, unit) = (self.send.clone(), name.to_owned());
        let Some(live) = self.live.get_mut(name) else { return };
        match kind {
            "logr" | "logs" | "logw" | "devlog" => self.take_log(kind, name, fd),
            kind if kind == "netns" || kind.starts_with("sock") => live.demand.take(kind, fd),
            "learn" => self.take_listener(name, fd),
            "clock" => self.keep_clock(name, fd),
            "notify" => live.notify = watch(fd, send, move || Msg::Notify(unit.clone())).ok().map(|w| w.0),
            "status" => {
                if let Ok((watched, task)) = watch(fd, send, move || Msg::Status(unit.clone())) {
                    live.status = Some(watched);
                    live.tasks.push(task);
                }
            }
            _ => {
                let kept_as = kind
                    .strip_prefix("fd")
                    .and_then(|number| number.parse::<usize>().ok())
                    .and_then(|number| self.saved.units.get(name)?.stored.get(number));
                if let Some(kept_as) = kept_as {
                    live.stored.push((kept_as.clone(), fd));
                }
            }
        }
    }
}

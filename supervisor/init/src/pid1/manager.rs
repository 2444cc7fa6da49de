//! The manager's process: started, watched, and followed by another.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::keeper::News;
use super::link::Link;
use super::{Init, SECOND};
use crate::console::say;
use crate::protocol::{ExitStatus, REPLACEMENT_FAILURES};
use crate::sys::{self, Program, Spawn};
use crate::times;

impl Init {
    /// Starts the manager when it is time, and looks whether it is well.
    pub(super) fn keep_manager(&mut self, now: u64) {
        let news = self.keeper.tick(now);
        self.tell(news);
        if self.keeper.is_due(now)
            && self.ending.is_none()
            && let Err(error) = self.start_manager()
        {
            say!("cannot start the manager: {error}");
            self.manager_ended(None);
        }
    }

    fn start_manager(&mut self) -> Result<(), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        let program = match &self.replacement {
            Some(file) if self.keeper.uses_replacement() => Program::Open(file.as_fd()),
            _ => Program::Path(&self.options.manager),
        };
        let (pid, _pidfd) = sys::spawn(&Spawn {
            program,
            args: &[c"cairn-manager"],
            cgroup: self.manager_cgroup.as_ref().map(AsFd::as_fd),
            fds: &[self.null.as_fd(), self.words.pen(), self.words.pen(), theirs.as_fd()],
            oom_score: b"-1000",
        })?;
        let generation = self.keeper.generation;
        self.keeper.started(pid, times::now());
        let power = self.asked.as_ref().map(|asked| asked.kind);
        self.watch(&ours, epoll::EventFlags::IN);
        self.link = Some(Link::new(ours, generation, self.keeper.origin(), power));
        self.refusals = 0;
        Ok(())
    }

    /// It ended, with a status, or could not be started.
    pub(super) fn manager_ended(&mut self, status: Option<ExitStatus>) {
        self.words.finish();
        if let Some(status) = status {
            say!("the manager ended: {status}");
        }
        // What it had asked for is still done; its successor hears of it.
        while let Some(packet) = self.link.as_mut().and_then(Link::receive_last) {
            self.handle(packet);
        }
        self.link = None;
        let news = self.keeper.ended(status, times::now());
        self.tell(news);
    }

    fn tell(&mut self, news: News) {
        match news {
            News::None => {}
            News::EmergencyBegins => {
                say!(
                    "EMERGENCY: the manager will not stay up. Services that run go on running; the power button still \
                     stops this machine cleanly. Trying again every 10 seconds"
                );
                self.words.say_last();
            }
            News::EmergencyEnds => say!("the manager is up again"),
            News::NoGreeting(pid) => {
                let seconds = self.options.greeting / SECOND;
                say!("the new manager did not say hello within {seconds} s; going back to the one in the image");
                sys::send_signal(pid, Signal::SIGKILL);
                self.replacement = None;
            }
            News::NewFailed => {
                say!(
                    "the new manager failed {REPLACEMENT_FAILURES} times in a row; going back to the one in the image"
                );
                self.words.say_last();
                self.replacement = None;
            }
        }
    }

    /// The socket is at its end: makes sure that the process is too, so that it is reaped and followed by another.
    pub(super) fn manager_hung_up(&mut self) {
        self.link = None;
        if let Some(pid) = self.keeper.pid() {
            sys::send_signal(pid, Signal::SIGKILL);
        }
    }

    /// Closes everything that is kept for managers: at the end of the boot.
    pub(super) fn forget_manager(&mut self) {
        self.link = None;
        self.replacement = None;
        self.ledger.close_store();
    }
}

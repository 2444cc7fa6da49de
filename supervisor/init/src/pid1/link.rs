//! The connection to one manager: what goes out, in which order, when its socket has room.
//!
//! There is no queue that could grow. At most one reply waits, and no request is read while it does; everything else
//! that is to be sent is a position in the ledger.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::ledger::Ledger;
use crate::channel::{self, Packet};
use crate::protocol::{Event, Origin, PowerKind};

/// How far the answer to `Hello` has got: the place in the table that is next.
#[derive(Clone, Copy)]
enum Resume {
    Welcome,
    Running(usize),
    Stored(usize),
    Finish,
}

pub(super) struct Link {
    socket: OwnedFd,
    greeted: bool,
    resume: Option<Resume>,
    reply: Option<(Event, Option<OwnedFd>)>,
    /// The last exit sent over this connection.
    sent: u64,
    power: Option<PowerKind>,
    generation: u32,
    origin: Origin,
    /// Whether the socket had no room the last time.
    blocked: bool,
    /// Whether the manager can hear nothing any more. What it sent before is still read.
    deaf: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, generation: u32, origin: Origin, power: Option<PowerKind>) -> Self {
        Self {
            socket,
            greeted: false,
            resume: None,
            reply: None,
            sent: 0,
            power,
            generation,
            origin,
            blocked: false,
            deaf: false,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether to wait until the socket has room.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Begins the answer to `Hello`, again if it was given before.
    pub(super) fn greet(&mut self) {
        self.greeted = true;
        self.resume = Some(Resume::Welcome);
        self.sent = 0;
    }

    /// Sets the one reply.
    pub(super) fn reply(&mut self, event: Event, fd: Option<OwnedFd>) {
        self.reply = Some((event, fd));
    }

    /// Has the manager told of a power request.
    pub(super) fn ask_power(&mut self, kind: PowerKind) {
        self.power = Some(kind);
    }

    /// Whether the next request may be read: it waits while an answer does, but not for exits that wait.
    pub(super) fn may_receive(&self) -> bool {
        self.reply.is_none() && self.resume.is_none()
    }

    /// The next request, if one may be read now.
    pub(super) fn receive(&mut self) -> Result<Option<Packet>, Errno> {
        if !self.may_receive() {
            return Err(Errno::AGAIN);
        }
        channel::receive(&self.socket)
    }

    /// Reads on after the manager's death, when no answer can be given any more.
    pub(super) fn receive_last(&mut self) -> Option<Packet> {
        self.deaf = true;
        self.reply = None;
        self.resume = None;
        channel::receive(&self.socket).ok().flatten()
    }

    /// Sends what can be sent now.
    pub(super) fn pump(&mut self, ledger: &Ledger) {
        self.blocked = false;
        if self.deaf {
            self.reply = None;
            self.resume = None;
            return;
        }
        match self.send_all(ledger) {
            Ok(()) => {}
            Err(Errno::AGAIN) => self.blocked = true,
            Err(_) => {
                self.deaf = true;
                self.pump(ledger);
            }
        }
    }

    fn send_all(&mut self, ledger: &Ledger) -> Result<(), Errno> {
        if let Some((event, fd)) = &self.reply {
            match fd {
                Some(fd) => self.send(event, &[fd.as_fd()])?,
                None => self.send(event, &[])?,
            }
            self.reply = None;
        }
        while let Some(at) = self.resume {
            self.resume = self.send_resume(at, ledger)?;
        }
        if !self.greeted {
            return Ok(());
        }
        if let Some(kind) = self.power {
            self.send(&Event::PowerRequest { kind }, &[])?;
            self.power = None;
        }
        while let Some(exit) = ledger.exit_after(self.sent) {
            self.send(&exit.event(), &[])?;
            self.sent = exit.seq;
        }
        Ok(())
    }

    fn send_resume(&self, at: Resume, ledger: &Ledger) -> Result<Option<Resume>, Errno> {
        match at {
            Resume::Welcome => {
                let (running, stored, exits) = ledger.counts();
                let event = Event::Welcome {
                    generation: self.generation,
                    running,
                    stored,
                    exits,
                    origin: self.origin,
                };
                self.send(&event, &[])?;
                Ok(Some(Resume::Running(0)))
            }
            Resume::Running(at) => match ledger.running_from(at) {
                Some((at, running)) => {
                    let event = Event::Running {
                        token: running.token,
                        pid: running.pid,
                    };
                    self.send(&event, &[running.pidfd.as_fd()])?;
                    Ok(Some(Resume::Running(at + 1)))
                }
                None => Ok(Some(Resume::Stored(0))),
            },
            Resume::Stored(at) => match ledger.stored_from(at) {
                Some((at, (id, fd))) => {
                    self.send(&Event::Stored { id: *id }, &[fd.as_fd()])?;
                    Ok(Some(Resume::Stored(at + 1)))
                }
                None => Ok(Some(Resume::Finish)),
            },
            Resume::Finish => {
                self.send(&Event::Resumed, &[])?;
                Ok(None)
            }
        }
    }

    fn send(&self, event: &Event, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        channel::send(&self.socket, &event.encode(), fds)
    }
}

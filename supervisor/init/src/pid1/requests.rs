//! What the manager asks for, and the answers.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use rustix::event::epoll;
use rustix::fs::{FileType, fstat};

use super::Init;
use super::link::Link;
use super::start::LOW_FDS;
use crate::channel::Packet;
use crate::console::say;
use crate::protocol::{Event, MAX_FDS, Request, SPAWN_FDS};
use crate::sys::{self, Program, Spawn};

/// So many bad requests of one manager are told on the console.
const TELL_REFUSALS: u32 = 20;
/// So many requests are handled before other work gets its turn.
const REQUESTS_A_TURN: usize = 64;
/// What [`Request::Spawn`] carries that cairn-exec does not get: the cgroup's folder.
const KEPT_BACK: usize = 1;

impl Init {
    pub(super) fn handle_requests(&mut self) {
        for _ in 0..REQUESTS_A_TURN {
            let Some(link) = &mut self.link else { return };
            match link.receive() {
                Ok(Some(packet)) => {
                    self.handle(packet);
                    self.pump();
                }
                Err(rustix::io::Errno::AGAIN) => return,
                // It closed its socket but may be alive: without the socket it is of no use.
                Ok(None) | Err(_) => return self.manager_hung_up(),
            }
        }
    }

    /// Sends what can be sent, and sets what is waited for.
    pub(super) fn pump(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.pump(&self.ledger);
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::OUT, link.is_blocked());
        flags.set(epoll::EventFlags::IN, link.may_receive());
        let data = epoll::EventData::new_u64(0);
        let _ = epoll::modify(&self.epoll, link.socket(), data, flags);
    }

    pub(super) fn handle(&mut self, mut packet: Packet) {
        let kind = packet.bytes().get(1).copied().unwrap_or(0);
        let request = match Request::decode(packet.bytes(), packet.fd_count) {
            Ok(request) => request,
            Err(why) => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals <= TELL_REFUSALS {
                    say!("refused a request of the manager: {why}");
                }
                return self.reply(refused(kind, Errno::EINVAL), None);
            }
        };
        let greeted = self.link.as_ref().is_some_and(Link::is_greeted);
        if !greeted && request != Request::Hello {
            return self.reply(refused(kind, Errno::EPROTO), None);
        }
        match request {
            Request::Hello => {
                self.keeper.greeted();
                if let Some(link) = &mut self.link {
                    link.greet();
                }
            }
            Request::Spawn { token, listen } => match self.spawn(token, usize::from(listen), &packet) {
                Ok((pid, pidfd)) => self.reply(Event::Spawned { token, pid }, pidfd),
                Err(error) => {
                    let errno = error as i32;
                    self.reply(Event::SpawnFailed { token, errno }, None);
                }
            },
            Request::Ack { seq } => self.ledger.acknowledge(seq),
            Request::Store { id } => {
                if let Some(fd) = packet.fds[0].take()
                    && let Err(error) = self.ledger.store(id, fd)
                {
                    self.reply(refused(kind, error), None);
                }
            }
            Request::Remove { id } => self.ledger.remove(id),
            Request::Shutdown { kind, deadline_ms } => self.ending = Some((kind, deadline_ms)),
            Request::Barrier => {
                self.reap_all();
                let (seq, all) = (self.ledger.last_seq(), !self.ledger.is_full());
                self.reply(Event::Passed { seq, all }, None);
            }
            Request::ReplaceManager => match self.replace_manager(packet.fds[0].take()) {
                Ok(()) => self.reply(Event::Replacing, None),
                Err(error) => self.reply(refused(kind, error), None),
            },
        }
    }

    fn spawn(&mut self, token: u64, listen: usize, packet: &Packet) -> Result<(i32, Option<OwnedFd>), Errno> {
        if self.ending.is_some() {
            return Err(Errno::ESHUTDOWN);
        }
        self.ledger.may_start(token)?;
        let [
            Some(plan),
            Some(cgroup),
            Some(stdin),
            Some(stdout),
            Some(stderr),
            Some(status),
            sockets @ ..,
        ] = &packet.fds
        else {
            return Err(Errno::EBADF);
        };
        let mut fds = [stdin.as_fd(); MAX_FDS - KEPT_BACK];
        let first = [stdout, stderr, plan, status];
        let sockets = sockets.iter().take(listen).flatten();
        for (slot, fd) in fds[1..].iter_mut().zip(first.into_iter().chain(sockets)) {
            *slot = fd.as_fd();
        }
        let (pid, pidfd) = sys::spawn(&Spawn {
            program: Program::Open(self.exec.as_fd()),
            args: &[c"cairn-exec"],
            cgroup: self.options.mounts.then_some(cgroup.as_fd()),
            fds: &fds[..SPAWN_FDS - KEPT_BACK + listen],
            oom_score: b"0",
        })?;
        // Without a copy to send the manager still learns of the process, and finds the pidfd after its next hello.
        let copy = rustix::io::fcntl_dupfd_cloexec(&pidfd, LOW_FDS).ok();
        self.ledger.started(token, pid, pidfd);
        Ok((pid, copy))
    }

    /// Keeps a program for the next managers, after a look at whether it can be one.
    fn replace_manager(&mut self, program: Option<OwnedFd>) -> Result<(), Errno> {
        if self.ending.is_some() {
            return Err(Errno::ESHUTDOWN);
        }
        let program = program.ok_or(Errno::EBADF)?;
        let stat = fstat(&program).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        self.replacement = Some(program);
        self.keeper.replace();
        Ok(())
    }

    fn reply(&mut self, event: Event, fd: Option<OwnedFd>) {
        if let Some(link) = &mut self.link {
            link.reply(event, fd);
        }
    }
}

fn refused(request: u8, error: Errno) -> Event {
    Event::Refused {
        request,
        errno: error as i32,
    }
}

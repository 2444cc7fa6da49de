//! What init remembers for managers to come: who runs, who ended, and the descriptors kept for them.
//!
//! All room is taken at the start; nothing here allocates later, and nothing here does I/O but closing descriptors.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::protocol::{Event, ExitStatus, RUNNING_CAPACITY, STORE_CAPACITY, StoreId};

/// How many exits wait for their acknowledgement. When that many do, no more processes are reaped: the kernel then
/// keeps their statuses.
pub(super) const EXIT_CAPACITY: usize = 4096;

/// A process that was asked for.
pub(super) struct Running {
    pub(super) token: u64,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

/// A process that was reaped.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    pub(super) seq: u64,
    token: u64,
    monotonic_ns: u64,
    pid: i32,
    status: ExitStatus,
    cgroup: u64,
}

impl Exit {
    pub(super) fn event(&self) -> Event {
        Event::Exited {
            seq: self.seq,
            token: self.token,
            monotonic_ns: self.monotonic_ns,
            pid: self.pid,
            status: self.status,
            cgroup: self.cgroup,
        }
    }
}

/// The tables. Their slots keep their places, so that an index can walk them while they change. A slot takes memory only
/// once it has been used.
pub(super) struct Ledger {
    running: Vec<Option<Running>>,
    store: Vec<Option<(StoreId, OwnedFd)>>,
    exits: VecDeque<Exit>,
    next_seq: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            running: Vec::with_capacity(RUNNING_CAPACITY),
            store: Vec::with_capacity(STORE_CAPACITY),
            exits: VecDeque::with_capacity(EXIT_CAPACITY),
            next_seq: 1,
        }
    }

    /// Whether a process with this token may be started; why not, otherwise.
    pub(super) fn may_start(&self, token: u64) -> Result<(), Errno> {
        if self.running.iter().flatten().any(|r| r.token == token) {
            return Err(Errno::EEXIST);
        }
        if self.running.iter().flatten().count() >= RUNNING_CAPACITY {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Notes a process that was started after [`Ledger::may_start`] said yes.
    pub(super) fn started(&mut self, token: u64, pid: i32, pidfd: OwnedFd) {
        put(&mut self.running, RUNNING_CAPACITY, Running { token, pid, pidfd });
    }

    /// Notes a process that was reaped. If there is no room the oldest exit is given up; see [`Ledger::is_full`].
    pub(super) fn exited(&mut self, pid: i32, status: ExitStatus, cgroup: u64, monotonic_ns: u64) {
        let slot = self
            .running
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|r| r.pid == pid));
        let token = slot.and_then(Option::take).map_or(0, |r| r.token);
        if self.is_full() {
            self.exits.pop_front();
        }
        self.exits.push_back(Exit {
            seq: self.next_seq,
            token,
            monotonic_ns,
            pid,
            status,
            cgroup,
        });
        self.next_seq += 1;
    }

    /// Whether the next exit would push out one that no manager has acknowledged.
    pub(super) fn is_full(&self) -> bool {
        self.exits.len() >= EXIT_CAPACITY
    }

    /// The number of the last exit; 0 if there was none.
    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Forgets exits up to and including `seq`.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        while self.exits.front().is_some_and(|exit| exit.seq <= seq) {
            self.exits.pop_front();
        }
        if self.exits.is_empty() {
            // Begins at the first slot again: a ring that wanders would use all of its memory.
            self.exits.clear();
        }
    }

    /// The first exit after `seq`.
    pub(super) fn exit_after(&self, seq: u64) -> Option<&Exit> {
        // Numbers are consecutive from the front on.
        let front = self.exits.front()?.seq;
        let skip = (seq + 1).saturating_sub(front);
        self.exits.get(usize::try_from(skip).ok()?)
    }

    /// Keeps a descriptor under a name, in place of one that has it already.
    pub(super) fn store(&mut self, id: StoreId, fd: OwnedFd) -> Result<(), Errno> {
        let same = |slot: &&mut Option<(StoreId, OwnedFd)>| slot.as_ref().is_some_and(|(own, _)| *own == id);
        if let Some(slot) = self.store.iter_mut().find(same) {
            *slot = Some((id, fd));
            return Ok(());
        }
        match put(&mut self.store, STORE_CAPACITY, (id, fd)) {
            true => Ok(()),
            false => Err(Errno::ENOSPC),
        }
    }

    /// Closes a stored descriptor.
    pub(super) fn remove(&mut self, id: StoreId) {
        for slot in &mut self.store {
            if slot.as_ref().is_some_and(|(own, _)| *own == id) {
                *slot = None;
            }
        }
    }

    /// Closes all stored descriptors: at the end, so that they pin no mount.
    pub(super) fn close_store(&mut self) {
        self.store.iter_mut().for_each(|slot| *slot = None);
    }

    /// The first running process at or behind a place in the table, and its place.
    pub(super) fn running_from(&self, at: usize) -> Option<(usize, &Running)> {
        let slots = self.running.iter().enumerate().skip(at);
        slots.filter_map(|(i, slot)| Some((i, slot.as_ref()?))).next()
    }

    /// The first stored descriptor at or behind a place in the table, and its place.
    pub(super) fn stored_from(&self, at: usize) -> Option<(usize, &(StoreId, OwnedFd))> {
        let slots = self.store.iter().enumerate().skip(at);
        slots.filter_map(|(i, slot)| Some((i, slot.as_ref()?))).next()
    }

    /// How many run, are stored, and have ended unacknowledged.
    pub(super) fn counts(&self) -> (u32, u32, u32) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (
            count(self.running.iter().flatten().count()),
            count(self.store.iter().flatten().count()),
            count(self.exits.len()),
        )
    }
}

/// Takes the first free slot, or a new one while there are fewer than `most`. Returns whether there was one.
fn put<T>(slots: &mut Vec<Option<T>>, most: usize, value: T) -> bool {
    if let Some(slot) = slots.iter_mut().find(|slot| slot.is_none()) {
        *slot = Some(value);
        return true;
    }
    let room = slots.len() < most;
    if room {
        slots.push(Some(value));
    }
    room
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

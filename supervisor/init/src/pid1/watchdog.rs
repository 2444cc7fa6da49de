//! The hardware watchdog: if we stop feeding it, the machine starts again. It is left armed at shutdown, so that a
//! shutdown that hangs ends too.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use crate::console::debug;
use crate::sys;

const WANTED_SECONDS: u32 = 60;
const SECOND: u64 = 1_000_000_000;

/// The watchdog, if the machine has one.
pub(super) struct Watchdog {
    device: Option<OwnedFd>,
    interval: u64,
    next: u64,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self {
            device: None,
            interval: u64::from(WANTED_SECONDS) * SECOND / 2,
            next: 0,
        }
    }

    /// Opens (and so arms) it if it is there and not open yet.
    pub(super) fn open(&mut self) {
        if self.device.is_some() {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(device) = open(c"/dev/watchdog", flags, Mode::empty()) {
            if let Ok(seconds) = sys::watchdog_set_timeout(&device, WANTED_SECONDS) {
                self.interval = (u64::from(seconds) * SECOND / 2).max(SECOND / 2);
            }
            debug!("hardware watchdog fed every {} ms", self.interval / 1_000_000);
            self.device = Some(device);
        }
    }

    /// Feeds it when it is time.
    pub(super) fn tick(&mut self, now: u64) {
        if let Some(device) = &self.device
            && now >= self.next
        {
            let _ = sys::watchdog_ping(device);
            self.next = now + self.interval;
        }
    }

    /// When to call again.
    pub(super) fn next(&self) -> Option<u64> {
        self.device.is_some().then_some(self.next)
    }
}

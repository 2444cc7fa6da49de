//! The hardware watchdog: if we stop feeding it, the machine starts again. It is left armed at shutdown, so that a
//! shutdown that hangs ends too.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use crate::console::debug;
use crate::sys;

const WANTED_SECONDS: u32 = 60;
/// What a disk may need to write out all that is in memory. A device that cannot wait so long keeps its time.
const PATIENT_SECONDS: u32 = 240;
/// How often it is fed in that time. A virtual machine whose host stands still ages all the same: it survives any standstill that
/// is shorter than the time that was left, and so this leaves nearly all of it.
const FEEDS: u64 = 12;
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
            interval: interval(WANTED_SECONDS),
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
                self.interval = interval(seconds);
                debug!("hardware watchdog of {seconds} s");
            }
            debug!("hardware watchdog fed every {} ms", self.interval / 1_000_000);
            self.device = Some(device);
        }
    }

    /// Feeds it when it is time.
    pub(super) fn tick(&mut self, now: u64) {
        if now >= self.next {
            self.feed();
            self.next = now + self.interval;
        }
    }

    /// Feeds it now.
    pub(super) fn feed(&self) {
        if let Some(device) = &self.device {
            let _ = sys::watchdog_ping(device);
        }
    }

    /// Feeds it and, for what cannot feed it meanwhile, asks for all the time that a shutdown may take.
    pub(super) fn be_patient(&self) {
        if let Some(device) = &self.device {
            let _ = sys::watchdog_set_timeout(device, PATIENT_SECONDS);
        }
        self.feed();
    }

    /// When to call again.
    pub(super) fn next(&self) -> Option<u64> {
        self.device.is_some().then_some(self.next)
    }
}

/// Nanoseconds between two feeds of a watchdog that waits so many seconds.
fn interval(seconds: u32) -> u64 {
    (u64::from(seconds) * SECOND / FEEDS).max(SECOND / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_nine_tenths_of_the_time_are_always_left() {
        for seconds in [2, 15, 60, 255, 613] {
            assert!(interval(seconds) * 10 <= u64::from(seconds) * SECOND, "{seconds}");
        }
    }
}

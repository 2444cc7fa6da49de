//! PID 1 in the root: starts and keeps the manager, spawns for it, reaps everything, keeps its descriptors, and ends
//! the boot.
//!
//! One thread, one loop. After [`Init::start`] it allocates nothing, and it parses nothing but fixed-size messages and its own
//! lines of /proc. It must not die: every error is a reply, a line on the console, or ignored with a reason.

mod buttons;
mod cgroups;
mod keeper;
mod ledger;
mod link;
mod loader;
mod manager;
mod options;
mod reap;
mod requests;
mod setup;
mod shutdown;
mod start;
mod watchdog;
mod words;

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};

use buttons::Buttons;
use cgroups::Cgroups;
use keeper::Keeper;
use ledger::Ledger;
use link::Link;
use loader::Loader;
pub(crate) use options::Options;
use reap::Reaped;
use watchdog::Watchdog;
use words::Words;

use crate::console::{debug, say};
use crate::protocol::PowerKind;
use crate::sys::{self, Program, Spawn};
use crate::times::{self, Times};

const SECOND: u64 = 1_000_000_000;
/// How long the manager has to stop its units after a power request.
const POWER_PATIENCE: u64 = 90 * SECOND;
/// What is left gets so long between SIGTERM and SIGKILL when there is no manager to ask.
const ALONE_DEADLINE_MS: u32 = 10_000;
/// So many presses of the power button mean "now".
const IMPATIENT: u32 = 3;

/// A power request that the manager works on.
struct Asked {
    kind: PowerKind,
    until: u64,
    times: u32,
}

struct Init {
    options: Options,
    epoll: OwnedFd,
    signals: SignalFd,
    console: OwnedFd,
    null: OwnedFd,
    exec: OwnedFd,
    manager_cgroup: Option<OwnedFd>,
    cgroups: Cgroups,
    ledger: Ledger,
    keeper: Keeper,
    /// The program that is started in place of the image's manager.
    replacement: Option<OwnedFd>,
    link: Option<Link>,
    refusals: u32,
    words: Words,
    /// Whether [`Words::source`] is watched.
    hears: bool,
    loader: Loader,
    buttons: Buttons,
    watchdog: Watchdog,
    asked: Option<Asked>,
    /// What to do, once it is decided: kind and deadline.
    ending: Option<(PowerKind, u32)>,
    mounts_room: Vec<u8>,
    /// Holds the low descriptor numbers.
    _low: Vec<OwnedFd>,
}

/// Runs PID 1; never returns.
pub(crate) fn run(options: Options) -> ! {
    let mut times = Times::default();
    match times.step("init-setup", || Init::start(options)) {
        Ok(mut init) => {
            if init.options.mounts {
                times.save();
            }
            drop(times);
            init.stay_in_memory();
            sys::seal();
            init.serve()
        }
        Err((what, error)) => {
            say!("cannot start PID 1: {what}: {error}; starting again in 10 seconds");
            crate::restart_machine()
        }
    }
}

impl Init {
    /// The loop. Every turn looks at everything: the calls are cheap, and no event can be forgotten.
    fn serve(&mut self) -> ! {
        loop {
            let now = times::now();
            self.read_signals();
            if self.buttons.pressed() {
                self.request_power(PowerKind::PowerOff);
            }
            self.handle_requests();
            self.reap_all();
            self.keep_manager(now);
            self.keep_loader(now);
            self.pump();
            self.hear(now);
            self.watchdog.tick(now);
            if let Some(asked) = &self.asked
                && now >= asked.until
                && self.ending.is_none()
            {
                say!("the manager did not stop the units in time; doing it without it");
                self.ending = Some((asked.kind, ALONE_DEADLINE_MS));
            }
            if let Some((kind, deadline_ms)) = self.ending {
                shutdown::run(self, kind, deadline_ms);
            }
            self.wait();
        }
    }

    /// Sleeps until something happens or the next thing is due.
    fn wait(&mut self) {
        let dues = [
            self.keeper.next(),
            self.asked.as_ref().map(|asked| asked.until),
            self.watchdog.next(),
            self.loader.next(),
            self.words.next(),
        ];
        let now = times::now();
        let left = dues.into_iter().flatten().min().map(|due| due.saturating_sub(now));
        self.sleep(left);
    }

    /// Sleeps for so many nanoseconds at most.
    fn pause(&mut self, nanoseconds: u64) {
        self.sleep(Some(nanoseconds));
        self.read_signals();
    }

    fn sleep(&mut self, nanoseconds: Option<u64>) {
        let timeout = nanoseconds.map(|ns| Timespec {
            tv_sec: (ns / SECOND) as i64,
            tv_nsec: (ns % SECOND) as i64,
        });
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 16];
        // Which descriptor it was does not matter: the loop looks at all. An error would be EINTR.
        let _ = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
    }

    fn watch(&self, fd: impl AsFd, flags: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(0);
        if let Err(error) = epoll::add(&self.epoll, fd, data, flags) {
            say!("cannot watch a descriptor: {error}");
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGINT) => self.request_power(PowerKind::Reboot),
                Ok(Signal::SIGTERM | Signal::SIGPWR) => self.request_power(PowerKind::PowerOff),
                Ok(Signal::SIGUSR1) => self.new_devices(),
                // SIGCHLD is answered by reaping in every turn.
                _ => {}
            }
        }
    }

    fn new_devices(&mut self) {
        if !self.options.mounts {
            return;
        }
        self.watchdog.open();
        let epoll = &self.epoll;
        self.buttons.scan(|device| {
            debug!("watching a power button");
            let data = epoll::EventData::new_u64(0);
            let _ = epoll::add(epoll, device, data, epoll::EventFlags::IN);
        });
    }

    /// Someone wants this boot to end: the manager is asked to stop the units, if there is one.
    fn request_power(&mut self, kind: PowerKind) {
        if self.ending.is_some() {
            return;
        }
        let times = self.asked.as_ref().map_or(0, |asked| asked.times) + 1;
        let until = self
            .asked
            .as_ref()
            .map_or(times::now().saturating_add(self.options.power_patience), |asked| {
                asked.until
            });
        self.asked = Some(Asked { kind, until, times });
        if self.keeper.is_emergency() || times >= IMPATIENT {
            self.ending = Some((kind, ALONE_DEADLINE_MS));
        } else if let Some(link) = &mut self.link {
            link.ask_power(kind);
        }
    }

    /// Starts the module loader when it is time.
    fn keep_loader(&mut self, now: u64) {
        let Some(program) = &self.options.loader else { return };
        if !self.loader.is_due(now) || self.ending.is_some() {
            return;
        }
        let result = sys::spawn(&Spawn {
            program: Program::Path(program),
            args: &[c"cairn-init", c"hotplug"],
            cgroup: None,
            fds: &[self.null.as_fd(), self.console.as_fd(), self.console.as_fd()],
            oom_score: b"0",
        });
        match result {
            Ok((pid, _)) => self.loader.started(pid, now),
            Err(error) => {
                if self.loader.ended(now) {
                    say!("cannot load modules for devices: {error}");
                }
            }
        }
    }

    /// Copies what the manager writes to the console, as far as it is its turn.
    fn hear(&mut self, now: u64) {
        self.words.turn(now);
        let hears = self.words.next().is_none();
        if hears != self.hears {
            let flags = match hears {
                true => epoll::EventFlags::IN,
                false => epoll::EventFlags::empty(),
            };
            let data = epoll::EventData::new_u64(0);
            if epoll::modify(&self.epoll, self.words.source(), data, flags).is_ok() {
                self.hears = hears;
            }
        }
    }

    /// Gives back what only the start needed, locks the rest, and brings in what has to work without a disk: the code of this
    /// loop and of the shutdown.
    fn stay_in_memory(&mut self) {
        let constant = sys::Constant::find();
        sys::give_back_start(&constant);
        if let Err(error) = sys::lock_memory() {
            // A user instance may lock little.
            if self.options.mounts {
                say!("cannot keep PID 1 in memory: {error}");
            }
        }
        let ours = [
            Self::serve as *const _,
            Self::handle as *const _,
            Self::manager_ended as *const _,
            sys::spawn as *const _,
            shutdown::run as *const _,
            Link::pump as *const _,
            Link::receive as *const _,
            std::fmt::write as *const _,
            std::fmt::Formatter::pad_integral as *const _,
        ];
        let kept = sys::keep_code(&constant, &ours).and_then(|()| sys::keep_code(&constant, &sys::c_library()));
        if let Err(error) = kept {
            say!("cannot bring all of PID 1 into memory: {error}");
        }
        shutdown::rehearse(&mut self.mounts_room);
    }
}

/// Reads a small file of the kernel's: as much as there is room for. Returns the length.
fn read_file(path: &CStr, buffer: &mut [u8]) -> usize {
    let Ok(file) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return 0;
    };
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match rustix::io::read(&file, room) {
            Ok(n) if n > 0 => length += n,
            _ => break,
        }
    }
    length
}

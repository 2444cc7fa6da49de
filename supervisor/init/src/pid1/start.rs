//! Everything that PID 1 prepares before its loop: the only part that allocates.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll;

use super::buttons::Buttons;
use super::cgroups::Cgroups;
use super::keeper::Keeper;
use super::ledger::Ledger;
use super::loader::Loader;
use super::watchdog::Watchdog;
use super::words::Words;
use super::{Init, Options, setup, shutdown};
use crate::console::debug;
use crate::protocol::MAX_FDS;
use crate::{sys, times};

/// Descriptors below this stay taken, so that those for children never collide with where they are to go.
pub(super) const LOW_FDS: i32 = MAX_FDS as i32;

/// What was being done, and why it failed.
pub(super) type StartError = (&'static str, std::io::Error);

impl Init {
    /// Prepares everything. The only part that allocates.
    pub(super) fn start(options: Options) -> Result<Self, StartError> {
        fn at<T, E: Into<std::io::Error>>(what: &'static str, result: Result<T, E>) -> Result<T, StartError> {
            result.map_err(|error| (what, error.into()))
        }
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGPWR,
            Signal::SIGUSR1,
            Signal::SIGHUP,
        ] {
            mask.add(signal);
        }
        at("block signals", mask.thread_block())?;
        let begin = times::now();
        let done = |what: &str| debug!("{what}: {} ms after the start", (times::now() - begin) / 1_000_000);
        if options.mounts {
            setup::mounts();
            crate::open_console();
            crate::console::set_debug_from_cmdline();
            setup::settings();
        }
        sys::supervise_defaults();
        done("mounts");
        let manager_cgroup = if options.mounts { setup::cgroups() } else { None };
        done("cgroups");

        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
        };
        let mut low = Vec::new();
        loop {
            let fd = at("open /dev/null", null())?;
            if fd.as_raw_fd() >= LOW_FDS {
                break;
            }
            low.push(fd);
        }
        let console = at("keep the console", rustix::stdio::stderr().try_clone_to_owned())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = at("read signals", SignalFd::with_flags(&mask, flags))?;
        let epoll = at("make an epoll", epoll::create(epoll::CreateFlags::CLOEXEC))?;
        let exec = at(
            "open cairn-exec",
            rustix::fs::open(
                options.exec.as_c_str(),
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            ),
        )?;
        let cgroups = Cgroups::open();
        let words = at("make a pipe", Words::new(console.as_fd()))?;
        let loader = Loader::new(options.loader.is_some());
        let keeper = Keeper::new(options.greeting);
        let mut init = Self {
            options,
            epoll,
            signals,
            console,
            null: at("open /dev/null", null())?,
            exec,
            manager_cgroup,
            ledger: Ledger::new(),
            keeper,
            cgroups,
            replacement: None,
            link: None,
            refusals: 0,
            words,
            hears: true,
            loader,
            buttons: Buttons::new(),
            watchdog: Watchdog::new(),
            asked: None,
            ending: None,
            mounts_room: vec![0; shutdown::MOUNTS_ROOM],
            _low: low,
        };
        init.watch(init.signals.as_fd(), epoll::EventFlags::IN);
        init.watch(init.words.source(), epoll::EventFlags::IN);
        // It works while we wait for the controllers.
        init.keep_loader(times::now());
        if init.options.mounts {
            init.watchdog.open();
            setup::controllers();
            done("controllers");
        }
        Ok(init)
    }
}

//! PID 1 in the root: starts and keeps the manager, spawns for it, reaps everything, keeps its descriptors, and ends
//! the boot.
//!
//! One thread, one loop. After [`Init::start`] it allocates nothing, and it parses nothing but fixed-size messages. It
//! must not die: every error is a reply, a line on the console, or ignored with a reason.

mod buttons;
mod keeper;
mod ledger;
mod link;
mod setup;
mod shutdown;
mod watchdog;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::WaitOptions;

use buttons::Buttons;
use keeper::{Keeper, News, State};
use ledger::Ledger;
use link::Link;
use watchdog::Watchdog;

use crate::channel::Packet;
use crate::console::{debug, say};
use crate::protocol::{Event, ExitStatus, PowerKind, Request};
use crate::sys::{self, Program, Spawn};
use crate::times::{self, Times};

const SECOND: u64 = 1_000_000_000;
/// How long the manager has to stop its units after a power request.
const POWER_PATIENCE: u64 = 90 * SECOND;
/// What is left gets so long between SIGTERM and SIGKILL when there is no manager to ask.
const ALONE_DEADLINE_MS: u32 = 10_000;
/// So many presses of the power button mean "now".
const IMPATIENT: u32 = 3;
/// So many bad requests of one manager are told on the console.
const TELL_REFUSALS: u32 = 20;
/// So many requests are handled before other work gets its turn.
const REQUESTS_A_TURN: usize = 64;
/// Descriptors below this stay taken, so that those for children never collide with where they are to go.
const LOW_FDS: i32 = 10;

/// How PID 1 runs; other than the defaults only in tests and user instances.
#[derive(Debug)]
pub(crate) struct Options {
    /// The manager's path.
    pub(crate) manager: CString,
    /// cairn-exec's path.
    pub(crate) exec: CString,
    /// Whether the machine is ours: mounts, cgroups, kernel settings, devices, reboot(2).
    pub(crate) mounts: bool,
    /// Nanoseconds that the manager has after a power request.
    pub(crate) power_patience: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            manager: c"/usr/lib/cairn/cairn-manager".to_owned(),
            exec: c"/usr/lib/cairn/cairn-exec".to_owned(),
            mounts: true,
            power_patience: POWER_PATIENCE,
        }
    }
}

/// What reaping came to.
#[derive(Debug, PartialEq, Eq)]
enum Reaped {
    /// Nothing has ended that was not reaped, as far as there is room to note it.
    AllDone,
    /// There is no child at all.
    NoChildren,
}

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
    /// Where the manager's output goes: the console.
    console: OwnedFd,
    null: OwnedFd,
    exec: OwnedFd,
    manager_cgroup: Option<OwnedFd>,
    ledger: Ledger,
    keeper: Keeper,
    link: Option<Link>,
    refusals: u32,
    hotplug: Option<i32>,
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
            sys::seal();
            init.serve()
        }
        Err((what, error)) => {
            say!("cannot start PID 1: {what}: {error}; starting again in 10 seconds");
            crate::restart_machine()
        }
    }
}

type StartError = (&'static str, std::io::Error);

impl Init {
    /// Prepares everything. The only part that allocates.
    fn start(options: Options) -> Result<Self, StartError> {
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
        let mut init = Self {
            options,
            epoll,
            signals,
            console,
            null: at("open /dev/null", null())?,
            exec,
            manager_cgroup,
            ledger: Ledger::new(),
            keeper: Keeper::new(),
            link: None,
            refusals: 0,
            hotplug: None,
            buttons: Buttons::new(),
            watchdog: Watchdog::new(),
            asked: None,
            ending: None,
            mounts_room: vec![0; shutdown::MOUNTS_ROOM],
            _low: low,
        };
        init.watch(init.signals.as_fd(), epoll::EventFlags::IN);
        if init.options.mounts {
            init.watchdog.open();
            // It works while we wait for the controllers.
            init.start_hotplug();
            setup::controllers();
            done("controllers");
            if let Err(error) = sys::lock_memory() {
                say!("cannot keep PID 1 in memory: {error}");
            }
            done("memory");
        }
        Ok(init)
    }

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
            self.pump();
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

    /// Reaps all that has ended, as long as there is room to note it (in an emergency, nobody will read it anyway).
    fn reap_all(&mut self) -> Reaped {
        while !self.ledger.is_full() || self.keeper.is_emergency() || self.ending.is_some() {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    self.reaped(pid.as_raw_nonzero().get(), ExitStatus(status.as_raw()));
                }
                Ok(None) => return Reaped::AllDone,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Reaped::NoChildren,
            }
        }
        Reaped::AllDone
    }

    fn reaped(&mut self, pid: i32, status: ExitStatus) {
        if self.keeper.is_manager(pid) {
            self.manager_ended(Some(status));
        } else if self.hotplug == Some(pid) {
            self.hotplug = None;
        } else {
            self.ledger.exited(pid, status, times::now());
        }
    }

    fn manager_ended(&mut self, status: Option<ExitStatus>) {
        if let Some(status) = status {
            say!("the manager ended: {status}");
        }
        // What it had asked for is still done; its successor hears of it.
        while let Some(packet) = self.link.as_mut().and_then(Link::receive_last) {
            self.handle(packet);
        }
        self.link = None;
        if self.keeper.ended(status, times::now()) == News::EmergencyBegins {
            say!(
                "EMERGENCY: the manager will not stay up. Services that run go on running; the power button still stops \
                 this machine cleanly. Trying again every 10 seconds"
            );
        }
    }

    /// Starts the manager when it is time, and looks whether it is well.
    fn keep_manager(&mut self, now: u64) {
        if self.keeper.tick(now) == News::EmergencyEnds {
            say!("the manager is up again");
        }
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
        let (pid, _pidfd) = sys::spawn(&Spawn {
            program: Program::Path(&self.options.manager),
            args: &[c"cairn-manager"],
            cgroup: self.manager_cgroup.as_ref().map(AsFd::as_fd),
            fds: &[
                self.null.as_fd(),
                self.console.as_fd(),
                self.console.as_fd(),
                theirs.as_fd(),
            ],
            oom_score: b"-1000",
        })?;
        let generation = self.keeper.generation;
        self.keeper.started(pid, times::now());
        let power = self.asked.as_ref().map(|asked| asked.kind);
        self.watch(&ours, epoll::EventFlags::IN);
        self.link = Some(Link::new(ours, generation, power));
        self.refusals = 0;
        Ok(())
    }

    /// Closes everything that is kept for managers: at the end of the boot.
    fn forget_manager(&mut self) {
        self.link = None;
        self.ledger.close_store();
    }

    fn start_hotplug(&mut self) {
        let result = sys::spawn(&Spawn {
            program: Program::Path(c"/proc/self/exe"),
            args: &[c"cairn-init", c"hotplug"],
            cgroup: None,
            fds: &[self.null.as_fd(), self.console.as_fd(), self.console.as_fd()],
            oom_score: b"0",
        });
        match result {
            Ok((pid, _)) => self.hotplug = Some(pid),
            Err(error) => say!("cannot load modules for devices: {error}"),
        }
    }

    /// Sends what can be sent, and sets what is waited for.
    fn pump(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.pump(&self.ledger);
        let mut flags = epoll::EventFlags::IN;
        if link.is_blocked() {
            // Requests wait too: without room for replies there is nothing to do but wait for it.
            flags = epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(0);
        let _ = epoll::modify(&self.epoll, link.socket(), data, flags);
    }

    fn handle_requests(&mut self) {
        for _ in 0..REQUESTS_A_TURN {
            let Some(link) = &mut self.link else { return };
            match link.receive() {
                Ok(Some(packet)) => {
                    self.handle(packet);
                    self.pump();
                }
                Ok(None) => {
                    // It closed its socket but may be alive: without the socket it is of no use.
                    self.manager_hung_up();
                    return;
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.manager_hung_up();
                    return;
                }
            }
        }
    }

    /// The socket is at its end: makes sure that the process is too, so that it is reaped and followed by another.
    fn manager_hung_up(&mut self) {
        self.link = None;
        if let State::Alive { pid, .. } = self.keeper.state {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn handle(&mut self, mut packet: Packet) {
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
            Request::Spawn { token } => match self.spawn(token, &packet) {
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
        }
    }

    fn spawn(&mut self, token: u64, packet: &Packet) -> Result<(i32, Option<OwnedFd>), Errno> {
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
        ] = &packet.fds
        else {
            return Err(Errno::EBADF);
        };
        let (pid, pidfd) = sys::spawn(&Spawn {
            program: Program::Open(self.exec.as_fd()),
            args: &[c"cairn-exec"],
            cgroup: self.options.mounts.then_some(cgroup.as_fd()),
            fds: &[
                stdin.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
                plan.as_fd(),
                status.as_fd(),
            ],
            oom_score: b"0",
        })?;
        // Without a copy to send the manager still learns of the process, and finds the pidfd after its next hello.
        let copy = pidfd.try_clone().ok();
        self.ledger.started(token, pid, pidfd);
        Ok((pid, copy))
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

/// Reads the arguments of a test or a user instance.
pub(crate) fn options(args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut path = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            CString::new(value).map_err(|_| format!("{arg}: a value with a zero byte"))
        };
        match arg.as_str() {
            "--manager" => options.manager = path()?,
            "--exec" => options.exec = path()?,
            "--no-mounts" => options.mounts = false,
            "--power-patience-ms" => {
                let value = path()?;
                let ms: Option<u64> = value.to_str().ok().and_then(|v| v.parse().ok());
                let ms = ms.ok_or_else(|| format!("{arg} needs a number"))?;
                options.power_patience = Duration::from_millis(ms).as_nanos() as u64;
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

//! A manager for tests: does what a script beside it says and writes what it hears into a file beside it.
//!
//! The script of the n-th manager is `script-N` in the folder of the program, else `script`. One command a line:
//! `hello`, `spawn TOKEN SHELL-TEXT`, `store NAME TEXT`, `remove NAME`, `ack SEQ`, `raw LENGTH` (a packet of 0xff),
//! `expect TEXT` (reads events until a line of this manager's log holds the text), `kill-init SIGNAL`, `barrier`, `await-end TOKEN` (until that process, spawned last, has ended),
//! `shutdown DEADLINE-MS`, `die` (SIGKILL), `exit CODE`, `serve` (obeys power requests, for ever), `listen COUNT TOKEN SHELL-TEXT` (a spawn
//! with so many sockets, which are files that say `socket N`), `replace NAME` and `replace-in-memory NAME` (with the program NAME beside
//! this one), `print TEXT` (to stderr, `^` stands for escape), `flood` (prints for ever, beside the rest), `cgroups` (logs its own and
//! those of exits from now on), `rss` (logs PID 1's memory in KiB: all of it, and of files).
//! Without any script it plays the manager of a whole machine: see [`machine`].

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cairn_init::channel;
use cairn_init::protocol::{Event, PowerKind, Request, StoreId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

struct Manager {
    socket: OwnedFd,
    folder: PathBuf,
    /// Lines of this manager only.
    lines: Vec<String>,
    /// Whether the cgroups of exits are logged.
    cgroups: bool,
    /// The process started last.
    process: Option<OwnedFd>,
}

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    if name == "cairn-exec" {
        println!("fake exec: running");
        std::process::exit(7);
    }
    let mut manager = Manager {
        socket: inherited_socket(),
        folder: folder(),
        lines: Vec::new(),
        cgroups: false,
        process: None,
    };
    let log = fs::read_to_string(manager.folder.join("log")).unwrap_or_default();
    let number = log.lines().filter(|l| l.starts_with("started")).count();
    let script = fs::read_to_string(manager.folder.join(format!("script-{number}")))
        .or_else(|_| fs::read_to_string(manager.folder.join("script")));
    let Ok(script) = script else {
        machine(manager);
    };
    let own = std::env::current_exe().unwrap_or_default();
    let own = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    manager.log(format!("started {number} {own}"));
    for line in script.lines().filter(|l| !l.trim().is_empty()) {
        manager.command(line.trim());
    }
}

/// The folder of the manager that PID 1 was given: a replacement may be anywhere.
fn folder() -> PathBuf {
    let line = fs::read("/proc/1/cmdline").expect("/proc");
    let mut words = line.split(|b| *b == 0).skip_while(|word| *word != b"--manager");
    let path = words.nth(1).map(|path| Path::new(OsStr::from_bytes(path)));
    path.and_then(Path::parent).unwrap_or(Path::new("/run")).to_owned()
}

/// The inode number of our cgroup's folder; 0 without cgroup2.
fn own_cgroup() -> u64 {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let root = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| place.to_owned())
    });
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::"));
    let (Some(root), Some(path)) = (root, path) else {
        return 0;
    };
    fs::metadata(format!("{root}{path}")).map_or(0, |folder| folder.ino())
}

/// Our end of the socket pair. A socket cannot be opened through /proc, but pidfd_getfd copies any descriptor.
fn inherited_socket() -> OwnedFd {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
        .expect("pidfd of ourselves");
    rustix::process::pidfd_getfd(own, 3, rustix::process::PidfdGetfdFlags::empty()).expect("descriptor 3")
}

impl Manager {
    fn log(&mut self, line: String) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("open the log");
        file.write_all(format!("{line}\n").as_bytes()).expect("write the log");
        self.lines.push(line);
    }

    fn send(&self, request: Request, fds: &[BorrowedFd<'_>]) {
        self.wait_for(PollFlags::OUT);
        channel::send(&self.socket, &request.encode(), fds).expect("send");
    }

    fn wait_for(&self, flags: PollFlags) {
        let mut fds = [PollFd::new(&self.socket, flags)];
        poll(&mut fds, None).expect("poll");
    }

    /// Reads one event and logs it.
    fn event(&mut self) -> Event {
        self.wait_for(PollFlags::IN);
        let Some(mut packet) = channel::receive(&self.socket).expect("receive") else {
            std::process::exit(9);
        };
        let event = Event::decode(packet.bytes(), packet.fd_count).expect("a good event");
        if let Event::Spawned { .. } = event {
            self.process = packet.fds[0].take();
        }
        let line = match event {
            Event::Exited { seq, token, status, .. } => format!("exited seq={seq} token={token} {status}"),
            Event::Running { token, .. } => format!("running token={token}"),
            Event::Spawned { token, .. } => format!("spawned token={token}"),
            Event::Stored { id } => {
                let mut file = File::from(packet.fds[0].take().expect("a descriptor"));
                let mut text = String::new();
                file.rewind().expect("rewind");
                file.read_to_string(&mut text).expect("read");
                format!("stored {id} {text}")
            }
            other => format!("{other:?}"),
        };
        self.log(line);
        if let (true, Event::Exited { token, cgroup, .. }) = (self.cgroups, event) {
            self.log(format!("cgroup of {token} is {cgroup}"));
        }
        event
    }

    fn command(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "hello" => self.send(Request::Hello, &[]),
            "spawn" => self.spawn(first.parse().expect("token"), 0, second),
            "listen" => {
                let (token, text) = second.split_once(' ').expect("a token and a text");
                self.spawn(token.parse().expect("token"), first.parse().expect("count"), text);
            }
            "replace" => {
                let program = File::open(self.folder.join(first)).expect("the program");
                self.send(Request::ReplaceManager, &[program.as_fd()]);
            }
            "replace-in-memory" => {
                let program = memory(&fs::read(self.folder.join(first)).expect("the program"));
                self.send(Request::ReplaceManager, &[program.as_fd()]);
            }
            "print" => eprintln!("{}", rest.replace('^', "\x1b")),
            "flood" => drop(std::thread::spawn(|| {
                loop {
                    eprintln!("{}", "flood ".repeat(1000));
                }
            })),
            "cgroups" => {
                self.cgroups = true;
                self.log(format!("cgroup of this manager is {}", own_cgroup()));
            }
            "rss" => {
                let status = fs::read_to_string("/proc/1/status").expect("/proc");
                let value = |name: &str| {
                    let line = status.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|rest| rest.split_whitespace().next())
                        .unwrap_or("?")
                        .to_owned()
                };
                self.log(format!("rss {} {}", value("VmRSS:"), value("RssFile:")));
            }
            "store" => {
                let file = memory(second.as_bytes());
                let id = StoreId::new(first).expect("name");
                self.send(Request::Store { id }, &[file.as_fd()]);
            }
            "remove" => self.send(
                Request::Remove {
                    id: StoreId::new(first).expect("name"),
                },
                &[],
            ),
            "ack" => self.send(
                Request::Ack {
                    seq: first.parse().expect("number"),
                },
                &[],
            ),
            "raw" => {
                let bytes = vec![0xff; first.parse().expect("length")];
                rustix::net::send(&self.socket, &bytes, rustix::net::SendFlags::empty()).expect("send");
            }
            "expect" => {
                let mut from = 0;
                while !self.lines[from..].iter().any(|l| l.contains(rest)) {
                    from = self.lines.len();
                    self.event();
                }
            }
            "barrier" => self.send(Request::Barrier, &[]),
            "await-end" => {
                self.command(&format!("expect spawned token={first}"));
                let process = self.process.as_ref().expect("its pidfd");
                poll(&mut [PollFd::new(process, PollFlags::IN)], None).expect("poll");
            }
            "kill-init" => {
                let signal: Signal = first.parse().expect("signal");
                kill(Pid::from_raw(1), signal).expect("signal init");
            }
            "shutdown" => {
                let deadline_ms = first.parse().expect("number");
                let kind = PowerKind::PowerOff;
                self.send(Request::Shutdown { kind, deadline_ms }, &[]);
            }
            "die" => kill(Pid::this(), Signal::SIGKILL).expect("die"),
            "exit" => std::process::exit(first.parse().expect("code")),
            "serve" => loop {
                if let Event::PowerRequest { kind } = self.event() {
                    let deadline_ms = 5000;
                    self.send(Request::Shutdown { kind, deadline_ms }, &[]);
                }
            },
            other => panic!("no command {other}"),
        }
    }

    /// The "cairn-exec" of these tests is a shell that reads its text from stdin.
    fn spawn(&self, token: u64, listen: u8, text: &str) {
        let script = memory(text.as_bytes());
        let sockets: Vec<File> = (0..listen).map(|n| memory(format!("socket {n}").as_bytes())).collect();
        let null = OpenOptions::new().write(true).open("/dev/null").expect("null");
        let folder = File::open("/").expect("folder");
        let six = [&null, &folder, &script, &null, &null, &null];
        let fds: Vec<_> = six.into_iter().chain(&sockets).map(AsFd::as_fd).collect();
        self.send(Request::Spawn { token, listen }, &fds);
    }
}

fn memory(bytes: &[u8]) -> File {
    let fd = rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(fd);
    file.write_all(bytes).expect("write");
    file.rewind().expect("rewind");
    file
}

/// The manager of a whole machine, for trying a boot: counts boots in /data, starts one process, obeys the button.
fn machine(mut manager: Manager) -> ! {
    manager.folder = PathBuf::from("/run");
    let count = Path::new("/data/boots");
    let boots = fs::read_to_string(count)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0u32)
        + 1;
    let mut file = File::create(count).expect("write in /data");
    writeln!(file, "{boots}").expect("write");
    file.sync_all().expect("sync");
    manager.send(Request::Hello, &[]);
    let cgroup = Path::new("/sys/fs/cgroup/cairn/one");
    fs::create_dir_all(cgroup).expect("cgroup");
    let (null, cgroup) = (
        File::open("/dev/null").expect("null"),
        File::open(cgroup).expect("cgroup"),
    );
    let out = File::options().write(true).open("/dev/console").expect("console");
    let fds = [&null, &cgroup, &null, &out, &out, &null].map(|f| f.as_fd());
    manager.send(Request::Spawn { token: 1, listen: 0 }, &fds);
    manager.command("expect exited");
    for line in &manager.lines {
        println!("manager: {line}");
    }
    let statfs = rustix::fs::statvfs("/data").expect("statvfs");
    println!("manager: data has {} MiB", statfs.f_blocks * statfs.f_frsize / 1048576);
    // The kernel loads a protocol's module through its usermode helper, which is cairn-init.
    let vsock = rustix::net::AddressFamily::from_raw(40);
    let vsock = rustix::net::socket(vsock, rustix::net::SocketType::STREAM, None);
    println!("manager: module on demand: {}", vsock.is_ok());
    let status = fs::read_to_string("/proc/1/status").unwrap_or_default();
    for line in status
        .lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("Rss"))
    {
        println!("manager: init {line}");
    }
    let times = fs::read_to_string("/run/cairn/boot-times").unwrap_or_default();
    println!("{times}manager: READY boots={boots}");
    loop {
        if let Event::PowerRequest { kind } = manager.event() {
            println!("manager: {kind:?}");
            let deadline_ms = 3000;
            manager.send(Request::Shutdown { kind, deadline_ms }, &[]);
        }
    }
}

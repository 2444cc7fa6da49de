//! A manager that is killed at random moments, again and again, while the processes that it starts come and go.
//!
//! It keeps a journal beside itself, one write a line, so that what it says there outlives it:
//! `want TOKEN STATUS ORPHANS` before a spawn and `sent TOKEN` after it; `exit SEQ TOKEN STATUS` before an acknowledgement;
//! `keep NAME` and `kept NAME` around a store, `drop NAME` and `dropped NAME` around a remove; `resumed N NAME...` with the descriptors
//! that the n-th manager was handed; `descriptors COUNT` with PID 1's own. The file `soak` says `SEED KILLS`. After so many kills the
//! last manager waits for every exit that is owed and shuts down; the test judges the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_init::channel;
use cairn_init::protocol::{Event, PowerKind, Request, StoreId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How many processes may run.
const AT_ONCE: usize = 100;
/// How an orphan ends, which nothing else does.
const ORPHAN: i32 = 99;

/// xorshift: the same in every run of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Manager {
    socket: OwnedFd,
    journal: File,
    /// Events that came while a request was sent.
    heard: VecDeque<(Event, Option<OwnedFd>)>,
    random: Random,
    /// What the journal said when this manager began, and what it has added: sent tokens, orphans owed, exits seen.
    past: Past,
}

#[derive(Default)]
struct Past {
    orphans: BTreeMap<u64, u64>,
    sent: BTreeSet<u64>,
    exits: BTreeMap<u64, (u64, i32)>,
    /// How many of the exits were asked for.
    ended: usize,
    kept: BTreeSet<String>,
    names: u64,
    tokens: u64,
}

impl Past {
    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(0u64);
        match words[0] {
            "want" => {
                self.tokens = number(1);
                self.orphans.insert(number(1), number(3));
            }
            "sent" => drop(self.sent.insert(number(1))),
            "exit" => {
                let new = self.exits.insert(number(1), (number(2), number(3) as i32)).is_none();
                self.ended += usize::from(new && number(2) != 0);
            }
            "keep" => self.names += 1,
            "kept" => drop(self.kept.insert(words[1].to_owned())),
            "drop" => drop(self.kept.remove(words[1])),
            _ => {}
        }
    }

    /// Whether an exit is still to come. Only what was surely asked for is owed.
    fn owes(&self) -> bool {
        let ended: BTreeSet<u64> = self.exits.values().map(|(token, _)| *token).collect();
        let orphans: u64 = ended.iter().filter_map(|token| self.orphans.get(token)).sum();
        let seen = self.exits.values().filter(|(_, status)| *status == ORPHAN << 8).count() as u64;
        !self.sent.is_subset(&ended) || seen < orphans
    }
}

fn main() {
    let line = fs::read_to_string("/proc/1/cmdline").expect("/proc");
    let own = line.split('\0').skip_while(|word| *word != "--manager").nth(1);
    let folder: PathBuf = Path::new(own.expect("our path")).parent().expect("a folder").to_owned();
    let text = fs::read_to_string(folder.join("soak")).expect("soak");
    let (seed, kills) = text.trim().split_once(' ').expect("SEED KILLS");
    let (seed, kills): (u64, u32) = (seed.parse().expect("seed"), kills.parse().expect("kills"));
    let mut past = Past::default();
    let before = fs::read_to_string(folder.join("journal")).unwrap_or_default();
    before.lines().for_each(|line| past.add(line));

    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    let flags = rustix::process::PidfdGetfdFlags::empty();
    let socket = rustix::process::pidfd_getfd(pidfd.expect("pidfd"), 3, flags).expect("descriptor 3");
    let journal = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("journal"));
    let mut manager = Manager {
        socket,
        journal: journal.expect("journal"),
        heard: VecDeque::new(),
        random: Random(seed),
        past,
    };
    manager.send(Request::Hello, &[]);
    let generation = manager.resume();
    for _ in 0..8 {
        manager.random.below(2);
    }
    manager.random = Random((manager.random.0 ^ u64::from(generation).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
    if generation >= kills {
        manager.finish();
    }
    if generation == 0 {
        manager.count_descriptors();
    }
    let life = Duration::from_micros(manager.random.below(10_000));
    std::thread::spawn(move || {
        std::thread::sleep(life);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    });
    loop {
        manager.step();
    }
}

impl Manager {
    fn note(&mut self, line: impl Display) {
        let line = line.to_string();
        self.journal
            .write_all(format!("{line}\n").as_bytes())
            .expect("write the journal");
        self.past.add(&line);
    }

    /// Sends a request. While there is no room events are read, or both sides would wait for each other.
    fn send(&mut self, request: Request, fds: &[BorrowedFd<'_>]) {
        while let Err(error) = channel::send(&self.socket, &request.encode(), fds) {
            assert_eq!(error, rustix::io::Errno::AGAIN);
            let mut both = [PollFd::new(&self.socket, PollFlags::OUT | PollFlags::IN)];
            poll(&mut both, None).expect("poll");
            if both[0].revents().contains(PollFlags::IN) {
                let event = self.receive();
                self.heard.push_back(event);
            }
        }
    }

    fn receive(&self) -> (Event, Option<OwnedFd>) {
        let mut packet = channel::receive(&self.socket)
            .expect("receive")
            .expect("PID 1 is there");
        let event = Event::decode(packet.bytes(), packet.fd_count).expect("a good event");
        (event, packet.fds[0].take())
    }

    /// One event, if there is one within so many milliseconds.
    fn event(&mut self, milliseconds: i64) -> Option<(Event, Option<OwnedFd>)> {
        if let Some(event) = self.heard.pop_front() {
            return Some(event);
        }
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: milliseconds * 1_000_000,
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        if poll(&mut fds, Some(&wait)).expect("poll") == 0 {
            return None;
        }
        Some(self.receive())
    }

    /// Reads the answer to hello; returns how many managers there were before.
    fn resume(&mut self) -> u32 {
        let (mut generation, mut names) = (0, Vec::new());
        loop {
            match self.event(900) {
                Some((Event::Welcome { generation: g, .. }, _)) => generation = g,
                Some((Event::Stored { id }, fd)) => {
                    let mut file = File::from(fd.expect("a descriptor"));
                    let mut text = String::new();
                    file.rewind().expect("rewind");
                    file.read_to_string(&mut text).expect("read");
                    names.push(format!(" {id}={text}"));
                }
                Some((Event::Resumed, _)) => break,
                Some((Event::Running { .. }, fd)) => assert!(fd.is_some()),
                Some((other, _)) => panic!("{other:?} in the answer to hello"),
                None => {}
            }
        }
        self.note(format!("resumed {generation}{}", names.concat()));
        generation
    }

    /// Notes one event, if there is one within so many milliseconds. Returns whether there was.
    fn hear(&mut self, milliseconds: i64) -> bool {
        let Some((event, _)) = self.event(milliseconds) else {
            return false;
        };
        match event {
            Event::Exited { seq, token, status, .. } => {
                self.note(format!("exit {seq} {token} {}", status.0));
                // Some are acknowledged late, or by a successor.
                if self.random.below(3) > 0 {
                    self.send(Request::Ack { seq }, &[]);
                }
            }
            Event::Spawned { .. } => {}
            other => panic!("{other:?}"),
        }
        true
    }

    fn step(&mut self) {
        match self.random.below(6) {
            // Not more than PID 1 has room for: then a spawn fails, and who was killed meanwhile never hears of it.
            0 if self.past.sent.len() < self.past.ended + AT_ONCE => self.spawn(),
            2 => {
                let id = format!("fd-{}", self.past.names);
                let file = memory(&id);
                self.note(format!("keep {id}"));
                let name = StoreId::new(&id).expect("a name");
                self.send(Request::Store { id: name }, &[file.as_fd()]);
                self.note(format!("kept {id}"));
            }
            3 if self.past.kept.len() > 8 => {
                let id = self.past.kept.first().expect("one").clone();
                self.note(format!("drop {id}"));
                let name = StoreId::new(&id).expect("a name");
                self.send(Request::Remove { id: name }, &[]);
                self.note(format!("dropped {id}"));
            }
            _ => {
                self.hear(2);
            }
        }
    }

    fn spawn(&mut self) {
        let token = self.past.tokens + 1;
        let code = (token % 90) as i32;
        let (text, status, orphans) = match self.random.below(4) {
            0 => (format!("exit {code}"), code << 8, 0),
            1 => (format!("sleep 0.0{}; exit {code}", token % 10), code << 8, 0),
            2 => (format!("(sleep 0.02; exit {ORPHAN}) & exit {code}"), code << 8, 1),
            _ => ("kill -9 $$".to_owned(), 9, 0),
        };
        let script = memory(&text);
        let null = OpenOptions::new().write(true).open("/dev/null").expect("null");
        let folder = File::open("/").expect("folder");
        let fds = [&null, &folder, &script, &null, &null, &null].map(AsFd::as_fd);
        self.note(format!("want {token} {status} {orphans}"));
        self.send(Request::Spawn { token, listen: 0 }, &fds);
        self.note(format!("sent {token}"));
    }

    fn count_descriptors(&mut self) {
        let count = fs::read_dir("/proc/1/fd").expect("PID 1's descriptors").count();
        self.note(format!("descriptors {count}"));
    }

    /// Waits for what is owed, and ends it all.
    fn finish(&mut self) -> ! {
        // Every process ends within a second: what is not heard of in half a minute was lost, and the test will say what.
        let mut silent = 0;
        while self.past.owes() && silent < 60 {
            silent = if self.hear(500) { 0 } else { silent + 1 };
        }
        // Nothing more is to come but what is owed to spawns that were never surely sent.
        for _ in 0..10 {
            self.hear(50);
        }
        self.count_descriptors();
        let deadline_ms = 1000;
        let kind = PowerKind::PowerOff;
        self.send(Request::Shutdown { kind, deadline_ms }, &[]);
        std::process::exit(0)
    }
}

fn memory(text: &str) -> File {
    let fd = rustix::fs::memfd_create(c"soak", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(fd);
    file.write_all(text.as_bytes()).expect("write");
    file.rewind().expect("rewind");
    file
}

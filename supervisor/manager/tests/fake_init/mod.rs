//! A stand-in for cairn-init and cairn-exec below a folder.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairn_init::channel;
use cairn_init::protocol::{Event, ExitStatus, Origin, PowerKind, Request, StoreId};
use cairn_log::{Query, Reader, Record, Stream};
use cairn_sandbox::{Job, Mount, OnViolation, Plan, Report, Root};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

#[derive(Default)]
struct Shared {
    stored: BTreeMap<StoreId, OwnedFd>,
    exits: Vec<(u64, i32, i32)>,
    seq: u64,
    manager: Option<Child>,
    socket: Option<OwnedFd>,
    generation: u32,
    hold: bool,
    /// Whether exits are told to a successor as if they had come after its greeting.
    late: bool,
    /// Whether the present manager waits at a barrier.
    barrier: bool,
    /// Whose exits are not noted yet.
    alive: BTreeSet<i32>,
    spawned: Vec<String>,
    ended: Vec<String>,
    pids: BTreeMap<String, i32>,
    /// Of each process in turn: the unit, and whether its filter was to refuse nothing.
    opened: Vec<(String, bool)>,
    /// The other ends of the pipes that stand for listeners.
    listeners: BTreeMap<String, OwnedFd>,
    shut_down: bool,
    stop: bool,
    /// The program of the next managers.
    replacement: Option<OwnedFd>,
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    shared: Arc<Mutex<Shared>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn manifest(units: &[(&str, &str)]) -> serde_json::Value {
    let mut all = serde_json::Map::new();
    for (index, (name, text)) in units.iter().enumerate() {
        let mut unit = serde_json::json!({"description": "x"});
        let more: serde_json::Value = serde_json::from_str(text).unwrap();
        unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let waits: Vec<&str> = if more["needs"].is_object() { vec!["db"] } else { vec![] };
        all.insert(
            (*name).into(),
            serde_json::json!({
                "unit": unit, "root": format!("/services/{name}"), "index": index, "templates": [], "waits_for": waits,
                "accounts": {"root": {"uid":0,"gid":0,"groups":[],"home":"/"}, "svc": {"uid":0,"gid":0,"groups":[],"home":"/"}},
                "groups": {},
            }),
        );
    }
    serde_json::json!({"name":"test","version":"1","description":"x","built":0,"units":all})
}

impl World {
    pub(crate) fn new(units: &[(&str, &str)]) -> World {
        World::prepared(units, |_| {})
    }

    /// A world with something more in it before the first manager starts.
    pub(crate) fn prepared(units: &[(&str, &str)], prepare: impl FnOnce(&std::path::Path)) -> World {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["usr/lib/cairn", "run/cairn", "data", "dev"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (name, _) in units {
            let root = dir.path().join("services").join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("in"), "given\n").unwrap();
        }
        File::create(dir.path().join("dev/console")).unwrap();
        std::fs::write(
            dir.path().join("usr/lib/cairn/appliance.json"),
            manifest(units).to_string(),
        )
        .unwrap();
        prepare(dir.path());
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (own, place) = (shared.clone(), dir.path().to_owned());
        let thread = Some(std::thread::spawn(move || serve(&own, &place)));
        World { dir, shared, thread }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn ask(&self, method: &str, path: &str) -> Option<serde_json::Value> {
        Some(self.ask_with(method, path, "")?.1)
    }

    /// A request with a body: its status and its answer.
    pub(crate) fn ask_with(&self, method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let mut stream = UnixStream::connect(self.at("run/cairn/control.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?))
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        self.ask("GET", "/v1/status").unwrap_or_default()
    }

    pub(crate) fn post(&self, path: &str) -> serde_json::Value {
        self.ask("POST", path).expect("an answer")
    }

    /// The messages in the unit's log, in order, without the manager's own.
    pub(crate) fn logged(&self, unit: &str) -> Vec<String> {
        self.messages(unit, |stream| stream != Stream::Manager)
    }

    /// What the manager itself has said in the unit's log, in order.
    pub(crate) fn said(&self, unit: &str) -> Vec<String> {
        self.messages(unit, |stream| stream == Stream::Manager)
    }

    fn messages(&self, unit: &str, of: impl Fn(Stream) -> bool) -> Vec<String> {
        let query = Query {
            units: Some([unit.to_owned()].into()),
            ..Query::default()
        };
        let records = Reader::new(self.at("data/log"))
            .query(&query)
            .unwrap()
            .map(Result::unwrap);
        let records = records.filter(|record| of(record.origin.stream));
        let text = |record: Record| String::from_utf8_lossy(&record.message).into_owned();
        records.map(text).collect()
    }

    /// Begins to read an answer, which the server does not cut in chunks for HTTP/1.0.
    pub(crate) fn open(&self, path: &str) -> std::io::BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.at("run/cairn/control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        std::io::BufReader::new(stream)
    }

    pub(crate) fn state(&self, unit: &str) -> String {
        self.unit(unit)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// A unit's part of the status.
    pub(crate) fn unit(&self, unit: &str) -> serde_json::Value {
        let status = self.status();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        units.into_iter().find(|u| u["name"] == unit).unwrap_or_default()
    }

    /// What the console has said.
    pub(crate) fn console(&self) -> String {
        std::fs::read_to_string(self.at("dev/console")).unwrap_or_default()
    }

    /// What a unit has written.
    pub(crate) fn log(&self, unit: &str) -> String {
        self.logged(unit).join("\n")
    }

    pub(crate) fn until(&mut self, what: &str, good: impl Fn(&World) -> bool) {
        let start = Instant::now();
        while !good(self) {
            let console = std::fs::read_to_string(self.at("dev/console")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "never: {what}\n{}\n{console}",
                self.status()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn spawned(&self) -> Vec<String> {
        self.shared.lock().unwrap().spawned.clone()
    }
    pub(crate) fn ended(&self) -> Vec<String> {
        self.shared.lock().unwrap().ended.clone()
    }
    pub(crate) fn pids(&self) -> BTreeMap<String, i32> {
        self.shared.lock().unwrap().pids.clone()
    }
    /// Whether each process of a unit so far was one to be learned from.
    pub(crate) fn opened(&self, unit: &str) -> Vec<bool> {
        let all = self.shared.lock().unwrap().opened.clone();
        all.into_iter()
            .filter(|(own, _)| own == unit)
            .map(|(_, open)| open)
            .collect()
    }
    /// Whether cairn-init keeps something under this name.
    pub(crate) fn keeps(&self, id: &str) -> bool {
        let shared = self.shared.lock().unwrap();
        shared.stored.contains_key(&StoreId::new(id).unwrap())
    }
    /// Lets a unit's listener hear what is no call, so that it breaks.
    pub(crate) fn break_listener(&self, unit: &str) {
        let shared = self.shared.lock().unwrap();
        rustix::io::write(&shared.listeners[unit], b"x").unwrap();
    }
    pub(crate) fn shut_down(&self) -> bool {
        self.shared.lock().unwrap().shut_down
    }
    pub(crate) fn power(&self) {
        let shared = self.shared.lock().unwrap();
        let event = Event::PowerRequest {
            kind: PowerKind::PowerOff,
        };
        channel::send(shared.socket.as_ref().unwrap(), &event.encode(), &[]).unwrap();
    }
    pub(crate) fn kill_unit(&self, unit: &str) {
        let pid = self.pids()[unit];
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
    pub(crate) fn kill_manager(&self) {
        let mut shared = self.shared.lock().unwrap();
        if let Some(manager) = &mut shared.manager {
            let _ = manager.kill();
        }
        drop(shared);
        std::thread::sleep(Duration::from_millis(15));
    }
    pub(crate) fn hold_manager(&self) {
        self.shared.lock().unwrap().hold = true;
        self.kill_manager();
    }
    /// The next manager hears of what ended as if it had ended right after its greeting.
    pub(crate) fn tell_late(&self) {
        self.shared.lock().unwrap().late = true;
    }
    pub(crate) fn release_manager(&self) {
        self.shared.lock().unwrap().hold = false;
    }
    /// The memory that the manager takes for itself: its program's own pages can be read again from the disk.
    pub(crate) fn manager_kib(&self) -> u64 {
        let shared = self.shared.lock().unwrap();
        let pid = shared.manager.as_ref().unwrap().id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find(|l| l.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.lock().unwrap().stop = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for pid in self.pids().into_values().filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

fn fake_service() -> PathBuf {
    // Tests lie in target/PROFILE/deps, examples in target/PROFILE/examples.
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/fake-service")
}

/// Starts managers and obeys them.
fn serve(shared: &Arc<Mutex<Shared>>, place: &std::path::Path) {
    loop {
        std::thread::sleep(Duration::from_millis(2));
        let mut all = shared.lock().unwrap();
        if all.stop {
            if let Some(manager) = &mut all.manager {
                let _ = manager.kill();
                let _ = manager.wait();
            }
            return;
        }
        let gone = all.manager.as_mut().is_none_or(|m| m.try_wait().unwrap().is_some());
        if gone && !all.hold {
            // What the dead one asked for is still done.
            obey(shared, &mut all);
            let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
            let (ours, theirs) = pair.unwrap();
            let program = match &all.replacement {
                Some(file) => format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()),
                None => env!("CARGO_BIN_EXE_cairn-manager").to_owned(),
            };
            // A shell puts the socket at descriptor 3, where a manager looks for it.
            let manager = Command::new("/bin/sh")
                .args(["-c", "exec 3<&0 </dev/null; exec \"$0\" --prefix \"$1\""])
                .arg(program)
                .arg(place)
                .stdin(Stdio::from(theirs))
                .spawn()
                .unwrap();
            if all.manager.replace(manager).is_some() {
                all.generation += 1;
            }
            all.socket = Some(ours);
            all.barrier = false;
        }
        obey(shared, &mut all);
        pass(&mut all);
    }
}

/// Answers at a barrier when everything that has ended is noted. Exits may come after the answer.
fn pass(all: &mut Shared) {
    let there = |pid: &i32| std::path::Path::new("/proc").join(pid.to_string()).exists();
    if let Some(socket) = &all.socket
        && all.barrier
        && all.alive.iter().all(there)
    {
        all.barrier = false;
        let passed = Event::Passed {
            seq: all.seq,
            all: true,
        };
        let _ = channel::send(socket, &passed.encode(), &[]);
        if std::mem::take(&mut all.late) {
            tell_exits(socket, &all.exits);
        }
    }
}

fn tell_exits(socket: &OwnedFd, exits: &[(u64, i32, i32)]) {
    for (seq, pid, status) in exits {
        let exited = Event::Exited {
            seq: *seq,
            token: 0,
            monotonic_ns: 0,
            pid: *pid,
            status: ExitStatus(*status),
            cgroup: 0,
        };
        let _ = channel::send(socket, &exited.encode(), &[]);
    }
}

fn obey(shared: &Arc<Mutex<Shared>>, all: &mut Shared) {
    while let Some(socket) = &all.socket {
        let Ok(Some(mut packet)) = channel::receive(socket) else {
            return;
        };
        let request = Request::decode(packet.bytes(), packet.fd_count).expect("a well-formed request");
        let mut fds: Vec<OwnedFd> = packet.fds.iter_mut().filter_map(Option::take).collect();
        match request {
            Request::Hello => {
                let say = |event: Event, fds: &[std::os::fd::BorrowedFd<'_>]| {
                    let _ = channel::send(socket, &event.encode(), fds);
                };
                let exits = if all.late { 0 } else { all.exits.len() as u32 };
                let stored = all.stored.len() as u32;
                say(
                    Event::Welcome {
                        generation: all.generation,
                        running: 0,
                        stored,
                        exits,
                        origin: Origin::Image,
                    },
                    &[],
                );
                for (id, fd) in &all.stored {
                    say(Event::Stored { id: *id }, &[fd.as_fd()]);
                }
                say(Event::Resumed, &[]);
                if !all.late {
                    tell_exits(socket, &all.exits);
                }
            }
            Request::Store { id } => drop(all.stored.insert(id, fds.remove(0))),
            Request::Remove { id } => drop(all.stored.remove(&id)),
            Request::Ack { seq } => all.exits.retain(|(s, ..)| *s > seq),
            Request::Shutdown { .. } => all.shut_down = true,
            Request::Spawn { .. } => spawn(shared, all, fds),
            Request::Barrier => all.barrier = true,
            Request::ReplaceManager => {
                all.replacement = Some(fds.remove(0));
                let _ = channel::send(socket, &Event::Replacing.encode(), &[]);
            }
        }
    }
}

fn spawn(shared: &Arc<Mutex<Shared>>, all: &mut Shared, fds: Vec<OwnedFd>) {
    let mut fds = fds;
    let given = fds.split_off(6);
    let Ok([plan, _, stdin, out, err, status]) = <[OwnedFd; 6]>::try_from(fds) else {
        panic!()
    };
    let mut text = String::new();
    let mut file = File::from(plan);
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    let plan: Plan = match Job::parse(text.as_bytes()).unwrap() {
        Job::Start(plan) => *plan,
        Job::Enter { enter } => {
            let mut plan = Plan::new(&format!("in {}", enter.name), std::path::Path::new("/"), 1, enter.argv);
            plan.env = enter.env;
            plan
        }
    };
    let notify = plan.mounts.iter().find_map(|m| match m {
        Mount::Bind { source, target, .. } if target == std::path::Path::new("/run/notify") => Some(source.clone()),
        _ => None,
    });
    let state = plan.mounts.iter().find_map(|m| match m {
        Mount::Bind {
            source, idmapped: true, ..
        } => Some(source.clone()),
        _ => None,
    });
    // The service of tests stands beside the tests themselves.
    let program = plan.argv[0].replace("/fake-service", fake_service().to_str().unwrap());
    // A host program that a test has put into its world.
    let own = match &plan.root {
        Root::Tree { path, .. } => path.join(plan.argv[0].trim_start_matches('/')),
        _ => PathBuf::new(),
    };
    let program = if own.is_file() {
        own.display().to_string()
    } else {
        program
    };
    // As with cairn-exec, the manager is told of the process before its program can do anything.
    // Sockets go to descriptor 3 and up; bash knows numbers of two digits.
    let handed: Vec<OwnedFd> = given
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 50).unwrap())
        .collect();
    let moves: String = (3..)
        .zip(&handed)
        .map(|(to, fd)| {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
            format!(" {to}<&{0} {0}<&-", fd.as_raw_fd())
        })
        .collect();
    let mut command = Command::new("/bin/bash");
    command
        .arg("-c")
        .arg(format!("kill -STOP $$; exec \"$0\" \"$@\"{moves}"))
        .arg(program);
    if let Some(notify) = notify {
        command.env("NOTIFY_SOCKET", notify);
    }
    let mut child = command
        .args(&plan.argv[1..])
        .envs(&plan.env)
        .env("STATE", state.unwrap_or_default())
        .env("LISTEN_FDS", given.len().to_string())
        .env("LISTEN_FDNAMES", plan.listen_fds.join(":"))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .process_group(0)
        .spawn()
        .unwrap();
    drop(handed);
    let pid = child.id() as i32;
    let process = rustix::process::Pid::from_raw(pid);
    rustix::process::waitpid(process, rustix::process::WaitOptions::UNTRACED).unwrap();
    let say = |report: Report| {
        let _ = rustix::net::send(&status, &report.to_line(), SendFlags::NOSIGNAL);
    };
    say(Report::Pid { pid });
    let open = plan
        .seccomp
        .as_ref()
        .is_some_and(|s| s.on_violation == OnViolation::UnsafeLearn);
    let heard = open || plan.seccomp.as_ref().is_some_and(|seccomp| seccomp.clock);
    if heard {
        all.listeners.insert(plan.name.clone(), send_listener(&status));
    }
    say(Report::Execed { execed: true });
    all.opened.push((plan.name.clone(), open));
    rustix::process::kill_process(process.unwrap(), rustix::process::Signal::CONT).unwrap();
    all.spawned.push(plan.name.clone());
    all.pids.insert(plan.name.clone(), pid);
    all.alive.insert(pid);
    let shared = shared.clone();
    std::thread::spawn(move || {
        use std::os::unix::process::ExitStatusExt as _;
        let status = child.wait().unwrap().into_raw();
        let mut all = shared.lock().unwrap();
        all.seq += 1;
        all.alive.remove(&pid);
        if heard && all.pids.get(&plan.name) == Some(&pid) {
            all.listeners.remove(&plan.name);
        }
        all.ended.push(plan.name);
        let seq = all.seq;
        all.exits.push((seq, pid, status));
        let event = Event::Exited {
            seq,
            token: 0,
            monotonic_ns: 0,
            pid,
            status: ExitStatus(status),
            cgroup: 0,
        };
        if let Some(socket) = &all.socket {
            let _ = channel::send(socket, &event.encode(), &[]);
        }
    });
}

/// Sends the read end of a pipe as a listener: like one it becomes readable for a call, and hangs up when nobody is left.
fn send_listener(status: &OwnedFd) -> OwnedFd {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
    let passed = [read.as_fd()];
    ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&passed));
    let line = Report::Listener { listener: true }.to_line();
    let bytes = [std::io::IoSlice::new(&line)];
    rustix::net::sendmsg(status, &bytes, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    write
}

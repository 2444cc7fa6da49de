//! A sandbox that is learned from: nothing but its filter's answers is another, and what its listener hears is what it did.

mod common;
use common::{Ran, Started, plan, root, run, script, start};

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use cairn_sandbox::learn::{Listener, Place, Trace, Transport};
use cairn_sandbox::{Enter, FAILED_EXIT, OnViolation, Plan, Report, User};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

/// The same plan, to be learned from.
fn learning(mut plan: Plan) -> Plan {
    plan.seccomp.as_mut().unwrap().on_violation = OnViolation::UnsafeLearn;
    plan
}

/// A sandbox with its listener served.
struct Heard {
    started: Started,
    reports: Vec<Report>,
    trace: Arc<Mutex<Trace>>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Heard {
    fn start(plan: &Plan) -> Self {
        let mut started = start(&serde_json::to_vec(plan).unwrap(), &[]);
        let (reports, listener) = started.until_listener();
        let listener = Listener::new(listener, plan).unwrap();
        let trace = Arc::new(Mutex::new(Trace::default()));
        let kept = trace.clone();
        let thread = std::thread::spawn(move || {
            while let Some(heard) = listener.hear()? {
                kept.lock().unwrap().note(&heard);
            }
            Ok(())
        });
        Self {
            started,
            reports,
            trace,
            thread,
        }
    }

    /// Waits for its end: what it left, and what was heard.
    fn finish(self) -> (Ran, Trace) {
        let ran = self.started.finish(self.reports);
        // The listener ends by itself when nobody is left.
        self.thread.join().unwrap().unwrap();
        let trace = self.trace.lock().unwrap().clone();
        (ran, trace)
    }
}

fn learn(plan: Plan) -> (Ran, Trace) {
    Heard::start(&learning(plan)).finish()
}

const FORBIDDEN: &str = "if unshare -U true; then echo passed; else echo refused; fi";

#[test]
fn a_forbidden_call_passes_and_is_told_and_without_learning_it_is_still_refused() {
    if !root("a_forbidden_call_passes_and_is_told_and_without_learning_it_is_still_refused") {
        return;
    }
    let (ran, trace) = learn(script(FORBIDDEN));
    assert_eq!(ran.ok(), "passed");
    let listening = |report: &Report| *report == Report::Listener { listener: true };
    assert_eq!(ran.reports.iter().filter(|report| listening(report)).count(), 1);
    let refused: Vec<&String> = trace.refused.keys().collect();
    assert_eq!(refused, ["unshare"], "nothing else would be refused");
    assert!(
        trace.refused["unshare"].example.starts_with("unshare: unshare("),
        "{trace:?}"
    );

    let ran = run(&script(FORBIDDEN));
    assert!(ran.ok().ends_with("refused"), "{ran:?}");
    assert!(!ran.reports.iter().any(listening), "{ran:?}");
}

#[test]
fn the_trace_says_which_files_programs_and_addresses() {
    if !root("the_trace_says_which_files_programs_and_addresses") {
        return;
    }
    let code = "mkdir '/tmp/d'; symlink 'd', '/tmp/link'; chdir '/tmp/d'; \
        open F, '>', 'file'; close F; open F, '>>', '/tmp/link/other'; close F; rename 'file', 'renamed'; \
        open F, '<', '/etc/passwd'; open F, '>', '/usr/new' and die; \
        socket S, AF_INET, SOCK_STREAM, 0; bind S, pack_sockaddr_in(4711, INADDR_LOOPBACK) or die; listen S, 1; \
        socket T, AF_INET, SOCK_STREAM, 0; connect T, pack_sockaddr_in(4711, INADDR_LOOPBACK) or die; \
        socket U, AF_INET, SOCK_DGRAM, 0; send U, 'x', 0, pack_sockaddr_in(53, INADDR_LOOPBACK); \
        socket X, AF_UNIX, SOCK_STREAM, 0; bind X, pack_sockaddr_un('/tmp/link/socket') or die; \
        chown 33, 33, '/tmp/d/renamed'; chown 7, -1, '/tmp/d/renamed'; system('/bin/true'); print 'done'";
    let mut inside = plan(&["/usr/bin/perl", "-MSocket", "-e", code]);
    inside.user = User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    let (ran, trace) = learn(inside);
    assert_eq!(ran.ok(), "done");
    // Real paths, whatever folder and link they were named by.
    for path in [
        "/tmp/d",
        "/tmp/link",
        "/tmp/d/file",
        "/tmp/d/other",
        "/tmp/d/renamed",
        "/tmp/d/socket",
        "/usr/new",
    ] {
        assert!(trace.written.contains_key(path), "{path}: {:?}", trace.written);
    }
    assert!(!trace.written.contains_key("/tmp/link/other"), "{:?}", trace.written);
    assert!(trace.read.contains_key("/etc/passwd") && !trace.written.contains_key("/etc/passwd"));
    assert_eq!(trace.written["/usr/new"].example, "perl: openat(/usr/new)");
    let at = |transport, port| Place::Ip {
        transport,
        at: ([127, 0, 0, 1], port).into(),
    };
    assert_eq!(trace.bound[&at(Transport::Tcp, 4711)].times, 1);
    assert_eq!(trace.connected[&at(Transport::Tcp, 4711)].times, 1);
    assert_eq!(trace.connected[&at(Transport::Udp, 53)].times, 1);
    assert!(
        trace.bound.contains_key(&Place::Path("/tmp/d/socket".into())),
        "{:?}",
        trace.bound
    );
    let programs: Vec<&String> = trace.programs.keys().collect();
    let real = |path| std::fs::canonicalize(path).unwrap().display().to_string();
    assert_eq!(programs, [&real("/usr/bin/perl"), &real("/bin/true")]);
    // Ids are those inside, so one's own is no other.
    assert_eq!(trace.capabilities.keys().collect::<Vec<_>>(), ["chown"]);
    assert_eq!(trace.capabilities["chown"].times, 1);
    assert_eq!((trace.refused.len(), trace.writable_code, trace.dropped), (0, None, 0));
}

#[test]
fn no_other_wall_is_lower_while_learning() {
    if !root("no_other_wall_is_lower_while_learning") {
        return;
    }
    let walls = "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid)' /proc/self/status; cut -d' ' -f5,6 /proc/self/mountinfo; ulimit -a; \
        for n in user mnt pid net ipc uts cgroup time; do [ -e /proc/self/ns/$n ] && echo $n; done; \
        mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED; (: > /usr/x) 2>/dev/null && echo WROTE; \
        perl -e 'print syscall(9, 0, 4096, 7, 0x22, -1, 0) < 0 ? qq(no code\\n) : qq(CODE\\n)'; echo end";
    let ordinary = run(&script(walls));
    let (learned, trace) = learn(script(walls));
    // The one that listens comes beside another.
    assert_eq!(
        learned.ok().replace("Seccomp_filters:\t2", "Seccomp_filters:\t1"),
        ordinary.ok()
    );
    assert!(
        ordinary.ok().contains("Seccomp_filters:\t1") && ordinary.ok().ends_with("end"),
        "{ordinary:?}"
    );
    for broken in ["MOUNTED", "WROTE"] {
        assert!(!learned.ok().contains(broken), "{learned:?}");
    }
    assert!(trace.refused.contains_key("mount") && trace.capabilities.contains_key("sys-admin"));
    if cfg!(target_arch = "x86_64") {
        assert!(
            learned.ok().contains("no code") && trace.writable_code.is_some(),
            "tried, and still refused"
        );
    }
}

#[test]
fn a_listener_that_goes_away_at_once_fails_the_start_instead_of_hanging_it() {
    if !root("a_listener_that_goes_away_at_once_fails_the_start_instead_of_hanging_it") {
        return;
    }
    let plan = learning(script("echo ran"));
    let mut started = start(&serde_json::to_vec(&plan).unwrap(), &[]);
    let (reports, listener) = started.until_listener();
    drop(listener);
    let ran = started.finish(reports);
    let failure = ran.failure();
    assert!(failure.step == "exec" && failure.error.contains("ENOSYS"), "{ran:?}");
    assert_eq!((ran.helper, ran.output.as_str()), (FAILED_EXIT, ""), "{ran:?}");
}

#[test]
fn a_service_whose_listener_goes_away_fails_at_its_next_call_and_does_not_hang() {
    if !root("a_service_whose_listener_goes_away_fails_at_its_next_call_and_does_not_hang") {
        return;
    }
    let plan = learning(script("while :; do : < /etc/passwd || exit 7; done"));
    let mut started = start(&serde_json::to_vec(&plan).unwrap(), &[]);
    let (mut reports, listener) = started.until_listener();
    let listener = Listener::new(listener, &plan).unwrap();
    let mut reading = 0;
    while reading < 3 {
        let heard = listener.hear().unwrap().unwrap();
        reading += usize::from(heard.name == "openat" && heard.detail == "/etc/passwd");
    }
    drop(listener);
    reports.extend(started.until_running().1);
    let ran = started.finish(reports);
    assert!(ran.output.contains("Function not implemented"), "{ran:?}");
    assert!(
        matches!(ran.reports.last(), Some(Report::Exited { exited: 1.. })),
        "{ran:?}"
    );
}

#[test]
fn a_service_is_killed_also_while_its_call_waits_for_a_listener_that_nobody_reads() {
    if !root("a_service_is_killed_also_while_its_call_waits_for_a_listener_that_nobody_reads") {
        return;
    }
    let plan = learning(script("echo ran"));
    let mut started = start(&serde_json::to_vec(&plan).unwrap(), &[]);
    let (reports, listener) = started.until_listener();
    let Some(Report::Pid { pid }) = reports.first() else {
        panic!("{reports:?}");
    };
    kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    let ran = started.finish(reports);
    assert!(
        matches!(ran.first, Some(WaitStatus::Signaled(_, Signal::SIGKILL, _))),
        "{ran:?}"
    );
    assert_eq!(ran.output, "");
    // Nobody is left who could call, and that is told too.
    assert_eq!(Listener::new(listener, &plan).unwrap().hear().unwrap(), None);
}

#[test]
fn what_enters_a_sandbox_that_is_learned_from_has_the_ordinary_filter() {
    let plan = learning(script("true"));
    let inside = Enter::new(&plan, 2, "/units/x".as_ref(), vec!["/bin/true".into()]);
    assert_eq!(inside.seccomp.unwrap(), script("true").seccomp.unwrap());
}

#[test]
fn what_is_no_listener_is_an_error() {
    let file = tempfile::tempfile().unwrap();
    let listener = Listener::new(file.into(), &script("true")).unwrap();
    listener.hear().unwrap_err();
}

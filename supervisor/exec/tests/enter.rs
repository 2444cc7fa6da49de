//! A command that enters a running sandbox is inside all of its walls, and the sandbox does not notice.

mod common;
use common::{Ran, Started, plan, root, script, start, start_with};

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_sandbox::{Enter, FAILED_EXIT, Grant, HELPER_ARG, Job, Namespaces, Plan, Report, Resource, Rlimit, User};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

/// A running service: the plan, the sandbox, its first process.
struct Service {
    plan: Plan,
    started: Option<Started>,
    first: i32,
    reports: Vec<Report>,
}

impl Service {
    fn start(plan: Plan) -> Self {
        let mut started = start(&serde_json::to_vec(&plan).unwrap(), &[]);
        let (first, reports) = started.until_running();
        Self {
            plan,
            started: Some(started),
            first,
            reports,
        }
    }

    /// What enters it with a shell script.
    fn script(&self, text: &str) -> Enter {
        let argv = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        Enter::new(&self.plan, self.first, &own_cgroup(), argv)
    }

    /// Ends it by SIGTERM: what it left.
    fn end(self) -> Ran {
        self.ask_to_end();
        self.finish()
    }

    fn ask_to_end(&self) {
        kill(Pid::from_raw(self.first), Signal::SIGTERM).unwrap();
    }

    fn finish(mut self) -> Ran {
        let started = self.started.take().unwrap();
        started.finish(std::mem::take(&mut self.reports))
    }
}

impl Drop for Service {
    /// A failed test leaves nothing running.
    fn drop(&mut self) {
        if self.started.is_some() {
            let _ = kill(Pid::from_raw(self.first), Signal::SIGKILL);
        }
    }
}

/// A service that only waits, as user 33 with an odd limit.
fn sleeper() -> Plan {
    let mut plan = script("echo mine > /tmp/mark; exec sleep 1000");
    plan.user = User {
        uid: 33,
        gid: 34,
        groups: vec![35],
    };
    plan.hostname = Some("unit".into());
    plan.umask = 0o027;
    plan.oom_score_adj = Some(321);
    plan.rlimits.push(Rlimit {
        resource: Resource::Nofile,
        soft: 77,
        hard: 99,
    });
    plan
}

/// The tests' own place in the unified hierarchy, which the services here share.
fn own_cgroup() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    path.into()
}

fn enter(enter: &Enter) -> Ran {
    start(&serde_json::to_vec(&Job::from(enter.clone())).unwrap(), &[]).finish(Vec::new())
}

/// The output of an entered command that ended well.
fn output(ran: &Ran) -> &str {
    assert!(
        matches!(
            ran.reports.as_slice(),
            [Report::Pid { .. }, Report::Execed { execed: true }]
        ),
        "{ran:?}"
    );
    assert!(
        matches!(ran.first, Some(WaitStatus::Exited(_, 0))) && ran.helper == 0,
        "{ran:?}"
    );
    ran.output.trim()
}

fn fails(wrong: &Enter, step: &str, why: &str) {
    let ran = enter(wrong);
    let failure = ran.failure();
    assert!(failure.step == step && failure.to_string().contains(why), "{ran:?}");
    assert_eq!((ran.helper, ran.output.as_str()), (FAILED_EXIT, ""), "{ran:?}");
}

#[test]
fn an_entered_command_is_in_every_namespace_of_the_service() {
    if !root("an_entered_command_is_in_every_namespace_of_the_service") {
        return;
    }
    let service = Service::start(sleeper());
    let ran = enter(&service.script("cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done; hostname"));
    let mut compared = 0;
    for line in output(&ran).lines().filter(|line| line.contains('[')) {
        let (name, inside) = line.split_once(' ').unwrap();
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(Path::new(inside), link(&service.first.to_string()), "{name}");
        assert_ne!(Path::new(inside), link("self"), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 10, "eight, and those of children for pid and time");
    assert!(output(&ran).ends_with("\nunit"), "{ran:?}");
    service.end();
}

#[test]
fn an_entered_command_is_confined_as_the_service_is() {
    if !root("an_entered_command_is_confined_as_the_service_is") {
        return;
    }
    let mut plan = sleeper();
    plan.capabilities.bounding = vec!["CAP_CHOWN".into()];
    let service = Service::start(plan);
    let text = "id -u; id -g; id -G; umask; ulimit -n; env; pwd; cat /proc/self/oom_score_adj /tmp/mark; \
                grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | cut -f2 | sort -u; \
                cd /proc/self/fd; echo *; ps -o sid= -p $$ | tr -d ' '; echo $$";
    let mut inside = service.script(text);
    inside.cwd = "/tmp".into();
    let ran = enter(&inside);
    let lines: Vec<&str> = output(&ran).lines().collect();
    let want = [
        "33",
        "34",
        "34 35",
        "0027",
        "77",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/tmp",
        "/tmp",
        "321",
        "mine",
        "0000000000000000",
        "1",
        "2",
        "0 1 2",
    ];
    // The shell may have opened one more to list them.
    let fds = lines[13].trim_end_matches(" 3");
    assert_eq!((&lines[..13], fds), (&want[..13], want[13]), "{ran:?}");
    assert_eq!(lines[14], lines[15], "a session of its own");
    for refused in ["unshare -U true", "mount -t tmpfs none /tmp", "echo 1 > /usr/x"] {
        let ran = enter(&service.script(&format!("if {refused}; then echo REACHED; fi; echo alive")));
        assert!(
            output(&ran).ends_with("alive") && !ran.output.contains("REACHED"),
            "{ran:?}"
        );
    }
    service.end();
}

#[test]
fn landlock_refuses_an_entered_command_what_the_mode_bits_allow() {
    if !root("landlock_refuses_an_entered_command_what_the_mode_bits_allow") {
        return;
    }
    let service = Service::start(sleeper());
    let text = "echo x > /tmp/new && echo written; :";
    let mut inside = service.script(text);
    assert_eq!(output(&enter(&inside)), "written");
    let tmp = |grant: &Grant| grant.path != Path::new("/tmp");
    inside.landlock.as_mut().unwrap().retain(tmp);
    let ran = enter(&inside);
    assert!(
        !output(&ran).contains("written") && ran.output.contains("Permission denied"),
        "{ran:?}"
    );
    service.end();
}

#[test]
fn a_reload_command_reaches_the_service_and_leaves_it_running() {
    if !root("a_reload_command_reaches_the_service_and_leaves_it_running") {
        return;
    }
    let service = Service::start(script(
        "trap 'echo reloaded; : > /tmp/reloaded' HUP; trap 'exit 3' TERM; : > /tmp/ready; while :; do sleep 0.02; done",
    ));
    // The orphan goes to the sandbox's first process, which has to tell it from the service.
    let ran = enter(&service.script(
        "until [ -e /tmp/ready ]; do sleep 0.02; done; (sleep 0.01 &); kill -HUP 2 && \
         until [ -e /tmp/reloaded ]; do sleep 0.02; done; echo done",
    ));
    assert_eq!(output(&ran), "done");
    let ran = service.end();
    assert_eq!(ran.output, "reloaded\n");
    assert_eq!(ran.reports.last(), Some(&Report::Exited { exited: 3 }), "{ran:?}");
}

#[test]
fn an_entered_command_ends_with_the_sandbox() {
    if !root("an_entered_command_ends_with_the_sandbox") {
        return;
    }
    let service = Service::start(sleeper());
    let job = Job::from(service.script("exec sleep 1000"));
    let mut inside = start(&serde_json::to_vec(&job).unwrap(), &[]);
    let (_, reports) = inside.until_running();
    service.ask_to_end();
    // The sandbox's first process is not gone before all others have been waited for.
    let ran = inside.finish(reports);
    service.finish();
    assert!(
        matches!(ran.first, Some(WaitStatus::Signaled(_, Signal::SIGKILL, _))),
        "{ran:?}"
    );
}

#[test]
fn a_waiting_helper_reports_how_the_entered_command_ended() {
    if !root("a_waiting_helper_reports_how_the_entered_command_ended") {
        return;
    }
    let service = Service::start(sleeper());
    let job = serde_json::to_vec(&Job::from(service.script("exit 7"))).unwrap();
    let mut inside = start_with(&[HELPER_ARG], &job, &[]);
    let mut reports = inside.until_running().1;
    // The command is the helper's child here: nothing for us to wait for.
    reports.retain(|report| !matches!(report, Report::Pid { .. }));
    let ran = inside.finish(reports);
    assert_eq!(ran.reports.last(), Some(&Report::Exited { exited: 7 }), "{ran:?}");
    assert_eq!(ran.helper, 7);
    service.end();
}

#[test]
fn an_entered_shell_gets_its_terminal() {
    if !root("an_entered_shell_gets_its_terminal") {
        return;
    }
    let service = Service::start(sleeper());
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut inside = service.script("echo prompt > /dev/tty && read word < /dev/tty && echo got-$word > /dev/tty");
    inside.terminal = true;
    let job = serde_json::to_vec(&Job::from(inside.clone())).unwrap();
    let streams = [(); 3].map(|()| pair.slave.try_clone().unwrap());
    let mut started = common::start_on(streams, &[], &job, &[]);
    let (_, reports) = started.until_running();
    drop(pair.slave);
    let mut master = std::fs::File::from(pair.master);
    let mut seen = String::new();
    let mut until = |master: &mut std::fs::File, word: &str| {
        while !seen.contains(word) {
            let mut some = [0; 256];
            let count = master.read(&mut some).unwrap();
            seen.push_str(&String::from_utf8_lossy(&some[..count]));
        }
    };
    until(&mut master, "prompt");
    master.write_all(b"word\n").unwrap();
    until(&mut master, "got-word");
    started.finish(reports);
    // Without a terminal on standard input it fails, instead of running without one.
    fails(&inside, "terminal", "terminal");
    service.end();
}

#[test]
fn what_is_not_the_units_sandbox_is_not_entered() {
    if !root("what_is_not_the_units_sandbox_is_not_entered") {
        return;
    }
    let service = Service::start(sleeper());
    let wrong = |change: &dyn Fn(&mut Enter)| {
        let mut inside = service.script("echo ran");
        change(&mut inside);
        inside
    };
    fails(
        &wrong(&|it| it.cgroup = "/units/other".into()),
        "enter",
        "not the unit's",
    );
    fails(
        &wrong(&|it| it.pid = std::process::id().cast_signed()),
        "enter",
        "it is the host's",
    );
    fails(&wrong(&|it| it.pid = 0), "enter", "pid");
    fails(&wrong(&|it| it.cgroup = "units".into()), "enter", "cgroup");
    fails(
        &wrong(&|it| it.argv = vec!["/bin/nothing".into()]),
        "exec",
        "/bin/nothing",
    );
    fails(&wrong(&|it| it.cwd = "/nowhere".into()), "cwd", "/nowhere");
    fails(&wrong(&|it| it.user.uid = 70_000), "enter", "user");

    let inside = service.script("echo ran");
    service.end();
    fails(&inside, "enter", "");
}

#[test]
fn a_sandbox_that_is_not_built_yet_is_not_entered() {
    if !root("a_sandbox_that_is_not_built_yet_is_not_entered") {
        return;
    }
    struct Killed(std::process::Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    // All its namespaces, but still the host's tree: what a sandbox is before its root is in place.
    let arguments = "--user --map-root-user --mount --pid --fork --kill-child --ipc --uts --cgroup --net -- sh -c";
    let mut early = Killed(
        Command::new("unshare")
            .args(arguments.split(' '))
            .arg("echo up; exec sleep 1000")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut up = [0; 3];
    early.0.stdout.take().unwrap().read_exact(&mut up).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", early.0.id())).unwrap();
    let mut inside = Enter::new(
        &plan(&["/bin/true"]),
        children.trim().parse().unwrap(),
        &own_cgroup(),
        vec!["/bin/true".into()],
    );
    inside.namespaces = Namespaces {
        time: false,
        ..Namespaces::default()
    };
    fails(&inside, "enter", "its root is not a sandbox's");
}

#[test]
fn a_wrong_job_is_refused_by_what_is_wrong_with_it() {
    let refused = |text: &str| {
        let ran = start(text.as_bytes(), &[]).finish(Vec::new());
        let failure = ran.failure();
        assert_eq!(failure.step, "plan");
        failure.error.clone()
    };
    let inside = Enter::new(&plan(&["/bin/true"]), 2, Path::new("/"), vec!["/bin/true".into()]);
    let text = serde_json::to_string(&Job::from(inside)).unwrap();
    assert!(refused(&text.replacen("\"cgroup\"", "\"cgruop\"", 1)).contains("unknown field `cgruop`"));
    assert!(refused(&text.replacen("{\"enter\"", "{\"name\":\"x\",\"enter\"", 1)).contains("unknown field `name`"));
    assert!(refused("{}").contains("missing field `name`"));
    assert!(refused("plan").contains("line 1"));
    let text = serde_json::to_string(&plan(&["/bin/true"])).unwrap();
    assert!(refused(&text.replacen("\"umask\"", "\"umaks\"", 1)).contains("unknown field `umaks`"));
}

//! What every sandbox has without a word in its plan, seen from inside.

mod common;
use common::{plan, root, run, script, start};

use std::collections::BTreeSet;
use std::path::Path;

use cairn_sandbox::{Plan, Resource, Rlimit, User};

/// Perl with the tightest plan, as an ordinary user inside.
fn perl(code: &str) -> Plan {
    let mut plan = plan(&["/usr/bin/perl", "-e", code]);
    plan.user = User {
        uid: 33,
        gid: 33,
        groups: Vec::new(),
    };
    plan
}

#[test]
fn no_namespace_is_the_hosts() {
    if !root("no_namespace_is_the_hosts") {
        return;
    }
    let ran = run(&script("cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done"));
    let mut seen = BTreeSet::new();
    for line in ran.ok().lines() {
        let (name, inside) = line.split_once(' ').unwrap();
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(Path::new(inside), host, "{name}");
        seen.insert(name.trim_end_matches("_for_children").to_owned());
    }
    let want = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"].map(str::to_owned);
    assert_eq!(seen, want.into());
}

#[test]
fn there_is_no_sys_and_the_hosts_part_of_proc_is_hidden() {
    if !root("there_is_no_sys_and_the_hosts_part_of_proc_is_hidden") {
        return;
    }
    let all: Vec<String> = cairn_sandbox::masked_by_default()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let visible: Vec<&String> = all.iter().filter(|path| Path::new(path).exists()).collect();
    assert!(visible.len() > 3, "the host shows some: {visible:?}");
    let text = format!(
        "ls -A /sys; cut -d' ' -f5- /proc/self/mountinfo | grep -E ' - (sysfs|cgroup2?|debugfs|securityfs) '; \
         for p in {}; do if [ -d $p ]; then ls -A $p 2>/dev/null; else head -c1 $p 2>/dev/null; fi; done; :",
        all.join(" ")
    );
    let mut inside = script(&text);
    assert_eq!(run(&inside).ok(), "");
    // Without the masks there would have been something.
    inside.masked.clear();
    assert_ne!(run(&inside).ok(), "");
}

#[test]
fn programs_run_from_the_root_alone() {
    if !root("programs_run_from_the_root_alone") {
        return;
    }
    let mut inside = script("cut -d' ' -f5,6 /proc/self/mountinfo");
    // One folder to hide at least, on any host.
    inside.masked.push("/proc/tty".into());
    let ran = run(&inside);
    let runs = |line: &&str| !line.contains("noexec");
    let places: Vec<&str> = ran
        .ok()
        .lines()
        .filter(runs)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(places, ["/"]);
    assert!(ran.ok().contains("/proc/tty ro,"), "{ran:?}");
}

#[test]
fn signals_are_as_a_new_process_expects_them() {
    if !root("signals_are_as_a_new_process_expects_them") {
        return;
    }
    // Rust's own start-up ignores SIGPIPE in this test and in the helper.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = |text: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        u64::from_str_radix(line, 16).unwrap()
    };
    assert_ne!(ignored(&own), 0);
    for reaper in [true, false] {
        let mut inside = plan(&["/bin/cat", "/proc/self/status"]);
        inside.reaper = reaper;
        let ran = run(&inside);
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(ran.output.contains(&format!("{set}:\t0000000000000000\n")), "{ran:?}");
        }
    }
}

#[test]
fn the_command_leads_a_session_without_a_terminal() {
    if !root("the_command_leads_a_session_without_a_terminal") {
        return;
    }
    // The fields after the name: state, parent, process group, session, terminal.
    let ran = run(&perl(
        "open F, '/proc/self/stat'; $_ = <F>; s/.*\\) //; @f = split; print \"$$ @f[2..4]\"",
    ));
    assert_eq!(ran.ok(), "2 2 2 0");
}

#[test]
fn a_limit_cannot_be_raised_again() {
    if !root("a_limit_cannot_be_raised_again") {
        return;
    }
    let mut inside = script("ulimit -n 100 2>/dev/null && echo raised; ulimit -n 80 && ulimit -n; ulimit -c");
    inside.rlimits = vec![
        Rlimit {
            resource: Resource::Nofile,
            soft: 77,
            hard: 90,
        },
        Rlimit {
            resource: Resource::Core,
            soft: 0,
            hard: 0,
        },
    ];
    assert_eq!(run(&inside).ok(), "80\n0");
}

#[test]
fn a_service_has_terminals_of_its_own() {
    if !root("a_service_has_terminals_of_its_own") {
        return;
    }
    // TIOCSPTLCK with 0 unlocks the other end, TIOCGPTN tells its number; O_NOCTTY leaves the session without one.
    let ran = run(&perl(
        "open M, '+<', '/dev/ptmx' or die \"ptmx: $!\"; $n = pack 'i', 0; \
         ioctl M, 0x40045431, $n or die $!; ioctl M, 0x80045430, $n or die $!; $n = unpack 'i', $n; \
         sysopen S, \"/dev/pts/$n\", 0402 or die \"pts: $!\"; print \"pty $n\"",
    ));
    assert_eq!(ran.ok(), "pty 0", "a number that no host terminal shares");
}

#[test]
fn no_identity_but_the_units_is_left() {
    if !root("no_identity_but_the_units_is_left") {
        return;
    }
    let ran = run(&perl(
        "open F, '/proc/self/status'; print map { /^(Uid|Gid|Groups):\\s*(.*)/ ? \"$2;\" : () } <F>",
    ));
    assert_eq!(
        ran.ok().replace('\t', " ").replace(" ;", ";"),
        "33 33 33 33;33 33 33 33;;"
    );
    // Nor can another one be taken, not even one of the unit's own.
    let ran = run(&perl("$! = 0; $< = 0; $> = 0; print $!+0, \" $< $>\""));
    assert_eq!(ran.ok(), "1 33 33");
}

#[test]
fn what_this_process_has_open_stays_here() {
    if !root("what_this_process_has_open_stays_here") {
        return;
    }
    // Not marked for closing on exec, as a careless starter would leave them.
    let secret = std::fs::File::open("/etc/passwd").unwrap();
    let open = nix::unistd::dup(&secret).unwrap();
    // One process looks at itself: a shell with a pipeline has the pipe open for a moment.
    let text = serde_json::to_vec(&script("cd /proc/self/fd; printf %s *")).unwrap();
    let ran = start(&text, &[]).finish(Vec::new());
    drop(open);
    assert_eq!(ran.ok(), "0123", "standard streams, and the folder that is being read");
}

/// mmap(2) of one page that can be written and executed.
#[cfg(target_arch = "x86_64")]
#[test]
fn memory_is_not_writable_and_executable_at_once() {
    let code = "print syscall(9, 0, 4096, 7, 0x22, -1, 0) < 0 ? qq(refused $!) : q(granted)";
    let mut plan = perl(code);
    assert_eq!(run(&plan).ok(), "refused Permission denied");
    plan.writable_code = true;
    assert_eq!(run(&plan).ok(), "granted");
}

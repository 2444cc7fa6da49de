//! A sandbox that keeps the clock: its calls for that are done in its place, and no others.

mod common;
use common::{Ran, plan, root, start};

use std::time::{Duration, SystemTime};

use cairn_sandbox::Plan;
use cairn_sandbox::clock::{Keeper, Set};

/// What each call is answered: the errno, or 0.
fn keeping(script: &str) -> Plan {
    let script = format!(
        "sub made {{ $! = 0; my $result = syscall(shift, @_); print $result < 0 ? $! + 0 : 0, ' ' }} \
         my ($timex, $time) = (\"\\0\" x 208, pack('qq', time, 0)); {script}"
    );
    let mut plan = plan(&["/usr/bin/perl", "-e", &script]);
    plan.seccomp.get_or_insert_default().clock = true;
    plan
}

fn kept(plan: &Plan, earliest: SystemTime) -> (Ran, Vec<Set>) {
    let mut started = start(&serde_json::to_vec(plan).unwrap(), &[]);
    let (reports, listener) = started.until_listener();
    let thread = std::thread::spawn(move || {
        let mut told = Vec::new();
        Keeper::new(listener, earliest)
            .serve(|set| told.push(set))
            .map(|()| told)
    });
    let ran = started.finish(reports);
    // It ends by itself when nobody is left.
    (ran, thread.join().unwrap().unwrap())
}

#[test]
fn the_clock_is_read_in_the_units_place() {
    if !root("the_clock_is_read_in_the_units_place") {
        return;
    }
    let plan = keeping("made(159, $timex); made(305, 0, $timex); print unpack('x88q', $timex)");
    let (ran, told) = kept(&plan, SystemTime::UNIX_EPOCH);
    let own = std::process::Command::new("/usr/bin/perl")
        .args([
            "-e",
            "my $timex = \"\\0\" x 208; syscall(159, $timex); print unpack('x88q', $timex)",
        ])
        .output()
        .unwrap();
    let tick = String::from_utf8(own.stdout).unwrap();
    assert!(tick.parse::<u32>().unwrap() >= 9000, "{tick}");
    assert_eq!((ran.ok().to_owned(), told), (format!("0 0 {tick}"), vec![]));
}

#[test]
fn the_clock_is_set_by_a_step_and_that_is_told() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(held.unwrap().trim(), 16).unwrap();
    if !root("the_clock_is_set_by_a_step_and_that_is_told") || held & 1 << 25 == 0 {
        return;
    }
    // By nothing, since it is the clock of the machine that tests this: ADJ_SETOFFSET.
    let plan = keeping("made(159, substr(pack('Q', 0x100) . $timex, 0, 208))");
    let (ran, told) = kept(&plan, SystemTime::UNIX_EPOCH);
    assert_eq!((ran.ok().trim(), told), ("0", vec![Set::Forward(Duration::ZERO)]));
}

#[test]
fn no_time_before_the_earliest_is_set_by_any_call() {
    if !root("no_time_before_the_earliest_is_set_by_any_call") {
        return;
    }
    let plan = keeping(
        "my $step = substr(pack('Q', 0x100) . $timex, 0, 208); \
         made(227, 0, $time); made(164, $time, 0); made(159, $step); made(305, 0, $step)",
    );
    let (ran, told) = kept(&plan, SystemTime::now() + Duration::from_secs(86_400));
    assert_eq!((ran.ok().trim(), told), ("1 1 1 1", vec![Set::Refused; 4]));
}

#[test]
fn another_clock_the_time_zone_and_nonsense_are_refused() {
    if !root("another_clock_the_time_zone_and_nonsense_are_refused") {
        return;
    }
    let plan = keeping(
        "made(227, 1, $time); made(305, 1, $timex); made(164, 0, $time); made(164, $time, $time); \
         made(227, 0, 8); made(159, 8); made(227, 0, pack('qq', time, 1000000000)); made(227, 0, pack('qq', time, -1))",
    );
    let (ran, told) = kept(&plan, SystemTime::now() + Duration::from_secs(86_400));
    assert_eq!((ran.ok().trim(), told), ("1 1 1 1 14 14 22 22", vec![]));
}

#[test]
fn what_is_not_for_the_clock_stays_refused_and_what_enters_keeps_no_clock() {
    if !root("what_is_not_for_the_clock_stays_refused_and_what_enters_keeps_no_clock") {
        return;
    }
    let plan = keeping("made(169, 0, 0, 0, 0); made(272, 0x10000000)");
    let (ran, _) = kept(&plan, SystemTime::UNIX_EPOCH);
    assert_eq!(ran.ok().trim(), "1 1");
    let enter = cairn_sandbox::Enter::new(&plan, 1, "/".as_ref(), vec!["/bin/true".into()]);
    assert!(!enter.seccomp.unwrap().clock);
}

#[test]
fn without_its_keeper_a_call_fails_and_does_not_hang() {
    if !root("without_its_keeper_a_call_fails_and_does_not_hang") {
        return;
    }
    let plan = keeping("sleep 1; made(159, $timex)");
    let mut started = start(&serde_json::to_vec(&plan).unwrap(), &[]);
    let (reports, listener) = started.until_listener();
    drop(listener);
    assert_eq!(started.finish(reports).ok().trim(), "38");
}

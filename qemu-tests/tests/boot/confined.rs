//! What a unit is held to: its limits, its filter before and after a lesson, its share of the processor; and a terminal inside.

use super::daemons::{AGENT, CAIRN, Guest, PATIENCE, neighbours};
use super::*;

/// The only line of `curious` after each of its starts.
const REFUSED: &str = "unshare was refused with 1";
const PASSED: &str = "unshare was let pass";

/// Read back from the control group of `shy`, whose every limit is another than the default.
pub(super) fn limits_are_in_force_as_declared(guest: &mut Guest) {
    let disk = guest.read("/sys/block/vda/dev");
    let io = format!("{disk} rbps=33554432 wbps=16777216 riops=max wiops=max");
    for (file, value) in [
        ("memory.high", "62914560"),
        ("memory.max", "67108864"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "50"),
        ("cpu.max", "75000 100000"),
        ("pids.max", "32"),
        ("io.max", io.as_str()),
    ] {
        assert_eq!(guest.limit("shy", file), value, "{file}");
    }
    // Not every kernel has these two.
    for (file, value) in [("memory.swap.max", "8388608"), ("io.weight", "default 200")] {
        if let Ok(found) = must(guest.0.agent()).read_file(&format!("/sys/fs/cgroup/cairn/units/shy/{file}")) {
            assert_eq!(String::from_utf8_lossy(&found).trim_end(), value, "{file}");
        }
    }
    let pid = guest.processes("units/shy")[1];
    let limits = guest.read(&format!("/proc/{pid}/limits"));
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(
        files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(),
        ["128", "128"]
    );
    guest.cairn(&["stop", "shy"]);
    guest.wait("shy", "has stopped", |unit| unit["state"] == "stopped");
}

pub(super) fn a_lesson_names_the_call_and_leaves_the_unit_confined(guest: &mut Guest) {
    guest.cairn(&["start", "curious"]);
    guest.wait_written("curious", &[REFUSED]);
    assert!(!guest.status().contains("its filter refuses no call"));
    let others = neighbours(guest);
    let said = guest.agent_says(&["learn", "curious", PASSED]);
    let (during, advice) = said.split_once("# curious: learned from for ").unwrap();
    // It was told while it was so.
    let line = during.lines().find(|line| line.starts_with("curious ")).unwrap();
    assert!(line.contains("its filter refuses no call"), "{during}");
    for words in [
        "calls unshare, which is refused otherwise",
        "system_calls = [\"unshare\"]",
    ] {
        assert!(advice.contains(words), "{words:?} is not in\n{advice}");
    }
    // Started for the lesson and after it, by nothing else.
    guest.wait_written("curious", &[REFUSED, PASSED, REFUSED]);
    assert_eq!(neighbours(guest), others);
    let status = guest.status();
    assert!(!status.contains("its filter refuses no call"), "{status}");
    let report = guest.cairn(&["security", "curious"]);
    assert!(report.lines().next().unwrap().ends_with("all as declared"), "{report}");
    assert!(!report.contains("let pass"), "{report}");
    guest.cairn(&["stop", "curious"]);
    guest.wait("curious", "has stopped", |unit| unit["state"] == "stopped");
}

/// What the kernel counts of the processor time of `spinner`.
fn figures(guest: &mut Guest) -> [u64; 3] {
    let text = guest.limit("spinner", "cpu.stat");
    ["nr_periods", "usage_usec", "nr_throttled"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        must(line.unwrap_or(&text).trim().parse())
    })
}

/// Against the kernel's own count of the tenths of a second in which the unit wanted to run.
pub(super) fn a_unit_that_spins_gets_its_share_and_no_more(guest: &mut Guest) {
    const PERIODS: u64 = 30;
    const PERIOD_US: u64 = 100_000;
    let others = neighbours(guest);
    guest.cairn(&["start", "spinner"]);
    guest.wait_ready("spinner");
    assert_eq!(guest.limit("spinner", "cpu.max"), "20000 100000");
    // What its start took is not counted.
    wait_until("it spins", PATIENCE, || figures(guest)[2] > 2);
    let before = figures(guest);
    let mut after = before;
    wait_until("it has spun for a while", PATIENCE, || {
        after = figures(guest);
        after[0] >= before[0] + PERIODS
    });
    let [periods, usage, throttled] = [0, 1, 2].map(|i| after[i] - before[i]);
    assert!(throttled > periods / 2, "throttled in {throttled} of {periods} periods");
    let (least, most) = (periods * PERIOD_US / 20, periods * PERIOD_US * 2 / 5);
    assert!((least..most).contains(&usage), "{usage} us in {periods} periods");
    // Others go on meanwhile.
    let (status, said) = guest.ran(&[AGENT, "follow", "tick", "2"], PATIENCE);
    assert_eq!((status, said.lines().count()), (0, 2), "{said}");
    assert_eq!(neighbours(guest), others);
    guest.cairn(&["stop", "spinner"]);
    guest.wait("spinner", "has stopped", |unit| unit["state"] == "stopped");
}

pub(super) fn who_enters_a_unit_has_a_terminal_there(guest: &mut Guest) {
    let before = guest.unit("worker@1")["pid"].clone();
    let shown = guest.agent_says(&["at-terminal", CAIRN, "enter", "worker@1", AGENT, "act", "terminal"]);
    // As large as the one it is shown on, and what is typed here is typed there.
    let wanted = "a terminal: true, 33 by 97, mine: true, in it was typed";
    assert!(shown.lines().any(|line| line.trim_end() == wanted), "{shown:?}");
    assert_eq!(guest.unit("worker@1")["pid"], before);
}

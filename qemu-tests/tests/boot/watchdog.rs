//! What PID 1 owes the machine: the watchdog is fed while it works, resets the machine when it does not, and it takes little memory.
//!
//! The machine has QEMU's i6300ESB. Its module comes with the kernel's package and is loaded by PID 1's child when the processors
//! have time, 20 s after the start at the latest.

use super::*;

/// The seconds that PID 1 asks for; the device gives what it is asked for, up to 2046.
const TIMEOUT: u64 = 60;
/// KiB.
const MOST_MEMORY: u64 = 1024;

/// A file of the kernel's, without its end.
fn read(machine: &mut Machine, path: &str) -> String {
    let bytes = must(must(machine.agent()).read_file(path));
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

fn wait_until_armed(machine: &mut Machine) {
    // The folder is there from the start, the device when its module is.
    wait_until("the watchdog is armed", Duration::from_secs(60), || {
        let state = must(machine.agent()).read_file("/sys/class/watchdog/watchdog0/state");
        state.is_ok_and(|state| state.starts_with(b"active"))
    });
    assert_eq!(
        read(machine, "/sys/class/watchdog/watchdog0/timeout"),
        TIMEOUT.to_string()
    );
}

#[test]
fn a_pid_1_that_stands_still_resets_the_machine() {
    let home = set_up("watchdog");
    let mut machine = ready(&home);
    wait_until_armed(&mut machine);
    // PID 1 takes no SIGSTOP, but its cgroup can be frozen, and it is the only process in it.
    must(must(machine.agent()).write_file("/sys/fs/cgroup/cairn/init/cgroup.freeze", b"1"));
    wait_until("PID 1 stands still", Duration::from_secs(10), || {
        read(&mut machine, "/sys/fs/cgroup/cairn/init/cgroup.events").contains("frozen 1")
    });
    // Twice the time: an emulated machine's clock and ours differ.
    must(machine.wait_reset(Duration::from_secs(2 * TIMEOUT)));
    must(machine.kill());
}

#[test]
fn a_pid_1_that_works_feeds_the_watchdog_and_takes_less_than_a_megabyte() {
    let home = set_up("watchdog-fed");
    let mut machine = ready(&home);
    wait_until_armed(&mut machine);
    // In the guest's own time: without food it would be reset by then, and the agent gone.
    let uptime = |machine: &mut Machine| -> u64 {
        let text = read(machine, "/proc/uptime");
        let seconds = text.split('.').next().and_then(|s| s.parse().ok());
        seconds.unwrap_or_else(|| panic!("{text}"))
    };
    let armed = uptime(&mut machine);
    wait_until("the watchdog's time is over", Duration::from_secs(4 * TIMEOUT), || {
        uptime(&mut machine) > armed + TIMEOUT + TIMEOUT / 4
    });
    let status = read(&mut machine, "/proc/1/status");
    let kib = |name: &str| -> u64 {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(u64::MAX)
    };
    let (resident, locked) = (kib("VmRSS:"), kib("VmLck:"));
    println!("PID 1: {resident} KiB resident, {locked} KiB locked");
    assert!(resident < MOST_MEMORY, "{status}");
    assert!(locked != u64::MAX && locked > resident, "{status}");
    switch_off(machine);
}

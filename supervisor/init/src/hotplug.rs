//! A child of PID 1 that loads the modules which devices ask for: all at the start, then those of each device that
//! comes. It parses and allocates, so that PID 1 need not.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

use crate::modules::{self, Loader};
use crate::uevents::Uevents;

/// The longest that devices which nothing waits for stay without their modules.
const LONGEST: Duration = Duration::from_secs(20);
/// How long the processors are watched for one look.
const LOOK: Duration = Duration::from_millis(300);

/// Waits until half of the processors' time is unused, but not for ever.
fn wait_for_time() {
    let start = Instant::now();
    let read = || std::fs::read_to_string("/proc/stat").ok().and_then(|text| used(&text));
    let mut before = read();
    while start.elapsed() < LONGEST {
        std::thread::sleep(LOOK);
        let now = read();
        let (Some((busy, idle)), Some((busy_before, idle_before))) = (now, before) else {
            return;
        };
        if idle.saturating_sub(idle_before) >= busy.saturating_sub(busy_before) {
            return;
        }
        before = now;
    }
}

/// Ticks that all processors were busy and idle since the start (proc_stat(5): user, nice, system, idle, iowait, ...).
fn used(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    // The last two, a guest's time, are part of the first two.
    Some((ticks.iter().take(8).sum::<u64>() - idle, idle))
}

/// Runs until it is killed. Tells PID 1 by SIGUSR1 whenever there may be new devices.
pub(crate) fn run() -> ! {
    let Ok(events) = Uevents::open() else {
        std::process::exit(1)
    };
    crate::console::set_debug_from_cmdline();
    let root = Path::new("/");
    let mut loader = Loader::new(root);
    // Nothing else that is loaded here is waited for.
    loader.load_for_units(root);
    // A power button may be pressed at any moment; PID 1 reads it as an input device.
    loader.load_for_devices(modules::power_buttons);
    loader.load("evdev");
    let _ = kill(getppid(), Signal::SIGUSR1);
    // The rest must not take the processors from the units that start meanwhile.
    wait_for_time();
    loop {
        loader.load_for_devices(modules::all_devices);
        let _ = kill(getppid(), Signal::SIGUSR1);
        events.wait(None);
        // Devices come in bursts: one look for a burst.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_and_idle_ticks_are_told_apart() {
        let text = "cpu  100 5 50 1000 20 3 2 1 9 9\ncpu0 50 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(used(text), Some((161, 1020)));
        assert_eq!(used("intr 5\n"), None);
        assert_eq!(used("cpu 1 2\n"), None);
    }
}

//! When each step of the boot began and ended, for the boot chart: lines of `NAME START END` in
//! `/run/cairn/boot-times`, in nanoseconds of `CLOCK_MONOTONIC` (which starts with the kernel).

use std::fs::{self, File};
use std::io::Write as _;

use rustix::time::{ClockId, clock_gettime};

const FOLDER: &str = "/run/cairn";
const FILE: &str = "/run/cairn/boot-times";

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Both are never negative for this clock.
    (now.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec as u64)
}

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<(&'static str, u64, u64)>);

impl Times {
    /// Runs a step and notes its time.
    pub(crate) fn step<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let start = now();
        let result = step();
        self.0.push((name, start, now()));
        result
    }

    /// Appends the steps to the file. A chart is not worth a boot: errors are ignored.
    pub(crate) fn save(&self) {
        let _ = fs::create_dir_all(FOLDER);
        if let Ok(mut file) = File::options().create(true).append(true).open(FILE) {
            for (name, start, end) in &self.0 {
                let _ = writeln!(file, "{name} {start} {end}");
            }
        }
    }
}

//! What a unit uses, read from its cgroup.

use std::fs;
use std::path::Path;

use cairn_api::{Pressure, Use};

/// Reads a cgroup; what the kernel does not tell is 0.
pub fn read(name: &str, group: &Path) -> Use {
    let text = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let number = |file: &str| text(file).trim().parse().unwrap_or(0);
    let (read, written) = disk(&text("io.stat"));
    let pressure = |file: &str| some_avg10(&text(file));
    Use {
        name: name.to_owned(),
        memory: number("memory.current"),
        memory_peak: number("memory.peak"),
        memory_max: number("memory.max"),
        cpu_us: field(&text("cpu.stat"), "usage_usec"),
        processes: number("pids.current"),
        processes_max: number("pids.max"),
        read,
        written,
        kept: 0,
        kept_max: 0,
        pressure: Pressure {
            cpu: pressure("cpu.pressure"),
            memory: pressure("memory.pressure"),
            io: pressure("io.pressure"),
        },
    }
}

/// `KEY VALUE` lines.
fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Bytes read and written over all disks: `254:0 rbytes=1 wbytes=2 rios=...` lines.
fn disk(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        words
            .filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
            .sum()
    };
    (sum("rbytes"), sum("wbytes"))
}

/// The share of the last ten seconds: `some avg10=1.50 avg60=...`.
fn some_avg10(text: &str) -> f32 {
    let line = text.lines().find_map(|line| line.strip_prefix("some "));
    let value = line.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")));
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroups_files_are_read_and_missing_ones_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("memory.current", "1048576\n");
        put("memory.max", "max\n");
        put("cpu.stat", "usage_usec 777\nuser_usec 700\n");
        put("pids.current", "5\n");
        put(
            "io.stat",
            "254:0 rbytes=10 wbytes=20 rios=1 wios=2\n254:16 rbytes=1 wbytes=2 rios=1 wios=2\n",
        );
        put(
            "memory.pressure",
            "some avg10=1.50 avg60=0.10 avg300=0.00 total=9\nfull avg10=9.00 avg60=0 avg300=0 total=0\n",
        );
        let found = read("db", dir.path());
        let expected = Use {
            name: "db".into(),
            memory: 1 << 20,
            cpu_us: 777,
            processes: 5,
            read: 11,
            written: 22,
            pressure: Pressure {
                memory: 1.5,
                ..Pressure::default()
            },
            ..Use::default()
        };
        assert_eq!(found, expected);
        assert_eq!(
            read("x", &dir.path().join("gone")),
            Use {
                name: "x".into(),
                ..Use::default()
            }
        );
    }
}

//! A unit's control group: its limits, its end, and what the kernel says about it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use cairn_unit::Limits;

use crate::error::Error;

fn put(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(file))?
        .write_all(value.as_bytes())
}

/// Makes `/sys/fs/cgroup/cairn/units` with every controller that the kernel offers.
pub fn set_up(units: &Path) -> Result<(), Error> {
    fs::create_dir_all(units).map_err(Error::io("make the cgroup", units))?;
    for controller in ["memory", "cpu", "io", "pids"] {
        // What is missing shows when a unit's limit cannot be set, with the unit's name.
        let _ = put(units, "cgroup.subtree_control", &format!("+{controller}"));
    }
    Ok(())
}

/// The limits as files and values, in the order in which they are written.
pub fn limits(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("memory.max", limits.memory_max.0.to_string()),
        (
            "memory.high",
            limits.memory_high.map_or("max".to_owned(), |b| b.0.to_string()),
        ),
        ("memory.oom.group", "1".to_owned()),
        ("cpu.weight", limits.cpu_weight.to_string()),
        ("pids.max", limits.processes.to_string()),
    ];
    files.push(("io.weight", format!("default {}", limits.io_weight)));
    files
}

/// Makes a unit's cgroup with its limits and opens it.
///
/// # Errors
/// A limit that cannot be set fails the start, but for `io.weight`, which not every kernel's disk scheduler has.
pub fn make(folder: &Path, wanted: &Limits) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(Error::io("make the cgroup", folder))?;
    for (file, value) in limits(wanted) {
        if let Err(why) = put(folder, file, &value)
            && !file.starts_with("io.")
        {
            return Err(Error::Io {
                what: "set the limit",
                path: folder.join(file),
                why,
            });
        }
    }
    File::open(folder).map_err(Error::io("open the cgroup", folder))
}

/// Kills every process of the group.
pub fn kill(folder: &Path) {
    let _ = put(folder, "cgroup.kill", "1");
}

/// Whether no process of the group is left.
pub fn empty(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.events")).map_or(true, |text| !text.lines().any(|l| l == "populated 1"))
}

/// How often the kernel killed the group for want of memory.
pub fn out_of_memory(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("memory.events")).unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("oom_kill "))
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0)
}

/// Whether `pid` is in the group.
pub fn holds(folder: &Path, pid: i32) -> bool {
    match fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => text.lines().any(|l| l.parse() == Ok(pid)),
        // No cgroup file system, as below a test's prefix: whether it lives has to do.
        Err(_) => Path::new("/proc").join(pid.to_string()).exists(),
    }
}

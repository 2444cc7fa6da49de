//! A unit's control group: its limits, its end, and what the kernel says about it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_unit::{Bytes, Limits};

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
/// `disk` is the data disk's number.
pub fn limits(limits: &Limits, disk: Option<&str>) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("memory.max", limits.memory_max.0.to_string()),
        (
            "memory.high",
            limits.memory_high.map_or("max".to_owned(), |b| b.0.to_string()),
        ),
        ("memory.swap.max", limits.swap_max.0.to_string()),
        ("memory.oom.group", "1".to_owned()),
        ("cpu.weight", limits.cpu_weight.to_string()),
        ("cpu.max", quota(limits.cpu_quota)),
        ("pids.max", limits.processes.to_string()),
        ("io.weight", format!("default {}", limits.io_weight)),
    ];
    if let Some(disk) = disk {
        let bound = |bytes: Option<Bytes>| bytes.map_or("max".to_owned(), |b| b.0.to_string());
        let (read, write) = (bound(limits.io_read_max), bound(limits.io_write_max));
        files.push(("io.max", format!("{disk} rbps={read} wbps={write}")));
    }
    files
}

/// `cpu.max`: the time of each tenth of a second, in microseconds.
fn quota(percent: Option<u32>) -> String {
    const PERIOD: u64 = 100_000;
    match percent {
        Some(percent) => format!("{} {PERIOD}", u64::from(percent) * PERIOD / 100),
        None => format!("max {PERIOD}"),
    }
}

/// The folder in `/sys` of a block device, or of the one below it where it is encrypted: a partition or a disk.
pub fn hardware(sys: &Path, device: rustix::fs::Dev) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let own = fs::canonicalize(sys.join("dev/block").join(format!("{major}:{minor}"))).ok()?;
    let mut below = fs::read_dir(own.join("slaves")).into_iter().flatten().flatten();
    match below.next() {
        Some(below) => fs::canonicalize(below.path()).ok(),
        None => Some(own),
    }
}

/// The disk that holds `path`, as `io.max` names it: the whole disk, of which `path` may be on a partition.
pub fn disk_of(path: &Path) -> Option<String> {
    let device = rustix::fs::stat(path).ok()?.st_dev;
    let own = hardware(Path::new("/sys"), device)?;
    let whole = if own.join("partition").exists() {
        own.parent()?.to_owned()
    } else {
        own
    };
    Some(fs::read_to_string(whole.join("dev")).ok()?.trim().to_owned())
}

/// Makes a unit's cgroup with its limits and opens it.
///
/// # Errors
/// A limit that cannot be set fails the start, but for `io.weight`, which not every kernel's disk scheduler has.
pub fn make(folder: &Path, wanted: &Limits) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(Error::io("make the cgroup", folder))?;
    change(folder, wanted)?;
    File::open(folder).map_err(Error::io("open the cgroup", folder))
}

/// Sets a cgroup's limits; one that is not there gets them when it is made.
///
/// # Errors
/// As [`make`].
pub fn change(folder: &Path, wanted: &Limits) -> Result<(), Error> {
    if !folder.exists() {
        return Ok(());
    }
    let bounded = wanted.io_read_max.is_some() || wanted.io_write_max.is_some();
    let disk = disk_of(Path::new("/data"));
    if bounded && disk.is_none() {
        return Err(Error::Kernel(
            "the data file system is on no disk, so io_read_max and io_write_max cannot be set; leave them out".into(),
        ));
    }
    for (file, value) in limits(wanted, disk.as_deref()) {
        let optional = match file {
            "io.weight" => true,
            "io.max" => !bounded,
            // Without swap in the kernel there is nothing to limit.
            "memory.swap.max" => !folder.join(file).exists(),
            _ => false,
        };
        if let Err(why) = put(folder, file, &value)
            && !optional
        {
            return Err(Error::Io {
                what: "set the limit",
                path: folder.join(file),
                why,
            });
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_file_and_the_kernels_form() {
        let wanted = Limits {
            cpu_quota: Some(150),
            io_write_max: Some(Bytes(1 << 20)),
            ..Limits::default()
        };
        let files = limits(&wanted, Some("254:0"));
        let of = |name: &str| {
            files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(of("memory.max"), Some("536870912"));
        assert_eq!(of("memory.high"), Some("max"));
        assert_eq!(of("memory.swap.max"), Some("0"));
        assert_eq!(of("memory.oom.group"), Some("1"));
        assert_eq!(of("cpu.max"), Some("150000 100000"));
        assert_eq!(of("io.max"), Some("254:0 rbps=max wbps=1048576"));
        assert_eq!(of("pids.max"), Some("512"));
        let none = limits(&Limits::default(), None);
        assert!(none.iter().all(|(file, _)| *file != "io.max"));
        assert!(none.contains(&("cpu.max", "max 100000".to_owned())));
    }
}

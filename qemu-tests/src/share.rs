//! Sharing the host between tests: a semaphore across processes. `cargo test` and `cargo nextest` start several tests, each in its own
//! thread or process; each machine first takes tokens, one a CPU and one each 512 MiB, which are locked files. The kernel gives
//! tokens back when their holder dies, however it dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::HarnessError;

const MEMORY_TOKEN_MIB: u64 = 512;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tokens held; dropping gives them back.
#[derive(Debug)]
pub struct Share {
    _tokens: Vec<File>,
}

impl Share {
    /// Waits until the host has room for a machine of this size, by the host's own size. A machine larger than the host waits for all
    /// of it and then starts anyway.
    ///
    /// # Errors
    /// When the token files cannot be made.
    pub fn take(cpus: u32, memory_mib: u32) -> Result<Share, HarnessError> {
        let host_cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        // Half of the memory is left for the page cache and the builds.
        let host_memory = memory_total_mib() / 2 / MEMORY_TOKEN_MIB;
        let folder = std::env::temp_dir().join("cairn-qemu-tests");
        let memory = u64::from(memory_mib).div_ceil(MEMORY_TOKEN_MIB);
        Share::take_from(
            &folder,
            &[("cpu", u64::from(cpus), host_cpus), ("memory", memory, host_memory)],
        )
    }

    fn take_from(folder: &Path, kinds: &[(&str, u64, u64)]) -> Result<Share, HarnessError> {
        std::fs::create_dir_all(folder).map_err(HarnessError::io("create", folder))?;
        // One at a time takes: two that each hold half of what they need would wait for each other for ever. The first in line
        // keeps this lock while it waits for others' tokens, so nobody small overtakes a large machine for ever.
        let _line = lock(&folder.join("line"))?;
        let mut tokens = Vec::new();
        for (kind, wanted, all) in kinds {
            let all = (*all).max(1);
            let mut missing = (*wanted).min(all);
            let paths: Vec<PathBuf> = (0..all).map(|index| folder.join(format!("{kind}-{index}"))).collect();
            let mut free: Vec<PathBuf> = paths;
            // Whichever becomes free first: to wait for one of them in the kernel would be to wait for whoever holds that one.
            loop {
                let mut held = Vec::new();
                for path in free {
                    let file = open(&path)?;
                    if missing > 0 && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                        missing -= 1;
                        tokens.push(file);
                    } else {
                        held.push(path);
                    }
                }
                if missing == 0 {
                    break;
                }
                free = held;
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(Share { _tokens: tokens })
    }
}

/// Takes a lock on a file, made if missing, and waits for it as long as it takes.
pub fn lock(path: &Path) -> Result<File, HarnessError> {
    let file = open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(HarnessError::io("lock", path)(error.into())),
        }
    }
}

fn open(path: &Path) -> Result<File, HarnessError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(HarnessError::io("open", path))
}

fn memory_total_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(4_u64 << 20) / 1024
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_third_machine_waits_until_either_of_two_ends() {
        for ends in 0..2 {
            the_third_waits_until(ends);
        }
    }

    fn the_third_waits_until(ends: usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut two = vec![
            Share::take_from(&path, &[("cpu", 1, 2)]).unwrap(),
            Share::take_from(&path, &[("cpu", 1, 2)]).unwrap(),
        ];
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || {
            let third = Share::take_from(&path, &[("cpu", 1, 2)]).unwrap();
            sender.send(()).unwrap();
            drop(third);
        });
        assert!(taken.recv_timeout(Duration::from_millis(200)).is_err());
        drop(two.remove(ends));
        taken.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}

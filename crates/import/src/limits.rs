//! Bounds: systemd.resource-control(5) and the `Limit*=` of systemd.exec(5).

use crate::draft::quoted;
use crate::job::Job;
use crate::values::{percent, size, size_text};

/// What Cairn sets where a unit says nothing.
const MEMORY: u64 = 512 << 20;
/// The kernel's own bound of open files of a process (`fs.nr_open`).
const FILES: u64 = 1 << 20;

pub(crate) fn read(job: &mut Job) {
    memory(job);
    for (key, own) in [("CPUWeight", "cpu_weight"), ("IOWeight", "io_weight")] {
        let Some((id, value)) = job.last(key) else { continue };
        match value.parse::<u16>() {
            Ok(weight @ 1..=10_000) => set(job, id, own, weight.to_string()),
            _ if value == "idle" => {
                set(job, id, own, "1".into());
                job.hint(id, "`idle` is less than any weight: the least, 1, is set");
            }
            _ => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last("CPUQuota") {
        match percent(&value) {
            Some(percent) if percent > 0 => set(job, id, "cpu_quota", percent.to_string()),
            _ => job.not_understood(id),
        }
    }
    processes(job);
    if let Some((id, value)) = job.last("LimitNOFILE") {
        let hard = value.rsplit(':').next().unwrap_or_default();
        match hard.parse::<u64>() {
            Ok(count) if count > 0 => {
                set(job, id, "open_files", count.to_string());
                if value.contains(':') {
                    job.hint(id, "a unit has one bound, soft and hard: the hard one is set");
                }
            }
            _ if hard == "infinity" => {
                set(job, id, "open_files", FILES.to_string());
                job.hint(id, "a unit always has a bound: the kernel's usual one is set");
            }
            _ => job.not_understood(id),
        }
    }
    for (key, own) in [
        ("IOReadBandwidthMax", "io_read_max"),
        ("IOWriteBandwidthMax", "io_write_max"),
    ] {
        for (id, value) in job.list(key) {
            match value.split_whitespace().nth(1).and_then(size) {
                Some(bytes) if bytes > 0 => {
                    set(job, id, own, quoted(&size_text(bytes)));
                    job.hint(id, "the bound is for the data disk, whichever disk was named");
                }
                _ => job.not_understood(id),
            }
        }
    }
}

fn set(job: &mut Job, id: usize, key: &'static str, value: String) {
    job.draft.limits.insert(key, value);
    job.carried(id);
}

fn memory(job: &mut Job) {
    let mut most = None;
    if let Some((id, value)) = job.last("MemoryMax") {
        match size(&value) {
            Some(bytes) if bytes > 0 => {
                most = Some(bytes);
                set(job, id, "memory_max", quoted(&size_text(bytes)));
            }
            _ => job.decide(id, &format!("a unit always has a bound in bytes, and `{value}` is none: 512M holds until `limits.memory_max` says otherwise")),
        }
    }
    if let Some((id, value)) = job.last("MemoryHigh") {
        match size(&value) {
            Some(bytes) if bytes > 0 => {
                set(job, id, "memory_high", quoted(&size_text(bytes)));
                if most.is_some_and(|most| bytes > most) {
                    job.draft.limits.remove("memory_high");
                    job.hint(id, "it is above MemoryMax= and never reached: left out");
                } else if most.is_none() && bytes > MEMORY {
                    job.draft.limits.insert("memory_max", quoted(&size_text(bytes)));
                    job.hint(
                        id,
                        "a unit always has `memory_max` too, 512M if left out: the same is set",
                    );
                }
            }
            _ if value == "infinity" => job.covered(id),
            _ => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last("MemorySwapMax") {
        match size(&value) {
            Some(bytes) => set(job, id, "swap_max", quoted(&size_text(bytes))),
            None => job.decide(id, "a unit has no swap until `limits.swap_max` names a size"),
        }
    }
}

fn processes(job: &mut Job) {
    let tasks = job.last("TasksMax");
    let own = job.last("LimitNPROC");
    let count = |value: &str| value.parse::<u32>().ok().filter(|count| *count > 0);
    if let Some((id, value)) = &tasks {
        match count(value) {
            Some(count) => set(job, *id, "processes", count.to_string()),
            None => job.decide(*id, &format!("a unit always has a number as its bound, and `{value}` is none: 512 holds until `limits.processes` says otherwise")),
        }
    }
    if let Some((id, value)) = own {
        match count(value.rsplit(':').next().unwrap_or_default()) {
            Some(count) if tasks.is_none() => {
                set(job, id, "processes", count.to_string());
                job.hint(
                    id,
                    "the bound holds for all processes and threads of the unit, not for those of its account",
                );
            }
            Some(_) => job.hint(id, "the unit has one bound, and TasksMax= says it"),
            None => job.hint(
                id,
                "a unit always has a bound: 512 processes if `limits.processes` says nothing else",
            ),
        }
    }
}

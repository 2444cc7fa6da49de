//! Tables for people, with colours on a terminal.

use std::fmt::Write as _;

use cairn_api::{DataEncryption, Explained, MachineState, Reloaded, Status, Top, UnitPhases, UnitStatus};

/// Colours by meaning; plain where nobody looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn state(self, state: &str, padded: &str) -> String {
        match state {
            "ready" => self.with("32", padded),
            "failed" | "restarting" => self.with("31", padded),
            "stopped" => self.with("2", padded),
            _ => self.with("33", padded),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// A time as people say it: `250 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A size as people say it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} K", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} M", bytes >> 20),
        _ => format!("{:.1} G", bytes as f64 / f64::from(1u32 << 30)),
    }
}

/// The machine, a line each.
pub(crate) fn machine(machine: &MachineState) -> String {
    let MachineState {
        memory,
        cpus,
        data,
        encryption,
        clock,
    } = machine;
    let kept = match clock.error_us {
        Some(us) => format!("kept by a time server, off by at most {} ms", us.div_ceil(1000)),
        None => "kept by no time server: as the firmware or the host set it".to_owned(),
    };
    let (all, used, free) = (size(data.size), size(data.used), size(data.free));
    let kept_by = data_encryption(encryption);
    format!(
        "memory      {}\nprocessors  {cpus}\ndata        {all}, {used} used, {free} free\nencryption  {kept_by}\nclock       {} (UTC), {kept}\n",
        size(*memory),
        clock.now
    )
}

/// How the data partition is kept.
pub(crate) fn data_encryption(state: &DataEncryption) -> String {
    let mut text = match state {
        DataEncryption { encrypted: false, .. } => "none".to_owned(),
        DataEncryption { sealed: true, .. } => "LUKS2; this machine's TPM opens it".to_owned(),
        DataEncryption { why, .. } => format!("LUKS2; the next start asks for the recovery key: {why}"),
    };
    if state.recovery_key_unsaved {
        text.push_str("; its recovery key is not saved yet (`cairn data recovery-key`)");
    }
    text
}

fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).max().unwrap_or(0).max(4)
}

fn says(unit: &UnitStatus) -> String {
    let mut text = if unit.reason.is_empty() {
        unit.says.clone()
    } else {
        unit.reason.clone()
    };
    let mut add = |more: String| {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&more);
    };
    if unit.health.failed > 0 {
        add(format!(
            "{} health checks failed: {}",
            unit.health.failed, unit.health.last
        ));
    }
    if let Some(ms) = unit.learning_ms {
        add(format!(
            "learned from for {} more: its filter refuses no call",
            span(ms)
        ));
    }
    if let Some(ms) = unit.starts_in_ms {
        add(format!("starts in {}", span(ms)));
    }
    text
}

/// The appliance and a line a unit.
pub(crate) fn status(status: &Status, paint: Paint) -> String {
    let mut out = format!(
        "{} {}  {}\n",
        paint.bold(&status.appliance),
        status.version,
        status.address
    );
    for note in &status.network {
        let _ = writeln!(out, "Network: {note}.");
    }
    if let Some(kind) = &status.going_down {
        let _ = writeln!(out, "Going down ({kind}).");
    }
    let width = width(status.units.iter().map(|unit| unit.name.as_str()));
    out.push('\n');
    for unit in &status.units {
        let state = if unit.reloading {
            "reloading"
        } else {
            unit.state.as_str()
        };
        let shown = paint.state(&unit.state, &format!("{state:11}"));
        let line = format!(
            "{:width$}  {shown}  {:>8}  {}",
            unit.name,
            span(unit.for_ms),
            says(unit)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// What the units use between two looks.
pub(crate) fn top(before: &Top, now: &Top, paint: Paint) -> String {
    let width = width(now.units.iter().map(|unit| unit.name.as_str()));
    let ms = now.at_ms.saturating_sub(before.at_ms).max(1);
    let head = format!(
        "{:width$}  {:>6}  {:>7} {:>7}  {:>7} {:>7}  {:>9}  {:>8}  {:>8}  waiting: cpu memory   io",
        "unit", "cpu %", "memory", "of", "disk", "of", "processes", "read/s", "write/s"
    );
    let mut out = paint.bold(&head) + "\n";
    for unit in &now.units {
        let earlier = before.units.iter().find(|other| other.name == unit.name);
        let since = |read: fn(&cairn_api::Use) -> u64| read(unit).saturating_sub(earlier.map_or(read(unit), read));
        let percent = since(|u| u.cpu_us) as f64 / (ms as f64 * 10.0);
        let rate = |bytes: u64| size(bytes.saturating_mul(1000) / ms);
        let _ = writeln!(
            out,
            "{:width$}  {percent:>6.1}  {:>7} {:>7}  {:>7} {:>7}  {:>4}/{:<4}  {:>8}  {:>8}        {:>4.0}%  {:>4.0}% {:>4.0}%",
            unit.name,
            size(unit.memory),
            size(unit.memory_max),
            size(unit.kept),
            size(unit.kept_max),
            unit.processes,
            unit.processes_max,
            rate(since(|u| u.read)),
            rate(since(|u| u.written)),
            unit.pressure.cpu,
            unit.pressure.memory,
            unit.pressure.io,
        );
    }
    out
}

/// Why a unit is as it is.
pub(crate) fn explained(unit: &Explained, paint: Paint) -> String {
    let mut out = format!(
        "{}: {}\n{}\n\n",
        paint.bold(&unit.status.name),
        unit.status.description,
        unit.why
    );
    let mut row = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{key:12}{value}");
        }
    };
    row(
        "state",
        &format!("{} for {}", unit.status.state, span(unit.status.for_ms)),
    );
    row("says", &unit.status.says);
    row("started by", &unit.started_by.join("; "));
    row("waits for", &unit.waits_for.join(", "));
    row("needed by", &unit.needed_by.join(", "));
    row("ready", &unit.ready);
    row("watched by", &unit.health);
    row("stopped by", &unit.stop);
    row("reloads", &unit.reload);
    let settings = unit.settings.iter().filter(|one| one.chosen);
    let settings: Vec<String> = settings
        .filter_map(|one| {
            Some(format!(
                "{} = {}",
                one.name,
                crate::settings::in_words(one.value.as_ref()?)
            ))
        })
        .collect();
    row("set", &settings.join("; "));
    let restart = &unit.restart;
    let when = |ms: &u64| {
        if *ms == 0 {
            "at once".to_owned()
        } else {
            format!("after {}", span(*ms))
        }
    };
    let delays: Vec<String> = restart.delays_ms.iter().map(when).collect();
    let schedule = if delays.is_empty() {
        String::new()
    } else {
        format!(", {}", delays.join(", "))
    };
    let limit = match restart.limit {
        Some(limit) => format!("; {limit} failures in a row are the end"),
        None if delays.is_empty() => String::new(),
        None => ", and so on for ever".to_owned(),
    };
    row("restarted", &format!("{}{schedule}{limit}", restart.policy));
    if !delays.is_empty() {
        row(
            "",
            &format!(
                "failures are forgotten after {} of being ready",
                span(restart.healthy_after_ms)
            ),
        );
    }
    row("fails for good", &restart.failure);
    for (file, value) in &unit.limits {
        row("limit", &format!("{file} = {value}"));
    }
    for exception in &unit.exceptions {
        row("exception", exception);
    }
    out
}

/// What a reload changed.
pub(crate) fn reloaded(reloaded: &Reloaded) -> String {
    let mut out = String::new();
    for change in &reloaded.changes {
        let error = change
            .error
            .as_ref()
            .map(|e| format!(": not in force: {e}"))
            .unwrap_or_default();
        let _ = writeln!(out, "{}: {}{error}", change.unit, change.change);
    }
    if reloaded.changes.is_empty() {
        out.push_str("Nothing differs.\n");
    }
    out
}

/// Which units took how long to their first readiness, the longest first.
pub(crate) fn blame(units: &[UnitPhases]) -> String {
    let mut took: Vec<(u64, &str)> = units
        .iter()
        .filter_map(|u| Some((u.first_ready()?.1, u.name.as_str())))
        .collect();
    took.sort_by(|a, b| b.cmp(a));
    took.iter()
        .map(|(ms, name)| format!("{:>9.3} s  {name}\n", *ms as f64 / 1000.0))
        .collect()
}

/// The chain of units that the last readiness hung on, from its end.
pub(crate) fn critical_chain(units: &[UnitPhases]) -> String {
    let ready = |name: &str| units.iter().find(|u| u.name == name)?.first_ready();
    let last = units
        .iter()
        .filter_map(|u| Some((u.first_ready()?.0, u.name.as_str())))
        .max();
    let mut next = last.map(|(_, name)| name);
    let (mut out, mut depth) = (String::new(), 0);
    while let Some(name) = next {
        let Some((at, took)) = ready(name) else { break };
        let _ = writeln!(
            out,
            "{:depth$}{name}  ready at {:.3} s, took {:.3} s",
            "",
            at as f64 / 1000.0,
            took as f64 / 1000.0
        );
        let waits = units.iter().find(|u| u.name == name).map(|u| &u.waits_for);
        next = waits
            .into_iter()
            .flatten()
            .filter_map(|other| Some((ready(other)?.0, other.as_str())))
            .max()
            .map(|(_, other)| other);
        depth += 2;
    }
    if out.is_empty() {
        out.push_str("No unit has been ready yet.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(name: &str, waits_for: &[&str], start: u64, ready: u64) -> UnitPhases {
        UnitPhases {
            name: name.into(),
            waits_for: waits_for.iter().map(|w| (*w).into()).collect(),
            phases: vec![
                ("waiting".into(), 100),
                ("preparing".into(), start),
                ("ready".into(), ready),
            ],
        }
    }

    #[test]
    fn the_chain_follows_whoever_was_waited_for_longest() {
        let units = [
            phases("db", &[], 100, 3000),
            phases("directory", &[], 100, 1000),
            phases("web", &["db", "directory"], 3000, 4500),
            phases("fast", &[], 100, 200),
        ];
        let chain = critical_chain(&units);
        assert_eq!(
            chain,
            "web  ready at 4.500 s, took 1.500 s\n  db  ready at 3.000 s, took 2.900 s\n"
        );
        let blamed = blame(&units);
        let names: Vec<&str> = blamed.lines().map(|l| l.rsplit(' ').next().unwrap()).collect();
        assert_eq!(names, ["db", "web", "directory", "fast"]);
        assert_eq!(critical_chain(&[]), "No unit has been ready yet.\n");
    }

    #[test]
    fn use_is_the_difference_between_two_looks() {
        let look = |at_ms: u64, cpu_us: u64| Top {
            at_ms,
            units: vec![cairn_api::Use {
                name: "db".into(),
                cpu_us,
                memory: 64 << 20,
                memory_max: 1 << 30,
                ..Default::default()
            }],
        };
        let text = top(&look(1000, 0), &look(2000, 250_000), Paint(false));
        assert!(
            text.lines().nth(1).unwrap().contains("  25.0     64 M   1.0 G"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(
            [span(5), span(5000), span(600_000), span(90_000_000), span(u64::MAX / 2)].map(|s| s
                .split(' ')
                .next_back()
                .unwrap()
                .to_owned()),
            ["ms", "s", "min", "h", "d"]
        );
        assert_eq!(
            [size(5), size(5 << 10), size(5 << 20), size(5 << 30)],
            ["5 B", "5 K", "5 M", "5.0 G"]
        );
    }
}

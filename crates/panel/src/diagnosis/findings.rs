//! What follows from the facts. Nothing is asked for here.

use jiff::Timestamp;

use super::{Facts, Finding, Mood};
use crate::view::bytes;

fn found(topic: &'static str, mood: Mood, key: &'static str, values: &[(&'static str, String)]) -> Finding {
    Finding {
        topic,
        mood,
        key,
        values: values.to_vec(),
        unit: None,
    }
}

fn of_unit(unit: &str, mut finding: Finding) -> Finding {
    finding.values.push(("unit", unit.to_owned()));
    finding.unit = Some(unit.to_owned());
    finding
}

/// What follows from the facts, the worst first.
pub(crate) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut all = services(facts);
    all.extend(network(facts));
    all.extend(clock(facts));
    all.extend(room(facts));
    all.extend(memory(facts));
    all.extend(certificates(facts));
    all.extend(own(facts));
    all.sort_by_key(|finding| finding.mood);
    all
}

fn services(facts: &Facts) -> Vec<Finding> {
    let Some(status) = &facts.status else {
        return vec![found("services", Mood::Bad, "manager", &[])];
    };
    let mut all = Vec::new();
    for unit in &status.units {
        let copy = newest_copy(facts, &unit.name);
        let why = |why: &str| vec![("why", why.to_owned()), ("at", copy.clone().unwrap_or_default())];
        let why_ended = why(&unit.reason);
        let finding = match (unit.state.as_str(), copy.is_some()) {
            ("failed", true) => found("services", Mood::Bad, "failed-copies", &why_ended),
            ("failed", false) => found("services", Mood::Bad, "failed", &why_ended),
            _ if unit.health.failed > 0 => found("services", Mood::Warn, "unhealthy", &why(&unit.health.last)),
            ("restarting", true) => found("services", Mood::Warn, "restarting-copies", &why_ended),
            ("restarting", false) => found("services", Mood::Warn, "restarting", &why_ended),
            _ => continue,
        };
        all.push(of_unit(&unit.name, finding));
    }
    let overdue = facts
        .dumps
        .iter()
        .flat_map(|all| &all.units)
        .filter(|unit| unit.overdue);
    all.extend(overdue.map(|unit| of_unit(&unit.unit, found("services", Mood::Warn, "copy-overdue", &[]))));
    if all.is_empty() {
        let up = status.units.iter().filter(|unit| unit.state == "ready").count();
        all.push(found("services", Mood::Good, "services", &[("count", up.to_string())]));
    }
    all
}

/// When the newest copy was made that the unit can go back to.
fn newest_copy(facts: &Facts, unit: &str) -> Option<String> {
    let of = facts
        .dumps
        .iter()
        .flat_map(|all| &all.units)
        .find(|one| one.unit == unit)?;
    let newest = of.dumps.iter().find(|dump| dump.refused.is_empty())?;
    let at = Timestamp::from_second(i64::try_from(newest.at).ok()?).ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn network(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let address = facts
        .status
        .as_ref()
        .map(|status| status.address.clone())
        .unwrap_or_default();
    if let Some(status) = &facts.status {
        if !status.firewall {
            all.push(found("ports", Mood::Bad, "firewall", &[]));
        }
        match address.as_str() {
            "" => all.push(found("network", Mood::Bad, "no-address", &[])),
            address => all.push(found(
                "network",
                Mood::Good,
                "address",
                &[("address", address.to_owned())],
            )),
        }
    }
    if let Some(network) = &facts.network {
        for name in &network.absent {
            let what = [("what", name.clone())];
            all.push(found("network", Mood::Warn, "network-absent", &what));
        }
        for why in &network.problems {
            let what = [("what", why.clone())];
            all.push(found("network", Mood::Warn, "network-problem", &what));
        }
        if let Some(pending) = &network.pending {
            let what = [("what", pending.who.clone())];
            all.push(found("network", Mood::Warn, "network-pending", &what));
        }
    }
    let nodes = facts.graph.iter().flat_map(|graph| &graph.nodes);
    let ports: Vec<String> = nodes
        .flat_map(|node| node.publishes.iter().map(|port| format!("{port} ({})", node.name)))
        .collect();
    match ports.is_empty() {
        true => all.push(found("ports", Mood::Off, "no-ports", &[])),
        false => all.push(found("ports", Mood::Good, "ports", &[("ports", ports.join(", "))])),
    }
    all.push(match &facts.domain {
        None => found("dns", Mood::Off, "no-domain", &[]),
        Some((name, leads)) => {
            let values = |to: String| [("domain", name.clone()), ("address", address.clone()), ("to", to)];
            match leads {
                None => found("dns", Mood::Off, "dns-unknown", &values(String::new())),
                Some(to) if to.iter().any(|ip| ip.to_string() == address) => {
                    found("dns", Mood::Good, "dns", &values(String::new()))
                }
                Some(to) => {
                    let to: Vec<String> = to.iter().map(ToString::to_string).collect();
                    found("dns", Mood::Warn, "dns-elsewhere", &values(to.join(", ")))
                }
            }
        }
    });
    all
}

/// The second at which a text of RFC 3339 is.
fn second(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn clock(facts: &Facts) -> Vec<Finding> {
    // No appliance of this version ran before: 2026-01-01.
    const BEGINNING: i64 = 1_767_225_600;
    let now = Timestamp::from_second(facts.now).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
    let values = [("now", now.unwrap_or_default())];
    let issued = facts.certificates.iter().flat_map(|all| &all.certificates);
    let ahead = issued.filter_map(|one| second(&one.from)).any(|from| from > facts.now);
    let kept = facts.machine.as_ref().is_some_and(|machine| machine.clock.synchronised);
    vec![match (facts.now < BEGINNING || ahead, kept) {
        (true, _) => found("clock", Mood::Bad, "clock-behind", &values),
        (false, true) => found("clock", Mood::Good, "clock", &values),
        (false, false) => found("clock", Mood::Off, "clock-alone", &values),
    }]
}

fn room(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let used = facts.top.iter().flat_map(|top| &top.units);
    if let Some(setup) = &facts.setup {
        let (free, kept) = (setup.machine.disk, used.clone().map(|unit| unit.kept).sum::<u64>());
        let whole = free.saturating_add(kept).max(1);
        let values = [("free", bytes(free as f64)), ("whole", bytes(whole as f64))];
        let percent = free.saturating_mul(100) / whole;
        all.push(match (percent, free) {
            _ if facts.trouble.full => found("disk", Mood::Bad, "disk-full", &values),
            (..3, _) | (_, ..0x800_0000) => found("disk", Mood::Bad, "disk-full", &values),
            (..10, _) => found("disk", Mood::Warn, "disk-low", &values),
            _ => found("disk", Mood::Good, "disk", &values),
        });
    }
    for unit in used.filter(|unit| unit.kept_max > 0 && unit.kept / 9 >= unit.kept_max / 10) {
        let values = [("kept", bytes(unit.kept as f64)), ("most", bytes(unit.kept_max as f64))];
        all.push(of_unit(&unit.name, found("disk", Mood::Warn, "disk-unit", &values)));
    }
    all
}

fn memory(facts: &Facts) -> Vec<Finding> {
    let Some(top) = &facts.top else { return Vec::new() };
    // A file's cache fills memory too and gives it back; who waits for memory has too little.
    let short = |unit: &&cairn_api::Use| unit.pressure.memory >= 10.0;
    let mut all: Vec<Finding> = top
        .units
        .iter()
        .filter(short)
        .map(|unit| {
            let waits = format!("{:.0}", unit.pressure.memory);
            let values = [("percent", waits), ("most", bytes(unit.memory_max as f64))];
            of_unit(&unit.name, found("memory", Mood::Warn, "memory-short", &values))
        })
        .collect();
    if all.is_empty() {
        let used: u64 = top.units.iter().map(|unit| unit.memory).sum();
        let whole = facts.setup.as_ref().map_or(0, |setup| setup.machine.memory);
        let values = [("used", bytes(used as f64)), ("whole", bytes(whole as f64))];
        all.push(found("memory", Mood::Good, "memory", &values));
    }
    all
}

fn certificates(facts: &Facts) -> Vec<Finding> {
    let Some(certificates) = &facts.certificates else {
        return Vec::new();
    };
    let mut all: Vec<Finding> = certificates
        .errors
        .iter()
        .map(|why| found("certificates", Mood::Bad, "certificate-error", &[("why", why.clone())]))
        .collect();
    for one in &certificates.certificates {
        let day = one.until.chars().take(10).collect();
        let values = [
            ("names", one.names.join(", ")),
            ("until", day),
            ("why", one.due.clone().unwrap_or_default()),
        ];
        let ended = second(&one.until).is_some_and(|until| until <= facts.now);
        if ended {
            all.push(of_unit(
                &one.unit,
                found("certificates", Mood::Bad, "certificate-ended", &values),
            ));
        } else if one.due.is_some() {
            all.push(of_unit(
                &one.unit,
                found("certificates", Mood::Warn, "certificate-due", &values),
            ));
        }
    }
    for one in &certificates.imported {
        let day = one.until.chars().take(10).collect();
        let values = [
            ("names", one.names.join(", ")),
            ("until", day),
            ("why", one.unused.clone().unwrap_or_default()),
        ];
        if one.unused.is_some() {
            all.push(found("certificates", Mood::Bad, "imported-unused", &values));
        } else if second(&one.until).is_some_and(|until| until - facts.now < 7 * 86_400) {
            all.push(found("certificates", Mood::Warn, "imported-soon", &values));
        }
    }
    if all.is_empty() {
        let count = certificates.certificates.len() + certificates.imported.len();
        all.push(found(
            "certificates",
            Mood::Good,
            "certificates",
            &[("count", count.to_string())],
        ));
    }
    all
}

/// The directory and the panel's own store.
fn own(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![match &facts.directory {
        None => found("directory", Mood::Off, "no-directory", &[]),
        Some(Ok(())) => found("directory", Mood::Good, "directory", &[]),
        Some(Err(error)) => found("directory", Mood::Bad, "directory-away", &[("why", error.to_string())]),
    }];
    if let Some(file) = &facts.trouble.damaged {
        all.push(found("store", Mood::Bad, "store-damaged", &[("file", file.clone())]));
    } else if let Some(why) = &facts.trouble.copy_failed {
        all.push(found("store", Mood::Warn, "store-copy", &[("why", why.clone())]));
    } else {
        all.push(found("store", Mood::Good, "store", &[]));
    }
    all
}

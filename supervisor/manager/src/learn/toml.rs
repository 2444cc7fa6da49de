//! Advice as TOML: the tables of the unit's file as they would be, with the reasons as comments. What is to be removed, and
//! what a person has to decide, are comments alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cairn_api::{Advice, Direction};
use cairn_unit::Unit;

use super::advise::quoted;

/// Keys that hold lists of names.
const LISTS: [&str; 2] = ["capabilities", "system_calls"];

/// The text. It can be read as TOML whatever the advice, and is empty without any.
pub fn text(unit: &Unit, advice: &[Advice]) -> String {
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    let mut said: Vec<&str> = Vec::new();
    let mut lists: BTreeMap<&str, Vec<&Advice>> = BTreeMap::new();
    let (mut published, mut removed, mut notes) = (String::new(), String::new(), String::new());
    for one in advice {
        let (table, key) = one.key.split_once('.').unwrap_or(("", &one.key));
        let why = because(one);
        match (one.direction, table) {
            (Direction::Note, _) => notes.push_str(&format!("# {}\n", comment(&why))),
            (_, "sandbox") if LISTS.contains(&key) => lists.entry(key).or_default().push(one),
            (Direction::Wider, "network") if key == "publish" => {
                let fields = one.value.trim_matches(['{', '}', ' ']).replace(", ", "\n");
                let _ = write!(published, "\n# {}\n[[network.publish]]\n{fields}\n", comment(&why));
            }
            (_, table) if !one.value.is_empty() && key != "publish" => {
                let lines = tables.entry(table).or_default();
                let _ = writeln!(lines, "# {}", comment(&why));
                // A key stands only once in a table.
                if !said.contains(&one.key.as_str()) {
                    let _ = writeln!(lines, "{key} = {}", one.value);
                    said.push(&one.key);
                }
            }
            _ => {
                let which = if one.value.is_empty() {
                    String::new()
                } else {
                    format!(" of {}", one.value)
                };
                let _ = writeln!(removed, "# remove {}{which}: {}", comment(&one.key), comment(&why));
            }
        }
    }
    for (key, changes) in lists {
        let lines = tables.entry("sandbox").or_default();
        for one in &changes {
            let _ = writeln!(lines, "# {}: {}", one.value, comment(&because(one)));
        }
        let _ = writeln!(lines, "{key} = [{}]", list(unit, key, &changes).join(", "));
    }
    let grants = |one: &&Advice| one.direction == Direction::Wider && one.key.starts_with("sandbox.");
    if unit.sandbox.reason.is_none() && advice.iter().any(|one| grants(&one)) {
        let lines = tables.entry("sandbox").or_default();
        lines.push_str(
            "# Required as soon as anything is granted.\nreason = \"say here what the service needs it for\"\n",
        );
    }
    let mut out = String::new();
    for (table, lines) in tables {
        let _ = write!(out, "\n[{table}]\n{lines}");
    }
    out.push_str(&published);
    for (title, lines) in [("Not used:", removed), ("To be decided by you:", notes)] {
        if !lines.is_empty() {
            let _ = write!(out, "\n# {title}\n{lines}");
        }
    }
    out.trim_start().to_owned()
}

/// A list as it would be.
fn list(unit: &Unit, key: &str, changes: &[&Advice]) -> Vec<String> {
    let present = match key {
        "capabilities" => &unit.sandbox.capabilities,
        _ => &unit.sandbox.system_calls,
    };
    let mut names: Vec<String> = present.iter().map(|name| quoted(name)).collect();
    for one in changes {
        names.retain(|name| *name != one.value);
        if one.direction == Direction::Wider {
            names.push(one.value.clone());
        }
    }
    names
}

/// Why, how often, and who first.
fn because(one: &Advice) -> String {
    match (one.times, one.example.as_str()) {
        (0, _) => one.why.clone(),
        (1, example) => format!("{} (once: {example})", one.why),
        (times, example) => format!("{} ({times} times, first {example})", one.why),
    }
}

/// A text that a service may have chosen (its name, a path), so that it stays in its line.
fn comment(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(plain).collect()
}

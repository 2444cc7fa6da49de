//! The version of a unit's state, and the steps that bring a state from one version to another.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checks::Refuse;
use crate::service::Command;
use crate::unit::Unit;
use crate::values::{Seconds, ValueError};

/// Which version the unit's state has, and how a state of another version is brought to it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// The version of the state that this unit reads and writes, a whole number from 1. A unit without `[migration]` has version 1, and so
    /// has a state that was made before its unit had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Instead of `version`: a package of the unit whose own version is the state's, as far as its first `numbers`. For a program that brings
    /// its state to its own version by one command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// How many numbers of the package's version count, 1 to 4: with 2, `1:11.8.6-0+deb13u1` is 11.8, and 11.8.7 is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<u8>,
    /// The steps. With `version`, those from each version that there was to the next; with `package`, all of them run, in this order, whenever
    /// its version is another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<MigrationStep>,
}

/// A step between two versions of the state. It runs in the unit's sandbox without a network, on a copy of the state that takes the state's place
/// when all steps have succeeded; so it may be begun again from the beginning, and never sees what it did before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationStep {
    /// The version that it begins with. Only with `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// The version that it leads to. Only with `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// The program that brings the state from `from` to `to`, and its arguments.
    pub up: Command,
    /// The program that brings it back and keeps what was written since. Left out: there is no way back but to the copy from before, without
    /// what was written since. Only with `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Command>,
    /// The account that it runs as; left out: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long each of the two may take.
    #[serde(default = "patience")]
    pub timeout: Seconds,
}

fn patience() -> Seconds {
    Seconds::from_secs(600)
}

/// A version of a state: one number, or those of a package's version, compared one by one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateVersion(Vec<u32>);

impl StateVersion {
    /// That of a package, as far as its first `numbers`: Debian's epoch and revision do not count (deb-version(7)).
    pub fn of_package(version: &str, numbers: usize) -> Option<StateVersion> {
        let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
        let upstream = upstream.rsplit_once('-').map_or(upstream, |(upstream, _)| upstream);
        let number = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let parts: Option<Vec<u32>> = upstream.split('.').take(numbers).map(number).collect();
        parts.filter(|parts| parts.len() == numbers).map(StateVersion)
    }

    /// That of a whole number.
    pub fn number(number: u32) -> StateVersion {
        StateVersion(vec![number])
    }

    /// The whole number, if it is one.
    pub fn as_number(&self) -> Option<u32> {
        match self.0[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// Whether it is the version of a unit that says nothing of it.
    pub fn is_first(&self) -> bool {
        *self == StateVersion::default()
    }
}

impl Default for StateVersion {
    fn default() -> Self {
        StateVersion::number(1)
    }
}

impl fmt::Display for StateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl FromStr for StateVersion {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        let parts: Option<Vec<u32>> = text.split('.').map(number).collect();
        let wrong = || {
            ValueError::new(format!(
                "`{text}` is not a version of a state: numbers with dots between"
            ))
        };
        parts
            .filter(|parts| parts.len() <= 4)
            .map(StateVersion)
            .ok_or_else(wrong)
    }
}

impl Serialize for StateVersion {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateVersion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Migration {
    /// How many numbers of a package's version count.
    pub fn numbers(&self) -> usize {
        usize::from(self.numbers.unwrap_or(2))
    }
}

/// What is wrong with how a unit's state changes between versions.
pub(crate) fn unit(unit: &Unit, refuse: &mut Refuse<'_>) {
    let Some(migration) = &unit.migration else { return };
    if unit.state.is_empty() {
        let help = "name its folders in [state], or leave [migration] out";
        refuse(&["migration"], "the unit keeps no state".into(), help);
    }
    let numbers: Vec<String> = (0..migration.steps.len()).map(|i| i.to_string()).collect();
    for (at, step) in numbers.iter().zip(&migration.steps) {
        if step.timeout.millis() == 0 {
            let help = "10m is the default";
            refuse(
                &["migration", "steps", at, "timeout"],
                "a step cannot be done in no time".into(),
                help,
            );
        }
    }
    match (&migration.package, migration.version) {
        (Some(package), None) => follows(unit, migration, package, &numbers, refuse),
        (None, Some(version)) => numbered(migration, version, &numbers, refuse),
        (Some(_), Some(_)) => {
            let message = "both `version` and `package` say which version the state has".into();
            refuse(&["migration", "version"], message, "leave out one of the two");
        }
        (None, None) => {
            let help = "write `version = 2` if the state has changed once, or name the `package` whose version it has";
            refuse(&["migration"], "nothing says which version the state has".into(), help);
        }
    }
}

fn follows(unit: &Unit, migration: &Migration, package: &str, numbers: &[String], refuse: &mut Refuse<'_>) {
    if !unit.packages.iter().any(|own| own == package) {
        let help = "name one of the unit's `packages`";
        refuse(
            &["migration", "package"],
            format!("`{package}` is not a package of this unit"),
            help,
        );
    }
    if !(1..=4).contains(&migration.numbers()) {
        let help = "1 to 4 numbers; 2 is the default";
        refuse(&["migration", "numbers"], "a version has no such numbers".into(), help);
    }
    if migration.steps.is_empty() {
        let help = "add [[migration.steps]] with `up`";
        refuse(
            &["migration", "package"],
            "nothing brings the state to another version".into(),
            help,
        );
    }
    for (at, step) in numbers.iter().zip(&migration.steps) {
        let given = [
            ("from", step.from.is_some()),
            ("to", step.to.is_some()),
            ("down", step.down.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message =
                format!("`{key}` stands beside `package`, and nobody knows the package's versions beforehand");
            let help = "leave it out: the step runs whenever the package's version is another one";
            refuse(&["migration", "steps", at, key], message, help);
        }
    }
}

/// The steps must be one line without a gap, from some version to the unit's.
fn numbered(migration: &Migration, version: u32, numbers: &[String], refuse: &mut Refuse<'_>) {
    if version == 0 {
        let help = "the first version is 1";
        refuse(&["migration", "version"], "a state has no version 0".into(), help);
        return;
    }
    if migration.numbers.is_some() {
        let help = "leave it out";
        refuse(
            &["migration", "numbers"],
            "`numbers` is about a package's version".into(),
            help,
        );
    }
    let mut edges = Vec::new();
    for (at, step) in numbers.iter().zip(&migration.steps) {
        let path = ["migration", "steps", at.as_str()];
        let at = |key| [&path[..], &[key]].concat();
        match (step.from, step.to) {
            (Some(0), _) => refuse(&at("from"), "a state has no version 0".into(), "the first version is 1"),
            (Some(from), Some(to)) if from >= to => {
                let help = "a step leads to a later version; the way back is its `down`";
                refuse(&at("to"), format!("the step leads from {from} to {to}"), help);
            }
            (Some(_), Some(to)) if to > version => {
                let help = "raise `version`, or leave the step out";
                let message = format!("the step leads to version {to}, and the unit's state has version {version}");
                refuse(&at("to"), message, help);
            }
            (Some(from), Some(to)) => {
                if let Some((_, other)) = edges.iter().find(|(other, _)| *other == from) {
                    let message = format!("a step from version {from} leads to {other} already");
                    refuse(&at("from"), message, "there is one step from each version");
                } else {
                    edges.push((from, to));
                }
            }
            (from, _) => {
                let key = if from.is_none() { "from" } else { "to" };
                refuse(
                    &path,
                    format!("`{key}` is missing"),
                    "write for example `from = 1` and `to = 2`",
                );
            }
        }
    }
    // Where a step is wrong in itself, what it leaves open says nothing more.
    if edges.len() < migration.steps.len() {
        return;
    }
    let least = edges.iter().map(|(from, _)| *from).min().unwrap_or(version);
    let mut at = least;
    let mut used = 0;
    while let Some((_, to)) = edges.iter().find(|(from, _)| *from == at) {
        at = *to;
        used += 1;
    }
    if at != version {
        let message = format!("no step leads from version {at} on, and the unit's state has version {version}");
        let help = format!("add a step with `from = {at}`");
        refuse(&["migration", "version"], message, &help);
    } else if used < edges.len() {
        let apart = numbers
            .iter()
            .zip(&edges)
            .find(|(_, (from, _))| !reached(&edges, least, *from));
        if let Some((number, (from, _))) = apart {
            let message = format!("no step leads to version {from}");
            let help = "the steps are one line from the least version to the unit's";
            refuse(&["migration", "steps", number, "from"], message, help);
        }
    }
}

fn reached(edges: &[(u32, u32)], least: u32, wanted: u32) -> bool {
    let mut at = least;
    while at != wanted {
        match edges.iter().find(|(from, _)| *from == at) {
            Some((_, to)) => at = *to,
            None => return false,
        }
    }
    true
}

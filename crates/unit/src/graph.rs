//! The appliance's units as a graph: bindings resolved, start order derived, cycles refused with their path.

use std::collections::BTreeMap;

use crate::bounds::{NetworkMode, Protocol};
use crate::manifest::Manifest;
use crate::need::Upstream;
use crate::problem::{Problems, Source, nearest};
use crate::unit::{Provide, Unit};
use crate::values::{Name, Path};

/// Names under which Cairn itself keeps something beside the units'.
const RESERVED: [&str; 3] = ["cairn", "host", "kernel"];

/// One `needs` edge, resolved against a `provides`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The unit that needs.
    pub consumer: Name,
    /// The name that it gave the need.
    pub name: Name,
    /// The unit that provides.
    pub provider: Name,
    /// The provide's name.
    pub provide: Name,
    /// Where it answers.
    pub target: Provide,
}

/// Units with their bindings and a start order.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Every binding, by consumer and name.
    pub bindings: Vec<Binding>,
    /// For each unit, the units that must be ready before it starts.
    pub before: BTreeMap<Name, Vec<Name>>,
    /// All units; each stands after everything that it waits for, otherwise by name.
    pub order: Vec<Name>,
}

/// The name of the account that a unit gets for one of its needs: `UNIT_NEED`, with `_` for what is no letter or digit, since databases and
/// directories take that without quotes.
pub fn account_name(consumer: &Name, need: &Name) -> String {
    format!("{}_{need}", consumer.host()).replace('-', "_")
}

impl Graph {
    /// Resolves the bindings among `units` and derives the order. Every unmet need, ambiguous provide, port
    /// published twice and cycle is reported at its place in the unit's file.
    pub fn new(units: &BTreeMap<Name, (Unit, Source)>) -> Result<Graph, Problems> {
        let mut found = Problems::default();
        let mut provides: BTreeMap<&Name, Vec<(&Name, &Provide)>> = BTreeMap::new();
        for (name, (unit, _)) in units {
            for (provide, target) in &unit.provides {
                provides.entry(provide).or_default().push((name, target));
            }
        }
        let mut bindings = Vec::new();
        let mut before: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for (consumer, (unit, source)) in units {
            let waits = before.entry(consumer.clone()).or_default();
            for (name, need) in &unit.needs {
                let wanted = &need.from;
                match provides.get(wanted).map(Vec::as_slice) {
                    None if need.optional => {}
                    None => {
                        let near = nearest(wanted.as_str(), provides.keys().map(|n| n.as_str()));
                        let help = match near {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => "add a unit that provides it to the recipe".to_owned(),
                        };
                        let message =
                            format!("unit `{consumer}` needs `{wanted}`, which no unit of the appliance provides");
                        found
                            .0
                            .push(source.problem_at(&["needs", name.as_str()], message, Some(help)));
                    }
                    Some([(provider, target)]) => {
                        bindings.push(Binding {
                            consumer: consumer.clone(),
                            name: name.clone(),
                            provider: (*provider).clone(),
                            provide: wanted.clone(),
                            target: (*target).clone(),
                        });
                        if crate::need::orders(need, target) {
                            waits.push((*provider).clone());
                        }
                        said(unit, source, name, target, &mut found);
                    }
                    Some(many) => {
                        let names: Vec<&str> = many.iter().map(|(n, _)| n.as_str()).collect();
                        let message = format!(
                            "unit `{consumer}` needs `{wanted}`, which {} provide",
                            names.join(" and ")
                        );
                        let help = "keep one of them in the recipe".to_owned();
                        found
                            .0
                            .push(source.problem_at(&["needs", name.as_str()], message, Some(help)));
                    }
                }
            }
            waits.extend(unit.after.iter().filter(|a| units.contains_key(*a)).cloned());
            waits.sort();
            waits.dedup();
        }
        for (name, (unit, source)) in units {
            let Some(trigger) = &unit.path else { continue };
            let bound = bindings.iter().filter(|b| b.consumer == *name);
            let mut seen = unit.state.keys().chain(bound.filter_map(|b| b.target.folder.as_ref()));
            if !seen.any(|folder| trigger.path().is_within(folder)) {
                let message = format!("unit `{name}` watches `{}`, which it cannot see", trigger.path());
                let help = "name a path in its own [state], or in a folder that it needs of another unit".to_owned();
                found
                    .0
                    .push(source.problem_at(&["path", trigger.key()], message, Some(help)));
            }
        }
        distinct(units, &bindings, &mut found);
        let mut hosts: BTreeMap<String, &Name> = BTreeMap::new();
        for (name, (_, source)) in units {
            if RESERVED.contains(&name.as_str()) {
                let message = format!("a unit cannot be called `{name}`");
                let help = "the appliance's own logs and trees have that name: rename the unit".to_owned();
                found.0.push(source.problem_at(&["description"], message, Some(help)));
            }
            if let Some(other) = hosts.insert(name.host(), name) {
                let message = format!(
                    "the units `{other}` and `{name}` have the same host name, `{}`",
                    name.host()
                );
                let help = "an instance's `@` is a `-` in its host name: rename one of them".to_owned();
                found.0.push(source.problem_at(&["description"], message, Some(help)));
            }
        }
        let mut accounts: BTreeMap<(&Name, String), &Name> = BTreeMap::new();
        for binding in bindings
            .iter()
            .filter(|b| b.target.account.is_some() || b.target.secret.is_some())
        {
            let Some((unit, source)) = units.get(&binding.consumer) else {
                continue;
            };
            let at = ["needs", binding.name.as_str()];
            if unit.secrets.contains_key(&binding.name) {
                let message = format!("`{}` is a secret of this unit, too", binding.name);
                let help = "the binding's password has its name as a file: rename one of them".to_owned();
                found.0.push(source.problem_at(&at, message, Some(help)));
            }
            if unit.provides.get(&binding.name).is_some_and(|p| p.secret.is_some()) {
                let message = format!("`{}` is a secret that this unit provides, too", binding.name);
                let help = "both are files of that name: rename one of them".to_owned();
                found.0.push(source.problem_at(&at, message, Some(help)));
            }
            if binding.target.account.is_none() {
                continue;
            }
            let account = account_name(&binding.consumer, &binding.name);
            if let Some(other) = accounts.insert((&binding.provide, account.clone()), &binding.consumer) {
                let message = format!("`{other}` has the account `{account}` at `{}` already", binding.provide);
                let help = "an account is called UNIT_NEED, with `_` for `-`: rename the need".to_owned();
                found.0.push(source.problem_at(&at, message, Some(help)));
            }
        }
        let mut keeper: Option<&Name> = None;
        for (name, (_, source)) in units.iter().filter(|(_, (unit, _))| unit.sandbox.clock) {
            if let Some(other) = keeper.replace(name) {
                let message = format!("`{other}` and `{name}` keep the clock");
                let help = "one does: leave the other out of the recipe".to_owned();
                found
                    .0
                    .push(source.problem_at(&["sandbox", "clock"], message, Some(help)));
            }
        }
        let mut ports: BTreeMap<(Protocol, u16), &Name> = BTreeMap::new();
        for (name, (unit, source)) in units {
            for (i, publish) in unit.network.publish.iter().enumerate() {
                if let Some(other) = ports.insert((publish.protocol, publish.port), name) {
                    let message = format!("port {} is published by `{other}` and by `{name}`", publish.port);
                    let help = "give one of them another `port`, with `to` naming the unit's own".to_owned();
                    found
                        .0
                        .push(source.problem_at(&["network", "publish", &i.to_string()], message, Some(help)));
                }
            }
        }
        let order = match order(&before) {
            Ok(order) => order,
            Err(cycle) => {
                let path: Vec<&str> = cycle.iter().map(Name::as_str).collect();
                if let Some((unit, source)) = cycle.first().and_then(|n| units.get(n)) {
                    let next = cycle.get(1);
                    let edge = unit.needs.iter().find(|(_, need)| {
                        bindings
                            .iter()
                            .any(|b| Some(&b.provider) == next && b.provide == need.from)
                    });
                    let at: Vec<&str> = match edge {
                        Some((name, _)) => vec!["needs", name.as_str()],
                        None => vec!["after"],
                    };
                    let message = format!("the units wait for each other: {}", path.join(" -> "));
                    let help = "remove one of these `needs` or `after`".to_owned();
                    found.0.push(source.problem_at(&at, message, Some(help)));
                }
                Vec::new()
            }
        };
        found.or(Graph {
            bindings,
            before,
            order,
        })
    }
}

/// Whether a need says all that the provide asks, in the form that it asks it, and nothing else.
fn said(unit: &Unit, source: &Source, name: &Name, target: &Provide, found: &mut Problems) {
    let Some(need) = unit.needs.get(name) else { return };
    let mut refuse = |key: &str, message: String, help: String| {
        let mut at = vec!["needs", name.as_str()];
        let said = need.asks.contains_key(key)
            || key == "port" && need.port.is_some()
            || key == "socket" && need.socket.is_some();
        if said {
            at.push(key);
        }
        found.0.push(source.problem_at(&at, message, Some(help)));
    };
    let from = &need.from;
    let none = Upstream::default();
    let upstream = target.upstream.as_ref();
    match (upstream, need.port, &need.socket) {
        (Some(_), None, None) => refuse(
            "port",
            format!("`{name}` does not say at which port or socket this unit answers"),
            format!("`{from}` connects to it: write `{name} = {{ from = \"{from}\", port = 8000 }}`"),
        ),
        (Some(_), Some(_), Some(_)) => refuse(
            "socket",
            format!("`{name}` says both a port and a socket"),
            "leave one of them out".to_owned(),
        ),
        (Some(_), None, Some(socket)) => {
            if let Err(help) = reachable(unit, socket) {
                refuse("socket", format!("`{from}` cannot reach `{socket}`"), help);
            }
        }
        (None, port, socket) => {
            for key in [port.map(|_| "port"), socket.as_ref().map(|_| "socket")]
                .into_iter()
                .flatten()
            {
                let message = format!("`{from}` does not connect to the units that need it");
                refuse(key, message, format!("leave `{key}` out"));
            }
        }
        _ => {}
    }
    if upstream.is_some() && need.socket.is_none() && unit.network.mode != NetworkMode::Bridge {
        let help = "leave `network.mode` out".to_owned();
        refuse(
            "from",
            format!("`{from}` cannot reach this unit, which has no network"),
            help,
        );
    }
    if need.optional && target.folder.is_some() {
        let help = "leave `optional` out".to_owned();
        let message = format!("`{from}` shows a folder, which is not there before its unit is");
        refuse("optional", message, help);
    }
    let asks = &upstream.unwrap_or(&none).asks;
    for (key, value) in &need.asks {
        match asks.get(key.as_str()) {
            None => {
                let known = ["from", "optional", "port", "socket"]
                    .into_iter()
                    .chain(asks.keys().map(Name::as_str));
                let help = match nearest(key, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "leave it out".to_owned(),
                };
                refuse(key, format!("`{from}` asks for no `{key}`"), help);
            }
            Some(ask) => {
                if let Err(why) = ask.check(value) {
                    refuse(key, format!("`{key}` of `{name}` is `{value}`"), format!("it {why}"));
                }
            }
        }
    }
    for (key, _) in asks.iter().filter(|(_, ask)| ask.default.is_none()) {
        if !need.asks.contains_key(key.as_str()) {
            let help = format!("add `{key}` to the table");
            refuse(
                key.as_str(),
                format!("`{from}` asks for `{key}`, which `{name}` does not say"),
                help,
            );
        }
    }
}

/// Whether another unit that sees the folder of a socket of this one can get at it, or what to do about it.
fn reachable(unit: &Unit, socket: &Path) -> Result<(), String> {
    let parent = std::path::Path::new(socket.as_str()).parent();
    let folder = unit
        .runtime
        .iter()
        .find(|(path, _)| parent == Some(std::path::Path::new(path.as_str())));
    match folder {
        // The whole of it holds more than is anybody's business.
        Some((path, _)) if path.as_str() == "/run" => Err("put it into a folder of its own below `/run`".to_owned()),
        Some((_, folder)) if folder.mode.0 & 0o001 == 0 => {
            Err("its folder lets nobody else through: give that the mode \"0755\"".to_owned())
        }
        Some(_) => Ok(()),
        None => Err("its folder is none of [runtime]: add it there".to_owned()),
    }
}

/// Refuses two units that say the same where a provider asks for what is distinct.
fn distinct(units: &BTreeMap<Name, (Unit, Source)>, bindings: &[Binding], found: &mut Problems) {
    let mut taken: BTreeMap<(&Name, Vec<String>), &Name> = BTreeMap::new();
    for binding in bindings {
        let upstream = binding.target.upstream.as_ref().filter(|u| !u.distinct.is_empty());
        let (Some(upstream), Some((unit, source))) = (upstream, units.get(&binding.consumer)) else {
            continue;
        };
        let Some(need) = unit.needs.get(&binding.name) else {
            continue;
        };
        let answers = upstream.answers(need);
        let values = upstream
            .distinct
            .iter()
            .map(|key| answers.get(key.as_str()).cloned().unwrap_or_default());
        let values: Vec<String> = values.collect();
        let pairs = upstream.distinct.iter().zip(&values);
        let text: Vec<String> = pairs.map(|(key, value)| format!("{key} `{value}`")).collect();
        if let Some(other) = taken.insert((&binding.provide, values), &binding.consumer) {
            let message = format!(
                "`{}` serves `{other}` with {} already",
                binding.provide,
                text.join(" and ")
            );
            let help = "say another one of them".to_owned();
            let at = ["needs", binding.name.as_str()];
            found.0.push(source.problem_at(&at, message, Some(help)));
        }
    }
}

impl Manifest {
    /// A circle of units that wait for each other, as a path that closes on its first name: none of them would ever start.
    pub fn cycle(&self) -> Option<Vec<Name>> {
        let waits = self.units.iter();
        let waits = waits.map(|(name, unit)| (name.clone(), unit.waits_for.clone()));
        order(&waits.collect()).err()
    }
}

/// A topological order, or a cycle as a path that closes on its first name.
fn order(before: &BTreeMap<Name, Vec<Name>>) -> Result<Vec<Name>, Vec<Name>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    fn visit(
        name: &Name,
        before: &BTreeMap<Name, Vec<Name>>,
        marks: &mut BTreeMap<Name, Mark>,
        path: &mut Vec<Name>,
        out: &mut Vec<Name>,
    ) -> Result<(), Vec<Name>> {
        match marks.get(name) {
            Some(Mark::Done) => return Ok(()),
            Some(Mark::Open) => {
                let start = path.iter().position(|n| n == name).unwrap_or(0);
                let mut cycle = path[start..].to_vec();
                cycle.push(name.clone());
                return Err(cycle);
            }
            None => {}
        }
        marks.insert(name.clone(), Mark::Open);
        path.push(name.clone());
        for other in before.get(name).into_iter().flatten() {
            visit(other, before, marks, path, out)?;
        }
        path.pop();
        marks.insert(name.clone(), Mark::Done);
        out.push(name.clone());
        Ok(())
    }
    let (mut marks, mut path, mut out) = (BTreeMap::new(), Vec::new(), Vec::new());
    for name in before.keys() {
        visit(name, before, &mut marks, &mut path, &mut out)?;
    }
    Ok(out)
}

//! The appliance's units as a graph: bindings resolved, start order derived, cycles refused with their path.

use std::collections::BTreeMap;

use crate::bounds::Protocol;
use crate::manifest::Manifest;
use crate::problem::{Problems, Source, nearest};
use crate::unit::{Provide, Unit};
use crate::values::Name;

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
                match provides.get(need).map(Vec::as_slice) {
                    None => {
                        let near = nearest(need.as_str(), provides.keys().map(|n| n.as_str()));
                        let help = match near {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => "add a unit that provides it to the recipe".to_owned(),
                        };
                        let message =
                            format!("unit `{consumer}` needs `{need}`, which no unit of the appliance provides");
                        found
                            .0
                            .push(source.problem_at(&["needs", name.as_str()], message, Some(help)));
                    }
                    Some([(provider, target)]) => {
                        bindings.push(Binding {
                            consumer: consumer.clone(),
                            name: name.clone(),
                            provider: (*provider).clone(),
                            provide: need.clone(),
                            target: (*target).clone(),
                        });
                        waits.push((*provider).clone());
                    }
                    Some(many) => {
                        let names: Vec<&str> = many.iter().map(|(n, _)| n.as_str()).collect();
                        let message = format!(
                            "unit `{consumer}` needs `{need}`, which {} provide",
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
        for binding in bindings.iter().filter(|b| b.target.account.is_some()) {
            let Some((unit, source)) = units.get(&binding.consumer) else {
                continue;
            };
            let at = ["needs", binding.name.as_str()];
            if unit.secrets.contains_key(&binding.name) {
                let message = format!("`{}` is a secret of this unit, too", binding.name);
                let help = "the binding's password has its name as a file: rename one of them".to_owned();
                found.0.push(source.problem_at(&at, message, Some(help)));
            }
            let account = account_name(&binding.consumer, &binding.name);
            if let Some(other) = accounts.insert((&binding.provide, account.clone()), &binding.consumer) {
                let message = format!("`{other}` has the account `{account}` at `{}` already", binding.provide);
                let help = "an account is called UNIT_NEED, with `_` for `-`: rename the need".to_owned();
                found.0.push(source.problem_at(&at, message, Some(help)));
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
                            .any(|b| Some(&b.provider) == next && &b.provide == *need)
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

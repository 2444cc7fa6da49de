//! The closure: named packages first, then depth first through what they need, in the order of the fields.
//!
//! This is the walk that apt's marking makes (apt-pkg/depcache.cc, MarkInstall), since the answer depends on it wherever
//! there are alternatives: a group that a chosen package already meets adds nothing; else its members are tried in order.

use std::collections::HashMap;

use super::conflict::Conflicts;
use super::{PackageId, Relation, ResolveError, Universe};

/// A chosen package and what it was chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The package.
    pub id: PackageId,
    /// The package that needed it; none for a named one.
    pub by: Option<PackageId>,
}

/// The packages of one unit, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// All packages, the named ones among them.
    pub packages: Vec<Picked>,
}

/// The closure of `names`. The order of the names can matter where there are alternatives, as it does for apt.
pub fn resolve(universe: &Universe<'_>, names: &[&str]) -> Result<Closure, ResolveError> {
    let mut walk = Walk {
        universe,
        chosen: Vec::new(),
        by_id: HashMap::new(),
        meets: HashMap::new(),
        conflicts: Conflicts::new(universe),
    };
    let mut named = Vec::new();
    for name in names {
        let id = find(universe, name)?;
        if !walk.by_id.contains_key(&id) {
            walk.choose(id, None);
            named.push(id);
        }
    }
    for id in named {
        walk.needs_of(id).map_err(|failure| walk.error(failure))?;
    }
    walk.conflicts.check(&walk.chosen)?;
    let mut packages = walk.chosen;
    packages.sort_by_key(|picked| universe.get(picked.id).name);
    Ok(Closure { packages })
}

fn find(universe: &Universe<'_>, name: &str) -> Result<PackageId, ResolveError> {
    if let Some(id) = universe.candidate(name) {
        return Ok(id);
    }
    // As for apt, a virtual name stands for its provider when there is only one.
    match universe.providers(name).as_slice() {
        [] => Err(ResolveError::Unknown {
            name: name.into(),
            near: universe.near(name),
        }),
        [only] => Ok(*only),
        several => {
            let mut providers: Vec<String> = several.iter().map(|id| universe.get(*id).name.to_owned()).collect();
            providers.sort();
            Err(ResolveError::Virtual {
                name: name.into(),
                providers,
            })
        }
    }
}

/// Why a package cannot be chosen.
enum Failure {
    /// Nothing meets a relation: from the package that was tried down to the one that has it.
    Unmet {
        path: Vec<PackageId>,
        relation: String,
        reason: String,
    },
    /// It, or what it needs, conflicts with what is chosen.
    Conflict {
        path: Vec<PackageId>,
        error: ResolveError,
    },
    Error(ResolveError),
}

struct Walk<'u, 'a> {
    universe: &'u Universe<'a>,
    chosen: Vec<Picked>,
    by_id: HashMap<PackageId, usize>,
    /// Which chosen packages bear or provide a name; filled as names are asked for.
    meets: HashMap<&'a str, Vec<PackageId>>,
    conflicts: Conflicts<'u, 'a>,
}

impl<'a> Walk<'_, 'a> {
    fn choose(&mut self, id: PackageId, by: Option<PackageId>) {
        self.by_id.insert(id, self.chosen.len());
        self.chosen.push(Picked { id, by });
    }

    /// Forgets what was chosen since there were `length`.
    fn roll_back(&mut self, length: usize) {
        for picked in self.chosen.drain(length..) {
            self.by_id.remove(&picked.id);
        }
    }

    fn is_met(&mut self, relation: &Relation<'a>) -> bool {
        let Self {
            universe, by_id, meets, ..
        } = self;
        relation.0.iter().any(|alternative| {
            let possible = meets.entry(alternative.name).or_insert_with(|| {
                let mut ids = universe.providers(alternative.name);
                ids.extend(universe.candidate(alternative.name));
                ids
            });
            possible
                .iter()
                .any(|id| by_id.contains_key(id) && universe.meets(*id, alternative))
        })
    }

    /// Chooses what the chosen package `id` needs.
    fn needs_of(&mut self, id: PackageId) -> Result<(), Failure> {
        let mut open = Vec::new();
        for field in ["Pre-Depends", "Depends"] {
            open.extend(self.universe.relations(id, field).map_err(Failure::Error)?);
        }
        open.retain(|relation| !self.is_met(relation));
        for relation in open {
            if self.is_met(&relation) {
                continue;
            }
            let mut first = None;
            let mut found = false;
            for alternative in &relation.0 {
                for solution in self.universe.solutions(alternative) {
                    match self.try_package(solution, id) {
                        Ok(()) => {
                            found = true;
                            break;
                        }
                        Err(Failure::Error(error)) => return Err(Failure::Error(error)),
                        Err(failure) => first = first.or(Some(failure)),
                    }
                }
                if found {
                    break;
                }
            }
            if !found {
                return Err(match first {
                    Some(failure) => failure.below(id),
                    None => Failure::Unmet {
                        path: vec![id],
                        relation: relation.to_string(),
                        reason: self.what_there_is(&relation),
                    },
                });
            }
        }
        Ok(())
    }

    fn try_package(&mut self, id: PackageId, by: PackageId) -> Result<(), Failure> {
        if self.by_id.contains_key(&id) {
            return Ok(());
        }
        let length = self.chosen.len();
        let newcomer = Picked { id, by: Some(by) };
        if let Some(error) = self.conflicts.against(&self.chosen, newcomer).map_err(Failure::Error)? {
            return Err(Failure::Conflict { path: vec![id], error });
        }
        self.choose(id, Some(by));
        self.needs_of(id).inspect_err(|_| self.roll_back(length))
    }

    fn what_there_is(&self, relation: &Relation<'_>) -> String {
        let have = |name: &str| match self.universe.candidate(name) {
            Some(id) => format!("{name} is at {}", self.universe.get(id).version),
            None if self.universe.providers(name).is_empty() => format!("no package is or provides {name}"),
            None => format!("{name} is only provided, without that version"),
        };
        relation
            .0
            .iter()
            .map(|alternative| have(alternative.name))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn error(&self, failure: Failure) -> ResolveError {
        match failure {
            Failure::Error(error) | Failure::Conflict { error, .. } => error,
            Failure::Unmet { path, relation, reason } => {
                let mut chain: Vec<String> = path.iter().map(|id| self.universe.get(*id).name.to_owned()).collect();
                chain.push(relation);
                ResolveError::Unsatisfiable { chain, reason }
            }
        }
    }
}

impl Failure {
    fn below(mut self, id: PackageId) -> Self {
        match &mut self {
            Self::Unmet { path, .. } | Self::Conflict { path, .. } => path.insert(0, id),
            Self::Error(_) => {}
        }
        self
    }
}

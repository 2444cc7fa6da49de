//! `Conflicts` and `Breaks` among chosen packages. A package never conflicts with itself, nor with what it provides.

use std::collections::HashMap;

use super::{Alternative, PackageId, Picked, ResolveError, Universe};

/// What each package excludes, read once.
pub(super) struct Conflicts<'u, 'a> {
    universe: &'u Universe<'a>,
    declared: HashMap<PackageId, Vec<(&'static str, Alternative<'a>)>>,
}

impl<'u, 'a> Conflicts<'u, 'a> {
    pub(super) fn new(universe: &'u Universe<'a>) -> Self {
        Self {
            universe,
            declared: HashMap::new(),
        }
    }

    /// The first conflict between `newcomer` and the chosen packages, in either direction.
    pub(super) fn against(
        &mut self,
        chosen: &[Picked],
        newcomer: Picked,
    ) -> Result<Option<ResolveError>, ResolveError> {
        for other in chosen {
            for (declares, suffers) in [(newcomer, *other), (*other, newcomer)] {
                if let Some(relation) = self.excludes(declares.id, suffers.id)? {
                    let mut all = chosen.to_vec();
                    all.push(newcomer);
                    let (first, second) = (
                        chain(self.universe, &all, declares),
                        chain(self.universe, &all, suffers),
                    );
                    return Ok(Some(ResolveError::Conflict {
                        relation,
                        first,
                        second,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The first conflict in a whole set.
    pub(super) fn check(&mut self, chosen: &[Picked]) -> Result<(), ResolveError> {
        for (i, picked) in chosen.iter().enumerate() {
            if let Some(error) = self.against(&chosen[..i], *picked)? {
                return Err(error);
            }
        }
        Ok(())
    }

    fn excludes(&mut self, declares: PackageId, suffers: PackageId) -> Result<Option<String>, ResolveError> {
        if !self.declared.contains_key(&declares) {
            let mut list = Vec::new();
            for (field, verb) in [("Conflicts", "conflicts with"), ("Breaks", "breaks")] {
                let relations = self.universe.relations(declares, field)?;
                list.extend(
                    relations
                        .into_iter()
                        .flat_map(|relation| relation.0)
                        .map(|alternative| (verb, alternative)),
                );
            }
            self.declared.insert(declares, list);
        }
        let list = self.declared.get(&declares).map(Vec::as_slice).unwrap_or_default();
        let hit = list
            .iter()
            .find(|(_, alternative)| self.universe.meets(suffers, alternative));
        Ok(hit.map(|(verb, alternative)| format!("{} {verb} {alternative}", self.universe.get(declares).name)))
    }
}

/// From the named package down to this one.
fn chain(universe: &Universe<'_>, chosen: &[Picked], last: Picked) -> Vec<String> {
    let mut names = vec![universe.get(last.id).name.to_owned()];
    let mut at = last;
    while let Some(by) = at.by {
        names.insert(0, universe.get(by).name.to_owned());
        match chosen.iter().find(|picked| picked.id == by) {
            Some(picked) if names.len() <= chosen.len() => at = *picked,
            _ => break,
        }
    }
    names
}

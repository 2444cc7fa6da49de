//! All packages of all suites, indexed by name and by what they provide. Borrows from the text of the lists.

use std::collections::HashMap;

use super::control::{Stanza, stanzas};
use super::relation::{Alternative, Relation, parse_relations};
use super::{ResolveError, compare_versions};
use crate::archive::{Area, SuiteIndex};

/// A package's place in its universe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageId(u32);

/// One version of one package.
#[derive(Debug, Clone, Copy)]
pub struct Package<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its architecture: the universe's, or `all`.
    pub arch: &'a str,
    /// Number of its suite in the list that the universe was made from.
    pub suite: usize,
    /// Everything that the package list says of it.
    pub stanza: Stanza<'a>,
}

impl<'a> Package<'a> {
    /// The source package and its version, where `Source` leaves out what is equal.
    pub fn source(&self) -> (&'a str, &'a str) {
        match self.stanza.field("Source") {
            None => (self.name, self.version),
            Some(text) => match text.split_once(" (") {
                Some((name, version)) => (name, version.trim_end_matches(')')),
                None => (text, self.version),
            },
        }
    }

    /// Whether `qualifier` of a dependency lets this package meet it.
    pub(super) fn fits(&self, qualifier: Option<&str>) -> bool {
        match qualifier {
            None | Some("native") => true,
            Some("any") => self.stanza.field("Multi-Arch") == Some("allowed"),
            Some(arch) => self.arch == arch || self.arch == "all",
        }
    }
}

/// All packages for one architecture.
#[derive(Debug)]
pub struct Universe<'a> {
    arch: String,
    texts: Vec<&'a str>,
    suites: Vec<(&'a str, Area)>,
    packages: Vec<Package<'a>>,
    /// The highest version of each name.
    candidates: HashMap<&'a str, PackageId>,
    /// Who provides a name, and in which version.
    provides: HashMap<&'a str, Vec<(PackageId, Option<&'a str>)>>,
}

impl<'a> Universe<'a> {
    /// Indexes the package lists for `arch`. Of equal versions the one of the first suite is taken.
    pub fn new(suites: &'a [SuiteIndex], arch: &str) -> Result<Self, ResolveError> {
        let mut universe = Self {
            arch: arch.into(),
            texts: suites.iter().map(|suite| suite.packages.as_str()).collect(),
            suites: suites.iter().map(|suite| (suite.name.as_str(), suite.area)).collect(),
            packages: Vec::new(),
            candidates: HashMap::new(),
            provides: HashMap::new(),
        };
        for (number, suite) in suites.iter().enumerate() {
            for stanza in stanzas(&suite.packages) {
                universe.add(stanza, number).map_err(|reason| ResolveError::Malformed {
                    suite: suite.name.clone(),
                    reason,
                })?;
            }
        }
        Ok(universe)
    }

    fn add(&mut self, stanza: Stanza<'a>, suite: usize) -> Result<(), String> {
        let (mut name, mut version, mut arch, mut provides) = ("", "", "", "");
        for (key, value) in stanza.fields() {
            match key {
                "Package" => name = value,
                "Version" => version = value,
                "Architecture" => arch = value,
                "Provides" => provides = value,
                _ => {}
            }
        }
        if name.is_empty() || version.is_empty() || arch.is_empty() {
            let start: String = stanza.0.chars().take(60).collect();
            return Err(format!("a paragraph lacks Package, Version or Architecture: {start:?}"));
        }
        if arch != self.arch && arch != "all" {
            return Ok(());
        }
        let id = PackageId(self.packages.len() as u32);
        self.packages.push(Package {
            name,
            version,
            arch,
            suite,
            stanza,
        });
        match self.candidates.get(name) {
            Some(old) if compare_versions(self.get(*old).version, version).is_ge() => {}
            _ => {
                self.candidates.insert(name, id);
            }
        }
        if !provides.is_empty() {
            let parsed =
                parse_relations(provides, &self.arch).map_err(|part| format!("Provides of {name}: {part:?}"))?;
            for alternative in parsed.into_iter().flat_map(|relation| relation.0) {
                let version = alternative.version.map(|(_, version)| version);
                self.provides.entry(alternative.name).or_default().push((id, version));
            }
        }
        Ok(())
    }

    /// The architecture that this is for.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// How many packages there are, all versions counted.
    pub fn len(&self) -> usize {
        self.packages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// The package.
    pub fn get(&self, id: PackageId) -> &Package<'a> {
        &self.packages[id.0 as usize]
    }

    /// The suite with this number.
    pub fn suite(&self, number: usize) -> (&'a str, Area) {
        self.suites[number]
    }

    /// The version that would be installed: the highest.
    pub fn candidate(&self, name: &str) -> Option<PackageId> {
        self.candidates.get(name).copied()
    }

    fn is_candidate(&self, id: PackageId) -> bool {
        self.candidates.get(self.get(id).name) == Some(&id)
    }

    /// The candidates that provide `name` under another name.
    pub(super) fn providers(&self, name: &str) -> Vec<PackageId> {
        let all = self.provides.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<_> = all
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| self.is_candidate(*id))
            .collect();
        found.dedup();
        found
    }

    /// Whether package `id` meets the alternative, by its name or by what it provides.
    pub(super) fn meets(&self, id: PackageId, alternative: &Alternative<'_>) -> bool {
        let package = self.get(id);
        if package.name == alternative.name {
            return package.fits(alternative.qualifier) && alternative.accepts(package.version);
        }
        let all = self
            .provides
            .get(alternative.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // `:any` asks for a package of that name, so nothing provided will do.
        alternative.qualifier != Some("any")
            && all.iter().any(|(provider, version)| {
                *provider == id
                    && match (version, alternative.version) {
                        (_, None) => true,
                        (Some(version), Some(_)) => alternative.accepts(version),
                        (None, Some(_)) => false,
                    }
            })
    }

    /// The candidates that meet the alternative, in the order in which apt tries them: the package of that name, then
    /// essential ones, then by priority, then the name that the lists mention last.
    pub(super) fn solutions(&self, alternative: &Alternative<'_>) -> Vec<PackageId> {
        let mut found: Vec<PackageId> = self.providers(alternative.name);
        found.extend(self.candidate(alternative.name));
        found.retain(|id| self.meets(*id, alternative));
        found.sort_unstable();
        found.dedup();
        if found.len() < 2 {
            return found;
        }
        let rank = |id: &PackageId| {
            let package = self.get(*id);
            let yes = |field| package.stanza.field(field) == Some("yes");
            let class = (
                package.name != alternative.name,
                !yes("Essential"),
                !(yes("Important") || yes("Protected")),
            );
            (class, priority(package))
        };
        found.sort_by_cached_key(rank);
        if found.windows(2).any(|pair| rank(&pair[0]) == rank(&pair[1])) {
            found.sort_by_cached_key(|id| (rank(id), std::cmp::Reverse(self.first_mention(self.get(*id).name))));
        }
        found
    }

    /// The relations of one field of a package.
    pub(super) fn relations(&self, id: PackageId, field: &str) -> Result<Vec<Relation<'a>>, ResolveError> {
        let package = self.get(id);
        let Some(value) = package.stanza.field(field) else {
            return Ok(Vec::new());
        };
        parse_relations(value, &self.arch).map_err(|part| ResolveError::Malformed {
            suite: self.suites[package.suite].0.into(),
            reason: format!("{field} of {} {}: {part:?}", package.name, package.version),
        })
    }

    /// Where a relation or a package of the lists first bears this name. apt numbers packages in this order, and falls
    /// back on the numbers. Reads the lists; called only where nothing else decides.
    fn first_mention(&self, name: &str) -> (usize, usize) {
        const FIELDS: [&str; 9] = [
            "Package",
            "Depends",
            "Pre-Depends",
            "Conflicts",
            "Breaks",
            "Recommends",
            "Suggests",
            "Replaces",
            "Provides",
        ];
        let part_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        for (number, text) in self.texts.iter().enumerate() {
            for (at, _) in text.match_indices(name) {
                let bytes = text.as_bytes();
                let before = at.checked_sub(1).and_then(|i| bytes.get(i));
                if before.is_some_and(part_of_name) || bytes.get(at + name.len()).is_some_and(part_of_name) {
                    continue;
                }
                let mut line = text[..at].rfind('\n').map_or(0, |i| i + 1);
                while bytes.get(line) == Some(&b' ') {
                    line = text[..line - 1].rfind('\n').map_or(0, |i| i + 1);
                }
                let key = text[line..].split(':').next().unwrap_or_default();
                if FIELDS.contains(&key) {
                    return (number, at);
                }
            }
        }
        (usize::MAX, 0)
    }

    /// Names that look like `name`, best first.
    pub(super) fn near(&self, name: &str) -> Vec<String> {
        let mut scored: Vec<(f64, &str)> = self
            .candidates
            .keys()
            .map(|other| (strsim::jaro_winkler(name, other), *other))
            .filter(|(score, _)| *score > 0.88)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        scored.into_iter().take(4).map(|(_, name)| name.to_owned()).collect()
    }
}

fn priority(package: &Package<'_>) -> u8 {
    match package.stanza.field("Priority") {
        Some("required") => 1,
        Some("important") => 2,
        Some("standard") => 3,
        Some("optional") => 4,
        _ => 5,
    }
}

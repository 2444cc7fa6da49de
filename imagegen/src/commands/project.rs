//! A project as `lock` and `check` work on it: with the lock's place and what it is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_unit::{Arch, First, Manifest, ManifestUnit, Name, Source, Unit, ValueError};

use crate::build::{lock_path, lock_request};
use crate::project;
use crate::resolve::Request;

/// A project and its lock's place; nothing of the archive.
pub(super) struct Project {
    pub(super) text: project::Project,
    pub(super) units: BTreeMap<Name, Unit>,
    pub(super) lock_file: PathBuf,
    pub(super) request: Request,
}

/// Reads and checks everything that text files can tell.
pub(super) fn load(file: &Path, arch: Arch) -> Result<Project, Box<dyn Error>> {
    let text = project::Project::read(file)?;
    let units = text.parsed_units();
    let request = lock_request(&text.recipe, &units, arch);
    Ok(Project {
        text,
        units,
        lock_file: lock_path(file, arch),
        request,
    })
}

impl Project {
    /// The text of first choices, which must be right for this appliance.
    pub(super) fn choices(&self, file: &Path) -> Result<String, Box<dyn Error>> {
        let source = Source::read(file)?;
        let unit = |(name, unit): (&Name, &Unit)| {
            let unit = ManifestUnit {
                unit: unit.clone(),
                // What only a built image could tell is not asked.
                root: "/".parse()?,
                index: 0,
                accounts: BTreeMap::new(),
                groups: BTreeMap::new(),
                templates: Vec::new(),
                state_version: cairn_unit::StateVersion::default(),
                waits_for: Vec::new(),
            };
            Ok((name.clone(), Arc::new(unit)))
        };
        let recipe = &self.text.recipe;
        let manifest = Manifest {
            name: recipe.name.clone(),
            version: recipe.version.clone(),
            description: recipe.description.clone(),
            built: 0,
            domain: None,
            time: Vec::new(),
            chosen: BTreeMap::new(),
            setup: recipe.setup.clone(),
            upgrade: recipe.upgrade.clone(),
            disabled: BTreeSet::new(),
            units: self.units.iter().map(unit).collect::<Result<_, ValueError>>()?,
        };
        First::parse(&source, &manifest)?;
        if recipe.setup.is_none() {
            return Err(format!(
                "{} is not set up by anybody: its recipe has no `setup`, so it needs no --site",
                recipe.name
            )
            .into());
        }
        Ok(source.text)
    }
}

/// The architecture that was asked for, or this machine's.
pub(super) fn arch(asked: Option<Arch>) -> Result<Arch, Box<dyn Error>> {
    asked
        .or_else(Arch::host)
        .ok_or_else(|| "this machine's architecture is unknown here: add --arch amd64 or --arch arm64".into())
}

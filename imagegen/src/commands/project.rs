//! A recipe with its units and where its lock lies: what `lock` and `check` work on.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use cairn_unit::{Arch, Graph, Name, Problems, Recipe, Source, Unit};

use crate::build::{lock_path, lock_request};
use crate::resolve::Request;

/// A recipe and its units, read and checked; nothing of the archive.
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) recipe: Recipe,
    pub(super) units: BTreeMap<Name, Unit>,
    pub(super) order: Vec<Name>,
    pub(super) lock_file: PathBuf,
    pub(super) request: Request,
}

/// Reads and checks everything that text files can tell; all problems of all files at once.
pub(super) fn load(file: &Path, arch: Arch) -> Result<Project, Box<dyn Error>> {
    let source = Source::read(file)?;
    let recipe = Recipe::parse(&source)?;
    let parent = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let folder = match parent.parent() {
        Some(up) if up.as_os_str().is_empty() => PathBuf::from("."),
        Some(up) => up.to_owned(),
        None => parent.join(".."),
    };
    let mut found = Problems::default();
    let mut units = BTreeMap::new();
    for (i, name) in recipe.units.iter().enumerate() {
        let path = folder.join("units").join(format!("{name}.toml"));
        match Source::read(&path) {
            Ok(text) => match Unit::parse(&text) {
                Ok(unit) => _ = units.insert(name.clone(), (unit, text)),
                Err(problems) => found.0.extend(problems.0),
            },
            Err(problem) => {
                let message = format!("there is no unit `{name}`: {} {}", path.display(), problem.message);
                found
                    .0
                    .push(source.problem_at(&["units", &i.to_string()], message, problem.help));
            }
        }
    }
    found.or(())?;
    let order = Graph::new(&units)?.order;
    let units: BTreeMap<Name, Unit> = units.into_iter().map(|(name, (unit, _))| (name, unit)).collect();
    let request = lock_request(&recipe, &units, arch);
    Ok(Project {
        folder,
        recipe,
        units,
        order,
        lock_file: lock_path(file, arch),
        request,
    })
}

/// The architecture that was asked for, or this machine's.
pub(super) fn arch(asked: Option<Arch>) -> Result<Arch, Box<dyn Error>> {
    asked
        .or_else(Arch::host)
        .ok_or_else(|| "this machine's architecture is unknown here: add --arch amd64 or --arch arm64".into())
}

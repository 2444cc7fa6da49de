//! A project's text files: a recipe with its units, read and checked once for every command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_unit::{Graph, Name, Problem, Problems, Recipe, Source, Unit};

use crate::resolve::ResolveError;

/// A recipe and its units, each with the text that it came from.
#[derive(Debug, Clone)]
pub struct Project {
    /// The recipe's file.
    pub file: PathBuf,
    /// The folder above the one that holds the recipe.
    pub folder: PathBuf,
    /// The recipe.
    pub recipe: Recipe,
    /// Its text.
    pub source: Source,
    /// The units.
    pub units: BTreeMap<Name, (Unit, Source)>,
    /// What is between them.
    pub graph: Graph,
}

impl Project {
    /// Reads and checks everything that text files can tell; all problems of all files at once.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn read(file: &Path) -> Result<Project, Problems> {
        let source = Source::read(file)?;
        let recipe = Recipe::parse(&source)?;
        let folder = folder(file);
        let mut found = Problems::default();
        let mut units = BTreeMap::new();
        for (i, name) in recipe.units.iter().enumerate() {
            match unit(&folder, name) {
                Ok(Ok(unit)) => _ = units.insert(name.clone(), unit),
                Ok(Err(problems)) => found.0.extend(problems.0),
                Err(problem) => {
                    let message = format!(
                        "there is no unit `{name}`: {} {}",
                        problem.file.display(),
                        problem.message
                    );
                    found
                        .0
                        .push(source.problem_at(&["units", &i.to_string()], message, problem.help));
                }
            }
        }
        if let Some(setup) = recipe.setup.as_ref().filter(|setup| !recipe.units.contains(setup)) {
            let message = format!("the unit `{setup}`, by which the appliance is set up, is not one of its units");
            let help = format!("add it: units = [\"{setup}\", ...]");
            found.0.push(source.problem_at(&["setup"], message, Some(help)));
        }
        found.or(())?;
        let graph = Graph::new(&units)?;
        Ok(Project {
            file: file.to_owned(),
            folder,
            recipe,
            source,
            units,
            graph,
        })
    }

    /// The units without their texts.
    pub fn parsed_units(&self) -> BTreeMap<Name, Unit> {
        self.units
            .iter()
            .map(|(name, (unit, _))| (name.clone(), unit.clone()))
            .collect()
    }

    /// The overlays of a unit's root, name and folder, in their order. An instance has its template's.
    pub fn overlays(&self, name: &Name, unit: &Unit) -> Vec<(String, PathBuf)> {
        match &unit.overlays {
            Some(names) => names.iter().map(|name| self.overlay(name.as_str())).collect(),
            None => Some(self.overlay(name.template()))
                .filter(|(_, folder)| folder.is_dir())
                .into_iter()
                .collect(),
        }
    }

    /// An overlay by its name.
    pub fn overlay(&self, name: &str) -> (String, PathBuf) {
        (name.to_owned(), self.folder.join("overlays").join(name))
    }

    /// A failed resolution at the place that names the package where it begins.
    pub fn placed(&self, error: &ResolveError) -> Option<Problem> {
        let package = error.named()?;
        let (message, help) = error.message_and_help();
        let (source, path) = self.names(package)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Some(source.problem_at(&path, message, Some(help)))
    }

    /// The text that names a package, and where in it.
    fn names(&self, package: &str) -> Option<(&Source, Vec<String>)> {
        let at = |list: &[String]| list.iter().position(|name| name == package).map(|i| i.to_string());
        let in_units = self.units.values().find_map(|(unit, source)| {
            let i = at(&unit.packages)?;
            Some((source, vec!["packages".to_owned(), i]))
        });
        let host = &self.recipe.host;
        in_units.or_else(|| {
            let key = match at(&host.packages) {
                Some(i) => vec!["host".to_owned(), "packages".to_owned(), i],
                None if host.kernel.split("{arch}").all(|part| package.contains(part)) => {
                    vec!["host".to_owned(), "kernel".to_owned()]
                }
                None => return None,
            };
            Some((&self.source, key))
        })
    }

    /// Two overlays of a root that hold the same file, at the place that names them.
    pub fn placed_clash(&self, root: &str, message: String, help: &str) -> Problem {
        match self.units.get(root) {
            Some((_, source)) => source.problem_at(&["overlays"], message, Some(help.to_owned())),
            None => self
                .source
                .problem_at(&["host", "overlays"], message, Some(help.to_owned())),
        }
    }
}

/// The project that a recipe is in: the folder above the one that holds the recipe.
fn folder(recipe_file: &Path) -> PathBuf {
    let folder = recipe_file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match folder.parent() {
        Some(up) if up.as_os_str().is_empty() => PathBuf::from("."),
        Some(up) => up.to_owned(),
        None => folder.join(".."),
    }
}

type Read = Result<(Unit, Source), Problems>;

/// A unit by its name.
fn unit(project: &Path, name: &Name) -> Result<Read, Box<Problem>> {
    let source = Source::unit(&project.join("units"), name)?;
    Ok(Unit::parse(&source).map(|unit| (unit, source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_its_template_with_its_name_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["units", "appliances"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let unit = "description = \"Worker %i\"\n[service]\ncommand = [\"/bin/w\", \"--queue=%i\"]\n";
        std::fs::write(dir.path().join("units/worker@.toml"), unit).unwrap();
        let recipe = dir.path().join("appliances/a.toml");
        let text = |units: &str| format!("name = \"a\"\nversion = \"1\"\ndescription = \"A\"\nunits = [{units}]\n");
        std::fs::write(&recipe, text("\"worker@mail\", \"worker@2\"")).unwrap();
        let project = Project::read(&recipe).unwrap();
        let command = |name: &str| project.units[name].0.service.command[1].clone();
        assert_eq!(
            (command("worker@mail"), command("worker@2")),
            ("--queue=mail".into(), "--queue=2".into())
        );
        std::fs::write(&recipe, text("\"worker@1\", \"wroker@2\"")).unwrap();
        let error = Project::read(&recipe).unwrap_err().to_string();
        assert!(
            error.contains("appliances/a.toml:4:") && error.contains("there is no unit `wroker@2`"),
            "{error}"
        );
    }
}

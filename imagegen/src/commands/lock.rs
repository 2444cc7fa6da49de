//! `imagegen lock`: resolves against the signed indexes, and says what changes.

use std::error::Error;
use std::path::Path;
use std::time::SystemTime;

use cairn_unit::Arch;
use serde_json::json;

use super::Outcome;
use super::arguments::Lock as Options;
use super::project::{self, Project};
use crate::archive::{Archive, ArchiveError, Expiry, Keyring, Mirror, Suite, SuiteIndex};
use crate::build::complete_lock;
use crate::cache::{Cache, FetchOptions, Transport};
use crate::progress::Progress;
use crate::report::{Bars, print, print_json};
use crate::resolve::{Change, Lock, LockError, Universe, diff, lock};
use crate::tools::{LIST_PATH, ToolSet};

pub(super) fn run(options: &Options, json: bool) -> Outcome {
    let bars = Bars::new(json);
    let fetch = FetchOptions::default();
    if options.tools {
        return tools(&fetch, &bars, json);
    }
    let arch = project::arch(options.arch)?;
    let project = project::load(&options.recipe.recipe, arch)?;
    let suites = match options.without_updates {
        true => Suite::trixie().into_iter().take(1).collect(),
        false => Suite::trixie(),
    };
    let changes = resolve(&project, arch, &suites, &fetch, &bars)?;
    if json {
        return print_json(&json!({ "lock": project.lock_file, "changes": changes }));
    }
    print(&describe(&project.lock_file, &changes))
}

/// Resolves the recipe anew and writes its lock; what changed against the one that was there.
pub(super) fn refresh(
    project: &Project,
    arch: Arch,
    fetch: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Change>, Box<dyn Error>> {
    resolve(project, arch, &Suite::trixie(), fetch, progress)
}

fn resolve(
    project: &Project,
    arch: Arch,
    suites: &[Suite],
    fetch: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Change>, Box<dyn Error>> {
    let previous = read_if_there(&project.lock_file)?;
    let source = Source::from_env()?;
    let suites = source.indexes(suites, arch, fetch, progress)?;
    let universe = Universe::new(&suites, arch.debian())?;
    let mut made =
        lock(&suites, &universe, &project.request, previous.as_ref()).map_err(|error| -> Box<dyn Error> {
            match project.text.placed(&error) {
                Some(problem) => problem.into(),
                None => error.into(),
            }
        })?;
    complete_lock(
        &mut made,
        &project.units,
        &source.cache,
        &|| Ok(source.mirror.clone()),
        fetch,
        progress,
    )?;
    made.write(&project.lock_file)?;
    Ok(changes(previous.as_ref(), &made))
}

/// Locks every tool set of the project in the current folder. All are resolved before the first is written.
fn tools(fetch: &FetchOptions, progress: &dyn Progress, json: bool) -> Outcome {
    let list = std::fs::read_to_string(LIST_PATH)
        .map_err(|e| format!("cannot read {LIST_PATH}: {e}; run this in the project's folder"))?;
    let arch = Arch::Amd64;
    let source = Source::from_env()?;
    let mut made = Vec::new();
    for set in ToolSet::ALL {
        let suites = source.indexes(&set.suites(), arch, fetch, progress)?;
        let universe = Universe::new(&suites, arch.debian())?;
        let path = set.lock_path();
        made.push((
            read_if_there(&path)?,
            lock(&suites, &universe, &set.request_from(&list)?, None)?,
            path,
        ));
    }
    let mut report = Vec::new();
    let mut text = String::new();
    for (previous, new, path) in &made {
        new.write(path)?;
        let changes = changes(previous.as_ref(), new);
        text.push_str(&describe(path, &changes));
        report.push(json!({ "lock": path, "changes": changes }));
    }
    if json {
        return print_json(&report);
    }
    print(&text)
}

/// Where package lists come from, and whom to believe.
struct Source {
    cache: Cache,
    mirror: Mirror,
    keyring: Keyring,
}

impl Source {
    fn from_env() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            cache: Cache::from_env()?,
            mirror: Mirror::discover()?,
            keyring: keyring()?,
        })
    }

    fn indexes(
        &self,
        suites: &[Suite],
        arch: Arch,
        fetch: &FetchOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<SuiteIndex>, ArchiveError> {
        let archive = Archive {
            mirror: &self.mirror,
            keyring: &self.keyring,
            cache: &self.cache,
            transport: &Transport::default(),
            options: fetch,
            now: SystemTime::now(),
            expiry: Expiry::Enforce,
        };
        archive.indexes(suites, arch.debian(), progress)
    }
}

fn read_if_there(path: &Path) -> Result<Option<Lock>, LockError> {
    match Lock::read(path) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Absent { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn changes(previous: Option<&Lock>, made: &Lock) -> Vec<Change> {
    let empty = Lock {
        packages: Vec::new(),
        ..made.clone()
    };
    diff(previous.unwrap_or(&empty), made)
}

/// The pinned keys, and those of the folder that IMAGEGEN_KEYS names: for an archive of one's own.
fn keyring() -> Result<Keyring, Box<dyn Error>> {
    let mut keyring = Keyring::pinned()?;
    if let Some(folder) = std::env::var_os("IMAGEGEN_KEYS").filter(|f| !f.is_empty()) {
        keyring.add_folder(folder.as_ref())?;
    }
    Ok(keyring)
}

/// What changed, a line a package.
pub(super) fn describe(path: &Path, changes: &[Change]) -> String {
    let mut text: String = changes
        .iter()
        .map(|change| match (&change.old, &change.new) {
            (None, Some(new)) => format!("  + {} {new}\n", change.name),
            (Some(old), None) => format!("  - {} {old}\n", change.name),
            (old, new) => {
                let word = |version: &Option<String>| version.clone().unwrap_or_default();
                format!("  ~ {} {} -> {}\n", change.name, word(old), word(new))
            }
        })
        .collect();
    text.push_str(&format!("{}: {} packages changed\n", path.display(), changes.len()));
    text
}

//! `imagegen lock`: resolves against the signed indexes, and says what changes.

use std::error::Error;
use std::time::SystemTime;

use cairn_unit::Arch;
use serde_json::json;

use super::Outcome;
use super::arguments::Lock as Options;
use super::project::{self, Project};
use crate::archive::{Archive, Expiry, Keyring, Mirror, Suite};
use crate::build::complete_lock;
use crate::cache::{Cache, FetchOptions, Transport};
use crate::progress::Progress;
use crate::report::{Bars, print, print_json};
use crate::resolve::{Change, Lock, Universe, diff, lock};

pub(super) fn run(options: &Options, json: bool) -> Outcome {
    let arch = project::arch(options.arch)?;
    let project = project::load(&options.recipe.recipe, arch)?;
    let bars = Bars::new(json);
    let changes = refresh(&project, arch, &FetchOptions::default(), &bars)?;
    if json {
        return print_json(&json!({ "lock": project.lock_file, "changes": changes }));
    }
    print(&describe(&project, &changes))
}

/// Resolves the recipe anew and writes its lock; what changed against the one that was there.
pub(super) fn refresh(
    project: &Project,
    arch: Arch,
    fetch: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Change>, Box<dyn Error>> {
    let previous = if project.lock_file.exists() {
        Some(Lock::read(&project.lock_file)?)
    } else {
        None
    };
    let cache = Cache::from_env()?;
    let mirror = Mirror::discover()?;
    let keyring = keyring()?;
    let transport = Transport::default();
    let archive = Archive {
        mirror: &mirror,
        keyring: &keyring,
        cache: &cache,
        transport: &transport,
        options: fetch,
        now: SystemTime::now(),
        expiry: Expiry::Enforce,
    };
    let suites = archive.indexes(&Suite::trixie(), arch.debian(), progress)?;
    let universe = Universe::new(&suites, arch.debian())?;
    let mut made = lock(&suites, &universe, &project.request, previous.as_ref())?;
    complete_lock(
        &mut made,
        &project.units,
        &cache,
        &|| Ok(mirror.clone()),
        fetch,
        progress,
    )?;
    let empty = Lock {
        packages: Vec::new(),
        ..made.clone()
    };
    let changes = diff(previous.as_ref().unwrap_or(&empty), &made);
    made.write(&project.lock_file)?;
    Ok(changes)
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
pub(super) fn describe(project: &Project, changes: &[Change]) -> String {
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
    text.push_str(&format!(
        "{}: {} packages changed\n",
        project.lock_file.display(),
        changes.len()
    ));
    text
}

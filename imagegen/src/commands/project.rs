//! A project as `lock` and `check` work on it: with the lock's place and what it is made from.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use cairn_unit::{Arch, Name, Unit};

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

/// The architecture that was asked for, or this machine's.
pub(super) fn arch(asked: Option<Arch>) -> Result<Arch, Box<dyn Error>> {
    asked
        .or_else(Arch::host)
        .ok_or_else(|| "this machine's architecture is unknown here: add --arch amd64 or --arch arm64".into())
}

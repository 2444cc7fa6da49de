//! The programs that the tests run beside the image: QEMU from imagegen's tools tree, and the judges.

use std::path::PathBuf;
use std::sync::Mutex;

use imagegen::archive::Mirror;
use imagegen::cache::{Cache, FetchOptions};
use imagegen::progress::Silent;
use imagegen::tools::{ToolSet, ToolsTree, load_tools};

use crate::error::HarnessError;
use crate::images;

/// Loaded in this process already.
static LOADED: Mutex<Vec<(ToolSet, ToolsTree)>> = Mutex::new(Vec::new());

/// The tree of QEMU and its firmware. Its programs run in the sandbox that the imagegen program sets up.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn tools() -> Result<ToolsTree, HarnessError> {
    load(ToolSet::Tools)
}

/// The tree of other people's programs that judge what ours made.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn judges() -> Result<ToolsTree, HarnessError> {
    load(ToolSet::Judges)
}

/// The tree of a browser and the program that drives it; a test that asks for it is the only reason to fetch it.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn browser() -> Result<ToolsTree, HarnessError> {
    load(ToolSet::Browser)
}

/// Where answers that hold for this machine are kept.
///
/// # Errors
/// When there is no place for a cache.
pub fn cache() -> Result<Cache, HarnessError> {
    Cache::from_env().map_err(|error| failed(&error))
}

fn load(set: ToolSet) -> Result<ToolsTree, HarnessError> {
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, tree)) = loaded.iter().find(|(known, _)| *known == set) {
        return Ok(tree.clone());
    }
    let helper: PathBuf = images::imagegen()?;
    let mirror = || Mirror::discover().map_err(|error| error.to_string());
    let tree = load_tools(set, &cache()?, &mirror, &FetchOptions::default(), Some(helper), &Silent);
    let tree = tree.map_err(|error| failed(&error))?;
    loaded.push((set, tree.clone()));
    Ok(tree)
}

fn failed(error: &dyn std::fmt::Display) -> HarnessError {
    HarnessError::Tools {
        reason: error.to_string(),
    }
}

//! Whether an image is already there, from the same inputs.
//!
//! The stamp holds a key over every input, and of each output its length and time. Inputs that are read anyway count by
//! content; sources of our own programs by length and time, so that a build that has nothing to do opens few files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::manifest::hex;
use super::{Binaries, BuildError, BuildPlan};
use crate::tree::OverlaySet;

/// What is written beside an image.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Over every input.
    pub(super) key: String,
    /// The root hash.
    pub(super) root_hash: String,
    /// Name, length, and time in nanoseconds of each output.
    outputs: Vec<(String, u64, i64)>,
}

/// The key over every input of the plan. `tools` is the tools tree's hash.
pub(super) fn key(plan: &BuildPlan, tools: &str) -> Result<String, BuildError> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(&serde_json::to_vec(plan).unwrap_or_default());
    add(&serde_json::to_vec(&plan.lock.uids).unwrap_or_default());
    add(tools.as_bytes());
    if let Ok(own) = std::env::current_exe() {
        add(state(&own).as_bytes());
    }
    for root in plan.roots.values().chain([&plan.host]) {
        for (name, folder) in &root.overlays {
            for file in OverlaySet::read(name, folder)?.files {
                add(file.path.as_bytes());
                add(format!("{:?}", file.node.kind).as_bytes());
                add(&file.node.mode.to_le_bytes());
            }
        }
    }
    if let Binaries::Workspace(root) = &plan.binaries
        && !root.join("supervisor").is_dir()
    {
        return Err(BuildError::NoSources { folder: root.clone() });
    }
    let inputs = plan
        .binaries
        .inputs(plan.extras(), &plan.units)
        .map_err(BuildError::io("list", Path::new("the sources of Cairn's programs")))?;
    for path in inputs {
        add(path.to_string_lossy().as_bytes());
        add(state(&path).as_bytes());
    }
    Ok(hex(&hash.finalize()))
}

fn state(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(meta) => format!("{} {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec()),
        Err(_) => "absent".into(),
    }
}

fn output(path: &Path) -> Option<(String, u64, i64)> {
    let meta = fs::metadata(path).ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((
        name,
        meta.len(),
        meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec()),
    ))
}

impl Stamp {
    /// A stamp for these outputs as they are now.
    pub(super) fn new<'a>(key: &str, root_hash: &str, outputs: impl Iterator<Item = &'a Path>) -> Stamp {
        Stamp {
            key: key.to_owned(),
            root_hash: root_hash.to_owned(),
            outputs: outputs.filter_map(output).collect(),
        }
    }

    /// The stamp in `file`, if it has this key and its outputs are as it says.
    pub(super) fn valid(file: &Path, key: &str, outputs: &[std::path::PathBuf]) -> Option<Stamp> {
        let stamp: Stamp = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let now: Option<Vec<_>> = outputs.iter().map(|p| output(p)).collect();
        (stamp.key == key && now? == stamp.outputs).then_some(stamp)
    }

    /// Writes the stamp, whole or not at all.
    pub(super) fn write(&self, file: &Path) -> Result<(), BuildError> {
        let temporary = file.with_extension("stamp.tmp");
        let text = serde_json::to_vec(self).unwrap_or_default();
        fs::write(&temporary, text).map_err(BuildError::io("write", &temporary))?;
        fs::rename(&temporary, file).map_err(BuildError::io("rename to", file))
    }
}

//! `imagegen cache`: where the packages lie, and how to be rid of old ones.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Outcome;
use super::arguments::CacheAction;
use crate::cache::Cache;
use crate::report::{bytes, print, print_json, table};
use crate::tools::{ToolSet, ToolsError};

pub(super) fn run(action: &CacheAction, json: bool) -> Outcome {
    let cache = Cache::from_env()?;
    match action {
        CacheAction::Info => info(&cache, json),
        CacheAction::Gc { keep_days } => {
            let age = Duration::from_secs(u64::from(*keep_days) * 86_400);
            let done = cache.gc(&HashSet::new(), &current_trees()?, age)?;
            if json {
                return print_json(&done);
            }
            print(&format!(
                "removed {} files, {}; kept {} files, {}\n",
                done.removed,
                bytes(done.removed_bytes),
                done.kept,
                bytes(done.kept_bytes)
            ))
        }
    }
}

/// The tools trees that this program would use.
fn current_trees() -> Result<HashSet<String>, ToolsError> {
    ToolSet::ALL.into_iter().map(ToolSet::tree_name).collect()
}

fn info(cache: &Cache, json: bool) -> Outcome {
    let parts = [
        ("packages", cache.root().join("blobs")),
        ("unpacked", cache.unpacked()),
        ("indexes", cache.indexes()),
        ("tools", cache.tools()),
        ("partial", cache.root().join("partial")),
    ];
    let mut found = Vec::new();
    for (name, folder) in parts {
        let (mut files, mut size) = (0, 0);
        add_up(&folder, &mut files, &mut size)?;
        found.push((name, files, size));
    }
    if json {
        let parts: serde_json::Map<_, _> = found
            .iter()
            .map(|(n, f, s)| ((*n).to_owned(), json!({ "files": f, "bytes": s })))
            .collect();
        return print_json(&json!({ "path": cache.root(), "parts": parts }));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(name, files, size)| vec![(*name).into(), files.to_string(), bytes(*size)])
        .collect();
    print(&format!(
        "{}\n{}",
        cache.root().display(),
        table(&["part", "files", "size"], &[1, 2], &rows)
    ))
}

/// Adds the files under `folder` to `files` and the space that they take to `size`. A file that vanishes meanwhile
/// is not counted.
fn add_up(folder: &Path, files: &mut u64, size: &mut u64) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => add_up(&entry.path(), files, size)?,
            Ok(meta) => {
                *files += 1;
                *size += meta.blocks() * 512;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

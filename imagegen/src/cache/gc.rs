//! Collection: what no lock names and nobody used for a while goes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::store::open_lock;
use super::{Cache, CacheError, Digest};

/// What a collection did. Sizes are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct GcReport {
    /// Files removed.
    pub removed: u64,
    /// Bytes freed.
    pub removed_bytes: u64,
    /// Files kept.
    pub kept: u64,
    /// Bytes that the kept files take.
    pub kept_bytes: u64,
}

impl Cache {
    /// Removes packages, unpacked packages, package lists and partial downloads that are not in `keep` and were last
    /// used more than `max_age` ago, tools trees whose names are not in `trees` and that were last used as long ago, and what
    /// killed processes left behind.
    ///
    /// Fails with [`CacheError::Busy`] while another process uses the cache.
    pub fn gc(
        &self,
        keep: &HashSet<Digest>,
        trees: &HashSet<String>,
        max_age: Duration,
    ) -> Result<GcReport, CacheError> {
        let lock_path = self.root().join("lock");
        let lock = open_lock(&lock_path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => CacheError::Busy {
                path: self.root().into(),
            },
            e => CacheError::io("lock", &lock_path, e.into()),
        })?;
        let mut report = GcReport::default();
        let blobs = self.root().join("blobs/sha256");
        for folder in list(&blobs)? {
            if folder.is_dir() {
                sweep(&folder, keep, max_age, &mut report)?;
            }
        }
        sweep(&self.root().join("partial"), keep, max_age, &mut report)?;
        sweep(&self.unpacked(), keep, max_age, &mut report)?;
        sweep(&self.indexes().join("sha256"), keep, max_age, &mut report)?;
        sweep_trees(&self.tools(), trees, max_age, &mut report)?;
        Ok(report)
    }
}

fn sweep(folder: &Path, keep: &HashSet<Digest>, max_age: Duration, report: &mut GcReport) -> Result<(), CacheError> {
    for path in list(folder)? {
        let meta = fs::symlink_metadata(&path).map_err(|e| CacheError::io("read", &path, e))?;
        if !meta.is_file() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = name.split('.').next().unwrap_or_default().parse::<Digest>().ok();
        // Temporary files are nobody's: collection holds the lock alone.
        let abandoned = name.starts_with(".tmp-");
        let old = age(&meta) >= max_age && digest.is_none_or(|digest| !keep.contains(&digest));
        if abandoned || old {
            fs::remove_file(&path).map_err(|e| CacheError::io("remove", &path, e))?;
            report.removed += 1;
            report.removed_bytes += meta.len();
        } else {
            report.kept += 1;
            report.kept_bytes += meta.len();
        }
    }
    Ok(())
}

/// Trees go whole or not at all.
fn sweep_trees(
    folder: &Path,
    keep: &HashSet<String>,
    max_age: Duration,
    report: &mut GcReport,
) -> Result<(), CacheError> {
    for path in list(folder)? {
        let meta = fs::symlink_metadata(&path).map_err(|e| CacheError::io("read", &path, e))?;
        if !meta.is_dir() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let abandoned = name.starts_with(".tmp-");
        let (mut files, mut bytes) = (0, 0);
        add_up(&path, &mut files, &mut bytes)?;
        if abandoned || (age(&meta) >= max_age && !keep.contains(name)) {
            let failed = |e| CacheError::io("remove", &path, e);
            // Under another name first: half a tree must never pass for one.
            let away = folder.join(format!(".tmp-gone-{}", name.trim_start_matches(".tmp-")));
            fs::rename(&path, &away).map_err(failed)?;
            fs::remove_dir_all(&away).map_err(failed)?;
            report.removed += files;
            report.removed_bytes += bytes;
        } else {
            report.kept += files;
            report.kept_bytes += bytes;
        }
    }
    Ok(())
}

fn age(meta: &fs::Metadata) -> Duration {
    let modified = meta.modified().ok();
    modified
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .unwrap_or_default()
}

fn add_up(folder: &Path, files: &mut u64, bytes: &mut u64) -> Result<(), CacheError> {
    for path in list(folder)? {
        let meta = fs::symlink_metadata(&path).map_err(|e| CacheError::io("read", &path, e))?;
        if meta.is_dir() {
            add_up(&path, files, bytes)?;
        } else {
            *files += 1;
            *bytes += meta.len();
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>, CacheError> {
    let read = |e| CacheError::io("read", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    Ok(paths)
}

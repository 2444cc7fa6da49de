//! The files that a build hands out: made in a folder of their own, and given their names together at the end.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_unit::Format;

use super::{BuildError, BuildPlan};
use crate::leftovers::{self, Watched};

/// A build's own folder, removed with all that is left in it.
#[derive(Debug)]
pub(super) struct Workshop {
    folder: tempfile::TempDir,
    _watched: Watched,
}

impl Workshop {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The names of a build's files.
#[derive(Debug, Clone)]
pub(super) struct Outputs {
    folder: PathBuf,
    stem: String,
}

impl Outputs {
    pub(super) fn of(plan: &BuildPlan) -> Outputs {
        Outputs {
            folder: plan.output.clone(),
            stem: plan.stem(),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.stem))
    }

    pub(super) fn image(&self, format: Format) -> PathBuf {
        self.file(format.extension())
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.file("manifest.json")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.file("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.file("initrd")
    }

    pub(super) fn command_line(&self) -> PathBuf {
        self.file("cmdline")
    }

    pub(super) fn stamp(&self) -> PathBuf {
        self.folder.join(format!(".{}.stamp", self.stem))
    }

    /// Everything but the stamp.
    pub(super) fn all(&self, formats: &[Format]) -> Vec<PathBuf> {
        let images = formats.iter().map(|f| self.image(*f));
        images
            .chain([self.manifest(), self.kernel(), self.initrd(), self.command_line()])
            .collect()
    }

    /// A new folder in the output's file system.
    pub(super) fn workshop(&self) -> Result<Workshop, BuildError> {
        fs::create_dir_all(&self.folder).map_err(BuildError::io("create", &self.folder))?;
        self.sweep();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{WORKSHOP}{}-", std::process::id()))
            .tempdir_in(&self.folder)
            .map_err(BuildError::io("create a folder in", &self.folder))?;
        Ok(Workshop {
            _watched: leftovers::watch(folder.path()),
            folder,
        })
    }

    /// Removes the folders of builds that were killed.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .strip_prefix(WORKSHOP)
                .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Moves a file from the workshop to its final name.
    pub(super) fn hand_out(&self, made: &Path, name: &Path) -> Result<(), BuildError> {
        fs::rename(made, name).map_err(BuildError::io("rename to", name))
    }
}

const WORKSHOP: &str = ".cairn-build-";

/// The error for a failure in the output's folder; a full disk says how much is needed.
pub(super) fn full_disk(error: BuildError, folder: &Path, needed: u64) -> BuildError {
    use std::error::Error as _;
    let mut source = error.source();
    let mut io = match &error {
        BuildError::Io { source, .. } => Some(source),
        _ => None,
    };
    while let (None, Some(cause)) = (io, source) {
        io = cause.downcast_ref::<std::io::Error>();
        source = cause.source();
    }
    let full = io.is_some_and(|e| {
        matches!(
            e.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }) || error.to_string().contains("No space left on device")
        || (matches!(error, BuildError::Image(_)) && nothing_free(folder));
    if full {
        BuildError::Full {
            path: folder.to_owned(),
            needed,
        }
    } else {
        error
    }
}

/// Whether the folder's file system is full. mkfs.erofs does not always say so: a write of its own that fails may show only
/// as a bad checksum when it reads the block back. The build's files are still there when this looks.
fn nothing_free(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < 1 << 20)
}

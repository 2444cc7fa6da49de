//! Where things lie in the cache, and how a file gets its final name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::{CacheError, Digest};
use crate::leftovers::{self, Watched};

/// A cache in one folder. Cheap to clone; holds no descriptor.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// While this lives, no other process collects the cache. Taken by everything that reads or adds files.
#[derive(Debug)]
pub struct InUse {
    pub(super) _lock: File,
}

impl Cache {
    /// The cache in `root`; the folders are made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let root = root.into();
        for part in ["blobs/sha256", "partial", "unpacked", "tools", "indexes/sha256"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|e| CacheError::io("create", &path, e))?;
        }
        Ok(Self { root })
    }

    /// The user's cache: `IMAGEGEN_CACHE`, else `cairn` in `XDG_CACHE_HOME`, else `$HOME/.cache/cairn`.
    pub fn from_env() -> Result<Self, CacheError> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = var("IMAGEGEN_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|path| path.join("cairn")))
            .or_else(|| var("HOME").map(|path| path.join(".cache/cairn")))
            .ok_or(CacheError::NoPlace)?;
        Self::open(root)
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for the tools tree; its content is the tools' own affair.
    pub fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// The folder of unpacked packages.
    pub fn unpacked(&self) -> PathBuf {
        self.root.join("unpacked")
    }

    /// The folder of signed indexes.
    pub fn indexes(&self) -> PathBuf {
        self.root.join("indexes")
    }

    /// Where the blob with this digest lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// The blob, if it is here with this size. Marks it as used now, which is what collection looks at.
    pub fn blob(&self, digest: &Digest, size: u64) -> Option<PathBuf> {
        let path = self.blob_path(digest);
        let meta = fs::metadata(&path).ok()?;
        if !meta.is_file() || meta.len() != size {
            return None;
        }
        touch(&path);
        Some(path)
    }

    /// Where a download of this digest is collected.
    pub(super) fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }

    /// Keeps collection away until the guard is dropped. Waits for a collection that is under way.
    pub fn in_use(&self) -> Result<InUse, CacheError> {
        let path = self.root.join("lock");
        let lock = open_lock(&path)?;
        flock(&lock, FlockOperation::LockShared).map_err(|e| CacheError::io("lock", &path, e.into()))?;
        Ok(InUse { _lock: lock })
    }

    /// Waits until no other thread or process holds the same `name`, then keeps it until the guard is dropped: for work that
    /// is wasted or wrong when done twice at once.
    pub(crate) fn alone(&self, name: &str) -> Result<InUse, CacheError> {
        let path = self.root.join("partial").join(format!("{name}.lock"));
        let lock = open_lock(&path)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| CacheError::io("lock", &path, e.into()))?;
        Ok(InUse { _lock: lock })
    }

    /// A new file that will replace `path` when it is [`Staged::commit`]ted, and vanish otherwise.
    pub fn stage(&self, path: &Path) -> Result<Staged, CacheError> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| CacheError::io("create", folder, e))?;
        let temporary = tempfile::Builder::new()
            .prefix(".tmp-")
            .tempfile_in(folder)
            .map_err(|e| CacheError::io("create a file in", folder, e))?;
        Ok(Staged {
            _watched: leftovers::watch(temporary.path()),
            temporary,
            path: path.into(),
        })
    }

    /// Writes a small file whole.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        let mut staged = self.stage(path)?;
        staged.write_all(bytes).map_err(|e| CacheError::io("write", path, e))?;
        staged.commit()
    }
}

/// A file that has no final name yet.
#[derive(Debug)]
pub struct Staged {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
    _watched: Watched,
}

impl Staged {
    /// Gives the file its name, after its content is on the disk.
    pub fn commit(self) -> Result<(), CacheError> {
        let Self { temporary, path, .. } = self;
        temporary
            .as_file()
            .sync_data()
            .map_err(|e| CacheError::io("sync", &path, e))?;
        temporary
            .persist(&path)
            .map_err(|e| CacheError::io("rename to", &path, e.error))?;
        Ok(())
    }

    /// As [`Staged::commit`] without waiting for the disk: for what can be made again and is checked when read.
    pub fn commit_unsynced(self) -> Result<(), CacheError> {
        self.temporary
            .persist(&self.path)
            .map_err(|e| CacheError::io("rename to", &self.path, e.error))?;
        Ok(())
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

/// Sets the file's modification time to now; that this fails (a read-only cache) does no harm.
pub(crate) fn touch(path: &Path) {
    if let Ok(file) = OpenOptions::new().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

pub(super) fn open_lock(path: &Path) -> Result<File, CacheError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| CacheError::io("open", path, e))
}

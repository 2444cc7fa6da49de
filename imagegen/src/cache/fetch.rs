//! Fetching many blobs: in parallel, resumable, retried, and never trusted before the digest is right.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::{Cache, CacheError, Digest, Transport, TransportError};
use crate::progress::{Progress, Stage};

/// A blob that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// What people call it: `mariadb-server 1:11.8.2-1`.
    pub label: String,
    /// Where it is, best first; the next one is tried where one does not have it.
    pub urls: Vec<String>,
    /// Its digest.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Downloads at a time.
    pub threads: usize,
    /// Further attempts at one blob after a transient failure.
    pub retries: u32,
    /// The wait before the first further attempt; doubled each time.
    pub back_off: Duration,
    /// Fetch nothing: what is not in the cache is missing.
    pub offline: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            threads: 5,
            retries: 4,
            back_off: Duration::from_millis(500),
            offline: false,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FetchReport {
    /// Blobs that were in the cache already.
    pub cached: usize,
    /// Blobs that were fetched.
    pub fetched: usize,
    /// Bytes that came over the wire.
    pub received: u64,
}

/// Why fetching failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Offline, and the cache does not have everything.
    #[error("offline, and the cache lacks {count} of the files needed:\n{list}\nRun once without --offline to fetch them", count = .missing.len(), list = list(.missing))]
    Offline {
        /// What is missing.
        missing: Vec<Missing>,
    },
    /// The archive no longer carries what the lock names.
    #[error("the archive no longer carries:\n{list}\nThey were replaced by newer versions: run `imagegen lock` to take those", list = list(.gone))]
    Gone {
        /// What it no longer has.
        gone: Vec<Missing>,
    },
    /// A download has other bytes than promised, also when fetched afresh.
    #[error(
        "{label} from {url}: {what}; the mirror or something on the way to it changes files. Nothing was kept; try another mirror (IMAGEGEN_MIRROR)"
    )]
    Mismatch {
        /// What was fetched.
        label: String,
        /// From where.
        url: String,
        /// Digest or size, found and expected.
        what: String,
    },
    /// The request failed, also when repeated.
    #[error(
        "cannot fetch {label}: {source}; check the network and the mirror (IMAGEGEN_MIRROR), then start again: what has arrived is kept"
    )]
    Transport {
        /// What was to be fetched.
        label: String,
        /// Why not.
        source: TransportError,
    },
    /// The cache itself failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl FetchError {
    /// Whether every other download must be expected to fail in the same way.
    fn hits_all(&self) -> bool {
        matches!(
            self,
            Self::Cache(_)
                | Self::Transport {
                    source: TransportError::Unreachable { .. },
                    ..
                }
        )
    }
}

/// A file that is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What people call it.
    pub label: String,
    /// Its digest.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl From<&Want> for Missing {
    fn from(want: &Want) -> Self {
        Self {
            label: want.label.clone(),
            sha256: want.sha256,
            size: want.size,
        }
    }
}

fn list(missing: &[Missing]) -> String {
    let mut text: String = missing
        .iter()
        .take(20)
        .map(|m| format!("  {} ({} bytes)\n", m.label, m.size))
        .collect();
    if missing.len() > 20 {
        text.push_str(&format!("  and {} more\n", missing.len() - 20));
    }
    text.trim_end().to_owned()
}

/// Brings every wanted blob into the cache.
///
/// All of them are tried even if one fails, so that the error names every package that the archive no longer carries and the
/// caller can offer a new lock. Two failures end it at once, since the others would only meet the same: a full disk, and a
/// mirror that cannot be reached.
pub fn fetch_all(
    cache: &Cache,
    transport: &Transport,
    wants: &[Want],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<FetchReport, FetchError> {
    let _in_use = cache.in_use()?;
    let mut seen = std::collections::HashSet::new();
    let mut todo: Vec<&Want> = wants.iter().filter(|want| seen.insert(want.sha256)).collect();
    let all = todo.len();
    todo.retain(|want| cache.blob(&want.sha256, want.size).is_none());
    let mut report = FetchReport {
        cached: all - todo.len(),
        ..FetchReport::default()
    };
    if todo.is_empty() {
        return Ok(report);
    }
    if options.offline {
        return Err(FetchError::Offline {
            missing: todo.into_iter().map(Missing::from).collect(),
        });
    }
    todo.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.label.cmp(&b.label)));
    progress.start(Stage::Download, todo.iter().map(|want| want.size).sum());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.clamp(1, todo.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(want) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        break;
                    };
                    let result = fetch_one(cache, transport, want, options, &stop, progress);
                    if result.as_ref().is_err_and(FetchError::hits_all) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(|e| e.into_inner()).push((*want, result));
                }
            });
        }
    });
    progress.finish(Stage::Download);
    let mut gone = Vec::new();
    let mut first = None;
    for (want, result) in results.into_inner().unwrap_or_else(|e| e.into_inner()) {
        match result {
            Ok(received) => {
                report.fetched += 1;
                report.received += received;
            }
            Err(FetchError::Transport {
                source: TransportError::NotFound { .. },
                ..
            }) => gone.push(want.into()),
            // A full disk explains the others; show it before them.
            Err(error @ FetchError::Cache(_)) => first = Some(error),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error),
        None if gone.is_empty() => Ok(report),
        None => {
            gone.sort_by(|a: &Missing, b| a.label.cmp(&b.label));
            Err(FetchError::Gone { gone })
        }
    }
}

fn fetch_one(
    cache: &Cache,
    transport: &Transport,
    want: &Want,
    options: &FetchOptions,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<u64, FetchError> {
    let Some(mut partial) = Partial::open(cache, want)? else {
        progress.advance(Stage::Download, want.size);
        return Ok(0);
    };
    progress.advance(Stage::Download, partial.length);
    let (mut received, mut failures, mut source) = (0, 0, 0);
    loop {
        let url = want.urls.get(source).cloned().unwrap_or_default();
        let resumed = partial.length > 0;
        match attempt(transport, &url, want, &mut partial, &mut received, progress) {
            Ok(()) => {}
            Err(Failed::Transport(TransportError::NotFound { .. })) if source + 1 < want.urls.len() => {
                source += 1;
                continue;
            }
            Err(Failed::Transport(error))
                if error.is_transient() && failures < options.retries && !stop.load(Ordering::Relaxed) =>
            {
                std::thread::sleep(options.back_off * 2u32.saturating_pow(failures.min(8)));
                failures += 1;
                continue;
            }
            Err(Failed::Transport(source)) => {
                return Err(FetchError::Transport {
                    label: want.label.clone(),
                    source,
                });
            }
            Err(Failed::Cache(error)) => return Err(error.into()),
        }
        let found = partial.digest();
        let what = if partial.length != want.size {
            format!("{} bytes came, {} are right", partial.length, want.size)
        } else if found != want.sha256 {
            format!("its SHA-256 is {found}, {} is right", want.sha256)
        } else {
            partial.commit(cache, want)?;
            return Ok(received);
        };
        partial.restart()?;
        // What an earlier run left may be to blame: once more from the start.
        if !resumed {
            let _ = fs::remove_file(&partial.path);
            return Err(FetchError::Mismatch {
                label: want.label.clone(),
                url,
                what,
            });
        }
    }
}

enum Failed {
    Transport(TransportError),
    Cache(CacheError),
}

/// One request, appended to the partial file.
fn attempt(
    transport: &Transport,
    url: &str,
    want: &Want,
    partial: &mut Partial,
    received: &mut u64,
    progress: &dyn Progress,
) -> Result<(), Failed> {
    if partial.length == want.size {
        return Ok(());
    }
    let body = transport.open(url, partial.length).map_err(Failed::Transport)?;
    if body.start != partial.length {
        partial.restart().map_err(Failed::Cache)?;
    }
    // One byte more than promised is enough to know that it is wrong.
    let mut reader = body.reader.take(want.size.saturating_sub(partial.length) + 1);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = reader.read(&mut buffer).map_err(|e| {
            Failed::Transport(TransportError::Unreachable {
                url: url.into(),
                reason: e.to_string(),
            })
        })?;
        if count == 0 {
            break;
        }
        partial.append(&buffer[..count]).map_err(Failed::Cache)?;
        *received += count as u64;
        progress.advance(Stage::Download, count as u64);
    }
    if partial.length < want.size {
        let reason = format!("the transfer ended after {} of {} bytes", partial.length, want.size);
        return Err(Failed::Transport(TransportError::Unreachable {
            url: url.into(),
            reason,
        }));
    }
    Ok(())
}

/// A download under way, locked against other processes.
struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Sha256,
}

impl Partial {
    /// Opens and locks the partial file, and hashes what an earlier run left. None when another process has meanwhile
    /// brought the blob.
    fn open(cache: &Cache, want: &Want) -> Result<Option<Self>, CacheError> {
        let path = cache.partial_path(&want.sha256);
        loop {
            let io = |doing| {
                let path = path.clone();
                move |e| CacheError::io(doing, &path, e)
            };
            let file = OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(&path)
                .map_err(io("open"))?;
            flock(&file, FlockOperation::LockExclusive).map_err(|e| io("lock")(e.into()))?;
            if cache.blob(&want.sha256, want.size).is_some() {
                remove_if_same(&path, &file);
                return Ok(None);
            }
            // Another process may have renamed or removed the file that we waited for.
            let ours = file.metadata().map_err(io("read"))?;
            match fs::metadata(&path) {
                Ok(now) if now.ino() == ours.ino() && now.dev() == ours.dev() => {}
                _ => continue,
            }
            let mut partial = Self {
                path: path.clone(),
                file,
                length: 0,
                hasher: Sha256::new(),
            };
            if ours.len() > want.size {
                partial.restart()?;
                return Ok(Some(partial));
            }
            let mut reader = File::open(&path).map_err(io("open"))?;
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let count = reader.read(&mut buffer).map_err(io("read"))?;
                if count == 0 {
                    return Ok(Some(partial));
                }
                partial.hasher.update(&buffer[..count]);
                partial.length += count as u64;
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        if let Err(error) = self.file.write_all(bytes) {
            // A write may have gone in half way: what stays must be what was hashed.
            let _ = self.file.set_len(self.length);
            return Err(CacheError::io("write", &self.path, error));
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        self.file
            .set_len(0)
            .map_err(|e| CacheError::io("truncate", &self.path, e))?;
        self.length = 0;
        self.hasher = Sha256::new();
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::finish(self.hasher.clone())
    }

    fn commit(self, cache: &Cache, want: &Want) -> Result<(), CacheError> {
        let path = cache.blob_path(&want.sha256);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| CacheError::io("create", folder, e))?;
        }
        self.file
            .sync_data()
            .map_err(|e| CacheError::io("sync", &self.path, e))?;
        fs::rename(&self.path, &path).map_err(|e| CacheError::io("rename to", &path, e))
    }
}

fn remove_if_same(path: &std::path::Path, file: &File) {
    if let (Ok(now), Ok(ours)) = (fs::metadata(path), file.metadata())
        && now.ino() == ours.ino()
    {
        let _ = fs::remove_file(path);
    }
}

//! Unpacking: the package file is hashed whole, then its tar is decompressed once; the same bytes go to the cache, to the
//! tar reader and to the digest of the file that they belong to.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::index::{FORMAT, index_path, load, tar_path, this_boot, to_bytes};
use super::{Control, DebError, Entry, Index, Kind, Unpacked, ar};
use crate::cache::{Cache, CacheError, Digest, Staged};
use crate::progress::{Progress, Stage};

/// A package to unpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What people call it.
    pub label: String,
    /// Digest of the package file, which must be in the cache.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl From<&crate::resolve::LockedPackage> for Job {
    fn from(package: &crate::resolve::LockedPackage) -> Self {
        Self {
            label: format!("{} {}", package.name, package.version),
            sha256: package.sha256,
            size: package.size,
        }
    }
}

/// Unpacks what the cache does not have unpacked yet, `threads` packages at a time, the largest first. The result has the
/// order of `jobs`.
pub fn unpack_all(
    cache: &Cache,
    jobs: &[Job],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Unpacked>, DebError> {
    let _in_use = cache.in_use()?;
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(jobs[*i].size));
    progress.start(Stage::Unpack, jobs.iter().map(|job| job.size).sum());
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Unpacked, DebError>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some(i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = unpack(cache, &jobs[*i]);
                    if result.is_err() {
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                    *results[*i].lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
                    progress.advance(Stage::Unpack, jobs[*i].size);
                }
            });
        }
    });
    progress.finish(Stage::Unpack);
    let mut all = Vec::with_capacity(jobs.len());
    let mut skipped = false;
    for result in results {
        match result.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(result) => all.push(result?),
            None => skipped = true,
        }
    }
    debug_assert!(
        !skipped,
        "jobs are only left out after an error, which was returned above"
    );
    Ok(all)
}

fn unpack(cache: &Cache, job: &Job) -> Result<Unpacked, DebError> {
    if let Some(done) = load(cache, &job.sha256) {
        return Ok(done);
    }
    let absent = || DebError::Absent {
        label: job.label.clone(),
        sha256: job.sha256,
    };
    let path = cache.blob(&job.sha256, job.size).ok_or_else(absent)?;
    let deb = std::fs::read(&path).map_err(|e| CacheError::io("read", &path, e))?;
    let found = Digest::of(&deb);
    if found != job.sha256 {
        return Err(DebError::Damaged {
            label: job.label.clone(),
            path,
            found,
        });
    }
    let malformed = |reason: String| DebError::Malformed {
        label: job.label.clone(),
        reason,
    };
    let members = ar::members(&deb).map_err(malformed)?;
    let control = Control::read(decompress(members.control).map_err(malformed)?).map_err(malformed)?;
    let tar = tar_path(cache, &job.sha256);
    let out = BufWriter::with_capacity(1 << 20, cache.stage(&tar)?);
    let mut tee = Tee {
        reader: decompress(members.data).map_err(malformed)?,
        out,
        length: 0,
        zeros: 0,
        failed: None,
    };
    let read = read_entries(&mut tee);
    if let Some(error) = tee.failed.take() {
        return Err(CacheError::io("write", &tar, error).into());
    }
    let entries = read.map_err(malformed)?;
    let staged = tee
        .out
        .into_inner()
        .map_err(|e| CacheError::io("write", &tar, e.into_error()))?;
    // Not synced: after another boot `load` compares every file with its digest in the index first, and what a power cut
    // damaged is unpacked again from the package.
    staged.commit_unsynced()?;
    let index = Index {
        format: FORMAT,
        control,
        entries,
    };
    let bytes = to_bytes(&index, this_boot().as_deref()).map_err(malformed)?;
    let idx = index_path(cache, &job.sha256);
    let mut staged = cache.stage(&idx)?;
    staged.write_all(&bytes).map_err(|e| CacheError::io("write", &idx, e))?;
    staged.commit_unsynced()?;
    Ok(Unpacked {
        sha256: job.sha256,
        tar,
        index,
    })
}

fn decompress<'a>((name, bytes): (&str, &'a [u8])) -> Result<Box<dyn Read + 'a>, String> {
    match name.rsplit('.').next() {
        Some("xz") => Ok(Box::new(liblzma::read::XzDecoder::new(bytes))),
        Some("gz") => Ok(Box::new(flate2::read::GzDecoder::new(bytes))),
        Some("zst") => Ok(Box::new(
            zstd::stream::read::Decoder::new(bytes).map_err(|e| format!("{name}: {e}"))?,
        )),
        Some("tar") => Ok(Box::new(bytes)),
        _ => Err(format!("the compression of {name} is not known")),
    }
}

/// Hands on what it reads, and writes it to the cache.
struct Tee<'a> {
    reader: Box<dyn Read + 'a>,
    out: BufWriter<Staged>,
    length: u64,
    /// Zero bytes at the end of what was read.
    zeros: u64,
    failed: Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let bytes = &buffer[..count];
        if let Err(error) = self.out.write_all(bytes) {
            self.failed = Some(error);
            return Err(io::Error::other("the copy cannot be written"));
        }
        self.length += count as u64;
        match bytes.iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (count - 1 - last) as u64,
            None => self.zeros += count as u64,
        }
        Ok(count)
    }
}

fn read_entries(tee: &mut Tee<'_>) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Option<Entry>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut archive = tar::Archive::new(&mut *tee);
    for entry in archive.entries().map_err(|e| format!("data.tar: {e}"))? {
        let mut entry = entry.map_err(|e| format!("data.tar: {e}"))?;
        let entry = read_entry(&mut entry, &mut buffer)?;
        if let Kind::Hardlink(target) = &entry.kind {
            let at = places.get(target).and_then(|i| entries[*i].as_ref());
            if !at.is_some_and(|at| matches!(at.kind, Kind::File { .. })) {
                return Err(format!(
                    "{} is a hard link to {target}, which is no earlier file",
                    entry.path
                ));
            }
        }
        // As with dpkg the last entry of a path holds.
        if let Some(old) = places.get(&entry.path).copied() {
            let was_dir = entries[old].as_ref().is_some_and(|old| old.kind == Kind::Dir);
            if was_dir != (entry.kind == Kind::Dir) {
                return Err(format!("{} is both a folder and not one", entry.path));
            }
            let linked = entries
                .iter()
                .flatten()
                .any(|other| matches!(&other.kind, Kind::Hardlink(target) if *target == entry.path));
            if linked {
                return Err(format!("{} comes twice, with a hard link to the first", entry.path));
            }
            if was_dir {
                entries[old] = Some(entry);
                continue;
            }
            entries[old] = None;
        }
        places.insert(entry.path.clone(), entries.len());
        entries.push(Some(entry));
    }
    while tee.read(&mut buffer).map_err(|e| format!("data.tar: {e}"))? > 0 {}
    // The end mark of a tar is two blocks of zeros; without it the tar was cut off between two entries.
    if tee.zeros < 1024 || !tee.length.is_multiple_of(512) {
        return Err("data.tar is cut off".into());
    }
    Ok(entries.into_iter().flatten().collect())
}

fn read_entry<R: Read>(entry: &mut tar::Entry<'_, R>, buffer: &mut [u8]) -> Result<Entry, String> {
    let path = normalise(&text(&entry.path_bytes(), "path")?)?;
    let fault = |what: &str, e: io::Error| format!("{path}: {what}: {e}");
    let kind = entry.header().entry_type();
    let target = |entry: &tar::Entry<'_, R>| match entry.link_name_bytes() {
        Some(target) => text(&target, "link target"),
        None => Err(format!("{path}: a link without target")),
    };
    let device = |entry: &tar::Entry<'_, R>| {
        let part = |number: io::Result<Option<u32>>| {
            number
                .map_err(|e| fault("device number", e))
                .map(Option::unwrap_or_default)
        };
        Ok::<_, String>((
            part(entry.header().device_major())?,
            part(entry.header().device_minor())?,
        ))
    };
    let kind = match kind {
        EntryType::Regular | EntryType::Continuous => {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let mut hasher = Sha256::new();
            let mut length = 0;
            loop {
                let count = entry.read(buffer).map_err(|e| fault("content", e))?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            if length != size {
                return Err(format!("{path}: data.tar is cut off after {length} of {size} bytes"));
            }
            Kind::File {
                offset,
                size,
                sha256: Digest::finish(hasher),
            }
        }
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink(target(entry)?),
        EntryType::Link => Kind::Hardlink(normalise(&target(entry)?)?),
        EntryType::Char => device(entry).map(|(major, minor)| Kind::Char(major, minor))?,
        EntryType::Block => device(entry).map(|(major, minor)| Kind::Block(major, minor))?,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(format!(
                "{path}: tar entries of type {other:?} are not known in packages"
            ));
        }
    };
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions().map_err(|e| fault("extended header", e))? {
        for extension in extensions {
            let extension = extension.map_err(|e| fault("extended header", e))?;
            if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
                xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let id = |number: io::Result<u64>, what: &str| {
        let number = number.map_err(|e| fault(what, e))?;
        u32::try_from(number).map_err(|_| format!("{path}: {what} {number} is too large"))
    };
    let name = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Ok(Entry {
        kind,
        mode: header.mode().map_err(|e| fault("mode", e))? & 0o7777,
        uid: id(header.uid(), "owner")?,
        gid: id(header.gid(), "group")?,
        user: name(header.username_bytes()),
        group: name(header.groupname_bytes()),
        mtime: header.mtime().map_err(|e| fault("time", e))?,
        xattrs,
        path,
    })
}

fn text(bytes: &[u8], what: &str) -> Result<String, String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| format!("a {what} is not UTF-8: {:?}", String::from_utf8_lossy(bytes)))
}

/// Without `.` and slashes at the ends; an entry that would leave the root is refused.
fn normalise(path: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("the path {path:?} leaves the package's root")),
            part if part.contains('\0') => return Err(format!("the path {path:?} has a zero byte")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

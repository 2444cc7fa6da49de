//! Where a release is read from: a web server, a folder, or a bundle. All give the same files by the same names, and none is believed:
//! metadata is signed, targets are hashed by metadata, chunks by the index.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bundle::Bundle;
use crate::error::Error;
use crate::pace::{Clock, Patience, RealClock, Watched};

/// A file that is being read.
pub type Stream = Box<dyn Read + Send>;

/// Where files are read from.
pub trait Source: Send + Sync {
    /// Opens a file by its name below the repository; with a range only so many bytes from there.
    ///
    /// # Errors
    /// It is absent or out of reach.
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error>;

    /// Whether a range costs no more than its own bytes. Known once a range was opened; until then it is hoped.
    fn has_ranges(&self) -> bool {
        true
    }
}

/// Opens what the owner named: `http://` or `https://` is a repository, a folder one too, a file a bundle.
///
/// # Errors
/// There is nothing like that.
pub fn open(from: &str) -> Result<Arc<dyn Source>, Error> {
    if is_address(from) {
        return Ok(Arc::new(Http::new(from)));
    }
    let path = Path::new(from);
    let found = std::fs::metadata(path).map_err(Error::io("read", path))?;
    Ok(match found.is_dir() {
        true => Arc::new(Folder(path.to_owned())),
        false => Arc::new(Bundle::open(path)?),
    })
}

/// Whether this names a repository on the network, not something that was brought.
pub fn is_address(from: &str) -> bool {
    from.starts_with("https://") || from.starts_with("http://")
}

fn failed(name: &str, why: impl ToString, absent: bool) -> Error {
    Error::Fetch {
        name: name.to_owned(),
        why: why.to_string(),
        absent,
    }
}

/// A name that stays below the repository.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.~^+".contains(&b))
    };
    match name.split('/').all(part) {
        true => Ok(()),
        false => Err(failed(name, "the name is not one of a repository's files", false)),
    }
}

/// A repository in a folder.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Source for Folder {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        check_name(name)?;
        let file = File::open(self.0.join(name));
        let file = file.map_err(|e| failed(name, &e, e.kind() == io::ErrorKind::NotFound))?;
        let length = file.metadata().map_err(|e| failed(name, e, false))?.len();
        Ok(Box::new(Piece::new(Arc::new(file), length, range)))
    }
}

/// A stretch of a file, read by position.
pub(crate) struct Piece {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Piece {
    /// `range` of the first `length` bytes.
    pub(crate) fn new(file: Arc<File>, length: u64, range: Option<(u64, u64)>) -> Self {
        Self::within(file, 0, length, range)
    }

    /// `range` of the `length` bytes from `start` on.
    pub(crate) fn within(file: Arc<File>, start: u64, length: u64, range: Option<(u64, u64)>) -> Self {
        let (from, wanted) = range.unwrap_or((0, length));
        let from = from.min(length);
        Self {
            file,
            at: start + from,
            end: start + from.saturating_add(wanted).min(length),
        }
    }
}

impl Read for Piece {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let read = self.file.read_at(&mut into[..room], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A repository on a web server. Any that serves files does; one that knows no ranges costs more.
pub struct Http {
    base: String,
    agent: ureq::Agent,
    clock: Arc<dyn Clock>,
    patience: Patience,
    /// Whether it has given a whole file to who asked for a range.
    whole: AtomicBool,
}

impl Http {
    /// That below this address.
    pub fn new(base: &str) -> Self {
        Self::patient(base, Patience::default())
    }

    /// That below this address, given up when it is slower than this.
    pub fn patient(base: &str, patience: Patience) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .user_agent("cairn-upgrade")
            .max_redirects(4)
            .build();
        Self {
            base: base.trim_end_matches('/').to_owned(),
            agent: config.into(),
            clock: Arc::new(RealClock::default()),
            patience,
            whole: AtomicBool::new(false),
        }
    }
}

impl Source for Http {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        check_name(name)?;
        let mut request = self.agent.get(format!("{}/{name}", self.base));
        if let Some((from, length)) = range.filter(|(_, length)| *length > 0) {
            request = request.header("Range", format!("bytes={from}-{}", from + length - 1));
        }
        let answer = request.call().map_err(|e| {
            // Stores that show no lists answer 403 for what they do not have.
            let absent = matches!(e, ureq::Error::StatusCode(403 | 404 | 410));
            failed(name, e, absent)
        })?;
        let partial = answer.status().as_u16() == 206;
        let body = Watched::new(answer.into_body().into_reader(), self.clock.clone(), self.patience);
        let Some((from, length)) = range else {
            return Ok(Box::new(body));
        };
        if partial {
            return Ok(Box::new(body.take(length)));
        }
        self.whole.store(true, Ordering::Relaxed);
        Ok(Box::new(Late { body, skip: from }.take(length)))
    }

    fn has_ranges(&self) -> bool {
        !self.whole.load(Ordering::Relaxed)
    }
}

/// A stream without its beginning, which is not read before somebody reads the rest: who finds out that a server knows no ranges may not want it.
struct Late<R> {
    body: R,
    skip: u64,
}

impl<R: Read> Read for Late<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.skip > 0 {
            let skipped = io::copy(&mut (&mut self.body).take(self.skip), &mut io::sink())?;
            if skipped == 0 {
                return Err(io::Error::other("it is shorter than the release says"));
            }
            self.skip -= skipped;
        }
        self.body.read(into)
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_all(source: &dyn Source, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let stream = source.open(name, None)?;
    stream
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(name, e, false))?;
    match bytes.len() as u64 > limit {
        true => Err(failed(name, format!("it is longer than {limit} bytes"), false)),
        false => Ok(bytes),
    }
}

/// Reads exactly this stretch of a file.
///
/// # Errors
/// It cannot be read, or ends before.
pub fn read_range(source: &dyn Source, name: &str, from: u64, length: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Error::Index("length of a range"))?];
    let mut stream = source.open(name, Some((from, length)))?;
    stream.read_exact(&mut bytes).map_err(|e| failed(name, e, false))?;
    Ok(bytes)
}

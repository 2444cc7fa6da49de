//! From a mirror to verified package lists, through the cache.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::{ArchiveError, Area, Keyring, Listed, Mirror, Release, Suite};
use crate::cache::{Cache, CacheError, Digest, FetchError, FetchOptions, Transport, TransportError, Want, fetch_all};
use crate::progress::Progress;

/// No `InRelease` is larger than this; Debian's have some 150 kB.
const INRELEASE_LIMIT: u64 = 8 << 20;

/// What to do with an index whose validity is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Refuse it: the mirror may hide security fixes.
    #[default]
    Enforce,
    /// Take it all the same: for frozen mirrors, at the caller's risk.
    UnsafeIgnore,
}

/// The verified package list of one suite for one architecture.
#[derive(Debug, Clone)]
pub struct SuiteIndex {
    /// The suite's name.
    pub name: String,
    /// The archive that it is in.
    pub area: Area,
    /// `Date` of its `InRelease`.
    pub date: String,
    /// Digest of its `InRelease`.
    pub inrelease: Digest,
    /// The text of `main/binary-ARCH/Packages`.
    pub packages: String,
}

/// A mirror with what it takes to believe it.
#[derive(Debug)]
pub struct Archive<'a> {
    /// Where to ask.
    pub mirror: &'a Mirror,
    /// Whom to believe.
    pub keyring: &'a Keyring,
    /// Where to keep.
    pub cache: &'a Cache,
    /// How to ask.
    pub transport: &'a Transport,
    /// How to fetch; `offline` takes the indexes from the cache.
    pub options: &'a FetchOptions,
    /// The time to judge validity by.
    pub now: SystemTime,
    /// What to do with an expired index.
    pub expiry: Expiry,
}

impl Archive<'_> {
    /// The package lists of `suites` for `arch` (a Debian architecture name), in the order of `suites`.
    pub fn indexes(
        &self,
        suites: &[Suite],
        arch: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<SuiteIndex>, ArchiveError> {
        let _in_use = self.cache.in_use()?;
        std::thread::scope(|scope| {
            let running: Vec<_> = suites
                .iter()
                .map(|suite| scope.spawn(move || self.index(suite, arch, progress)))
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn index(&self, suite: &Suite, arch: &str, progress: &dyn Progress) -> Result<SuiteIndex, ArchiveError> {
        let (bytes, release, fresh) = self.release(suite)?;
        let origin = self.origin(suite);
        release.check_arch(arch).map_err(|source| ArchiveError::Release {
            suite: suite.name.clone(),
            origin,
            source,
        })?;
        let packages = self.packages(suite, arch, &release, progress)?;
        if fresh {
            self.cache.write(&self.kept(suite), &bytes)?;
        }
        let inrelease = Digest::of(&bytes);
        Ok(SuiteIndex {
            name: suite.name.clone(),
            area: suite.area,
            date: release.date,
            inrelease,
            packages,
        })
    }

    /// The newest `InRelease` that is to be believed, and whether it is not the one in the cache.
    fn release(&self, suite: &Suite) -> Result<(Vec<u8>, Release, bool), ArchiveError> {
        let path = self.kept(suite);
        let kept = match fs::read(&path) {
            Ok(bytes) => self
                .check(suite, &bytes, &path.display().to_string())
                .map(|release| (bytes, release)),
            Err(_) => Err(ArchiveError::Offline {
                suite: suite.name.clone(),
                what: "InRelease".into(),
            }),
        };
        if self.options.offline {
            return kept.map(|(bytes, release)| (bytes, release, false));
        }
        let url = self.origin(suite);
        let bytes = self.read_with_retries(&url).map_err(|source| match source {
            TransportError::NotFound { .. } => ArchiveError::NoSuite {
                suite: suite.name.clone(),
                source,
            },
            source => ArchiveError::Unreachable { source },
        })?;
        let release = self.check(suite, &bytes, &url)?;
        match kept {
            // A mirror that lags (or is made to) does not take us back.
            Ok((old, older)) if older.made > release.made => Ok((old, older, false)),
            _ => Ok((bytes, release, true)),
        }
    }

    fn read_with_retries(&self, url: &str) -> Result<Vec<u8>, TransportError> {
        let mut failures = 0;
        loop {
            match self.transport.read(url, INRELEASE_LIMIT) {
                Err(error) if error.is_transient() && failures < self.options.retries => {
                    std::thread::sleep(self.options.back_off * 2u32.saturating_pow(failures.min(8)));
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    fn check(&self, suite: &Suite, bytes: &[u8], origin: &str) -> Result<Release, ArchiveError> {
        let name = || (suite.name.clone(), origin.to_owned());
        let text = self.keyring.verify(bytes, self.now).map_err(|source| {
            let (suite, origin) = name();
            ArchiveError::Signature { suite, origin, source }
        })?;
        Release::parse(&text, suite, self.now, self.expiry).map_err(|source| {
            let (suite, origin) = name();
            ArchiveError::Release { suite, origin, source }
        })
    }

    fn packages(
        &self,
        suite: &Suite,
        arch: &str,
        release: &Release,
        progress: &dyn Progress,
    ) -> Result<String, ArchiveError> {
        let plain_path = format!("main/binary-{arch}/Packages");
        let no_list = || ArchiveError::Unpack {
            suite: suite.name.clone(),
            reason: format!("it lists no {plain_path}"),
        };
        let plain = release.file(&plain_path).ok_or_else(no_list)?;
        let kept = self.cache.indexes().join("sha256").join(plain.sha256.to_string());
        // Suites may have the same list, and other processes may want it too: one fetches, unpacks and removes the packed
        // form, the others find it done.
        let _alone = self.cache.alone(&plain.sha256.to_string())?;
        if let Some(text) = read_verified(&kept, plain) {
            crate::cache::touch(&kept);
            return Ok(text);
        }
        if self.options.offline {
            return Err(ArchiveError::Offline {
                suite: suite.name.clone(),
                what: plain_path,
            });
        }
        let forms = [("xz", ".xz"), ("gz", ".gz"), ("plain", "")];
        let found = forms.iter().find_map(|(form, ending)| {
            let path = format!("{plain_path}{ending}");
            release.file(&path).map(|listed| (*form, path, listed))
        });
        let (form, path, listed) = found.ok_or_else(no_list)?;
        let dists = format!("{}/dists/{}", self.mirror.base(suite.area), suite.name);
        let mut urls = vec![format!("{dists}/{path}")];
        if release.by_hash {
            // By its digest the file stays the same one while the mirror is being updated.
            urls.insert(
                0,
                format!("{dists}/main/binary-{arch}/by-hash/SHA256/{}", listed.sha256),
            );
        }
        let label = format!("{} {path}", suite.name);
        let want = Want {
            label,
            urls,
            sha256: listed.sha256,
            size: listed.size,
        };
        let fetch = |source: FetchError| ArchiveError::Fetch {
            suite: suite.name.clone(),
            source,
        };
        fetch_all(self.cache, self.transport, &[want], self.options, progress).map_err(fetch)?;
        let blob = self.cache.blob_path(&listed.sha256);
        let unpacked = unpack(form, &blob, plain).map_err(|reason| ArchiveError::Unpack {
            suite: suite.name.clone(),
            reason,
        })?;
        let mut staged = self.cache.stage(&kept)?;
        staged
            .write_all(unpacked.as_bytes())
            .map_err(|e| CacheError::io("write", &kept, e))?;
        staged.commit_unsynced()?;
        // The packed form has served its purpose.
        let _ = fs::remove_file(&blob);
        Ok(unpacked)
    }

    fn origin(&self, suite: &Suite) -> String {
        format!("{}/dists/{}/InRelease", self.mirror.base(suite.area), suite.name)
    }

    fn kept(&self, suite: &Suite) -> PathBuf {
        self.cache.indexes().join(format!("{}.InRelease", suite.name))
    }
}

/// The list in the cache, if its bytes are still the signed ones.
fn read_verified(path: &std::path::Path, listed: Listed) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    if bytes.len() as u64 != listed.size || Digest::of(&bytes) != listed.sha256 {
        return None;
    }
    String::from_utf8(bytes).ok()
}

fn unpack(form: &str, blob: &std::path::Path, plain: Listed) -> Result<String, String> {
    let file = fs::File::open(blob).map_err(|e| e.to_string())?;
    let reader: Box<dyn Read> = match form {
        "xz" => Box::new(liblzma::read::XzDecoder::new(file)),
        "gz" => Box::new(flate2::read::GzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut reader = reader.take(plain.size + 1);
    let mut bytes = Vec::with_capacity(usize::try_from(plain.size).unwrap_or(0).min(1 << 30));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = reader.read(&mut buffer).map_err(|e| e.to_string())?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        bytes.extend_from_slice(&buffer[..count]);
    }
    if bytes.len() as u64 != plain.size {
        return Err(format!("{} bytes instead of {}", bytes.len(), plain.size));
    }
    let found = Digest::finish(hasher);
    if found != plain.sha256 {
        return Err(format!("SHA-256 {found} instead of {}", plain.sha256));
    }
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

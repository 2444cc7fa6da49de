//! The lock file `NAME.ARCH.lock`: which packages, exactly, each unit of an appliance is made of.
//!
//! The same lists and the same request give the same bytes. Unknown keys are errors: a lock is never half understood.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ResolveError, Universe, resolve};
use crate::archive::{Area, Mirror, SuiteIndex};
use crate::cache::{Digest, Want};

/// The schema that this code reads and writes.
const SCHEMA: u32 = 1;

/// What is to be locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Debian's name of the architecture.
    pub arch: String,
    /// The packages named by each unit, and by `host` and `tools`.
    pub units: BTreeMap<String, Vec<String>>,
}

impl Request {
    /// A digest of the whole request; a lock holds the one it was made from.
    pub fn digest(&self) -> Digest {
        let mut text = format!("schema {SCHEMA}\narch {}\n", self.arch);
        for (unit, names) in &self.units {
            text.push_str(&format!("unit {unit}\n"));
            for name in names {
                text.push_str(&format!("  {name}\n"));
            }
        }
        Digest::of(text.as_bytes())
    }
}

/// A suite that was locked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSuite {
    /// Its name.
    pub name: String,
    /// Its archive.
    pub area: Area,
    /// `Date` of its `InRelease`.
    pub date: String,
    /// Digest of its `InRelease`.
    pub inrelease: Digest,
}

/// A package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub arch: String,
    /// The source package that it was built from.
    pub source: String,
    /// The version of that.
    pub source_version: String,
    /// The suite that it is in.
    pub suite: String,
    /// Its path below the base of the suite's archive.
    pub filename: String,
    /// Its digest.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a unit asks for and gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedUnit {
    /// The packages that it names.
    pub named: Vec<String>,
    /// All packages of its root, sorted.
    pub closure: Vec<String>,
}

/// The numbers of a user and its group, once given never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this format.
    pub schema: u32,
    /// Debian's name of the architecture.
    pub arch: String,
    /// [`Request::digest`] of what was locked.
    pub inputs: Digest,
    /// The suites.
    #[serde(rename = "suite", default)]
    pub suites: Vec<LockedSuite>,
    /// Every package of every unit, sorted by name.
    #[serde(rename = "package", default)]
    pub packages: Vec<LockedPackage>,
    /// The units.
    #[serde(default)]
    pub units: BTreeMap<String, LockedUnit>,
    /// Numbers given to users by name; kept when the lock is refreshed.
    #[serde(default)]
    pub uids: BTreeMap<String, Ids>,
}

/// Why a lock cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// There is none.
    #[error("there is no lock {path}; make it with `imagegen lock`")]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be understood.
    #[error("the lock {path} cannot be read: {reason}\nMake it anew with `imagegen lock`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        reason: String,
    },
    /// Another version of imagegen made it.
    #[error(
        "the lock {path} has schema {found}, this imagegen knows {SCHEMA}; use the imagegen that made it, or make it anew with `imagegen lock`"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// The file could not be read or written.
    #[error("cannot {doing} the lock {path}: {source}")]
    Io {
        /// The step.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Lock {
    /// Reads and checks a lock file.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => LockError::Absent { path: path.into() },
            _ => LockError::Io {
                doing: "read",
                path: path.into(),
                source,
            },
        })?;
        Self::parse(&text, path)
    }

    /// Reads a lock from its text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let malformed = |reason: String| LockError::Malformed {
            path: path.into(),
            reason,
        };
        let schema = text
            .lines()
            .find_map(|line| line.strip_prefix("schema = ")?.trim().parse::<u32>().ok());
        if let Some(found) = schema.filter(|found| *found != SCHEMA) {
            return Err(LockError::Schema {
                path: path.into(),
                found,
            });
        }
        let lock: Self = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        let names: BTreeSet<&str> = lock.packages.iter().map(|package| package.name.as_str()).collect();
        for (unit, locked) in &lock.units {
            if let Some(name) = locked.closure.iter().find(|name| !names.contains(name.as_str())) {
                return Err(malformed(format!("unit {unit} has package {name}, which has no entry")));
            }
        }
        for package in &lock.packages {
            let inside = Path::new(&package.filename)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside || !lock.suites.iter().any(|suite| suite.name == package.suite) {
                return Err(malformed(format!(
                    "package {} has a bad filename or suite",
                    package.name
                )));
            }
        }
        Ok(lock)
    }

    /// The text of the lock file.
    pub fn to_text(&self) -> Result<String, LockError> {
        let body = toml::to_string_pretty(self).map_err(|e| LockError::Malformed {
            path: PathBuf::new(),
            reason: e.to_string(),
        })?;
        Ok(format!(
            "# Made by `imagegen lock`. Belongs under version control; not to be edited.\n{body}"
        ))
    }

    /// Writes the lock file: whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let io = |doing| {
            move |source| LockError::Io {
                doing,
                path: path.into(),
                source,
            }
        };
        let text = self.to_text()?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("create"))?;
        let _watched = crate::leftovers::watch(file.path());
        file.write_all(text.as_bytes()).map_err(io("write"))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode).map_err(io("write"))?;
        file.as_file().sync_all().map_err(io("sync"))?;
        file.persist(path).map_err(|e| io("replace")(e.error))?;
        Ok(())
    }

    /// Whether the lock was made from this request.
    pub fn is_current(&self, request: &Request) -> bool {
        self.inputs == request.digest()
    }

    /// The packages of one unit, sorted by name; none if the lock has no such unit.
    pub fn unit(&self, name: &str) -> Option<Vec<&LockedPackage>> {
        let by_name: HashMap<&str, &LockedPackage> = self
            .packages
            .iter()
            .map(|package| (package.name.as_str(), package))
            .collect();
        let unit = self.units.get(name)?;
        Some(
            unit.closure
                .iter()
                .filter_map(|name| by_name.get(name.as_str()).copied())
                .collect(),
        )
    }

    /// What to fetch for all packages, from this mirror.
    pub fn wants(&self, mirror: &Mirror) -> Vec<Want> {
        let areas: HashMap<&str, Area> = self
            .suites
            .iter()
            .map(|suite| (suite.name.as_str(), suite.area))
            .collect();
        let want = |package: &LockedPackage| {
            let area = areas.get(package.suite.as_str()).copied().unwrap_or(Area::Main);
            Want {
                label: format!("{} {}", package.name, package.version),
                urls: vec![format!("{}/{}", mirror.base(area), package.filename)],
                sha256: package.sha256,
                size: package.size,
            }
        };
        self.packages.iter().map(want).collect()
    }
}

/// Resolves every unit of the request. Numbers of users are taken over from `previous`.
pub fn lock(
    suites: &[SuiteIndex],
    universe: &Universe<'_>,
    request: &Request,
    previous: Option<&Lock>,
) -> Result<Lock, ResolveError> {
    let mut packages = BTreeMap::new();
    let mut units = BTreeMap::new();
    for (unit, named) in &request.units {
        let names: Vec<&str> = named.iter().map(String::as_str).collect();
        let mut closure = Vec::new();
        for picked in resolve(universe, &names)?.packages {
            let package = universe.get(picked.id);
            closure.push(package.name.to_owned());
            if !packages.contains_key(package.name) {
                packages.insert(package.name, locked(universe, package)?);
            }
        }
        units.insert(
            unit.clone(),
            LockedUnit {
                named: named.clone(),
                closure,
            },
        );
    }
    let suite = |index: &SuiteIndex| LockedSuite {
        name: index.name.clone(),
        area: index.area,
        date: index.date.clone(),
        inrelease: index.inrelease,
    };
    Ok(Lock {
        schema: SCHEMA,
        arch: request.arch.clone(),
        inputs: request.digest(),
        suites: suites.iter().map(suite).collect(),
        packages: packages.into_values().collect(),
        units,
        uids: previous.map(|lock| lock.uids.clone()).unwrap_or_default(),
    })
}

fn locked(universe: &Universe<'_>, package: &super::Package<'_>) -> Result<LockedPackage, ResolveError> {
    let (suite, _) = universe.suite(package.suite);
    let field = |name: &str| {
        package.stanza.field(name).ok_or_else(|| ResolveError::Malformed {
            suite: suite.into(),
            reason: format!("{} {} has no {name}", package.name, package.version),
        })
    };
    let bad = |name: &str| ResolveError::Malformed {
        suite: suite.into(),
        reason: format!("{} {} has a {name} that cannot be read", package.name, package.version),
    };
    let (source, source_version) = package.source();
    Ok(LockedPackage {
        name: package.name.into(),
        version: package.version.into(),
        arch: package.arch.into(),
        source: source.into(),
        source_version: source_version.into(),
        suite: suite.into(),
        filename: field("Filename")?.trim_start_matches("./").into(),
        sha256: field("SHA256")?.parse().map_err(|_| bad("SHA256"))?,
        size: field("Size")?.parse().map_err(|_| bad("Size"))?,
    })
}

/// One package that a new lock has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The package.
    pub name: String,
    /// Its version before; none if it was not there.
    pub old: Option<String>,
    /// Its version now; none if it is gone.
    pub new: Option<String>,
}

/// What changes from `old` to `new`, by name. A package with the same version and other bytes is a change too.
pub fn diff(old: &Lock, new: &Lock) -> Vec<Change> {
    let index = |lock: &Lock| -> BTreeMap<String, (String, Digest)> {
        lock.packages
            .iter()
            .map(|p| (p.name.clone(), (p.version.clone(), p.sha256)))
            .collect()
    };
    let (before, after) = (index(old), index(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let version = |found: Option<&(String, Digest)>| found.map(|(version, _)| version.clone());
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Change {
            name: name.clone(),
            old: version(before.get(name)),
            new: version(after.get(name)),
        })
        .collect()
}

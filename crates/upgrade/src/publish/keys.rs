//! The publisher's keys: Ed25519, one file each in PKCS#8 PEM, readable by their owner alone. A key that lies somewhere else (a token, another
//! machine) is used by carrying the files of `metadata/` to it; this module never needs more than one role's keys at a time.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use tough::key_source::KeySource;
use tough::schema::RoleType;
use tough::sign::{Sign, parse_keypair};

use crate::error::Error;

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The list of all keys. Kept offline.
    Root,
    /// What there is to install. Kept offline.
    Targets,
    /// Which metadata belongs together.
    Snapshot,
    /// That this is the newest; signed again and again.
    Timestamp,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// As files and commands name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    pub(super) fn kind(self) -> RoleType {
        match self {
            Self::Root => RoleType::Root,
            Self::Targets => RoleType::Targets,
            Self::Snapshot => RoleType::Snapshot,
            Self::Timestamp => RoleType::Timestamp,
        }
    }
}

/// The file of a role's key with this number.
pub fn key_file(folder: &Path, role: Role, number: u32) -> PathBuf {
    folder.join(format!("{}-{number}.pem", role.name()))
}

/// Makes a key. A file that is there is never replaced.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    let failed = || Error::Wrong("the system gives no random numbers".into());
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| failed())?;
    let text = pem::encode(&pem::Pem::new("PRIVATE KEY", key.as_ref()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(Error::io("make the key", path))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write the key", path))
}

/// Every key of a role in a folder, by number, with the number.
pub(super) fn of(folder: &Path, role: Role) -> Result<Vec<(u32, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix(role.name())
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".pem")?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// A key in a file.
#[derive(Debug)]
pub(super) struct PemKey(pub(super) PathBuf);

impl PemKey {
    pub(super) fn read(&self) -> Result<Box<dyn Sign>, Error> {
        let text = fs::read(&self.0).map_err(Error::io("read the key", &self.0))?;
        let wrong = |why: String| Error::Wrong(format!("{} is not a key ({why})", self.0.display()));
        let pem = pem::parse(&text).map_err(|e| wrong(e.to_string()))?;
        // Ed25519 and ECDSA are taken as PKCS#8, RSA as the PEM text.
        match parse_keypair(pem.contents()) {
            Ok(key) => Ok(Box::new(key)),
            Err(_) => Ok(Box::new(parse_keypair(&text).map_err(|e| wrong(e.to_string()))?)),
        }
    }
}

#[async_trait::async_trait]
impl KeySource for PemKey {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.read()?)
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Err("keys are written when they are made, and never again".into())
    }
}

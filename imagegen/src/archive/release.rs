//! The content of a verified `InRelease`: validity, suite, and the digests of the indexes.
//! Format: <https://wiki.debian.org/DebianRepository/Format>.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{Expiry, Suite, parse_date};
use crate::cache::Digest;

/// How far in the future an index may be dated: clocks differ, and no more.
const FUTURE: Duration = Duration::from_secs(86_400);

/// Why a genuine index is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Its validity is over.
    #[error(
        "it expired on {until}: the mirror has not been updated since {date}, or this machine's clock is wrong; take another mirror (IMAGEGEN_MIRROR)"
    )]
    Expired {
        /// When it was made.
        date: String,
        /// When it expired.
        until: String,
    },
    /// It is dated in the future.
    #[error("it is dated {date}, which lies in the future; set this machine's clock")]
    Future {
        /// When it says it was made.
        date: String,
    },
    /// It is for another suite.
    #[error(
        "it is for {found}, not for {wanted}; the mirror's folders are mixed up: take another mirror (IMAGEGEN_MIRROR)"
    )]
    OtherSuite {
        /// The suite and codename that it states.
        found: String,
        /// The suite that was asked for.
        wanted: String,
    },
    /// A field is missing or makes no sense.
    #[error("its field {field} is missing or cannot be read ({value:?})")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// It has no packages for the architecture.
    #[error("it has no package list for architecture {arch}; it has {has}")]
    NoArch {
        /// The architecture asked for.
        arch: String,
        /// The architectures that it states.
        has: String,
    },
}

/// One index file that a release lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Digest of the file.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// A release that passed all its checks.
#[derive(Debug, Clone)]
pub struct Release {
    /// `Date`, as written.
    pub date: String,
    /// `Date`, as a time.
    pub made: SystemTime,
    /// Whether the mirror also has the indexes under their digests.
    pub by_hash: bool,
    architectures: String,
    files: BTreeMap<String, Listed>,
}

impl Release {
    /// Reads and checks the text of an `InRelease` for `suite` at the time `now`.
    pub fn parse(text: &str, suite: &Suite, now: SystemTime, expiry: Expiry) -> Result<Self, ReleaseError> {
        let mut fields = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(item) = line.strip_prefix(' ') {
                if current == "SHA256" {
                    let (path, listed) = listed(item)?;
                    files.insert(path, listed);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                current = name;
                fields.insert(name, value.trim());
            }
        }
        let field = |name| fields.get(name).copied().unwrap_or_default();
        let time = |name: &'static str| {
            parse_date(field(name)).ok_or_else(|| ReleaseError::Field {
                field: name,
                value: field(name).into(),
            })
        };
        let made = time("Date")?;
        if made > now + FUTURE {
            return Err(ReleaseError::Future {
                date: field("Date").into(),
            });
        }
        if fields.contains_key("Valid-Until") && time("Valid-Until")? < now && expiry == Expiry::Enforce {
            return Err(ReleaseError::Expired {
                date: field("Date").into(),
                until: field("Valid-Until").into(),
            });
        }
        if field("Codename") != suite.name && field("Suite") != suite.name {
            let found = format!("{} ({})", field("Codename"), field("Suite"));
            return Err(ReleaseError::OtherSuite {
                found,
                wanted: suite.name.clone(),
            });
        }
        Ok(Self {
            date: field("Date").into(),
            made,
            by_hash: field("Acquire-By-Hash") == "yes",
            architectures: field("Architectures").into(),
            files,
        })
    }

    /// The index with this path below `dists/SUITE/`.
    pub fn file(&self, path: &str) -> Option<Listed> {
        self.files.get(path).copied()
    }

    /// That there are packages of `arch`.
    pub fn check_arch(&self, arch: &str) -> Result<(), ReleaseError> {
        if self.architectures.split_ascii_whitespace().any(|name| name == arch) {
            return Ok(());
        }
        Err(ReleaseError::NoArch {
            arch: arch.into(),
            has: self.architectures.clone(),
        })
    }
}

/// `DIGEST SIZE PATH`
fn listed(item: &str) -> Result<(String, Listed), ReleaseError> {
    let bad = || ReleaseError::Field {
        field: "SHA256",
        value: item.chars().take(200).collect(),
    };
    let mut parts = item.split_ascii_whitespace();
    let sha256 = parts.next().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let size = parts.next().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let path = parts.next().ok_or_else(bad)?;
    Ok((path.to_owned(), Listed { sha256, size }))
}

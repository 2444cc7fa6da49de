//! What is kept on the disk, each file written whole: an account by the authority's directory (`accounts/`), and for each certificate
//! what is known of it (`certificates/NAME.json`) and the key with the chain (`certificates/NAME.pem`).
//!
//! A file that cannot be read counts as not there, with a note: the worst that follows is one more order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_config::pki::{Imported, Names, examine};
use cairn_config::{Disk, put};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::trouble::{Kind, Trouble};

/// Only the program's own account reads a private key.
const MODE: u32 = 0o600;

/// The account at one authority.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AccountFile {
    /// The directory that it is for.
    pub(crate) directory: String,
    /// Its key, in PEM. It is here before the authority knows of it.
    pub(crate) key: String,
    /// Its address; empty until the authority gave one.
    pub(crate) id: String,
    /// What the authority was told of how to reach the owner.
    pub(crate) contact: Vec<String>,
}

/// An order that the authority has taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Its address.
    pub url: String,
    /// The directory that it is from.
    pub directory: String,
    /// Its names.
    pub names: Vec<String>,
    /// The private key that the certificate will be for, in PEM.
    pub key: String,
    /// When it was made.
    pub since: Timestamp,
}

/// The last failure, and how often in a row it failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Before when it is not tried again.
    pub retry_at: Timestamp,
    /// How often in a row.
    pub count: u32,
    /// What happened, one sentence.
    pub why: String,
    /// What kind it was.
    pub kind: Kind,
}

/// When the authority suggests to renew (RFC 9773).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The first and last moment; `None` if the authority does not say.
    pub between: Option<(Timestamp, Timestamp)>,
    /// When to ask again.
    pub ask_at: Timestamp,
}

/// What is known of one certificate, beside itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The order under way.
    pub order: Option<Pending>,
    /// Records that may stand in the zone: name and value.
    pub records: Vec<(String, String)>,
    /// When to try again to remove them.
    pub clear_at: Option<Timestamp>,
    /// The directory that the certificate came from.
    pub directory: String,
    /// When certificates were issued in the last week.
    pub issued: Vec<Timestamp>,
    /// The last failure of getting one, since one was got.
    pub failure: Option<Failure>,
    /// The names that failed.
    pub failed_names: Vec<String>,
    /// What was handed over, by its hash.
    pub delivered: String,
    /// The last failure of handing over.
    pub undelivered: Option<Failure>,
    /// When the authority suggests to renew the certificate.
    pub window: Option<Window>,
    /// The hash of one that was revoked.
    pub revoked: String,
}

/// A certificate that lies on the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// What it is.
    pub certificate: Imported,
    /// Its hash.
    pub hash: String,
}

/// Everything that is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// What is known of each certificate.
    pub kept: BTreeMap<String, Kept>,
    /// The certificates themselves; an error where a file cannot be used: why.
    pub holdings: BTreeMap<String, Result<Holding, String>>,
}

/// The folder.
#[derive(Clone)]
pub struct Store {
    folder: PathBuf,
    disk: Arc<dyn Disk + Send + Sync>,
}

pub(crate) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Names as the state has them.
pub(crate) fn texts(names: &Names) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl Store {
    /// The folder, made if it is not there.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(folder: PathBuf, disk: Arc<dyn Disk + Send + Sync>) -> Result<Store, Trouble> {
        for part in ["accounts", "certificates"] {
            let path = folder.join(part);
            let made = disk.make_folder(&path);
            made.map_err(|e| Trouble::unreachable(format!("cannot make the folder {}: {e}", path.display())))?;
        }
        Ok(Store { folder, disk })
    }

    fn account_path(&self, directory: &str) -> PathBuf {
        self.folder
            .join("accounts")
            .join(format!("{}.json", &hash(directory)[..16]))
    }

    fn path(&self, of: &str, ending: &str) -> PathBuf {
        self.folder.join("certificates").join(format!("{of}.{ending}"))
    }

    fn text(&self, path: &Path) -> Result<Option<String>, Trouble> {
        match self.disk.read(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Trouble::unreachable(format!("cannot read {}: {e}", path.display()))),
        }
    }

    fn json<T: DeserializeOwned + Default>(&self, path: &Path) -> Result<T, Trouble> {
        let text = self.text(path)?;
        Ok(text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Trouble> {
        Ok(put(&*self.disk, path, text.as_bytes(), MODE)?)
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), Trouble> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Trouble::refused(e.to_string()))?;
        self.write(path, &text)
    }

    pub(crate) fn account(&self, directory: &str) -> Result<AccountFile, Trouble> {
        let file: AccountFile = self.json(&self.account_path(directory))?;
        Ok(if file.directory == directory {
            file
        } else {
            AccountFile::default()
        })
    }

    pub(crate) fn keep_account(&self, file: &AccountFile) -> Result<(), Trouble> {
        self.write_json(&self.account_path(&file.directory), file)
    }

    /// What is known of a certificate.
    ///
    /// # Errors
    /// The disk's.
    pub fn kept(&self, of: &str) -> Result<Kept, Trouble> {
        self.json(&self.path(of, "json"))
    }

    pub(crate) fn keep(&self, of: &str, kept: &Kept) -> Result<(), Trouble> {
        self.write_json(&self.path(of, "json"), kept)
    }

    /// The key and chain of a certificate, in PEM.
    ///
    /// # Errors
    /// The disk's.
    pub fn pem(&self, of: &str) -> Result<Option<String>, Trouble> {
        self.text(&self.path(of, "pem"))
    }

    pub(crate) fn keep_pem(&self, of: &str, pem: &str) -> Result<(), Trouble> {
        self.write(&self.path(of, "pem"), pem)
    }

    /// The certificate that is held, or why it cannot be used.
    ///
    /// # Errors
    /// The disk's.
    pub fn holding(&self, of: &str) -> Result<Option<Result<Holding, String>>, Trouble> {
        Ok(self.pem(of)?.map(|pem| {
            let certificate = examine(&pem, &Names::new()).map_err(|why| why.to_string())?;
            Ok(Holding {
                certificate,
                hash: hash(&pem),
            })
        }))
    }

    /// Lets what failed be tried again at once. Where the authority asked for patience, its time stays.
    ///
    /// # Errors
    /// The disk's.
    pub fn retry(&self, now: Timestamp) -> Result<(), Trouble> {
        for (of, mut kept) in self.read()?.kept {
            let before = kept.clone();
            let failures = kept.failure.iter_mut().chain(&mut kept.undelivered);
            for failure in failures.filter(|failure| failure.kind != Kind::Limited) {
                failure.retry_at = failure.retry_at.min(now);
            }
            kept.clear_at = kept.clear_at.map(|at| at.min(now));
            if kept != before {
                self.keep(&of, &kept)?;
            }
        }
        Ok(())
    }

    /// Reads what is held.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self) -> Result<Held, Trouble> {
        let folder = self.folder.join("certificates");
        let names = self.disk.names(&folder);
        let names = names.map_err(|e| Trouble::unreachable(format!("cannot read {}: {e}", folder.display())))?;
        let mut held = Held::default();
        for name in names {
            if let Some(of) = name.strip_suffix(".json") {
                held.kept.insert(of.to_owned(), self.kept(of)?);
            } else if let Some(of) = name.strip_suffix(".pem")
                && let Some(holding) = self.holding(of)?
            {
                held.holdings.insert(of.to_owned(), holding);
            }
        }
        Ok(held)
    }

    /// Removes what is held of a certificate that nobody wants any more.
    pub(crate) fn forget(&self, of: &str) -> Result<(), Trouble> {
        for ending in ["json", "pem"] {
            let path = self.path(of, ending);
            match self.disk.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Trouble::unreachable(format!("cannot remove {}: {e}", path.display())));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

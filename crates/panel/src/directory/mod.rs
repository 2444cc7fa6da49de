//! People and groups. They are the directory's: the panel reads and writes them by LDAP, with an account that may do so but reads no
//! password, and keeps nothing of them. Each piece of work is a connection of its own, so that a directory that was away is there again as
//! soon as it answers.

mod card;
mod groups;
mod import;
mod people;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchEntry};
use serde::Deserialize;

pub use card::Card;
pub use groups::{Group, group_name};
pub use import::{Import, Problem};
pub use people::Person;

/// The members of this group may look after the appliance.
pub const ADMINISTRATORS: &str = "administrators";
/// How long a piece of work may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the directory did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The appliance runs none, or the panel is not bound to it.
    #[error("this appliance has no directory")]
    None,
    /// It does not answer.
    #[error("the directory at {url} does not answer: {why}")]
    Away {
        /// Where it should be.
        url: String,
        /// Why.
        why: String,
    },
    /// The file that says where it is cannot be used.
    #[error("{path} does not say where the directory is: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Somebody else has that already; the field.
    #[error("another entry has that {0} already")]
    Taken(&'static str),
    /// There is no such entry.
    #[error("the directory has no such entry")]
    Gone,
    /// It refuses.
    #[error("the directory refuses to {doing}: {why} (result {code})")]
    Refused {
        /// The step, as a verb.
        doing: &'static str,
        /// Its result code (RFC 4511, 4.1.9).
        code: u32,
        /// In its words.
        why: String,
    },
}

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Place {
    /// As in RFC 4516; empty if there is no directory.
    url: String,
    /// The panel's own account there, and the file with its password.
    dn: String,
    password_file: PathBuf,
    /// Where the entries of people and of groups are.
    people: String,
    groups: String,
}

/// The way to the directory.
#[derive(Debug, Clone)]
pub struct Directory {
    file: PathBuf,
}

/// A connection as the panel's own account.
struct Bound {
    ldap: Ldap,
    place: Place,
}

fn entries<'a>(pairs: Vec<(&'a str, Vec<&'a str>)>) -> Vec<(&'a str, HashSet<&'a str>)> {
    let all = pairs
        .into_iter()
        .map(|(name, values)| (name, values.into_iter().collect()));
    // An entry is added without what is empty.
    all.filter(|(_, values): &(_, HashSet<_>)| !values.is_empty()).collect()
}

impl Directory {
    /// By this file, which is read at each use: the account's password changes.
    pub fn new(file: PathBuf) -> Directory {
        Directory { file }
    }

    fn place(&self) -> Result<Place, DirectoryError> {
        let wrong = |why: String| DirectoryError::File {
            path: self.file.clone(),
            why,
        };
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(DirectoryError::None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let place: Place = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        match place.url.is_empty() {
            true => Err(DirectoryError::None),
            false => Ok(place),
        }
    }

    /// Whether there is one, answering or not.
    pub fn exists(&self) -> bool {
        !matches!(self.place(), Err(DirectoryError::None))
    }

    /// The password of the panel's account there, if it can be read.
    pub(crate) fn secret(&self) -> Option<String> {
        read_password(&self.place().ok()?.password_file).ok()
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn answers(&self) -> Result<(), DirectoryError> {
        self.work(async |_| Ok(())).await
    }

    /// Does something with a connection of the panel's own account.
    async fn work<T>(
        &self,
        work: impl AsyncFnOnce(&mut Bound) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        self.work_within(PATIENCE, work).await
    }

    /// The same, with another patience.
    async fn work_within<T>(
        &self,
        patience: Duration,
        work: impl AsyncFnOnce(&mut Bound) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let place = self.place()?;
        let url = place.url.clone();
        let all = async {
            let password = read_password(&place.password_file).map_err(|why| DirectoryError::File {
                path: self.file.clone(),
                why,
            })?;
            let mut ldap = connect(&place.url).await?;
            let bound = ldap.simple_bind(&place.dn, &password).await;
            judged(bound.map_err(|e| away(&place.url, e))?, "let the panel in")?;
            let mut bound = Bound { ldap, place };
            let done = work(&mut bound).await;
            let _ = bound.ldap.unbind().await;
            done
        };
        let done = tokio::time::timeout(patience, all).await;
        done.unwrap_or_else(|_| Err(away(&url, "it takes too long")))
    }
}

impl Bound {
    fn away(&self, error: LdapError) -> DirectoryError {
        away(&self.place.url, error)
    }

    fn judged(&self, result: Result<LdapResult, LdapError>, doing: &'static str) -> Result<(), DirectoryError> {
        judged(result.map_err(|e| self.away(e))?, doing)
    }

    async fn search(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<SearchEntry>, DirectoryError> {
        let asked = self.ldap.search(base, Scope::OneLevel, filter, attributes).await;
        let asked = asked.map_err(|e| self.away(e))?;
        judged(asked.1, "be searched")?;
        Ok(asked.0.into_iter().map(SearchEntry::construct).collect())
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("the password {}: {e}", path.display()))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

async fn connect(url: &str) -> Result<Ldap, DirectoryError> {
    let settings = LdapConnSettings::new().set_conn_timeout(CONNECT);
    let made = LdapConnAsync::with_settings(settings, url).await;
    let (connection, ldap) = made.map_err(|e| away(url, e))?;
    tokio::spawn(async move {
        let _ = connection.drive().await;
    });
    Ok(ldap)
}

fn away(url: &str, why: impl ToString) -> DirectoryError {
    DirectoryError::Away {
        url: url.to_owned(),
        why: why.to_string(),
    }
}

/// The result of an operation, in the panel's words.
fn judged(result: LdapResult, doing: &'static str) -> Result<(), DirectoryError> {
    // What must be unique is named by slapo-unique as `(|(mail=...))`.
    const UNIQUE: [(&str, &str); 5] = [
        ("(uid=", "uid"),
        ("(mail=", "mail"),
        ("(mailLocalAddress=", "mail"),
        ("(cn=", "name"),
        ("idNumber=", "number"),
    ];
    let text = &result.text;
    match result.rc {
        0 => Ok(()),
        32 => Err(DirectoryError::Gone),
        68 => Err(DirectoryError::Taken("uid")),
        19 if text.contains("non-unique") => {
            let found = UNIQUE.into_iter().find(|(part, _)| text.contains(part));
            Err(DirectoryError::Taken(found.map_or("value", |(_, field)| field)))
        }
        // slapo-memberof: a member that is not there.
        19 if text.contains("non-existing") => Err(DirectoryError::Gone),
        51 | 52 | 80 => Err(DirectoryError::Away {
            url: "the directory".into(),
            why: format!("result {} {text}", result.rc),
        }),
        code => Err(DirectoryError::Refused {
            doing,
            code,
            why: match text.is_empty() {
                true => "without a reason".into(),
                false => text.clone(),
            },
        }),
    }
}

/// The first value of an attribute; empty if there is none.
fn first(entry: &SearchEntry, name: &str) -> String {
    all(entry, name).into_iter().next().unwrap_or_default()
}

/// Every value of an attribute, sorted.
fn all(entry: &SearchEntry, name: &str) -> Vec<String> {
    // Names of attributes have no case.
    let found = entry.attrs.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    let mut values = found.map(|(_, values)| values.clone()).unwrap_or_default();
    values.sort();
    values
}

/// The names of entries, by the value with which their DN begins.
fn named(dns: &[String]) -> Vec<String> {
    let mut names: Vec<String> = dns
        .iter()
        .filter_map(|dn| Some(dn.split(',').next()?.split_once('=')?.1.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rc: u32, text: &str) -> LdapResult {
        LdapResult {
            rc,
            matched: String::new(),
            text: text.into(),
            refs: Vec::new(),
            ctrls: Vec::new(),
        }
    }

    #[test]
    fn a_refusal_tells_which_field_somebody_else_has() {
        let taken = |text: &str| judged(result(19, &format!("non-unique attributes found with (|{text})")), "x");
        assert_eq!(taken("(mail=a@b.example)"), Err(DirectoryError::Taken("mail")));
        assert_eq!(taken("(uid=ada)"), Err(DirectoryError::Taken("uid")));
        assert_eq!(taken("(uidNumber=3)"), Err(DirectoryError::Taken("number")));
        assert_eq!(judged(result(32, ""), "x"), Err(DirectoryError::Gone));
        assert!(matches!(
            judged(result(50, ""), "x"),
            Err(DirectoryError::Refused { code: 50, .. })
        ));
    }

    #[test]
    fn an_appliance_without_a_directory_is_not_one_whose_directory_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        let directory = Directory::new(path.clone());
        assert_eq!(directory.place().unwrap_err(), DirectoryError::None);
        std::fs::write(&path, "{}").unwrap();
        assert!(!directory.exists());
        std::fs::write(&path, "{ \"uri\": 1 }").unwrap();
        assert!(directory.exists());
        assert!(
            directory
                .place()
                .unwrap_err()
                .to_string()
                .contains("unknown field `uri`")
        );
    }
}

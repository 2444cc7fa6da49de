//! What the appliance remembers of its upgrades, in `/data/upgrade`: what is being tried, and a line for all that happened.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_unit::StateVersion;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The most lines that are kept.
const LINES: usize = 200;

/// A version that is being tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The version.
    pub version: String,
    /// Its root hash.
    pub root_hash: String,
    /// The version that installed it.
    pub from: String,
    /// Whether the machine had a network address when it was installed.
    #[serde(default)]
    pub reached: bool,
    /// Why it was given up, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The last lines that it wrote then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Whether the history says so.
    #[serde(default)]
    pub noted: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// A version was put into the free slot.
    Installed,
    /// An install ended without that.
    NotInstalled,
    /// A version proved itself.
    Committed,
    /// A version was given up.
    Failed,
    /// The owner went back to the version of before.
    RolledBack,
    /// A version was found that is this appliance's.
    Offered,
    /// The appliance restarts by itself into a version that it installed.
    Restarting,
    /// The owner lets nothing be installed.
    Held,
    /// The owner took that back.
    Released,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, as in RFC 3339.
    pub at: String,
    /// What.
    pub what: Happened,
    /// Which version it is about.
    pub version: String,
    /// The version that ran.
    pub running: String,
    /// Why; empty where that says itself.
    #[serde(default)]
    pub why: String,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Records(PathBuf);

impl Records {
    /// That folder, made if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        Ok(Self(folder.to_owned()))
    }

    /// What the appliance is known by among others of its kind, made when it is first asked for. It is never told to anybody.
    ///
    /// # Errors
    /// The data partition cannot be read or written.
    pub fn machine(&self) -> Result<String, Error> {
        let path = self.0.join("machine");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("read", path)(e)),
            _ => {}
        }
        let mut bytes = [0; 16];
        let none = |_| Error::Wrong("the system gives no random numbers".into());
        aws_lc_rs::rand::fill(&mut bytes).map_err(none)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_whole(&path, text.as_bytes()).map_err(Error::io("write", path))?;
        Ok(text)
    }

    /// Notes which versions of units' states versions of the appliance read: the one that runs, and the one that takes the other slot. Of others it
    /// is kept while `there` says that they can be started.
    ///
    /// # Errors
    /// The data partition cannot be written.
    pub fn set_states<const N: usize>(
        &self,
        these: [(&str, &BTreeMap<String, StateVersion>); N],
        there: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let path = self.0.join("states.json");
        let before = fs::read(&path).unwrap_or_default();
        let mut all: BTreeMap<String, BTreeMap<String, StateVersion>> =
            serde_json::from_slice(&before).unwrap_or_default();
        all.retain(|version, _| there(version));
        all.extend(these.map(|(version, states)| (version.to_owned(), states.clone())));
        let text = serde_json::to_vec(&all).unwrap_or_default();
        write_whole(&path, &text).map_err(Error::io("write", path))
    }

    /// What is being tried.
    pub fn tried(&self) -> Option<Tried> {
        let text = fs::read(self.0.join("tried.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes what is being tried; `None` when that is over.
    ///
    /// # Errors
    /// The data partition cannot be written.
    pub fn set_tried(&self, tried: Option<&Tried>) -> Result<(), Error> {
        let path = self.0.join("tried.json");
        match tried {
            Some(tried) => write_whole(&path, &serde_json::to_vec(tried).unwrap_or_default()),
            None => match fs::remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.and_then(|()| sync_folder(&self.0)),
            },
        }
        .map_err(Error::io("write", path))
    }

    /// Every line that can be read, the oldest first. A line that a power cut left half written is none.
    pub fn history(&self) -> Vec<Line> {
        let text = fs::read_to_string(self.0.join("history.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Adds a line if the last about that version does not say the same: what is found again after a restart is no news.
    ///
    /// # Errors
    /// As [`Records::add`].
    pub fn add_news(&self, what: Happened, version: &str, running: &str, why: &str) -> Result<(), Error> {
        let history = self.history();
        let last = history.iter().rfind(|line| line.version == version);
        match last.is_some_and(|line| (line.what, line.why.as_str()) == (what, why)) {
            true => Ok(()),
            false => self.add(what, version, running, why),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// The data partition cannot be written.
    pub fn add(&self, what: Happened, version: &str, running: &str, why: &str) -> Result<(), Error> {
        let path = self.0.join("history.jsonl");
        let mut all = self.history();
        all.push(Line {
            at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            what,
            version: version.to_owned(),
            running: running.to_owned(),
            why: why.to_owned(),
        });
        let from = all.len().saturating_sub(LINES);
        let lines = all[from..].iter().filter_map(|line| serde_json::to_string(line).ok());
        let text: String = lines.map(|line| line + "\n").collect();
        write_whole(&path, text.as_bytes()).map_err(Error::io("write", path))
    }
}

/// Replaces a file so that a power cut leaves the old one or the new one.
///
/// # Errors
/// The file system's.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_kept_in_order_and_half_a_line_is_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("upgrade")).unwrap();
        records.add(Happened::Installed, "2.0", "1.0", "").unwrap();
        let path = folder.path().join("upgrade/history.jsonl");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"at\":\"20")
            .unwrap();
        records.add(Happened::Failed, "2.0", "1.0", "unit web failed").unwrap();
        let what: Vec<_> = records.history().iter().map(|l| (l.what, l.why.clone())).collect();
        assert_eq!(
            what,
            [
                (Happened::Installed, String::new()),
                (Happened::Failed, "unit web failed".into())
            ]
        );
        for _ in 0..LINES + 5 {
            records.add(Happened::NotInstalled, "3.0", "1.0", "").unwrap();
        }
        assert_eq!(records.history().len(), LINES);
    }

    #[test]
    fn which_states_the_two_versions_read_is_noted_for_going_back() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let of = |version: &str| BTreeMap::from([("db".to_owned(), version.parse().unwrap())]);
        let text = || fs::read_to_string(folder.path().join("states.json")).unwrap();
        let none = |_: &str| false;
        records
            .set_states([("1.0.0", &of("1")), ("1.1.0", &of("2"))], none)
            .unwrap();
        // Until an install has begun to write, the other slot holds what it held.
        let both = [("1.1.0", &of("2")), ("1.2.0", &of("11.8"))];
        records.set_states(both, |version| version == "1.0.0").unwrap();
        assert_eq!(
            text(),
            r#"{"1.0.0":{"db":"1"},"1.1.0":{"db":"2"},"1.2.0":{"db":"11.8"}}"#
        );
        records.set_states(both, none).unwrap();
        assert_eq!(text(), r#"{"1.1.0":{"db":"2"},"1.2.0":{"db":"11.8"}}"#);
    }

    #[test]
    fn what_is_no_news_adds_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let news = |what, why| records.add_news(what, "2.0", "1.0", why).unwrap();
        for (what, why) in [
            (Happened::Held, "a"),
            (Happened::Held, "a"),
            (Happened::Held, "b"),
            (Happened::Released, ""),
        ] {
            news(what, why);
        }
        records.add(Happened::Offered, "3.0", "1.0", "").unwrap();
        news(Happened::Released, "");
        assert_eq!(records.history().len(), 4);
    }

    #[test]
    fn an_appliance_is_known_by_the_same_from_then_on_and_two_differ() {
        let folder = tempfile::tempdir().unwrap();
        let records = |name: &str| Records::open(&folder.path().join(name)).unwrap();
        let one = records("one").machine().unwrap();
        assert_eq!(one.len(), 32);
        assert_eq!(records("one").machine().unwrap(), one);
        assert_ne!(records("two").machine().unwrap(), one);
        // A power cut before its first write was flushed.
        fs::write(folder.path().join("two/machine"), "").unwrap();
        assert_eq!(records("two").machine().unwrap().len(), 32);
    }

    #[test]
    fn what_is_tried_is_noted_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        assert_eq!(records.tried(), None);
        let tried = Tried {
            version: "2.0".into(),
            root_hash: "ab".repeat(32),
            from: "1.0".into(),
            reached: true,
            failed: None,
            log: Vec::new(),
            noted: false,
        };
        records.set_tried(Some(&tried)).unwrap();
        assert_eq!(records.tried(), Some(tried));
        records.set_tried(None).unwrap();
        records.set_tried(None).unwrap();
        assert_eq!(records.tried(), None);
    }
}

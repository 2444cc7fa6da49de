//! What each channel offers and how that is given out: versions are promoted in waves, paused, resumed and withdrawn. Nothing is in force before
//! it is published.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp as TimestampRole};

use super::repository::{Publisher, days, json, tough_error};
use crate::error::Error;
use crate::metadata::{CHANNELS, Channels};
use crate::record::write_whole;
use crate::waves::{Given, Paused, ROLLOUT, Rollout, Waves, Withdrawn};

/// The file in `incoming/` that holds how versions are given out.
pub(super) const GIVING: &str = "rollout.json";
/// So many versions of before are known of a channel.
const KEPT: usize = 16;

/// What a repository holds, as its publisher sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The appliance.
    pub name: String,
    /// What the channels offer, or will when it is published.
    pub channels: Vec<Offered>,
    /// Whether that, and how it is given out, is published.
    pub published: bool,
    /// Releases that were added and not published.
    pub waiting: Vec<String>,
    /// Versions that were withdrawn.
    pub withdrawn: Vec<(String, Withdrawn)>,
    /// Until when appliances believe what is published.
    pub expires: Vec<Expires>,
}

/// What a channel offers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Offered {
    /// The channel.
    pub channel: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// The version.
    pub version: String,
    /// How it is given out; `None`: to everybody at once.
    pub given: Option<Given>,
}

/// Until when a role's metadata is good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expires {
    /// The role.
    pub role: String,
    /// Until when.
    pub at: Timestamp,
}

impl Publisher {
    fn giving_path(&self) -> PathBuf {
        self.folder.join("incoming").join(GIVING)
    }

    /// How versions will be given out when that is published.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn rollout(&self) -> Result<Rollout, Error> {
        match self.giving_path().exists() {
            true => json(&self.giving_path()),
            false => Ok(Rollout::default()),
        }
    }

    pub(super) fn write_rollout(&self, rollout: &Rollout) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(rollout).map_err(tough_error)?;
        write_whole(&self.giving_path(), &text).map_err(Error::io("write", self.giving_path()))
    }

    /// Writes both, how before what: between them nothing is offered to more appliances than before.
    fn write_both(&self, mut rollout: Rollout, channels: &Channels) -> Result<(), Error> {
        rollout.forget(channels);
        self.write_rollout(&rollout)?;
        self.write_channels(channels)
    }

    /// Gives a channel a version, for every architecture that has it, in waves or to everybody at once. Waves of a version that the channel
    /// offers already take the place of those it had, and count from the same beginning.
    ///
    /// # Errors
    /// There is no such release, or it was withdrawn.
    pub fn promote(&self, version: &str, channel: &str, waves: Option<Waves>) -> Result<Channels, Error> {
        let (mut channels, mut rollout) = (self.channels()?, self.rollout()?);
        let all = self.indexes()?.into_iter();
        let own = all.filter(|i| i.release.version == version).map(|i| i.release.arch);
        let own: Vec<String> = own.collect();
        if own.is_empty() {
            let why = format!("the repository has no version {version}; add it first");
            return Err(Error::Refused(why));
        }
        if let Some(withdrawn) = rollout.withdrawn(channel, version) {
            let why = withdrawn.reason();
            return Err(Error::Refused(format!(
                "version {version} was withdrawn{why}; give what is put right another version"
            )));
        }
        let by_arch = channels.channels.entry(channel.to_owned()).or_default();
        for arch in own {
            if let Some(old) = by_arch
                .insert(arch.clone(), version.to_owned())
                .filter(|old| old != version)
            {
                let before = rollout
                    .before
                    .entry(channel.to_owned())
                    .or_default()
                    .entry(arch)
                    .or_default();
                before.retain(|earlier| *earlier != old && earlier != version);
                before.push(old);
                let from = before.len().saturating_sub(KEPT);
                before.drain(..from);
            }
        }
        let given = rollout.channels.entry(channel.to_owned()).or_default();
        match waves {
            Some(waves) => given.entry(version.to_owned()).or_default().waves = waves,
            None => _ = given.remove(version),
        }
        self.write_both(rollout, &channels)?;
        Ok(channels)
    }

    /// Takes a version from a channel, or from all: what the channel offered before takes its place. Its data stays for those who have it.
    ///
    /// # Errors
    /// There is no such version, or the channel does not offer it.
    pub fn withdraw(&self, version: &str, channel: Option<&str>, why: &str) -> Result<Channels, Error> {
        let (mut channels, mut rollout) = (self.channels()?, self.rollout()?);
        if !self.indexes()?.iter().any(|index| index.release.version == version) {
            return Err(Error::Refused(format!("the repository has no version {version}")));
        }
        let entry = rollout.withdrawn.get(version);
        let mut from = entry.map(|w| w.channels.clone()).unwrap_or_default();
        let everywhere = entry.is_some_and(|w| w.channels.is_empty());
        match channel {
            Some(channel) if everywhere => {
                let why = format!("version {version} was withdrawn from all channels already, so from `{channel}` too");
                return Err(Error::Refused(why));
            }
            Some(channel) if !channels.channels.contains_key(channel) => {
                return Err(Error::Refused(format!("there is no channel `{channel}`")));
            }
            Some(channel) => _ = from.insert(channel.to_owned()),
            None => from.clear(),
        }
        let withdrawn = Withdrawn {
            at: days(0)?,
            why: why.to_owned(),
            channels: from,
        };
        rollout.withdrawn.insert(version.to_owned(), withdrawn);
        for (name, by_arch) in &mut channels.channels {
            if channel.is_some_and(|channel| channel != name) {
                continue;
            }
            let offering: Vec<String> = by_arch
                .iter()
                .filter(|(_, v)| *v == version)
                .map(|(a, _)| a.clone())
                .collect();
            for arch in offering {
                by_arch.remove(&arch);
                let before = rollout.before.get(name).and_then(|by_arch| by_arch.get(&arch));
                let fine = |earlier: &&String| rollout.withdrawn(name, earlier).is_none();
                if let Some(earlier) = before.into_iter().flatten().rev().find(fine) {
                    by_arch.insert(arch, earlier.clone());
                }
            }
        }
        self.write_both(rollout, &channels)?;
        Ok(channels)
    }

    /// Stops giving out what a channel offers.
    ///
    /// # Errors
    /// It offers nothing, or is paused already.
    pub fn pause(&self, channel: &str, why: &str) -> Result<Vec<String>, Error> {
        let paused = Paused {
            at: days(0)?,
            why: why.to_owned(),
        };
        self.each_given(channel, &mut |given| match given.paused {
            Some(_) => Err("is paused already"),
            None => {
                given.paused = Some(paused.clone());
                Ok(())
            }
        })
    }

    /// Goes on giving out what a channel offers; the waves that are still to come come as much later as it was paused.
    ///
    /// # Errors
    /// It offers nothing, or is not paused.
    pub fn resume(&self, channel: &str) -> Result<Vec<String>, Error> {
        let now = days(0)?;
        self.each_given(channel, &mut |given| {
            let paused = given.paused.take().ok_or("is not paused")?;
            let lost = now.duration_since(paused.at);
            given.since = given.since.and_then(|since| since.checked_add(lost).ok());
            Ok(())
        })
    }

    /// Changes how the versions that a channel offers are given out; which those are.
    fn each_given(
        &self,
        channel: &str,
        change: &mut dyn FnMut(&mut Given) -> Result<(), &'static str>,
    ) -> Result<Vec<String>, Error> {
        let (channels, mut rollout) = (self.channels()?, self.rollout()?);
        let offered = channels
            .channels
            .get(channel)
            .into_iter()
            .flat_map(|by_arch| by_arch.values());
        let offered: BTreeSet<&String> = offered.collect();
        if offered.is_empty() {
            return Err(Error::Refused(format!("the channel `{channel}` offers nothing")));
        }
        let all = rollout.channels.entry(channel.to_owned()).or_default();
        for version in &offered {
            let given = all.entry((*version).clone()).or_default();
            change(given).map_err(|why| Error::Refused(format!("the channel `{channel}` {why}")))?;
        }
        let offered = offered.into_iter().cloned().collect();
        self.write_rollout(&rollout)?;
        Ok(offered)
    }

    /// How the repository stands.
    ///
    /// # Errors
    /// Files are damaged.
    pub fn status(&self) -> Result<Status, Error> {
        let (channels, rollout) = (self.channels()?, self.rollout()?);
        let mut expires = Vec::new();
        let mut tell = |role: &str, at: Timestamp| {
            expires.push(Expires {
                role: role.to_owned(),
                at,
            });
        };
        tell("root", json::<Signed<Root>>(&self.root()?)?.signed.expires);
        let targets = match self.newest("targets")? {
            Some((_, path)) => Some(json::<Signed<Targets>>(&path)?.signed),
            None => None,
        };
        if let Some(targets) = &targets {
            tell("targets", targets.expires);
        }
        if let Some((_, path)) = self.newest("snapshot")? {
            tell("snapshot", json::<Signed<Snapshot>>(&path)?.signed.expires);
        }
        let path = self.folder.join("metadata/timestamp.json");
        if path.exists() {
            tell("timestamp", json::<Signed<TimestampRole>>(&path)?.signed.expires);
        }
        let all = channels.channels.iter();
        let offered = all.flat_map(|(channel, by_arch)| {
            by_arch.iter().map(|(arch, version)| Offered {
                channel: channel.clone(),
                arch: arch.clone(),
                version: version.clone(),
                given: rollout.given(channel, version).cloned(),
            })
        });
        let incoming = self.folder.join("incoming");
        let files = fs::read_dir(&incoming).map_err(Error::io("list", &incoming))?.flatten();
        let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut waiting: Vec<String> = names
            .filter_map(|n| Some(n.strip_suffix(".index")?.to_owned()))
            .collect();
        waiting.sort();
        Ok(Status {
            name: channels.name.clone(),
            channels: offered.collect(),
            published: self.is_published(targets.as_ref(), &rollout)?,
            waiting,
            withdrawn: rollout.withdrawn.into_iter().collect(),
            expires,
        })
    }

    /// Whether what is signed is what stands here.
    fn is_published(&self, targets: Option<&Targets>, rollout: &Rollout) -> Result<bool, Error> {
        let path = self.folder.join("incoming").join(CHANNELS);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&text);
        let signed = targets.and_then(|t| t.targets.iter().find(|(name, _)| name.raw() == CHANNELS));
        Ok(signed.is_some_and(|(_, signed)| {
            let said = signed.custom.get(ROLLOUT).cloned();
            let said = said.unwrap_or_else(|| Rollout::default().published());
            *signed.hashes.sha256 == digest[..] && said == rollout.published()
        }))
    }
}

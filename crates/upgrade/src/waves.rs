//! Whose turn it is: how a publisher gives a version to some appliances before others, and an appliance's place among them. Signed as the custom
//! data of the target `channels.json`. Each appliance works out its own place, so that no server learns who asks.
//!
//! A place is a share of all appliances in hundredths of a percent, 0 to 9999: the first 64 bits of SHA-256 over what the appliance is known by and
//! the version, so that the same ones are not always the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::metadata::Channels;

/// The key of the custom data.
pub const ROLLOUT: &str = "rollout";
/// The longest that a wave may wait: a year.
const MOST_HOURS: u32 = 366 * 24;

/// How versions are given out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// By channel and version. A version that is not listed is everybody's at once.
    pub channels: BTreeMap<String, BTreeMap<String, Given>>,
    /// Versions that are no longer offered.
    pub withdrawn: BTreeMap<String, Withdrawn>,
    /// What a channel offered before, by channel and architecture, the newest last. The publisher's own note, never published.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// How one version is given out in one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Since when it counts; `None` before it is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The waves.
    pub waves: Waves,
    /// Whether it has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

/// A version that nobody gets for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Since when.
    pub at: Timestamp,
    /// Why; may be empty.
    #[serde(default)]
    pub why: String,
}

/// A version that nobody gets any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// Since when.
    pub at: Timestamp,
    /// Why; may be empty.
    #[serde(default)]
    pub why: String,
    /// Only from these channels; empty: from all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub channels: BTreeSet<String>,
}

/// A share of all appliances, and when it has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// All appliances up to this percentage, 1 to 100.
    pub percent: u8,
    /// So many hours after the version was published.
    pub hours: u32,
}

/// Waves in their order, each larger and later than the one before. None: everybody at once. As a text: `10%@0h,50%@24h,100%@3d`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Wave>", into = "Vec<Wave>")]
pub struct Waves(Vec<Wave>);

impl TryFrom<Vec<Wave>> for Waves {
    type Error = Error;
    fn try_from(waves: Vec<Wave>) -> Result<Self, Error> {
        let bad = waves
            .iter()
            .find(|w| !(1..=100).contains(&w.percent) || w.hours > MOST_HOURS);
        if let Some(bad) = bad {
            let why = format!("a wave has 1 % to 100 % and begins within a year, not {bad}");
            return Err(Error::Refused(why));
        }
        let rises = |two: &[Wave]| two[0].percent < two[1].percent && two[0].hours <= two[1].hours;
        match waves.windows(2).all(rises) {
            true => Ok(Self(waves)),
            false => Err(Error::Refused(
                "each wave is larger than the one before, and not earlier".into(),
            )),
        }
    }
}

impl From<Waves> for Vec<Wave> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

impl FromStr for Waves {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wave = |part: &str| {
            let (percent, after) = part.trim().split_once("%@")?;
            let (number, hours) = match after.strip_suffix('d') {
                Some(number) => (number, 24),
                None => (after.strip_suffix('h')?, 1),
            };
            let hours = number.parse::<u32>().ok()?.checked_mul(hours)?;
            Some(Wave {
                percent: percent.parse().ok()?,
                hours,
            })
        };
        let waves: Option<Vec<Wave>> = text.split(',').map(wave).collect();
        let why = || {
            Error::Refused(format!(
                "`{text}` are not waves: write for example 10%@0h,50%@24h,100%@3d"
            ))
        };
        waves.ok_or_else(why)?.try_into()
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%@{}h", self.percent, self.hours)
    }
}

impl Waves {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Wave> {
        self.0.iter()
    }
}

/// Whether a version is an appliance's now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It is.
    Now,
    /// It will be then.
    At(Timestamp),
    /// Nobody gets it for now, for this reason.
    Paused(String),
    /// The publisher has not said yet when.
    Open,
}

/// Whether it is the turn of the appliance at `position`. `given` is `None` for a version that is everybody's at once.
pub fn turn(given: Option<&Given>, position: u16, now: Timestamp) -> Turn {
    let Some(given) = given else { return Turn::Now };
    if let Some(paused) = &given.paused {
        return Turn::Paused(paused.why.clone());
    }
    if given.waves.0.is_empty() {
        return Turn::Now;
    }
    let mine = given.waves.iter().find(|wave| position < u16::from(wave.percent) * 100);
    let (Some(mine), Some(since)) = (mine, given.since) else {
        return Turn::Open;
    };
    match since.checked_add(SignedDuration::from_hours(mine.hours.into())) {
        Ok(at) if at <= now => Turn::Now,
        Ok(at) => Turn::At(at),
        Err(_) => Turn::Open,
    }
}

/// The place of an appliance for a version, 0 to 9999.
pub fn position(machine: &str, version: &str) -> u16 {
    let digest = Sha256::new_with_prefix("cairn wave")
        .chain_update(Sha256::digest(machine))
        .chain_update(Sha256::digest(version))
        .finalize();
    let number = digest[..8]
        .iter()
        .fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
    u16::try_from((number * 10_000) >> 64).unwrap_or(9_999)
}

impl Rollout {
    /// How a channel gives out a version.
    pub fn given(&self, channel: &str, version: &str) -> Option<&Given> {
        self.channels.get(channel)?.get(version)
    }

    /// Whether a version was taken from a channel.
    pub fn withdrawn(&self, channel: &str, version: &str) -> Option<&Withdrawn> {
        let from = |w: &&Withdrawn| w.channels.is_empty() || w.channels.contains(channel);
        self.withdrawn.get(version).filter(from)
    }

    /// Versions that are published for the first time begin now.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        let all = self.channels.values_mut().flat_map(BTreeMap::values_mut);
        all.for_each(|given| _ = given.since.get_or_insert(now));
    }

    /// What is signed of it.
    pub(crate) fn published(&self) -> serde_json::Value {
        let all = Self {
            before: BTreeMap::new(),
            ..self.clone()
        };
        serde_json::to_value(all).unwrap_or_default()
    }

    /// Drops what is about versions that no channel offers or could come back to.
    pub(crate) fn forget(&mut self, channels: &Channels) {
        for (channel, given) in &mut self.channels {
            let offered = channels.channels.get(channel).into_iter().flat_map(BTreeMap::values);
            let before = self
                .before
                .get(channel)
                .into_iter()
                .flat_map(BTreeMap::values)
                .flatten();
            let known: BTreeSet<&String> = offered.chain(before).collect();
            given.retain(|version, _| known.contains(version));
        }
        self.channels.retain(|_, given| !given.is_empty());
    }
}

impl Withdrawn {
    /// The publisher's reason as a sentence goes on with it; empty if there is none.
    pub fn reason(&self) -> String {
        reason(&self.why)
    }
}

/// A reason as a sentence goes on with it.
pub fn reason(why: &str) -> String {
    match why.trim() {
        "" => String::new(),
        why => format!(" ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const BEGAN: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn given(waves: &str, since: Option<i64>, paused: bool) -> Given {
        Given {
            since: since.map(at),
            waves: if waves.is_empty() {
                Waves::default()
            } else {
                waves.parse().unwrap()
            },
            paused: paused.then(|| Paused {
                at: at(BEGAN),
                why: "it fails".into(),
            }),
        }
    }

    #[test]
    fn an_appliance_gets_a_version_when_its_wave_has_begun() {
        let all = "10%@0h,50%@24h,100%@3d";
        for (waves, position, hours, expected) in [
            (all, 0, 0, Turn::Now),
            (all, 999, 0, Turn::Now),
            (all, 1000, 0, Turn::At(at(BEGAN + 24 * HOUR))),
            (all, 4999, 23, Turn::At(at(BEGAN + 24 * HOUR))),
            (all, 4999, 24, Turn::Now),
            (all, 5000, 24, Turn::At(at(BEGAN + 72 * HOUR))),
            (all, 9999, 72, Turn::Now),
            // A clock that stands before the beginning.
            (all, 0, -1, Turn::At(at(BEGAN))),
            // Who comes after the last wave waits for the publisher.
            ("10%@0h", 1000, 10_000, Turn::Open),
            ("10%@0h", 999, 0, Turn::Now),
            ("", 9999, 0, Turn::Now),
        ] {
            let given = given(waves, Some(BEGAN), false);
            let found = turn(Some(&given), position, at(BEGAN + hours * HOUR));
            assert_eq!(found, expected, "{waves} {position} {hours}");
        }
        assert_eq!(turn(None, 9999, at(0)), Turn::Now);
        // Waves whose beginning is not known have none.
        assert_eq!(turn(Some(&given(all, None, false)), 0, at(BEGAN)), Turn::Open);
    }

    #[test]
    fn nobody_gets_a_version_that_is_paused() {
        for waves in ["", "10%@0h,100%@24h"] {
            let given = given(waves, Some(BEGAN), true);
            let found = turn(Some(&given), 0, at(BEGAN + 100 * HOUR));
            assert_eq!(found, Turn::Paused("it fails".into()), "{waves}");
        }
    }

    #[test]
    fn a_place_stays_and_differs_between_appliances_and_versions() {
        assert_eq!(position("a", "1.0.0"), position("a", "1.0.0"));
        assert_ne!(position("a", "1.0.0"), position("a", "1.0.1"));
        assert_ne!(position("a", "1.0.0"), position("b", "1.0.0"));
        // Written down once: another formula would let waves begin anew.
        assert_eq!(position("00112233445566778899aabbccddeeff", "1.1.0"), 2632);
        let mut tenths = [0; 10];
        (0..10_000).for_each(|n| tenths[usize::from(position(&n.to_string(), "2.0.0")) / 1000] += 1);
        assert!(tenths.iter().all(|n| (900..1100).contains(n)), "{tenths:?}");
    }

    #[test]
    fn waves_are_read_as_they_are_written_and_only_if_they_rise() {
        let waves: Waves = "10%@0h, 50%@24h,100%@3d".parse().unwrap();
        let texts: Vec<String> = waves.iter().map(Wave::to_string).collect();
        assert_eq!(texts, ["10%@0h", "50%@24h", "100%@72h"]);
        for bad in [
            "",
            "10%",
            "10@0h",
            "10%@0",
            "10%@0m",
            "0%@0h",
            "101%@0h",
            "50%@0h,10%@24h",
            "10%@24h,50%@0h",
            "10%@0h,10%@1h",
            "10%@-1h",
            "10%@999999d",
            "10%@9000h",
        ] {
            assert!(bad.parse::<Waves>().is_err(), "{bad}");
        }
        let stored = serde_json::to_string(&waves).unwrap();
        assert_eq!(serde_json::from_str::<Waves>(&stored).unwrap(), waves);
        assert!(serde_json::from_str::<Waves>("[{\"percent\":0,\"hours\":0}]").is_err());
    }
}

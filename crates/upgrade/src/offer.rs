//! What a repository's state means to one appliance: what is newest, whether that is its own yet, and whether what it runs was withdrawn.

use cairn_api::UpgradeOffer;
use jiff::Timestamp;

use crate::entries::newer;
use crate::error::Error;
use crate::metadata::{About, PackageChange, Trusted};
use crate::plan::{Found, fits};
use crate::waves::{Turn, position, turn};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The appliance.
    pub name: &'a str,
    /// The version that runs.
    pub version: &'a str,
    /// Debian's name of the architecture.
    pub arch: &'a str,
    /// The channel that it follows.
    pub channel: &'a str,
    /// What it is known by among others of its kind.
    pub machine: &'a str,
    /// Whether the owner brought what is looked at: then no turn is waited for.
    pub brought: bool,
}

/// What is offered to it.
///
/// # Errors
/// The repository is another's, or does not say it in a way that is understood.
pub fn offer(trusted: &Trusted, asker: &Asker<'_>, now: Timestamp) -> Result<UpgradeOffer, Error> {
    let latest = trusted.latest(asker.name, asker.arch, asker.channel)?;
    let rollout = trusted.rollout()?;
    let none = || Ok(About::default());
    let about = latest
        .as_ref()
        .map_or_else(none, |version| trusted.about(asker.name, version, asker.arch))?;
    let version = latest.unwrap_or_else(|| asker.version.to_owned());
    if let Some(withdrawn) = rollout
        .withdrawn(asker.channel, &version)
        .filter(|_| version != asker.version)
    {
        let why = withdrawn.reason();
        return Err(Error::Refused(format!(
            "the publisher has withdrawn version {version}{why}"
        )));
    }
    let given = rollout.given(asker.channel, &version).filter(|_| !asker.brought);
    let turn = turn(given, position(asker.machine, &version), now);
    let text = |at: Timestamp| at.strftime("%FT%TZ").to_string();
    Ok(UpgradeOffer {
        newer: newer(&version, asker.version).is_gt(),
        turn: match turn {
            Turn::Now => "now",
            Turn::At(_) => "later",
            Turn::Paused(_) => "paused",
            Turn::Open => "open",
        }
        .to_owned(),
        turn_at: match turn {
            Turn::At(at) => Some(text(at)),
            _ => None,
        },
        turn_why: match turn {
            Turn::Paused(why) => why,
            _ => String::new(),
        },
        refused: None,
        withdrawn: rollout.withdrawn(asker.channel, asker.version).map(|w| w.why.clone()),
        at: text(now),
        version,
        notes: about.notes,
        changes: about.changes.iter().map(change).collect(),
        since: about.since,
    })
}

/// Why an appliance as it was found cannot have what is offered, as far as the signed metadata says; `None` if nothing stands against it.
pub fn refused(trusted: &Trusted, offer: &UpgradeOffer, found: &Found) -> Option<String> {
    let release = trusted.release(&found.name, &offer.version, &found.arch)?;
    match fits(found, &release) {
        Err(Error::Refused(why)) if offer.newer => Some(why),
        _ => None,
    }
}

fn change(change: &PackageChange) -> String {
    let PackageChange { name, from, to } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("{name} {from} -> {to}"),
        (None, Some(to)) => format!("{name} {to} is new"),
        (_, None) => format!("{name} is gone"),
    }
}

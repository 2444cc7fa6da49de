//! What is to be done about each certificate: a pure function of what is wanted, what is held and the time.
//!
//! The rules:
//!
//! - What was issued is handed over before anything else; what was ordered is gone on with before anything is ordered.
//! - A certificate is renewed when two thirds of its time are over, or in the window that the authority suggests, at a moment in it
//!   that is the certificate's own. Its key is made anew.
//! - After a failure it waits, longer each time, and never asks before the moment that the authority named.
//! - The same names are ordered at most four times in seven days, whatever happens: public authorities allow five.
//! - A clock that stands before the beginning of the certificate that is held is wrong. Then nothing is ordered, because what would
//!   come would not be valid by that clock either.

use std::fmt;

use cairn_config::pki::Names;
use jiff::{SignedDuration, Timestamp};

use crate::backoff::{fraction, part};
use crate::config::{Config, Wanted};
use crate::held::{Failure, Held, Holding, Kept, texts};

/// What is to be done about one certificate next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Hand the certificate over.
    Deliver {
        /// Which.
        of: String,
    },
    /// Go on with an order that the authority has taken.
    Resume {
        /// Of which certificate.
        of: String,
        /// Its address.
        url: String,
    },
    /// Order one, with a new key.
    Order {
        /// Which.
        of: String,
        /// For which names.
        names: Names,
        /// Why.
        why: String,
    },
    /// Ask when the authority suggests to renew.
    AskWindow {
        /// Of which certificate.
        of: String,
    },
    /// Remove records from the zone that an order has left.
    Clear {
        /// Of which certificate.
        of: String,
    },
    /// Do nothing before a moment.
    Wait {
        /// With which certificate.
        of: String,
        /// Until when.
        until: Timestamp,
        /// What it waits for, in words.
        why: String,
        /// Whether that is trouble that the owner should know.
        trouble: bool,
    },
    /// Forget one that nobody wants any more.
    Forget {
        /// Which.
        of: String,
    },
}

impl Step {
    /// The certificate that it is about.
    pub fn of(&self) -> &str {
        match self {
            Step::Deliver { of }
            | Step::Resume { of, .. }
            | Step::Order { of, .. }
            | Step::AskWindow { of }
            | Step::Clear { of }
            | Step::Wait { of, .. }
            | Step::Forget { of } => of,
        }
    }
}

pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Deliver { of } => write!(f, "{of}: hand it over"),
            Step::Resume { of, url } => write!(f, "{of}: go on with the order {url}"),
            Step::Order { of, names, why } => write!(f, "{of}: order one for {}: {why}", texts(names).join(", ")),
            Step::AskWindow { of } => write!(f, "{of}: ask the authority when to renew"),
            Step::Clear { of } => write!(f, "{of}: remove the records that an order has left in the zone"),
            Step::Wait { of, until, why, .. } => write!(f, "{of}: wait until {}: {why}", moment(*until)),
            Step::Forget { of } => write!(f, "{of}: forget it: nobody wants it any more"),
        }
    }
}

/// A week: the time for which authorities count what was issued for the same names.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How often the same names are ordered in a week.
const WEEKLY: usize = 4;

/// How long an order is gone on with; authorities keep them for about a week.
const STALE: SignedDuration = SignedDuration::from_hours(6 * 24);

/// The next step of each certificate, and what is to be forgotten.
pub fn plan(now: Timestamp, config: &Config, held: &Held) -> Vec<Step> {
    let known = held.kept.keys().chain(held.holdings.keys());
    let mut forget: Vec<&String> = known.filter(|of| !config.certificates.contains_key(*of)).collect();
    forget.sort_unstable();
    forget.dedup();
    let wanted = config.certificates.iter().map(|(of, wanted)| {
        let kept = held.kept.get(of).cloned().unwrap_or_default();
        next(now, config, of, wanted, &kept, held.holdings.get(of))
    });
    let forget = forget.into_iter().map(|of| Step::Forget { of: of.clone() });
    wanted.chain(forget).collect()
}

/// The next step of one certificate.
pub fn next(
    now: Timestamp,
    config: &Config,
    of: &str,
    wanted: &Wanted,
    kept: &Kept,
    holding: Option<&Result<Holding, String>>,
) -> Step {
    let of_owned = || of.to_owned();
    let wait = |until: Timestamp, why: String, trouble: bool| Step::Wait {
        of: of_owned(),
        until,
        why,
        trouble,
    };
    let names = texts(&wanted.names);
    let whole = holding.and_then(|held| held.as_ref().ok());
    let usable = whole.filter(|held| held.hash != kept.revoked && now < held.certificate.until);

    // A clock that went back: what is there is right, and what would come would begin later still.
    if let Some(held) = usable
        && now < held.certificate.from
    {
        let why = format!(
            "the clock stands at {}, before the beginning of the certificate that is there; set the clock",
            moment(now)
        );
        return wait(held.certificate.from, why, true);
    }
    if let Some(held) = usable
        && held.hash != kept.delivered
    {
        return match waits(now, kept.undelivered.as_ref()) {
            Some(failure) => wait(failure.retry_at, failure.why.clone(), true),
            None => Step::Deliver { of: of_owned() },
        };
    }
    // While an order is under way its records may be needed.
    let clear_at = kept.clear_at.unwrap_or(now);
    if kept.order.is_none() && !kept.records.is_empty() && config.dns.is_some() && clear_at <= now {
        return Step::Clear { of: of_owned() };
    }
    let need = need(now, config, of, wanted, kept, holding);
    let order = kept.order.as_ref().filter(|order| {
        order.names == names
            && order.directory == config.directory
            && order.since <= now
            && now < later(order.since, STALE)
    });
    let failure = waits(now, kept.failure.as_ref()).filter(|_| kept.failed_names == names);
    match (need, order) {
        (Need::At(due, why), None) => {
            let window = kept.window.as_ref();
            let asked = window.map_or(now, |window| window.ask_at);
            if asked <= now && kept.directory == config.directory {
                return Step::AskWindow { of: of_owned() };
            }
            match window.is_some() {
                true => wait(due.min(asked), why, false),
                false => wait(due, why, false),
            }
        }
        (Need::At(due, why), Some(_)) => wait(due, why, false),
        (Need::Now(_), _) if failure.is_some() => {
            let failure = failure.cloned().unwrap_or_else(|| unreachable!("it is some"));
            wait(failure.retry_at, failure.why, true)
        }
        (Need::Now(_), Some(order)) => Step::Resume {
            of: of_owned(),
            url: order.url.clone(),
        },
        (Need::Now(why), None) => {
            let counted: Vec<Timestamp> = recent(now, &kept.issued);
            // What was issued for other names does not count, but is rare enough to be counted.
            if counted.len() >= WEEKLY {
                let first = counted.iter().min().copied().unwrap_or(now);
                let told = format!(
                    "{} certificates were issued for it in seven days, and authorities refuse more than five; {why}",
                    counted.len()
                );
                return wait(later(first, WEEK), told, true);
            }
            Step::Order {
                of: of_owned(),
                names: wanted.names.clone(),
                why,
            }
        }
    }
}

/// Of the moments, those of the last week. A moment that has not come yet is from a clock that was wrong.
pub(crate) fn recent(now: Timestamp, issued: &[Timestamp]) -> Vec<Timestamp> {
    issued
        .iter()
        .copied()
        .filter(|at| *at <= now && now < later(*at, WEEK))
        .collect()
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The failure that is waited after. One from a moment that has not come yet was noted by a clock that was wrong.
fn waits(now: Timestamp, failure: Option<&Failure>) -> Option<&Failure> {
    failure.filter(|failure| failure.at <= now && now < failure.retry_at)
}

enum Need {
    /// A certificate is needed: why.
    Now(String),
    /// One will be needed then: what for.
    At(Timestamp, String),
}

fn need(
    now: Timestamp,
    config: &Config,
    of: &str,
    wanted: &Wanted,
    kept: &Kept,
    holding: Option<&Result<Holding, String>>,
) -> Need {
    let held = match holding {
        None => return Need::Now("there is none".into()),
        Some(Err(why)) => return Need::Now(format!("what is there cannot be used: {why}")),
        Some(Ok(held)) => held,
    };
    if held.hash == kept.revoked {
        return Need::Now("it was revoked".into());
    }
    let certificate = &held.certificate;
    if let Some(missing) = wanted.names.iter().find(|name| !certificate.names.contains(name)) {
        return Need::Now(format!("it is not for {missing}"));
    }
    if kept.directory != config.directory {
        return Need::Now(format!(
            "it came from {}",
            if kept.directory.is_empty() {
                "elsewhere"
            } else {
                &kept.directory
            }
        ));
    }
    if certificate.until <= now {
        return Need::Now(format!("it ended on {}", moment(certificate.until)));
    }
    let (due, why) = due(of, held, kept);
    match due <= now {
        true => Need::Now(why),
        false => Need::At(due, format!("it is good until {}", moment(certificate.until))),
    }
}

/// When a certificate is to be renewed, and why then.
fn due(of: &str, held: &Holding, kept: &Kept) -> (Timestamp, String) {
    let certificate = &held.certificate;
    let life = certificate.until.duration_since(certificate.from);
    let own = fraction(&format!("{of} {}", held.hash));
    let before = |at: Timestamp, by: SignedDuration| at.saturating_sub(by).unwrap_or(at);
    let window = kept.window.as_ref().and_then(|window| window.between);
    if let Some((first, last)) = window {
        let suggested = later(first, part(last.duration_since(first).max(SignedDuration::ZERO), own));
        // Whatever it suggests, a tenth of the time is left for what may go wrong.
        let latest = before(certificate.until, part(life, 0.1));
        return (suggested.min(latest), "the authority suggests to renew it now".into());
    }
    // Two thirds, or up to a twentieth of the time before.
    let third = later(certificate.from, part(life, 2.0 / 3.0 - own / 20.0));
    (third, format!("it ends on {}", moment(certificate.until)))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

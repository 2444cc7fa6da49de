//! How a repository of releases stands, as a text.

use std::fmt::Write as _;

use cairn_upgrade::publish::{Offered, Status};
use cairn_upgrade::waves::reason;
use jiff::{SignedDuration, Timestamp};

/// Metadata that expires sooner than this is pointed out.
const SOON: i64 = 7;

fn moment(at: Timestamp) -> String {
    at.strftime("%F %H:%M UTC").to_string()
}

/// All of it.
pub(super) fn text(status: &Status, now: Timestamp) -> String {
    let mut out = format!("repository of {}\n{}", status.name, offered(status, now));
    for release in &status.waiting {
        let _ = writeln!(out, "{release} was added and is not published");
    }
    if !status.published {
        out.push_str("What stands here is not in force before `imagegen release publish`.\n");
    }
    for expires in &status.expires {
        let days = expires.at.duration_since(now).as_hours().div_euclid(24);
        let note = match days {
            _ if expires.at <= now => ": expired, appliances refuse it".to_owned(),
            days if days < SOON => format!(", in {days} days: publish again before"),
            days => format!(", in {days} days"),
        };
        let _ = writeln!(out, "{} is good until {}{note}", expires.role, moment(expires.at));
    }
    out
}

/// What the channels offer and what was withdrawn.
pub(super) fn offered(status: &Status, now: Timestamp) -> String {
    let mut out = String::new();
    for one in &status.channels {
        let _ = writeln!(
            out,
            "{} ({}): {}{}",
            one.channel,
            one.arch,
            one.version,
            giving(one, now)
        );
    }
    if status.channels.is_empty() {
        out.push_str("no channel offers anything\n");
    }
    for (version, withdrawn) in &status.withdrawn {
        let from = match withdrawn.channels.is_empty() {
            true => "all channels".to_owned(),
            false => withdrawn.channels.iter().cloned().collect::<Vec<_>>().join(", "),
        };
        let (when, why) = (moment(withdrawn.at), withdrawn.reason());
        let _ = writeln!(out, "{version} was withdrawn from {from} on {when}{why}");
    }
    out
}

fn giving(one: &Offered, now: Timestamp) -> String {
    let Some(given) = &one.given else { return String::new() };
    let mut out = String::new();
    if let Some(paused) = &given.paused {
        let _ = write!(out, ", paused since {}{}", moment(paused.at), reason(&paused.why));
    }
    for wave in given.waves.iter() {
        let after = SignedDuration::from_hours(wave.hours.into());
        let begins = given.since.and_then(|since| since.checked_add(after).ok());
        let _ = match begins {
            None => write!(out, "\n  {:3} % {} h after it is published", wave.percent, wave.hours),
            Some(at) if given.paused.is_some() && at > now => {
                write!(out, "\n  {:3} % not before it is resumed", wave.percent)
            }
            Some(at) if at > now => write!(out, "\n  {:3} % from {} on", wave.percent, moment(at)),
            Some(at) => write!(out, "\n  {:3} % since {}", wave.percent, moment(at)),
        };
    }
    if let Some(last) = given.waves.iter().last().filter(|last| last.percent < 100) {
        let _ = write!(
            out,
            "\n  the others ({} %) not before `promote` says when",
            100 - last.percent
        );
    }
    out
}

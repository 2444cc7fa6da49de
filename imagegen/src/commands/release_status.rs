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

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_upgrade::publish::Expires;
    use cairn_upgrade::waves::{Given, Paused, Withdrawn};

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_795_305_600 + hours * 3600).unwrap()
    }

    fn status(given: Given) -> Status {
        Status {
            name: "wiki".into(),
            channels: vec![Offered {
                channel: "stable".into(),
                arch: "amd64".into(),
                version: "1.1.0".into(),
                given: Some(given),
            }],
            published: true,
            waiting: Vec::new(),
            withdrawn: Vec::new(),
            expires: Vec::new(),
        }
    }

    #[test]
    fn waves_are_told_with_their_times_and_a_pause_stops_those_to_come() {
        let mut given = Given {
            since: Some(at(0)),
            waves: "10%@0h,50%@24h".parse().unwrap(),
            paused: None,
        };
        assert_eq!(
            text(&status(given.clone()), at(1)),
            "repository of wiki\nstable (amd64): 1.1.0\n   10 % since 2026-11-22 00:00 UTC\n   50 % from 2026-11-23 00:00 UTC on\n  the others \
             (50 %) not before `promote` says when\n"
        );
        given.paused = Some(Paused {
            at: at(1),
            why: "mail is lost".into(),
        });
        let told = text(&status(given.clone()), at(2));
        assert!(
            told.contains("1.1.0, paused since 2026-11-22 01:00 UTC (mail is lost)\n"),
            "{told}"
        );
        assert!(told.contains("   50 % not before it is resumed\n"), "{told}");
        given.since = None;
        assert!(text(&status(given), at(2)).contains("   50 % 24 h after it is published\n"));
    }

    #[test]
    fn what_is_withdrawn_waits_or_expires_is_pointed_out() {
        let expires = |role: &str, hours| Expires {
            role: role.into(),
            at: at(hours),
        };
        let withdrawn = Withdrawn {
            at: at(0),
            why: String::new(),
            channels: ["beta".to_owned()].into(),
        };
        let all = Status {
            published: false,
            channels: Vec::new(),
            waiting: vec!["wiki-1.2.0-amd64".into()],
            withdrawn: vec![("1.1.0".into(), withdrawn)],
            expires: vec![
                expires("root", 24 * 100),
                expires("targets", 24 * 3),
                expires("timestamp", 0),
            ],
            ..status(Given::default())
        };
        assert_eq!(
            text(&all, at(0)),
            "repository of wiki\nno channel offers anything\n1.1.0 was withdrawn from beta on 2026-11-22 00:00 UTC\n\
             wiki-1.2.0-amd64 was added and is not published\nWhat stands here is not in force before `imagegen release publish`.\n\
             root is good until 2027-03-02 00:00 UTC, in 100 days\ntargets is good until 2026-11-25 00:00 UTC, in 3 days: publish again \
             before\ntimestamp is good until 2026-11-22 00:00 UTC: expired, appliances refuse it\n"
        );
    }
}

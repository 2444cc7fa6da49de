//! From what a unit did to what its file should say. Pure: no I/O, so that every advice can be tested.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use cairn_api::{Advice, Direction};
use cairn_sandbox::learn::{Place, Seen, Trace, Transport};
use cairn_sandbox::{Mount, Plan};
use cairn_unit::{Manifest, ManifestUnit, NetworkMode, Protocol, Provide};

use crate::address;

/// A unit as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The appliance.
    pub manifest: &'a Manifest,
    /// The unit's name.
    pub name: &'a str,
    /// The unit.
    pub unit: &'a ManifestUnit,
    /// Its main process's sandbox.
    pub plan: &'a Plan,
    /// Whether it was given open sockets, so that one that it did not bind itself is no sign of anything.
    pub handed: bool,
}

/// What the unit's file should say: first what is missing, then what is too much, then what no file can say.
pub fn advise(subject: &Subject<'_>, trace: &Trace) -> Vec<Advice> {
    let mut advice = super::wider::advise(subject, trace);
    if trace.dropped > 0 {
        let why = format!(
            "{} different things found no room in the record, so nothing is said to be unused",
            trace.dropped
        );
        advice.push(note(why, None));
    } else if !trace.programs.is_empty() {
        // Where no program was heard of, nothing ran that could have used anything.
        advice.extend(super::tighter::advise(subject, trace));
    }
    let order = |advice: &Advice| match advice.direction {
        Direction::Wider => 0,
        Direction::Tighter => 1,
        Direction::Note => 2,
    };
    advice.sort_by_key(order);
    advice
}

/// One advice.
pub(super) fn advice(
    direction: Direction,
    key: impl Into<String>,
    value: impl Into<String>,
    why: impl Into<String>,
    seen: Option<&Seen>,
) -> Advice {
    Advice {
        direction,
        key: key.into(),
        value: value.into(),
        why: why.into(),
        times: seen.map_or(0, |seen| seen.times),
        example: seen.map_or_else(String::new, |seen| seen.example.clone()),
    }
}

/// What no key of a unit's file can say.
pub(super) fn note(why: impl Into<String>, seen: Option<&Seen>) -> Advice {
    advice(Direction::Note, "", "", why, seen)
}

/// A text as TOML, in one line, also as a key.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Where something on the network is, as seen by a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Where<'a> {
    /// In the unit itself.
    Self_,
    /// Another unit.
    Unit(&'a str, &'a ManifestUnit),
    /// The appliance's end of the internal network.
    Gateway,
    /// A place of the internal network where nothing is.
    Nowhere,
    /// All of a group at once.
    Group,
    /// Outside of the appliance.
    Outside,
}

impl<'a> Subject<'a> {
    /// The unit that provides something, with it.
    pub(super) fn provider(&self, need: &str) -> Option<(&'a str, &'a Provide)> {
        let mut all = self.manifest.units.iter();
        all.find_map(|(name, unit)| Some((name.as_str(), unit.unit.provides.get(need)?)))
    }

    /// Where an address is.
    pub(super) fn place(&self, at: &IpAddr) -> Where<'a> {
        let of = |unit: &ManifestUnit| match at {
            IpAddr::V4(v4) => *v4 == address::ipv4(unit.index),
            IpAddr::V6(v6) => *v6 == address::ipv6(unit.index),
        };
        let broadcast = matches!(at, IpAddr::V4(v4) if v4.is_broadcast());
        if at.is_loopback() || at.is_unspecified() {
            return Where::Self_;
        }
        if at.is_multicast() || broadcast {
            return Where::Group;
        }
        if let Some((name, unit)) = self.manifest.units.iter().find(|(_, unit)| of(unit)) {
            let own = name.as_str() == self.name;
            return if own {
                Where::Self_
            } else {
                Where::Unit(name.as_str(), unit)
            };
        }
        let inside = match at {
            IpAddr::V4(v4) if *v4 == address::GATEWAY4 => return Where::Gateway,
            IpAddr::V6(v6) if *v6 == address::GATEWAY6 => return Where::Gateway,
            IpAddr::V4(v4) => v4.octets()[..2] == address::GATEWAY4.octets()[..2],
            IpAddr::V6(v6) => v6.octets()[..8] == address::GATEWAY6.octets()[..8] || v6.is_unicast_link_local(),
        };
        if inside { Where::Nowhere } else { Where::Outside }
    }

    /// The ports at which others may come, with the keys that declare them.
    pub(super) fn open_ports(&self) -> Vec<(Protocol, u16, String)> {
        let unit = &self.unit.unit;
        let provided = unit
            .provides
            .iter()
            .filter_map(|(name, provide)| Some((Protocol::Tcp, provide.port?, format!("provides.{name}"))));
        let published = unit.network.publish.iter().map(|publish| {
            (
                publish.protocol,
                publish.to.unwrap_or(publish.port),
                "network.publish".to_owned(),
            )
        });
        provided.chain(published).collect()
    }

    /// Whether it is on the internal network.
    pub(super) fn connected(&self) -> bool {
        self.unit.unit.network.mode == NetworkMode::Bridge
    }

    /// The mount that a path lies on, if it is on one of the plan's: the deepest, and of those the last.
    pub(super) fn mount(&self, path: &str) -> Option<&'a Mount> {
        let on = self
            .plan
            .mounts
            .iter()
            .filter(|mount| Path::new(path).starts_with(mount.target()));
        on.max_by_key(|mount| mount.target().components().count())
    }
}

/// The addresses of IPv4 and IPv6 among places, with the protocol that a unit's file can name.
pub(super) fn addresses<'a>(
    places: impl IntoIterator<Item = (&'a Place, &'a Seen)>,
) -> impl Iterator<Item = (Protocol, SocketAddr, &'a Seen)> {
    places.into_iter().filter_map(|(place, seen)| match place {
        // Port 0 is no address of anybody: a port to be chosen, or a question for the route.
        Place::Ip { at, .. } if at.port() == 0 => None,
        Place::Ip {
            transport: Transport::Tcp,
            at,
        } => Some((Protocol::Tcp, *at, seen)),
        Place::Ip {
            transport: Transport::Udp,
            at,
        } => Some((Protocol::Udp, *at, seen)),
        _ => None,
    })
}

/// The word of a protocol.
pub(super) fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// The ports that were bound where others can come.
pub(super) fn bound(trace: &Trace) -> BTreeSet<(Protocol, u16)> {
    let all = addresses(&trace.bound).filter(|(_, at, _)| !at.ip().is_loopback());
    all.map(|(protocol, at, _)| (protocol, at.port())).collect()
}

#[cfg(test)]
#[path = "advise_tests.rs"]
pub(super) mod tests;

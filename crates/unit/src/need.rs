//! A binding as the two units write it: what the consumer needs, and what a provider that connects to its consumers asks of them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::manifest::{Manifest, ManifestUnit};
use crate::unit::Provide;
use crate::values::{Name, Path, is_label};

/// A binding as the consumer writes it: the name of a provide of another unit, or a table.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(with = "NeedForm")]
pub struct Need {
    /// The provide's name.
    pub from: Name,
    /// Whether the unit does without it where no unit of the appliance provides it, or the one that does is disabled or not ready.
    pub optional: bool,
    /// The TCP port at which this unit answers, if it is the provider that connects.
    pub port: Option<u16>,
    /// Or the Unix socket, by its path in this unit.
    pub socket: Option<Path>,
    /// What the provider asks beside the port, by name.
    pub asks: BTreeMap<String, String>,
}

/// The two forms in which a need is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // Only its schema is used.
enum NeedForm {
    /// The name of a provide of another unit.
    Short(Name),
    /// The same with more.
    Long(NeedTable),
}

/// A need with more than the provide's name. A provide with `upstream` names further keys that can stand here, such as `path`.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NeedTable")]
struct NeedTable {
    /// The name of a provide of another unit.
    from: Name,
    /// Whether the unit does without it where no unit of the appliance provides it, or the one that does is disabled or not ready. Its
    /// templates then see `none` in its place.
    #[serde(default)]
    optional: bool,
    /// The TCP port at which this unit answers, if the provide has `upstream`: then it is the provider that connects.
    #[serde(default)]
    port: Option<u16>,
    /// Instead of `port`: the Unix socket, in a folder of `[runtime]`, at which it answers. The provider sees that folder, and no port is opened.
    #[serde(default)]
    socket: Option<Path>,
    #[serde(flatten)]
    asks: BTreeMap<String, String>,
}

impl Need {
    /// A need of nothing but the provide.
    pub fn of(from: Name) -> Need {
        Need {
            from,
            optional: false,
            port: None,
            socket: None,
            asks: BTreeMap::new(),
        }
    }

    fn is_plain(&self) -> bool {
        !self.optional && self.port.is_none() && self.socket.is_none() && self.asks.is_empty()
    }
}

impl Serialize for Need {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.is_plain() {
            return self.from.serialize(s);
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("from", &self.from)?;
        if self.optional {
            map.serialize_entry("optional", &true)?;
        }
        if let Some(port) = self.port {
            map.serialize_entry("port", &port)?;
        }
        if let Some(socket) = &self.socket {
            map.serialize_entry("socket", socket)?;
        }
        for (key, value) in &self.asks {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Need, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Need;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a provide, or a table with `from`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Need, E> {
                text.parse().map(Need::of).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Need, A::Error> {
                let table = NeedTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Need {
                    from: table.from,
                    optional: table.optional,
                    port: table.port,
                    socket: table.socket,
                    asks: table.asks,
                })
            }
        }
        d.deserialize_any(Forms)
    }
}

/// That the unit connects to those that need this, each at the port or the socket that it says, as a reverse proxy does. Its templates see them as
/// `bound.PROVIDE`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// What each of them says beside its port, by the key under which it stands in its need.
    pub asks: BTreeMap<Name, Ask>,
    /// Keys whose values together no two of them may share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distinct: Vec<Name>,
}

impl Upstream {
    /// What a need has for its own, or a template sees of each beside what was asked, so that nothing asked can be called so.
    pub const RESERVED: [&'static str; 10] = [
        "from", "optional", "port", "socket", "unit", "need", "server", "name", "password", "other",
    ];

    /// What a need says, with defaults in place of what is left out.
    pub fn answers(&self, need: &Need) -> BTreeMap<String, String> {
        let all = self.asks.iter().map(|(key, ask)| {
            let said = need.asks.get(key.as_str()).or(ask.default.as_ref());
            (key.to_string(), said.cloned().unwrap_or_default())
        });
        all.collect()
    }
}

/// One thing that a provider asks of each unit that needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Its form.
    pub is: AskKind,
    /// What holds if it is left out; without one, it has to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The only values that it can have; left out: every one of its form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The form of something asked. None of them has a character that a configuration file could take for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AskKind {
    /// A path of a URL: `/`, or `/` before each part, which has letters, digits, `.`, `_`, `~` and `-`.
    Path,
    /// A label of the DNS, for a host below the owner's domain, or nothing for the domain itself. The provider's certificates hold for it.
    Host,
    /// Letters, digits, `.`, `_` and `-`.
    Word,
}

impl Ask {
    /// Whether a value is one that can be said, or what it has to be.
    ///
    /// # Errors
    /// A sentence's end: "must be ...".
    pub fn check(&self, value: &str) -> Result<(), String> {
        let plain = |more: &'static str| move |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain("._~-"));
        let (good, form) = match self.is {
            AskKind::Path => (
                value == "/" || value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part)),
                "must be a path such as `/` or `/wiki`, without `/` at its end",
            ),
            AskKind::Host => (
                value.is_empty() || is_label(value),
                "must be one label of a host name in lower case, such as `wiki`, or empty for the domain itself",
            ),
            AskKind::Word => (
                !value.is_empty() && value.chars().all(plain("._-")),
                "must be letters, digits, `.`, `_` and `-`",
            ),
        };
        if value.len() > 255 {
            return Err("must be at most 255 characters long".to_owned());
        }
        if !good {
            return Err(form.to_owned());
        }
        if !self.values.is_empty() && !self.values.iter().any(|known| known == value) {
            return Err(format!("must be one of {}", self.values.join(", ")));
        }
        Ok(())
    }
}

/// A binding of a compiled appliance, from either side.
#[derive(Debug, Clone, Copy)]
pub struct Bond<'a> {
    /// The unit that needs.
    pub consumer: &'a Name,
    /// It, too.
    pub consumer_unit: &'a ManifestUnit,
    /// Its own name for the need.
    pub name: &'a Name,
    /// What it says of it.
    pub need: &'a Need,
    /// The unit that provides.
    pub provider: &'a Name,
    /// It, too.
    pub provider_unit: &'a ManifestUnit,
    /// What is provided.
    pub provide: &'a Provide,
}

impl<'a> Bond<'a> {
    /// Who connects, to whom, and at which TCP port. None for a socket or a folder.
    pub fn way(&self) -> Option<(&'a ManifestUnit, &'a ManifestUnit, u16)> {
        match self.provide.upstream {
            Some(_) => Some((self.provider_unit, self.consumer_unit, self.need.port?)),
            None => Some((self.consumer_unit, self.provider_unit, self.provide.port?)),
        }
    }

    /// Where a provider that connects sees the consumer's socket.
    pub fn upstream_socket(&self) -> Option<Path> {
        let file = std::path::Path::new(self.need.socket.as_ref()?.as_str())
            .file_name()?
            .to_str()?;
        format!("{}/{file}", self.upstream_folder()).parse().ok()
    }

    /// Where it sees the folder of that socket: a place of its own for each, since two units can have the same path.
    pub fn upstream_folder(&self) -> String {
        format!("/run/upstream/{}.{}", self.consumer.host(), self.name)
    }

    /// Whether the consumer starts only after the provider.
    pub fn orders(&self) -> bool {
        orders(self.need, self.provide)
    }
}

/// Whether a need makes its unit wait for the provider. Who is connected to does not: it serves whenever somebody comes.
pub(crate) fn orders(need: &Need, provide: &Provide) -> bool {
    !need.optional && provide.upstream.is_none()
}

impl Manifest {
    /// The bindings of a unit to others; an optional need that nobody provides is none.
    pub fn bonds<'a>(&'a self, name: &str) -> impl Iterator<Item = Bond<'a>> {
        let unit = self.units.get_key_value(name);
        unit.into_iter().flat_map(move |(consumer, consumer_unit)| {
            consumer_unit.unit.needs.iter().filter_map(move |(name, need)| {
                let mut providers = self.units.iter();
                let (provider, provider_unit, provide) = providers.find_map(|(provider, unit)| {
                    let provide = unit.unit.provides.get(&need.from)?;
                    Some((provider, unit.as_ref(), provide))
                })?;
                Some(Bond {
                    consumer,
                    consumer_unit: consumer_unit.as_ref(),
                    name,
                    need,
                    provider,
                    provider_unit,
                    provide,
                })
            })
        })
    }

    /// The bindings of others to what a unit provides, by consumer and need.
    pub fn consumers<'a>(&'a self, name: &str) -> impl Iterator<Item = Bond<'a>> {
        let provider = self.units.get_key_value(name);
        provider.into_iter().flat_map(move |(provider, provider_unit)| {
            let units = self.units.iter();
            let needs =
                units.flat_map(|(consumer, unit)| unit.unit.needs.iter().map(move |need| (consumer, unit, need)));
            needs.filter_map(move |(consumer, consumer_unit, (name, need))| {
                Some(Bond {
                    consumer,
                    consumer_unit: consumer_unit.as_ref(),
                    name,
                    need,
                    provider,
                    provider_unit: provider_unit.as_ref(),
                    provide: provider_unit.unit.provides.get(&need.from)?,
                })
            })
        })
    }

    /// The bindings of the whole appliance, by consumer and need.
    pub fn all_bonds(&self) -> impl Iterator<Item = Bond<'_>> {
        self.units.keys().flat_map(|name| self.bonds(name.as_str()))
    }

    /// The name by which other units know a unit and check its certificate: `UNIT.APPLIANCE.internal`.
    pub fn internal_name(&self, unit: &Name) -> String {
        format!("{}.{}.internal", unit.host(), self.name.host())
    }

    /// Whether the owner lets a unit run.
    pub fn enabled(&self, name: &str) -> bool {
        !self.disabled.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written_as_they_were() {
        for text in [
            r#"{"db":"sql"}"#,
            r#"{"db":{"from":"sql","optional":true}}"#,
            r#"{"web":{"from":"web","port":8000,"path":"/wiki"}}"#,
            r#"{"web":{"from":"web","socket":"/run/wiki/s","path":"/wiki"}}"#,
        ] {
            let needs: BTreeMap<Name, Need> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&needs).unwrap(), text);
        }
        assert!(serde_json::from_str::<Need>(r#"{"port":1}"#).is_err());
        assert!(serde_json::from_str::<Need>(r#""A b""#).is_err());
    }

    #[test]
    fn nothing_that_a_configuration_file_could_take_for_its_own_is_accepted() {
        let ask = |is| Ask {
            is,
            default: None,
            values: Vec::new(),
        };
        for good in ["/", "/wiki", "/a/b.c~_-d"] {
            assert_eq!(ask(AskKind::Path).check(good), Ok(()), "{good}");
        }
        for bad in [
            "", "wiki", "/a/", "//", "/..", "/a/./b", "/a b", "/{", "/\n", "/ü", "/a\"", "/%41", "/*",
        ] {
            assert!(ask(AskKind::Path).check(bad).is_err(), "{bad:?}");
        }
        for (good, bad) in [("wiki", "a.b"), ("", "-a"), ("a-1", "A"), ("w", "w\n")] {
            assert_eq!(ask(AskKind::Host).check(good), Ok(()), "{good}");
            assert!(ask(AskKind::Host).check(bad).is_err(), "{bad:?}");
        }
        assert!(ask(AskKind::Word).check("").is_err() && ask(AskKind::Word).check("a b").is_err());
        let either = Ask {
            values: vec!["http".into(), "https".into()],
            ..ask(AskKind::Word)
        };
        assert_eq!(either.check("https"), Ok(()));
        assert_eq!(either.check("h2c").unwrap_err(), "must be one of http, https");
        assert!(ask(AskKind::Word).check(&"a".repeat(256)).is_err());
    }
}

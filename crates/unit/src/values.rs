//! Small values with one textual form each: names, sizes, durations, modes, paths, signals.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value's text does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(crate) fn new(text: String) -> ValueError {
        ValueError(text)
    }
}

macro_rules! text_value {
    ($name:ident, $pattern:literal, $form:literal, $examples:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "pattern": $pattern, "description": $form, "examples": $examples,
                })
            }
        }
    };
}

pub(crate) use text_value;

/// A name of a unit, an overlay, a provide, a secret: lower case ASCII letters, digits and `-`, starting with
/// a letter, at most 32 characters, so that it is safe as a file, host, cgroup and interface name. A unit's name may have an
/// instance behind an `@`: `worker@1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`, if there is one.
    pub fn instance(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, instance)| instance)
    }

    /// What stands in front of the `@`; all of it if there is none.
    pub fn template(&self) -> &str {
        self.0.split('@').next().unwrap_or(&self.0)
    }

    /// The name as a host name, which cannot have an `@`.
    pub fn host(&self) -> String {
        self.0.replace('@', "-")
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let part = |text: &str| {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !text.is_empty() && text.chars().all(fine) && !text.starts_with('-') && !text.ends_with('-')
        };
        let letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        let good = text.len() <= 32
            && letter
            && match text.split_once('@') {
                Some((template, instance)) => part(template) && part(instance),
                None => part(text),
            };
        if good {
            Ok(Name(text.to_owned()))
        } else {
            Err(ValueError(format!(
                "`{text}` is not a name: lower case letters, digits and `-`, starting with a letter, at most 32 characters"
            )))
        }
    }
}
text_value!(
    Name,
    "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?(@[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?)?$",
    "Lower case letters, digits and `-`, starting with a letter and not ending with `-`, at most 32 characters. A unit that is an \
     instance of a template has a second such part behind an `@`.",
    ["caddy", "web-1", "worker@1"]
);

/// Whether a text is one label of a host name in lower case (RFC 1035, section 2.3.1, with digits in front as RFC 1123, section 2.1 allows).
pub fn is_label(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with('-') && !text.ends_with('-')
}

/// A domain of the DNS in lower case, in its ASCII form (RFC 5890: `xn--mller-kva.example` for `müller.example`): at least two labels of
/// letters, digits and `-`, each of at most 63 octets, at most 253 in all (RFC 1035, section 2.3.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let last = text.rsplit('.').next().unwrap_or_default();
        let why = if text.len() > 253 {
            format!("a domain has at most 253 characters, not {}", text.len())
        } else if !text.is_ascii() {
            format!("`{text}` is not in the form that the DNS has: write it with `xn--`")
        } else if !text.contains('.') || last.bytes().all(|b| b.is_ascii_digit()) || !text.split('.').all(is_label) {
            format!(
                "`{text}` is not a domain: lower case letters, digits and `-`, with dots between, like `example.org`"
            )
        } else {
            return Ok(Domain(text.to_owned()));
        };
        Err(ValueError(why))
    }
}
text_value!(
    Domain,
    "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "A domain of the DNS in lower case, in its ASCII form.",
    ["example.org"]
);

/// A number of bytes, written as a number with an optional suffix `K`, `M`, `G` or `T` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => {
                return Err(ValueError(format!(
                    "`{text}` is not a size: write for example 512M or 2G"
                )));
            }
        };
        number(digits)
            .and_then(|n| n.checked_mul(1 << shift))
            .map(Bytes)
            .ok_or_else(|| ValueError(format!("`{text}` is not a size: write for example 512M or 2G")))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}
text_value!(
    Bytes,
    "^[0-9]+[KMGT]?$",
    "Bytes: a number with an optional `K`, `M`, `G` or `T` (powers of 1024), in quotes.",
    ["512M", "2G"]
);

/// A number in plain digits; the standard library would also take a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// A duration, kept in milliseconds, written as `250ms`, `30s`, `5m`, `12h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seconds {
    milliseconds: u64,
}

impl Seconds {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Seconds {
        Seconds {
            milliseconds: seconds * 1000,
        }
    }

    /// A duration of milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Seconds {
        Seconds { milliseconds }
    }

    /// The whole milliseconds.
    pub const fn millis(self) -> u64 {
        self.milliseconds
    }

    /// As the standard library's type.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.milliseconds)
    }
}

impl FromStr for Seconds {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        unit.and_then(|u| number(digits)?.checked_mul(u))
            .map(|milliseconds| Seconds { milliseconds })
            .ok_or_else(|| {
                ValueError(format!(
                    "`{text}` is not a duration: write for example 250ms, 30s, 5m or 12h"
                ))
            })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, suffix) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
            if self.milliseconds != 0 && self.milliseconds.is_multiple_of(unit) {
                return write!(f, "{}{suffix}", self.milliseconds / unit);
            }
        }
        write!(f, "{}ms", self.milliseconds)
    }
}
text_value!(
    Seconds,
    "^[0-9]+(ms|s|m|h|d)$",
    "A number with `ms`, `s`, `m`, `h` or `d`.",
    ["250ms", "30s", "5m"]
);

/// Permission bits, written in octal: `"0750"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 && (3..=5).contains(&text.len()) && !text.starts_with('+') => Ok(Mode(bits)),
            _ => Err(ValueError(format!(
                "`{text}` is not a mode: write it in octal, for example \"0750\""
            ))),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}
text_value!(
    Mode,
    "^([0-7]{3,4}|0[0-7]{4})$",
    "Permission bits in octal, in quotes.",
    ["0750", "1777"]
);

/// An absolute path without `.`, `..`, empty parts or a closing `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `folder` or something below it.
    pub fn is_within(&self, folder: &Path) -> bool {
        std::path::Path::new(&self.0).starts_with(&folder.0)
    }
}

impl AsRef<std::path::Path> for Path {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

impl std::borrow::Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Path {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts = text.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>());
        let good = text == "/"
            || parts.is_some_and(|p| {
                p.iter()
                    .all(|s| !s.is_empty() && *s != "." && *s != ".." && !s.contains('\0'))
            });
        if good {
            Ok(Path(text.to_owned()))
        } else {
            Err(ValueError(format!(
                "`{text}` is not a path here: it must start with `/` and have no `.`, `..` or `//`"
            )))
        }
    }
}
text_value!(
    Path,
    "^/",
    "An absolute path without `.`, `..`, `//` or a closing `/`.",
    ["/var/lib/caddy"]
);

/// A signal by its name without `SIG`: `TERM`, `QUIT`, `INT`, `HUP`, `USR1`, `USR2`, `WINCH`, `KILL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Signal {
    Term,
    Quit,
    Int,
    Hup,
    Usr1,
    Usr2,
    Winch,
    Kill,
}

impl Signal {
    /// The kernel's number, the same on x86-64 and arm64.
    pub fn number(self) -> i32 {
        match self {
            Signal::Hup => 1,
            Signal::Int => 2,
            Signal::Quit => 3,
            Signal::Kill => 9,
            Signal::Usr1 => 10,
            Signal::Usr2 => 12,
            Signal::Term => 15,
            Signal::Winch => 28,
        }
    }
}

//! The names in certificates, and which of them the appliance's authority may vouch for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A name by which a service is reached (a subjectAltName).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AltName {
    /// A DNS name in lower case; the first label may be `*`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// The names of one certificate.
pub type Names = BTreeSet<AltName>;

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AltName::Dns(name) => f.write_str(name),
            AltName::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for AltName {
    type Err = String;

    fn from_str(text: &str) -> Result<AltName, String> {
        if let Ok(address) = text.parse() {
            return Ok(AltName::Ip(address));
        }
        let name = text.to_ascii_lowercase();
        let label = |label: &str| {
            let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(fine)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let plain = name.strip_prefix("*.").unwrap_or(&name);
        if name.len() <= 253 && plain.split('.').all(label) {
            return Ok(AltName::Dns(name));
        }
        Err(format!(
            "`{text}` is no name for a certificate: an address, or labels of letters, digits and `-` with dots between them"
        ))
    }
}

impl AltName {
    /// Whether a certificate with this name is good for `wanted`: the same, or a `*` for its first label.
    pub fn covers(&self, wanted: &AltName) -> bool {
        match (self, wanted) {
            (AltName::Dns(own), AltName::Dns(wanted)) => {
                let star = || Some((own.strip_prefix("*.")?, wanted.split_once('.')?.1));
                own == wanted || star().is_some_and(|(own, rest)| own == rest)
            }
            _ => self == wanted,
        }
    }
}

/// Names in one line.
pub(crate) fn list(names: &Names) -> String {
    let all: Vec<String> = names.iter().map(AltName::to_string).collect();
    all.join(", ")
}

/// The addresses that the authority vouches for: those that mean something on one network only. With their prefixes' lengths.
pub(crate) const RANGES: [(IpAddr, u8); 9] = [
    // RFC 1918.
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    // RFC 6598: behind a provider's translation, and in overlay networks.
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    // Link-local and loopback.
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    // RFC 4193.
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];

fn within(address: IpAddr, range: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (address, range) {
        (IpAddr::V4(a), IpAddr::V4(r)) => (a.to_bits() ^ r.to_bits()).checked_shr(32 - prefix).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(r)) => (a.to_bits() ^ r.to_bits()).checked_shr(128 - prefix).unwrap_or(0) == 0,
        _ => false,
    }
}

/// What the authority's certificate permits: these domains with all below them, and [`RANGES`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permitted(pub BTreeSet<String>);

impl Permitted {
    /// What an appliance of this name, reached under `domain`, needs: `NAME.local` (multicast DNS), `NAME.internal` (what units call
    /// each other; the top-level domain is reserved for private use) and the domain.
    ///
    /// # Errors
    /// The name is no label, or the domain is none or a whole top-level domain.
    pub fn of(appliance: &str, domain: Option<&str>) -> Result<Permitted, String> {
        let mut all = BTreeSet::new();
        if appliance.contains('.') {
            return Err(format!("the appliance's name `{appliance}` must have no dot"));
        }
        let own = [format!("{appliance}.local"), format!("{appliance}.internal")];
        for name in own.iter().map(String::as_str).chain(domain) {
            match name.parse()? {
                // What is below `com` is not the owner's.
                AltName::Dns(name) if name.contains('.') && !name.starts_with('*') => drop(all.insert(name)),
                _ => {
                    return Err(format!(
                        "`{name}` is not a domain of your own: it needs two labels, as in home.example"
                    ));
                }
            }
        }
        Ok(Permitted(all))
    }

    /// Whether the authority may issue a certificate for a name.
    pub fn allows(&self, name: &AltName) -> bool {
        match name {
            AltName::Ip(address) => RANGES.iter().any(|(range, prefix)| within(*address, *range, *prefix)),
            AltName::Dns(name) => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                let below = |domain: &String| {
                    name.strip_suffix(domain.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
                };
                self.0.iter().any(|domain| domain == name || below(domain))
            }
        }
    }
}

impl fmt::Display for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        write!(f, "{} and private addresses", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AltName {
        text.parse().unwrap()
    }

    #[test]
    fn the_authority_is_for_the_appliances_own_names_and_private_addresses() {
        let permitted = Permitted::of("box", Some("home.example")).unwrap();
        for good in [
            "box.local",
            "db.box.internal",
            "HOME.example",
            "*.home.example",
            "a.b.home.example",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "100.127.0.1",
            "127.0.0.53",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(permitted.allows(&name(good)), "{good}");
        }
        for bad in [
            "local",
            "other.local",
            "box.internal.example",
            "nothome.example",
            "example",
            "google.com",
            "172.32.0.1",
            "8.8.8.8",
            "::2",
            "2001:db8::1",
        ] {
            assert!(!permitted.allows(&name(bad)), "{bad}");
        }
    }

    #[test]
    fn a_top_level_domain_is_not_taken_as_the_owners() {
        for bad in ["com", "*.com", "10.0.0.1", "a..b", "", "-a.example", "a_b.example"] {
            assert!(Permitted::of("box", Some(bad)).is_err(), "{bad}");
        }
        assert!(Permitted::of("google.com", None).is_err());
    }

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(name("*.home.example").covers(&name("a.home.example")));
        for other in ["home.example", "a.b.home.example", "a.example"] {
            assert!(!name("*.home.example").covers(&name(other)), "{other}");
        }
        assert!(!name("10.0.0.1").covers(&name("10.0.0.2")));
    }
}

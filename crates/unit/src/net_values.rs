//! Values of the outside network: addresses with their networks, hardware addresses, devices' names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::values::{ValueError, is_label, text_value};

/// The networks in which units reach each other. No outside device can have an address in them.
pub const INTERNAL: [NetAddress; 2] = [
    NetAddress {
        address: IpAddr::V4(Ipv4Addr::new(10, 201, 0, 0)),
        prefix: 16,
    },
    NetAddress {
        address: IpAddr::V6(Ipv6Addr::new(0xfd63, 0x6169, 0x726e, 0, 0, 0, 0, 0)),
        prefix: 64,
    },
];

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetAddress {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits name the network.
    pub prefix: u8,
}

impl NetAddress {
    /// Whether an address is in the network.
    #[must_use]
    pub fn holds(&self, other: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix);
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other))
                    .checked_shr(shift(128))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &NetAddress) -> bool {
        self.holds(other.address) && self.prefix <= other.prefix
            || other.holds(self.address) && other.prefix <= self.prefix
    }

    /// Why no device of this network can have the address: what it is instead.
    #[must_use]
    pub fn cannot_be(&self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(v4) => {
                // Two hosts on a line need neither (RFC 3021).
                let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                let parts = self.prefix < 31;
                match u32::from(v4) & host {
                    _ if v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.octets()[0] >= 240 => {
                        Some("an address that no device can have")
                    }
                    0 if parts => Some("the network's own address"),
                    bits if parts && bits == host => Some("the network's broadcast address"),
                    _ => None,
                }
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                if v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some() {
                    Some("an address that no device can have")
                } else if v6.is_unicast_link_local() {
                    Some("a link-local address, which a device has by itself")
                } else if self.prefix < 127 && u128::from(v6) & host == 0 {
                    // RFC 4291, section 2.6.1.
                    Some("the address of the network's routers")
                } else {
                    None
                }
            }
        }
    }
}

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for NetAddress {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((address, prefix)) = text.split_once('/') else {
            let more = match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => format!("`{text}` has no prefix length: write for example {text}/24"),
                Ok(IpAddr::V6(_)) => format!("`{text}` has no prefix length: write for example {text}/64"),
                Err(_) => format!("`{text}` is not an address: write for example 192.0.2.5/24 or 2001:db8::5/64"),
            };
            return Err(ValueError::new(more));
        };
        let wrong = || {
            ValueError::new(format!(
                "`{text}` is not an address with a prefix length: write for example 192.0.2.5/24 or 2001:db8::5/64"
            ))
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = plain.then(|| prefix.parse().ok()).flatten().ok_or_else(wrong)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > most {
            return Err(ValueError::new(format!(
                "`{text}` has a prefix length that cannot be: it is between 1 and {most}"
            )));
        }
        Ok(NetAddress { address, prefix })
    }
}
text_value!(
    NetAddress,
    "^[0-9a-fA-F.:]+/[0-9]{1,3}$",
    "An address with the length of its network's prefix.",
    ["192.0.2.5/24", "2001:db8::5/64"]
);

/// A device's hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(format!(
                "`{text}` is not a device's hardware address: write for example 52:54:00:12:34:56"
            ))
        };
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().ok_or_else(wrong)?;
            let fine = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = fine
                .then(|| u8::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or_else(wrong)?;
        }
        // A group's address is nobody's own.
        if parts.next().is_some() || mac == [0; 6] || mac[0] & 1 == 1 {
            return Err(wrong());
        }
        Ok(Mac(mac))
    }
}
text_value!(
    Mac,
    "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$",
    "A device's hardware address: six pairs of hexadecimal digits.",
    ["52:54:00:12:34:56"]
);

/// A name for a network device: letters, digits, `.`, `_` and `-`, at most 15 bytes (`IFNAMSIZ`). Loopback and the appliance's own links
/// are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let own = text == "lo"
            || text == "cairn0"
            || text
                .strip_prefix("unit")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        if own {
            return Err(ValueError::new(format!(
                "`{text}` is the appliance's own: name an outside device, for example eth0"
            )));
        }
        if (1..=15).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with(['.', '-']) {
            Ok(DeviceName(text.to_owned()))
        } else {
            Err(ValueError::new(format!(
                "`{text}` is not a network device's name: write for example eth0 or enp1s0"
            )))
        }
    }
}
text_value!(
    DeviceName,
    "^[A-Za-z0-9_][A-Za-z0-9._-]{0,14}$",
    "A network device's name, at most 15 characters.",
    ["eth0", "enp1s0"]
);

/// A domain in which short names are looked for: like a domain, and of one label too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchDomain(String);

impl fmt::Display for SearchDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SearchDomain {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(SearchDomain(text.to_owned()))
        } else {
            Err(ValueError::new(format!(
                "`{text}` is not a search domain: lower case letters, digits and `-`, like `lan` or `office.example.org`"
            )))
        }
    }
}
text_value!(
    SearchDomain,
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
    "A domain of the DNS in lower case, also of one part.",
    ["lan", "office.example.org"]
);

/// A server that tells the time by NTP (RFC 5905): a name or an address, and its port if that is not 123.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeServer(String);

impl fmt::Display for TimeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TimeServer {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // An address of IPv6 has colons of its own.
        let (host, port) = match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        };
        let numeric = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port_fits = port.is_none_or(|port| numeric(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
        if port_fits && (host.parse::<IpAddr>().is_ok() || host.parse::<SearchDomain>().is_ok()) {
            return Ok(TimeServer(text.to_owned()));
        }
        Err(ValueError::new(format!(
            "`{text}` is not a time server: write a name or an address, like `ntp.example.org` or `192.0.2.1:123`"
        )))
    }
}
text_value!(
    TimeServer,
    "^[a-z0-9:.-]+$",
    "A server that tells the time by NTP: a name or an address, with `:PORT` if it is not 123 (not after an address of IPv6).",
    ["ntp.example.org", "192.0.2.1:123", "2001:db8::1"]
);

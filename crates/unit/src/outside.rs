//! The owner's choices for the appliance's outside network: `[network]` in `site.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::problem::{Problem, Problems, Source};
use crate::values::{Domain, ValueError, text_value};

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

/// So many name servers a resolver asks (`MAXNS` in resolv.conf(5)).
pub const DNS_MAX: usize = 3;
/// So many domains every resolver takes (resolv.conf(5)).
pub const SEARCH_MAX: usize = 6;
/// IPv6 needs packets of that size (RFC 8200, section 5).
const MTU_IPV6: u16 = 1280;
/// IPv4 needs packets of that size (RFC 791, section 3.1); every host takes them.
const MTU_IPV4: u16 = 576;
/// The largest jumbo frames that devices have.
const MTU_MAX: u16 = 9216;

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

/// The owner's choices for the outside network. A device that is not named has DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteNetwork {
    /// Name servers, in place of those that DHCP and single devices tell; at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked for, in place of those that DHCP and single devices tell; at most six.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Domain>,
    /// Choices for single devices, by name. With `mac` the name is only what the device is called here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<DeviceName, SiteDevice>,
}

/// The owner's choices for one network device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteDevice {
    /// The device's hardware address, by which it is found whatever it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Where its addresses come from.
    pub method: Method,
    /// Its addresses, each with the length of its network's prefix. With `dhcp` they can only be of IPv6.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NetAddress>,
    /// The router for IPv4, in one of the device's networks. With `dhcp` it comes from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The router for IPv6, in one of the device's networks, or a link-local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
    /// What the device has of IPv6.
    pub ipv6: Ipv6,
    /// The largest packet that it sends, in bytes; left out: as the device has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers, in place of those that DHCP tells; at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked for, in place of the one that DHCP tells; at most six.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Domain>,
}

/// Where a device's addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The network tells.
    #[default]
    Dhcp,
    /// They stand in `addresses`.
    Static,
    /// The device is not used.
    Off,
}

/// What a device has of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// What routers announce, beside the addresses in `addresses`.
    #[default]
    Auto,
    /// The addresses in `addresses` alone; what routers announce is not heard.
    Static,
    /// Nothing.
    Off,
}

impl SiteNetwork {
    /// Whether nothing was chosen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == SiteNetwork::default()
    }

    /// Parses and checks a text with `[network]` alone.
    ///
    /// # Errors
    /// Everything that is wrong, with its place.
    pub fn parse(source: &Source) -> Result<SiteNetwork, Problems> {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Alone {
            network: SiteNetwork,
        }
        let network = source.parse::<Alone>()?.network;
        Problems(network.check(source)).or(network)
    }

    /// Everything that is wrong with it, where it stands in `source`.
    pub(crate) fn check(&self, source: &Source) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut tell = |path: &[&str], message: String, help: &str| {
            let path = [&["network"], path].concat();
            found.push(source.problem_at(&path, message, Some(help.to_owned())));
        };
        resolvers(&self.dns, self.search.len(), &mut tell);
        let mut seen: BTreeMap<IpAddr, &DeviceName> = BTreeMap::new();
        let mut macs = BTreeSet::new();
        for (name, device) in &self.devices {
            let mut tell = |path: &[&str], message: String, help: &str| {
                tell(&[&["devices", name.as_str()], path].concat(), message, help);
            };
            if let Some(mac) = device.mac.filter(|mac| !macs.insert(*mac)) {
                let message = format!("two devices have the hardware address {mac}");
                tell(&["mac"], message, "leave one of them out");
            }
            for (at, own) in device.addresses.iter().enumerate() {
                let at = at.to_string();
                if let Some(other) = seen.insert(own.address, name) {
                    let message = match other == name {
                        true => format!("{} stands there twice", own.address),
                        false => format!("`{other}` and `{name}` have the same address {}", own.address),
                    };
                    tell(&["addresses", &at], message, "an address belongs to one device, once");
                }
            }
            device.check(&mut tell);
        }
        found
    }
}

/// What is wrong with name servers and search domains.
fn resolvers(dns: &[IpAddr], search: usize, tell: &mut dyn FnMut(&[&str], String, &str)) {
    for (at, server) in dns.iter().enumerate() {
        if server.is_unspecified() || server.is_loopback() || server.is_multicast() {
            let message = format!("{server} cannot be a name server");
            let help = "write the address of a name server in the network, like 192.0.2.1";
            tell(&["dns", &at.to_string()], message, help);
        }
    }
    if dns.len() > DNS_MAX {
        let message = format!("there are {} name servers", dns.len());
        tell(&["dns"], message, "leave at most three: no program asks more");
    }
    if search > SEARCH_MAX {
        let message = format!("there are {search} search domains");
        tell(&["search"], message, "leave at most six: no program takes more");
    }
}

impl SiteDevice {
    fn check(&self, tell: &mut dyn FnMut(&[&str], String, &str)) {
        let v6 = |own: &&NetAddress| own.address.is_ipv6();
        resolvers(&self.dns, self.search.len(), tell);
        let routers = [
            ("gateway", self.gateway.map(IpAddr::V4)),
            ("gateway6", self.gateway6.map(IpAddr::V6)),
        ];
        match self.method {
            Method::Off => {
                let other = SiteDevice {
                    mac: self.mac,
                    method: Method::Off,
                    ..SiteDevice::default()
                };
                if *self != other {
                    let message = "a device that is off has no other settings".to_owned();
                    tell(&["method"], message, "leave the others out");
                }
                return;
            }
            Method::Static if self.addresses.is_empty() => {
                let message = "a static device has no address".to_owned();
                tell(
                    &["method"],
                    message,
                    "add `addresses`, for example [\"192.0.2.5/24\"], or choose \"dhcp\"",
                );
            }
            Method::Dhcp => {
                for (at, own) in self.addresses.iter().enumerate().filter(|(_, own)| !v6(own)) {
                    let message = format!("with DHCP the device cannot have the address {own} too");
                    tell(
                        &["addresses", &at.to_string()],
                        message,
                        "choose `method = \"static\"`, or leave it out",
                    );
                }
                if self.gateway.is_some() {
                    let message = "with DHCP the gateway comes from the network".to_owned();
                    tell(&["gateway"], message, "leave it out, or choose `method = \"static\"`");
                }
            }
            Method::Static => {}
        }
        for (at, own) in self.addresses.iter().enumerate() {
            let at = at.to_string();
            if let Some(what) = own.cannot_be(own.address) {
                tell(
                    &["addresses", &at],
                    format!("{own} is {what}"),
                    "write the address that the device itself is to have",
                );
            }
            if let Some(internal) = INTERNAL.iter().find(|internal| internal.overlaps(own)) {
                let message = format!("{own} overlaps with {internal}, in which the services reach each other");
                tell(&["addresses", &at], message, "choose another network");
            }
        }
        for (key, router) in routers {
            let Some(router) = router else { continue };
            let local = matches!(router, IpAddr::V6(v6) if v6.is_unicast_link_local());
            let network = self.addresses.iter().find(|own| own.holds(router));
            if self.gateway.is_some() && self.method == Method::Dhcp && key == "gateway" {
                continue;
            }
            if self.addresses.iter().any(|own| own.address == router) {
                let message = format!("the gateway {router} is the device's own address");
                tell(&[key], message, "write the router's address");
            } else if let Some(network) = network.filter(|_| !local) {
                if let Some(what) = network.cannot_be(router) {
                    // A router may answer at the address of all routers.
                    if router.is_ipv4() {
                        tell(
                            &[key],
                            format!("the gateway {router} is {what}"),
                            "write the router's address",
                        );
                    }
                }
            } else if !local {
                let message = format!("the gateway {router} is in none of the device's networks");
                tell(
                    &[key],
                    message,
                    "correct it, or the prefix length of the device's address",
                );
            }
        }
        if self.ipv6 == Ipv6::Off {
            if let Some(at) = self.addresses.iter().position(|own| own.address.is_ipv6()) {
                let message = "the device has an address of IPv6, which is off".to_owned();
                tell(
                    &["addresses", &at.to_string()],
                    message,
                    "leave it out, or choose `ipv6 = \"static\"`",
                );
            }
            if self.gateway6.is_some() {
                let message = "the device has a gateway for IPv6, which is off".to_owned();
                tell(&["gateway6"], message, "leave it out, or choose `ipv6 = \"static\"`");
            }
        }
        if self.ipv6 == Ipv6::Static && !self.addresses.iter().any(|own| own.address.is_ipv6()) {
            let message = "no address of IPv6 is given".to_owned();
            tell(
                &["ipv6"],
                message,
                "add one to `addresses`, or choose \"auto\" or \"off\"",
            );
        }
        let least = if self.ipv6 == Ipv6::Off { MTU_IPV4 } else { MTU_IPV6 };
        if let Some(mtu) = self.mtu.filter(|mtu| !(least..=MTU_MAX).contains(mtu)) {
            let message = format!("packets cannot have {mtu} bytes at most");
            let help = match self.ipv6 {
                Ipv6::Off => "it is between 576 and 9216",
                _ => "it is between 1280 and 9216; less than 1280 needs `ipv6 = \"off\"`",
            };
            tell(&["mtu"], message, help);
        }
    }
}

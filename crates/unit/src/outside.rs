//! The owner's choices for the appliance's outside network: `[network]` in `site.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::net_values::{DeviceName, INTERNAL, Mac, NetAddress, SearchDomain};
use crate::problem::{Problem, Problems, Source};

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

/// The owner's choices for the outside network. A device that is not named has DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteNetwork {
    /// Name servers, in place of those that DHCP and single devices tell; at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked for, in place of those that DHCP and single devices tell; at most six.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<SearchDomain>,
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
    pub search: Vec<SearchDomain>,
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

//! The outside network: as it is, as it was chosen, and a change that waits to be confirmed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outside network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkState {
    /// The Ethernet devices that there are, as the kernel has them.
    pub devices: Vec<NetworkDevice>,
    /// Devices that something was chosen for and that are not there. They are set up when they come.
    pub absent: Vec<String>,
    /// The name servers that are asked, the first one first.
    pub dns: Vec<String>,
    /// The domains in which short names are looked for.
    pub search: Vec<String>,
    /// What could not be done, in sentences.
    pub problems: Vec<String>,
    /// Whether the firewall stands.
    pub firewall: bool,
    /// What the firewall lets in from outside.
    pub open: Vec<OpenPort>,
    /// What was chosen.
    pub chosen: NetworkChoices,
    /// A change that waits to be confirmed.
    pub pending: Option<NetworkPending>,
}

/// An Ethernet device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkDevice {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// `up`, `no-carrier` (nobody is at the other end) or `down`.
    pub link: String,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// What it is called in the owner's choices, if it is named there.
    pub chosen_as: Option<String>,
    /// Where its addresses come from: `dhcp`, `static` or `off`.
    pub method: String,
    /// Its addresses.
    pub addresses: Vec<NetworkAddress>,
    /// The routes over it.
    pub routes: Vec<NetworkRoute>,
    /// What DHCP granted.
    pub lease: Option<NetworkLease>,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkAddress {
    /// The address with the length of its network's prefix.
    pub address: String,
    /// Where it comes from: `dhcp`, `static`, `router` (a router's announcement), `link-local`, or `other`.
    pub from: String,
}

/// A route over a device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkRoute {
    /// Where to: a network, or `default`.
    pub to: String,
    /// By which router, if by one.
    pub gateway: Option<String>,
}

/// What DHCP granted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkLease {
    /// The address.
    pub address: String,
    /// Who granted it.
    pub server: String,
    /// For how long, in seconds.
    pub seconds: u32,
    /// How much of that is left, in seconds, if it is known when it was granted.
    pub left_s: Option<u64>,
}

/// A port that the firewall lets in from outside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OpenPort {
    /// The unit that it leads to.
    pub unit: String,
    /// The appliance's port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A change of the network that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPending {
    /// Who made it.
    pub who: String,
    /// When the network of before comes back, in seconds.
    pub left_s: u64,
    /// The network of before.
    pub before: NetworkChoices,
}

/// What is chosen for the outside network: `[network]` of `site.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkChoices {
    /// Name servers, in place of those that DHCP and single devices tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains in which short names are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Choices for single devices, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, NetworkChoice>,
}

/// What is chosen for one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkChoice {
    /// The hardware address by which the device is found, if not by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `dhcp`, `static` or `off`; left out: `dhcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its addresses, each with the length of its network's prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The router for IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The router for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<String>,
    /// `auto`, `static` or `off`; left out: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// The largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers, in place of those that DHCP tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains in which short names are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

//! The network inside, as a value. the application makes it by netlink.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The sandbox's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// An own network namespace with the loopback device only.
    #[default]
    Loopback,
    /// An own network namespace with one end of a veth pair. Needs real root.
    Veth(Veth),
    /// A network namespace that stands already, made by [`make_network`](crate::make_network) from this description: the
    /// descriptor after the last of the plan's sockets. Needs real root. It belongs to the host, so no capability inside has a
    /// hold on it.
    Joined(Veth),
    /// The host's network: an exception that a unit has to state.
    Host,
}

/// A veth pair: one end on the host, named and attached to a bridge; the other inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Veth {
    /// The host end, 1 to 15 bytes. A link of that name left by an earlier run is removed first.
    pub host_name: String,
    /// The bridge on the host that the host end joins; none leaves it alone.
    #[serde(default)]
    pub bridge: Option<String>,
    /// The inner end, 1 to 15 bytes. Default `eth0`.
    #[serde(default = "inner_name")]
    pub name: String,
    /// The inner end's hardware address as `02:00:00:00:00:01`; the kernel picks one if none.
    #[serde(default)]
    pub mac: Option<String>,
    /// IPv4 inside.
    #[serde(default)]
    pub ipv4: Option<Ipv4>,
    /// IPv6 inside; no duplicate address detection, so it works at once.
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
}

/// An IPv4 address with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv4 {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length, 1 to 32.
    pub prefix: u8,
    /// The default route's next hop.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
}

/// An IPv6 address with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6 {
    /// The address.
    pub address: Ipv6Addr,
    /// Prefix length, 1 to 128.
    pub prefix: u8,
    /// The default route's next hop.
    #[serde(default)]
    pub gateway: Option<Ipv6Addr>,
}

fn inner_name() -> String {
    "eth0".to_owned()
}

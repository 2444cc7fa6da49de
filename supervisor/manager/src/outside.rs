//! The outside network as values: what it is to be, from the owner's choices, the links there are and the leases; and what has to be
//! done for that, from what the kernel has. Only [`apply`] talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cairn_unit::{DNS_MAX, Ipv6, Method, NetAddress, SEARCH_MAX, SiteDevice, SiteNetwork};

use crate::config::Config;
use crate::dhcp::Lease;
use crate::error::Error;
use crate::inventory::Address;
use crate::netlink::{Link, Netlink, STATIC};

/// What the outside network is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The devices that there are, by name.
    pub devices: BTreeMap<String, Device>,
    /// Name servers, the first one first.
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
    /// Devices that were chosen something for and are not there.
    pub absent: Vec<String>,
}

/// What a device is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// What it is called in the owner's choices, if it is named there.
    pub chosen_as: Option<String>,
    /// Whether it is used.
    pub up: bool,
    /// Whether it asks for an address by DHCP.
    pub dhcp: bool,
    /// What it has of IPv6.
    pub ipv6: Ipv6,
    /// The largest packet, if that is not to stay as it is.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: BTreeSet<NetAddress>,
    /// Its routers.
    pub gateways: BTreeSet<IpAddr>,
}

/// The owner's choice for a link, with its name there: by hardware address before by name.
fn choice<'a>(choices: &'a SiteNetwork, link: &Link) -> Option<(&'a str, &'a SiteDevice)> {
    let all = || choices.devices.iter().map(|(name, device)| (name.as_str(), device));
    let by_mac = all().find(|(_, device)| device.mac.is_some_and(|mac| mac.0 == link.mac));
    by_mac.or_else(|| all().find(|(name, device)| device.mac.is_none() && *name == link.name))
}

/// What the network is to be. `mtus` names what devices had before a choice changed it.
#[must_use]
pub fn plan(choices: &SiteNetwork, links: &[Link], leases: &[(String, Lease)], mtus: &BTreeMap<String, u32>) -> Plan {
    let mut plan = Plan::default();
    let mut met = BTreeSet::new();
    let mut dns = choices.dns.clone();
    let mut search: Vec<String> = choices.search.iter().map(ToString::to_string).collect();
    let mut physical: Vec<&Link> = links.iter().filter(|link| link.physical).collect();
    physical.sort_by(|a, b| a.name.cmp(&b.name));
    for link in physical {
        let chosen = choice(choices, link);
        met.extend(chosen.map(|(name, _)| name));
        let own = chosen.map(|(_, device)| device.clone()).unwrap_or_default();
        let mut device = Device {
            chosen_as: chosen.map(|(name, _)| name.to_owned()),
            up: own.method != Method::Off,
            dhcp: own.method == Method::Dhcp,
            ipv6: own.ipv6,
            mtu: own.mtu.map(u32::from).or_else(|| mtus.get(&link.name).copied()),
            addresses: own.addresses.iter().copied().collect(),
            gateways: BTreeSet::new(),
        };
        device.gateways.extend(own.gateway.map(IpAddr::V4));
        device.gateways.extend(own.gateway6.map(IpAddr::V6));
        let lease = leases
            .iter()
            .find(|(name, _)| *name == link.name)
            .map(|(_, lease)| lease);
        let lease = lease.filter(|_| device.dhcp);
        if let Some(lease) = lease {
            device.addresses.insert(NetAddress {
                address: lease.address.into(),
                prefix: lease.prefix,
            });
            device.gateways.extend(lease.router.map(IpAddr::V4));
        }
        if choices.dns.is_empty() {
            let told = lease
                .into_iter()
                .flat_map(|lease| lease.dns.iter().copied().map(IpAddr::V4));
            match own.dns.is_empty() {
                true => dns.extend(told),
                false => dns.extend(own.dns),
            }
        }
        if choices.search.is_empty() {
            match own.search.is_empty() {
                true => search.extend(lease.and_then(|lease| lease.domain.clone())),
                false => search.extend(own.search.iter().map(ToString::to_string)),
            }
        }
        plan.devices.insert(link.name.clone(), device);
    }
    plan.dns = once(dns, DNS_MAX);
    plan.search = once(search, SEARCH_MAX);
    let names = choices.devices.keys().map(|name| name.as_str());
    plan.absent = names.filter(|name| !met.contains(name)).map(str::to_owned).collect();
    plan
}

/// The first so many different ones.
fn once<T: PartialEq>(all: Vec<T>, most: usize) -> Vec<T> {
    let mut some = Vec::new();
    for one in all {
        if !some.contains(&one) && some.len() < most {
            some.push(one);
        }
    }
    some
}

impl Plan {
    /// As `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.dns {
            text.push_str(&format!("nameserver {server}\n"));
        }
        text
    }

    /// The address at which the appliance is reached first: of IPv4 if there is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let all = || self.devices.values().flat_map(|device| &device.addresses);
        let first = all().find(|own| own.address.is_ipv4()).or_else(|| all().next());
        first.map(|own| own.address)
    }
}

/// What the kernel has of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// The device.
    pub link: Link,
    /// What it has of IPv6; `None` if the kernel has none.
    pub ipv6: Option<Ipv6>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The routers of default routes that were set by a manager.
    pub gateways: BTreeSet<IpAddr>,
}

/// One thing to do with a device. Their order is that in which they are done, for all devices together: an address can move from one to
/// another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Set what it has of IPv6.
    Ipv6(Ipv6),
    /// Set its largest packet.
    Mtu(u32),
    /// Switch it on.
    Up,
    /// Take a default route away.
    Unroute(IpAddr),
    /// Take an address away.
    Take(NetAddress),
    /// Give it an address.
    Give(NetAddress),
    /// Set a default route.
    Route(IpAddr),
    /// Switch it off.
    Down,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ipv6(Ipv6::Auto) => f.write_str("IPv6 as routers announce it"),
            Step::Ipv6(Ipv6::Static) => f.write_str("IPv6 by fixed addresses alone"),
            Step::Ipv6(Ipv6::Off) => f.write_str("no IPv6"),
            Step::Mtu(bytes) => write!(f, "packets of {bytes} bytes"),
            Step::Up => f.write_str("on"),
            Step::Unroute(router) => write!(f, "no more over {router}"),
            Step::Take(own) => write!(f, "no more {own}"),
            Step::Give(own) => write!(f, "{own}"),
            Step::Route(router) => write!(f, "over {router}"),
            Step::Down => f.write_str("off"),
        }
    }
}

/// What has to be done so that the network is as planned, in its order. Nothing, if it is.
#[must_use]
pub fn steps(plan: &Plan, have: &[Have]) -> Vec<(Step, String)> {
    let mut all = BTreeSet::new();
    for have in have {
        let Some(device) = plan.devices.get(&have.link.name) else {
            continue;
        };
        let mut step = |step: Step| {
            all.insert((step, have.link.name.clone()));
        };
        if device.up && have.ipv6.is_some_and(|there| there != device.ipv6) {
            step(Step::Ipv6(device.ipv6));
        }
        if let Some(bytes) = device.mtu.filter(|bytes| *bytes != have.link.mtu) {
            step(Step::Mtu(bytes));
        }
        if device.up != have.link.up {
            step(if device.up { Step::Up } else { Step::Down });
        }
        let there: BTreeSet<NetAddress> = have.addresses.iter().filter(|a| a.is_ours()).map(|a| a.at).collect();
        there
            .difference(&device.addresses)
            .for_each(|own| step(Step::Take(*own)));
        let missing = device.addresses.difference(&there).filter(|_| device.up);
        missing.for_each(|own| step(Step::Give(*own)));
        have.gateways
            .difference(&device.gateways)
            .for_each(|router| step(Step::Unroute(*router)));
        let missing = device.gateways.difference(&have.gateways).filter(|_| device.up);
        missing.for_each(|router| step(Step::Route(*router)));
    }
    all.into_iter().collect()
}

/// The folder of a device's settings of IPv6.
fn settings(config: &Config, device: &str) -> std::path::PathBuf {
    config.at("/proc/sys/net/ipv6/conf").join(device)
}

/// What a device has of IPv6, as its settings say it.
fn ipv6(config: &Config, device: &str) -> Option<Ipv6> {
    let number = |name: &str| -> Option<i32> {
        let text = std::fs::read_to_string(settings(config, device).join(name)).ok()?;
        text.trim().parse().ok()
    };
    match (number("disable_ipv6")?, number("accept_ra")?) {
        (0, 0) => Some(Ipv6::Static),
        (0, _) => Some(Ipv6::Auto),
        _ => Some(Ipv6::Off),
    }
}

/// Reads what the kernel has of the devices of a plan.
///
/// # Errors
/// It does not say.
pub fn look(config: &Config, plan: &Plan) -> Result<Vec<Have>, Error> {
    let netlink = Netlink::open()?;
    let links = netlink.links()?;
    let (addresses, routes) = (netlink.addresses()?, netlink.routes()?);
    let have = |link: Link| {
        let ours = routes
            .iter()
            .filter(|r| r.index == link.index && r.to.is_none() && r.protocol == STATIC);
        Have {
            ipv6: ipv6(config, &link.name),
            addresses: addresses.iter().filter(|a| a.index == link.index).cloned().collect(),
            gateways: ours.filter_map(|r| r.gateway).collect(),
            link,
        }
    };
    let planned = links.into_iter().filter(|link| plan.devices.contains_key(&link.name));
    Ok(planned.map(have).collect())
}

fn set_ipv6(config: &Config, device: &str, mode: Ipv6) -> Result<(), Error> {
    let put = |name: &str, value: &str| {
        let path = settings(config, device).join(name);
        std::fs::write(&path, value).map_err(Error::io("write", &path))
    };
    if mode != Ipv6::Off {
        // Forwarding would otherwise end the acceptance of router advertisements.
        let auto = mode == Ipv6::Auto;
        put("accept_ra", if auto { "2" } else { "0" })?;
        put("autoconf", if auto { "1" } else { "0" })?;
    }
    // What routers announced before goes with it.
    put("disable_ipv6", "1")?;
    match mode {
        Ipv6::Off => Ok(()),
        _ => put("disable_ipv6", "0"),
    }
}

fn take(config: &Config, netlink: &Netlink, link: &Link, step: &Step) -> Result<(), Error> {
    match step {
        Step::Ipv6(mode) => set_ipv6(config, &link.name, *mode),
        Step::Mtu(bytes) => netlink.mtu(link, *bytes),
        Step::Up => netlink.up(link),
        Step::Unroute(router) => netlink.remove_default_route(link, *router),
        Step::Take(own) => netlink.remove_address(link, own.address, own.prefix),
        Step::Give(own) => netlink.address(link, own.address, own.prefix, false),
        Step::Route(router) => netlink.default_route(link, *router),
        Step::Down => netlink.down(link),
    }
}

/// How often it is looked again: the kernel takes routes and further addresses along with an address.
const ROUNDS: usize = 4;

/// Makes the network as planned, touching only what differs. Returns what was done, and what could not be done.
#[must_use]
pub fn apply(config: &Config, plan: &Plan) -> (Vec<(Step, String)>, Vec<String>) {
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        problems.clear();
        let (netlink, have) = match Netlink::open().and_then(|netlink| Ok((netlink, look(config, plan)?))) {
            Ok(both) => both,
            Err(e) => return (done, vec![e.to_string()]),
        };
        let due = steps(plan, &have);
        if due.is_empty() {
            break;
        }
        for (step, name) in due {
            let Some(have) = have.iter().find(|have| have.link.name == name) else {
                continue;
            };
            match take(config, &netlink, &have.link, &step) {
                Ok(()) => done.push((step, name)),
                Err(e) => problems.push(format!("{name}: {e}")),
            }
        }
    }
    (done, problems)
}

#[cfg(test)]
#[path = "outside_tests.rs"]
mod tests;

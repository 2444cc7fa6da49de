//! The outside network as the control API gives it: what the kernel has, beside what was chosen.

use std::net::IpAddr;

use cairn_api::{NetworkAddress, NetworkDevice, NetworkLease, NetworkRoute, NetworkState, OpenPort};
use cairn_unit::{Mac, NetworkMode, Protocol};

use crate::clock::now_ms;
use crate::control::Answered;
use crate::dhcp::Lease;
use crate::inventory::{Address, Route};
use crate::netlink::{Link, Netlink};
use crate::outside::{Device, Plan};
use crate::supervisor::Supervisor;

fn is_link_local(own: &Address) -> bool {
    match own.at.address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Where an address comes from.
fn from(own: &Address, lease: Option<&Lease>, device: &Device) -> &'static str {
    if lease.is_some_and(|lease| own.at.address == lease.address) {
        "dhcp"
    } else if device.addresses.contains(&own.at) {
        "static"
    } else if is_link_local(own) {
        "link-local"
    } else if own.is_ours() {
        "other"
    } else {
        "router"
    }
}

/// A device as it is.
fn device(
    link: &Link,
    plan: &Plan,
    lease: Option<&Lease>,
    addresses: &[Address],
    routes: &[Route],
    now: u64,
) -> NetworkDevice {
    let planned = plan.devices.get(&link.name).cloned().unwrap_or_default();
    let own = addresses.iter().filter(|own| own.index == link.index);
    let over = routes.iter().filter(|route| route.index == link.index);
    NetworkDevice {
        name: link.name.clone(),
        mac: Mac(link.mac).to_string(),
        link: match (link.up, link.carrier) {
            (false, _) => "down",
            (true, false) => "no-carrier",
            (true, true) => "up",
        }
        .to_owned(),
        mtu: link.mtu,
        chosen_as: planned.chosen_as.clone(),
        method: match (planned.up, planned.dhcp) {
            (false, _) => "off",
            (true, true) => "dhcp",
            (true, false) => "static",
        }
        .to_owned(),
        addresses: own
            .map(|own| NetworkAddress {
                address: own.at.to_string(),
                from: from(own, lease, &planned).to_owned(),
            })
            .collect(),
        routes: over
            .map(|route| NetworkRoute {
                to: route.to.map_or("default".to_owned(), |to| to.to_string()),
                gateway: route.gateway.map(|gateway| gateway.to_string()),
            })
            .collect(),
        lease: lease.map(|lease| NetworkLease {
            address: lease.address.to_string(),
            server: lease.server.to_string(),
            seconds: lease.seconds,
            left_s: (lease.granted_ms != 0).then(|| {
                let end = lease.granted_ms + u64::from(lease.seconds) * 1000;
                end.saturating_sub(now) / 1000
            }),
        }),
    }
}

impl Supervisor {
    /// The outside network as it is.
    pub(crate) fn network_state(&self) -> Answered {
        let plan = &self.outside.plan;
        let mut state = NetworkState {
            absent: self.saved.absent.iter().cloned().collect(),
            dns: plan.dns.iter().map(ToString::to_string).collect(),
            search: plan.search.clone(),
            problems: self.outside.problems.clone(),
            firewall: self.saved.firewall,
            chosen: crate::net_change::told(&self.site.network),
            pending: self.pending_network(),
            open: self.open_ports(),
            ..NetworkState::default()
        };
        if self.config.network {
            let all = || -> Result<_, crate::error::Error> {
                let netlink = Netlink::open()?;
                Ok((netlink.links()?, netlink.addresses()?, netlink.routes()?))
            };
            match all() {
                Ok((links, addresses, routes)) => {
                    let lease = |name: &str| self.saved.leases.iter().find(|(of, _)| of == name).map(|(_, l)| l);
                    let shown = links.iter().filter(|link| link.physical);
                    let shown = shown.map(|link| device(link, plan, lease(&link.name), &addresses, &routes, now_ms()));
                    state.devices = shown.collect();
                }
                Err(e) => state.problems.push(e.to_string()),
            }
        }
        Answered::of(200, &state)
    }

    /// Whether a device has an address by which others than its neighbours on the same cable reach the machine.
    pub(crate) fn is_reached(&self) -> bool {
        let all = || -> Result<_, crate::error::Error> {
            let netlink = Netlink::open()?;
            Ok((netlink.links()?, netlink.addresses()?))
        };
        let Some((links, addresses)) = self.config.network.then(all).and_then(Result::ok) else {
            return false;
        };
        let outside = |own: &Address| links.iter().any(|link| link.physical && link.index == own.index);
        addresses.iter().any(|own| outside(own) && !is_link_local(own))
    }

    /// What is to be known of the network, in sentences.
    pub(crate) fn network_notes(&self) -> Vec<String> {
        let absent = self.saved.absent.iter();
        let absent = absent.map(|name| format!("there is no network device {name}; it is set up when it comes"));
        let pending = self.pending_network().map(|pending| {
            format!(
                "{} changed the network; in {} s that of before comes back unless `cairn network confirm` keeps this one",
                pending.who, pending.left_s
            )
        });
        absent
            .chain(self.outside.problems.iter().cloned())
            .chain(pending)
            .collect()
    }

    /// What the firewall lets in: the published ports of every unit, whether it runs or not.
    fn open_ports(&self) -> Vec<OpenPort> {
        let units = self.manifest.units.iter();
        let units = units.filter(|(_, unit)| unit.unit.network.mode != NetworkMode::None);
        let ports = units.flat_map(|(name, unit)| {
            unit.unit.network.publish.iter().map(|publish| OpenPort {
                unit: name.to_string(),
                port: publish.port,
                protocol: match publish.protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                }
                .to_owned(),
            })
        });
        ports.collect()
    }
}

//! The firewall as text: a pure function from the units to one nftables ruleset, applied as one transaction.
//!
//! Everything is dropped but: answers; ICMP; DHCP; each published port, forwarded to its unit with the client's own
//! address; outside connections of units with `outbound`; and each binding, from exactly one unit to one port of another.
//! Units on the bridge see each other's frames only through table `bridge cairn`, where each also is held to its own
//! addresses.

use std::fmt::Write as _;

use cairn_unit::{Manifest, ManifestUnit, NetworkMode, Protocol};

use crate::address::{BRIDGE, id_base, ipv4, ipv6, link};

fn on_bridge(unit: &ManifestUnit) -> bool {
    unit.unit.network.mode == NetworkMode::Bridge
}

fn proto(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// The first id of units' accounts as the host counts them. One in the host's network gets no way to others by it.
const FIRST_ID: u32 = id_base(0);

/// Every binding with a port, as (who connects, to whom, port).
pub fn bindings(manifest: &Manifest) -> Vec<(&ManifestUnit, &ManifestUnit, u16)> {
    let ways = manifest.all_bonds().filter_map(|bond| bond.way());
    ways.filter(|(from, to, _)| on_bridge(from) && on_bridge(to)).collect()
}

/// The ruleset, replacing an earlier one.
pub fn ruleset(manifest: &Manifest) -> String {
    let units: Vec<&ManifestUnit> = manifest
        .units
        .values()
        .map(AsRef::as_ref)
        .filter(|u| on_bridge(u))
        .collect();
    let mut dnat = String::new();
    let mut allow = String::new();
    let mut masquerade = String::new();
    for unit in &units {
        let (v4, v6) = (ipv4(unit.index), ipv6(unit.index));
        for publish in &unit.unit.network.publish {
            let (proto, port, to) = (
                proto(publish.protocol),
                publish.port,
                publish.to.unwrap_or(publish.port),
            );
            let _ = writeln!(dnat, "    meta nfproto ipv4 {proto} dport {port} dnat ip to {v4}:{to}");
            let _ = writeln!(
                dnat,
                "    meta nfproto ipv6 {proto} dport {port} dnat ip6 to [{v6}]:{to}"
            );
            for (family, address) in [("ip", v4.to_string()), ("ip6", v6.to_string())] {
                let _ = writeln!(
                    allow,
                    "    iifname != \"{BRIDGE}\" oifname \"{BRIDGE}\" {family} daddr {address} {proto} dport {to} \
                     ct status dnat accept"
                );
            }
        }
        if unit.unit.network.outbound {
            for (family, address) in [("ip", v4.to_string()), ("ip6", v6.to_string())] {
                let _ = writeln!(
                    allow,
                    "    iifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" {family} saddr {address} accept"
                );
                let _ = writeln!(
                    masquerade,
                    "    oifname != \"{BRIDGE}\" {family} saddr {address} masquerade"
                );
            }
        }
    }
    let mut input = String::new();
    for unit in manifest
        .units
        .values()
        .filter(|unit| unit.unit.network.mode == NetworkMode::Host)
    {
        for publish in &unit.unit.network.publish {
            let (proto, port) = (proto(publish.protocol), publish.port);
            let _ = writeln!(input, "    iifname != \"{BRIDGE}\" {proto} dport {port} accept");
        }
    }
    let mut spoof = String::new();
    for unit in &units {
        let (name, v4, v6) = (link(unit.index), ipv4(unit.index), ipv6(unit.index));
        let _ = writeln!(spoof, "    iifname \"{name}\" ip saddr != {v4} drop");
        let _ = writeln!(spoof, "    iifname \"{name}\" arp saddr ip != {v4} drop");
        let _ = writeln!(
            spoof,
            "    iifname \"{name}\" ip6 saddr != {{ {v6}, fe80::/10, :: }} drop"
        );
    }
    let mut bound = String::new();
    for (consumer, provider, port) in bindings(manifest) {
        let pairs = [
            ("ip", ipv4(consumer.index).to_string(), ipv4(provider.index).to_string()),
            (
                "ip6",
                ipv6(consumer.index).to_string(),
                ipv6(provider.index).to_string(),
            ),
        ];
        for (family, from, to) in pairs {
            let _ = writeln!(
                bound,
                "    {family} saddr {from} {family} daddr {to} tcp dport {port} accept"
            );
            let _ = writeln!(
                bound,
                "    {family} saddr {to} {family} daddr {from} tcp sport {port} tcp flags & (syn | ack) != syn accept"
            );
        }
    }
    // A first line of each kind, so that the deletion also works where there is nothing yet.
    format!(
        "table inet cairn
delete table inet cairn
table bridge cairn
delete table bridge cairn
table inet cairn {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname \"lo\" accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
    iifname != \"{BRIDGE}\" udp sport 67 udp dport 68 accept
    iifname != \"{BRIDGE}\" udp sport 547 udp dport 546 accept
{input}  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname \"{BRIDGE}\" meta skuid >= {FIRST_ID} drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
{allow}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname \"{BRIDGE}\" return
    fib daddr type != local return
{dnat}  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{masquerade}  }}
}}
table bridge cairn {{
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
{spoof}  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
{bound}  }}
}}
"
    )
}

#[cfg(test)]
#[path = "firewall_tests.rs"]
mod tests;

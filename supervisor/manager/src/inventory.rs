//! What the kernel has of addresses and routes, read from route netlink's dumps (rtnetlink(7)). Pure: packets in, values out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cairn_unit::NetAddress;

use crate::netlink::split;

const DONE: u16 = 3;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
/// `IFA_F_PERMANENT`: it does not end by itself.
const PERMANENT: u32 = 0x80;
/// `IFAPROT_KERNEL_RA`: the kernel made it of what a router announced.
const BY_ROUTER: u8 = 2;
/// `RT_TABLE_MAIN`.
const MAIN: u8 = 254;
/// `RTPROT_KERNEL`: it follows from an address.
const BY_KERNEL: u8 = 2;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;

/// An address that a link has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub index: u32,
    /// The address and its network.
    pub at: NetAddress,
    /// Whether it does not end by itself.
    pub permanent: bool,
    /// Whether it was made of what a router announced.
    pub by_router: bool,
}

impl Address {
    /// Whether only this program can have given it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let local = matches!(self.at.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        self.permanent && !self.by_router && !local
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The number of the link that it goes over.
    pub index: u32,
    /// Where to; `None`: everywhere.
    pub to: Option<NetAddress>,
    /// By which router.
    pub gateway: Option<IpAddr>,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
}

/// A message's body of at least `head` bytes, and its attributes by their numbers.
type Body<'a> = (&'a [u8], Vec<(u16, &'a [u8])>);

/// The bodies of a packet's messages of one kind, and whether the packet ends a dump.
fn bodies(mut packet: &[u8], wanted: u16, head: usize) -> (Vec<Body<'_>>, bool) {
    let mut all = Vec::new();
    while let Some((message, rest)) = split(packet, 4, 16) {
        packet = rest;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if kind == DONE {
            return (all, true);
        }
        let Some(mut rest) = message.get(16 + head..).filter(|_| kind == wanted) else {
            continue;
        };
        let mut attributes = Vec::new();
        while let Some((attribute, more)) = split(rest, 2, 4) {
            rest = more;
            let number = u16::from_ne_bytes([attribute[2], attribute[3]]) & 0x3fff;
            attributes.push((number, &attribute[4..]));
        }
        all.push((&message[16..16 + head], attributes));
    }
    (all, false)
}

fn value<'a>(attributes: &[(u16, &'a [u8])], number: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(n, _)| *n == number).map(|(_, value)| *value)
}

fn word(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk::<4>()?))
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The addresses in a packet, and whether it ends a dump.
#[must_use]
pub fn addresses(packet: &[u8]) -> (Vec<Address>, bool) {
    let (all, done) = bodies(packet, NEWADDR, 8);
    let read = |(head, attributes): &Body<'_>| {
        // On a line between two the other end stands in IFA_ADDRESS.
        let own = value(attributes, 2).or_else(|| value(attributes, 1))?;
        let flags = value(attributes, 8).and_then(word).unwrap_or(u32::from(head[2]));
        Some(Address {
            index: word(&head[4..])?,
            at: NetAddress {
                address: ip(own)?,
                prefix: head[1],
            },
            permanent: flags & PERMANENT != 0,
            by_router: value(attributes, 11).and_then(<[u8]>::first) == Some(&BY_ROUTER),
        })
    };
    (all.iter().filter_map(read).collect(), done)
}

/// The routes of the main table in a packet but the kernel's own, and whether it ends a dump.
#[must_use]
pub fn routes(packet: &[u8]) -> (Vec<Route>, bool) {
    let (all, done) = bodies(packet, NEWROUTE, 12);
    let read = |(head, attributes): &Body<'_>| {
        if head[4] != MAIN || head[5] == BY_KERNEL || head[7] != UNICAST {
            return None;
        }
        let to = match value(attributes, 1) {
            Some(to) if head[1] != 0 => Some(NetAddress {
                address: ip(to)?,
                prefix: head[1],
            }),
            _ => None,
        };
        Some(Route {
            index: value(attributes, 4).and_then(word)?,
            to,
            gateway: value(attributes, 5).and_then(ip),
            protocol: head[5],
        })
    };
    (all.iter().filter_map(read).collect(), done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut all = vec![0; 16];
        all[4..6].copy_from_slice(&kind.to_ne_bytes());
        all.extend_from_slice(head);
        for (number, value) in attributes {
            all.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            all.extend_from_slice(&number.to_ne_bytes());
            all.extend_from_slice(value);
            all.resize(all.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(all.len()).unwrap();
        all[..4].copy_from_slice(&length.to_ne_bytes());
        all
    }

    #[test]
    fn what_a_router_or_the_kernel_gave_is_not_ours() {
        let local: [u8; 16] = "fe80::1".parse::<Ipv6Addr>().unwrap().octets();
        let far: [u8; 16] = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let fixed = 0x80u32.to_ne_bytes();
        let packet = [
            message(
                NEWADDR,
                &[2, 24, 0x80, 0, 3, 0, 0, 0],
                &[(1, &[192, 0, 2, 5]), (2, &[192, 0, 2, 5])],
            ),
            message(NEWADDR, &[10, 64, 0, 253, 3, 0, 0, 0], &[(1, &local), (8, &fixed)]),
            message(
                NEWADDR,
                &[10, 64, 0, 0, 3, 0, 0, 0],
                &[(1, &far), (8, &fixed), (11, &[BY_ROUTER])],
            ),
            message(NEWADDR, &[10, 64, 0, 0, 3, 0, 0, 0], &[(1, &far), (8, &[0; 4])]),
            message(DONE, &[0; 4], &[]),
        ]
        .concat();
        let (all, done) = addresses(&packet);
        assert!(done);
        assert_eq!(all[0].at, "192.0.2.5/24".parse().unwrap());
        assert_eq!(all[0].index, 3);
        assert_eq!(
            all.iter().map(Address::is_ours).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        for end in 0..packet.len() {
            let _ = addresses(&packet[..end]);
            let _ = routes(&packet[..end]);
        }
    }

    #[test]
    fn routes_of_other_tables_and_those_that_follow_from_addresses_are_left_out() {
        let over = 3u32.to_ne_bytes();
        let route = |table: u8, protocol: u8, kind: u8| {
            message(
                NEWROUTE,
                &[2, 0, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0],
                &[(5, &[192, 0, 2, 1]), (4, &over)],
            )
        };
        let packet = [route(254, 4, 1), route(255, 4, 1), route(254, 2, 1), route(254, 4, 2)].concat();
        let (all, done) = routes(&packet);
        let ours = Route {
            index: 3,
            to: None,
            gateway: Some([192, 0, 2, 1].into()),
            protocol: 4,
        };
        assert_eq!((all, done), (vec![ours], false));
    }
}

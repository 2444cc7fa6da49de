//! Route netlink: the few messages that the host's network needs. The layout is rtnetlink(7)'s; encoding and decoding are
//! pure, one function talks.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use crate::error::Error;
use crate::inventory::{Address, Route, addresses, routes};

const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELLINK: u16 = 17;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// Multicast group of link changes.
const GROUP_LINK: u32 = 1;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
/// Of several default routes the one over the first device is taken.
const METRIC: u32 = 100;
/// `RTPROT_STATIC`: whoever looks after the machine set the route.
pub(crate) const STATIC: u8 = 4;

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, head: &[u8]) -> Message {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(head);
        Message(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// `struct ifinfomsg`.
fn link_head(index: u32, up: bool) -> Vec<u8> {
    let flags = if up { IFF_UP } else { 0 };
    [
        &[0u8, 0, 0, 0][..],
        &index.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &flags.to_ne_bytes(),
    ]
    .concat()
}

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Whether it is an Ethernet device that no software made.
    pub physical: bool,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether there is somebody at the other end.
    pub carrier: bool,
    /// The largest packet that it sends, in bytes; 0 if not told.
    pub mtu: u32,
}

/// What a packet tells of links.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Those that there are, as they are now.
    pub found: Vec<Link>,
    /// The numbers of those that are gone.
    pub gone: Vec<u32>,
    /// Whether the packet ends a dump.
    pub done: bool,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk());
    four.map_or(0, |four| u32::from_ne_bytes(*four))
}

/// What a packet of RTM_NEWLINK and RTM_DELLINK messages tells.
pub fn links(mut packet: &[u8]) -> Links {
    let mut all = Links::default();
    while let Some((message, rest)) = split(packet, 4, 16) {
        packet = rest;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if kind == DONE {
            all.done = true;
            return all;
        }
        if kind == DELLINK && message.len() >= 32 {
            all.gone.push(word(message, 20));
        }
        if kind != NEWLINK || message.len() < 32 {
            continue;
        }
        let body = &message[16..];
        let flags = word(body, 8);
        let mut link = Link {
            index: u32::from_ne_bytes([body[4], body[5], body[6], body[7]]),
            name: String::new(),
            mac: [0; 6],
            physical: u16::from_ne_bytes([body[2], body[3]]) == ARPHRD_ETHER,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            mtu: 0,
        };
        let mut attributes = &body[16..];
        while let Some((attribute, rest)) = split(attributes, 2, 4) {
            attributes = rest;
            let value = &attribute[4..];
            match u16::from_ne_bytes([attribute[2], attribute[3]]) & 0x3fff {
                1 if value.len() == 6 => link.mac.copy_from_slice(value),
                3 => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
                4 => link.mtu = word(value, 0),
                18 => link.physical = false,
                _ => {}
            }
        }
        link.physical &= link.name.starts_with("eth") || link.name.starts_with("en");
        all.found.push(link);
    }
    all
}

/// The first length-prefixed item (`width` bytes of length, at least `least`) and what follows its padding.
pub(crate) fn split(bytes: &[u8], width: usize, least: usize) -> Option<(&[u8], &[u8])> {
    let prefix = bytes.get(..width)?;
    let length = prefix.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    if length < least || length > bytes.len() {
        return None;
    }
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((&bytes[..length], &bytes[next..]))
}

/// A route netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// For requests.
    pub fn open() -> Result<Netlink, Error> {
        Netlink::with(0, SocketFlags::CLOEXEC)
    }

    /// For news of links; never blocks.
    pub fn listen() -> Result<OwnedFd, Error> {
        Ok(Netlink::with(GROUP_LINK, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?.0)
    }

    fn with(groups: u32, flags: SocketFlags) -> Result<Netlink, Error> {
        // No protocol is protocol 0: NETLINK_ROUTE.
        let open = || -> Result<OwnedFd, Errno> {
            let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&fd, &SocketAddrNetlink::new(0, groups))?;
            Ok(fd)
        };
        open().map(Netlink).map_err(Error::network("open a netlink socket"))
    }

    fn ask(&self, what: &str, message: Message) -> Result<(), Error> {
        let talk = || -> Result<(), Errno> {
            send(&self.0, &message.finish(), SendFlags::empty())?;
            let mut buffer = [0u8; 8192];
            loop {
                let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
                let reply = &buffer[..length];
                if reply.len() >= 20 && u16::from_ne_bytes([reply[4], reply[5]]) == 2 {
                    return match i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]) {
                        0 => Ok(()),
                        error => Err(Errno::from_raw_os_error(-error)),
                    };
                }
            }
        };
        talk().map_err(Error::network(what))
    }

    /// Asks for everything of a kind, and hands over each packet; `read` says whether it was the last.
    fn dump(&self, what: &str, kind: u16, head: &[u8], mut read: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut talk = || -> Result<(), Errno> {
            send(&self.0, &Message::new(kind, DUMP, head).finish(), SendFlags::empty())?;
            let mut buffer = vec![0u8; 32768];
            loop {
                let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
                if read(&buffer[..length]) || length == 0 {
                    return Ok(());
                }
            }
        };
        talk().map_err(Error::network(what))
    }

    /// All links.
    pub fn links(&self) -> Result<Vec<Link>, Error> {
        let mut all = Vec::new();
        self.dump("list the links", GETLINK, &link_head(0, false), |packet| {
            let some = links(packet);
            all.extend(some.found);
            some.done
        })?;
        Ok(all)
    }

    /// All addresses.
    pub fn addresses(&self) -> Result<Vec<Address>, Error> {
        let mut all = Vec::new();
        self.dump("list the addresses", GETADDR, &[0; 8], |packet| {
            let (some, done) = addresses(packet);
            all.extend(some);
            done
        })?;
        Ok(all)
    }

    /// The routes of the main table, but the kernel's own.
    pub fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut all = Vec::new();
        self.dump("list the routes", GETROUTE, &[0; 12], |packet| {
            let (some, done) = routes(packet);
            all.extend(some);
            done
        })?;
        Ok(all)
    }

    /// Makes a bridge; one that is there already is kept.
    pub fn bridge(&self, name: &str, mac: [u8; 6]) -> Result<(), Error> {
        let kind = Message::new(0, 0, &[]).attribute(1, &text("bridge")).0.split_off(16);
        let message = Message::new(NEWLINK, ACK | CREATE, &link_head(0, false))
            .attribute(3, &text(name))
            .attribute(1, &mac)
            .attribute(18, &kind);
        self.ask(&format!("make the bridge {name}"), message)
    }

    /// Switches a link on.
    pub fn up(&self, link: &Link) -> Result<(), Error> {
        self.ask(
            &format!("switch on {}", link.name),
            Message::new(NEWLINK, ACK, &link_head(link.index, true)),
        )
    }

    /// Switches a link off.
    pub fn down(&self, link: &Link) -> Result<(), Error> {
        let mut head = link_head(link.index, false);
        head[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        self.ask(&format!("switch off {}", link.name), Message::new(NEWLINK, ACK, &head))
    }

    /// Sets the largest packet that a link sends.
    pub fn mtu(&self, link: &Link, bytes: u32) -> Result<(), Error> {
        let message = Message::new(NEWLINK, ACK, &link_head(link.index, false)).attribute(4, &bytes.to_ne_bytes());
        self.ask(&format!("let {} send packets of {bytes} bytes", link.name), message)
    }

    /// Gives a link an address; again changes nothing. With `at_once` an address of IPv6 is usable without asking whether somebody has it.
    pub fn address(&self, link: &Link, address: IpAddr, prefix: u8, at_once: bool) -> Result<(), Error> {
        let flags = if address.is_ipv6() && at_once { 2 } else { 0 };
        let head = [&[family(address), prefix, flags, 0][..], &link.index.to_ne_bytes()].concat();
        let value = octets(address);
        let message = Message::new(NEWADDR, ACK | CREATE | REPLACE, &head)
            .attribute(1, &value)
            .attribute(2, &value);
        self.ask(&format!("give {} the address {address}", link.name), message)
    }

    /// Takes an address away; one that is not there is no error.
    pub fn remove_address(&self, link: &Link, address: IpAddr, prefix: u8) -> Result<(), Error> {
        let head = [&[family(address), prefix, 0, 0][..], &link.index.to_ne_bytes()].concat();
        let message = Message::new(DELADDR, ACK, &head).attribute(2, &octets(address));
        match self.ask(&format!("take {address} from {}", link.name), message) {
            Err(Error::Network { why, .. }) if why.raw_os_error() == Some(99) => Ok(()),
            other => other,
        }
    }

    /// Sets the default route over a link.
    pub fn default_route(&self, link: &Link, gateway: IpAddr) -> Result<(), Error> {
        let message = route(NEWROUTE, ACK | CREATE | REPLACE, link, gateway);
        self.ask(&format!("route over {gateway}"), message)
    }

    /// Takes the default route over a link away; one that is not there is no error.
    pub fn remove_default_route(&self, link: &Link, gateway: IpAddr) -> Result<(), Error> {
        match self.ask(
            &format!("route no more over {gateway}"),
            route(DELROUTE, ACK, link, gateway),
        ) {
            Err(Error::Network { why, .. }) if why.raw_os_error() == Some(3) => Ok(()),
            other => other,
        }
    }
}

/// `struct rtmsg`: main table, static protocol, universe scope, unicast; the default route over a link.
fn route(kind: u16, flags: u16, link: &Link, gateway: IpAddr) -> Message {
    let head = [family(gateway), 0, 0, 0, 254, STATIC, 0, 1, 0, 0, 0, 0];
    Message::new(kind, flags, &head)
        .attribute(5, &octets(gateway))
        .attribute(4, &link.index.to_ne_bytes())
        .attribute(6, &(METRIC + link.index).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str, kind: u16, software: bool) -> Vec<u8> {
        let mut head = link_head(7, true);
        head[2..4].copy_from_slice(&kind.to_ne_bytes());
        let mut message = Message::new(NEWLINK, 0, &head)
            .attribute(3, &text(name))
            .attribute(1, &[2, 0, 0, 0, 0, 9]);
        if software {
            message = message.attribute(18, &[0; 4]);
        }
        message.finish()
    }

    #[test]
    fn only_ethernet_hardware_counts_as_physical() {
        for (name, kind, software, physical) in [
            ("eth0", 1, false, true),
            ("enp0s3", 1, false, true),
            ("lo", 772, false, false),
            ("eth9", 1, true, false),
            ("unit0", 1, true, false),
        ] {
            let told = links(&news(name, kind, software));
            let link = Link {
                index: 7,
                name: name.into(),
                mac: [2, 0, 0, 0, 0, 9],
                physical,
                up: true,
                carrier: false,
                mtu: 0,
            };
            assert_eq!((told.found, told.gone, told.done), (vec![link], vec![], false));
        }
    }

    #[test]
    fn a_link_that_goes_is_told_by_its_number() {
        let mut packet = news("eth0", 1, false);
        packet[4..6].copy_from_slice(&DELLINK.to_ne_bytes());
        let told = links(&packet);
        assert_eq!((told.found, told.gone), (vec![], vec![7]));
    }

    #[test]
    fn a_cut_or_absurd_packet_is_read_as_far_as_it_goes() {
        let whole = news("eth0", 1, false);
        for end in 0..whole.len() {
            assert!(links(&whole[..end]).found.is_empty());
        }
        assert!(links(&[0xff; 64]).found.is_empty());
        assert!(links(&[0; 64]).found.is_empty());
    }
}

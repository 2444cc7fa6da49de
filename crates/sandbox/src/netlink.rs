//! The few rtnetlink requests that a sandbox needs: a veth pair, addresses, routes, links up. Formats: rtnetlink(7).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::check::parse_mac;
use crate::network::Veth;

const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const MAKE: u16 = REQUEST | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const UP: u32 = libc::IFF_UP as u32;
/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;
/// linux/if_link.h
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// A request under construction. Lengths are filled in when it is sent.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// `struct ifinfomsg`
    fn link(mut self, index: u32, flags: u32, change: u32) -> Self {
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(change.to_ne_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn name(self, name: &str) -> Self {
        self.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
    }

    fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        let mut filled = fill(self);
        let length = (filled.0.len() - start) as u16;
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }
}

/// The network namespace of a pair's inner end.
#[derive(Clone, Copy)]
pub(crate) enum Inside<'a> {
    /// That of the process.
    Process(i32),
    /// This one.
    Namespace(&'a OwnedFd),
}

/// A connection to the kernel's routing tables of the network namespace it was opened in.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        Ok(Self(socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)?))
    }

    fn call(&self, mut message: Message) -> io::Result<()> {
        let length = message.0.len() as u32;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(self.0.as_raw_fd(), &message.0, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // An acknowledgement: a header, then the negated error number or 0.
        let code = answer[..length]
            .get(16..20)
            .and_then(|code| code.try_into().ok())
            .map(i32::from_ne_bytes);
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Makes a veth pair: the host end here, up and on its bridge, the inner end in the network namespace of `inner`. A link
    /// of the same name is what an earlier run left, since the kernel removes a dead namespace's links late; it goes first.
    pub(crate) fn make_veth(&self, veth: &Veth, bridge: Option<u32>, inner: Inside) -> io::Result<()> {
        let make = || {
            let mut message = Message::new(libc::RTM_NEWLINK, MAKE)
                .link(0, UP, UP)
                .name(&veth.host_name);
            if let Some(bridge) = bridge {
                message = message.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
            }
            message.nested(libc::IFLA_LINKINFO, |message| {
                message
                    .attribute(IFLA_INFO_KIND, b"veth")
                    .nested(IFLA_INFO_DATA, |message| {
                        message.nested(VETH_INFO_PEER, |message| {
                            let message = message.link(0, 0, 0).name(&veth.name);
                            let message = match inner {
                                Inside::Process(pid) => message.attribute(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes()),
                                Inside::Namespace(fd) => {
                                    message.attribute(libc::IFLA_NET_NS_FD, &fd.as_raw_fd().to_ne_bytes())
                                }
                            };
                            match veth.mac.as_deref().and_then(parse_mac) {
                                Some(mac) => message.attribute(libc::IFLA_ADDRESS, &mac),
                                None => message,
                            }
                        })
                    })
            })
        };
        match self.call(make()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let remove = Message::new(libc::RTM_DELLINK, REQUEST)
                    .link(0, 0, 0)
                    .name(&veth.host_name);
                match self.call(remove) {
                    // The kernel was just about to.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                    done => done?,
                }
                self.call(make())
            }
            done => done,
        }
    }

    pub(crate) fn link_up(&self, index: u32) -> io::Result<()> {
        self.call(Message::new(libc::RTM_NEWLINK, REQUEST).link(index, UP, UP))
    }

    pub(crate) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, octets, flags) = parts(address);
        let message = Message::new(libc::RTM_NEWADDR, MAKE)
            .bytes(&[family, prefix, flags, 0])
            .bytes(&index.to_ne_bytes());
        self.call(
            message
                .attribute(libc::IFA_LOCAL, &octets)
                .attribute(libc::IFA_ADDRESS, &octets),
        )
    }

    pub(crate) fn add_default_route(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, octets, _) = parts(gateway);
        // struct rtmsg: to everywhere, main table, set up statically, unicast.
        let kind = [
            family,
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ];
        let message = Message::new(libc::RTM_NEWROUTE, MAKE).bytes(&kind).bytes(&[0; 4]);
        self.call(
            message
                .attribute(libc::RTA_GATEWAY, &octets)
                .attribute(libc::RTA_OIF, &index.to_ne_bytes()),
        )
    }
}

/// Family, bytes, and address flags: an IPv6 address is used at once, without looking for duplicates.
fn parts(address: IpAddr) -> (u8, Vec<u8>, u8) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec(), 0),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec(), libc::IFA_F_NODAD as u8),
    }
}

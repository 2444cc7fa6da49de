//! The host's network: loopback, the bridge, news of Ethernet devices, and the DHCP client of one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout_at};

use crate::address::{BRIDGE, GATEWAY4, GATEWAY6, PREFIX4, PREFIX6};
use crate::config::Config;
use crate::dhcp::{Answer, Lease, Say, decode, encode, patience};
use crate::error::Error;
use crate::netlink::{Link, Netlink, links};

/// What the network has to tell.
#[derive(Debug)]
pub enum News {
    /// Something could not be done.
    Problem(String),
    /// These Ethernet devices there are now.
    Links(Vec<Link>),
    /// An address was granted to the device, or granted again.
    Leased(Link, Lease),
    /// The device's address is no longer ours.
    Lost(Link),
}

const BRIDGE_MAC: [u8; 6] = [2, 0xc0, 0x0a, 0xc9, 0, 1];

/// Switches loopback on and makes the bridge, switched off: until the firewall stands, no frame passes between units.
pub fn prepare() -> Result<(), Error> {
    let netlink = Netlink::open()?;
    netlink.bridge(BRIDGE, BRIDGE_MAC)?;
    for link in netlink.links()?.iter().filter(|l| l.name == "lo") {
        netlink.up(link)?;
    }
    Ok(())
}

/// Opens the internal network, once the firewall stands.
pub fn open(config: &Config) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let links = netlink.links()?;
    let missing = || Error::Network {
        what: format!("find {BRIDGE}"),
        why: std::io::ErrorKind::NotFound.into(),
    };
    let bridge = links.iter().find(|l| l.name == BRIDGE).ok_or_else(missing)?;
    netlink.up(bridge)?;
    netlink.address(bridge, IpAddr::V4(GATEWAY4), PREFIX4, true)?;
    // A kernel without IPv6 has no such folder; then there is nothing to open.
    let v6 = config.at("/proc/sys/net/ipv6/conf");
    let mut settings = vec![(config.at("/proc/sys/net/ipv4/ip_forward"), "1")];
    if v6.exists() {
        netlink.address(bridge, IpAddr::V6(GATEWAY6), PREFIX6, true)?;
        // Forwarding would otherwise end the acceptance of router advertisements on the outside, where it was not ended on purpose.
        let paths = links
            .iter()
            .filter(|l| l.physical)
            .map(|l| v6.join(&l.name).join("accept_ra"));
        let hears = |path: &std::path::PathBuf| !std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
        settings.extend(paths.filter(hears).map(|path| (path, "2")));
        settings.push((v6.join("default/accept_ra"), "2"));
        settings.push((v6.join("all/forwarding"), "1"));
    }
    for (path, value) in settings {
        std::fs::write(&path, value).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Runs for ever: tells which Ethernet devices there are, at first and whenever that changes.
pub async fn watch(to: UnboundedSender<News>) {
    let started = || -> Result<_, Error> {
        let news = crate::io::register(Netlink::listen()?).map_err(Error::network("watch for links"))?;
        Ok((news, Netlink::open()?.links()?))
    };
    let (news, present) = match started() {
        Ok(started) => started,
        Err(e) => {
            let _ = to.send(News::Problem(e.to_string()));
            return;
        }
    };
    let mut known = Vec::new();
    take(&mut known, present, &[]);
    let _ = to.send(News::Links(known.clone()));
    let mut buffer = vec![0u8; 32768];
    while let Ok(mut guard) = news.readable().await {
        let before = known.clone();
        match rustix::net::recv(news.get_ref(), &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let told = links(&buffer[..length]);
                take(&mut known, told.found, &told.gone);
            }
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            // Too much came at once, and some of it is lost.
            Err(_) => {
                if let Ok(present) = Netlink::open().and_then(|netlink| netlink.links()) {
                    known.clear();
                    take(&mut known, present, &[]);
                }
            }
        }
        if known != before && to.send(News::Links(known.clone())).is_err() {
            return;
        }
    }
}

/// Notes which devices there are. How one is at the moment (on, connected) is no news: a cable that is pulled for a while ends nothing.
fn take(known: &mut Vec<Link>, found: Vec<Link>, gone: &[u32]) {
    known.retain(|link| !gone.contains(&link.index));
    for mut link in found.into_iter().filter(|link| link.physical) {
        (link.up, link.carrier, link.mtu) = (false, false, 0);
        match known.iter_mut().find(|other| other.index == link.index) {
            Some(other) => *other = link,
            None => known.push(link),
        }
    }
}

fn bound(link: &Link, address: Ipv4Addr) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::sockopt::set_socket_broadcast(&fd, true)?;
    setsockopt(&fd, sockopt::BindToDevice, &link.name.clone().into())?;
    rustix::net::bind(&fd, &SocketAddr::from((address, 68)))?;
    Ok(fd)
}

fn socket(link: &Link) -> std::io::Result<UdpSocket> {
    UdpSocket::from_std(std::net::UdpSocket::from(bound(link, Ipv4Addr::UNSPECIFIED)?))
}

fn token() -> u32 {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_ne_bytes(bytes)
}

struct Client {
    link: Link,
    host: String,
    socket: UdpSocket,
    transaction: u32,
    since: Instant,
}

impl Client {
    /// Says something and waits for an answer that counts.
    async fn ask(&self, say: Say, to: Ipv4Addr, until: Instant) -> Option<Answer> {
        let seconds = u16::try_from(self.since.elapsed().as_secs()).unwrap_or(u16::MAX);
        let packet = encode(say, self.transaction, self.link.mac, &self.host, seconds);
        if self.socket.send_to(&packet, (to, 67)).await.is_err() {
            // The link has no carrier yet, say.
            tokio::time::sleep_until(until).await;
            return None;
        }
        let mut buffer = [0u8; 1500];
        loop {
            let (length, _) = timeout_at(until, self.socket.recv_from(&mut buffer)).await.ok()?.ok()?;
            if let Some(answer) = decode(&buffer[..length], self.transaction, self.link.mac) {
                return Some(answer);
            }
        }
    }

    /// An address, however long it takes; `before` is asked for first.
    async fn acquire(&mut self, mut before: Option<Ipv4Addr>) -> Lease {
        self.since = Instant::now();
        let mut tries = 0;
        loop {
            self.transaction = token();
            let until = Instant::now() + patience(tries);
            tries += 1;
            if let Some(address) = before {
                match self.ask(Say::Keep { address }, Ipv4Addr::BROADCAST, until).await {
                    Some(Answer::Granted(lease)) => return lease,
                    Some(Answer::Refused) => before = None,
                    _ if tries > 2 => before = None,
                    _ => {}
                }
                continue;
            }
            if let Some(Answer::Offer(offer)) = self.ask(Say::Discover, Ipv4Addr::BROADCAST, until).await {
                let take = Say::Take {
                    address: offer.address,
                    server: offer.server,
                };
                let until = Instant::now() + patience(1);
                if let Some(Answer::Granted(lease)) = self.ask(take, Ipv4Addr::BROADCAST, until).await {
                    return lease;
                }
            }
        }
    }

    /// Keeps a lease alive; returns when it is over.
    async fn hold(&mut self, lease: &mut Lease, granted: &UnboundedSender<News>) {
        let mut start = Instant::now();
        let mut at = start + lease.renew();
        loop {
            tokio::time::sleep_until(at).await;
            if start.elapsed() >= lease.end() {
                return;
            }
            self.since = Instant::now();
            self.transaction = token();
            let to = if start.elapsed() >= lease.rebind() {
                Ipv4Addr::BROADCAST
            } else {
                lease.server
            };
            let say = Say::Renew { address: lease.address };
            match self.ask(say, to, Instant::now() + Duration::from_secs(5)).await {
                Some(Answer::Granted(new)) if new.address == lease.address => {
                    *lease = new;
                    start = Instant::now();
                    at = start + lease.renew();
                    lease.granted_ms = crate::clock::now_ms();
                    let _ = granted.send(News::Leased(self.link.clone(), lease.clone()));
                }
                Some(Answer::Refused) => return,
                // Half of what is left, at least a minute, as the RFC has it.
                _ => {
                    let left = lease.end().saturating_sub(start.elapsed());
                    at = Instant::now() + (left / 2).max(Duration::from_secs(60)).min(left);
                }
            }
        }
    }
}

/// Gives an address back, before it is taken from the device. No answer follows (RFC 2131, section 4.4.6).
pub fn release(link: &Link, host: &str, lease: &Lease) {
    let say = Say::Release {
        address: lease.address,
        server: lease.server,
    };
    let packet = encode(say, token(), link.mac, host, 0);
    let sent = bound(link, lease.address).and_then(|socket| {
        let socket = std::net::UdpSocket::from(socket);
        socket.send_to(&packet, (lease.server, 67))
    });
    // A server that does not hear it finds out when the lease is over.
    drop(sent);
}

/// Runs for ever: asks for an address for one device and keeps it. `earlier` is what a manager before this one had.
pub async fn client(link: Link, host: String, earlier: Option<Lease>, to: UnboundedSender<News>) {
    let mut waits = 1;
    let socket = loop {
        match socket(&link) {
            Ok(socket) => break socket,
            Err(e) => {
                let e = Error::network("open the DHCP socket")(e);
                let _ = to.send(News::Problem(format!("{}: {e}", link.name)));
            }
        }
        sleep(Duration::from_secs(waits)).await;
        waits = (waits * 2).min(60);
    };
    let mut client = Client {
        link: link.clone(),
        host,
        socket,
        transaction: token(),
        since: Instant::now(),
    };
    let mut before = earlier.map(|l| l.address);
    loop {
        let mut lease = client.acquire(before).await;
        lease.granted_ms = crate::clock::now_ms();
        let _ = to.send(News::Leased(link.clone(), lease.clone()));
        client.hold(&mut lease, &to).await;
        let _ = to.send(News::Lost(link.clone()));
        before = Some(lease.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_that_is_pulled_is_no_news_and_a_device_that_goes_or_is_renamed_is() {
        let link = |index, name: &str, carrier| Link {
            index,
            name: name.into(),
            mac: [2, 0, 0, 0, 0, 1],
            physical: name.starts_with("eth"),
            up: carrier,
            carrier,
            mtu: 1500,
        };
        let mut known = Vec::new();
        take(
            &mut known,
            vec![link(1, "lo", true), link(2, "eth0", true), link(3, "eth1", true)],
            &[],
        );
        let names = |known: &[Link]| known.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&known), ["eth0", "eth1"]);
        let before = known.clone();
        take(&mut known, vec![link(2, "eth0", false)], &[]);
        assert_eq!(known, before);
        take(&mut known, vec![link(2, "eth7", false)], &[3]);
        assert_eq!(names(&known), ["eth7"]);
    }
}

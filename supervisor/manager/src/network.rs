//! The host's network: loopback, the bridge, and DHCP on every Ethernet device that is or comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
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
    /// An address was granted, or granted again.
    Leased(String, Lease),
    /// The address is no longer ours.
    Lost(String),
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
    netlink.address(bridge, IpAddr::V4(GATEWAY4), PREFIX4)?;
    // A kernel without IPv6 has no such folder; then there is nothing to open.
    let v6 = config.at("/proc/sys/net/ipv6/conf");
    let mut settings = vec![(config.at("/proc/sys/net/ipv4/ip_forward"), "1")];
    if v6.exists() {
        netlink.address(bridge, IpAddr::V6(GATEWAY6), PREFIX6)?;
        // Forwarding would otherwise end the acceptance of router advertisements on the outside.
        settings.extend(
            links
                .iter()
                .filter(|l| l.physical)
                .map(|l| (v6.join(&l.name).join("accept_ra"), "2")),
        );
        settings.push((v6.join("default/accept_ra"), "2"));
        settings.push((v6.join("all/forwarding"), "1"));
    }
    for (path, value) in settings {
        std::fs::write(&path, value).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Runs for ever: DHCP on every Ethernet device. `earlier` names leases of a manager before this one.
pub async fn run(host: String, earlier: Vec<(String, Lease)>, to: UnboundedSender<News>) {
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
    let earlier = Arc::new(earlier);
    let mut take = |found: Vec<Link>| {
        for link in found.into_iter().filter(|l| l.physical) {
            if !known.contains(&link.index) {
                known.push(link.index);
                let before = earlier
                    .iter()
                    .find(|(name, _)| *name == link.name)
                    .map(|(_, l)| l.clone());
                tokio::spawn(client(link, host.clone(), before, to.clone()));
            }
        }
    };
    take(present);
    let mut buffer = vec![0u8; 16384];
    while let Ok(mut guard) = news.readable().await {
        match rustix::net::recv(news.get_ref(), &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) => take(links(&buffer[..length]).0),
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            Err(_) => {}
        }
    }
}

fn socket(link: &Link) -> std::io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::sockopt::set_socket_broadcast(&fd, true)?;
    setsockopt(&fd, sockopt::BindToDevice, &link.name.clone().into())?;
    rustix::net::bind(&fd, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)))?;
    UdpSocket::from_std(std::net::UdpSocket::from(fd))
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
                    let _ = granted.send(News::Leased(self.link.name.clone(), lease.clone()));
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

async fn client(link: Link, host: String, earlier: Option<Lease>, to: UnboundedSender<News>) {
    let mut waits = 1;
    let problem = |what: &str| {
        let _ = to.send(News::Problem(format!("{}: {what}", link.name)));
    };
    let socket = loop {
        let ready = Netlink::open().and_then(|n| n.up(&link));
        match ready.and_then(|()| socket(&link).map_err(Error::network("open the DHCP socket"))) {
            Ok(socket) => break socket,
            Err(e) => problem(&e.to_string()),
        }
        sleep(Duration::from_secs(waits)).await;
        waits = (waits * 2).min(60);
    };
    let name = link.name.clone();
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
        let apply = || -> Result<(), Error> {
            let netlink = Netlink::open()?;
            netlink.address(&link, IpAddr::V4(lease.address), lease.prefix)?;
            if let Some(router) = lease.router {
                netlink.default_route(&link, IpAddr::V4(router))?;
            }
            Ok(())
        };
        if let Err(e) = apply() {
            problem(&e.to_string());
            sleep(Duration::from_secs(5)).await;
            continue;
        }
        let _ = to.send(News::Leased(name.clone(), lease.clone()));
        client.hold(&mut lease, &to).await;
        let _ = to.send(News::Lost(name.clone()));
        let taken = Netlink::open().and_then(|n| n.remove_address(&link, IpAddr::V4(lease.address), lease.prefix));
        if let Err(e) = taken {
            problem(&e.to_string());
        }
        before = Some(lease.address);
    }
}

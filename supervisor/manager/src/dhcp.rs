//! DHCP for IPv4 (RFC 2131): the packets and the times, without a socket.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;

/// What a server granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The way out.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain, if told.
    pub domain: Option<String>,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// For how long, in seconds.
    pub seconds: u32,
    /// When it was granted, in milliseconds since the kernel's start; 0 if that is not known.
    #[serde(default)]
    pub granted_ms: u64,
}

impl Lease {
    /// When to ask its server for more time: half of the lease.
    pub fn renew(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds / 2).max(10))
    }

    /// When to ask any server: seven eighths.
    pub fn rebind(&self) -> Duration {
        Duration::from_secs((u64::from(self.seconds) * 7 / 8).max(15))
    }

    /// When it is over.
    pub fn end(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds).max(20))
    }
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Who is there?
    Discover,
    /// I take what this server offered.
    Take {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
    /// I had this address before; may I keep it?
    Keep {
        /// The address.
        address: Ipv4Addr,
    },
    /// More time for the address that I use.
    Renew {
        /// The address.
        address: Ipv4Addr,
    },
    /// I do not need the address any more.
    Release {
        /// The address.
        address: Ipv4Addr,
        /// The server that granted it.
        server: Ipv4Addr,
    },
}

/// A client's packet. `seconds` says for how long it has been trying.
pub fn encode(say: Say, transaction: u32, mac: [u8; 6], host: &str, seconds: u16) -> Vec<u8> {
    let mut packet = vec![0u8; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&transaction.to_be_bytes());
    packet[8..10].copy_from_slice(&seconds.to_be_bytes());
    packet[28..34].copy_from_slice(&mac);
    packet[236..240].copy_from_slice(&COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        packet.push(code);
        packet.push(u8::try_from(value.len()).unwrap_or(0));
        packet.extend_from_slice(value);
    };
    let kind = match say {
        Say::Discover => DISCOVER,
        Say::Release { .. } => RELEASE,
        _ => REQUEST,
    };
    option(53, &[kind]);
    option(61, &[&[1][..], &mac].concat());
    // A release asks for nothing (RFC 2131, table 5).
    if kind != RELEASE {
        option(55, &[1, 3, 6, 15, 51, 54]);
        option(57, &1500u16.to_be_bytes());
    }
    if kind != RELEASE && !host.is_empty() && host.len() <= 63 {
        option(12, host.as_bytes());
    }
    match say {
        Say::Discover => {}
        Say::Take { address, server } => {
            option(50, &address.octets());
            option(54, &server.octets());
        }
        Say::Keep { address } => option(50, &address.octets()),
        Say::Renew { .. } => {}
        Say::Release { server, .. } => option(54, &server.octets()),
    }
    packet.push(255);
    match say {
        // An address in use receives unicast; before, the answer must be broadcast, for we have none yet.
        Say::Renew { address } | Say::Release { address, .. } => packet[12..16].copy_from_slice(&address.octets()),
        _ => packet[10] = 0x80,
    }
    packet.resize(packet.len().max(300), 0);
    packet
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This can be taken.
    Offer(Lease),
    /// This is ours.
    Granted(Lease),
    /// Not that address.
    Refused,
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*value.first_chunk::<4>()?))
}

/// Reads an answer to our transaction; `None` for anything else.
pub fn decode(packet: &[u8], transaction: u32, mac: [u8; 6]) -> Option<Answer> {
    let head = packet.get(..240)?;
    if head[0] != 2 || head[4..8] != transaction.to_be_bytes() || head[28..34] != mac || head[236..] != COOKIE {
        return None;
    }
    let mut kind = 0;
    let mut mask = None;
    let mut lease = Lease {
        address: address(&head[16..])?,
        prefix: 24,
        router: None,
        dns: Vec::new(),
        domain: None,
        server: Ipv4Addr::UNSPECIFIED,
        seconds: 3600,
        granted_ms: 0,
    };
    let mut options = &packet[240..];
    while let [code, rest @ ..] = options {
        match code {
            0 => {
                options = rest;
                continue;
            }
            255 => break,
            _ => {}
        }
        let length = usize::from(*rest.first()?);
        let value = rest.get(1..=length)?;
        options = &rest[1 + length..];
        match code {
            53 => kind = *value.first()?,
            1 => mask = address(value),
            3 => lease.router = address(value),
            6 => lease.dns = value.chunks_exact(4).filter_map(address).collect(),
            15 => {
                let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
                let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
                let name = &value[..end];
                lease.domain =
                    (!name.is_empty() && name.iter().all(good)).then(|| String::from_utf8_lossy(name).into_owned());
            }
            51 => lease.seconds = u32::from_be_bytes(*value.first_chunk::<4>()?),
            54 => lease.server = address(value)?,
            _ => {}
        }
    }
    if let Some(mask) = mask.map(u32::from) {
        if mask.count_ones() != mask.leading_ones() || mask == 0 {
            return None;
        }
        lease.prefix = mask.leading_ones() as u8;
    }
    if kind != NAK && (lease.address.is_unspecified() || lease.address.is_broadcast() || lease.address.is_multicast()) {
        return None;
    }
    match kind {
        OFFER => Some(Answer::Offer(lease)),
        ACK => Some(Answer::Granted(lease)),
        NAK => Some(Answer::Refused),
        _ => None,
    }
}

/// How long to wait for the answer to try number `n` (from 0): 1, 2, 4 ... at most 32 seconds.
pub fn patience(n: u32) -> Duration {
    Duration::from_secs(1 << n.min(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn answer(kind: u8) -> Vec<u8> {
        let mut packet = encode(Say::Discover, 7, MAC, "h", 0)[..240].to_vec();
        packet[0] = 2;
        packet[16..20].copy_from_slice(&[10, 0, 2, 15]);
        packet.extend_from_slice(&[
            0, 53, 1, kind, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3,
        ]);
        packet.extend_from_slice(&[51, 4, 0, 1, 0x51, 0x80, 54, 4, 10, 0, 2, 2, 255]);
        packet
    }

    #[test]
    fn an_ack_becomes_a_lease() {
        let Some(Answer::Granted(lease)) = decode(&answer(ACK), 7, MAC) else {
            panic!()
        };
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((lease.prefix, lease.seconds), (24, 86400));
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert!(lease.renew() < lease.rebind() && lease.rebind() < lease.end());
    }

    #[test]
    fn a_release_names_the_address_and_the_server_and_asks_for_nothing() {
        let (address, server) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let packet = encode(Say::Release { address, server }, 7, MAC, "host", 0);
        assert_eq!((&packet[12..16], packet[10]), (&address.octets()[..], 0));
        let options = &packet[240..];
        assert_eq!(options[..3], [53, 1, RELEASE]);
        assert_eq!(options[12..19], [54, 4, 10, 0, 2, 2, 255]);
    }

    #[test]
    fn an_answer_to_someone_else_is_ignored() {
        assert_eq!(decode(&answer(ACK), 8, MAC), None);
        assert_eq!(decode(&answer(ACK), 7, [2, 0, 0, 0, 0, 2]), None);
        assert_eq!(decode(&answer(NAK), 7, MAC), Some(Answer::Refused));
    }

    #[test]
    fn a_cut_packet_and_any_flipped_byte_are_read_without_panic() {
        let whole = answer(ACK);
        for end in 0..whole.len() {
            let _ = decode(&whole[..end], 7, MAC);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x80, 0xff] {
                let mut bad = whole.clone();
                bad[at] = value;
                let _ = decode(&bad, 7, MAC);
            }
        }
    }

    #[test]
    fn a_name_server_line_cannot_be_smuggled_in_by_the_domain() {
        let mut packet = answer(ACK);
        packet.pop();
        packet.extend_from_slice(&[15, 3, b'a', b'\n', b'b', 255]);
        let Some(Answer::Granted(lease)) = decode(&packet, 7, MAC) else {
            panic!()
        };
        assert_eq!(lease.domain, None);
    }
}

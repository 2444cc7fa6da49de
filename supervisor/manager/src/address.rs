//! The internal network's addresses, each a function of a unit's index alone.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The bridge's name.
pub const BRIDGE: &str = "cairn0";
/// The bridge's address, the units' gateway.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
/// The prefix length of the internal IPv4 network.
pub const PREFIX4: u8 = 16;
/// The prefix length of the internal IPv6 network.
pub const PREFIX6: u8 = 64;

/// An address of the internal unique local network (RFC 4193) `fd63:6169:726e::/64`; host 1 is the bridge.
const fn ula(host: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd63, 0x6169, 0x726e, 0, 0, 0, (host >> 16) as u16, host as u16)
}

/// The bridge's IPv6 address.
pub const GATEWAY6: Ipv6Addr = ula(1);

/// A unit's IPv4 address: 10.201.0.2 for index 0, and up. Indexes wrap after 65,000, far above the id ranges there are.
pub fn ipv4(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 201, 0, 2)) + index % 65_000)
}

/// A unit's IPv6 address.
pub fn ipv6(index: u32) -> Ipv6Addr {
    ula(2 + index % 65_000)
}

/// The host end of a unit's veth pair, at most 15 bytes.
pub fn link(index: u32) -> String {
    format!("unit{index}")
}

/// A unit's hardware address.
pub fn mac(index: u32) -> String {
    let [_, _, c, d] = ipv4(index).octets();
    format!("02:c0:0a:c9:{c:02x}:{d:02x}")
}

/// The first host id of a unit's range of 65,536.
pub const fn id_base(index: u32) -> u32 {
    (1 + index) * 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_never_share_an_address_nor_take_the_bridges() {
        let mut seen = std::collections::BTreeSet::from([GATEWAY4]);
        for index in 0..65_000 {
            assert!(seen.insert(ipv4(index)));
            assert!(ipv4(index).octets()[..2] == [10, 201]);
        }
        assert_eq!(ipv4(0).to_string(), "10.201.0.2");
        assert_eq!(ipv4(254).to_string(), "10.201.1.0");
        assert_eq!(ipv6(0).to_string(), "fd63:6169:726e::2");
        assert!(link(u32::MAX).len() <= 15);
        // What owners cannot choose for the outside is what lies inside.
        let inside = [(GATEWAY4.into(), PREFIX4), (GATEWAY6.into(), PREFIX6)];
        for (internal, (gateway, prefix)) in cairn_unit::INTERNAL.iter().zip(inside) {
            assert!(internal.holds(gateway) && internal.prefix == prefix, "{internal}");
        }
    }
}

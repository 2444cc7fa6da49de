//! The owner's choices for the outside network: what is taken, and what is refused where it stands.

mod common;

use std::net::IpAddr;

use cairn_unit::{Ipv6, Mac, Manifest, Method, NetAddress, Site};
use common::source;

fn manifest() -> Manifest {
    let all = serde_json::json!({"name": "a", "version": "1", "description": "x", "built": 0, "units": {}});
    serde_json::from_value(all).unwrap()
}

fn parse(text: &str) -> Result<Site, Vec<(usize, String)>> {
    Site::parse(&source("site.toml", text), &manifest()).map_err(|all| {
        let told = |p: cairn_unit::Problem| (p.at.map_or(0, |at| at.0), p.message);
        all.0.into_iter().map(told).collect()
    })
}

#[test]
fn a_fixed_address_a_device_that_is_off_and_another_name_server_are_taken() {
    let text = "[network]\ndns = [\"192.0.2.53\"]\n[network.devices.eth0]\nmethod = \"static\"\n\
                addresses = [\"192.0.2.5/24\", \"2001:db8::5/64\"]\ngateway = \"192.0.2.1\"\ngateway6 = \"fe80::1\"\n\
                [network.devices.spare]\nmac = \"52-54-00-12-34-AB\"\nmethod = \"off\"\n";
    let network = parse(text).unwrap().network;
    let device = &network.devices[&"eth0".parse().unwrap()];
    assert_eq!((device.method, device.ipv6), (Method::Static, Ipv6::Auto));
    assert_eq!(device.addresses[1].to_string(), "2001:db8::5/64");
    let spare = &network.devices[&"spare".parse().unwrap()];
    assert_eq!(spare.mac, Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab])));
    for search in ["lan", "office.example.org"] {
        let text = format!("[network]\nsearch = [\"{search}\"]\n");
        assert_eq!(parse(&text).unwrap().network.search[0].to_string(), search);
    }
    for search in ["", "a b", "Lan", "a..b", "x\\nnameserver 192.0.2.66"] {
        assert!(
            parse(&format!("[network]\nsearch = [\"{search}\"]\n")).is_err(),
            "{search}"
        );
    }
    // Written again it is the same.
    let site = parse(text).unwrap();
    assert_eq!(parse(&toml::to_string(&site).unwrap()).unwrap().network, network);
    assert!(parse("").unwrap().network.is_empty());
    assert!(!toml::to_string(&parse("").unwrap()).unwrap().contains("network"));
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    let device = |more: &str| {
        let text = format!("[network.devices.eth0]\nmethod = \"static\"\n{more}");
        parse(&text).unwrap_err().remove(0)
    };
    let of = |address: &str| device(&format!("addresses = [\"{address}\"]\n"));
    for (address, why) in [
        (
            "192.0.2.5",
            "`192.0.2.5` has no prefix length: write for example 192.0.2.5/24",
        ),
        ("2001:db8::5", "no prefix length: write for example 2001:db8::5/64"),
        ("192.0.2.5/33", "between 1 and 32"),
        ("192.0.2.5/0", "between 1 and 32"),
        ("192.0.2.5/+4", "not an address with a prefix"),
        ("host/24", "not an address with a prefix"),
        ("192.0.2.0/24", "192.0.2.0/24 is the network's own address"),
        ("192.0.2.255/24", "the network's broadcast address"),
        ("127.0.0.1/8", "no device can have"),
        ("224.0.0.5/24", "no device can have"),
        ("::1/64", "no device can have"),
        ("fe80::5/64", "which a device has by itself"),
        ("2001:db8::/64", "the network's routers"),
        ("10.201.7.1/24", "overlaps with 10.201.0.0/16"),
        ("10.0.0.5/8", "overlaps with 10.201.0.0/16"),
        ("fd63:6169:726e::9/64", "overlaps with fd63:6169:726e::/64"),
    ] {
        let (line, message) = of(address);
        assert_eq!(line, 3, "{address}: {message}");
        assert!(message.contains(why), "{address}: {message}");
    }
    let fine = "addresses = [\"192.0.2.5/24\"]\n";
    for (more, line, why) in [
        ("gateway = \"198.51.100.1\"\n", 4, "in none of the device's networks"),
        ("gateway = \"192.0.2.5\"\n", 4, "the device's own address"),
        ("gateway = \"192.0.2.255\"\n", 4, "the network's broadcast address"),
        ("gateway6 = \"2001:db8::1\"\n", 4, "in none of the device's networks"),
        ("gateway = \"192.0.2\"\n", 4, "invalid IPv4 address"),
        ("ipv6 = \"static\"\n", 4, "no address of IPv6"),
        ("mtu = 1000\n", 4, "packets cannot have 1000 bytes"),
        ("mtu = 20000\n", 4, "packets cannot have 20000 bytes"),
        ("dns = [\"0.0.0.0\"]\n", 4, "0.0.0.0 cannot be a name server"),
        (
            "dns = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"1.1.1.4\"]\n",
            4,
            "4 name servers",
        ),
        ("mac = \"01:00:5e:00:00:01\"\n", 4, "not a device's hardware address"),
        ("adresses = []\n", 4, "unknown key `adresses`"),
        (
            "[network.devices.eth1]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\"]\n",
            6,
            "`eth0` and `eth1` have the same address",
        ),
        ("[network.devices.lo]\nmethod = \"off\"\n", 4, "the appliance's own"),
        ("[network.devices.unit3]\nmethod = \"off\"\n", 4, "the appliance's own"),
        (
            "[network.devices.\"a b\"]\nmethod = \"off\"\n",
            4,
            "not a network device's name",
        ),
    ] {
        let (at, message) = device(&format!("{fine}{more}"));
        assert!(message.contains(why), "{more}: {message}");
        assert_eq!(at, line, "{more}: {message}");
    }
    let (line, message) = device("");
    assert_eq!((line, message.as_str()), (2, "a static device has no address"));
    let other = |text: &str| parse(text).unwrap_err().remove(0);
    let (line, message) = other("[network.devices.eth0]\ngateway = \"192.0.2.1\"\n");
    assert_eq!(
        (line, message.as_str()),
        (2, "with DHCP the gateway comes from the network")
    );
    let (line, message) = other("[network.devices.eth0]\naddresses = [\"192.0.2.5/24\"]\n");
    assert_eq!(line, 2);
    assert!(message.contains("with DHCP"), "{message}");
    let (line, message) = other("[network.devices.eth0]\nmethod = \"off\"\nmtu = 1500\n");
    assert_eq!(
        (line, message.as_str()),
        (2, "a device that is off has no other settings")
    );
    let (line, message) = other(
        "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\", \"2001:db8::5/64\"]\nipv6 = \"off\"\n",
    );
    assert_eq!(
        (line, message.as_str()),
        (3, "the device has an address of IPv6, which is off")
    );
    let twice = "[network.devices.a]\nmac = \"52:54:00:00:00:01\"\n[network.devices.b]\nmac = \"52:54:00:00:00:01\"\n";
    let (line, message) = other(twice);
    assert_eq!(
        (line, message.as_str()),
        (4, "two devices have the hardware address 52:54:00:00:00:01")
    );
}

#[test]
fn a_network_knows_which_addresses_it_holds() {
    let net = |text: &str| text.parse::<NetAddress>().unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(net("192.0.2.5/24").holds(ip("192.0.2.200")) && !net("192.0.2.5/25").holds(ip("192.0.2.200")));
    assert!(net("192.0.2.5/32").holds(ip("192.0.2.5")) && !net("192.0.2.5/32").holds(ip("192.0.2.4")));
    assert!(net("2001:db8::5/64").holds(ip("2001:db8::ffff")) && !net("2001:db8::5/64").holds(ip("192.0.2.5")));
    assert!(net("10.0.0.5/8").overlaps(&net("10.201.0.0/16")) && net("10.201.9.9/24").overlaps(&net("10.201.0.0/16")));
    assert!(!net("10.200.0.5/16").overlaps(&net("10.201.0.0/16")));
}

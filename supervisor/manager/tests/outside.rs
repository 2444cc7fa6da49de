//! The outside network's plan applied to the kernel, in a network namespace of its own: the test runs itself again under `unshare --net`.

use std::collections::BTreeMap;
use std::process::Command;

use cairn_manager::config::Config;
use cairn_manager::netlink::Netlink;
use cairn_manager::network;
use cairn_manager::outside::{Plan, Step, apply, look, plan};
use cairn_unit::{Ipv6, SiteNetwork};

const INNER: &str = "CAIRN_TEST_IN_NETNS";

fn ip(line: &str) -> bool {
    Command::new("ip")
        .args(line.split(' '))
        .status()
        .is_ok_and(|s| s.success())
}

/// Whether this is the private namespace, with a link that has another end.
fn in_private_net(test: &str) -> bool {
    if std::env::var_os(INNER).is_some() {
        for line in [
            "link set lo up",
            "link add peer type veth peer name eth0",
            "link set peer up",
        ] {
            assert!(ip(line), "{line}");
        }
        return true;
    }
    let me = std::env::current_exe().unwrap();
    let may = Command::new("unshare").args(["--net", "true"]).status();
    if !may.is_ok_and(|s| s.success()) {
        println!("skipped: no network namespace can be made here");
        return false;
    }
    let ran = Command::new("unshare")
        .arg("--net")
        .arg(me)
        .args(["--exact", test, "--nocapture"])
        .env(INNER, "1")
        .status()
        .unwrap();
    assert!(ran.success());
    false
}

fn choices(text: &str) -> SiteNetwork {
    #[derive(serde::Deserialize)]
    struct All {
        network: SiteNetwork,
    }
    toml::from_str::<All>(text).unwrap().network
}

/// What is to be of `eth0`; a veth, which counts as software's, is taken as hardware here.
fn planned(text: &str) -> Plan {
    let mut links = Netlink::open().unwrap().links().unwrap();
    links.iter_mut().for_each(|link| link.physical = link.name == "eth0");
    plan(&choices(text), &links, &[], &BTreeMap::new())
}

fn shown() -> String {
    let out = |line: &str| {
        let out = Command::new("ip").args(line.split(' ')).output().unwrap().stdout;
        String::from_utf8(out).unwrap()
    };
    [
        out("-o link show dev eth0"),
        out("-o addr show dev eth0"),
        out("route show"),
        out("-6 route show"),
    ]
    .concat()
}

fn done(text: &str) -> Vec<Step> {
    let plan = planned(text);
    let (done, problems) = apply(&Config::appliance(), &plan);
    assert_eq!(problems, Vec::<String>::new());
    // And it stays so.
    assert_eq!(apply(&Config::appliance(), &plan), (vec![], vec![]));
    done.into_iter().map(|(step, _)| step).collect()
}

#[test]
fn addresses_and_routes_become_what_was_chosen_and_only_the_difference_is_touched() {
    if !in_private_net("addresses_and_routes_become_what_was_chosen_and_only_the_difference_is_touched") {
        return;
    }
    let fixed = "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\", \"192.0.2.6/24\"]\ngateway = \"192.0.2.1\"\n";
    done(fixed);
    let text = shown();
    for part in [
        "192.0.2.5/24",
        "192.0.2.6/24",
        "default via 192.0.2.1 dev eth0 proto static",
        "UP",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The first address goes: the kernel takes what is of the same network along, and it comes back.
    let other = fixed.replace("192.0.2.5/24", "192.0.2.7/24");
    assert!(done(&other).contains(&Step::Take("192.0.2.5/24".parse().unwrap())));
    let text = shown();
    assert!(!text.contains("192.0.2.5/24"), "{text}");
    for part in ["192.0.2.6/24", "192.0.2.7/24", "default via 192.0.2.1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // One more touches nothing else.
    let more = other.replace("\"192.0.2.6/24\"", "\"192.0.2.6/24\", \"198.51.100.5/24\"");
    assert_eq!(done(&more), [Step::Give("198.51.100.5/24".parse().unwrap())]);
    assert_eq!(
        done("[network.devices.eth0]\nmethod = \"off\"\n").last(),
        Some(&Step::Down)
    );
    let text = shown();
    assert!(!text.contains("192.0.2.") && text.contains("state DOWN"), "{text}");
    assert!(done(fixed).contains(&Step::Up));
}

#[test]
fn ipv6_is_announced_fixed_or_off_and_packets_have_the_size_that_was_chosen() {
    if !in_private_net("ipv6_is_announced_fixed_or_off_and_packets_have_the_size_that_was_chosen") {
        return;
    }
    if !std::path::Path::new("/proc/sys/net/ipv6").exists()
        || std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").is_err()
    {
        println!("skipped: no IPv6 that can be set here");
        return;
    }
    let text = "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\", \"2001:db8::5/64\"]\n\
                gateway6 = \"2001:db8::1\"\nipv6 = \"static\"\nmtu = 1400\n";
    let steps = done(text);
    assert!(
        steps.contains(&Step::Ipv6(Ipv6::Static)) && steps.contains(&Step::Mtu(1400)),
        "{steps:?}"
    );
    let shown_now = shown();
    for part in [
        "2001:db8::5/64",
        "default via 2001:db8::1 dev eth0 proto static",
        "mtu 1400",
    ] {
        assert!(shown_now.contains(part), "{part}: {shown_now}");
    }
    let have = look(&Config::appliance(), &planned(text)).unwrap();
    assert!(have.iter().all(|have| have.ipv6 == Some(Ipv6::Static)), "{have:?}");
    let off = "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\"]\nipv6 = \"off\"\n";
    assert!(done(off).contains(&Step::Ipv6(Ipv6::Off)));
    let text = shown();
    assert!(!text.contains("inet6") && text.contains("192.0.2.5/24"), "{text}");
    // Back to what routers announce: the address of IPv4 is not touched.
    let steps = done(&off.replace("ipv6 = \"off\"", "ipv6 = \"auto\""));
    assert_eq!(steps, [Step::Ipv6(Ipv6::Auto)]);
}

/// A server that grants one address to whoever asks on `peer`; what it heard, as DHCP's message types.
fn serve(heard: std::sync::mpsc::Sender<u8>) {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(&socket, sockopt::BindToDevice, &"peer".into()).unwrap();
    setsockopt(&socket, sockopt::Broadcast, &true).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([0, 0, 0, 0], 67))).unwrap();
    let socket = std::net::UdpSocket::from(socket);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let asked = &buffer[..length];
            let kind = asked[242];
            let mut answer = asked[..240].to_vec();
            answer[0] = 2;
            answer[16..20].copy_from_slice(&[10, 0, 2, 15]);
            // An offer to who discovers, a grant to who requests.
            answer.extend_from_slice(&[
                53,
                1,
                if kind == 1 { 2 } else { 5 },
                1,
                4,
                255,
                255,
                255,
                0,
                3,
                4,
                10,
                0,
                2,
                2,
            ]);
            answer.extend_from_slice(&[6, 4, 10, 0, 2, 3, 51, 4, 0, 0, 14, 16, 54, 4, 10, 0, 2, 2, 255]);
            // Told before it is answered: whoever has the answer finds it told.
            if heard.send(kind).is_err() {
                return;
            }
            socket.send_to(&answer, "255.255.255.255:68").unwrap();
        }
    });
}

#[test]
fn what_dhcp_grants_is_applied_and_goes_when_an_address_is_fixed() {
    if !in_private_net("what_dhcp_grants_is_applied_and_goes_when_an_address_is_fixed") {
        return;
    }
    let links = |up: bool| {
        let mut links = Netlink::open().unwrap().links().unwrap();
        links.iter_mut().for_each(|link| link.physical = link.name == "eth0");
        assert!(links.iter().any(|link| link.name == "eth0" && link.up == up));
        links
    };
    let config = Config::appliance();
    // Without a lease the device is switched on, so that its client can ask.
    let before = plan(&SiteNetwork::default(), &links(false), &[], &BTreeMap::new());
    let (done, problems) = apply(&config, &before);
    assert!(
        problems.is_empty() && done.contains(&(Step::Up, "eth0".into())),
        "{done:?} {problems:?}"
    );
    let (told, heard) = std::sync::mpsc::channel();
    serve(told);
    let link = links(true).into_iter().find(|link| link.name == "eth0").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (device, lease) = runtime.block_on(async {
        let (send, mut news) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(network::client(link, "office".into(), None, send));
        match news.recv().await.unwrap() {
            network::News::Leased(link, lease) => (link.name, lease),
            other => panic!("{other:?}"),
        }
    });
    // Where the answer takes its time, it asks again: what counts is that nothing is requested before something was offered.
    let said = heard.try_iter().collect::<Vec<_>>();
    assert_eq!((said.first(), said.last()), (Some(&1), Some(&3)), "{said:?}");
    assert!(said.iter().all(|kind| [1, 3].contains(kind)), "{said:?}");
    assert!(lease.granted_ms > 0 && lease.seconds == 3600, "{lease:?}");
    let leases = [(device, lease)];
    let leased = plan(&SiteNetwork::default(), &links(true), &leases, &BTreeMap::new());
    assert_eq!(apply(&config, &leased).1, Vec::<String>::new());
    let text = shown();
    assert!(
        text.contains("10.0.2.15/24") && text.contains("default via 10.0.2.2 dev eth0"),
        "{text}"
    );
    assert_eq!(leased.resolv(), "nameserver 10.0.2.3\n");
    let fixed = choices("[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\"]\n");
    let fixed = plan(&fixed, &links(true), &leases, &BTreeMap::new());
    assert_eq!(apply(&config, &fixed).1, Vec::<String>::new());
    let text = shown();
    assert!(
        text.contains("192.0.2.5/24") && !text.contains("10.0.2.") && !text.contains("default via"),
        "{text}"
    );
    assert_eq!(fixed.resolv(), "");
}

use super::*;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: [2, 0, 0, 0, 0, u8::try_from(index).unwrap()],
        physical: true,
        up: true,
        carrier: true,
        mtu: 1500,
    }
}

fn choices(text: &str) -> SiteNetwork {
    let manifest = crate::testing::manifest(&[]);
    let source = cairn_unit::Source {
        file: "site.toml".into(),
        text: text.to_owned(),
    };
    cairn_unit::Site::parse(&source, &manifest).unwrap().network
}

fn lease(device: &str, address: [u8; 4]) -> (String, Lease) {
    let lease = Lease {
        address: address.into(),
        prefix: 24,
        router: Some([10, 0, 2, 2].into()),
        dns: vec![[10, 0, 2, 3].into()],
        domain: Some("lan".into()),
        server: [10, 0, 2, 2].into(),
        seconds: 3600,
        granted_ms: 0,
    };
    (device.to_owned(), lease)
}

fn net(text: &str) -> NetAddress {
    text.parse().unwrap()
}

/// What the kernel has, if it has what was planned.
fn as_planned(plan: &Plan, links: &[Link]) -> Vec<Have> {
    let have = |link: &Link| {
        let device = &plan.devices[&link.name];
        let mut link = link.clone();
        link.up = device.up;
        link.mtu = device.mtu.unwrap_or(link.mtu);
        let own = |at: &NetAddress| Address {
            index: link.index,
            at: *at,
            permanent: true,
            by_router: false,
        };
        Have {
            ipv6: Some(device.ipv6),
            addresses: device.addresses.iter().map(own).collect(),
            gateways: device.gateways.clone(),
            link,
        }
    };
    links.iter().map(have).collect()
}

const STATIC_ETH0: &str = "[network.devices.eth0]\nmethod = \"static\"\naddresses = [\"192.0.2.5/24\"]\ngateway = \"192.0.2.1\"\n\
                           dns = [\"192.0.2.53\"]\n";

#[test]
fn without_a_choice_every_device_has_dhcp_and_what_it_told() {
    let links = [link(2, "eth0"), link(3, "eth1")];
    let leases = [lease("eth0", [10, 0, 2, 15])];
    let plan = plan(&SiteNetwork::default(), &links, &leases, &BTreeMap::new());
    let eth0 = &plan.devices["eth0"];
    assert!(eth0.up && eth0.dhcp && plan.devices["eth1"].dhcp && plan.absent.is_empty());
    assert_eq!(eth0.addresses, BTreeSet::from([net("10.0.2.15/24")]));
    assert_eq!(eth0.gateways, BTreeSet::from([[10, 0, 2, 2].into()]));
    assert_eq!(plan.resolv(), "search lan\nnameserver 10.0.2.3\n");
    assert_eq!(plan.address(), Some([10, 0, 2, 15].into()));
}

#[test]
fn a_fixed_address_takes_the_place_of_a_lease_and_a_name_server_of_those_that_were_told() {
    let links = [link(2, "eth0")];
    let leases = [lease("eth0", [10, 0, 2, 15])];
    let made = |text: &str| plan(&choices(text), &links, &leases, &BTreeMap::new());
    let fixed = made(STATIC_ETH0);
    assert!(!fixed.devices["eth0"].dhcp);
    assert_eq!(fixed.devices["eth0"].addresses, BTreeSet::from([net("192.0.2.5/24")]));
    assert_eq!(fixed.resolv(), "nameserver 192.0.2.53\n");
    let told = made("[network]\ndns = [\"2001:db8::1\"]\nsearch = [\"example.org\"]\n");
    assert_eq!(told.resolv(), "search example.org\nnameserver 2001:db8::1\n");
    assert!(told.devices["eth0"].dhcp);
    let one = made("[network.devices.eth0]\ndns = [\"192.0.2.53\"]\n");
    assert_eq!(one.resolv(), "search lan\nnameserver 192.0.2.53\n");
}

#[test]
fn a_device_is_found_by_its_hardware_address_and_one_that_is_not_there_is_told() {
    let text = "[network.devices.uplink]\nmac = \"02:00:00:00:00:03\"\nmethod = \"off\"\n\
                [network.devices.eth9]\nmethod = \"off\"\n";
    let made = |links: &[Link]| plan(&choices(text), links, &[], &BTreeMap::new());
    let before = made(&[link(2, "eth0"), link(3, "eth1")]);
    assert!(before.devices["eth0"].up && !before.devices["eth1"].up);
    assert_eq!(before.devices["eth1"].chosen_as.as_deref(), Some("uplink"));
    assert_eq!(before.absent, ["eth9"]);
    let after = made(&[link(2, "eth0"), link(3, "eth1"), link(9, "eth9")]);
    assert!(after.absent.is_empty() && !after.devices["eth9"].up);
}

#[test]
fn what_is_as_planned_is_not_touched_and_only_the_difference_is() {
    let links = [link(2, "eth0"), link(3, "eth1")];
    let leases = [lease("eth0", [10, 0, 2, 15]), lease("eth1", [10, 0, 3, 15])];
    let dhcp = plan(&SiteNetwork::default(), &links, &leases, &BTreeMap::new());
    let have = as_planned(&dhcp, &links);
    assert_eq!(steps(&dhcp, &have), []);
    let fixed = plan(&choices(STATIC_ETH0), &links, &leases, &BTreeMap::new());
    let all = [
        Step::Unroute([10, 0, 2, 2].into()),
        Step::Take(net("10.0.2.15/24")),
        Step::Give(net("192.0.2.5/24")),
        Step::Route([192, 0, 2, 1].into()),
    ];
    assert_eq!(steps(&fixed, &have), all.map(|step| (step, "eth0".to_owned())));
    // Another name server is no matter of the device.
    let other = plan(
        &choices("[network]\ndns = [\"192.0.2.1\"]\n"),
        &links,
        &leases,
        &BTreeMap::new(),
    );
    assert_eq!(steps(&other, &have), []);
}

#[test]
fn what_routers_and_the_kernel_gave_stays() {
    let links = [link(2, "eth0")];
    let fixed = plan(&choices(STATIC_ETH0), &links, &[], &BTreeMap::new());
    let mut have = as_planned(&fixed, &links);
    for (at, permanent, by_router) in [
        ("fe80::2/64", true, false),
        ("2001:db8::9/64", false, false),
        ("2001:db8::a/64", true, true),
    ] {
        have[0].addresses.push(Address {
            index: 2,
            at: net(at),
            permanent,
            by_router,
        });
    }
    assert_eq!(steps(&fixed, &have), []);
    // A fixed one that nobody chose any more goes.
    have[0].addresses[3].by_router = false;
    assert_eq!(
        steps(&fixed, &have),
        [(Step::Take(net("2001:db8::a/64")), "eth0".to_owned())]
    );
}

#[test]
fn an_address_that_moves_is_taken_before_it_is_given_and_a_device_goes_off_last() {
    let links = [link(2, "eth0"), link(3, "eth1")];
    let before = plan(&choices(STATIC_ETH0), &links, &[], &BTreeMap::new());
    let text = "[network.devices.eth0]\nmethod = \"off\"\n[network.devices.eth1]\nmethod = \"static\"\n\
                addresses = [\"192.0.2.5/24\"]\nipv6 = \"off\"\nmtu = 1400\n";
    let after = plan(&choices(text), &links, &[], &BTreeMap::new());
    let all = [
        (Step::Ipv6(Ipv6::Off), "eth1".to_owned()),
        (Step::Mtu(1400), "eth1".to_owned()),
        (Step::Unroute([192, 0, 2, 1].into()), "eth0".to_owned()),
        (Step::Take(net("192.0.2.5/24")), "eth0".to_owned()),
        (Step::Give(net("192.0.2.5/24")), "eth1".to_owned()),
        (Step::Down, "eth0".to_owned()),
    ];
    assert_eq!(steps(&after, &as_planned(&before, &links)), all);
    // The packets' size of before comes back, where it was noted.
    let noted = BTreeMap::from([("eth1".to_owned(), 1500)]);
    let back = plan(&choices(STATIC_ETH0), &links, &[], &noted);
    let size = steps(&back, &as_planned(&after, &links));
    assert!(size.contains(&(Step::Mtu(1500), "eth1".to_owned())), "{size:?}");
}

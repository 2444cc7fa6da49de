//! A unit's link to the bridge, in a private network namespace: the test runs itself again under `unshare --net`.

mod common;
use common::{plan, root, run, script, start};

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use cairn_sandbox::{Failure, Ipv4, Ipv6, Network, Plan, Veth, in_network, make_network};

const INNER: &str = "CAIRN_TEST_IN_NETNS";

/// True in the private network namespace, with a bridge `br0` at 10.9.0.1 and fd09::1.
fn in_private_net(test: &str) -> bool {
    if std::env::var_os(INNER).is_some() {
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "addr add 10.9.0.1/24 dev br0",
            "addr add fd09::1/64 dev br0 nodad",
            "link set br0 up",
        ] {
            assert!(
                Command::new("ip").args(line.split(' ')).status().unwrap().success(),
                "{line}"
            );
        }
        return true;
    }
    if root(test) {
        let me = std::env::current_exe().unwrap();
        let ran = Command::new("unshare")
            .arg("--net")
            .arg(me)
            .args(["--exact", test, "--nocapture"])
            .env(INNER, "1")
            .status()
            .unwrap();
        assert!(ran.success());
    }
    false
}

fn linked(mut plan: Plan) -> Plan {
    plan.network = Network::Veth(Veth {
        host_name: "v-probe".into(),
        bridge: Some("br0".into()),
        name: "eth0".into(),
        mac: Some("02:00:00:00:09:02".into()),
        ipv4: Some(Ipv4 {
            address: [10, 9, 0, 2].into(),
            prefix: 24,
            gateway: Some([10, 9, 0, 1].into()),
        }),
        ipv6: Some(Ipv6 {
            address: "fd09::2".parse().unwrap(),
            prefix: 64,
            gateway: Some("fd09::1".parse().unwrap()),
        }),
    });
    plan
}

#[test]
fn a_unit_reaches_the_bridge_over_ipv4_and_ipv6() {
    if !in_private_net("a_unit_reaches_the_bridge_over_ipv4_and_ipv6") {
        return;
    }
    for address in ["10.9.0.1", "fd09::1"] {
        let host = TcpListener::bind((address, 0)).unwrap();
        let port = host.local_addr().unwrap().port();
        let heard = std::thread::spawn(move || {
            let (mut connection, from) = host.accept().unwrap();
            let mut text = String::new();
            connection.read_to_string(&mut text).unwrap();
            (from.ip().to_string(), text)
        });
        let send = format!("exec 3<>/dev/tcp/{address}/{port}; echo hello >&3");
        run(&linked(plan(&["/bin/bash", "-c", &send]))).ok();
        let source = if address.contains(':') { "fd09::2" } else { "10.9.0.2" };
        assert_eq!(heard.join().unwrap(), (source.to_owned(), "hello\n".to_owned()));
    }
}

#[test]
fn the_link_is_as_planned_and_a_left_one_is_replaced() {
    if !in_private_net("the_link_is_as_planned_and_a_left_one_is_replaced") {
        return;
    }
    assert!(
        Command::new("ip")
            .args("link add v-probe type veth peer name left".split(' '))
            .status()
            .unwrap()
            .success()
    );
    let inside = linked(script(
        "cat /sys/x 2>/dev/null; ip -o link show eth0; ip route; ip -6 route show default",
    ));
    let ran = run(&inside);
    for part in [
        "02:00:00:00:09:02",
        "state UP",
        "default via 10.9.0.1 dev eth0",
        "default via fd09::1 dev eth0",
    ] {
        assert!(ran.ok().contains(part), "{part}: {ran:?}");
    }
    // A quick restart, while the kernel may still hold the dead namespace's link.
    for _ in 0..5 {
        run(&inside).ok();
    }
}

#[test]
fn a_missing_bridge_is_named() {
    if !in_private_net("a_missing_bridge_is_named") {
        return;
    }
    let mut inside = linked(script("true"));
    let Network::Veth(veth) = &mut inside.network else {
        unreachable!()
    };
    veth.bridge = Some("br9".into());
    let ran = run(&inside);
    assert_eq!(
        (ran.failure().step.as_str(), ran.failure().path.to_str()),
        ("veth", Some("br9"))
    );
}

#[test]
fn who_connects_before_the_unit_runs_is_served_when_it_does_and_again_after_its_restart() {
    if !in_private_net("who_connects_before_the_unit_runs_is_served_when_it_does_and_again_after_its_restart") {
        return;
    }
    // Unconnected, ports below 1024 need no privilege inside: the network has what the plan would have set.
    let serve = r#"open(my $l, "+<&=", 3); accept(my $c, $l) or die $!; print $c "served by $ENV{LISTEN_FDNAMES}\n"; close $c;
        open(my $n, "<", "/proc/net/dev"); print grep /eth0/, <$n>;
        open(my $s, "<", "/proc/sys/net/ipv4/ip_unprivileged_port_start"); print <$s>"#;
    let mut inside = linked(plan(&["/usr/bin/perl", "-e", serve]));
    let Network::Veth(veth) = inside.network.clone() else {
        unreachable!()
    };
    let network = make_network(&veth, &inside.sysctls).unwrap();
    let socket = in_network(&network, || {
        TcpListener::bind("[::]:80").map_err(|error| Failure::new("listen", "80", error))
    });
    let socket = socket.unwrap();
    inside.network = Network::Joined(veth);
    inside.listen_fds = vec!["web".into()];
    for address in ["10.9.0.2:80", "[fd09::2]:80"] {
        let mut early = TcpStream::connect(address).unwrap();
        let sockets = [socket.try_clone().unwrap().into(), network.try_clone().unwrap()];
        let ran = start(&serde_json::to_vec(&inside).unwrap(), &sockets).finish(Vec::new());
        let lines: Vec<&str> = ran.ok().lines().collect();
        assert!(lines[0].trim().starts_with("eth0:") && lines[1] == "1", "{ran:?}");
        let mut text = String::new();
        early.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served by web\n");
    }
    // What the sandbox has is no hold on the network: it belongs to the host.
    inside.argv = ["/bin/sh", "-c", "ip link set eth0 down; exit $?"]
        .map(str::to_owned)
        .to_vec();
    inside.capabilities.bounding = vec!["CAP_NET_ADMIN".into()];
    inside.capabilities.ambient = vec!["CAP_NET_ADMIN".into()];
    let sockets = [socket.into(), network.try_clone().unwrap()];
    assert!(
        start(&serde_json::to_vec(&inside).unwrap(), &sockets)
            .finish(Vec::new())
            .output
            .contains("not permitted")
    );
}

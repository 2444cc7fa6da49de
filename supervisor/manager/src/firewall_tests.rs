use super::*;
use crate::testing::manifest;

fn rules() -> String {
    ruleset(&manifest(&[
        (
            "web",
            r#"{"provides":{}, "needs":{"db":"sql"}, "network":{"publish":[{"port":443,"to":8443}],"outbound":true}}"#,
        ),
        ("db", r#"{"provides":{"sql":{"kind":"database","port":3306}}}"#),
        ("idle", r#"{"network":{"mode":"none"}}"#),
    ]))
}

#[test]
fn every_filter_chain_drops_what_it_does_not_name() {
    let rules = rules();
    for hook in ["hook input", "hook forward"] {
        for line in rules.lines().filter(|l| l.contains(hook)) {
            assert!(line.contains("policy drop"), "{line}");
        }
    }
    assert_eq!(rules.matches("policy drop").count(), 3);
}

#[test]
fn a_published_port_reaches_its_unit_with_the_clients_address() {
    let rules = rules();
    assert!(
        rules.contains("meta nfproto ipv4 tcp dport 443 dnat ip to 10.201.0.4:8443"),
        "{rules}"
    );
    assert!(rules.contains("meta nfproto ipv6 tcp dport 443 dnat ip6 to [fd63:6169:726e::4]:8443"));
    assert!(rules.contains("ip daddr 10.201.0.4 tcp dport 8443 ct status dnat accept"));
    assert!(!rules.contains("oifname \"cairn0\" masquerade"));
    // And only at an address of the machine's own: a neighbour may send anything to its hardware address.
    let (_, after) = rules.split_once("priority dstnat").unwrap();
    let (before, _) = after.split_once(" dnat ").unwrap();
    assert!(before.contains("fib daddr type != local return"), "{before}");
}

#[test]
fn only_outbound_units_are_masqueraded() {
    let rules = rules();
    let lines: Vec<&str> = rules.lines().filter(|l| l.contains("masquerade")).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|l| l.contains("10.201.0.4") || l.contains("::4")));
}

#[test]
fn a_binding_opens_one_port_one_way() {
    let rules = rules();
    let forward = rules.split("hook forward priority 0").nth(1).unwrap();
    assert!(
        forward.contains("ip saddr 10.201.0.4 ip daddr 10.201.0.2 tcp dport 3306 accept"),
        "{forward}"
    );
    assert!(!forward.contains("ip saddr 10.201.0.2 ip daddr 10.201.0.4 tcp dport"));
    assert_eq!(forward.matches("dport").count(), 2);
}

#[test]
fn a_unit_without_network_appears_nowhere() {
    assert!(!rules().contains("10.201.0.3"));
}

#[test]
fn where_the_provider_connects_only_its_way_is_open() {
    let rules = ruleset(&manifest(&[
        (
            "proxy",
            r#"{"provides":{"http":{"kind":"http","port":443,"upstream":{}}}}"#,
        ),
        ("wiki", r#"{"needs":{"web":{"from":"http","port":8000}}}"#),
    ]));
    let forward = rules.split("hook forward priority 0").nth(1).unwrap();
    assert!(
        forward.contains("ip saddr 10.201.0.2 ip daddr 10.201.0.3 tcp dport 8000 accept"),
        "{forward}"
    );
    assert_eq!(forward.matches("dport").count(), 2, "{forward}");
}

#[test]
fn a_unit_in_the_appliances_own_network_has_its_published_port_open_from_outside_alone() {
    let rules = ruleset(&manifest(&[(
        "mdns",
        r#"{"network":{"mode":"host","publish":[{"port":5353,"protocol":"udp"}]}}"#,
    )]));
    let input = rules
        .split("hook input")
        .nth(1)
        .unwrap()
        .split("hook forward")
        .next()
        .unwrap();
    assert!(input.contains("iifname != \"cairn0\" udp dport 5353 accept"), "{input}");
    assert!(!rules.contains("dnat ip"), "{rules}");
    // And it has no way to the units on the bridge.
    let output = rules.split("hook output").nth(1).unwrap().split('}').next().unwrap();
    assert!(
        output.contains("oifname \"cairn0\" meta skuid >= 65536 drop"),
        "{output}"
    );
}

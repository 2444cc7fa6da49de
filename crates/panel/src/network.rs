//! What somebody typed about the network as a choice, and the rules for it. The rules are the format's own; those that people meet most have
//! sentences in every language.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cairn_api::{NetworkChoice, NetworkChoices, NetworkState};
use cairn_unit::{INTERNAL, NetAddress, SiteNetwork, Source};

use crate::http::Fields;

/// Why something cannot be: the key of a sentence with its value, or a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    Key(&'static str, String),
    Sentence(String),
}

/// The field, and why not.
pub(crate) type Wrong = (&'static str, Why);

fn words(text: &str) -> Vec<String> {
    let parts = text.split([' ', ',', ';', '\t', '\n', '\r']);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn wrong<T>(field: &'static str, key: &'static str, value: &str) -> Result<T, Wrong> {
    Err((field, Why::Key(key, value.to_owned())))
}

/// The address of a device, as it can be.
fn address(text: &str) -> Result<NetAddress, Wrong> {
    let Ok(own) = text.parse::<NetAddress>() else {
        return match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => wrong("addresses", "wrong.address-prefix", &format!("{text}/24")),
            Ok(IpAddr::V6(_)) => wrong("addresses", "wrong.address-prefix", &format!("{text}/64")),
            Err(_) => wrong("addresses", "wrong.address-form", text),
        };
    };
    if own.cannot_be(own.address).is_some() {
        return wrong("addresses", "wrong.address-host", text);
    }
    match INTERNAL.iter().find(|internal| internal.overlaps(&own)) {
        Some(internal) => wrong("addresses", "wrong.address-internal", &internal.to_string()),
        None => Ok(own),
    }
}

/// What a form says of a device. What it has no field for stays as it was `before`.
pub(crate) fn choice(form: &Fields, before: Option<&NetworkChoice>) -> Result<NetworkChoice, Wrong> {
    let mac = before.and_then(|before| before.mac.clone());
    let method = Some(form.get("method")).filter(|method| ["dhcp", "static", "off"].contains(method));
    let method = method.unwrap_or("dhcp");
    if method == "off" {
        return Ok(NetworkChoice {
            mac,
            method: Some("off".to_owned()),
            ..NetworkChoice::default()
        });
    }
    let fixed = method == "static";
    // With DHCP what stands in the fields of IPv4 is not meant.
    let meant = |address: &IpAddr| fixed || address.is_ipv6();
    let mut own = Vec::new();
    for text in words(form.get("addresses")) {
        own.push(address(&text)?);
    }
    own.retain(|own| meant(&own.address));
    if fixed && own.is_empty() {
        return wrong("addresses", "wrong.address-none", "");
    }
    let (mut gateway, mut gateway6) = (None, None);
    for text in words(form.get("gateway")) {
        let Ok(router) = text.parse::<IpAddr>() else {
            return wrong("gateway", "wrong.gateway-form", &text);
        };
        if !meant(&router) {
            continue;
        }
        let local = matches!(router, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !local && !own.iter().any(|own| own.holds(router)) {
            return wrong("gateway", "wrong.gateway-outside", &text);
        }
        let place = if router.is_ipv4() { &mut gateway } else { &mut gateway6 };
        if place.replace(router.to_string()).is_some() {
            return wrong("gateway", "wrong.gateway-many", &text);
        }
    }
    let dns = words(form.get("dns"));
    if let Some(text) = dns.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        return wrong("dns", "wrong.dns-form", text);
    }
    let mtu = match form.get("mtu").trim() {
        "" => None,
        text => match text.parse() {
            Ok(mtu) => Some(mtu),
            Err(_) => return wrong("mtu", "wrong.mtu", text),
        },
    };
    let ipv6 = Some(form.get("ipv6")).filter(|ipv6| ["static", "off"].contains(ipv6));
    Ok(NetworkChoice {
        mac,
        method: Some(method.to_owned()),
        addresses: own.iter().map(ToString::to_string).collect(),
        gateway,
        gateway6,
        ipv6: ipv6.map(str::to_owned),
        mtu,
        dns,
        search: words(form.get("search")),
    })
}

/// Name servers and domains for every device.
pub(crate) fn names(form: &Fields) -> Result<(Vec<String>, Vec<String>), Wrong> {
    let dns = words(form.get("dns"));
    match dns.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        Some(text) => wrong("dns", "wrong.dns-form", text),
        None => Ok((dns, words(form.get("search")))),
    }
}

/// Whether the choices as a whole can be.
pub(crate) fn check(choices: &NetworkChoices) -> Result<(), Wrong> {
    let all = BTreeMap::from([("network", choices)]);
    let text = toml::to_string(&all).map_err(|e| ("addresses", Why::Sentence(e.to_string())))?;
    let source = Source {
        file: "site.toml".into(),
        text,
    };
    let Err(problems) = SiteNetwork::parse(&source) else {
        return Ok(());
    };
    let Some(problem) = problems.0.into_iter().next() else {
        return Ok(());
    };
    let field = [
        ("name server", "dns"),
        ("gateway", "gateway"),
        ("packets", "mtu"),
        ("domain", "search"),
        ("IPv6", "ipv6"),
    ];
    let field = field.iter().find(|(word, _)| problem.message.contains(word));
    let sentence = match problem.help {
        Some(help) => format!("{}: {help}", problem.message),
        None => problem.message,
    };
    Err((field.map_or("addresses", |(_, field)| field), Why::Sentence(sentence)))
}

/// A choice without what is as it would be anyway; nothing, if all of it is.
pub(crate) fn meant(choice: NetworkChoice) -> Option<NetworkChoice> {
    let plain = NetworkChoice {
        method: Some("dhcp".to_owned()),
        ..NetworkChoice::default()
    };
    (choice != plain).then_some(choice)
}

/// Where the appliance is found by a fixed address, as a browser writes it.
pub(crate) fn fixed_host(choices: &NetworkChoices) -> Option<String> {
    let all = || choices.devices.values().flat_map(|device| &device.addresses);
    let parsed = || all().filter_map(|text| text.parse::<NetAddress>().ok());
    let first = parsed().find(|own| own.address.is_ipv4()).or_else(|| parsed().next());
    first.map(|own| match own.address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    })
}

/// What a device is called in the choices, and what was chosen for it.
pub(crate) fn chosen<'a>(state: &'a NetworkState, device: &str) -> (String, Option<&'a NetworkChoice>) {
    let named = state.devices.iter().find(|one| one.name == device);
    let name = named.and_then(|one| one.chosen_as.clone());
    let name = name.unwrap_or_else(|| device.to_owned());
    let choice = state.chosen.devices.get(&name);
    (name, choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Fields {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Fields(pairs.iter().map(own).collect())
    }

    #[test]
    fn what_was_typed_becomes_a_choice_of_both_families() {
        let typed = form(&[
            ("method", "static"),
            ("addresses", " 192.0.2.5/24, 2001:db8::5/64"),
            ("gateway", "192.0.2.1 fe80::1"),
            ("dns", "192.0.2.53"),
            ("mtu", "1400"),
        ]);
        let choice = choice(&typed, None).unwrap();
        assert_eq!(choice.addresses, ["192.0.2.5/24", "2001:db8::5/64"]);
        assert_eq!(choice.gateway.as_deref(), Some("192.0.2.1"));
        assert_eq!(choice.gateway6.as_deref(), Some("fe80::1"));
        let all = NetworkChoices {
            devices: [("eth0".to_owned(), choice)].into(),
            ..NetworkChoices::default()
        };
        assert_eq!(check(&all), Ok(()));
        assert_eq!(fixed_host(&all).as_deref(), Some("192.0.2.5"));
    }

    #[test]
    fn with_dhcp_what_stands_in_the_fields_of_ipv4_is_not_meant() {
        let typed = form(&[
            ("method", "dhcp"),
            ("addresses", "192.0.2.5/24"),
            ("gateway", "192.0.2.1"),
        ]);
        let dhcp = choice(&typed, None).unwrap();
        assert!(dhcp.addresses.is_empty() && dhcp.gateway.is_none());
        assert_eq!(meant(dhcp), None);
        let before = NetworkChoice {
            mac: Some("52:54:00:12:34:56".into()),
            ..NetworkChoice::default()
        };
        let off = choice(&form(&[("method", "off"), ("mtu", "x")]), Some(&before)).unwrap();
        assert_eq!((off.mac, off.method.as_deref()), (before.mac, Some("off")));
    }

    #[test]
    fn what_cannot_be_is_told_at_its_field() {
        for (addresses, gateway, dns, field, key) in [
            ("", "", "", "addresses", "wrong.address-none"),
            ("192.0.2.5", "", "", "addresses", "wrong.address-prefix"),
            ("router", "", "", "addresses", "wrong.address-form"),
            ("192.0.2.255/24", "", "", "addresses", "wrong.address-host"),
            ("10.201.1.2/24", "", "", "addresses", "wrong.address-internal"),
            ("192.0.2.5/24", "x", "", "gateway", "wrong.gateway-form"),
            ("192.0.2.5/24", "198.51.100.1", "", "gateway", "wrong.gateway-outside"),
            (
                "192.0.2.5/24",
                "192.0.2.1 192.0.2.2",
                "",
                "gateway",
                "wrong.gateway-many",
            ),
            ("192.0.2.5/24", "", "ns.example.org", "dns", "wrong.dns-form"),
        ] {
            let typed = form(&[
                ("method", "static"),
                ("addresses", addresses),
                ("gateway", gateway),
                ("dns", dns),
            ]);
            let (at, why) = choice(&typed, None).unwrap_err();
            assert_eq!(at, field, "{addresses} {gateway} {dns}");
            assert!(matches!(why, Why::Key(own, _) if own == key), "{why:?}");
        }
        let twice = |text: &str| NetworkChoice {
            method: Some("static".into()),
            addresses: vec![text.into()],
            ..NetworkChoice::default()
        };
        let all = NetworkChoices {
            devices: [
                ("eth0".to_owned(), twice("192.0.2.5/24")),
                ("eth1".to_owned(), twice("192.0.2.5/24")),
            ]
            .into(),
            ..NetworkChoices::default()
        };
        assert!(matches!(check(&all), Err(("addresses", Why::Sentence(why))) if why.contains("same address")));
    }
}

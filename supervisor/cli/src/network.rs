//! `cairn network`: the outside network as it is, and the confirmation of a change.

use std::fmt::Write as _;

use cairn_api::{NetworkDevice, NetworkState, Reloaded};
use clap::Subcommand;

use crate::table::{Paint, span};
use crate::{Cli, Outcome, ask, put, shown, table};

/// What can be done with the network.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show it; this is what the command does by itself.
    Show,
    /// Keep a change of the network.
    Confirm,
    /// Let the network of before come back now.
    Undo,
}

/// Does it.
pub(crate) fn run(cli: &Cli, command: Option<&Command>, paint: Paint) -> Outcome<()> {
    match command {
        None | Some(Command::Show) => {
            let answer = ask(cli, "GET", "/v1/network")?;
            shown::<NetworkState>(cli, answer, |state| text(state, paint)).map(drop)
        }
        Some(Command::Confirm) => {
            ask(cli, "POST", "/v1/network/confirm")?;
            put("The network stays as it is now.\n");
            Ok(())
        }
        Some(Command::Undo) => {
            let answer = ask(cli, "POST", "/v1/network/undo")?;
            shown::<Reloaded>(cli, answer, table::reloaded).map(drop)
        }
    }
}

fn device(out: &mut String, one: &NetworkDevice, paint: Paint) {
    let link = match one.link.as_str() {
        "up" => "connected",
        "no-carrier" => "nobody at the other end",
        _ => "off",
    };
    let named = match &one.chosen_as {
        Some(name) if *name != one.name => format!(" ({name})"),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{}{named}  {link}  {}  {}  packets of {} bytes",
        paint.bold(&one.name),
        one.method,
        one.mac,
        one.mtu
    );
    for address in &one.addresses {
        let _ = writeln!(out, "  {}  {}", address.address, address.from);
    }
    for route in &one.routes {
        let by = route.gateway.as_ref().map_or(String::new(), |by| format!(" by {by}"));
        let _ = writeln!(out, "  to {}{by}", route.to);
    }
    if let Some(lease) = &one.lease {
        let left = lease.left_s.map_or(String::new(), |left| {
            format!(", for {} more", span(left.saturating_mul(1000)))
        });
        let _ = writeln!(out, "  {} leased from {}{left}", lease.address, lease.server);
    }
}

/// The network as people read it.
fn text(state: &NetworkState, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(pending) = &state.pending {
        let _ = writeln!(
            out,
            "{} changed the network. In {} that of before comes back, unless `cairn network confirm` keeps this one.\n",
            pending.who,
            span(pending.left_s.saturating_mul(1000))
        );
    }
    for one in &state.devices {
        device(&mut out, one, paint);
    }
    if state.devices.is_empty() {
        out.push_str("There is no network device.\n");
    }
    for name in &state.absent {
        let _ = writeln!(out, "{name}  is not there; it is set up when it comes");
    }
    for (what, all) in [("name servers", &state.dns), ("search", &state.search)] {
        if !all.is_empty() {
            let _ = writeln!(out, "{what}  {}", all.join(" "));
        }
    }
    let open = state
        .open
        .iter()
        .map(|one| format!("{}/{} ({})", one.port, one.protocol, one.unit));
    let open = open.collect::<Vec<_>>().join(" ");
    let _ = match state.firewall {
        true if open.is_empty() => writeln!(out, "firewall  nothing is open"),
        true => writeln!(out, "firewall  open: {open}"),
        false => writeln!(out, "firewall  is not up: nothing is reachable from outside"),
    };
    for problem in &state.problems {
        let _ = writeln!(out, "{problem}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_told_with_what_waits_first_and_what_is_missing() {
        let state: NetworkState = serde_json::from_value(serde_json::json!({
            "devices": [{
                "name": "eth0", "mac": "52:54:00:12:34:56", "link": "up", "mtu": 1500, "chosen_as": "uplink", "method": "dhcp",
                "addresses": [{"address": "10.0.2.15/24", "from": "dhcp"}], "routes": [{"to": "default", "gateway": "10.0.2.2"}],
                "lease": {"address": "10.0.2.15", "server": "10.0.2.2", "seconds": 86400, "left_s": 43000},
            }],
            "absent": ["eth9"], "dns": ["10.0.2.3"], "search": [], "problems": ["eth0: no"], "firewall": true,
            "open": [{"unit": "caddy", "port": 443, "protocol": "tcp"}], "chosen": {},
            "pending": {"who": "ada (panel)", "left_s": 100, "before": {}},
        }))
        .unwrap();
        assert_eq!(
            text(&state, Paint(false)),
            "ada (panel) changed the network. In 100 s that of before comes back, unless `cairn network confirm` keeps this one.\n\n\
             eth0 (uplink)  connected  dhcp  52:54:00:12:34:56  packets of 1500 bytes\n  10.0.2.15/24  dhcp\n  to default by 10.0.2.2\n  \
             10.0.2.15 leased from 10.0.2.2, for 11 h more\neth9  is not there; it is set up when it comes\nname servers  10.0.2.3\n\
             firewall  open: 443/tcp (caddy)\neth0: no\n"
        );
    }
}

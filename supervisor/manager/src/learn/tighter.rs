//! What the unit grants and its service did not use.

use cairn_api::{Advice, Direction};
use cairn_sandbox::learn::{Trace, in_profile};
use cairn_unit::{Listen, NetworkMode};

use super::advise::{Subject, Where, addresses, advice, bound, quoted, word};

/// Capabilities whose every use is a call that is told.
const JUDGED: [&str; 6] = ["chown", "mknod", "net-raw", "setgid", "setuid", "sys-chroot"];

pub(super) fn advise(subject: &Subject<'_>, trace: &Trace) -> Vec<Advice> {
    let mut all = Vec::new();
    grants(subject, trace, &mut all);
    folders(subject, trace, &mut all);
    bindings(subject, trace, &mut all);
    if !subject.handed {
        listening(subject, trace, &mut all);
    }
    network(subject, trace, &mut all);
    all
}

fn tighter(key: impl Into<String>, value: impl Into<String>, why: impl Into<String>) -> Advice {
    advice(Direction::Tighter, key, value, why, None)
}

fn grants(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let grants = &subject.unit.unit.sandbox;
    let low_ports = subject.plan.sysctls.get("net.ipv4.ip_unprivileged_port_start");
    for name in &grants.capabilities {
        let key = "sandbox.capabilities";
        if name == "net-bind-service" && low_ports.is_some_and(|first| first == "1") {
            let why = "is never needed: in a unit's own network every port can be bound without it";
            all.push(tighter(key, quoted(name), why));
        } else if JUDGED.contains(&name.as_str()) && !trace.capabilities.contains_key(name) {
            all.push(tighter(key, quoted(name), "nothing was done that needs it"));
        }
    }
    for name in &grants.system_calls {
        let key = "sandbox.system_calls";
        if in_profile(name) {
            all.push(tighter(key, quoted(name), "is among the calls that every unit has"));
        } else if !trace.calls.contains_key(name) {
            all.push(tighter(key, quoted(name), "was not called"));
        }
    }
    if grants.writable_code && trace.writable_code.is_none() {
        let why = "no memory was made both writable and executable";
        all.push(tighter("sandbox.writable_code", "false", why));
    }
    if grants.new_privileges && !trace.programs.values().any(|program| program.set_id) {
        let why = "no set-user-id program was run (file capabilities are not seen)";
        all.push(tighter("sandbox.new_privileges", "false", why));
    }
}

fn folders(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let unit = &subject.unit.unit;
    let folders = [("state", &unit.state), ("runtime", &unit.runtime)];
    for (table, path) in folders
        .iter()
        .flat_map(|(table, folders)| folders.keys().map(move |path| (table, path)))
    {
        // One folder may lie in another: what is written there is not written here.
        let inner: Vec<&str> = folders
            .iter()
            .flat_map(|(_, folders)| folders.keys())
            .map(|other| other.as_str())
            .filter(|other| *other != path.as_str() && std::path::Path::new(other).starts_with(path.as_str()))
            .collect();
        let here = |written: &&String| {
            let written = std::path::Path::new(written);
            written.starts_with(path.as_str()) && !inner.iter().any(|inner| written.starts_with(inner))
        };
        // Others may write to it, or Cairn listens in it.
        let shared = unit
            .provides
            .values()
            .any(|provide| provide.folder.as_ref() == Some(path))
            || unit.sockets.values().any(|socket| match &socket.listen {
                Listen::Unix(socket) => std::path::Path::new(socket.as_str()).starts_with(path.as_str()),
                _ => false,
            });
        if !shared && !trace.written.keys().any(|written| here(&written)) {
            let setup = if *table == "state" && !unit.setup.is_empty() {
                " (the setup steps were not watched)"
            } else {
                ""
            };
            let why = format!("nothing was written there{setup}");
            all.push(tighter(format!("{table}.{}", quoted(path.as_str())), "", why));
        }
    }
}

fn bindings(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    for (own, need) in &subject.unit.unit.needs {
        let Some((name, provide)) = subject.provider(need.from.as_str()) else {
            continue;
        };
        // It is the other one that connects.
        if provide.upstream.is_some() {
            continue;
        }
        let by_port = provide.port.is_some_and(|port| {
            let at = |ip| matches!(subject.place(&ip), Where::Unit(other, _) if other == name);
            addresses(&trace.connected).any(|(_, to, _)| to.port() == port && at(to.ip()))
        });
        let by_socket = provide.socket.as_ref().is_some_and(|socket| {
            let mut paths = Trace::paths(&trace.connected);
            paths.any(|(path, _)| path == socket.as_str())
        });
        let by_file = provide.folder.as_ref().is_some_and(|folder| {
            let mut files = trace.read.keys().chain(trace.written.keys());
            files.any(|file| std::path::Path::new(file).starts_with(folder.as_str()))
        });
        // A provide without a place is an order, or a secret.
        let placed = provide.port.is_some() || provide.socket.is_some() || provide.folder.is_some();
        if placed && !by_port && !by_socket && !by_file {
            let kind = provide.kind.as_str();
            let why = format!("the {kind} of {name} was not used; if it only has to start later, `after` says so");
            all.push(tighter(format!("needs.{own}"), "", why));
        }
    }
}

fn listening(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let bound = bound(trace);
    for (protocol, port, key) in subject.open_ports() {
        if bound.contains(&(protocol, port)) {
            continue;
        }
        let value = if key == "network.publish" {
            port.to_string()
        } else {
            String::new()
        };
        all.push(tighter(
            key,
            value,
            format!("{} port {port} was not listened on", word(protocol)),
        ));
    }
    for (name, provide) in &subject.unit.unit.provides {
        let Some(socket) = provide.socket.as_ref() else {
            continue;
        };
        if !Trace::paths(&trace.bound).any(|(path, _)| path == socket.as_str()) {
            let key = format!("provides.{name}");
            // Said once, for its port.
            if !all.iter().any(|advice| advice.key == key) {
                all.push(tighter(key, "", format!("{socket} was not listened on")));
            }
        }
    }
}

fn network(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let network = &subject.unit.unit.network;
    let places = || addresses(&trace.connected).map(|(_, at, _)| subject.place(&at.ip()));
    let outside = places().any(|place| place == Where::Outside);
    if network.outbound && !outside {
        let why = "no connection to the outside was opened";
        all.push(tighter("network.outbound", "false", why));
    }
    let by_port = |need: &cairn_unit::Need| {
        let provider = subject.provider(need.from.as_str());
        need.port.is_some() || provider.is_some_and(|(_, provide)| provide.port.is_some())
    };
    let declared = !subject.open_ports().is_empty() || subject.unit.unit.needs.values().any(by_port);
    let used = !bound(trace).is_empty() || places().any(|place| place != Where::Self_);
    if network.mode == NetworkMode::Bridge && !declared && !used && !subject.handed {
        let why = "nothing but loopback was used";
        all.push(tighter("network.mode", quoted("none"), why));
    }
}

//! Rules about what a unit does: readiness, health, triggers, restarts, network, limits, exceptions of the sandbox.

use std::collections::BTreeSet;

use crate::bounds::{Limits, LogLimits, NetworkMode};
use crate::checks::Refuse;
use crate::service::{Check, Kind, ReadyWhen, Reload, Restart};
use crate::trigger::Listen;
use crate::unit::{AccountSpec, Provide, Unit};
use crate::values::{Name, Path, Seconds, Signal};

const PORTS: &str = "ports are 1 to 65535";
/// So many sockets are handed to a unit at most; what it stores itself comes beside them.
const SOCKETS: usize = 8;

/// What is wrong with a unit's behaviour.
pub(crate) fn unit(unit: &Unit, refuse: &mut Refuse<'_>) {
    service(unit, refuse);
    readiness(unit, refuse);
    triggers(unit, refuse);
    sockets(unit, refuse);
    network(unit, refuse);
    limits(&unit.limits, refuse);
    log(&unit.log, refuse);
    sandbox(unit, refuse);
}

fn service(unit: &Unit, refuse: &mut Refuse<'_>) {
    let service = &unit.service;
    if service.restart_jitter > 50 {
        let help = "a percentage, 0 to 50; 10 is the default";
        refuse(&["service", "restart_jitter"], "that is too much jitter".into(), help);
    }
    if service.restart_delay > service.restart_delay_max {
        let help = "the delay grows up to `restart_delay_max`: make it the larger";
        refuse(
            &["service", "restart_delay"],
            "restart_delay is above restart_delay_max".into(),
            help,
        );
    }
    if service.start_limit == Some(0) {
        let help = "leave it out for no limit, or write `restart = \"never\"`";
        refuse(&["service", "start_limit"], "a limit of 0 starts nothing".into(), help);
    }
    if service.start_limit.is_some() && service.restart == Restart::Never {
        let message = "a unit that is never restarted has no start limit".into();
        refuse(&["service", "start_limit"], message, "leave out one of the two");
    }
    if let Some(watchdog) = service.watchdog {
        if watchdog < Seconds::from_millis(1000) {
            let help = "a second at least: the service must answer in half of it";
            refuse(&["service", "watchdog"], "that is too short".into(), help);
        }
        if service.kind == Kind::Oneshot {
            let help = "the time that a oneshot may take is [ready] timeout's default";
            refuse(&["service", "watchdog"], "a oneshot has no watchdog".into(), help);
        }
    }
    match (&service.reload, service.kind) {
        (Some(_), Kind::Oneshot) => refuse(
            &["service", "reload"],
            "a oneshot does not stay, so it cannot reload".into(),
            "leave out `reload`",
        ),
        (Some(Reload::Signal(Signal::Kill)), _) => refuse(
            &["service", "reload", "signal"],
            "KILL ends the service".into(),
            "HUP is what most services reload at",
        ),
        _ => {}
    }
    if service.kind == Kind::Oneshot && service.restart == Restart::Always {
        let help = "a oneshot that is to run again has a [timer]";
        refuse(&["service", "restart"], "a oneshot ends when it is done".into(), help);
    }
}

fn readiness(unit: &Unit, refuse: &mut Refuse<'_>) {
    let oneshot = unit.service.kind == Kind::Oneshot;
    let offline = unit.network.mode != NetworkMode::Bridge;
    if oneshot && unit.ready.is_some() {
        refuse(
            &["ready"],
            "a oneshot is ready when it exits with 0".into(),
            "leave out [ready]",
        );
    }
    match unit.ready.as_ref().map(|ready| &ready.when) {
        Some(ReadyWhen::Port(0)) => refuse(&["ready", "when", "port"], "port 0 is no port".into(), PORTS),
        Some(ReadyWhen::Port(_)) if offline => refuse(
            &["ready", "when", "port"],
            "Cairn reaches no port of a unit without a network of its own".into(),
            "wait for `notify`, a file, a line of the log or a command",
        ),
        Some(ReadyWhen::Log(text)) if text.is_empty() || text.contains('\n') => refuse(
            &["ready", "when", "log"],
            "that is in every line, or in none".into(),
            "write a part of one line",
        ),
        _ => {}
    }
    let Some(health) = &unit.health else { return };
    if oneshot {
        let help = "leave out [health]";
        refuse(&["health"], "a oneshot does not stay, so it has no health".into(), help);
    }
    if health.failures == 0 {
        refuse(
            &["health", "failures"],
            "at least one check must fail".into(),
            "3 is the default",
        );
    }
    let (key, port) = match &health.check {
        Check::Tcp(port) => ("tcp", Some(*port)),
        Check::Http(http) => ("http", Some(http.port)),
        Check::Exec(_) => ("exec", None),
    };
    if port == Some(0) {
        refuse(&["health", "check", key], "port 0 is no port".into(), PORTS);
    } else if port.is_some() && offline {
        let message = "Cairn reaches no port of a unit without a network of its own".into();
        refuse(&["health", "check", key], message, "check it with `exec`");
    }
    if let Check::Http(http) = &health.check {
        let fine = http.path.starts_with('/') && http.path.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            let help = "it starts with `/` and has no blanks: write what a browser would send";
            let message = format!("`{}` is not a path of HTTP", http.path);
            refuse(&["health", "check", "http", "path"], message, help);
        }
        if http.status.is_some_and(|status| !(100..=599).contains(&status)) {
            refuse(
                &["health", "check", "http", "status"],
                "that is no status of HTTP".into(),
                "100 to 599; leave it out for any from 200 to 399",
            );
        }
    }
}

fn triggers(unit: &Unit, refuse: &mut Refuse<'_>) {
    if let Some(timer) = &unit.timer {
        if timer.calendar.is_empty() && timer.interval.is_none() && timer.after_boot.is_none() {
            let help = "add `calendar`, `interval` or `after_boot`";
            refuse(&["timer"], "the timer has no time".into(), help);
        }
        if timer
            .interval
            .is_some_and(|interval| interval < Seconds::from_millis(1000))
        {
            let help = "a second at least";
            refuse(&["timer", "interval"], "that is too often".into(), help);
        }
        if timer.persistent && timer.calendar.is_empty() {
            let help = "only a time of the calendar can have been missed";
            refuse(&["timer", "persistent"], "there is nothing to make up for".into(), help);
        }
    }
}

fn sockets(unit: &Unit, refuse: &mut Refuse<'_>) {
    if unit.sockets.len() > SOCKETS {
        let message = format!("a unit has at most {SOCKETS} sockets");
        refuse(&["sockets"], message, "one socket takes any number of connections");
    }
    let offline = unit.network.mode != NetworkMode::Bridge;
    let mut seen: Vec<&Listen> = Vec::new();
    for (name, socket) in &unit.sockets {
        let at = |key| ["sockets", name.as_str(), "listen", key];
        match &socket.listen {
            Listen::Tcp(0) => refuse(&at("tcp"), "port 0 is no port".into(), PORTS),
            Listen::Udp(0) => refuse(&at("udp"), "port 0 is no port".into(), PORTS),
            Listen::Tcp(_) | Listen::Udp(_) if offline => refuse(
                &["sockets", name.as_str(), "listen"],
                "Cairn reaches no port of a unit without a network of its own".into(),
                "listen on a Unix socket, or leave out `network.mode`",
            ),
            Listen::Unix(path) if !in_a_folder_of(path, unit.runtime.keys()) => refuse(
                &at("unix"),
                format!("`{path}` is in no folder of [runtime]"),
                "name its folder in [runtime]: it is shown to the unit and to those that need the socket",
            ),
            _ => {}
        }
        if seen.contains(&&socket.listen) {
            let message = "another socket listens there".to_owned();
            refuse(
                &["sockets", name.as_str(), "listen"],
                message,
                "listen on each place once",
            );
        }
        seen.push(&socket.listen);
        if socket.backlog == 0 {
            let help = "1024 is the default";
            refuse(&["sockets", name.as_str(), "backlog"], "nobody could wait".into(), help);
        }
    }
    let listens = |place: &Listen| seen.contains(&place);
    let (key, listened) = match unit.ready.as_ref().map(|ready| &ready.when) {
        Some(ReadyWhen::Port(port)) => ("port", listens(&Listen::Tcp(*port))),
        Some(ReadyWhen::File(path)) => ("file", listens(&Listen::Unix(path.clone()))),
        _ => ("", false),
    };
    if listened {
        let help = "wait for `notify`, or leave out [ready]: connections wait in the socket anyway";
        let message = "that is there before the unit is: Cairn itself listens on it".to_owned();
        refuse(&["ready", "when", key], message, help);
    }
    // The network of such a unit stands before its sandbox and belongs to the host.
    let has_ports = seen.iter().any(|listen| !matches!(listen, Listen::Unix(_)));
    for capability in unit.sandbox.capabilities.iter().filter(|_| has_ports) {
        if matches!(capability.as_str(), "net-admin" | "net-raw") {
            let message = format!("`{capability}` has no hold on a network that is made before the unit");
            let help = "open the port in the service itself, or do without the capability";
            refuse(&["sandbox", "capabilities"], message, help);
        }
    }
}

/// A secret that the unit shares with those that need it.
fn shared_secret(unit: &Unit, name: &Name, provide: &Provide, refuse: &mut Refuse<'_>) {
    let Some(secret) = &provide.secret else { return };
    let at = ["provides", name.as_str(), "secret"];
    if unit.secrets.contains_key(name) {
        let message = format!("`{name}` is a secret of this unit alone, too");
        refuse(&at, message, "both are files of that name: rename one of them");
    }
    if provide.account.is_some() || provide.upstream.is_some() {
        let message = format!("`{name}` has a secret for all that need it, so it has no `account` and no `upstream`");
        refuse(&at, message, "provide the secret under a name of its own");
    }
    if secret.characters() < 16 {
        let at = [&at[..], &["length"]].concat();
        refuse(&at, "a secret has at least 16 characters".into(), "32 is the default");
    }
}

/// Whether the path lies directly in one of the folders.
fn in_a_folder_of<'a>(path: &Path, mut folders: impl Iterator<Item = &'a Path>) -> bool {
    folders.any(|folder| std::path::Path::new(path.as_str()).parent() == Some(folder.as_ref()))
}

fn network(unit: &Unit, refuse: &mut Refuse<'_>) {
    for (name, provide) in &unit.provides {
        let names_place = provide.port.is_some() || provide.socket.is_some() || provide.folder.is_some();
        if !names_place && provide.secret.is_none() {
            refuse(
                &["provides", name.as_str()],
                format!("`{name}` names no port, socket, folder or secret"),
                "add `port = ...`, `socket = \"/run/...\"`, `folder = \"/var/lib/...\"` or `secret = {}`",
            );
        }
        shared_secret(unit, name, provide, refuse);
        match &provide.folder {
            Some(folder) if !unit.state.contains_key(folder) => refuse(
                &["provides", name.as_str(), "folder"],
                format!("`{folder}` is no folder of [state]"),
                "only a folder of [state] can be shown to other units",
            ),
            None if provide.writable => refuse(
                &["provides", name.as_str(), "writable"],
                "there is no folder to write to".into(),
                "add `folder`, or leave out `writable`",
            ),
            _ => {}
        }
        if let Some(account) = &provide.account {
            for key in account.tells.keys() {
                let fine = key
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                let path = ["provides", name.as_str(), "account", "tells", key];
                if AccountSpec::RESERVED.contains(&key.as_str()) {
                    let message = format!("`{key}` is what every bound unit sees anyway");
                    refuse(&path, message, "give it another name");
                } else if !fine || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
                    let message = format!("`{key}` is no name that a template can use");
                    refuse(
                        &path,
                        message,
                        "lower case letters, digits and `_`, starting with a letter",
                    );
                }
            }
        }
        if provide.port == Some(0) {
            refuse(&["provides", name.as_str(), "port"], "port 0 is no port".into(), PORTS);
        }
    }
    if unit.network.mode == NetworkMode::None && (!unit.network.publish.is_empty() || unit.network.outbound) {
        refuse(
            &["network", "mode"],
            "a unit without a network can neither publish a port nor go out".into(),
            "leave out `mode = \"none\"`, or `publish` and `outbound`",
        );
    }
    if unit.network.mode == NetworkMode::Host {
        let bound = unit.provides.values().any(|provide| provide.port.is_some());
        let to = unit.network.publish.iter().any(|publish| publish.to.is_some());
        if bound || to || unit.network.outbound {
            refuse(
                &["network", "mode"],
                "a unit in the appliance's own network is not on the bridge".into(),
                "leave out `to`, `outbound` and the `port` of `provides`, or `mode = \"host\"`",
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (i, publish) in unit.network.publish.iter().enumerate() {
        let number = i.to_string();
        if publish.port == 0 || publish.to == Some(0) {
            let key = if publish.port == 0 { "port" } else { "to" };
            refuse(&["network", "publish", &number, key], "port 0 is no port".into(), PORTS);
        }
        if !seen.insert((publish.protocol, publish.port)) {
            let message = format!("port {} is published twice", publish.port);
            refuse(
                &["network", "publish", &number, "port"],
                message,
                "publish each port once",
            );
        }
    }
}

/// What is wrong with limits; `refuse` is told paths that begin with `limits`.
pub(crate) fn limits(limits: &Limits, refuse: &mut Refuse<'_>) {
    for (key, weight) in [("cpu_weight", limits.cpu_weight), ("io_weight", limits.io_weight)] {
        if weight == 0 || weight > 10_000 {
            refuse(&["limits", key], "a weight is 1 to 10000".into(), "100 is the default");
        }
    }
    let least = [
        ("memory_max", limits.memory_max.0),
        ("processes", u64::from(limits.processes)),
        ("open_files", limits.open_files),
        ("cpu_quota", limits.cpu_quota.map_or(1, u64::from)),
        ("io_read_max", limits.io_read_max.map_or(1, |b| b.0)),
        ("io_write_max", limits.io_write_max.map_or(1, |b| b.0)),
        ("disk_max", limits.disk_max.map_or(1, |b| b.0)),
    ];
    for (key, value) in least {
        if value == 0 {
            refuse(
                &["limits", key],
                "a limit of 0 lets nothing run".into(),
                "leave it out for the default",
            );
        }
    }
    if limits.memory_max.0 > 0 && limits.memory_high.is_some_and(|high| high > limits.memory_max) {
        let help = "reclaim must begin before the unit is killed: make it smaller";
        refuse(
            &["limits", "memory_high"],
            "memory_high is above memory_max".into(),
            help,
        );
    }
}

fn log(log: &LogLimits, refuse: &mut Refuse<'_>) {
    if log.size_max.0 < 1 << 20 {
        refuse(
            &["log", "size_max"],
            "a log has at least 1M".into(),
            "64M is the default",
        );
    }
    if log.rate == 0 || log.burst < log.rate {
        let help = "at least one line a second, and a burst of at least one second";
        refuse(&["log"], "the rate and the burst do not fit".into(), help);
    }
}

fn sandbox(unit: &Unit, refuse: &mut Refuse<'_>) {
    let grants = &unit.sandbox;
    let granted = !grants.capabilities.is_empty()
        || !grants.system_calls.is_empty()
        || grants.writable_code
        || grants.clock
        || grants.control.is_some()
        || grants.new_privileges;
    let granted = granted || unit.network.mode == NetworkMode::Host;
    if granted && grants.reason.as_deref().is_none_or(|r| r.trim().is_empty()) {
        refuse(
            &["sandbox"],
            "the sandbox is widened without a reason".into(),
            "add `reason = \"...\"` to [sandbox]",
        );
    }
}

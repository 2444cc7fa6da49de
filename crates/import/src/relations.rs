//! `[Unit]` and `[Install]`: what it is, and what it has to do with other units (systemd.unit(5)).

use crate::Level;
use crate::job::{Job, Part};
use crate::name::other_unit;

/// Targets of systemd's own boot and shutdown. A unit of Cairn starts when all of that is there, and stops before it goes.
const BOOT: [&str; 32] = [
    "basic",
    "boot-complete",
    "default",
    "final",
    "first-boot-complete",
    "getty-pre",
    "graphical",
    "initrd",
    "local-fs",
    "local-fs-pre",
    "multi-user",
    "network",
    "network-online",
    "network-pre",
    "nss-lookup",
    "nss-user-lookup",
    "paths",
    "poweroff",
    "reboot",
    "halt",
    "remote-fs",
    "remote-fs-pre",
    "shutdown",
    "slices",
    "sockets",
    "swap",
    "sysinit",
    "syslog",
    "time-set",
    "time-sync",
    "timers",
    "umount",
];
/// systemd's own services and Debian's first ones, which Cairn has no need of.
const SYSTEM: [&str; 10] = [
    "systemd-",
    "initrd-",
    "dbus",
    "dbus-broker",
    "rsyslog",
    "syslog",
    "udev",
    "networking",
    "NetworkManager",
    "network",
];

pub(crate) fn read(job: &mut Job) {
    description(job);
    for key in [
        "After",
        "Before",
        "Requires",
        "Requisite",
        "BindsTo",
        "Wants",
        "Upholds",
        "PartOf",
        "Conflicts",
    ] {
        for (id, value) in job.list(key) {
            for word in value.split_whitespace() {
                let other = job.expand(id, word);
                relation(job, id, key, &other);
            }
        }
    }
    for (id, value) in job.list("RequiresMountsFor") {
        let of = |path: &str| {
            job.draft
                .state
                .keys()
                .chain(job.draft.runtime.keys())
                .any(|folder| path == folder || path.starts_with(&format!("{folder}/")))
        };
        let paths: Vec<String> = value
            .split_whitespace()
            .map(str::to_owned)
            .filter(|path| !of(path))
            .collect();
        match paths.is_empty() {
            true => job.covered(id),
            false => job.hint(
                id,
                &format!(
                    "{} is there at the start only if it is in the unit's root, [state] or [runtime]",
                    paths.join(", ")
                ),
            ),
        }
    }
    for (id, value) in job.list("OnFailure") {
        job.decide(
            id,
            &format!(
                "`{value}` is not started: a command of this unit that tells somebody can stand in `failure.alert`"
            ),
        );
    }
    install(job);
}

fn description(job: &mut Job) {
    let unit = job.name.unit();
    let description = match job.last("Description") {
        Some((id, value)) => {
            job.carried(id);
            // What an instance is called is shown here and nowhere used, so that its escapes do not matter.
            crate::specifiers::expand(&value, &job.name).text
        }
        None => String::new(),
    };
    job.draft.description = match description.trim() {
        "" => format!("The service {}", unit.trim_end_matches('@')),
        _ => description,
    };
    for (id, value) in job.list("Documentation") {
        job.draft
            .documentation
            .push(crate::specifiers::expand(&value, &job.name).text);
        job.carried(id);
    }
}

/// One name of a list like `After=`.
fn relation(job: &mut Job, id: usize, key: &str, other: &str) {
    let (stem, kind) = other.rsplit_once('.').unwrap_or((other, ""));
    let own = stem == job.name.stem;
    match kind {
        "target" if BOOT.contains(&stem) || stem.starts_with("initrd-") => job.covered(id),
        "target" => job.hint(id, &format!("there are no targets: name the units that `{other}` stands for in `after`, or in `needs` what they provide")),
        "socket" if own && job.socket => job.covered(id), // its own lines tell
        "timer" if own && job.timer => job.covered(id),
        "path" if own && job.path => job.covered(id),
        "socket" if key == "After" || key == "Before" => job.covered(id),
        "service" if system(stem) => system_service(job, id, key, other, stem),
        "service" if own => job.covered(id),
        "service" => service(job, id, key, stem),
        "mount" | "automount" | "swap" | "slice" | "scope" if key != "Conflicts" => {
            job.hint(id, &format!("`{other}`: file systems and slices are Cairn's; a unit's folders are there before it starts"));
        }
        "device" => job.decide(id, &format!("`{other}`: a unit has no devices of the machine")),
        _ => job.decide(id, &format!("`{other}` has no counterpart and is left out")),
    }
}

fn system(stem: &str) -> bool {
    SYSTEM
        .iter()
        .any(|name| stem == *name || name.ends_with('-') && stem.starts_with(name))
}

fn system_service(job: &mut Job, id: usize, key: &str, other: &str, stem: &str) {
    let bus = stem.starts_with("dbus") && !["After", "Before"].contains(&key);
    match bus {
        true => job.decide(id, &format!("`{other}`: a unit has no message bus")),
        false if key == "Conflicts" || ["After", "Before", "Wants", "PartOf"].contains(&key) => job.covered(id),
        false => job.hint(
            id,
            &format!("`{other}` is systemd's own, and Cairn does its part where there is one"),
        ),
    }
}

fn service(job: &mut Job, id: usize, key: &str, stem: &str) {
    let unit = other_unit(stem);
    let name = unit.clone().unwrap_or_else(|| stem.to_owned());
    match key {
        "After" => match unit {
            Some(unit) => {
                if !job.draft.after.contains(&unit) {
                    job.draft.after.push(unit);
                }
                job.carried(id);
            }
            None => job.hint(id, &format!("`{stem}` is no name that a unit can have: name the unit that it is here in `after`")),
        },
        "Before" => job.hint(id, &format!("if `{name}` is a unit of the appliance, write this one into its `after`")),
        "Wants" | "Upholds" => job.hint(id, &format!("no unit starts another: put `{name}` into the recipe, and bind to what it provides with `needs`")),
        "PartOf" => job.hint(id, &format!("a unit is not stopped with another one; if this one talks to `{name}`, bind to what it provides with `needs`")),
        "Conflicts" => job.decide(id, &format!("nothing keeps the two apart: put only one of this unit and `{name}` into a recipe")),
        _ => job.decide(id, &format!("if this service talks to `{name}`, bind to what that unit provides: `needs = {{ NAME = \"PROVIDE\" }}`; it gives the order, the way through the network and the host name")),
    }
}

fn install(job: &mut Job) {
    for (id, value) in job.list("WantedBy").into_iter().chain(job.list("RequiredBy")) {
        let started = [
            "multi-user.target",
            "default.target",
            "graphical.target",
            "basic.target",
            "network-online.target",
        ];
        for word in value.split_whitespace() {
            match started.contains(&word) || trigger(job, word) {
                true => job.covered(id),
                false => job.hint(
                    id,
                    &format!("a unit starts with the appliance, or or by its [timer], and not with `{word}`"),
                ),
            }
        }
    }
    for (id, value) in job.list("Alias") {
        job.hint(
            id,
            &format!(
                "a unit has one name: where `{value}` is asked for, write `{}`",
                job.name.unit()
            ),
        );
    }
    for (id, value) in job.list("Also") {
        for word in value.split_whitespace() {
            match trigger(job, word) {
                true => job.covered(id),
                false => job.hint(
                    id,
                    &format!("import `{word}` too if it is needed, and put it into the recipe"),
                ),
            }
        }
    }
    if let Some((id, value)) = job.last("DefaultInstance") {
        job.hint(
            id,
            &format!("name the instances in the recipe: `{}{value}`", job.name.unit()),
        );
    }
    if !job.timer
        && !job.socket
        && job.every(Part::Service, "WantedBy").is_empty()
        && job.every(Part::Service, "RequiredBy").is_empty()
    {
        job.missing(
            Level::Hint,
            "nothing in the file says that the service starts at boot; a unit of a recipe does",
        );
    }
}

/// Whether the name is that of the timer, socket or path that is imported with it.
fn trigger(job: &Job, word: &str) -> bool {
    let (stem, kind) = word.rsplit_once('.').unwrap_or((word, ""));
    let own = stem == job.name.stem;
    own && (kind == "timer" && job.timer || kind == "socket" && job.socket || kind == "path" && job.path)
}

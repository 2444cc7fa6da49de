//! Rules that one unit or recipe can break although every value has its form: what passwd, exec, Debian or the kernel
//! would refuse later, on the appliance, is refused here.

use crate::bounds::NetworkMode;
use crate::need::Upstream;
use crate::policy::LEAST_BANDWIDTH;
use crate::recipe::Recipe;
use crate::unit::{SecretKind, Unit};
use crate::values::{Bytes, Name, Path};

/// Receives a finding: the path of keys, what is wrong, and what to do.
pub(crate) type Refuse<'a> = dyn FnMut(&[&str], String, &str) + 'a;

/// What is wrong with a unit beyond its parts' form.
pub(crate) fn unit(unit: &Unit, refuse: &mut Refuse<'_>) {
    if unit.description.trim().is_empty() {
        let help = "say in one line what the service is";
        refuse(&["description"], "the description is empty".into(), help);
    }
    if unit.description.contains(['\n', '\r']) {
        let help = "say it in one line";
        refuse(&["description"], "the description has more than one line".into(), help);
    }
    packages(&unit.packages, &["packages"], refuse);
    programs(&unit.programs, refuse);
    texts(unit, refuse);
    accounts(unit, refuse);
    folders(unit, refuse);
    secrets(unit, refuse);
    names(unit, refuse);
    upstreams(unit, refuse);
    crate::setting::offered(unit, refuse);
    crate::migration::unit(unit, refuse);
    crate::dump::unit(unit, refuse);
    crate::behaviour::unit(unit, refuse);
}

/// What is wrong with how much of the line upgrades may take.
pub(crate) fn bandwidth(given: Option<Bytes>, refuse: &mut Refuse<'_>) {
    if let Some(given) = given.filter(|given| *given < LEAST_BANDWIDTH) {
        let message = format!("{given} a second is too little for an image to arrive");
        refuse(
            &["upgrade", "bandwidth"],
            message,
            "at least 16K; leave it out for no limit",
        );
    }
}

/// Whether a path stays in the folder that it begins in.
fn inside(path: &str) -> bool {
    let normal = |part| matches!(part, std::path::Component::Normal(_));
    !path.is_empty() && std::path::Path::new(path).components().all(normal)
}

/// What is wrong with where later versions come from.
fn upgrade(upgrade: &crate::Upgrade, packages: &[String], refuse: &mut Refuse<'_>) {
    if let Some(url) = &upgrade.url {
        let secure = url.starts_with("https://");
        if !secure && !url.starts_with("http://") {
            let message = format!("`{url}` is not the address of a repository");
            refuse(&["upgrade", "url"], message, "https://HOST/PATH, or leave it out");
        }
        if secure && !packages.iter().any(|package| package == "ca-certificates") {
            let message = "the host root has no certificate authorities, and https:// needs them".into();
            let help = "add \"ca-certificates\" to host.packages, or use http://: releases are signed either way";
            refuse(&["upgrade", "url"], message, help);
        }
    }
    bandwidth(upgrade.bandwidth, refuse);
    if !inside(&upgrade.root) {
        let message = format!("`{}` is not a path inside the project", upgrade.root);
        refuse(&["upgrade", "root"], message, "for example `keys/root.json`");
    }
    if upgrade.deadline <= upgrade.healthy {
        let message = "a new version could never prove itself in that time".into();
        refuse(&["upgrade", "deadline"], message, "longer than `healthy`");
    }
}

/// What is wrong with a recipe beyond its parts' form.
pub(crate) fn recipe(recipe: &Recipe, refuse: &mut Refuse<'_>) {
    let kernel = recipe.host.kernel.replace("{arch}", "amd64");
    if !is_package(&kernel) {
        let message = format!("`{}` is not a package's name", recipe.host.kernel);
        refuse(&["host", "kernel"], message, "for example \"linux-image-cloud-{arch}\"");
    }
    packages(&recipe.host.packages, &["host", "packages"], refuse);
    if let Some(from) = &recipe.upgrade {
        upgrade(from, &recipe.host.packages, refuse);
    }
    let formats = &recipe.image.formats;
    for (i, format) in formats.iter().enumerate() {
        if formats[..i].contains(format) {
            let message = format!("`{}` is named twice", format.extension());
            refuse(&["image", "formats", &i.to_string()], message, "name each format once");
        }
    }
    let sizes = [
        ("esp", recipe.image.esp),
        ("slot", recipe.image.slot),
        ("data_min", recipe.image.data_min),
    ];
    for (key, size) in sizes {
        if size.0 == 0 || size.0 % (1 << 20) != 0 {
            let message = "a partition is a whole number of mebibytes".into();
            refuse(&["image", key], message, "write for example 512M or 1G");
        }
    }
    if let Some(folder) = &recipe.image.secure_boot
        && !inside(folder)
    {
        let message = format!("`{folder}` is not a path inside the project");
        refuse(&["image", "secure_boot"], message, "for example `keys/secureboot`");
    }
    if let (None, Some(when)) = (&recipe.image.secure_boot, recipe.image.secure_boot_enroll) {
        let message = format!("`{}` enrols keys, and none are named", when.word());
        refuse(
            &["image", "secure_boot_enroll"],
            message,
            "name their folder in `secure_boot`, or leave it out",
        );
    }
    if let (None, Some(how)) = (&recipe.image.secure_boot, recipe.image.data_encryption) {
        let message = format!(
            "`{}` binds the key to Secure Boot, and no keys for it are named: the TPM would give it to any system",
            how.word()
        );
        refuse(
            &["image", "data_encryption"],
            message,
            "make keys by `imagegen keys secureboot` and name their folder in `secure_boot`",
        );
    }
    if recipe.image.source_date_epoch == Some(0) {
        let help = "leave it out: the newest time of the locked indexes is taken";
        refuse(&["image", "source_date_epoch"], "time 0 is never used".into(), help);
    }
}

/// Debian Policy 5.6.1: at least two characters, lower case letters, digits, `+`, `-` and `.`, starting with a letter
/// or digit.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn packages(list: &[String], at: &[&str], refuse: &mut Refuse<'_>) {
    for (i, name) in list.iter().enumerate() {
        let number = i.to_string();
        let path = [at, &[number.as_str()]].concat();
        if !is_package(name) {
            let help = "a bare name: no version and no architecture, the lock says which";
            refuse(&path, format!("`{name}` is not a package's name"), help);
        } else if list[..i].contains(name) {
            refuse(&path, format!("`{name}` is named twice"), "name each package once");
        }
    }
}

fn programs(list: &[Name], refuse: &mut Refuse<'_>) {
    for (i, name) in list.iter().enumerate() {
        let number = i.to_string();
        if name.instance().is_some() {
            let message = format!("`{name}` has a `@`, which only a unit's name can have");
            refuse(&["programs", &number], message, "give the cargo package's name");
        } else if list[..i].contains(name) {
            refuse(
                &["programs", &number],
                format!("`{name}` is named twice"),
                "name each program once",
            );
        }
    }
}

/// Commands, and variables, that exec cannot pass on.
fn texts(unit: &Unit, refuse: &mut Refuse<'_>) {
    for (path, command) in unit.commands() {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match command.first() {
            None => refuse(
                &path,
                "the command is empty".into(),
                "give the program's absolute path first",
            ),
            Some(program) if !program.starts_with('/') => refuse(
                &path,
                format!("`{program}` is not an absolute path"),
                "no PATH is searched: write for example /usr/sbin/NAME",
            ),
            Some(program) if program.parse::<Path>().is_err() => refuse(
                &path,
                format!("`{program}` is not an absolute path"),
                "no `.`, `..`, `//` or closing `/`",
            ),
            Some(_) => {}
        }
        if command.iter().any(|argument| argument.contains('\0')) {
            refuse(
                &path,
                "an argument holds a NUL character".into(),
                "no program can receive one: remove it",
            );
        }
    }
    for (name, value) in &unit.service.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let help = "a variable has a name without `=`, and no NUL character anywhere";
            refuse(
                &["service", "environment", name],
                format!("the variable `{name}` cannot be passed on"),
                help,
            );
        }
    }
}

/// The characters that every Debian tool accepts in an account's name (`NAME_REGEX` of adduser, and `_` in front), and capitals, which
/// accounts of some packages have (`Debian-exim`).
fn is_account(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn accounts(unit: &Unit, refuse: &mut Refuse<'_>) {
    let numbers: Vec<String> = (0..unit.setup.len()).map(|i| i.to_string()).collect();
    let mut names: Vec<(Vec<&str>, &str)> = vec![(vec!["service", "user"], &unit.service.user)];
    names.extend(
        unit.service
            .group
            .as_deref()
            .map(|group| (vec!["service", "group"], group)),
    );
    for (number, setup) in numbers.iter().zip(&unit.setup) {
        names.extend(
            setup
                .user
                .as_deref()
                .map(|user| (vec!["setup", number.as_str(), "user"], user)),
        );
    }
    let steps = unit.migration.as_ref().map_or(&[][..], |migration| &migration.steps);
    let step_numbers: Vec<String> = (0..steps.len()).map(|i| i.to_string()).collect();
    for (number, step) in step_numbers.iter().zip(steps) {
        let path = vec!["migration", "steps", number.as_str(), "user"];
        names.extend(step.user.as_deref().map(|user| (path, user)));
    }
    for (table, folders) in [("state", &unit.state), ("runtime", &unit.runtime)] {
        for (path, folder) in folders {
            for (key, name) in [("user", &folder.user), ("group", &folder.group)] {
                names.extend(name.as_deref().map(|name| (vec![table, path.as_str(), key], name)));
            }
        }
    }
    for (name, provide) in &unit.provides {
        let user = provide.account.as_ref().and_then(|account| account.user.as_deref());
        names.extend(user.map(|user| (vec!["provides", name.as_str(), "account", "user"], user)));
    }
    for (name, spec) in &unit.users {
        names.push((vec!["users", name], name));
        names.extend(
            spec.groups
                .iter()
                .map(|group| (vec!["users", name, "groups"], group.as_str())),
        );
        if let Some(uid) = spec.uid.filter(|uid| !(1..=65533).contains(uid)) {
            let help = "ids are 1 to 65533; leave it out to have one chosen";
            refuse(&["users", name, "uid"], format!("{uid} is no id for an account"), help);
        }
    }
    for (path, name) in names {
        if !is_account(name) {
            let help = "ASCII letters, digits, `_` and `-`, starting with a letter or `_`, at most 32";
            refuse(&path, format!("`{name}` is not an account's name"), help);
        }
    }
}

fn folders(unit: &Unit, refuse: &mut Refuse<'_>) {
    for (table, folders) in [("state", &unit.state), ("runtime", &unit.runtime)] {
        if folders.contains_key("/") {
            let help = "name the folders that the service writes to";
            refuse(&[table, "/"], "`/` cannot be written to as a whole".into(), help);
        }
    }
    for path in unit.state.keys().filter(|path| unit.runtime.contains_key(*path)) {
        let message = format!("`{path}` is both in [state] and in [runtime]");
        refuse(
            &["runtime", path.as_str()],
            message,
            "state outlives the unit, runtime does not: choose one",
        );
    }
}

fn secrets(unit: &Unit, refuse: &mut Refuse<'_>) {
    for (name, secret) in &unit.secrets {
        let at = ["secrets", name.as_str(), "length"];
        match (secret.kind, secret.length) {
            (SecretKind::Certificate, Some(_)) => refuse(
                &at,
                "a certificate has no length".into(),
                "leave it out; the key is always ECDSA on P-256",
            ),
            (SecretKind::Password, Some(..16)) => {
                refuse(&at, "a secret has at least 16 characters".into(), "32 is the default")
            }
            _ => {}
        }
    }
}

/// What a unit that connects to its consumers asks of them.
fn upstreams(unit: &Unit, refuse: &mut Refuse<'_>) {
    for (name, provide) in &unit.provides {
        let Some(upstream) = &provide.upstream else { continue };
        let at = ["provides", name.as_str(), "upstream"];
        if provide.socket.is_some() || provide.folder.is_some() {
            let message = format!("`{name}` has `upstream`, so nobody connects to a socket of it or sees a folder");
            refuse(&at, message, "leave `socket` and `folder` out");
        }
        if unit.network.mode != NetworkMode::Bridge {
            let help = "leave `network.mode` out";
            refuse(&at, "a unit without a network cannot connect to others".into(), help);
        }
        for (key, ask) in &upstream.asks {
            let at = ["provides", name.as_str(), "upstream", "asks", key.as_str()];
            if Upstream::RESERVED.contains(&key.as_str()) {
                let help = "choose another name: a need, or a template of this unit, has this for something else";
                refuse(&at, format!("`{key}` cannot be asked for"), help);
            }
            let values = ask.default.iter().map(|value| ("default", value));
            let values = values.chain(ask.values.iter().map(|value| ("values", value)));
            for (place, value) in values {
                if let Err(why) = ask.check(value) {
                    let at = [&at[..], &[place]].concat();
                    refuse(&at, format!("`{value}` cannot be said: it {why}"), "write another one");
                }
            }
        }
        for key in upstream.distinct.iter().filter(|key| !upstream.asks.contains_key(*key)) {
            let at = [&at[..], &["distinct"]].concat();
            refuse(&at, format!("`{key}` is not asked for"), "name keys of `asks`");
        }
    }
}

/// Only a unit can be an instance of a template.
fn names(unit: &Unit, refuse: &mut Refuse<'_>) {
    let tables: [(&str, Vec<&Name>); 5] = [
        ("secrets", unit.secrets.keys().collect()),
        ("provides", unit.provides.keys().collect()),
        ("needs", unit.needs.keys().collect()),
        ("sockets", unit.sockets.keys().collect()),
        ("settings", unit.settings.keys().collect()),
    ];
    for (table, names) in tables {
        for name in names.into_iter().filter(|name| name.instance().is_some()) {
            let message = format!("`{name}` has a `@`, which only a unit's name can have");
            refuse(&[table, name.as_str()], message, "leave it out");
        }
    }
    for overlay in unit.overlays.iter().flatten().filter(|name| name.instance().is_some()) {
        let message = format!("`{overlay}` has a `@`, which only a unit's name can have");
        refuse(&["overlays"], message, "leave it out");
    }
}

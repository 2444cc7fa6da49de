//! Rules that one unit or recipe can break although every value has its form: what passwd, exec, Debian or the kernel
//! would refuse later, on the appliance, is refused here.

use std::collections::BTreeSet;

use crate::recipe::Recipe;
use crate::unit::{ReadyWhen, Unit};
use crate::values::Path;

/// Receives a finding: the path of keys, what is wrong, and what to do.
type Refuse<'a> = dyn FnMut(&[&str], String, &str) + 'a;

/// What is wrong with a unit beyond its parts' form.
pub(crate) fn unit(unit: &Unit, refuse: &mut Refuse<'_>) {
    if unit.description.contains(['\n', '\r']) {
        let help = "say it in one line";
        refuse(&["description"], "the description has more than one line".into(), help);
    }
    packages(&unit.packages, &["packages"], refuse);
    texts(unit, refuse);
    accounts(unit, refuse);
    folders(unit, refuse);
    ports(unit, refuse);
    limits(unit, refuse);
}

/// What is wrong with a recipe beyond its parts' form.
pub(crate) fn recipe(recipe: &Recipe, refuse: &mut Refuse<'_>) {
    let kernel = recipe.host.kernel.replace("{arch}", "amd64");
    if !is_package(&kernel) {
        let message = format!("`{}` is not a package's name", recipe.host.kernel);
        refuse(&["host", "kernel"], message, "for example \"linux-image-cloud-{arch}\"");
    }
    packages(&recipe.host.packages, &["host", "packages"], refuse);
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

/// Arguments and variables that exec cannot pass on.
fn texts(unit: &Unit, refuse: &mut Refuse<'_>) {
    let numbers: Vec<String> = (0..unit.setup.len().max(unit.service.before.len()))
        .map(|i| i.to_string())
        .collect();
    let mut commands = vec![(vec!["service", "command"], &unit.service.command)];
    for (number, command) in numbers.iter().zip(&unit.service.before) {
        commands.push((vec!["service", "before", number], command));
    }
    for (number, setup) in numbers.iter().zip(&unit.setup) {
        commands.push((vec!["setup", number, "command"], &setup.command));
    }
    for (path, command) in commands {
        if let Some(program) = command
            .first()
            .filter(|p| p.starts_with('/') && p.parse::<Path>().is_err())
        {
            refuse(
                &path,
                format!("`{program}` is not an absolute path"),
                "no `.`, `..`, `//` or closing `/`",
            );
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

/// The characters that every Debian tool accepts in an account's name (`NAME_REGEX` of adduser, and `_` in front).
fn is_account(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
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
    for (table, folders) in [("state", &unit.state), ("runtime", &unit.runtime)] {
        for (path, folder) in folders {
            for (key, name) in [("user", &folder.user), ("group", &folder.group)] {
                names.extend(name.as_deref().map(|name| (vec![table, path.as_str(), key], name)));
            }
        }
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
            let help = "lower case letters, digits, `_` and `-`, starting with a letter or `_`, at most 32";
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

fn ports(unit: &Unit, refuse: &mut Refuse<'_>) {
    let help = "ports are 1 to 65535";
    for (name, provide) in &unit.provides {
        if provide.port == Some(0) {
            refuse(&["provides", name.as_str(), "port"], "port 0 is no port".into(), help);
        }
    }
    if unit
        .ready
        .as_ref()
        .is_some_and(|ready| ready.when == ReadyWhen::Port(0))
    {
        refuse(&["ready", "when", "port"], "port 0 is no port".into(), help);
    }
    let mut seen = BTreeSet::new();
    for (i, publish) in unit.network.publish.iter().enumerate() {
        if !seen.insert((publish.protocol, publish.port)) {
            let message = format!("port {} is published twice", publish.port);
            refuse(
                &["network", "publish", &i.to_string(), "port"],
                message,
                "publish each port once",
            );
        }
    }
}

fn limits(unit: &Unit, refuse: &mut Refuse<'_>) {
    let limits = &unit.limits;
    let least = [
        ("memory_max", limits.memory_max.0),
        ("processes", u64::from(limits.processes)),
        ("open_files", limits.open_files),
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

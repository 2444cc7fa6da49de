//! Folders that the service writes to: `StateDirectory=` and its like, `ReadWritePaths=` (systemd.exec(5)).

use cairn_unit::{Mode, Path};

use crate::job::Job;
use crate::words;

struct Kind {
    key: &'static str,
    mode: &'static str,
    base: &'static str,
    /// The variable that systemd sets to the folders.
    variable: &'static str,
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    State,
    Runtime,
    Configuration,
}

const KINDS: [Kind; 5] = [
    Kind {
        key: "StateDirectory",
        mode: "StateDirectoryMode",
        base: "/var/lib",
        variable: "STATE_DIRECTORY",
        place: Place::State,
    },
    Kind {
        key: "CacheDirectory",
        mode: "CacheDirectoryMode",
        base: "/var/cache",
        variable: "CACHE_DIRECTORY",
        place: Place::State,
    },
    Kind {
        key: "LogsDirectory",
        mode: "LogsDirectoryMode",
        base: "/var/log",
        variable: "LOGS_DIRECTORY",
        place: Place::State,
    },
    Kind {
        key: "RuntimeDirectory",
        mode: "RuntimeDirectoryMode",
        base: "/run",
        variable: "RUNTIME_DIRECTORY",
        place: Place::Runtime,
    },
    Kind {
        key: "ConfigurationDirectory",
        mode: "ConfigurationDirectoryMode",
        base: "/etc",
        variable: "CONFIGURATION_DIRECTORY",
        place: Place::Configuration,
    },
];

/// Folders in which a service's own folder is state.
const LASTING: [&str; 6] = ["/var/lib", "/var/cache", "/var/log", "/var/spool", "/srv", "/var/www"];

pub(crate) fn read(job: &mut Job) {
    for kind in &KINDS {
        directories(job, kind);
    }
    if let Some((id, value)) = job.last("RuntimeDirectoryPreserve") {
        match value.as_str() {
            "no" | "false" | "0" => job.covered(id),
            _ => job.hint(
                id,
                "a folder of [runtime] is empty at every start: what must stay belongs into [state]",
            ),
        }
    }
    for (id, value) in job.list("ReadWritePaths") {
        let Ok(paths) = words::split(&value) else {
            job.not_understood(id);
            continue;
        };
        for path in paths {
            let path = job.expand(id, path.trim_start_matches(['-', '+']));
            writable(job, id, &tidy(&path));
        }
    }
}

fn directories(job: &mut Job, kind: &Kind) {
    let mode = job.last(kind.mode);
    let mut paths = Vec::new();
    for (id, value) in job.list(kind.key) {
        let Ok(words) = words::split(&value) else {
            job.not_understood(id);
            continue;
        };
        for word in words {
            let mut fields = word.split(':');
            let folder = tidy(&format!(
                "{}/{}",
                kind.base,
                job.expand(id, fields.next().unwrap_or_default())
            ));
            if let Some(link) = fields.next().filter(|link| !link.is_empty()) {
                job.decide(
                    id,
                    &format!("no link `{link}` is made: have the service use `{folder}`"),
                );
            }
            if fields.next().is_some_and(|flags| flags.contains("ro")) {
                job.hint(id, "the service can write to its own folders");
            }
            if folder.parse::<Path>().is_err() || folder == kind.base {
                job.decide(
                    id,
                    &format!("`{folder}` is no folder that a unit can have: it is left out"),
                );
                continue;
            }
            if kind.place == Place::Configuration {
                job.hint(id, &format!("configuration is part of the image and cannot be written: put the files into `overlays/NAME{folder}`"));
            } else if let Some(outer) = outer(job, &folder) {
                job.hint(id, &format!("`{folder}` is in `{outer}`, which the unit has: the service makes it itself, or a step of [[setup]] does"));
            } else {
                job.carried(id);
                let mode = mode.as_ref().map_or("0755", |(_, mode)| mode);
                let mode = mode.parse::<Mode>().unwrap_or(Mode(0o755)).to_string();
                match kind.place {
                    Place::Runtime => job.draft.runtime.insert(folder.clone(), mode),
                    _ => job.draft.state.insert(folder.clone(), mode),
                };
            }
            paths.push(folder);
        }
    }
    if let Some((id, value)) = mode {
        match value.parse::<Mode>() {
            Err(_) => job.not_understood(id),
            // systemd's own default, which is in the unit anyway.
            Ok(Mode(0o755)) => job.covered(id),
            Ok(_) if paths.is_empty() || kind.place == Place::Configuration => job.covered(id),
            Ok(_) => job.carried(id),
        }
    }
    if !paths.is_empty() {
        job.draft
            .environment
            .entry(kind.variable.into())
            .or_insert(paths.join(":"));
    }
}

/// The folder of the unit that holds `path`, if it is not the path itself.
fn outer(job: &Job, path: &str) -> Option<String> {
    let all = job.draft.state.keys().chain(job.draft.runtime.keys());
    all.filter(|folder| inside(path, folder) && folder.as_str() != path)
        .max_by_key(|folder| folder.len())
        .cloned()
}

pub(crate) fn inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn writable(job: &mut Job, id: usize, path: &str) {
    let there = job
        .draft
        .state
        .keys()
        .chain(job.draft.runtime.keys())
        .any(|folder| inside(path, folder));
    let own = |base: &str| inside(path, base) && path != base;
    let valid = path.parse::<Path>().is_ok();
    if there || inside(path, "/tmp") || path == "/dev/shm" || inside(path, "/proc") {
        job.covered(id);
    } else if valid && is_lasting(path) {
        job.draft.state.insert(path.to_owned(), "0755".into());
        job.hint(
            id,
            &format!(
                "`{path}` is state of the unit: it begins empty and outlives it; see that owner and mode are right"
            ),
        );
    } else if valid && own("/run") {
        job.draft.runtime.insert(path.to_owned(), "0755".into());
        job.hint(
            id,
            &format!("`{path}` is a folder in memory of the unit, empty at every start"),
        );
    } else if path == "/run" && job.draft.user.is_none() {
        job.covered(id);
    } else if inside(path, "/etc") {
        job.decide(
            id,
            &format!(
                "`{path}` is configuration, which cannot be written: have the service keep what it changes in its state"
            ),
        );
    } else {
        job.decide(id, &format!("`{path}` is not writable in a unit: name the folders below it that the service writes to in [state] or [runtime]"));
    }
}

/// Whether it is below a folder in which services keep what outlives them.
pub(crate) fn is_lasting(path: &str) -> bool {
    LASTING.iter().any(|base| inside(path, base) && path != *base)
}

/// A path as a unit has it: without `//` and a closing `/`, and `/run` for `/var/run`.
pub(crate) fn tidy(path: &str) -> String {
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    if path.len() > 1 {
        path.truncate(path.trim_end_matches('/').len().max(1));
    }
    match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => path,
    }
}

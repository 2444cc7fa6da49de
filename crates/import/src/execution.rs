//! Who runs it and where: accounts, the working folder, input and output (systemd.exec(5)).

use crate::Level;
use crate::job::Job;
use crate::name::plain;
use crate::specifiers::INSTANCE;

/// Accounts and groups that Debian's base-passwd gives every root.
const BASE: [&str; 20] = [
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
    "backup", "list", "irc", "_apt", "nobody", "nogroup", "adm",
];

/// `User=`, `Group=`, `DynamicUser=`, `SupplementaryGroups=`.
pub(crate) fn account(job: &mut Job) {
    if let Some((id, value)) = job.last("User") {
        let name = job.expand(id, &value);
        if name == "root" || name == "0" {
            job.covered(id);
        } else if is_account(&name) {
            job.draft.user = Some(name);
            job.carried(id);
        } else {
            job.decide(id, &format!("`{name}` is no account's name that a unit takes, and the service would run as root: name an account in `user` and make it in [users]"));
        }
    }
    if let Some((id, value)) = job.last("Group") {
        let name = job.expand(id, &value);
        if name == "root" && job.draft.user.is_none() {
            job.covered(id);
        } else if is_account(&name) {
            if job.draft.user.as_deref() != Some(&name) && !BASE.contains(&name.as_str()) {
                job.hint(id, &format!("the group `{name}` must come from `sysusers.d` of a package, or from [users.{name}], which makes an account and a group"));
            }
            job.draft.group = Some(name);
            job.carried(id);
        } else {
            job.decide(
                id,
                &format!("`{name}` is no group's name that a unit takes: it is left out"),
            );
        }
    }
    match job.truth("DynamicUser") {
        // With `User=` the account has that name.
        Some((id, true)) if job.draft.user.is_some() => job.covered(id),
        Some((id, true)) => {
            job.draft.user = Some(plain(&job.name.prefix, 31));
            job.carried(id);
        }
        Some((id, false)) => job.covered(id),
        None => {}
    }
    let user = job.draft.user.clone().filter(|user| !BASE.contains(&user.as_str()));
    if let Some(user) = &user {
        job.draft.users.insert(user.clone(), Vec::new());
    }
    for (id, value) in job.list("SupplementaryGroups") {
        for name in value.split_whitespace() {
            let name = job.expand(id, name);
            match &user {
                Some(user) if is_account(&name) => {
                    if !BASE.contains(&name.as_str()) {
                        job.hint(id, &format!("the group `{name}` must come from `sysusers.d` of a package of the unit"));
                    }
                    job.draft.users.entry(user.clone()).or_default().push(name);
                    job.carried(id);
                }
                _ => job.decide(id, &format!("`{name}` cannot be given to this account: make an account of the service's own in [users], with `groups`")),
            }
        }
    }
}

/// As the unit's own check has it, also with the instance open.
fn is_account(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == INSTANCE);
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == INSTANCE);
    first && rest && name.len() <= 32
}

/// The working folder, input and output.
pub(crate) fn rest(job: &mut Job) {
    if let Some((id, value)) = job.last("WorkingDirectory") {
        let path = value.strip_prefix('-').unwrap_or(&value);
        let path = job.expand(id, path);
        let path = crate::folders::tidy(&path);
        if path == "~" {
            job.decide(id, "`~` is the account's home: write its path");
        } else if path.parse::<cairn_unit::Path>().is_ok() {
            let own = |folder: &String| crate::folders::inside(&path, folder);
            let own = job.draft.state.keys().chain(job.draft.runtime.keys()).any(own);
            job.carried(id);
            if !own && crate::folders::is_lasting(&path) {
                job.hint(
                    id,
                    &format!("if the service writes to `{path}`, make it a folder of [state]: nothing else of it can be written"),
                );
            }
            job.draft.working_directory = Some(path);
        } else {
            job.not_understood(id);
        }
        if value.starts_with('-') {
            job.hint(id, "`-`: the folder may be missing in systemd; here it must be there");
        }
    }
    for key in ["StandardInput", "StandardOutput", "StandardError"] {
        let Some((id, value)) = job.last(key) else { continue };
        let kind = value.split(':').next().unwrap_or_default();
        match kind {
            "journal" | "syslog" | "kmsg" | "journal+console" | "syslog+console" | "kmsg+console" | "inherit" => {
                job.covered(id)
            }
            "null" if key == "StandardInput" => job.covered(id),
            "null" => job.hint(
                id,
                "what the service writes goes to its log: have it write less, or bound it in [log]",
            ),
            "file" | "append" | "truncate" => job.decide(
                id,
                "what the service writes goes to its log, not to a file: read it with `cairn logs`",
            ),
            "data" => job.decide(
                id,
                "a unit's standard input is empty: put the data into a file of an overlay",
            ),
            "socket" => job.decide(
                id,
                "no connection is handed over to a unit: have the service listen itself",
            ),
            "tty" | "tty-force" | "tty-fail" => job.decide(id, "a unit has no terminal"),
            "fd" => job.decide(id, "a socket cannot be the service's input or output"),
            _ => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last("LogRateLimitBurst") {
        match value.parse::<u32>() {
            Ok(0) => job.hint(
                id,
                "a log has a bound: raise `log.rate` and `log.burst` if it writes much",
            ),
            _ => job.hint(
                id,
                "the bound of a unit's log is `log.rate` lines a second and `log.burst` in one moment",
            ),
        }
    }
    let forms = [
        (
            "UMask",
            "0022",
            "a unit's umask is 0022: give the folders of [state] and [runtime] the mode that is needed",
        ),
        (
            "OOMPolicy",
            "kill",
            "a unit that is above `memory_max` is killed as a whole",
        ),
        (
            "IgnoreSIGPIPE",
            "false",
            "SIGPIPE is not ignored: a service that has to ignore it does so itself",
        ),
        ("SendSIGHUP", "no", "only `stop_signal` is sent"),
        ("SendSIGKILL", "yes", "after `stop_timeout` every process is killed"),
        ("LimitCORE", "0", "no core file is kept of a unit's programs"),
        ("Nice", "0", "give it a share of the processor by `limits.cpu_weight`"),
        (
            "OOMScoreAdjust",
            "0",
            "it is 0 for every unit; `limits.memory_max` bounds each for itself",
        ),
        ("FinalKillSignal", "SIGKILL", "after `stop_timeout` it is always KILL"),
    ];
    for (key, same, note) in forms {
        let Some((id, value)) = job.last(key) else { continue };
        let equal = value.eq_ignore_ascii_case(same)
            || crate::values::boolean(&value).is_some_and(|b| crate::values::boolean(same) == Some(b));
        let octal = key == "UMask" && u32::from_str_radix(&value, 8) == Ok(0o022);
        match equal || octal {
            true => job.covered(id),
            false => job.note(
                id,
                if key == "SendSIGKILL" {
                    Level::Behaviour
                } else {
                    Level::Hint
                },
                note,
            ),
        }
    }
}

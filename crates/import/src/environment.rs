//! Environment variables: `Environment=`, `EnvironmentFile=`, `PassEnvironment=`, `UnsetEnvironment=`.

use crate::Level;
use crate::job::Job;
use crate::words;

/// What Cairn sets for every unit.
const ALWAYS: [&str; 5] = ["HOME", "LANG", "LOGNAME", "PATH", "USER"];

pub(crate) fn read(job: &mut Job) {
    for (id, value) in job.list("Environment") {
        let assignments = match words::split(&value) {
            Ok(assignments) => assignments,
            Err(wrong) => {
                job.decide(id, &format!("{}: the variables are not carried over", wrong.text()));
                continue;
            }
        };
        for assignment in assignments {
            let assignment = job.expand(id, &assignment);
            match assignment.split_once('=') {
                Some((name, value)) if is_name(name) => {
                    job.draft.environment.insert(name.to_owned(), value.to_owned());
                    job.carried(id);
                }
                _ => job.decide(
                    id,
                    &format!("`{assignment}` is not NAME=VALUE, and systemd leaves it out too"),
                ),
            }
        }
    }
    for (id, value) in job.list("EnvironmentFile") {
        let (level, file) = match value.strip_prefix('-') {
            Some(file) => (Level::Hint, file),
            None => (Level::Behaviour, value.as_str()),
        };
        let text = format!(
            "no file of variables is read: if `{file}` sets any that the service needs, write them into `environment`"
        );
        job.note(id, level, &text);
    }
    for (id, value) in job.list("UnsetEnvironment") {
        for name in value.split_whitespace() {
            let (name, only) = name
                .split_once('=')
                .map_or((name, None), |(name, value)| (name, Some(value)));
            let there = job
                .draft
                .environment
                .get(name)
                .is_some_and(|value| only.is_none_or(|only| only == value));
            if there {
                job.draft.environment.remove(name);
                job.carried(id);
            } else if ALWAYS.contains(&name) {
                job.hint(
                    id,
                    &format!("Cairn sets `{name}` for every unit; an empty value in `environment` is the nearest"),
                );
            } else {
                job.covered(id);
            }
        }
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

//! `cairn set`: what the owner can choose for a unit.

use std::fmt::Write as _;

use cairn_api::{Explained, Reloaded, SettingState, SettingsWritten};
use serde_json::Value;

use crate::table::{self, Paint};
use crate::{Cli, Outcome, Refused, ask, ask_with, client, parsed, put, shown};

/// Lists a unit's settings, or chooses some.
pub(crate) fn run(cli: &Cli, unit: &str, given: &[String], paint: Paint) -> Outcome<()> {
    let path = format!("/v1/units/{}", client::encode(unit));
    if given.is_empty() {
        let explained: Explained = parsed(&ask(cli, "GET", &format!("{path}/explain"))?)?;
        match cli.json {
            true => put(&format!("{}\n", serde_json::json!(explained.settings))),
            false => put(&list(unit, &explained.settings, paint)),
        }
        return Ok(());
    }
    let body = SettingsWritten {
        settings: given.iter().map(|pair| assigned(pair)).collect::<Outcome<_>>()?,
    };
    let body = serde_json::to_vec(&body).map_err(|e| Refused(e.to_string(), 1))?;
    shown::<Reloaded>(
        cli,
        ask_with(cli, "POST", &format!("{path}/settings"), &body)?,
        table::reloaded,
    )
    .map(drop)
}

/// `NAME=VALUE`, or `NAME=@FILE` for the text of a file.
fn assigned(pair: &str) -> Outcome<(String, Value)> {
    let Some((name, value)) = pair.split_once('=') else {
        let why = format!("`{pair}` is not a choice: write NAME=VALUE, or NAME= for what holds if nothing is chosen");
        return Err(Refused(why, 2));
    };
    let text = match value.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|e| Refused(format!("cannot read {file}: {e}"), 1))?,
        None => value.to_owned(),
    };
    Ok((name.to_owned(), Value::String(text)))
}

/// A setting with what holds for it, and what it does.
fn list(unit: &str, settings: &[SettingState], paint: Paint) -> String {
    if settings.is_empty() {
        return format!("{unit} has no settings\n");
    }
    let mut out = String::new();
    for one in settings {
        let value = match &one.value {
            None => "not chosen".to_owned(),
            Some(value) => in_words(value),
        };
        let form = match one.many {
            true => format!("list of {}", one.is),
            false => one.is.clone(),
        };
        let values = match one.values.is_empty() {
            true => String::new(),
            false => format!(": {}", one.values.join(", ")),
        };
        let sign = if one.chosen { " (chosen)" } else { "" };
        let _ = writeln!(out, "{} = {value}{sign}", paint.bold(&one.name));
        let _ = writeln!(out, "    {} ({form}{values})", one.description);
    }
    out
}

/// A value in one line.
pub(crate) fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => match text.trim_end().split_once('\n') {
            Some((first, rest)) => format!("{first} ... ({} lines)", rest.lines().count() + 1),
            None => text.trim_end().to_owned(),
        },
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => all.iter().map(in_words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed_with_what_holds_and_what_they_do() {
        let setting = |name: &str, is: &str, value: Value, chosen: bool| SettingState {
            name: name.into(),
            description: "What it does.".into(),
            is: is.into(),
            many: value.is_array(),
            values: Vec::new(),
            value: Some(value).filter(|value| !value.is_null()),
            chosen,
        };
        let all = [
            setting("agree", "flag", true.into(), true),
            setting("mail", "mail", Value::Null, false),
            setting("names", "domain", serde_json::json!(["a.example", "b.example"]), true),
            setting("pem", "text", "-----BEGIN\nx\n-----END\n".into(), true),
        ];
        assert_eq!(
            list("web", &all, Paint(false)),
            "agree = true (chosen)\n    What it does. (flag)\nmail = not chosen\n    What it does. (mail)\n\
             names = a.example, b.example (chosen)\n    What it does. (list of domain)\n\
             pem = -----BEGIN ... (3 lines) (chosen)\n    What it does. (text)\n"
        );
        assert_eq!(list("web", &[], Paint(false)), "web has no settings\n");
    }

    #[test]
    fn a_choice_is_a_name_and_a_value_or_the_text_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a=b\n").unwrap();
        let read = |pair: &str| {
            assigned(pair)
                .ok()
                .map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
        };
        assert_eq!(read("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(read("a=").unwrap(), ("a".into(), String::new()));
        let named = format!("pem=@{}", file.path().display());
        assert_eq!(read(&named).unwrap(), ("pem".into(), "a=b\n".into()));
        assert!(
            assigned("a=@/nowhere/x")
                .err()
                .unwrap()
                .0
                .starts_with("cannot read /nowhere/x")
        );
        assert!(assigned("a").err().unwrap().0.starts_with("`a` is not a choice"));
    }
}

//! The one place where an error is shown.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use cairn_unit::{Problem, Problems};
use serde_json::{Value, json};

/// Shows `error` with everything that led to it, and returns the exit status of a failure. With `json`, as a document
/// on standard output; otherwise as text on standard error.
pub fn failure(error: &(dyn Error + 'static), json: bool) -> ExitCode {
    if json {
        let _ = super::print_json(&json!({ "error": as_json(error) }));
    } else {
        let text = as_text(error, super::colours(&std::io::stderr()));
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::FAILURE
}

/// Shows what clap says about wrong arguments (exit status 2), or the help or version that was asked for (0).
pub fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let _ = super::print_json(&json!({ "error": { "message": message, "usage": text } }));
    } else {
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Says that the work was interrupted and what is left of it.
pub fn interrupted(note: &str, json: bool) {
    if json {
        let _ = super::print_json(&json!({ "error": { "message": "interrupted", "help": note } }));
    } else {
        let _ = writeln!(std::io::stderr(), "\ninterrupted: {note}");
    }
}

/// The problems that `error` or what it came from carries.
fn problems<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a Problem> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Problems(many)) = error.downcast_ref::<Problems>() {
            return many.iter().collect();
        }
        if let Some(one) = error.downcast_ref::<Problem>() {
            return vec![one];
        }
        next = error.source();
    }
    Vec::new()
}

/// The messages from `error` down to its origin, each only where it adds something to those above it.
fn messages(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !all.iter().any(|above| above.contains(&text)) {
            all.push(text);
        }
        next = error.source();
    }
    all
}

fn as_json(error: &(dyn Error + 'static)) -> Value {
    let problems: Vec<Value> = problems(error)
        .into_iter()
        .map(|p| {
            json!({
                "file": p.file, "line": p.at.map(|a| a.0), "column": p.at.map(|a| a.1), "width": p.width,
                "text": p.line, "message": p.message, "help": p.help,
            })
        })
        .collect();
    let mut messages = messages(error).into_iter();
    json!({
        "message": messages.next().unwrap_or_default(),
        "causes": messages.collect::<Vec<_>>(),
        "problems": problems,
    })
}

fn as_text(error: &(dyn Error + 'static), colours: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let head = paint("1;31", "error:");
    let found = problems(error);
    if !found.is_empty() {
        let each = found.iter().map(|problem| {
            problem
                .to_string()
                .lines()
                .enumerate()
                .map(|(i, line)| match line.trim_start() {
                    _ if i == 0 => format!("{head} {}", paint("1", line)),
                    text if text.starts_with("| ") => line.replace('^', &paint("1;31", "^")),
                    text if text.starts_with("help: ") => line.replacen("help:", &paint("1;36", "help:"), 1),
                    _ => line.to_owned(),
                })
                .collect::<Vec<_>>()
                .join("\n")
        });
        return each.collect::<Vec<_>>().join("\n\n");
    }
    let messages = messages(error);
    let mut text = format!("{head} {}", messages.first().map_or("", String::as_str));
    for cause in messages.iter().skip(1) {
        text.push_str(&format!("\n  {} {cause}", paint("1", "because:")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot build {what}")]
    struct Outer {
        what: &'static str,
        source: std::io::Error,
    }

    fn outer() -> Outer {
        Outer {
            what: "base",
            source: std::io::Error::other("the disk is full"),
        }
    }

    #[test]
    fn an_error_is_shown_with_what_led_to_it() {
        assert_eq!(
            as_text(&outer(), false),
            "error: cannot build base\n  because: the disk is full"
        );
    }

    #[test]
    fn a_cause_that_the_message_already_tells_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read: {0}")]
        struct Telling(#[source] std::io::Error);
        let error = Telling(std::io::Error::other("gone"));
        assert_eq!(as_text(&error, false), "error: cannot read: gone");
    }

    #[test]
    fn a_problem_keeps_its_place_in_text_and_json() {
        let source = cairn_unit::Source {
            file: "units/a.toml".into(),
            text: "descripton = \"x\"\n".into(),
        };
        let error = cairn_unit::Unit::parse(&source).expect_err("an unknown key");
        let text = as_text(&error, false);
        assert!(
            text.starts_with("error: units/a.toml:1:1: unknown key `descripton`"),
            "{text}"
        );
        assert!(
            text.contains("\n 1 | descripton = \"x\"\n   | ^^^^^^^^^^\n  help: did you mean `description`?"),
            "{text}"
        );
        let value = as_json(&error);
        assert_eq!(value["problems"][0]["line"], 1);
        assert_eq!(value["problems"][0]["help"], "did you mean `description`?");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = as_text(&outer(), true);
        assert!(coloured.contains("\x1b["));
        let plain: String = coloured
            .replace("\x1b[1;31m", "")
            .replace("\x1b[1m", "")
            .replace("\x1b[0m", "");
        assert_eq!(plain, as_text(&outer(), false));
    }
}

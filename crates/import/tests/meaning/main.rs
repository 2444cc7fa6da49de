//! What single directives become, by what systemd's manual pages say of them.

mod beside;
mod grants;
mod service;

use cairn_import::{Fate, Imported, Siblings, import};
use cairn_unit::{Source, Unit};

/// The unit of one instance, and what was found.
fn of(name: &str, text: &str, more: &Siblings<'_>) -> (Unit, Imported) {
    let found = import(name, text, more);
    let parts: Vec<String> = found
        .unit_toml
        .split("%%")
        .map(|part| part.replace("%i", "one"))
        .collect();
    let text = if found.name.ends_with('@') {
        parts.join("%")
    } else {
        found.unit_toml.clone()
    };
    let source = Source {
        file: "x.toml".into(),
        text,
    };
    match Unit::parse(&source) {
        Ok(unit) => (unit, found),
        Err(problems) => panic!("{problems}\n{}", found.unit_toml),
    }
}

fn packages() -> Siblings<'static> {
    Siblings {
        packages: vec!["example".into()],
        ..Siblings::default()
    }
}

/// Of the lines of a `[Service]` section with a command and an account.
fn service(lines: &str) -> (Unit, Imported) {
    of(
        "x.service",
        &format!("[Install]\nWantedBy=multi-user.target\n[Service]\nUser=x\nExecStart=/usr/bin/x\n{lines}\n"),
        &packages(),
    )
}

fn fate(found: &Imported, name: &str) -> Fate {
    let all: Vec<Fate> = found
        .directives
        .iter()
        .filter(|d| d.name == name)
        .map(|d| d.fate)
        .collect();
    *all.last().unwrap()
}

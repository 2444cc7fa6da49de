//! The text files that people write.

use std::fmt::Debug;

use cairn_import::{File, Siblings};
use cairn_manager::rules::Rules;
use cairn_manager::timers::{Facts, wait};
use cairn_unit::{Bytes, Calendar, Mode, Name, Path, Problems, Recipe, Seconds, Signal, Site, Source, Unit};
use serde_json::Value;

/// A unit, a recipe, the owner's choices, or a single value, each tried.
pub fn unit(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let source = |file: &str| Source {
        file: file.into(),
        text: text.clone().into_owned(),
    };
    let unit = judged(&source("x.toml"), Unit::parse);
    if let Some(unit) = &unit {
        same(unit, |text| {
            Unit::parse(&Source {
                file: "x.toml".into(),
                text,
            })
            .ok()
        });
        let json = serde_json::to_vec(unit).expect("a unit can stand in the manifest");
        assert_eq!(
            serde_json::from_slice::<Unit>(&json).expect("the manifest can be read"),
            *unit
        );
        let rules = Rules::of("x", unit);
        assert!(
            rules
                .schedule()
                .iter()
                .all(|delay| *delay <= rules.delay_max_ms.saturating_mul(2))
        );
        assert!(!unit.commands().is_empty());
        if let Some(timer) = &unit.timer {
            let facts = Facts {
                now: 1_800_000_000,
                now_ms: 5_000,
                last_start: Some(1_700_000_000),
                last_end_ms: Some(4_000),
                boot_ms: 1_000,
                dice: u64::MAX,
            };
            let _ = wait(timer, &facts);
            let _ = wait(
                timer,
                &Facts {
                    last_start: None,
                    last_end_ms: None,
                    ..facts
                },
            );
        }
    }
    let name = toml::from_str::<toml::Table>(&text)
        .ok()
        .and_then(|table| Some(table.get("name")?.as_str()?.to_owned()));
    let file = format!("{}.toml", name.unwrap_or_default());
    if let Some(recipe) = judged(&source(&file), Recipe::parse) {
        same(&recipe, |text| {
            Recipe::parse(&Source {
                file: file.clone().into(),
                text,
            })
            .ok()
        });
    }
    let manifest = crate::manager::manifest();
    if let Some(site) = judged(&source("site.toml"), |source| Site::parse(source, &manifest)) {
        same(&site, |text| {
            Site::parse(
                &Source {
                    file: "site.toml".into(),
                    text,
                },
                &manifest,
            )
            .ok()
        });
    }
    cairn_manager::fuzz::site(&text);
    if text.len() < 200 {
        values(&text);
    }
}

/// What is refused is refused for a reason that can be shown, at a place that there is.
fn judged<T>(source: &Source, parse: impl FnOnce(&Source) -> Result<T, Problems>) -> Option<T> {
    let problems = match parse(source) {
        Ok(value) => return Some(value),
        Err(problems) => problems,
    };
    assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
    for problem in problems.0 {
        if let Some((line, column)) = problem.at {
            assert!(line >= 1 && line <= source.text.matches('\n').count() + 1 && column >= 1);
        }
    }
    None
}

/// What is written from a value is read as the same value.
fn same<T: serde::Serialize + PartialEq + Debug>(value: &T, parse: impl Fn(String) -> Option<T>) {
    let text = toml::to_string(value).expect("what was read can be written");
    assert_eq!(parse(text).as_ref(), Some(value));
}

fn values(text: &str) {
    value::<Name>(text);
    value::<Path>(text);
    value::<Bytes>(text);
    value::<Seconds>(text);
    value::<Mode>(text);
    value::<Signal>(text);
    value::<Calendar>(text);
    if let Ok(calendar) = text.parse::<Calendar>() {
        let mut now = 1_700_000_000;
        for _ in 0..4 {
            let Some(next) = calendar.next(now) else { break };
            assert!(next > now, "time goes forward");
            assert_eq!(
                calendar.next(next - 1),
                Some(next),
                "the same time from right before it"
            );
            now = next;
        }
    }
}

fn value<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(text: &str) {
    let Ok(value) = serde_json::from_value::<T>(Value::from(text)) else {
        return;
    };
    let written = serde_json::to_value(&value).expect("a value can be written");
    assert_eq!(serde_json::from_value::<T>(written).expect("and read"), value);
}

/// A systemd service with what may stand beside it. A line `---` begins the next file: a drop-in, the timer, the socket, the path.
pub fn import(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut files = text.split("\n---\n");
    let service = files.next().unwrap_or_default();
    let mut file = |name: &'static str| {
        files
            .next()
            .filter(|text| !text.is_empty())
            .map(|text| File { name, text })
    };
    let siblings = Siblings {
        drop_ins: file("web.service.d/own.conf").into_iter().collect(),
        timer: file("web.timer"),
        socket: file("web.socket"),
        path: file("web.path"),
        packages: vec!["web".into()],
    };
    for name in ["web.service", "web@.service"] {
        let made = cairn_import::import(name, service, &siblings);
        let read = toml::from_str::<toml::Table>(&made.unit_toml);
        assert!(read.is_ok(), "{}: {read:?}", made.unit_toml);
        assert!(
            made.notes.iter().all(|note| !note.to_string().contains('\n')),
            "a note is one line"
        );
        let source = Source {
            file: "web.toml".into(),
            text: made.unit_toml.clone(),
        };
        if name == "web.service" && judged(&source, Unit::parse).is_none() {
            assert!(
                made.changes_behaviour(),
                "a unit that is not valid comes with a word about it"
            );
        }
    }
}

//! The security report for people.

use std::fmt::Write as _;

use serde_json::Value;

/// Whether something in force is not as declared.
pub(crate) fn differs(answer: &Value) -> bool {
    units(answer).any(|unit| unit["differs"].as_u64() != Some(0))
}

/// A table a unit if one was asked for, else a line a unit and what differs.
pub(crate) fn text(answer: &Value, whole: bool) -> String {
    let mut out = String::new();
    if !whole {
        let names = units(answer).map(|unit| string(&unit["unit"]));
        let width = names.map(str::len).max().unwrap_or(0).max(4);
        let _ = writeln!(out, "{:width$}  score  state", "unit");
        for unit in units(answer) {
            let _ = writeln!(
                out,
                "{:width$}  {:>5}  {}",
                string(&unit["unit"]),
                unit["score"],
                state(unit)
            );
        }
        for unit in units(answer).filter(|unit| unit["differs"] != 0) {
            let _ = write!(
                out,
                "\n{}\n{}",
                string(&unit["unit"]),
                table(unit, |row| row["state"] == "differs")
            );
        }
        return out;
    }
    for unit in units(answer) {
        let (name, score) = (string(&unit["unit"]), &unit["score"]);
        let _ = writeln!(out, "{name}: score {score} of 10 (0 is tight), {}\n", state(unit));
        out += &table(unit, |_| true);
        let exceptions = unit["exceptions"].as_array().map_or(&[][..], Vec::as_slice);
        if !exceptions.is_empty() {
            out += "\nGranted beyond the default:\n";
        }
        for exception in exceptions {
            let _ = writeln!(
                out,
                "  {}: {}",
                string(&exception["what"]),
                string(&exception["reason"])
            );
        }
    }
    out
}

fn units(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["units"].as_array().into_iter().flatten()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn state(unit: &Value) -> String {
    match (unit["processes"].as_u64(), unit["differs"].as_u64()) {
        (Some(0), _) => "not running: nothing to compare".into(),
        (_, Some(0)) => "all as declared".into(),
        (_, Some(1)) => "1 item DIFFERS".into(),
        (_, Some(count)) => format!("{count} items DIFFER"),
        _ => "unknown".into(),
    }
}

/// Long lists wrap below their own column, so that the others stay readable.
fn table(unit: &Value, which: impl Fn(&Value) -> bool) -> String {
    const WIDTH: usize = 34;
    let mut out = String::new();
    let rows = unit["rows"].as_array().into_iter().flatten().filter(|row| which(row));
    for row in rows {
        let state = match string(&row["state"]) {
            "ok" => "ok",
            "not-shown" => "not shown",
            _ => "DIFFERS",
        };
        let (declared, found) = (
            wrap(string(&row["declared"]), WIDTH),
            wrap(string(&row["in_force"]), WIDTH),
        );
        for line in 0..declared.len().max(found.len()) {
            let of = |column: &[String]| column.get(line).cloned().unwrap_or_default();
            let (item, state) = if line == 0 {
                (string(&row["item"]), state)
            } else {
                ("", "")
            };
            let text = format!("  {item:26}  {:WIDTH$}  {:WIDTH$}  {state}", of(&declared), of(&found));
            let _ = writeln!(out, "{}", text.trim_end());
        }
    }
    out
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(state: &str, differs: u64) -> Value {
        let row = json!({"item": "ports", "declared": "tcp 443", "in_force": "tcp 22, tcp 443", "state": state});
        let unit = json!({"unit": "web", "processes": 1, "score": 0.4, "rows": [row], "differs": differs,
            "exceptions": [{"what": "capability kill", "reason": "to stop others"}]});
        json!({ "units": [unit] })
    }

    #[test]
    fn a_difference_is_seen_in_the_table_and_the_exit_code() {
        let bad = answer("differs", 1);
        assert!(differs(&bad) && !differs(&answer("ok", 0)));
        for whole in [true, false] {
            let text = text(&bad, whole);
            let line = text.lines().find(|line| line.contains("ports")).unwrap();
            assert!(line.contains("tcp 22, tcp 443") && line.ends_with("DIFFERS"), "{text}");
        }
        assert!(!text(&answer("ok", 0), false).contains("ports"));
        // An answer of another shape is no proof of anything.
        assert!(differs(&json!({"units": [{}]})));
    }

    #[test]
    fn a_unit_on_its_own_shows_every_row_and_each_exception_with_its_reason() {
        let text = text(&answer("ok", 0), true);
        assert!(
            text.contains("score 0.4 of 10") && text.contains("all as declared"),
            "{text}"
        );
        assert!(
            text.contains("ports") && text.contains("capability kill: to stop others"),
            "{text}"
        );
    }

    #[test]
    fn no_line_of_a_column_is_wider_than_it() {
        let lines = wrap("/dev/shm, /proc, /run, /tmp, /var/lib/mysql, /run/mysqld", 20);
        assert!(
            lines.len() > 2 && lines.iter().all(|line| line.len() <= 20),
            "{lines:?}"
        );
        assert_eq!(wrap("", 20), [""]);
    }
}

//! What is wrong with a file, where, and what to do: one shape for syntax, unknown keys and broken rules.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::values::Name;

/// One thing wrong in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// Line and column, both from 1; `None` where the whole file is meant.
    pub at: Option<(usize, usize)>,
    /// The line itself, for showing it.
    pub line: Option<String>,
    /// How many columns the marked part is wide, at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some((line, column)), Some(text)) = (self.at, &self.line) {
            let number = line.to_string();
            let pad = " ".repeat(number.len());
            let before: String = text
                .chars()
                .take(column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(
                f,
                "\n {number} | {text}\n {pad} | {before}{}",
                "^".repeat(self.width.max(1))
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything wrong that one pass found; never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok(value)` if nothing was found, otherwise the findings.
    pub fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems(vec![problem])
    }
}

impl From<Box<Problem>> for Problems {
    fn from(problem: Box<Problem>) -> Self {
        Problems(vec![*problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
impl std::error::Error for Problems {}

/// A file's name and text, from which problems are located.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// The text.
    pub text: String,
}

impl Source {
    /// Reads the unit `name` of the folder `units`. An instance `worker@1` is the file `worker@.toml` with `1` for each `%i` (and `%`
    /// for each `%%`).
    pub fn unit(units: &Path, name: &Name) -> Result<Source, Box<Problem>> {
        let Some(instance) = name.instance() else {
            return Source::read(&units.join(format!("{name}.toml")));
        };
        let mut source = Source::read(&units.join(format!("{}@.toml", name.template())))?;
        source.text = filled(&source.text, instance);
        Ok(source)
    }

    /// Reads `file`; the error says what could not be read and why.
    pub fn read(file: &Path) -> Result<Source, Box<Problem>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Source {
                file: file.to_owned(),
                text,
            }),
            Err(error) => {
                let help = match error.kind() {
                    std::io::ErrorKind::NotFound => similar_file(file),
                    _ => None,
                };
                let message = format!("cannot be read: {error}");
                Err(Box::new(Problem {
                    file: file.to_owned(),
                    at: None,
                    line: None,
                    width: 1,
                    message,
                    help,
                }))
            }
        }
    }

    /// A problem at a byte range of the text.
    pub fn problem(&self, span: std::ops::Range<usize>, message: String, help: Option<String>) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let number = before.matches('\n').count() + 1;
        let rest = &self.text[line_start..];
        let line = rest.split('\n').next().unwrap_or("").trim_end_matches('\r').to_owned();
        let column = before[line_start..].chars().count() + 1;
        // What begins at the carriage return of a line's end lies behind the line that is shown.
        let end = span.end.min(line_start + line.len()).max(start);
        let width = self.text.get(start..end).map_or(1, |s| s.chars().count()).max(1);
        Problem {
            file: self.file.clone(),
            at: Some((number, column)),
            line: Some(line),
            width,
            message,
            help,
        }
    }

    /// A problem at the value of a key, given as a path of keys (`["needs", "db"]`). Array elements are
    /// addressed by their decimal index. Where a key is absent the nearest enclosing table is marked.
    pub fn problem_at(&self, path: &[&str], message: String, help: Option<String>) -> Problem {
        match self.span_of(path) {
            Some(span) => self.problem(span, message, help),
            None => Problem {
                file: self.file.clone(),
                at: None,
                line: None,
                width: 1,
                message,
                help,
            },
        }
    }

    fn span_of(&self, path: &[&str]) -> Option<std::ops::Range<usize>> {
        let table = toml::de::DeTable::parse(&self.text).ok()?;
        let mut found = None;
        let mut table_ref = Some(table.get_ref());
        let mut value: Option<&toml::de::DeValue<'_>> = None;
        for key in path {
            let next = match (table_ref, value) {
                (Some(t), _) => t.iter().find(|(k, _)| k.get_ref() == *key).map(|(k, v)| (k.span(), v)),
                (None, Some(toml::de::DeValue::Array(items))) => key
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| items.get(i))
                    .map(|v| (v.span(), v)),
                _ => None,
            };
            let Some((span, v)) = next else { break };
            found = Some(
                if v.span().is_empty() || matches!(v.get_ref(), toml::de::DeValue::Table(_)) {
                    span
                } else {
                    v.span()
                },
            );
            value = Some(v.get_ref());
            table_ref = match v.get_ref() {
                toml::de::DeValue::Table(t) => Some(t),
                _ => None,
            };
        }
        found
    }

    /// Parses the text as `T`; unknown keys are refused with the nearest known key as a suggestion.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Box<Problem>> {
        toml::from_str(&self.text).map_err(|error| {
            let message = error.message().trim().to_owned();
            let help = suggestion(&message);
            let message = match message.split_once(", expected") {
                Some((head, _)) if message.starts_with("unknown ") => head.replace("unknown field", "unknown key"),
                _ => message,
            };
            Box::new(self.problem(error.span().unwrap_or(0..0), message, help))
        })
    }
}

/// For serde's "unknown field `x`, expected one of `a`, `b`": the nearest of the known ones, or all of them.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let (head, tail) = message.split_once(", expected")?;
    let quoted = |s: &str| s.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let wrong = quoted(head).into_iter().next()?;
    let known = quoted(tail);
    Some(match nearest(&wrong, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "this table takes no keys".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// The candidate nearest to `wrong` by edit distance, if it is near enough to be meant.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (distance(wrong, c), c))
        .filter(|(d, c)| *d <= 1 + wrong.len().min(c.len()) / 4)
        .min()
        .map(|(_, c)| c)
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// A template's text with its instance's name in it.
fn filled(template: &str, instance: &str) -> String {
    let mut parts = template.split("%%");
    let first = parts.next().unwrap_or_default().replace("%i", instance);
    parts.fold(first, |text, part| format!("{text}%{}", part.replace("%i", instance)))
}

fn similar_file(file: &Path) -> Option<String> {
    let stem = file.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(file.parent()?)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    nearest(stem, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instances_name_is_filled_in_and_a_doubled_sign_is_one() {
        assert_eq!(filled("a %i b %%i %%%i", "7"), "a 7 b %i %7");
    }

    #[test]
    fn what_is_wrong_at_the_end_of_a_line_with_a_carriage_return_is_shown() {
        let source = Source {
            file: "x.toml".into(),
            text: "description = \"x\r\n[service]\r\n".into(),
        };
        let problem = source.parse::<crate::Unit>().unwrap_err();
        assert_eq!(problem.at.map(|(line, _)| line), Some(1));
        for start in 0..=source.text.len() + 1 {
            let problem = source.problem(start..start + 3, "x".into(), None);
            assert!(problem.width >= 1 && problem.to_string().contains(" | "), "{start}");
        }
    }
}

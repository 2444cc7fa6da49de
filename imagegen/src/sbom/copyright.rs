//! Debian's machine-readable copyright files (copyright format 1.0, known as DEP-5) as SPDX licence expressions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a package's copyright file says, in SPDX's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct License {
    /// An SPDX licence expression; none where the file is not machine-readable or there is none.
    pub expression: Option<String>,
    /// The texts of licences that SPDX has no identifier for, by the `LicenseRef-` used in the expression.
    pub references: BTreeMap<String, String>,
}

const TABLE: &str = include_str!("licenses.tsv");

/// SPDX's identifier for a Debian short name.
fn identifier(name: &str) -> Option<&'static str> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .find(|(debian, _)| debian.eq_ignore_ascii_case(name))
        .map(|(_, spdx)| spdx)
}

/// Reads a copyright file. A file of any other form gives no expression, which says: not known.
///
/// The expression joins with AND what every `Files` paragraph states, since a package may hold files of each.
pub fn read_copyright(text: &str) -> License {
    let paragraphs = paragraphs(text);
    let machine = paragraphs
        .first()
        .and_then(|p| p.get("format"))
        .is_some_and(|f| f.contains("copyright-format"));
    if !machine {
        return License::default();
    }
    let texts: BTreeMap<&str, &str> = paragraphs
        .iter()
        .filter_map(|p| p.get("license")?.split_once('\n'))
        .map(|(n, t)| (n.trim(), t))
        .collect();
    let mut license = License::default();
    let mut parts: Vec<String> = Vec::new();
    for statement in paragraphs
        .iter()
        .filter(|p| p.contains_key("files"))
        .filter_map(|p| p.get("license"))
    {
        let short = statement.lines().next().unwrap_or_default().trim();
        if short.is_empty() {
            continue;
        }
        for part in conjuncts(&expression(short, &texts, &mut license.references)) {
            if !parts.iter().any(|known| known == part) {
                parts.push(part.to_owned());
            }
        }
    }
    parts.sort();
    let several = parts.len() > 1;
    let wrap = |p: &String| {
        if several && p.contains(" OR ") {
            format!("({p})")
        } else {
            p.clone()
        }
    };
    license.expression = Some(parts.iter().map(wrap).collect::<Vec<_>>().join(" AND ")).filter(|e| !e.is_empty());
    license
}

/// What an expression joins with AND outermost; the whole where it joins with OR, and without parentheses around all of a
/// part.
fn conjuncts(expression: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in expression.char_indices() {
        let here = &expression[at..];
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && here.starts_with(" OR ") => return vec![expression],
            ' ' if depth == 0 && here.starts_with(" AND ") => {
                parts.push(&expression[start..at]);
                start = at + " AND ".len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    let bare = |part: &'_ str| part.starts_with('(') && part.ends_with(')') && !part[1..].contains('(');
    parts
        .into_iter()
        .map(|part| if bare(part) { &part[1..part.len() - 1] } else { part })
        .collect()
}

/// The fields of each paragraph, by lower case name. Continuation lines keep their line ends; a line of a single dot
/// is an empty one.
fn paragraphs(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut all: Vec<BTreeMap<String, String>> = vec![BTreeMap::new()];
    let mut field = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            if all.last().is_some_and(|p| !p.is_empty()) {
                all.push(BTreeMap::new());
            }
            field.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = all.last_mut().and_then(|p| p.get_mut(&field)) {
                value.push('\n');
                value.push_str(if line.trim() == "." { "" } else { line.trim() });
            }
        } else if let Some((name, value)) = line.split_once(':') {
            field = name.trim().to_ascii_lowercase();
            if let Some(paragraph) = all.last_mut() {
                paragraph.insert(field.clone(), value.trim().to_owned());
            }
        }
    }
    all
}

/// A `License` line as an expression. `and` binds closer than `or`; a comma before either makes it bind last.
fn expression(line: &str, texts: &BTreeMap<&str, &str>, references: &mut BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (i, group) in line.split(',').map(str::trim).filter(|g| !g.is_empty()).enumerate() {
        let (joint, group) = match group.split_once(' ') {
            Some((word, rest)) if word.eq_ignore_ascii_case("and") => ("AND", rest),
            Some((word, rest)) if word.eq_ignore_ascii_case("or") => ("OR", rest),
            _ => ("AND", group),
        };
        let inner = group_expression(group, texts, references);
        if i == 0 {
            out = inner;
        } else {
            let wrap = |e: String| {
                if e.contains(" OR ") || e.contains(" AND ") {
                    format!("({e})")
                } else {
                    e
                }
            };
            out = format!("{} {joint} {}", wrap(out), wrap(inner));
        }
    }
    out
}

fn group_expression(group: &str, texts: &BTreeMap<&str, &str>, references: &mut BTreeMap<String, String>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut name: Vec<&str> = Vec::new();
    let mut flush = |name: &mut Vec<&str>, words: &mut Vec<String>| {
        if !name.is_empty() {
            words.push(single(&name.join(" "), texts, references));
            name.clear();
        }
    };
    for word in group.split_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            joint @ ("and" | "or") => {
                flush(&mut name, &mut words);
                words.push(joint.to_ascii_uppercase());
            }
            // Some files write `GPL-1+ | Artistic`.
            "|" => {
                flush(&mut name, &mut words);
                words.push("OR".into());
            }
            _ => name.push(word),
        }
    }
    flush(&mut name, &mut words);
    while words.last().is_some_and(|w| w == "AND" || w == "OR") {
        words.pop();
    }
    words.join(" ")
}

/// One licence: SPDX's identifier, or a reference with the text that the file gives.
fn single(name: &str, texts: &BTreeMap<&str, &str>, references: &mut BTreeMap<String, String>) -> String {
    let bare = name.split(" with ").next().unwrap_or(name);
    if let Some(known) = identifier(name) {
        return known.to_owned();
    }
    let clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let reference = format!("LicenseRef-{}", clean.trim_matches('-'));
    let text = texts
        .get(name)
        .or_else(|| texts.get(bare))
        .map(|t| t.trim())
        .filter(|t| !t.is_empty());
    references.insert(reference.clone(), text.unwrap_or(name).to_owned());
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    fn read(rest: &str) -> License {
        read_copyright(&format!("{HEAD}{rest}"))
    }

    #[test]
    fn prose_states_no_licence() {
        let prose = "This package was debianized by A. Person. It is licensed under the GPL-2, see common-licenses.";
        assert_eq!(read_copyright(prose), License::default());
    }

    #[test]
    fn short_names_become_spdx_identifiers() {
        let license = read("Files: *\nCopyright: A\nLicense: GPL-2+\n text\n");
        assert_eq!(license.expression.as_deref(), Some("GPL-2.0-or-later"));
        assert!(license.references.is_empty());
    }

    #[test]
    fn every_files_paragraph_counts_once() {
        let license = read(
            "Files: *\nLicense: Expat\n\nFiles: b\nLicense: GPL-1+ or Artistic\n\nFiles: c\nLicense: Expat\n\nLicense: Expat\n t\n",
        );
        assert_eq!(
            license.expression.as_deref(),
            Some("(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT")
        );
    }

    #[test]
    fn a_licence_that_several_paragraphs_join_is_named_once() {
        let license = read(
            "Files: *\nLicense: Apache-2.0\n\nFiles: b\nLicense: Apache-2.0 and BSD-3-clause\n\n\
             Files: c\nLicense: GPL-2+ or Artistic-2.0, and Apache-2.0\n",
        );
        assert_eq!(
            license.expression.as_deref(),
            Some("Apache-2.0 AND BSD-3-Clause AND (GPL-2.0-or-later OR Artistic-2.0)")
        );
    }

    #[test]
    fn a_licence_without_an_identifier_keeps_its_text() {
        let license = read("Files: *\nLicense: My own (v2)\n\nLicense: My own (v2)\n Do what\n .\n you like.\n");
        assert_eq!(license.expression.as_deref(), Some("LicenseRef-My-own--v2"));
        assert_eq!(license.references["LicenseRef-My-own--v2"], "Do what\n\nyou like.");
    }

    #[test]
    fn an_exception_is_mapped_only_where_spdx_has_it() {
        let license = read("Files: *\nLicense: GPL-2+ with Autoconf exception\n");
        assert_eq!(
            license.expression.as_deref(),
            Some("GPL-2.0-or-later WITH Autoconf-exception-2.0")
        );
        let license = read("Files: *\nLicense: GPL-2+ with OpenSSL exception\n");
        assert_eq!(
            license.expression.as_deref(),
            Some("LicenseRef-GPL-2--with-OpenSSL-exception")
        );
    }

    #[test]
    fn a_comma_binds_last() {
        let license = read("Files: *\nLicense: GPL-2+ or Artistic-2.0, and BSD-3-clause\n");
        assert_eq!(
            license.expression.as_deref(),
            Some("BSD-3-Clause AND (GPL-2.0-or-later OR Artistic-2.0)")
        );
    }
}

//! The lines of a unit file, by systemd.syntax(7): sections, directives, comments, and lines that go on.

/// A directive with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line, from 1, at which it begins.
    pub(crate) number: usize,
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A line that is none of what a unit file can hold: its number and text.
pub(crate) type Odd = (usize, String);

/// Reads a file. A line that ends with `\` goes on with the next one, the two joined by a blank; comments in between are left out.
pub(crate) fn read(text: &str) -> (Vec<Line>, Vec<Odd>) {
    let (mut lines, mut odd) = (Vec::new(), Vec::new());
    let mut section = String::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let raw = raw.trim_end_matches('\r');
        if raw.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (number, mut logical) = open.take().unwrap_or((index + 1, String::new()));
        // An escaped backslash at the end does not continue the line.
        let slashes = raw.len() - raw.trim_end_matches('\\').len();
        if slashes % 2 == 1 {
            logical.push_str(&raw[..raw.len() - 1]);
            logical.push(' ');
            open = Some((number, logical));
            continue;
        }
        logical.push_str(raw);
        logical_line(number, logical.trim(), &mut section, &mut lines, &mut odd);
    }
    if let Some((number, logical)) = open {
        logical_line(number, logical.trim(), &mut section, &mut lines, &mut odd);
    }
    (lines, odd)
}

fn logical_line(number: usize, text: &str, section: &mut String, lines: &mut Vec<Line>, odd: &mut Vec<Odd>) {
    if text.is_empty() {
        return;
    }
    if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        *section = name.to_owned();
        return;
    }
    match text.split_once('=') {
        Some((key, value)) if !section.is_empty() && !key.trim().is_empty() => lines.push(Line {
            number,
            section: section.clone(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        }),
        _ => odd.push((number, text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(usize, String, String)> {
        let lines = read(text).0.into_iter();
        lines
            .map(|l| (l.number, format!("{}.{}", l.section, l.key), l.value))
            .collect()
    }

    #[test]
    fn a_line_that_ends_with_a_backslash_goes_on_and_comments_in_between_are_left_out() {
        // The example of systemd.syntax(7).
        let text = "[Section A]\nKeyOne=value 1\nKeyTwo=value 2\n\n# a comment\n\n[Section B]\nSetting=\"something\" \"some thing\" \"\"\n\
                    KeyTwo=value 2 \\\n       value 2 continued\n\n[Section C]\nKeyThree=value 3\\\n# this line is ignored\n; this line is ignored too\n       \
                    value 3 continued\n";
        let found = values(text);
        assert_eq!(found[0], (2, "Section A.KeyOne".into(), "value 1".into()));
        assert_eq!(found[3].0, 9);
        assert_eq!(
            found[3].2.split_whitespace().collect::<Vec<_>>().join(" "),
            "value 2 value 2 continued"
        );
        assert_eq!(found[4].0, 13);
        assert_eq!(
            found[4].2.split_whitespace().collect::<Vec<_>>().join(" "),
            "value 3 value 3 continued"
        );
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_line_that_is_no_directive_is_told() {
        let (lines, odd) = read("Before=any\n[Unit]\nnonsense\nAfter = a\n");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].key, "After");
        assert_eq!(odd, [(1, "Before=any".to_owned()), (3, "nonsense".to_owned())]);
    }
}

//! Control files (deb822): a stanza is a slice of the text, and fields are found in it without copying.

/// One paragraph of a control file.
#[derive(Debug, Clone, Copy)]
pub struct Stanza<'a>(pub &'a str);

impl<'a> Stanza<'a> {
    /// The value of the field, without the space around it; continuation lines are part of it.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.fields()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let (field, after) = split_field(rest);
                rest = after;
                if let Some((key, value)) = field.split_once(':') {
                    return Some((key, value.trim()));
                }
            }
        })
    }
}

/// The paragraphs of a control file.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('\n');
        if rest.is_empty() {
            return None;
        }
        let (stanza, after) = match rest.find("\n\n") {
            Some(at) => (&rest[..at + 1], &rest[at + 2..]),
            None => (rest, ""),
        };
        rest = after;
        Some(Stanza(stanza))
    })
}

/// The first field with its continuation lines, and the rest.
fn split_field(text: &str) -> (&str, &str) {
    let mut from = 0;
    loop {
        let Some(at) = text[from..].find('\n') else {
            return (text, "");
        };
        let next = from + at + 1;
        match text.as_bytes().get(next) {
            Some(b' ' | b'\t') => from = next,
            _ => return (&text[..next - 1], &text[next..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_continue_and_stanzas_end_at_an_empty_line() {
        let text = "Package: a\nDepends: b,\n c (>= 1)\nVersion: 1\n\n\nPackage: d\n";
        let all: Vec<_> = stanzas(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].field("depends"), Some("b,\n c (>= 1)"));
        assert_eq!(all[0].field("Version"), Some("1"));
        assert_eq!(all[1].field("Package"), Some("d"));
        assert_eq!(all[1].field("Version"), None);
    }
}

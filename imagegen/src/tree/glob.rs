//! Patterns over paths: `*` stands for any characters but `/`, `**` for any characters, `?` for one that is not `/`.
//! Everything else stands for itself.

use std::fmt;

/// A parsed pattern over absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    One,
    Segment,
    Any,
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a pattern over paths: it must start with `/`")]
pub struct GlobError(String);

impl Glob {
    /// Parses a pattern; it must start with `/`.
    pub fn new(text: &str) -> Result<Glob, GlobError> {
        if !text.starts_with('/') {
            return Err(GlobError(text.to_owned()));
        }
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let part = match byte {
                b'*' if bytes.peek() == Some(&b'*') => {
                    while bytes.peek() == Some(&b'*') {
                        bytes.next();
                    }
                    Part::Any
                }
                b'*' => Part::Segment,
                b'?' => Part::One,
                _ => {
                    literal.push(byte);
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Glob {
            text: text.to_owned(),
            parts,
        })
    }

    /// Whether the pattern stands for this absolute path.
    pub fn matches(&self, path: &str) -> bool {
        matches(&self.parts, path.as_bytes())
    }

    /// The constant start of every path that the pattern can stand for.
    pub fn prefix(&self) -> &str {
        let end = self.text.find(['*', '?']).unwrap_or(self.text.len());
        &self.text[..end]
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn matches(parts: &[Part], path: &[u8]) -> bool {
    match parts {
        [] => path.is_empty(),
        [Part::Literal(text), rest @ ..] => path.strip_prefix(text.as_slice()).is_some_and(|p| matches(rest, p)),
        [Part::One, rest @ ..] => path.first().is_some_and(|b| *b != b'/') && matches(rest, &path[1..]),
        [Part::Any] => true,
        [star @ (Part::Segment | Part::Any), rest @ ..] => {
            let end = match star {
                Part::Segment => path.iter().position(|b| *b == b'/').unwrap_or(path.len()),
                _ => path.len(),
            };
            (0..=end).any(|skip| matches(rest, &path[skip..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    fn is(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).unwrap().matches(path)
    }

    #[test]
    fn one_star_stays_in_its_folder() {
        assert!(is("/usr/share/doc/*/copyright", "/usr/share/doc/bash/copyright"));
        assert!(!is(
            "/usr/share/doc/*/copyright",
            "/usr/share/doc/bash/examples/copyright"
        ));
        assert!(is("/etc/cron.*/**", "/etc/cron.daily/dpkg"));
        assert!(is("/a*", "/a"));
        assert!(!is("/a*", "/a/b"));
    }

    #[test]
    fn two_stars_cross_folders() {
        assert!(is("/usr/share/man/**", "/usr/share/man/de/man1/ls.1.gz"));
        assert!(!is("/usr/share/man/**", "/usr/share/man"));
        assert!(is("/usr/lib/**.a", "/usr/lib/x86_64-linux-gnu/libc.a"));
        assert!(!is("/usr/lib/**.a", "/usr/lib/x86_64-linux-gnu/libc.a.so"));
    }

    #[test]
    fn other_characters_stand_for_themselves() {
        assert!(is("/usr/bin/[", "/usr/bin/["));
        assert!(!is("/usr/lib/x.a", "/usr/lib/xqa"));
        assert!(is("/a?c", "/abc"));
        assert!(!is("/a?c", "/a/c"));
    }

    #[test]
    fn a_relative_pattern_is_refused() {
        assert!(Glob::new("usr/share").is_err());
    }
}

//! Splitting a value into words: quotes and escapes, by "Quoting" of systemd.syntax(7).

use std::iter::Peekable;
use std::str::Chars;

/// A value that cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A quote is opened and not closed.
    Quote,
    /// A numeric escape without its digits, or of no character.
    Escape,
}

impl Wrong {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Wrong::Quote => "a quote is not closed",
            Wrong::Escape => "a numeric escape is not complete, or is no ASCII character",
        }
    }
}

/// A word, and whether it was a bare `;`, which parts commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) separator: bool,
}

/// The words of a value. Blanks part them; quotes hold blanks and are removed; C escapes and `\s` are resolved, in quotes too.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Wrong> {
    Ok(parts(text)?.into_iter().map(|part| part.text).collect())
}

/// The words of a value, with the bare `;` told from other words.
pub(crate) fn parts(text: &str) -> Result<Vec<Part>, Wrong> {
    let mut out = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(out);
        }
        if literal_semicolon(&rest) {
            rest.nth(1);
            out.push(Part {
                text: ";".into(),
                separator: false,
            });
            continue;
        }
        let (mut word, mut quote, mut plain) = (String::new(), None, true);
        while let Some(c) = rest.next_if(|c| quote.is_some() || !c.is_whitespace()) {
            match c {
                '\\' => {
                    plain = false;
                    escape(&mut rest, &mut word)?;
                }
                '"' | '\'' if quote.is_none() => (quote, plain) = (Some(c), false),
                c if quote == Some(c) => quote = None,
                c => word.push(c),
            }
        }
        if quote.is_some() {
            return Err(Wrong::Quote);
        }
        let separator = plain && word == ";";
        out.push(Part { text: word, separator });
    }
}

/// Whether the next word is `\;`, a semicolon that does not part commands (systemd.service(5)).
fn literal_semicolon(rest: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = rest.clone();
    ahead.next() == Some('\\') && ahead.next() == Some(';') && ahead.next().is_none_or(char::is_whitespace)
}

/// What follows a `\`. An escape that systemd does not know is kept as it stands, as systemd does.
fn escape(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), Wrong> {
    let Some(letter) = rest.next() else {
        word.push('\\');
        return Ok(());
    };
    let character = match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => letter,
        'x' => number(rest, String::new(), 2, 16)?,
        'u' => number(rest, String::new(), 4, 16)?,
        'U' => number(rest, String::new(), 8, 16)?,
        '0'..='7' => number(rest, letter.to_string(), 3, 8)?,
        other => {
            word.push('\\');
            other
        }
    };
    word.push(character);
    Ok(())
}

fn number(rest: &mut Peekable<Chars<'_>>, mut digits: String, count: usize, radix: u32) -> Result<char, Wrong> {
    while digits.len() < count {
        digits.push(rest.next_if(|c| c.is_digit(radix)).ok_or(Wrong::Escape)?);
    }
    let code = u32::from_str_radix(&digits, radix).map_err(|_| Wrong::Escape)?;
    // `\x` and octal name bytes; above 127 those are parts of a character, and a unit's text holds characters.
    let byte = count < 4 && code > 127;
    char::from_u32(code)
        .filter(|c| *c != '\0' && !byte)
        .ok_or(Wrong::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_blanks_and_go_away() {
        assert_eq!(
            split(r#""something" "some thing" """#).unwrap(),
            ["something", "some thing", ""]
        );
        assert_eq!(split("a 'b \"c' d").unwrap(), ["a", "b \"c", "d"]);
        assert_eq!(split("--x='y z'").unwrap(), ["--x=y z"]);
        assert_eq!(split("a 'b"), Err(Wrong::Quote));
        assert!(split("  ").unwrap().is_empty());
    }

    #[test]
    fn escapes_are_those_of_systemd_syntax() {
        assert_eq!(split(r"\a\b\f\n\r\t\v\\\s").unwrap(), ["\x07\x08\x0c\n\r\t\x0b\\ "]);
        assert_eq!(split(r#"\"\' "a\"b" 'c\'d'"#).unwrap(), ["\"'", "a\"b", "c'd"]);
        assert_eq!(split(r"\x41\101\u00e9\U0001f600").unwrap(), ["AA\u{e9}\u{1f600}"]);
        assert_eq!(split(r"\x4"), Err(Wrong::Escape));
        assert_eq!(split(r"\x00"), Err(Wrong::Escape));
        assert_eq!(split(r"\xff"), Err(Wrong::Escape));
        assert_eq!(
            split(r"a\-b").unwrap(),
            [r"a\-b"],
            "an escape that systemd does not know is kept"
        );
    }

    #[test]
    fn only_a_bare_semicolon_parts_commands() {
        let parted = |text: &str| parts(text).unwrap().iter().map(|p| p.separator).collect::<Vec<_>>();
        assert_eq!(parted("a ; b"), [false, true, false]);
        assert_eq!(parted(r"a \; ';' b;"), [false, false, false, false]);
        assert_eq!(split(r"a \; b").unwrap(), ["a", ";", "b"]);
        assert_eq!(
            split(r"a\;b").unwrap(),
            [r"a\;b"],
            "it is an escape only as a word of its own"
        );
    }
}

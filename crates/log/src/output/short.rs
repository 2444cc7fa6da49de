//! For people: as `journalctl -o short-iso-precise`, a line a record, safe for the terminal.

use std::fmt::Write as _;

use crate::record::Record;
use crate::time::iso_utc;

/// `2026-01-31T23:59:59.123456+00:00 HOST IDENTIFIER[PID]: MESSAGE`, without newline. Whatever could drive a terminal, forge a
/// line or turn the text around is escaped: control characters, bytes that are not UTF-8, line breaks, bidirectional marks.
pub fn short(record: &Record, host: &str) -> String {
    let mut out = iso_utc(record.realtime, 6, "+00:00 ");
    escape(&mut out, host.as_bytes());
    out.push(' ');
    escape(&mut out, record.identifier());
    if let Some(pid) = record.origin.field("SYSLOG_PID") {
        out.push('[');
        escape(&mut out, pid);
        out.push(']');
    }
    out.push_str(": ");
    escape(&mut out, &record.message);
    if record.cut {
        out.push_str(" [the end of this line is missing]");
    }
    out
}

fn escape(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => out.push('\t'),
                '\n' => out.push_str("\\n"),
                c if c.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", c as u32);
                }
                c if c.is_control() || turns(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", c as u32);
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Line and paragraph separators, marks that change the direction of text, and tags that nobody sees.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::tests::record;

    #[test]
    fn a_line_looks_as_people_know_it() {
        let line = short(&record("héllo\tworld".as_bytes()), "box");
        assert_eq!(line, "2026-11-22T08:32:02.123456+00:00 box web: héllo\tworld");
    }

    #[test]
    fn no_log_line_drives_the_terminal_or_forges_another() {
        let line = short(
            &record(b"\x1b[2J\x07\r\nNov 22 root: hi\xff\xc2\x9b31m\xe2\x80\xae"),
            "box",
        );
        assert!(
            line.ends_with(": \\x1b[2J\\x07\\x0d\\nNov 22 root: hi\\xff\\u{9b}31m\\u{202e}"),
            "{line}"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_logged_only_plain_text_comes_out(message: Vec<u8>) {
            let line = short(&record(&message), "box");
            prop_assert!(line.chars().all(|c| c == '\t' || (!c.is_control() && !turns(c))));
        }
    }
}

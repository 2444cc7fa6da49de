//! What comes in through `/dev/log`, and what goes out to a remote syslog.
//!
//! Reading is lenient: whatever does not parse is kept whole as the message. A sender cannot choose the name of a field: what
//! it says of itself stands under fixed names.

mod forward;
mod rfc3164;
mod rfc5424;

pub use forward::{Outgoing, datagram, octet_counted};

use crate::record::{FieldName, Origin, Priority, Stream};

/// A datagram, understood as far as it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Stream, priority, and `SYSLOG_FACILITY`, `SYSLOG_IDENTIFIER`, `SYSLOG_PID`, `SYSLOG_TIMESTAMP` (as sent),
    /// `SYSLOG_HOSTNAME`, `SYSLOG_MSGID` and `SYSLOG_STRUCTURED_DATA` as far as they were said.
    pub origin: Origin,
    /// The rest.
    pub message: &'a [u8],
}

/// Reads a datagram of RFC 5424, of RFC 3164, or of what C libraries really send (no host name). Never fails.
pub fn parse(datagram: &[u8]) -> Datagram<'_> {
    // Senders end with a newline or a zero byte, or both; neither is part of the message.
    let mut text = datagram;
    while let Some((b'\n' | 0, rest)) = text.split_last() {
        text = rest;
    }
    let mut origin = Origin::new(Stream::Syslog, Priority::Notice);
    let Some((value, rest)) = priority(text) else {
        return Datagram { origin, message: text };
    };
    origin.priority = Priority::from_low_bits(value);
    put(&mut origin, "SYSLOG_FACILITY", (value >> 3).to_string().as_bytes());
    let message = match rfc5424::parse(rest, &mut origin) {
        Some(message) => message,
        None => rfc3164::parse(rest, &mut origin),
    };
    Datagram { origin, message }
}

/// `<0>` to `<191>`, and what follows.
fn priority(text: &[u8]) -> Option<(u8, &[u8])> {
    let rest = text.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|b| *b == b'>')?;
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let value: u8 = digits.parse().ok().filter(|v| *v <= 191 && plain)?;
    Some((value, &rest[end + 1..]))
}

/// Adds a field, unless there is nothing to say.
pub(crate) fn put(origin: &mut Origin, name: &str, value: &[u8]) {
    if let (false, Ok(name)) = (value.is_empty(), FieldName::new(name)) {
        origin.fields.push((name, value.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(datagram: &Datagram<'_>) -> Vec<(String, String)> {
        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
        let all = datagram.origin.fields.iter();
        all.map(|(n, v)| (n.as_str().trim_start_matches("SYSLOG_").to_owned(), text(v)))
            .collect()
    }

    fn check(text: &str, priority: Priority, expected: &[(&str, &str)], message: &str) {
        let read = parse(text.as_bytes());
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(fields(&read), expected, "{text}");
        assert_eq!(read.message, message.as_bytes(), "{text}");
        assert_eq!(read.origin.priority, priority, "{text}");
    }

    #[test]
    fn what_c_libraries_send_is_understood() {
        check(
            "<29>Nov  2 08:32:02 slapd[17]: conn=1 op=2\n",
            Priority::Notice,
            &[
                ("FACILITY", "3"),
                ("TIMESTAMP", "Nov  2 08:32:02"),
                ("IDENTIFIER", "slapd"),
                ("PID", "17"),
            ],
            "conn=1 op=2",
        );
        check(
            "<13>Nov 22 08:32:02 logger: a: b\0",
            Priority::Notice,
            &[
                ("FACILITY", "1"),
                ("TIMESTAMP", "Nov 22 08:32:02"),
                ("IDENTIFIER", "logger"),
            ],
            "a: b",
        );
        check(
            "<11>tag: x",
            Priority::Err,
            &[("FACILITY", "1"), ("IDENTIFIER", "tag")],
            "x",
        );
    }

    #[test]
    fn the_examples_of_the_rfcs_are_understood() {
        check(
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            Priority::Crit,
            &[
                ("FACILITY", "4"),
                ("TIMESTAMP", "Oct 11 22:14:15"),
                ("HOSTNAME", "mymachine"),
                ("IDENTIFIER", "su"),
            ],
            "'su root' failed for lonvick on /dev/pts/8",
        );
        check(
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
             eventSource=\"A\\]p\\\"\"][x@1] \u{feff}An application event",
            Priority::Notice,
            &[
                ("FACILITY", "20"),
                ("TIMESTAMP", "2003-10-11T22:14:15.003Z"),
                ("HOSTNAME", "mymachine.example.com"),
                ("IDENTIFIER", "evntslog"),
                ("MSGID", "ID47"),
                (
                    "STRUCTURED_DATA",
                    "[exampleSDID@32473 iut=\"3\" eventSource=\"A\\]p\\\"\"][x@1]",
                ),
            ],
            "An application event",
        );
        check(
            "<34>1 - - su 5 - -",
            Priority::Crit,
            &[("FACILITY", "4"), ("IDENTIFIER", "su"), ("PID", "5")],
            "",
        );
    }

    #[test]
    fn what_does_not_parse_is_the_message() {
        check("no priority", Priority::Notice, &[], "no priority");
        check("<192>x", Priority::Notice, &[], "<192>x");
        check("<+1>x", Priority::Notice, &[], "<+1>x");
        check(
            "<0>two words: no tag",
            Priority::Emerg,
            &[("FACILITY", "0")],
            "two words: no tag",
        );
        check(
            "<14>1 not a time here",
            Priority::Info,
            &[("FACILITY", "1")],
            "1 not a time here",
        );
        check(
            "<14>1 - - - - - [broken",
            Priority::Info,
            &[("FACILITY", "1")],
            "1 - - - - - [broken",
        );
    }

    proptest! {
        #[test]
        fn no_byte_of_a_message_is_lost_whatever_comes(bytes: Vec<u8>, start in prop::sample::select(vec![
            "", "<13>", "<13>Nov 22 08:32:02 ", "<13>1 - - - - - ", "<13>Nov 22 08:32:02 h t[1]: ",
        ])) {
            let all = [start.as_bytes(), &bytes].concat();
            let read = parse(&all);
            let trimmed = all.iter().rposition(|b| !matches!(b, b'\n' | 0)).map_or(0, |n| n + 1);
            prop_assert!(all[..trimmed].ends_with(read.message));
        }
    }
}

//! Records for a remote syslog, in the form of RFC 5424, framed for TCP (RFC 6587, octet counting) or UDP (RFC 5426).

use super::rfc5424::structured_data;
use crate::record::{Record, Stream};
use crate::time::iso_utc;

/// How a record is written for others.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The HOSTNAME of every message.
    pub host: &'a str,
}

impl Outgoing<'_> {
    /// One message of RFC 5424, without framing. The message's bytes are sent as they are; the words before it are made of
    /// printable ASCII and cut to the RFC's lengths.
    pub fn message(&self, record: &Record) -> Vec<u8> {
        let default = match record.origin.stream {
            Stream::Kernel => 0,
            Stream::Stdout | Stream::Stderr | Stream::Syslog | Stream::Manager => 3,
        };
        let said = record
            .origin
            .field("SYSLOG_FACILITY")
            .and_then(|v| std::str::from_utf8(v).ok());
        let facility: u8 = said.and_then(|v| v.parse().ok()).filter(|f| *f < 24).unwrap_or(default);
        let field = |name| record.origin.field(name).unwrap_or_default();
        let mut out = format!("<{}>1 ", facility * 8 + record.origin.priority as u8).into_bytes();
        // RFC 5424 allows six digits of a second.
        out.extend_from_slice(iso_utc(record.realtime, 6, "Z").as_bytes());
        let words: [(&[u8], usize); 4] = [
            (self.host.as_bytes(), 255),
            (record.identifier(), 48),
            (field("SYSLOG_PID"), 128),
            (field("SYSLOG_MSGID"), 32),
        ];
        for (value, longest) in words {
            out.push(b' ');
            put_word(&mut out, value, longest);
        }
        let data = field("SYSLOG_STRUCTURED_DATA");
        out.push(b' ');
        match structured_data(data) == Some(data.len()) {
            true => out.extend_from_slice(data),
            false => out.push(b'-'),
        }
        if !record.message.is_empty() {
            out.push(b' ');
            out.extend_from_slice(&record.message);
        }
        out
    }
}

fn put_word(out: &mut Vec<u8>, value: &[u8], longest: usize) {
    match value.is_empty() {
        true => out.push(b'-'),
        false => out.extend(value.iter().take(longest).map(|b| match b.is_ascii_graphic() {
            true => *b,
            false => b'_',
        })),
    }
}

/// A message for a TCP stream: its length, a space, itself (RFC 6587, 3.4.1). Any bytes can be in it.
pub fn octet_counted(message: &[u8]) -> Vec<u8> {
    let mut out = format!("{} ", message.len()).into_bytes();
    out.extend_from_slice(message);
    out
}

/// A message for UDP: at most `longest` bytes, cut between characters where it is UTF-8 (RFC 5424, 6.1). RFC 5426 says that 480
/// bytes always arrive over IPv4, 1,180 over IPv6, and 2,048 should.
pub fn datagram(message: &[u8], longest: usize) -> &[u8] {
    if message.len() <= longest {
        return message;
    }
    let continues = |at: usize| message.get(at).is_some_and(|b| b & 0xc0 == 0x80);
    let back = (0..4.min(longest)).find(|back| !continues(longest - back)).unwrap_or(0);
    &message[..longest - back]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::record::{BootId, Origin, Priority, Seq};
    use crate::syslog::parse;

    fn record(origin: Origin, message: &[u8]) -> Record {
        Record {
            seq: Seq(1),
            realtime: 1_065_910_455_003_000_999,
            monotonic: 0,
            boot: BootId::default(),
            unit: "web".into(),
            origin: Arc::new(origin),
            message: message.to_vec(),
            cut: false,
        }
    }

    #[test]
    fn a_line_of_a_service_goes_out_in_the_form_of_the_rfc() {
        let record = record(Origin::new(Stream::Stdout, Priority::Err), b"failed");
        let message = Outgoing { host: "box" }.message(&record);
        assert_eq!(message, b"<27>1 2003-10-11T22:14:15.003000Z box web - - - failed");
        assert!(octet_counted(&message).starts_with(b"54 <27>1 "));
        assert_eq!(datagram("aé".as_bytes(), 2), b"a");
        assert_eq!(datagram(b"abc", 2), b"ab");
    }

    proptest! {
        #[test]
        fn what_came_in_goes_out_the_same(message in "[a-z][^\0\n]*[a-z]", tag in "[a-z]{1,20}", pid in 1_u32.., value in 0_u8..192) {
            let sent = format!("<{value}>1 2003-10-11T22:14:15.003000Z box {tag} {pid} - [a@1 b=\"\\\"c\\]\"] {message}");
            let read = parse(sent.as_bytes());
            let out = Outgoing { host: "box" }.message(&record(read.origin, read.message));
            prop_assert_eq!(String::from_utf8_lossy(&out), sent);
        }

        #[test]
        fn no_record_breaks_out_of_its_message(tag: Vec<u8>, pid: Vec<u8>, data: Vec<u8>, message: Vec<u8>) {
            let mut origin = Origin::new(Stream::Syslog, Priority::Info);
            for (name, value) in [("SYSLOG_IDENTIFIER", &tag), ("SYSLOG_PID", &pid), ("SYSLOG_STRUCTURED_DATA", &data)] {
                crate::syslog::put(&mut origin, name, value);
            }
            let out = Outgoing { host: "box" }.message(&record(origin, &message));
            let start = b"<30>1 2003-10-11T22:14:15.003000Z box ";
            prop_assert!(out.starts_with(start));
            let words = out[start.len()..].splitn(4, |b| *b == b' ').take(3);
            prop_assert!(words.flatten().all(u8::is_ascii_graphic));
            prop_assert!(out.ends_with(&message));
        }
    }
}

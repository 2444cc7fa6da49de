//! RFC 5424: version, time, host, program, process, message id, structured data, message.

use super::put;
use crate::record::Origin;

/// Reads what follows the priority; `None`, and nothing added, if it is not of this form.
pub(super) fn parse<'a>(text: &'a [u8], origin: &mut Origin) -> Option<&'a [u8]> {
    let mut rest = text.strip_prefix(b"1 ")?;
    let mut words = [&b""[..]; 5];
    for word in &mut words {
        let end = rest.iter().position(|b| *b == b' ')?;
        let (found, after) = rest.split_at(end);
        if found.is_empty() || found.len() > 255 || !found.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        (*word, rest) = (found, &after[1..]);
    }
    let [time, ..] = words;
    let dated = time == b"-" || (time.len() >= 20 && time[4] == b'-' && time[10] == b'T');
    let data = structured_data(rest)?;
    let (said, rest) = rest.split_at(data);
    let message = match rest {
        [] => rest,
        [b' ', message @ ..] => message,
        _ => return None,
    };
    if !dated {
        return None;
    }
    let names = [
        "SYSLOG_TIMESTAMP",
        "SYSLOG_HOSTNAME",
        "SYSLOG_IDENTIFIER",
        "SYSLOG_PID",
        "SYSLOG_MSGID",
        "SYSLOG_STRUCTURED_DATA",
    ];
    for (name, value) in names.into_iter().zip(words.into_iter().chain([said])) {
        if value != b"-" {
            put(origin, name, value);
        }
    }
    // A byte order mark says that the message is UTF-8; it is not part of it.
    Some(message.strip_prefix("\u{feff}".as_bytes()).unwrap_or(message))
}

/// The length of the structured data at the front: `-`, or elements in brackets, where `]` in a quoted value is escaped.
pub(super) fn structured_data(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'-') {
        return Some(1);
    }
    let mut at = 0;
    while text.get(at) == Some(&b'[') {
        let mut quoted = false;
        at += 1;
        loop {
            match text.get(at)? {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                b'\n' if !quoted => return None,
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    (at > 0).then_some(at)
}

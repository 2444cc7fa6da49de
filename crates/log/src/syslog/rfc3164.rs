//! RFC 3164, which describes what was found in the wild: an optional time, an optional host, an optional tag.

use super::put;
use crate::record::Origin;

/// Longer words are no tag and no host. (The RFC says 32, programs do not.)
const LONGEST_WORD: usize = 128;

/// Reads what follows the priority, and returns the message.
pub(super) fn parse<'a>(text: &'a [u8], origin: &mut Origin) -> &'a [u8] {
    let mut rest = text;
    if let Some(after) = timestamp(rest) {
        put(origin, "SYSLOG_TIMESTAMP", &rest[..after - 1]);
        rest = &rest[after..];
        // Only after a time is a word without a colon a host, and only if a tag follows.
        if tag(rest).is_none()
            && let Some(space) = rest.iter().take(LONGEST_WORD).position(|b| *b == b' ')
            && space > 0
            && rest[..space].iter().all(|b| b.is_ascii_graphic() && !b"[]".contains(b))
            && tag(&rest[space + 1..]).is_some()
        {
            put(origin, "SYSLOG_HOSTNAME", &rest[..space]);
            rest = &rest[space + 1..];
        }
    }
    let Some((name, pid, message)) = tag(rest) else {
        return rest;
    };
    put(origin, "SYSLOG_IDENTIFIER", name);
    put(origin, "SYSLOG_PID", pid);
    message
}

/// The length of `Mmm dd hh:mm:ss ` at the front.
fn timestamp(text: &[u8]) -> Option<usize> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
    ];
    let head = text.get(..16)?;
    let shape = head.iter().zip(b"Mmm  0 00:00:00 ").skip(3);
    let fits = shape.clone().all(|(byte, like)| match like {
        b'0' => byte.is_ascii_digit(),
        other => byte == other || (*other == b' ' && byte.is_ascii_digit()),
    });
    let spaces = head[3] == b' ' && head[6] == b' ' && head[15] == b' ';
    let day = (head[4] == b' ' || head[4].is_ascii_digit()) && head[5].is_ascii_digit();
    (fits && spaces && day && MONTHS.iter().any(|m| head.starts_with(*m))).then_some(16)
}

/// `name: `, `name[pid]: `: the name, the pid and what follows.
fn tag(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let word = text.iter().take(LONGEST_WORD).position(|b| b": [".contains(b))?;
    let (name, rest) = text.split_at(word);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let (pid, rest) = match rest.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().take(LONGEST_WORD).position(|b| *b == b']')?;
            (&rest[..end], &rest[end + 1..])
        }
        None => (&b""[..], rest),
    };
    let rest = rest.strip_prefix(b":")?;
    let digits = pid.iter().all(u8::is_ascii_digit);
    // A colon inside a word (an address, a URL) ends no tag.
    let ends = rest.is_empty() || rest.starts_with(b" ");
    (digits && ends).then(|| (name, pid, rest.strip_prefix(b" ").unwrap_or(rest)))
}

//! Records of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg of the kernel):
//! `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT` and then lines ` KEY=VALUE`. Unprintable bytes are `\xNN`.

use crate::record::{Origin, Priority, Stream};
use crate::syslog::put;

/// A record of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelMessage {
    /// Stream and priority, and `SYSLOG_FACILITY`, `_SOURCE_MONOTONIC_TIMESTAMP` (microseconds), `_KERNEL_SUBSYSTEM`,
    /// `_KERNEL_DEVICE` as far as they are said.
    pub origin: Origin,
    /// The kernel's own number of it, one more each time: a gap is what was overwritten before it was read. A reader that
    /// starts again goes on after the last it has stored.
    pub sequence: Option<u64>,
    /// The text, unescaped.
    pub message: Vec<u8>,
}

/// Reads what one read(2) of `/dev/kmsg` gave. What does not parse is kept whole as the message.
pub fn parse(record: &[u8]) -> KernelMessage {
    let text = record.strip_suffix(b"\n").unwrap_or(record);
    read(text).unwrap_or_else(|| KernelMessage {
        origin: Origin::new(Stream::Kernel, Priority::Warning),
        sequence: None,
        message: text.to_vec(),
    })
}

fn read(text: &[u8]) -> Option<KernelMessage> {
    let end = text.iter().position(|b| *b == b';')?;
    let mut head = std::str::from_utf8(&text[..end]).ok()?.split(',');
    let mut number = || head.next()?.parse::<u64>().ok();
    let (value, sequence, micros) = (number()?, number()?, number()?);
    let mut origin = Origin::new(Stream::Kernel, Priority::from_low_bits(value as u8));
    put(&mut origin, "SYSLOG_FACILITY", (value >> 3).to_string().as_bytes());
    put(
        &mut origin,
        "_SOURCE_MONOTONIC_TIMESTAMP",
        micros.to_string().as_bytes(),
    );
    let mut lines = text[end + 1..].split(|b| *b == b'\n');
    let message = unescape(lines.next().unwrap_or_default());
    for line in lines {
        if let Some(value) = line.strip_prefix(b" SUBSYSTEM=") {
            put(&mut origin, "_KERNEL_SUBSYSTEM", &unescape(value));
        } else if let Some(value) = line.strip_prefix(b" DEVICE=") {
            put(&mut origin, "_KERNEL_DEVICE", &unescape(value));
        }
    }
    Some(KernelMessage {
        origin,
        sequence: Some(sequence),
        message,
    })
}

/// `\xNN` as its byte; anything else as it is.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|r| r.get(..2));
        let value = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = &rest[4..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_example_is_understood() {
        let read = parse(
            b"6,339,5140900,-,caller=T1;NET: \\x1b[1mRegistered\\\\\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
        );
        assert_eq!(read.message, b"NET: \x1b[1mRegistered\\\\");
        assert_eq!((read.sequence, read.origin.priority), (Some(339), Priority::Info));
        assert_eq!(read.origin.field("_SOURCE_MONOTONIC_TIMESTAMP"), Some(&b"5140900"[..]));
        assert_eq!(read.origin.field("_KERNEL_DEVICE"), Some(&b"+acpi:PNP0A03:00"[..]));
    }

    #[test]
    fn anything_else_is_the_message() {
        for other in [&b"no record"[..], b"6,x,1,-;a", b";", b"6,1;a", b"\xff,1,2;a"] {
            assert_eq!(parse(other).message, other);
        }
    }
}

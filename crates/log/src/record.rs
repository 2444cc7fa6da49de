//! What a record is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A record's place in the whole store: over all units, in order of arrival, never used twice.
///
/// The upper 24 bits count the writers that opened the store, the lower 40 the records of that writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The kernel's boot id (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub [u8; 16]);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({self})")
    }
}

impl FromStr for BootId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits: Vec<u8> = text.trim().bytes().filter(|b| *b != b'-').collect();
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut id = [0; 16];
        let read = digits.len() == 32
            && id
                .iter_mut()
                .zip(digits.chunks(2))
                .all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
                    (Some(high), Some(low)) => {
                        *byte = high << 4 | low;
                        true
                    }
                    _ => false,
                });
        match read {
            true => Ok(BootId(id)),
            false => Err(Error::text(text, "a boot id: 32 hexadecimal digits")),
        }
    }
}

/// How urgent a record is: the severities of RFC 5424, table 2. A smaller one is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "RFC 5424 says what each means")]
pub enum Priority {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Priority {
    const ALL: [(Priority, &'static str); 8] = [
        (Priority::Emerg, "emerg"),
        (Priority::Alert, "alert"),
        (Priority::Crit, "crit"),
        (Priority::Err, "err"),
        (Priority::Warning, "warning"),
        (Priority::Notice, "notice"),
        (Priority::Info, "info"),
        (Priority::Debug, "debug"),
    ];

    /// The lower three bits as a severity; the others are a facility or nothing.
    pub fn from_low_bits(value: u8) -> Priority {
        Self::ALL[usize::from(value & 7)].0
    }

    /// As syslog(3) names it.
    pub fn name(self) -> &'static str {
        Self::ALL[usize::from(self as u8)].1
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wanted = text.trim().to_ascii_lowercase();
        let short = match wanted.as_str() {
            "panic" => "emerg",
            "error" => "err",
            "warn" => "warning",
            other => other,
        };
        let found = Self::ALL
            .iter()
            .find(|(value, name)| *name == short || short == (*value as u8).to_string());
        found.map(|(value, _)| *value).ok_or_else(|| {
            Error::text(
                text,
                "a priority: emerg, alert, crit, err, warning, notice, info, debug or 0 to 7",
            )
        })
    }
}

/// How a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Stream {
    /// A line of the unit's standard output.
    Stdout = 1,
    /// A line of the unit's standard error.
    Stderr = 2,
    /// A datagram on the unit's `/dev/log`.
    Syslog = 3,
    /// `/dev/kmsg`.
    Kernel = 4,
    /// The manager's own words about the unit.
    Manager = 5,
}

impl Stream {
    pub(crate) fn from_byte(byte: u8) -> Option<Stream> {
        use Stream::{Kernel, Manager, Stderr, Stdout, Syslog};
        [Stdout, Stderr, Syslog, Kernel, Manager]
            .into_iter()
            .find(|s| *s as u8 == byte)
    }

    /// In one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Syslog => "syslog",
            Stream::Kernel => "kernel",
            Stream::Manager => "manager",
        }
    }
}

/// The name of an optional field, by the journal's rules: 1 to 64 of `A-Z`, `0-9` and `_`, no digit first, and not two `_`
/// (those are addresses, not fields); none of the names that a record has by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(String);

/// What every record has, and so no field may be called.
const TAKEN: [&str; 9] = [
    "MESSAGE",
    "PRIORITY",
    "_BOOT_ID",
    "_TRANSPORT",
    "_SYSTEMD_UNIT",
    "_SYSTEMD_INVOCATION_ID",
    "CAIRN_UNIT",
    "CAIRN_INSTANCE",
    "CAIRN_STREAM",
];

impl FieldName {
    /// Checks the name.
    ///
    /// # Errors
    /// It breaks one of the rules.
    pub fn new(name: &str) -> Result<FieldName, Error> {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let good = (1..=64).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.starts_with("__")
            && !TAKEN.contains(&name);
        match good {
            true => Ok(FieldName(name.to_owned())),
            false => Err(Error::text(
                name,
                "the name of a field: upper case, digits and _, and none that every record has",
            )),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Everything about a record but its time and words; the same for most lines of a service, so it is stored once a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Which run of the unit: its invocation id, or empty.
    pub instance: String,
    /// How it came in.
    pub stream: Stream,
    /// How urgent it is.
    pub priority: Priority,
    /// What else is known, in this order; a name may stand twice.
    pub fields: Vec<(FieldName, Vec<u8>)>,
}

impl Origin {
    /// An origin without instance and fields.
    pub fn new(stream: Stream, priority: Priority) -> Origin {
        Origin {
            instance: String::new(),
            stream,
            priority,
            fields: Vec::new(),
        }
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(n, _)| n.as_str() == name);
        found.map(|(_, value)| value.as_slice())
    }
}

/// Which part of a line a stored piece is. Lines up to [`PIECE`](crate::PIECE) bytes are whole; longer ones are stored in
/// pieces as they come, which name their first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    Whole,
    /// The start; more follows.
    First,
    /// Goes on after the line that started at this place; more follows.
    Middle(Seq),
    /// The end of the line that started at this place.
    Last(Seq),
}

/// A record to store. The store adds place, boot and unit.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// CLOCK_REALTIME in nanoseconds since 1970.
    pub realtime: u64,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub monotonic: u64,
    /// Where it is from.
    pub origin: &'a Origin,
    /// Which part of its line it is.
    pub part: Part,
    /// Any bytes, without the newline.
    pub message: &'a [u8],
}

/// A record as it is read: a whole line, however it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the store (of a long line, the place of its first piece).
    pub seq: Seq,
    /// CLOCK_REALTIME in nanoseconds since 1970, as it was read when the record came in. It may go backwards.
    pub realtime: u64,
    /// CLOCK_MONOTONIC in nanoseconds, of this boot.
    pub monotonic: u64,
    /// In which boot.
    pub boot: BootId,
    /// Of which unit.
    pub unit: Arc<str>,
    /// Stream, priority, instance and fields.
    pub origin: Arc<Origin>,
    /// Any bytes.
    pub message: Vec<u8>,
    /// The end of this line is not (or not yet) in the store.
    pub cut: bool,
}

impl Record {
    /// Who says it: the syslog tag if there is one, else `kernel` or the unit.
    pub fn identifier(&self) -> &[u8] {
        match (self.origin.field("SYSLOG_IDENTIFIER"), self.origin.stream) {
            (Some(tag), _) => tag,
            (None, Stream::Kernel) => b"kernel",
            (None, _) => self.unit.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_priorities_and_boots_are_read_and_nonsense_is_refused() {
        for (value, name) in Priority::ALL {
            assert_eq!(name.parse::<Priority>().unwrap(), value);
            assert_eq!((value as u8).to_string().parse::<Priority>().unwrap(), value);
            assert_eq!(Priority::from_low_bits(value as u8 | 0xf8), value);
        }
        assert!("8".parse::<Priority>().is_err() && "".parse::<Priority>().is_err());
        let boot: BootId = "00112233-4455-6677-8899-aabbccddeeff\n".parse().unwrap();
        assert_eq!(boot.to_string(), "00112233445566778899aabbccddeeff");
        assert!("0011".parse::<BootId>().is_err() && "é".repeat(16).parse::<BootId>().is_err());
    }

    #[test]
    fn no_field_takes_the_name_of_what_every_record_has() {
        assert!(FieldName::new("SYSLOG_PID").is_ok() && FieldName::new("_HOSTNAME").is_ok());
        for bad in [
            "MESSAGE",
            "PRIORITY",
            "_BOOT_ID",
            "__CURSOR",
            "",
            "1A",
            "a",
            "A=B",
            "A\n",
            &"A".repeat(65),
        ] {
            assert!(FieldName::new(bad).is_err(), "{bad}");
        }
    }
}

//! What is asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use regex::bytes::Regex;

use crate::error::Error;
use crate::format::header::{Header, Kind};
use crate::record::{BootId, Origin, Priority, Seq};

/// Which records to read. What is `None` asks for nothing; the default is every record of every unit.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of these units.
    pub units: Option<BTreeSet<String>>,
    /// Of this run of a unit.
    pub instance: Option<String>,
    /// Not earlier than this, in nanoseconds since 1970.
    pub since: Option<u64>,
    /// Not later than this.
    pub until: Option<u64>,
    /// Of this boot.
    pub boot: Option<BootId>,
    /// At least as urgent as this.
    pub priority: Option<Priority>,
    /// With this in the message.
    pub grep: Option<Regex>,
    /// After this place.
    pub after: Option<Cursor>,
    /// Of all that match, the last so many.
    pub tail: Option<usize>,
}

impl Query {
    /// Whether a record could match that begins in what stands behind this header. A long line counts by its first piece.
    pub(crate) fn may_match(&self, header: &Header) -> bool {
        let boot = header.kind == Kind::Index || self.boot.is_none_or(|boot| header.boot == boot);
        boot && self.since.is_none_or(|since| header.latest >= since)
            && self.until.is_none_or(|until| header.earliest <= until)
            && self.priority.is_none_or(|priority| header.urgent <= priority)
            && self.after.is_none_or(|after| header.last > after.0)
    }

    pub(crate) fn matches(&self, seq: Seq, realtime: u64, boot: BootId, origin: &Origin) -> bool {
        self.since.is_none_or(|since| realtime >= since)
            && self.until.is_none_or(|until| realtime <= until)
            && self.boot.is_none_or(|wanted| boot == wanted)
            && self.priority.is_none_or(|priority| origin.priority <= priority)
            && self.after.is_none_or(|after| seq > after.0)
            && self
                .instance
                .as_ref()
                .is_none_or(|instance| *instance == origin.instance)
    }

    pub(crate) fn wants_unit(&self, unit: &str) -> bool {
        self.units.as_ref().is_none_or(|units| units.contains(unit))
    }
}

/// A position in the store: everything up to a place has been read. As text 16 hexadecimal digits, to be kept and come back
/// with; it stays right when retention deletes what it points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor(pub Seq);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number
            .map(|n| Cursor(Seq(n)))
            .ok_or_else(|| Error::text(text, "a cursor: the 16 hexadecimal digits that an earlier call printed"))
    }
}

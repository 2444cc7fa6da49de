//! How records are shown: for people, as JSON, and for systemd's journal tools.

mod export;
mod json;
mod short;

pub use export::export;
pub use json::json;
pub use short::short;

use std::borrow::Cow;

use crate::record::{Record, Stream};

/// A record under the journal's names for things (systemd.journal-fields(7)), in a fixed order. Shared by JSON and export.
///
/// `_SYSTEMD_UNIT` is the unit's name with `.service`, so that `journalctl -u UNIT` finds it; the names of our own are
/// `CAIRN_UNIT`, `CAIRN_INSTANCE` and `CAIRN_STREAM`. `CAIRN_CUT=1` marks a line whose end is not in the store.
fn fields(record: &Record) -> Vec<(&str, Cow<'_, [u8]>)> {
    let text = |text: String| Cow::from(text.into_bytes());
    let origin = &record.origin;
    let transport = match origin.stream {
        Stream::Stdout | Stream::Stderr => "stdout",
        Stream::Syslog => "syslog",
        Stream::Kernel => "kernel",
        Stream::Manager => "driver",
    };
    let mut fields = vec![
        ("__CURSOR", text(record.seq.to_string())),
        ("__REALTIME_TIMESTAMP", text((record.realtime / 1000).to_string())),
        ("__MONOTONIC_TIMESTAMP", text((record.monotonic / 1000).to_string())),
        ("_BOOT_ID", text(record.boot.to_string())),
        ("_TRANSPORT", transport.as_bytes().into()),
        ("_SYSTEMD_UNIT", text(format!("{}.service", record.unit))),
        ("CAIRN_UNIT", record.unit.as_bytes().into()),
        ("CAIRN_STREAM", origin.stream.name().as_bytes().into()),
        ("PRIORITY", text((origin.priority as u8).to_string())),
    ];
    if !origin.instance.is_empty() {
        fields.push(("CAIRN_INSTANCE", origin.instance.as_bytes().into()));
        if origin.instance.len() == 32 && origin.instance.bytes().all(|b| b.is_ascii_hexdigit()) {
            fields.push(("_SYSTEMD_INVOCATION_ID", origin.instance.as_bytes().into()));
        }
    }
    if origin.field("SYSLOG_IDENTIFIER").is_none() {
        fields.push(("SYSLOG_IDENTIFIER", record.identifier().into()));
    }
    let own = origin.fields.iter();
    fields.extend(own.map(|(name, value)| (name.as_str(), value.as_slice().into())));
    if record.cut {
        fields.push(("CAIRN_CUT", b"1".as_slice().into()));
    }
    fields.push(("MESSAGE", record.message.as_slice().into()));
    fields
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use crate::record::{BootId, Origin, Priority, Record, Seq, Stream};

    pub(crate) fn record(message: &[u8]) -> Record {
        Record {
            seq: Seq(42),
            realtime: 1_795_336_322_123_456_789,
            monotonic: 5_000_000,
            boot: BootId([0xab; 16]),
            unit: "web".into(),
            origin: Arc::new(Origin::new(Stream::Stdout, Priority::Info)),
            message: message.to_vec(),
            cut: false,
        }
    }
}

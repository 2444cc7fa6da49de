//! The Journal Export Format (systemd's `docs/JOURNAL_EXPORT_FORMATS.md`), which `systemd-journal-remote` and others read.

use super::fields;
use crate::record::Record;

/// One entry, with the empty line that ends it. A value that is printable UTF-8 stands as `NAME=value`; any other as `NAME`, a
/// newline, its length in 64 bits (little endian), its bytes and a newline.
pub fn export(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.message.len() + 512);
    for (name, value) in fields(record) {
        out.extend_from_slice(name.as_bytes());
        let plain = std::str::from_utf8(&value).is_ok_and(|text| text.chars().all(|c| !c.is_control() || c == '\t'));
        if plain {
            out.push(b'=');
        } else {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::record;

    #[test]
    fn bytes_go_with_their_length() {
        let out = export(&record(b"a\nb"));
        assert!(out.starts_with(b"__CURSOR=000000000000002a\n__REALTIME_TIMESTAMP=1795336322123456\n"));
        assert!(out.ends_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n\n"));
        assert!(export(&record(b"plain")).ends_with(b"MESSAGE=plain\n\n"));
    }
}

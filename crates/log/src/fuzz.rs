//! One door to everything that reads bytes others chose, for fuzzers: whatever comes in, nothing panics, and no parser returns
//! more than it was given.

use std::io::Write as _;

use crate::format::header::{HEADER, Header};
use crate::format::{block, segment, tail};
use crate::line::Lines;
use crate::record::{BootId, FieldName, Priority, Seq};
use crate::{kmsg, syslog, time};

/// Gives `data` to the parser that its first byte names.
pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    match which % 7 {
        0 => assert!(syslog::parse(rest).message.len() <= rest.len()),
        1 => assert!(kmsg::parse(rest).message.len() <= rest.len()),
        2 => {
            let rows = tail::read(rest.to_vec());
            rows.rows.iter().for_each(|row| drop(rows.message(row).to_vec()));
        }
        3 => {
            if let Some(header) = Header::decode(rest) {
                let _ = block::decode(&header, &rest[HEADER..]);
            }
            // A fuzzer does not find checksums: it may have right ones.
            if let Some((_, content)) = rest.split_at_checked(HEADER) {
                block::decode_content(&rest[..HEADER], content.to_vec());
            }
        }
        4 => {
            let text = String::from_utf8_lossy(rest);
            let _ = (text.parse::<BootId>(), text.parse::<Priority>(), FieldName::new(&text));
            let _ = (text.parse::<crate::Cursor>(), time::parse_time(&text, 1 << 60));
        }
        5 => read_segment(rest),
        _ => {
            let mut stored = 0;
            let (taken, _) = Lines::default().feed(rest, true, |_, piece| {
                stored += piece.len();
                Ok::<_, ()>(Seq(1))
            });
            assert!(taken == rest.len() && stored <= taken);
        }
    }
}

/// A whole file: its index, or the blocks that a walk finds.
fn read_segment(bytes: &[u8]) {
    let memory = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC);
    let Ok(mut file) = memory.map(std::fs::File::from) else {
        return;
    };
    let length = bytes.len() as u64;
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok((blocks, end)) = segment::blocks(&file, length) else {
        return;
    };
    assert!(end <= length);
    for (header, at) in blocks {
        assert!(at + header.size() <= length, "a block ends within its file");
        if let Ok(packed) = segment::read_content(&file, &header, at) {
            let _ = block::decode(&header, &packed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(data in prop::collection::vec(any::<u8>(), 0..400)) {
            super::run(&data);
        }
    }
}

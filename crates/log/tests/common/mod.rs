//! A store in a folder of its own, and short ways to fill and read it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;

use cairn_log::{
    BootId, Entry, Error, Limits, Origin, Part, Priority, Query, Reader, Record, Seq, Store, Stream, UnitLimits,
};

pub(crate) const BOOT: BootId = BootId([1; 16]);
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Limits under which tails (8 KiB) and segments (32 KiB) are as small as they become.
pub(crate) fn small() -> Limits {
    of_size(256 << 10)
}

fn of_size(bytes: u64) -> Limits {
    Limits {
        unit: UnitLimits {
            bytes: Some(bytes),
            age: None,
        },
        share: None,
        ..Limits::default()
    }
}

/// Limits under which a tail is small and nothing is deleted by size.
pub(crate) fn endless() -> Limits {
    of_size(1 << 20)
}

pub(crate) fn open(root: &Path, limits: Limits) -> Store {
    Store::open(root, BOOT, limits).unwrap()
}

pub(crate) fn origin() -> Origin {
    Origin::new(Stream::Stdout, Priority::Info)
}

/// Stores a message at `time`.
pub(crate) fn say(store: &mut Store, unit: &str, time: u64, message: &[u8]) -> Seq {
    put(store, unit, time, &origin(), (Part::Whole, message)).unwrap()
}

/// Stores a message, or a piece of one, at `time`.
pub(crate) fn put(
    store: &mut Store,
    unit: &str,
    time: u64,
    origin: &Origin,
    (part, message): (Part, &[u8]),
) -> Result<Seq, Error> {
    let entry = Entry {
        realtime: time,
        monotonic: time,
        origin,
        part,
        message,
    };
    store.append(unit, &entry)
}

/// A line of about `length` bytes that does not compress to nothing, with its number in front.
pub(crate) fn line(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("{number} ").into_bytes();
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(b'a' + (state % 26) as u8);
    }
    text
}

/// Stores numbered lines, a millisecond each.
pub(crate) fn fill(store: &mut Store, unit: &str, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        say(store, unit, number * 1_000_000, &line(number, length));
    }
}

pub(crate) fn read(root: &Path, query: &Query) -> Vec<Record> {
    let mut records = Reader::new(root).query(query).unwrap();
    let all: Vec<Record> = records.by_ref().map(Result::unwrap).collect();
    all
}

pub(crate) fn messages(root: &Path) -> Vec<Vec<u8>> {
    let all = read(root, &Query::default());
    assert!(all.is_sorted_by(|a, b| a.seq < b.seq), "each place once, in order");
    all.into_iter().map(|record| record.message).collect()
}

/// The numbers of the lines of [`fill`].
pub(crate) fn numbers(root: &Path) -> Vec<u64> {
    let number = |m: Vec<u8>| {
        let text = String::from_utf8(m).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    messages(root).into_iter().map(number).collect()
}

pub(crate) fn files(folder: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .collect();
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

//! The power is cut: at every byte, and what was synced is there.

mod common;

use std::fs;
use std::path::Path;

use cairn_log::{Query, Reader};
use common::{copy, endless, files, fill, numbers, open, read};

/// After the cut: everything of `expected` is read at once; a new writer goes on, and it is all still there.
fn survives(root: &Path, expected: &[u64], what: &str) {
    let before = numbers(root);
    assert_eq!(
        before[..expected.len().min(before.len())],
        *expected,
        "{what}: before a new writer"
    );
    let mut store = open(root, endless());
    // Enough to have the old tails packed and the segment finished.
    fill(&mut store, "a", 9000..9030, 1200);
    store.sync().unwrap();
    assert!(store.take_trouble().is_none(), "{what}");
    let mut wanted = before;
    wanted.extend(9000..9030);
    assert_eq!(numbers(root), wanted, "{what}: after a new writer");
}

/// Every cut for short files, else so many spread over it, and both ends.
fn cuts(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let step = (length / count).max(1);
    (0..length).filter(move |at| at % step == 0 || at + 100 > length || *at < 100)
}

#[test]
fn power_cut_at_every_byte_of_an_unsynced_segment_loses_nothing_that_tails_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), endless());
    fill(&mut store, "a", 0..250, 400);
    drop(store);
    let folder = dir.path().join("a");
    let segment = files(&folder, "seg").pop().unwrap();
    let name = segment.file_name().unwrap();
    let bytes = fs::read(&segment).unwrap();
    assert!(files(&folder, "tail").len() >= 3, "packed tails wait for a sync");
    let cut = tempfile::tempdir().unwrap();
    let expected: Vec<u64> = (0..250).collect();
    for at in cuts(bytes.len(), 150) {
        for zeros in [false, true] {
            copy(&folder, &cut.path().join("a"));
            let mut left = bytes[..at].to_vec();
            if zeros {
                left.resize(bytes.len(), 0);
            }
            fs::write(cut.path().join("a").join(name), left).unwrap();
            survives(
                cut.path(),
                &expected,
                &format!("cut at {at} of {}, zeros: {zeros}", bytes.len()),
            );
        }
    }
}

#[test]
fn power_cut_at_every_byte_of_a_tail_keeps_every_record_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), endless());
    let folder = dir.path().join("a");
    let mut ends = Vec::new();
    for number in 0..20 {
        fill(&mut store, "a", number..number + 1, 20);
        ends.push(fs::metadata(&files(&folder, "tail")[0]).unwrap().len() as usize);
    }
    drop(store);
    let tail = files(&folder, "tail").pop().unwrap();
    let bytes = fs::read(&tail).unwrap();
    let cut = tempfile::tempdir().unwrap();
    for at in 0..=bytes.len() {
        copy(&folder, &cut.path().join("a"));
        fs::write(cut.path().join("a").join(tail.file_name().unwrap()), &bytes[..at]).unwrap();
        let whole = ends.iter().filter(|end| **end <= at).count() as u64;
        let expected: Vec<u64> = (0..whole).collect();
        assert_eq!(numbers(cut.path()), expected);
        survives(cut.path(), &expected, &format!("cut at {at}"));
    }
}

#[test]
fn what_was_synced_is_there_wherever_later_writes_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), endless());
    fill(&mut store, "a", 0..150, 400);
    store.sync().unwrap();
    let folder = dir.path().join("a");
    let synced: Vec<_> = files(&folder, "seg")
        .into_iter()
        .chain(files(&folder, "tail"))
        .collect();
    let synced: Vec<_> = synced
        .into_iter()
        .map(|p| (fs::metadata(&p).unwrap().len(), p))
        .collect();
    let kept = tempfile::tempdir().unwrap();
    copy(&folder, kept.path());
    fill(&mut store, "a", 150..250, 400);
    drop(store);
    let cut = tempfile::tempdir().unwrap();
    let expected: Vec<u64> = (0..150).collect();
    for share in 0..=40 {
        let target = cut.path().join("a");
        copy(&folder, &target);
        for path in files(&target, "seg").into_iter().chain(files(&target, "tail")) {
            let old = synced.iter().find(|(_, p)| p.file_name() == path.file_name());
            let (from, length) = (old.map_or(0, |(l, _)| *l), fs::metadata(&path).unwrap().len());
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(from + (length - from) * share / 40).unwrap();
        }
        let before = numbers(cut.path());
        assert!(before.starts_with(&expected), "{share}: {before:?}");
        survives(cut.path(), &expected, &format!("share {share}"));
    }
}

#[test]
fn a_damaged_byte_costs_at_most_its_block_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), endless());
    fill(&mut store, "a", 0..400, 400);
    store.sync().unwrap();
    drop(store);
    let folder = dir.path().join("a");
    let segment = files(&folder, "seg").remove(0);
    let bytes = fs::read(&segment).unwrap();
    let most = (400 * 400 / (bytes.len() / (32 << 10)).max(1)).min(200);
    for at in cuts(bytes.len(), 300) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        fs::write(&segment, bad).unwrap();
        let left = read(dir.path(), &Query::default()).len();
        assert!(left >= 400 - most && left <= 400, "byte {at}: {left} left");
        let mut records = Reader::new(dir.path()).query(&Query::default()).unwrap();
        let count = records.by_ref().count() as u32;
        let said: u32 = records.damage().iter().map(|d| d.records).sum();
        assert!(
            count + said == 400 || said == 0,
            "byte {at}: what is missing is said where it can be known"
        );
    }
}

//! Files that are damaged in any way: reading and writing go on, and what comes back is what was stored.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cairn_log::{Query, Reader, Seq};
use common::{copy, fill, line, open, read, say, small};
use proptest::prelude::*;
use proptest::sample::Index;

/// What may happen to a file.
#[derive(Debug, Clone)]
enum Harm {
    Cut(Index),
    Flip(Index, u8),
    Zeros(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
    Gone,
}

fn harm() -> impl Strategy<Value = (Index, Harm)> {
    let at = any::<Index>;
    let kind = prop_oneof![
        at().prop_map(Harm::Cut),
        (at(), 1..=255_u8).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        (at(), 1..5000_usize).prop_map(|(at, count)| Harm::Zeros(at, count)),
        (at(), 1..5000_usize).prop_map(|(at, count)| Harm::Repeat(at, count)),
        (at(), prop::collection::vec(any::<u8>(), 1..200)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        Just(Harm::Gone),
    ];
    (at(), kind)
}

fn paths(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn apply(folder: &Path, which: Index, harm: &Harm) {
    let all = paths(folder);
    if all.is_empty() {
        return;
    }
    let path = &all[which.index(all.len())];
    let mut bytes = fs::read(path).unwrap();
    let place = |index: &Index, length: usize| index.index(length.max(1)).min(length);
    let end = |from: usize, count: usize, length: usize| (from + count).min(length);
    match harm {
        Harm::Gone => return fs::remove_file(path).unwrap(),
        Harm::Cut(at) => bytes.truncate(place(at, bytes.len())),
        Harm::Flip(at, bits) => {
            let at = place(at, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Harm::Zeros(at, count) => {
            let from = place(at, bytes.len());
            let to = end(from, *count, bytes.len());
            bytes[from..to].fill(0);
        }
        Harm::Repeat(at, count) => {
            let from = place(at, bytes.len());
            let part = bytes[from..end(from, *count, bytes.len())].to_vec();
            bytes.splice(from..from, part);
        }
        Harm::Insert(at, more) => {
            let from = place(at, bytes.len());
            bytes.splice(from..from, more.iter().copied());
        }
    }
    fs::write(path, bytes).unwrap();
}

/// A store with finished segments, an active one and tails, and what it holds by place.
fn whole() -> (tempfile::TempDir, BTreeMap<Seq, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    fill(&mut store, "a", 0..200, 300);
    say(&mut store, "a", 1, &line(200, 100_000));
    drop(store);
    let mut store = open(dir.path(), small());
    fill(&mut store, "a", 201..350, 300);
    store.sync().unwrap();
    fill(&mut store, "a", 350..370, 300);
    let known = read(dir.path(), &Query::default());
    assert_eq!(known.len(), 370);
    (dir, known.into_iter().map(|r| (r.seq, r.message)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_becomes_of_the_files_what_is_read_was_stored_and_writing_goes_on(
        harms in prop::collection::vec(harm(), 1..6)
    ) {
        let (dir, known) = whole();
        let hurt = tempfile::tempdir().unwrap();
        let folder = hurt.path().join("a");
        copy(&dir.path().join("a"), &folder);
        harms.iter().for_each(|(which, harm)| apply(&folder, *which, harm));
        let check = |what: &str| {
            let mut records = Reader::new(hurt.path()).query(&Query::default()).unwrap();
            let mut new = 0;
            for record in records.by_ref().map(Result::unwrap) {
                // A place whose file is gone may be used again.
                if record.message.starts_with(b"new") {
                    new += 1;
                    continue;
                }
                match known.get(&record.seq) {
                    // Of a long line a piece may be lost.
                    Some(message) if message.len() > 1000 => assert!(record.message.len() <= message.len()),
                    Some(message) => assert!(*message == record.message, "{what}: {} is another", record.seq),
                    None => panic!("{what}: {} was never stored", record.seq),
                }
            }
            new
        };
        check("damaged");
        // Opening may fail with a sentence, never with a panic; if it works, what is written is read.
        let mut store = open(hurt.path(), small());
        let mut wanted = 0;
        for number in 0..200_u64 {
            let mut message = b"new ".to_vec();
            message.extend(line(number, 300));
            say(&mut store, "a", number, &message);
            wanted += 1;
        }
        let _ = store.sync();
        prop_assert!(store.take_trouble().is_none());
        prop_assert_eq!(check("written on"), wanted);
    }
}

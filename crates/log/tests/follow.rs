//! Following: nothing is missed and nothing comes twice.

mod common;

use std::collections::BTreeMap;

use cairn_log::{Cursor, Part, Query, Reader, Store};
use common::{fill, line, open, origin, put, say, small};
use proptest::prelude::*;
use regex::bytes::Regex;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_follower_that_looks_at_any_time_and_comes_back_with_its_cursor_sees_each_record_once_in_order(
        steps in prop::collection::vec((0..3_usize, 0..6_u8, 1..400_usize), 1..300), limit in 1..20_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let reader = Reader::new(dir.path());
        let mut follow = reader.follow(&Query::default(), Cursor::default());
        let mut store = open(dir.path(), common::endless());
        let (mut written, mut seen) = (Vec::new(), Vec::new());
        for (index, (unit, what_else, length)) in steps.iter().enumerate() {
            let message = line(index as u64, *length);
            written.push(say(&mut store, ["a", "b", "c"][*unit], 1, &message));
            match what_else {
                0 => seen.extend(follow.poll(limit).unwrap().into_iter().map(|r| r.seq)),
                1 => {
                    let text = follow.cursor().to_string();
                    follow = reader.follow(&Query::default(), text.parse().unwrap());
                }
                2 => {
                    drop(store);
                    store = open(dir.path(), common::endless());
                }
                3 => store.sync().unwrap(),
                _ => {}
            }
        }
        loop {
            let more = follow.poll(limit).unwrap();
            prop_assert!(more.len() <= limit);
            if more.is_empty() {
                break;
            }
            seen.extend(more.into_iter().map(|r| r.seq));
        }
        prop_assert_eq!(seen, written);
    }
}

#[test]
fn a_long_line_comes_when_its_end_has_and_a_cursor_taken_before_does_not_miss_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    let piece = |store: &mut Store, part, message: &[u8]| put(store, "a", 1, &origin(), (part, message)).unwrap();
    let grep = Query {
        grep: Some(Regex::new("start end").unwrap()),
        ..Query::default()
    };
    let reader = Reader::new(dir.path());
    let mut follow = reader.follow(&grep, Cursor::default());
    let line = piece(&mut store, Part::First, b"start ");
    say(&mut store, "b", 1, b"start end of another");
    assert_eq!(follow.poll(10).unwrap().len(), 1, "the other unit does not wait");
    let mut later = reader.follow(&grep, follow.cursor());
    piece(&mut store, Part::Last(line), b"end");
    assert_eq!(follow.poll(10).unwrap()[0].message, b"start end");
    assert_eq!(follow.poll(10).unwrap(), []);
    assert_eq!(later.poll(10).unwrap()[0].message, b"start end");
}

#[test]
fn a_line_whose_writer_died_comes_without_its_end_when_the_next_one_shows_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    let mut follow = Reader::new(dir.path()).follow(&Query::default(), Cursor::default());
    put(&mut store, "a", 1, &origin(), (Part::First, b"half")).unwrap();
    assert_eq!(follow.poll(10).unwrap(), []);
    say(&mut store, "a", 1, b"next");
    let both: Vec<_> = follow
        .poll(10)
        .unwrap()
        .into_iter()
        .map(|r| (r.message, r.cut))
        .collect();
    assert_eq!(both, [(b"half".to_vec(), true), (b"next".to_vec(), false)]);
}

#[test]
fn a_cursor_stays_right_when_retention_deletes_what_it_points_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    say(&mut store, "a", 1, b"0 first");
    let reader = Reader::new(dir.path());
    let mut follow = reader.follow(&Query::default(), Cursor::default());
    assert_eq!(follow.poll(10).unwrap().len(), 1);
    let cursor = follow.cursor();
    fill(&mut store, "a", 1..3000, 300);
    let left = common::numbers(dir.path());
    assert!(left[0] > 1, "retention took some: {}", left[0]);
    let after = reader.follow(&Query::default(), cursor).poll(usize::MAX).unwrap();
    assert_eq!(after.len(), left.len());
    assert_eq!(reader.end().unwrap(), Cursor(after.last().unwrap().seq));
}

#[test]
fn a_reader_beside_a_busy_writer_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reader = Reader::new(dir.path());
    let mut store = open(dir.path(), common::endless());
    let count = 4000_u64;
    let writer = std::thread::spawn(move || {
        for number in 0..count {
            say(&mut store, ["a", "b"][number as usize % 2], 1, &line(number, 100));
        }
    });
    let mut follow = reader.follow(&Query::default(), Cursor::default());
    let (mut seen, mut by_unit) = (0, BTreeMap::<String, usize>::new());
    let mut finished = false;
    loop {
        let more = follow.poll(500).unwrap();
        for record in &more {
            assert!(
                record.message.starts_with(format!("{seen} ").as_bytes()),
                "record {seen}"
            );
            seen += 1;
            *by_unit.entry(record.unit.to_string()).or_default() += 1;
        }
        if more.is_empty() && finished {
            break;
        }
        finished = writer.is_finished();
    }
    writer.join().unwrap();
    assert_eq!(seen, count);
}

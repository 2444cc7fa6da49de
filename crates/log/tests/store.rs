//! What goes in comes out: any bytes, in order, found by what is asked.

mod common;

use cairn_log::{
    BootId, Cursor, Entry, Error, FieldName, LARGEST_ORIGIN, Origin, PIECE, Part, Priority, Query, Reader, Store,
    Stream,
};
use common::{BOOT, SECOND, endless, files, fill, messages, numbers, open, origin, read, say, small};
use proptest::prelude::*;
use regex::bytes::Regex;

/// One record of a property test.
#[derive(Debug, Clone)]
struct Said {
    unit: usize,
    time: u64,
    priority: u8,
    instance: String,
    field: Option<Vec<u8>>,
    message: Vec<u8>,
}

fn said() -> impl Strategy<Value = Said> {
    let message = prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..300),
        1 => prop::collection::vec(any::<u8>(), PIECE - 2..PIECE + 3),
        1 => (1..4_usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n * PIECE + 7]),
    ];
    let field = prop::option::of(prop::collection::vec(any::<u8>(), 0..50));
    (0..3_usize, any::<u64>(), 0..8_u8, "[a-z]{0,3}", field, message).prop_map(
        |(unit, time, priority, instance, field, message)| Said {
            unit,
            time,
            priority,
            instance,
            field,
            message,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_records_interleaved_over_units_and_writers_come_back_as_they_were(
        all in prop::collection::vec((said(), 0..12_u8), 0..150)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), endless());
        let mut places = Vec::new();
        for (said, what_else) in &all {
            let mut origin = Origin::new(Stream::Stderr, Priority::from_low_bits(said.priority));
            origin.instance = said.instance.clone();
            origin.fields = said.field.iter().map(|v| (FieldName::new("SYSLOG_PID").unwrap(), v.clone())).collect();
            let entry = Entry {
                realtime: said.time,
                monotonic: said.time ^ 5,
                origin: &origin,
                part: Part::Whole,
                message: &said.message,
            };
            places.push((store.append(["a", "b", "c@1"][said.unit], &entry).unwrap(), origin));
            match what_else {
                0 => store.sync().unwrap(),
                1 => {
                    drop(store);
                    store = open(dir.path(), endless());
                }
                2 => store.tidy(u64::MAX, std::time::Duration::from_secs(1)).unwrap(),
                _ => {}
            }
            if let Some(trouble) = store.take_trouble() {
                panic!("{trouble}");
            }
        }
        let back = read(dir.path(), &Query::default());
        prop_assert_eq!(back.len(), all.len());
        for ((record, (said, _)), (place, origin)) in back.iter().zip(&all).zip(&places) {
            prop_assert_eq!(record.seq, *place);
            prop_assert!(record.message == said.message, "{} bytes became {}", said.message.len(), record.message.len());
            prop_assert_eq!((record.realtime, record.monotonic, record.boot), (said.time, said.time ^ 5, BOOT));
            prop_assert_eq!(record.origin.as_ref(), origin);
            prop_assert_eq!(&*record.unit, ["a", "b", "c@1"][said.unit]);
            prop_assert!(!record.cut);
        }
    }

    #[test]
    fn a_search_finds_what_looking_at_every_record_finds_also_when_the_clock_goes_backwards(
        times in prop::collection::vec((0..50_u64, 0..8_u8, 0..2_usize), 1..300),
        since in prop::option::of(0..50_u64),
        until in prop::option::of(0..50_u64),
        priority in prop::option::of(0..8_u8),
        tail in prop::option::of(0..20_usize),
        grep in prop::option::of("[0-9]"),
        after in prop::option::of(0..300_usize),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), small());
        let mut places = Vec::new();
        for (index, (time, urgency, unit)) in times.iter().enumerate() {
            let origin = Origin::new(Stream::Manager, Priority::from_low_bits(*urgency));
            let message = common::line(index as u64, 200);
            let entry = Entry { realtime: *time, monotonic: 0, origin: &origin, part: Part::Whole, message: &message };
            places.push(store.append(["a", "b"][*unit], &entry).unwrap());
        }
        let everything = read(dir.path(), &Query::default());
        prop_assert_eq!(everything.len(), times.len());
        let after = after.and_then(|n| places.get(n)).map(|seq| Cursor(*seq));
        let query = Query {
            since, until, tail, after,
            priority: priority.map(Priority::from_low_bits),
            grep: grep.map(|g| Regex::new(&g).unwrap()),
            units: Some(["b".to_owned()].into()),
            ..Query::default()
        };
        let mut expected: Vec<_> = everything.into_iter().filter(|r| {
            since.is_none_or(|t| r.realtime >= t)
                && until.is_none_or(|t| r.realtime <= t)
                && query.priority.is_none_or(|p| r.origin.priority <= p)
                && after.is_none_or(|c| r.seq > c.0)
                && query.grep.as_ref().is_none_or(|g| g.is_match(&r.message))
                && &*r.unit == "b"
        }).collect();
        expected.drain(..expected.len().saturating_sub(tail.unwrap_or(usize::MAX)));
        prop_assert_eq!(read(dir.path(), &query), expected);
    }
}

#[test]
fn a_boot_is_told_from_the_next_and_tails_of_both_wait_without_being_mixed() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path(), small()), "a", 0..5, 30);
    let next = BootId([2; 16]);
    let mut store = Store::open(dir.path(), next, small()).unwrap();
    fill(&mut store, "a", 5..60, 300);
    assert_eq!(numbers(dir.path()), (0..60).collect::<Vec<_>>());
    for (boot, expected) in [(BOOT, 5), (next, 55), (BootId::default(), 0)] {
        let boot = Some(boot);
        assert_eq!(
            read(
                dir.path(),
                &Query {
                    boot,
                    ..Query::default()
                }
            )
            .len(),
            expected
        );
    }
}

#[test]
fn pieces_of_long_lines_from_two_streams_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    let origins = [origin(), Origin::new(Stream::Stderr, Priority::Err)];
    let mut put =
        |stream: usize, part, byte| common::put(&mut store, "a", 1, &origins[stream], (part, &[byte; 3000])).unwrap();
    let out = put(0, Part::First, b'o');
    let err = put(1, Part::First, b'e');
    for _ in 0..20 {
        put(0, Part::Middle(out), b'o');
        put(1, Part::Middle(err), b'e');
    }
    put(0, Part::Last(out), b'o');
    let all = read(dir.path(), &Query::default());
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].message.clone(), all[0].cut), (vec![b'o'; 22 * 3000], false));
    assert_eq!((all[1].message.clone(), all[1].cut), (vec![b'e'; 21 * 3000], true));
}

#[test]
fn a_store_has_one_writer_and_no_unit_leads_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    assert!(matches!(
        Store::open(dir.path(), BOOT, small()),
        Err(Error::Locked { .. })
    ));
    let mut big = origin();
    big.fields.push((FieldName::new("X").unwrap(), vec![0; LARGEST_ORIGIN]));
    let small_origin = origin();
    let entry = Entry {
        realtime: 1,
        monotonic: 1,
        origin: &small_origin,
        part: Part::Whole,
        message: b"x",
    };
    assert!(matches!(store.append("../a", &entry), Err(Error::UnitName { .. })));
    assert!(matches!(
        store.append("a", &Entry { origin: &big, ..entry }),
        Err(Error::Fields { .. })
    ));
    store.append("a", &entry).unwrap();
    assert_eq!(messages(dir.path()), [b"x"]);
}

#[test]
fn a_thousand_writers_that_each_die_at_once_leave_one_order_and_few_files() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..1000 {
        let mut store = open(dir.path(), small());
        say(&mut store, "a", number, &common::line(number, 10));
        assert!(store.take_trouble().is_none());
    }
    assert_eq!(numbers(dir.path()), (0..1000).collect::<Vec<_>>());
    let count = files(&dir.path().join("a"), "tail").len() + files(&dir.path().join("a"), "seg").len();
    assert!(count < 60, "{count}");
}

#[test]
fn what_is_read_for_the_last_lines_or_a_late_hour_is_little() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), endless());
    fill(&mut store, "a", 0..4000, 200);
    store.sync().unwrap();
    // Every finished segment but the last is overwritten: who reads them, reads damage.
    let segments = files(&dir.path().join("a"), "seg");
    assert!(segments.len() > 2, "{segments:?}");
    let from = 3990 * 1_000_000;
    let queries = [
        Query {
            tail: Some(3),
            ..Query::default()
        },
        Query {
            since: Some(from),
            ..Query::default()
        },
    ];
    for path in &segments[..segments.len() - 1] {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[80..200].fill(0);
        std::fs::write(path, bytes).unwrap();
    }
    for query in queries {
        let mut records = Reader::new(dir.path()).query(&query).unwrap();
        assert!(records.by_ref().count() >= 3);
        assert_eq!(records.damage(), []);
    }
    let mut records = Reader::new(dir.path()).query(&Query::default()).unwrap();
    assert!(records.by_ref().count() > 500);
    assert_eq!(records.damage().len(), segments.len() - 1);
}

#[test]
fn times_far_apart_fit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    for time in [0, u64::MAX, SECOND, 0] {
        say(&mut store, "a", time, b"x");
    }
    store.tidy(u64::MAX, std::time::Duration::ZERO).unwrap();
    let times: Vec<u64> = read(dir.path(), &Query::default()).iter().map(|r| r.realtime).collect();
    assert_eq!(times, [0, u64::MAX, SECOND, 0]);
}

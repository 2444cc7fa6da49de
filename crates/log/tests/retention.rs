//! Limits hold, and nothing that is written to is deleted.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cairn_log::{Limits, Reason, Seq, Space, StoredFile, UnitLimits, plan};
use common::{fill, numbers, open, say, small};
use proptest::prelude::*;

fn stored() -> impl Strategy<Value = Vec<StoredFile>> {
    let one = (0..3_usize, 0..1000_u64, 0..200_000_u64, any::<bool>());
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(index, (unit, latest, bytes, active))| StoredFile {
            unit: ["a", "b", "c"][unit].to_owned(),
            path: format!("{index}").into(),
            first: Seq(index as u64),
            bytes,
            latest: latest * common::SECOND,
            active,
        })
        .collect()
    })
}

proptest! {
    #[test]
    fn a_plan_never_has_an_active_file_and_what_is_left_is_within_the_limits(
        files in stored(),
        unit_bytes in prop::option::of(300_000_u64..2_000_000),
        age in prop::option::of(0..1000_u64),
        share in prop::option::of(0..1000_u16),
        total in 1_u64..5_000_000,
    ) {
        let unit = UnitLimits { bytes: unit_bytes, age: age.map(Duration::from_secs) };
        let limits = Limits { unit, units: BTreeMap::new(), share };
        let now = 1000 * common::SECOND;
        let made = plan(&files, &limits, Space { total }, now);
        prop_assert!(made.delete.iter().all(|d| !d.file.active));
        let left: Vec<_> = files.iter().filter(|f| !made.delete.iter().any(|d| d.file == **f)).collect();
        prop_assert_eq!(left.len() + made.delete.len(), files.len());
        for file in left.iter().filter(|f| !f.active) {
            prop_assert!(age.is_none_or(|age| file.latest >= (1000 - age) * common::SECOND));
        }
        for unit in ["a", "b", "c"] {
            let of_unit = left.iter().filter(|f| f.unit == unit && !f.active);
            prop_assert!(unit_bytes.is_none_or(|most| of_unit.map(|f| f.bytes).sum::<u64>() <= most));
        }
        let sum: u64 = left.iter().map(|f| f.bytes).sum();
        let within = share.is_none_or(|share| sum <= total / 1000 * u64::from(share));
        prop_assert!(within || left.iter().all(|f| f.active));
        prop_assert_eq!(plan(&left.into_iter().cloned().collect::<Vec<_>>(), &limits, Space { total }, now).delete, []);
    }
}

fn size(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn a_units_limit_holds_at_every_moment_whatever_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), small());
    say(&mut store, "quiet", 1, b"0 here");
    for round in 0..40 {
        fill(
            &mut store,
            "loud",
            round * 100..(round + 1) * 100,
            [20, 300, 3000][round as usize % 3],
        );
        let bytes = size(&dir.path().join("loud"));
        assert!(bytes <= 256 << 10, "{bytes} in round {round}");
        assert!(store.take_trouble().is_none());
    }
    let left = numbers(dir.path());
    assert_eq!(left[0], 0, "the neighbour's record");
    assert_eq!(*left.last().unwrap(), 3999);
    assert!(left[1..].is_sorted_by(|a, b| a + 1 == *b), "only the oldest went");
}

#[test]
fn the_unit_that_takes_most_gives_first_when_the_disk_is_to_be_shared() {
    let file = |unit: &str, first, bytes| StoredFile {
        unit: unit.to_owned(),
        path: format!("{unit}{first}").into(),
        first: Seq(first),
        bytes,
        latest: 0,
        active: false,
    };
    let files = [
        file("quiet", 1, 10_000),
        file("loud", 2, 50_000),
        file("loud", 3, 50_000),
        file("loud", 4, 50_000),
    ];
    let limits = Limits {
        unit: UnitLimits { bytes: None, age: None },
        share: Some(100),
        ..Limits::default()
    };
    let made = plan(&files, &limits, Space { total: 700_000 }, 0);
    let gone: Vec<_> = made.delete.iter().map(|d| (d.file.first.0, d.reason)).collect();
    assert_eq!(gone, [(2, Reason::Share), (3, Reason::Share)]);
}

#[test]
fn records_older_than_the_age_go_also_of_a_unit_that_says_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let day = 86_400 * common::SECOND;
    let mut limits = small();
    limits.unit.age = Some(Duration::from_secs(30 * 86_400));
    let own = UnitLimits {
        age: Some(Duration::from_secs(3 * 86_400)),
        ..limits.unit
    };
    limits.units.insert("c".to_owned(), own);
    let mut store = open(dir.path(), limits);
    say(&mut store, "a", day, b"1 old");
    say(&mut store, "b", 39 * day, b"2 new");
    say(&mut store, "c", 36 * day, b"3 older than its unit keeps");
    for now in [2, 3, 40] {
        store.tidy(now * day, Duration::from_secs(86_400)).unwrap();
        let plan = store.plan_retention(now * day).unwrap();
        store.apply_retention(&plan).unwrap();
    }
    assert_eq!(numbers(dir.path()), [2]);
}

#[test]
fn records_older_than_the_age_go_also_of_a_unit_that_is_silent_since_another_writer_began() {
    let dir = tempfile::tempdir().unwrap();
    let now = 1_800_000_000 * common::SECOND;
    let day = Duration::from_secs(86_400);
    let mut limits = small();
    limits.unit.age = Some(30 * day);
    for (unit, age) in [("gone", 40), ("quiet", 2)] {
        let time = now - age * 86_400 * common::SECOND;
        fill_at(&mut open(dir.path(), limits.clone()), unit, time);
        let written = std::time::UNIX_EPOCH + Duration::from_nanos(time);
        for path in common::files(&dir.path().join(unit), "tail") {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(written)
                .unwrap();
        }
    }
    let mut store = open(dir.path(), limits);
    store.tidy(now, day).unwrap();
    let plan = store.plan_retention(now).unwrap();
    store.apply_retention(&plan).unwrap();
    let left = common::read(dir.path(), &cairn_log::Query::default());
    assert!(
        left.len() == 10 && left.iter().all(|record| &*record.unit == "quiet"),
        "{}",
        left.len()
    );
}

fn fill_at(store: &mut cairn_log::Store, unit: &str, time: u64) {
    for number in 0..10 {
        say(store, unit, time, &common::line(number, 100));
    }
}

#[test]
fn on_a_full_disk_the_unit_that_takes_most_gives_way_and_no_more_than_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), common::endless());
    fill(&mut store, "quiet", 0..400, 400);
    fill(&mut store, "loud", 0..2000, 400);
    let before = store.files().unwrap();
    let gone = store.give_way(100_000).unwrap();
    let freed: u64 = gone.iter().map(|d| d.file.bytes).sum();
    assert!(gone.iter().all(|d| d.file.unit == "loud" && d.reason == Reason::Full));
    assert!(freed >= 100_000 && freed - gone.last().unwrap().file.bytes < 100_000);
    assert_eq!(store.files().unwrap().len(), before.len() - gone.len());
    say(&mut store, "loud", 1, b"goes on");
}

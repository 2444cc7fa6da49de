//! How fast records are stored and read, and what they take, beside the same lines as gzip'd text.
//!
//! `cargo run --release -p cairn-log --example throughput [FOLDER]`: the folder decides which file system is measured.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_log::{BootId, Entry, Limits, Origin, Part, Priority, Query, Reader, Store, Stream, UnitLimits, output};

const RECORDS: u64 = 500_000;
/// How many lines one read of a pipe gives.
const BATCH: usize = 16;

/// Lines as a web server writes them: a few shapes, numbers that differ.
fn line(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    let mut next = |below: u64| {
        state ^= state >> 33;
        state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
        state ^= state >> 33;
        state % below
    };
    let (a, b, page, bytes) = (next(256), next(256), next(500), next(90_000));
    match next(4) {
        0 => format!(
            "level=info msg=\"handled request\" remote=10.0.{a}.{b} method=GET uri=/pages/{page} status=200 size={bytes}"
        ),
        1 => format!(
            "level=info msg=\"handled request\" remote=10.0.{a}.{b} method=POST uri=/api/v1/items/{page} status=201 size={bytes}"
        ),
        2 => format!("level=warn msg=\"slow query\" table=items rows={bytes} ms={page}"),
        _ => format!(
            "level=error msg=\"upstream closed the connection\" upstream=10.0.0.{a}:8080 attempt={}",
            page % 4
        ),
    }
}

fn rate(count: u64, time: Duration) -> String {
    format!("{:>10.0} records/s", count as f64 / time.as_secs_f64())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| {
            e.metadata()
                .map_or(0, |m| if m.is_dir() { size(&e.path()) } else { m.len() })
        })
        .sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let root = base.join(format!("cairn-log-throughput.{}", std::process::id()));
    let limits = Limits {
        unit: UnitLimits { bytes: None, age: None },
        share: None,
        ..Limits::default()
    };
    let mut store = Store::open(&root, BootId([7; 16]), limits)?;
    let mut origin = Origin::new(Stream::Stdout, Priority::Info);
    origin.instance = "0123456789abcdef0123456789abcdef".to_owned();
    let lines: Vec<String> = (0..RECORDS).map(line).collect();
    let start = 1_790_000_000_000_000_000;
    // Steps of about a millisecond, no two alike.
    let entry = |number: usize| {
        let time = number as u64 * 1_000_000 + (number as u64).wrapping_mul(0x9e37_79b9) % 999_983;
        let message = lines[number].as_bytes();
        Entry {
            realtime: start + time,
            monotonic: time,
            origin: &origin,
            part: Part::Whole,
            message,
        }
    };
    let half = lines.len() / 2;

    let begun = Instant::now();
    for number in 0..half {
        store.append("single", &entry(number))?;
    }
    println!("append, one by one      {}", rate(half as u64, begun.elapsed()));
    let begun = Instant::now();
    for numbers in (half..lines.len()).collect::<Vec<_>>().chunks(BATCH) {
        let entries: Vec<Entry<'_>> = numbers.iter().map(|n| entry(*n)).collect();
        store.append_all("batch", &entries)?;
    }
    println!(
        "append, {BATCH} at a time    {}",
        rate((lines.len() - half) as u64, begun.elapsed())
    );
    store.tidy(u64::MAX, Duration::ZERO)?;

    let reader = Reader::new(&root);
    let begun = Instant::now();
    let count = reader.query(&Query::default())?.filter(Result::is_ok).count();
    println!("read all                {}", rate(count as u64, begun.elapsed()));
    assert_eq!(count as u64, RECORDS);
    let grep = Some(regex::bytes::Regex::new("upstream=10.0.0.77:.*attempt=3")?);
    let begun = Instant::now();
    let found = reader
        .query(&Query {
            grep,
            ..Query::default()
        })?
        .count();
    println!("grep ({found} found)        {}", rate(RECORDS, begun.elapsed()));
    let query = Query {
        since: Some(start + (half as u64 - 100) * 1_000_000),
        units: Some(["single".to_owned()].into()),
        ..Query::default()
    };
    let begun = Instant::now();
    let found = reader.query(&query)?.count();
    println!(
        "the last {found} by --since {:>10.1} ms",
        begun.elapsed().as_secs_f64() * 1000.0
    );

    let text: Vec<u8> = reader
        .query(&Query::default())?
        .flatten()
        .flat_map(|r| (output::short(&r, "box") + "\n").into_bytes())
        .collect();
    let begun = Instant::now();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text)?;
    let packed = gzip.finish()?.len();
    let took = begun.elapsed();
    let each = |bytes: u64| bytes as f64 / RECORDS as f64;
    println!("on disk                 {:>10.1} bytes a record", each(size(&root)));
    println!(
        "the same as text        {:>10.1} bytes a record",
        each(text.len() as u64)
    );
    println!(
        "that text through gzip  {:>10.1} bytes a record, {}",
        each(packed as u64),
        rate(RECORDS, took)
    );
    fs::remove_dir_all(&root)?;
    Ok(())
}

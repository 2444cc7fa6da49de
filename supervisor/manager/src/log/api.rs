//! `GET /v1/logs`: what is asked for, as a value, and its answer as a stream that is made beside the manager's loop.
//!
//! Parameters, each percent-encoded: `unit` (any number), `since`, `until`, `grep`, `priority`, `lines` (the last so many),
//! `boot=1` (only this boot), `output` (`short`, `json`, `export`), `colour=1`, `follow=1`. Only root may read logs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_log::{BootId, Cursor, Damage, Follow, Priority, Query, Reader, Record, output, parse_time};
use regex::bytes::RegexBuilder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Store;
use crate::clock::real_ns;
use crate::control::{Answered, Parts};

/// So many read at a time.
const READERS: usize = 4;
/// The most last lines, since they are gathered in memory.
const LINES: usize = 100_000;
/// A part of the answer is about so long, in bytes, and two of them wait at most.
const PART: usize = 32 << 10;
/// A regular expression may take so much memory.
const EXPRESSION: usize = 1 << 20;
/// A follower looks at most every so often,
const PAUSE: Duration = Duration::from_millis(100);
/// and takes so many records at a time.
const BATCH: usize = 256;

/// Answers requests for logs.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    store: Store,
    host: Arc<str>,
    places: Arc<Semaphore>,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Output {
    #[default]
    Short,
    Json,
    Export,
}

/// A request, understood.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    query: Query,
    output: Output,
    colour: bool,
    follow: bool,
}

impl Api {
    pub(crate) fn new(store: Store, host: &str) -> Api {
        Api {
            store,
            host: host.into(),
            places: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// The media type of an answer and its parts, or a refusal.
    pub(crate) async fn answer(&self, query: &str) -> Result<(&'static str, Parts), Answered> {
        let wanted = self.read(query).map_err(|why| Answered::error(400, &why))?;
        if let Some(unit) = wanted.query.units.iter().flatten().find(|unit| !self.knows(unit)) {
            return Err(Answered::error(404, &format!("there is no unit {unit}")));
        }
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            Answered::error(
                503,
                &format!("{READERS} others are reading logs; try again when one has ended"),
            )
        })?;
        let kind = match wanted.output {
            Output::Short => "text/plain; charset=utf-8",
            Output::Json => "application/x-ndjson",
            Output::Export => "application/vnd.fdo.journal",
        };
        let (to, parts) = mpsc::channel(2);
        tokio::spawn(run(self.clone(), wanted, to, place));
        Ok((kind, parts))
    }

    fn knows(&self, unit: &str) -> bool {
        let earlier = || Reader::new(&self.store.root).units().unwrap_or_default();
        self.store.units.contains_key(unit) || earlier().iter().any(|name| name == unit)
    }

    fn read(&self, query: &str) -> Result<Wanted, String> {
        read(query, self.store.boot, real_ns())
    }
}

/// Reads a query at the time `now` of the boot `boot`.
pub(crate) fn read(query: &str, boot: BootId, now: u64) -> Result<Wanted, String> {
    let (mut wanted, mut units) = (Wanted::default(), BTreeSet::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| format!("{name}: {value:?} is not percent-encoded UTF-8"))?;
        let say = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let time = || parse_time(&value, now).map_err(|error| say(&error));
        let query = &mut wanted.query;
        match (name, value.as_str()) {
            ("unit", _) => drop(units.insert(value)),
            ("since", _) => query.since = Some(time()?),
            ("until", _) => query.until = Some(time()?),
            ("priority", _) => query.priority = Some(value.parse::<Priority>().map_err(|error| say(&error))?),
            ("grep", _) => {
                let made = RegexBuilder::new(&value)
                    .size_limit(EXPRESSION)
                    .dfa_size_limit(EXPRESSION)
                    .build();
                query.grep = Some(made.map_err(|error| say(&error))?);
            }
            ("lines", _) => {
                let count = value.parse().ok().filter(|count| *count <= LINES);
                query.tail = Some(count.ok_or_else(|| format!("lines: {value:?} is not a number up to {LINES}"))?);
            }
            ("output", "short") => wanted.output = Output::Short,
            ("output", "json") => wanted.output = Output::Json,
            ("output", "export") => wanted.output = Output::Export,
            ("boot", "1") => query.boot = Some(boot),
            ("colour", "1") => wanted.colour = true,
            ("follow", "1") => wanted.follow = true,
            _ => return Err(format!("{name}={value} is not understood")),
        }
    }
    wanted.query.units = (!units.is_empty()).then_some(units);
    Ok(wanted)
}

/// The pairs of a query, decoded; what cannot be decoded is left out.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((name.to_owned(), decode(value)?))
        })
        .collect()
}

/// `%20` and `+` as what they stand for.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// What records become.
struct Page {
    output: Output,
    colour: bool,
    host: Arc<str>,
    bytes: Vec<u8>,
    to: mpsc::Sender<std::io::Result<Vec<u8>>>,
}

/// Nobody reads any more.
struct Gone;

impl Page {
    fn put(&mut self, record: &Record) -> Result<(), Gone> {
        match self.output {
            Output::Export => self.bytes.extend(output::export(record)),
            Output::Json => self.line(output::json(record)),
            Output::Short => {
                let line = output::short(record, &self.host);
                let (start, end) = match record.origin.priority {
                    _ if !self.colour => ("", ""),
                    Priority::Emerg | Priority::Alert | Priority::Crit | Priority::Err => ("\x1b[31m", "\x1b[0m"),
                    Priority::Warning => ("\x1b[33m", "\x1b[0m"),
                    Priority::Notice => ("\x1b[1m", "\x1b[0m"),
                    Priority::Info => ("", ""),
                    Priority::Debug => ("\x1b[2m", "\x1b[0m"),
                };
                self.line(format!("{start}{line}{end}"));
            }
        }
        match self.bytes.len() >= PART {
            true => self.send(),
            false => Ok(()),
        }
    }

    fn line(&mut self, line: String) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.push(b'\n');
    }

    fn send(&mut self) -> Result<(), Gone> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.bytes);
        self.to.blocking_send(Ok(part)).map_err(|_| Gone)
    }

    /// Says what could not be read; the other outputs are for programs, which find places missing.
    fn damaged(&mut self, damage: &[Damage]) {
        if self.output != Output::Short {
            return;
        }
        for damage in damage {
            let (path, records) = (damage.path.display(), damage.records);
            self.line(format!("-- {records} records are damaged: {path} --"));
        }
    }

    fn fail(&self, error: cairn_log::Error) -> Gone {
        let _ = self.to.blocking_send(Err(std::io::Error::other(error)));
        Gone
    }
}

/// Makes the answer. What waits for the disk or the reader has a thread; what waits for news has none.
async fn run(api: Api, wanted: Wanted, to: mpsc::Sender<std::io::Result<Vec<u8>>>, _place: OwnedSemaphorePermit) {
    let Wanted {
        query,
        output,
        colour,
        follow,
    } = wanted;
    let host = api.host.clone();
    let page = Page {
        output,
        colour,
        host,
        bytes: Vec::new(),
        to,
    };
    let reader = Reader::new(&api.store.root);
    let Ok(Ok((mut page, end))) = tokio::task::spawn_blocking({
        let (reader, query) = (reader.clone(), query.clone());
        move || print(&reader, &query, follow, page)
    })
    .await
    else {
        return;
    };
    if !follow {
        return;
    }
    let mut newest = api.store.newest.clone();
    let mut follower = reader.follow(&query, end);
    loop {
        newest.mark_unchanged();
        let Ok(Ok((then, now, full))) = tokio::task::spawn_blocking(move || poll(follower, page)).await else {
            return;
        };
        (follower, page) = (then, now);
        if !full {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = page.to.closed() => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Writes what there is; where a follower goes on.
fn print(reader: &Reader, query: &Query, follow: bool, mut page: Page) -> Result<(Page, Cursor), Gone> {
    let end = reader.end().map_err(|error| page.fail(error))?;
    let mut records = match follow {
        true => reader.query_to(query, end),
        false => reader.query(query),
    }
    .map_err(|error| page.fail(error))?;
    for record in records.by_ref() {
        page.put(&record.map_err(|error| page.fail(error))?)?;
    }
    page.damaged(records.damage());
    page.send()?;
    Ok((page, end))
}

/// Writes what has come since; whether there may be more already.
fn poll(mut follower: Follow, mut page: Page) -> Result<(Follow, Page, bool), Gone> {
    let records = follower.poll(BATCH).map_err(|error| page.fail(error))?;
    for record in &records {
        page.put(record)?;
    }
    page.send()?;
    Ok((follower, page, records.len() >= BATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api() -> Api {
        let manifest = crate::testing::manifest(&[("web", "{}")]);
        let store = Store {
            root: "/nowhere".into(),
            boot: "00112233445566778899aabbccddeeff".parse().unwrap(),
            newest: tokio::sync::watch::channel(0).1,
            units: Arc::new(super::super::limits::all(&manifest)),
        };
        Api::new(store, "box")
    }

    #[test]
    fn every_parameter_is_understood_and_nothing_else() {
        let wanted = api()
            .read("unit=web&unit=kernel&since=2026-01-31+10%3A00&priority=err&grep=a%2Bb&lines=7&boot=1&output=json&follow=1&colour=1")
            .unwrap();
        let units: Vec<_> = wanted.query.units.iter().flatten().map(String::as_str).collect();
        assert_eq!(units, ["kernel", "web"]);
        assert_eq!(wanted.query.since, Some(1_769_853_600_000_000_000));
        assert_eq!(wanted.query.grep.unwrap().as_str(), "a+b");
        assert_eq!(
            (wanted.query.tail, wanted.query.priority),
            (Some(7), Some(Priority::Err))
        );
        assert!(wanted.query.boot.is_some() && wanted.follow && wanted.colour && wanted.output == Output::Json);
        for bad in [
            "since=tomorrow",
            "grep=(",
            "lines=-1",
            "lines=100001",
            "output=xml",
            "x=1",
            "grep=%zz",
            "grep=%ff",
            "priority=9",
        ] {
            assert!(api().read(bad).is_err(), "{bad}");
        }
        assert!(
            api().read("grep=(a{1000}){1000}").is_err(),
            "an expression that takes much memory"
        );
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused_and_there_are_only_so_many_readers() {
        let api = api();
        assert_eq!(api.answer("unit=none").await.unwrap_err().status, 404);
        let all: Vec<_> = (0..READERS)
            .map(|_| api.places.clone().try_acquire_owned().unwrap())
            .collect();
        assert_eq!(api.answer("unit=web").await.unwrap_err().status, 503);
        drop(all);
        assert!(api.answer("unit=web").await.is_ok());
    }
}

//! Following: what has come since the last look.
//!
//! Places are given out and written by one writer in one order. So a look first finds the newest place of all units, and then
//! reads every unit up to it: whatever has a smaller place was written earlier, and is there. That makes one number a position
//! in all units.

use std::collections::HashMap;

use regex::bytes::Regex;

use super::chunks::{self, Seen};
use super::query::{Cursor, Query};
use super::records::{Reader, Records};
use crate::error::Error;
use crate::record::{Record, Seq};

/// How many unfinished lines are waited for.
const OPEN_LINES: usize = 64;

/// A follower. It sleeps nowhere: the caller says when to look ([`Follow::poll`]).
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    query: Query,
    /// Of the query: only asked of lines that are whole.
    grep: Option<Regex>,
    cursor: Cursor,
    seen: HashMap<String, Option<Seen>>,
    /// Long lines whose end has not come.
    open: Vec<Record>,
}

impl Follow {
    pub(crate) fn new(reader: Reader, mut query: Query, cursor: Cursor) -> Follow {
        query.tail = None;
        Follow {
            reader,
            grep: query.grep.take(),
            query,
            cursor,
            seen: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Everything before this was given out, except lines that are not finished; one that comes back with it misses none, and
    /// gets again what came after such a line's start.
    pub fn cursor(&self) -> Cursor {
        let open = self
            .open
            .iter()
            .map(|record| Cursor(Seq(record.seq.0.saturating_sub(1))));
        open.chain([self.cursor]).min().unwrap_or(self.cursor)
    }

    /// What has come since the last time: at most `limit` records, in order of arrival. A long line comes when its end has, or
    /// when something else of its stream shows that it will not.
    ///
    /// # Errors
    /// A folder or file cannot be read; nothing is skipped by that.
    pub fn poll(&mut self, limit: usize) -> Result<Vec<Record>, Error> {
        let end = self.end()?;
        let mut out = self.finished_lines()?;
        if end <= self.cursor {
            return Ok(out);
        }
        let query = Query {
            after: Some(self.cursor),
            ..self.query.clone()
        };
        let mut reached = end;
        for record in Records::open(&self.reader.root, query, Some(end.0))? {
            let record = record?;
            let seq = record.seq;
            let superseded = |old: &Record| {
                let stream = |r: &Record| (r.origin.stream, r.origin.instance.clone());
                old.unit == record.unit && (old.boot != record.boot || stream(old) == stream(&record))
            };
            while let Some(at) = self.open.iter().position(superseded) {
                let old = self.open.remove(at);
                out.extend(self.wanted(&old).then_some(old));
            }
            if record.cut {
                self.open.push(record);
                if self.open.len() > OPEN_LINES {
                    let old = self.open.remove(0);
                    out.extend(self.wanted(&old).then_some(old));
                }
            } else {
                out.extend(self.wanted(&record).then_some(record));
            }
            if out.len() >= limit {
                reached = Cursor(seq);
                break;
            }
        }
        self.cursor = reached;
        Ok(out)
    }

    fn wanted(&self, record: &Record) -> bool {
        self.grep.as_ref().is_none_or(|grep| grep.is_match(&record.message))
    }

    fn end(&mut self) -> Result<Cursor, Error> {
        let mut end = self.cursor;
        let units = self.reader.units()?;
        for unit in units.into_iter().filter(|unit| self.query.wants_unit(unit)) {
            let folder = self.reader.root.join(&unit);
            let last = chunks::last(&folder, self.seen.entry(unit).or_default())?;
            end = end.max(Cursor(last.unwrap_or_default()));
        }
        Ok(end)
    }

    /// Reads unfinished lines again and takes out those whose end has come.
    fn finished_lines(&mut self) -> Result<Vec<Record>, Error> {
        let mut done = Vec::new();
        for index in (0..self.open.len()).rev() {
            let old = &self.open[index];
            let query = Query {
                units: Some([old.unit.to_string()].into()),
                after: Some(Cursor(Seq(old.seq.0.saturating_sub(1)))),
                ..Query::default()
            };
            let now = Records::open(&self.reader.root, query, Some(old.seq))?
                .next()
                .transpose()?;
            match now {
                Some(now) if now.seq == old.seq && now.cut => self.open[index] = now,
                Some(now) if now.seq == old.seq => {
                    self.open.remove(index);
                    done.extend(self.wanted(&now).then_some(now));
                }
                // Retention took its start: what is known of it is all there is.
                _ => {
                    let old = self.open.remove(index);
                    done.extend(self.wanted(&old).then_some(old));
                }
            }
        }
        done.reverse();
        Ok(done)
    }
}

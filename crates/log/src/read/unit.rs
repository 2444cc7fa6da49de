//! The records of one unit that a query asks for, in order, with long lines put together.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunks::{Chunk, Damage, chunks};
use super::query::Query;
use crate::error::Error;
use crate::format::LONGEST_LINE;
use crate::format::rows::{Row, Rows};
use crate::record::{Part, Record, Seq};

#[derive(Debug)]
pub(crate) struct UnitRecords {
    unit: Arc<str>,
    folder: PathBuf,
    left: VecDeque<Chunk>,
    rows: Rows,
    next: usize,
    /// The last place that came: what stands in a block and in a tail comes once.
    last: Option<Seq>,
    pub(crate) damage: Vec<Damage>,
}

impl UnitRecords {
    pub(crate) fn open(root: &Path, unit: &str, query: &Query) -> Result<UnitRecords, Error> {
        let folder = root.join(unit);
        let left = chunks(&folder, &|header| query.may_match(header))?.into();
        let mut records = UnitRecords {
            unit: unit.into(),
            folder,
            left,
            rows: Rows::default(),
            next: 0,
            last: None,
            damage: Vec::new(),
        };
        if let Some(count) = query.tail {
            records.skip_to_last(query, count)?;
        }
        Ok(records)
    }

    /// Leaves out chunks before the last `count` records: tries the last chunk, then two, four and so on, so that little more is
    /// read than needed.
    fn skip_to_last(&mut self, query: &Query, count: usize) -> Result<(), Error> {
        let all: Vec<Chunk> = self.left.drain(..).collect();
        let mut chunks = 1;
        loop {
            let start = all.len().saturating_sub(chunks);
            self.left = all[start..].iter().cloned().collect();
            let mut found = 0;
            while start > 0 && found < count && self.next_match(query)?.is_some() {
                found += 1;
            }
            self.rows = Rows::default();
            (self.next, self.last) = (0, None);
            self.damage.clear();
            if start == 0 || found >= count {
                self.left = all[start..].iter().cloned().collect();
                return Ok(());
            }
            chunks *= 2;
        }
    }

    /// The next record that matches.
    pub(crate) fn next_match(&mut self, query: &Query) -> Result<Option<Record>, Error> {
        loop {
            let Some(row) = self.rows.rows.get(self.next).copied() else {
                let Some(chunk) = self.left.pop_front() else {
                    return Ok(None);
                };
                self.rows = chunk.read(&mut self.damage)?;
                self.next = 0;
                continue;
            };
            self.next += 1;
            if Some(row.seq) <= self.last {
                continue;
            }
            self.last = Some(row.seq);
            let Some(origin) = self.rows.origin(&row) else { continue };
            // Later pieces came with the first.
            let piece = matches!(row.part, Part::Middle(_) | Part::Last(_));
            if piece || !query.matches(row.seq, row.realtime, self.rows.boot, origin) {
                continue;
            }
            let whole = self.rows.message(&row);
            if row.part == Part::Whole && query.grep.as_ref().is_some_and(|grep| !grep.is_match(whole)) {
                continue;
            }
            let mut record = self.record(&row, Arc::clone(origin), whole.to_vec());
            if row.part == Part::First {
                record.cut = !self.join(&mut record)?;
                if query.grep.as_ref().is_some_and(|grep| !grep.is_match(&record.message)) {
                    continue;
                }
            }
            return Ok(Some(record));
        }
    }

    fn record(&self, row: &Row, origin: Arc<crate::record::Origin>, message: Vec<u8>) -> Record {
        Record {
            seq: row.seq,
            realtime: row.realtime,
            monotonic: row.monotonic,
            boot: self.rows.boot,
            unit: Arc::clone(&self.unit),
            origin,
            message,
            cut: false,
        }
    }

    /// Adds the later pieces of a line; whether its end was among them. They mostly stand in the chunk at hand; the others are
    /// looked for only where a header says that there are pieces.
    fn join(&mut self, record: &mut Record) -> Result<bool, Error> {
        let mut last = record.seq;
        if add_pieces(&self.rows, record, &mut last) {
            return Ok(true);
        }
        let from = self.rows.last().unwrap_or(record.seq);
        for chunk in chunks(&self.folder, &|header| header.pieces && header.last > from)? {
            let rows = chunk.read(&mut self.damage)?;
            if rows.boot == record.boot && add_pieces(&rows, record, &mut last) {
                return Ok(true);
            }
            if record.message.len() > LONGEST_LINE {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

/// Adds the pieces of `record`'s line that `rows` has after `last`; whether the line's end is among them.
fn add_pieces(rows: &Rows, record: &mut Record, last: &mut Seq) -> bool {
    let from = rows.rows.partition_point(|row| row.seq <= *last);
    for row in &rows.rows[from..] {
        let (line, ends) = match row.part {
            Part::Middle(line) => (line, false),
            Part::Last(line) => (line, true),
            Part::Whole | Part::First => continue,
        };
        if line == record.seq {
            record.message.extend_from_slice(rows.message(row));
            *last = row.seq;
            if ends {
                return true;
            }
        }
    }
    false
}

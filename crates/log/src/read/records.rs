//! The records of all units that a query asks for, merged in order of arrival.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::chunks::Damage;
use super::follow::Follow;
use super::query::{Cursor, Query};
use super::unit::UnitRecords;
use crate::error::Error;
use crate::names::units;
use crate::record::{Record, Seq};

/// The store, for reading: beside its writer, or when none runs.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) root: PathBuf,
}

impl Reader {
    /// A reader of the store in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Reader {
        Reader { root: root.into() }
    }

    /// The units that have a log.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn units(&self) -> Result<Vec<String>, Error> {
        units(&self.root)
    }

    /// The records that match, in order of arrival over all units (which is the order of time wherever the clock went forwards).
    ///
    /// # Errors
    /// A folder or file cannot be read. Damage in a file is no error: see [`Records::damage`].
    pub fn query(&self, query: &Query) -> Result<Records, Error> {
        Records::open(&self.root, query.clone(), None)
    }

    /// The same up to a cursor that [`Reader::end`] gave: what [`Reader::follow`] from there on does not repeat.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn query_to(&self, query: &Query, end: Cursor) -> Result<Records, Error> {
        Records::open(&self.root, query.clone(), Some(end.0))
    }

    /// Everything that matches after `from`, and what comes from now on.
    pub fn follow(&self, query: &Query, from: Cursor) -> Follow {
        Follow::new(self.clone(), query.clone(), from)
    }

    /// The end of the store, as a cursor: what comes later is after it.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub fn end(&self) -> Result<Cursor, Error> {
        let mut end = Cursor::default();
        for unit in self.units()? {
            let last = super::chunks::last(&self.root.join(unit), &mut None)?;
            end = end.max(Cursor(last.unwrap_or_default()));
        }
        Ok(end)
    }
}

/// Records, one by one.
#[derive(Debug)]
pub struct Records {
    query: Query,
    /// Each unit's records, and the next of them.
    units: Vec<(UnitRecords, Option<Record>)>,
    /// The last ones, if only those are asked for.
    ready: Option<VecDeque<Record>>,
    until: Option<Seq>,
    damage: Vec<Damage>,
    failed: bool,
}

impl Records {
    pub(crate) fn open(root: &Path, query: Query, until: Option<Seq>) -> Result<Records, Error> {
        let mut all = Vec::new();
        for unit in units(root)?.iter().filter(|unit| query.wants_unit(unit)) {
            let mut records = UnitRecords::open(root, unit, &query)?;
            let next = records.next_match(&query)?;
            all.push((records, next));
        }
        let mut records = Records {
            units: all,
            ready: None,
            until,
            damage: Vec::new(),
            failed: false,
            query,
        };
        if let Some(count) = records.query.tail {
            let mut last = VecDeque::new();
            while let Some(record) = records.merged()? {
                last.push_back(record);
                if last.len() > count {
                    last.pop_front();
                }
            }
            records.ready = Some(last);
        }
        Ok(records)
    }

    fn merged(&mut self) -> Result<Option<Record>, Error> {
        let heads = self.units.iter().enumerate();
        let heads = heads.filter_map(|(index, (_, next))| next.as_ref().map(|record| (record.seq, index)));
        let Some((seq, index)) = heads.min() else {
            return Ok(None);
        };
        if self.until.is_some_and(|until| seq > until) {
            return Ok(None);
        }
        let (records, next) = &mut self.units[index];
        let following = records.next_match(&self.query)?;
        self.damage.append(&mut records.damage);
        Ok(std::mem::replace(next, following))
    }

    /// What could not be read so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }
}

impl Iterator for Records {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match &mut self.ready {
            Some(ready) => ready.pop_front().map(Ok),
            None => {
                let result = self.merged();
                self.failed = result.is_err();
                result.transpose()
            }
        }
    }
}

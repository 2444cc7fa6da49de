//! The audit log: every change that somebody asked for by the panel.

use super::{Db, StoreError, now};

/// So many entries are kept.
const KEPT: i64 = 20_000;

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who asked.
    pub who: String,
    /// From where.
    pub address: String,
    /// What for.
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who asked.
    pub who: String,
    /// From where.
    pub address: String,
    /// What for.
    pub what: String,
    /// What came of it.
    pub result: String,
}

impl Db {
    /// Records something; also in the unit's log, where it is should the disk be full.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn record(&mut self, record: &Record) -> Result<(), StoreError> {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
        let (who, what, result) = (clean(&record.who), clean(&record.what), clean(&record.result));
        eprintln!("<5>audit: {who} ({}): {what}: {result}", record.address);
        let sql = "INSERT INTO audit (at, who, address, what, result) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection
            .execute(sql, (now(), who, &record.address, what, result))?;
        let last = self.connection.last_insert_rowid();
        self.connection
            .execute("DELETE FROM audit WHERE id <= ?1", [last - KEPT])?;
        Ok(())
    }

    /// The newest entries.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn audit(&self, count: u32) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT at, who, address, what, result FROM audit ORDER BY id DESC LIMIT ?1";
        let mut query = self.connection.prepare(sql)?;
        let rows = query.query_map([count], |row| {
            Ok(Entry {
                at: row.get(0)?,
                who: row.get(1)?,
                address: row.get(2)?,
                what: row.get(3)?,
                result: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }
}

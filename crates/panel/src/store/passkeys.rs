//! Passkeys, of the owner and of people, and by what authenticators know whose they are. Nothing of it is secret.

use rusqlite::{OptionalExtension as _, Row};

use super::{Db, StoreError, now};
use crate::webauthn::Credential;

/// So many passkeys one account has at most.
pub const MOST: usize = 20;

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// What is verified by.
    pub credential: Credential,
    /// What its owner calls it.
    pub name: String,
    /// The name of the appliance that it belongs to.
    pub party: String,
    /// When it was made.
    pub created: i64,
    /// When somebody logged in by it last.
    pub used: Option<i64>,
}

/// Whose a passkey is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What authenticators know the account by: random, and another one for each account.
    pub handle: Vec<u8>,
    /// The person; `None`: the owner.
    pub person: Option<String>,
    /// The person's entry in the directory: who is given a name that was another's before is somebody else.
    pub entry: String,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Passkey> {
    Ok(Passkey {
        credential: Credential {
            id: row.get(0)?,
            key: row.get(1)?,
            counter: row.get(2)?,
            backup: row.get(3)?,
        },
        name: row.get(4)?,
        party: row.get(5)?,
        created: row.get(6)?,
        used: row.get(7)?,
    })
}

const COLUMNS: &str = "id, key, counter, backup, name, party, created, used";

impl Db {
    /// The passkeys of a person (or of the owner), the oldest first.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn passkeys(&self, person: Option<&str>) -> Result<Vec<Passkey>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM passkey JOIN passkey_holder USING (handle) WHERE person IS ?1 ORDER BY created, id"
        );
        let mut query = self.connection.prepare(&sql)?;
        Ok(query.query_map([person], read)?.collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether anybody has one.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn has_passkeys(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM passkey)";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// A passkey by its id, and whose it is.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn passkey(&self, id: &[u8]) -> Result<Option<(Passkey, Holder)>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, handle, person, entry FROM passkey JOIN passkey_holder USING (handle) WHERE id = ?1"
        );
        let found = self.connection.query_row(&sql, [id], |row| {
            let holder = Holder {
                handle: row.get(8)?,
                person: row.get(9)?,
                entry: row.get(10)?,
            };
            Ok((read(row)?, holder))
        });
        Ok(found.optional()?)
    }

    /// What authenticators know a person (or the owner) by; `fresh` from now on, if it is nothing yet. Passkeys of somebody else who had
    /// that name before are forgotten.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn passkey_handle(
        &mut self,
        person: Option<&str>,
        entry: &str,
        fresh: [u8; 32],
    ) -> Result<Vec<u8>, StoreError> {
        let change = self.connection.transaction()?;
        let sql = "DELETE FROM passkey_holder WHERE person IS ?1 AND entry <> ?2";
        change.execute(sql, (person, entry))?;
        let sql = "SELECT handle FROM passkey_holder WHERE person IS ?1";
        let known = change.query_row(sql, [person], |row| row.get(0)).optional()?;
        let handle = match known {
            Some(handle) => handle,
            None => {
                let sql = "INSERT INTO passkey_holder (handle, person, entry) VALUES (?1, ?2, ?3)";
                change.execute(sql, (fresh, person, entry))?;
                fresh.to_vec()
            }
        };
        change.commit()?;
        Ok(handle)
    }

    /// Keeps a new passkey. Tells whether it is kept: not if its id is known, or its account was removed meanwhile or has enough.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn add_passkey(
        &mut self,
        handle: &[u8],
        credential: &Credential,
        name: &str,
        party: &str,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO passkey (id, handle, key, counter, backup, name, party, created)
            SELECT ?1, handle, ?3, ?4, ?5, ?6, ?7, ?8 FROM passkey_holder
            WHERE handle = ?2 AND (SELECT count(*) FROM passkey WHERE handle = ?2) < ?9";
        let Credential {
            id,
            key,
            counter,
            backup,
        } = credential;
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let values = rusqlite::params![id, handle, key, counter, backup, name, party, now(), most];
        Ok(self.connection.execute(sql, values)? == 1)
    }

    /// Says that a passkey was used. Tells whether its counter rose since (or it does not count): of two uses at once only one holds.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn use_passkey(&mut self, id: &[u8], counter: u32) -> Result<bool, StoreError> {
        let sql =
            "UPDATE passkey SET counter = ?2, used = ?3 WHERE id = ?1 AND (counter < ?2 OR (counter = 0 AND ?2 = 0))";
        Ok(self.connection.execute(sql, (id, counter, now()))? == 1)
    }

    /// Gives a passkey of a person (or of the owner) another name; gives the one before, if there is such a passkey.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn rename_passkey(
        &mut self,
        person: Option<&str>,
        id: &[u8],
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let change = self.connection.transaction()?;
        let sql = "SELECT name FROM passkey JOIN passkey_holder USING (handle) WHERE id = ?1 AND person IS ?2";
        let before = change.query_row(sql, (id, person), |row| row.get(0)).optional()?;
        if before.is_some() {
            change.execute("UPDATE passkey SET name = ?2 WHERE id = ?1", (id, name))?;
        }
        change.commit()?;
        Ok(before)
    }

    /// Forgets a passkey of a person (or of the owner); gives its name, if there was one.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_passkey(&mut self, person: Option<&str>, id: &[u8]) -> Result<Option<String>, StoreError> {
        let sql = "DELETE FROM passkey WHERE id = ?1 AND handle IN (SELECT handle FROM passkey_holder WHERE person IS ?2) RETURNING name";
        let ended = self.connection.query_row(sql, (id, person), |row| row.get(0));
        Ok(ended.optional()?)
    }

    /// Forgets every passkey of a person (or of the owner), and what authenticators know them by.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_passkeys(&mut self, person: Option<&str>) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM passkey_holder WHERE person IS ?1", [person])?;
        Ok(())
    }
}

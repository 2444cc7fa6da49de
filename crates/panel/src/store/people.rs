//! What the panel keeps of people, who are the directory's: authenticators, and codes by which a password is set.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use rusqlite::OptionalExtension as _;

use super::{Db, StoreError, now};

/// How long a code is good.
const GOOD: i64 = 24 * 3600;

impl Db {
    /// A person's authenticator, and the last step of which a code was used.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn person_totp(&self, uid: &str) -> Result<Option<(String, u64)>, StoreError> {
        let sql = "SELECT totp, totp_used FROM person WHERE uid = ?1";
        let found = self.connection.query_row(sql, [uid], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.try_into().unwrap_or(0)))
        });
        Ok(found.optional()?)
    }

    /// Gives a person another authenticator, or none any more. The code by which it was confirmed counts as used.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn set_person_totp(&mut self, uid: &str, secret: Option<&str>, used: u64) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM person WHERE uid = ?1", [uid])?;
        if let Some(secret) = secret {
            let used = i64::try_from(used).unwrap_or(i64::MAX);
            let sql = "INSERT INTO person (uid, totp, totp_used) VALUES (?1, ?2, ?3)";
            self.connection.execute(sql, (uid, secret, used))?;
        }
        Ok(())
    }

    /// Says that a person used a code of this step. Tells whether it is the first time.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn use_person_totp(&mut self, uid: &str, step: u64) -> Result<bool, StoreError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let sql = "UPDATE person SET totp_used = ?1 WHERE uid = ?2 AND totp_used < ?1";
        Ok(self.connection.execute(sql, (step, uid))? == 1)
    }

    /// Keeps a code by which a person sets a password; one from before is good no more.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn make_reset(&mut self, uid: &str, hash: [u8; 32]) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO reset (hash, uid, created) VALUES (?1, ?2, ?3)";
        self.connection.execute(sql, (hash, uid, now()))?;
        Ok(())
    }

    /// Whose code this is, if it is still good.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn reset(&self, hash: &[u8; 32]) -> Result<Option<String>, StoreError> {
        let sql = "SELECT uid FROM reset WHERE hash = ?1 AND created > ?2";
        let found = self.connection.query_row(sql, (hash, now() - GOOD), |row| row.get(0));
        Ok(found.optional()?)
    }

    /// Takes a code, which is good once; `None` if it is not good any more.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn take_reset(&mut self, hash: &[u8; 32]) -> Result<Option<String>, StoreError> {
        let found = self.reset(hash)?;
        let taken = self.connection.execute("DELETE FROM reset WHERE hash = ?1", [hash])? == 1;
        Ok(found.filter(|_| taken))
    }

    /// Ends the codes by which a person could set a password.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_resets(&mut self, uid: &str) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM reset WHERE uid = ?1", [uid])?;
        Ok(())
    }

    /// Forgets a person: authenticator, passkeys, codes and sessions.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn forget_person(&mut self, uid: &str) -> Result<(), StoreError> {
        self.set_person_totp(uid, None, 0)?;
        self.end_passkeys(Some(uid))?;
        self.end_resets(uid)?;
        self.end_other_sessions(Some(uid), &[])
    }

    /// Every secret that the store has, as it could stand in a text: what must come into no file for others.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn secrets(&self) -> Result<Vec<String>, StoreError> {
        let text = "SELECT password FROM account UNION ALL SELECT totp FROM account WHERE totp IS NOT NULL UNION ALL SELECT totp FROM person";
        let mut query = self.connection.prepare(text)?;
        let mut all = query
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        let bytes = "SELECT hash FROM session UNION ALL SELECT hash FROM token UNION ALL SELECT hash FROM reset UNION ALL \
                     SELECT recovery FROM account UNION ALL SELECT value FROM meta WHERE name = 'form-key'";
        let mut query = self.connection.prepare(bytes)?;
        for found in query.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
            let found = found?;
            all.extend([
                HEXLOWER.encode(&found),
                BASE64.encode(&found),
                BASE64URL_NOPAD.encode(&found),
            ]);
        }
        Ok(all)
    }

    /// Forgets codes that are good no more.
    pub(super) fn tidy_resets(&mut self) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM reset WHERE created <= ?1", [now() - GOOD])?;
        Ok(())
    }
}

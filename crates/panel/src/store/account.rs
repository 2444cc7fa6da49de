//! The owner's account. There is one.

use rusqlite::OptionalExtension as _;

use super::{Db, StoreError, now};

/// Says of the recovery key that nobody has seen it.
const UNSEEN: &str = "recovery-unseen";

/// The owner's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The password, as argon2 writes it.
    pub password: String,
    /// The authenticator's secret.
    pub totp: Option<String>,
    /// The last step of which a code was used.
    pub totp_used: u64,
    /// What is kept of the recovery key.
    pub recovery: Vec<u8>,
}

/// What an account begins with.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
    /// The password, as argon2 writes it.
    pub password: String,
    /// The authenticator's secret.
    pub totp: Option<String>,
    /// What is kept of the recovery key.
    pub recovery: [u8; 32],
}

impl Db {
    /// The owner's account, if there is one.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn account(&self) -> Result<Option<Account>, StoreError> {
        let sql = "SELECT name, password, totp, totp_used, recovery FROM account";
        let found = self.connection.query_row(sql, [], |row| {
            Ok(Account {
                name: row.get(0)?,
                password: row.get(1)?,
                totp: row.get(2)?,
                totp_used: row.get::<_, i64>(3)?.try_into().unwrap_or(0),
                recovery: row.get(4)?,
            })
        });
        Ok(found.optional()?)
    }

    /// Makes the owner's account.
    ///
    /// # Errors
    /// If there is one.
    pub fn make_account(&mut self, account: &NewAccount) -> Result<(), StoreError> {
        if self.account()?.is_some() {
            return Err(StoreError::Taken);
        }
        let sql = "INSERT INTO account (id, name, password, totp, recovery, created) VALUES (1, ?1, ?2, ?3, ?4, ?5)";
        let values = (&account.name, &account.password, &account.totp, account.recovery, now());
        self.connection.execute(sql, values)?;
        Ok(())
    }

    /// Says that a code of this step was used. Tells whether it is the first time: two logins at once cannot both use it.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn use_totp(&mut self, step: u64) -> Result<bool, StoreError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let sql = "UPDATE account SET totp_used = ?1 WHERE totp_used < ?1";
        Ok(self.connection.execute(sql, [step])? == 1)
    }

    /// Another password.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn set_password(&mut self, password: &str) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE account SET password = ?1", [password])?;
        Ok(())
    }

    /// Another authenticator, or none any more. The code by which it was confirmed counts as used.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn set_totp(&mut self, secret: Option<&str>, used: u64) -> Result<(), StoreError> {
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        let sql = "UPDATE account SET totp = ?1, totp_used = ?2";
        self.connection.execute(sql, (secret, used))?;
        Ok(())
    }

    /// Another recovery key, which somebody has seen.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn set_recovery(&mut self, new: [u8; 32]) -> Result<(), StoreError> {
        self.connection.execute("UPDATE account SET recovery = ?1", [new])?;
        self.put(UNSEEN, b"")
    }

    /// Whether nobody has seen the recovery key, as nobody was there when it was made.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn recovery_unseen(&self) -> Result<bool, StoreError> {
        Ok(self.get(UNSEEN)?.is_some_and(|value| !value.is_empty()))
    }

    /// Notes that nobody has seen it.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn hide_recovery(&mut self) -> Result<(), StoreError> {
        self.put(UNSEEN, b"1")
    }

    /// Another password and recovery key, no authenticator and no passkey of the owner any more, and every session ended; only if the recovery key is
    /// still this one, as each is good once.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn recover(&mut self, old: &[u8], password: &str, new: [u8; 32]) -> Result<bool, StoreError> {
        let change = self.connection.transaction()?;
        let sql = "UPDATE account SET password = ?1, recovery = ?2, totp = NULL WHERE recovery = ?3";
        let done = change.execute(sql, (password, new, old))? == 1;
        if done {
            change.execute("DELETE FROM session", [])?;
            change.execute("DELETE FROM passkey_holder WHERE person IS NULL", [])?;
        }
        change.commit()?;
        if done {
            self.homeless.clear();
        }
        Ok(done)
    }
}

//! The panel's own memory: SQLite in its state folder.
//!
//! It is checked when it is opened. A damaged file is set aside, a new one is begun, and [`Store::trouble`] says so until the owner has the
//! daily copy put back. What fails since the disk is full is told apart, as the panel has to open then too.

mod account;
mod audit;
mod file;
mod passkeys;
mod people;
mod sessions;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

pub use account::{Account, NewAccount};
pub use audit::{Entry, Record};
pub use passkeys::{Holder, MOST as MOST_PASSKEYS, Passkey};
pub use sessions::{Level, NewSession, Session};
pub use tokens::{ApiToken, Scope};

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing more can be written.
    #[error("the data partition is full: free space, for example in the logs, and try again")]
    Full,
    /// SQLite refuses.
    #[error("the panel's store cannot be used: {0}")]
    Sqlite(rusqlite::Error),
    /// A file of it cannot be used.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The step, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no copy.
    #[error("there is no copy of the store to put back")]
    NoCopy,
    /// Another account has that name, or there is an owner already.
    #[error("there is an owner's account already")]
    Taken,
    /// A thread ended before its work.
    #[error("the store's work was broken off")]
    Broken,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => StoreError::Sqlite(error),
        }
    }
}

impl StoreError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ => StoreError::Io { doing, path, source },
        }
    }
}

/// What is wrong with the store; each is said on every page.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// The damaged file that was set aside, by its name.
    pub damaged: Option<String>,
    /// Whether there is a copy that can be put back.
    pub copy: bool,
    /// Nothing can be written at the moment.
    pub full: bool,
    /// Why the last daily copy could not be made.
    pub copy_failed: Option<String>,
}

/// The store, opened.
#[derive(Debug)]
pub struct Db {
    folder: PathBuf,
    connection: Connection,
    /// Sessions that found no room on the disk.
    homeless: Vec<Session>,
    trouble: Trouble,
}

/// The store, for the tasks of the server. What is done with it is done beside the server's loop, one thing after the other.
#[derive(Debug, Clone)]
pub struct Store(Arc<Mutex<Db>>);

impl Store {
    /// Opens the store in this folder, or makes it.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        Ok(Store(Arc::new(Mutex::new(Db::open(folder)?))))
    }

    /// Does something with it.
    ///
    /// # Errors
    /// What `work` gives.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            // A panic in between left nothing half done: SQLite rolls back.
            let mut db = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let done = work(&mut db);
            db.trouble.full = match &done {
                Err(StoreError::Full) => true,
                _ => db.trouble.full && !db.room(),
            };
            done
        });
        done.await.map_err(|_| StoreError::Broken)?
    }

    /// What is wrong with it.
    pub async fn trouble(&self) -> Trouble {
        self.with(|db| Ok(db.trouble.clone())).await.unwrap_or_default()
    }
}

impl Db {
    /// A value by its name.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut query = self.connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
        let mut rows = query.query_map([name], |row| row.get(0))?;
        Ok(rows.next().transpose()?)
    }

    /// Keeps a value under a name.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn put(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.connection.execute(sql, (name, value))?;
        Ok(())
    }

    /// The key by which forms are tied to sessions; made at the first use.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn form_key(&mut self) -> Result<Vec<u8>, StoreError> {
        if let Some(key) = self.get("form-key")? {
            return Ok(key);
        }
        let key = crate::secret::random::<32>().map_err(|_| StoreError::Broken)?;
        self.put("form-key", &key)?;
        Ok(key.to_vec())
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

//! The store's files: opening, setting a damaged one aside, the daily copy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{Db, StoreError, Trouble};

const NAME: &str = "panel.db";
const COPY: &str = "panel.copy.db";
/// What the mark says if there is no damaged file.
const MISSING: &str = "missing";
/// Holds the name of the damaged file for as long as the owner has not answered.
const MARK: &str = "damaged";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS account (
  id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL UNIQUE, password TEXT NOT NULL, totp TEXT, totp_used INTEGER NOT NULL DEFAULT 0,
  recovery BLOB NOT NULL, created INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS session (
  hash BLOB PRIMARY KEY, level TEXT NOT NULL, created INTEGER NOT NULL, seen INTEGER NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL, what TEXT NOT NULL, result TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS token (
  hash BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER) STRICT;
PRAGMA user_version = 1;
";

/// What came with people: whose a session is (nobody's name: the owner's), authenticators, and codes by which a password is set.
const PEOPLE: &str = "
ALTER TABLE session ADD COLUMN person TEXT;
CREATE TABLE person (uid TEXT PRIMARY KEY, totp TEXT NOT NULL, totp_used INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE reset (hash BLOB PRIMARY KEY, uid TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;
PRAGMA user_version = 2;
";

/// Passkeys, each of an account that authenticators know by its handle.
const PASSKEYS: &str = "
CREATE TABLE passkey_holder (handle BLOB PRIMARY KEY, person TEXT UNIQUE, entry TEXT NOT NULL) STRICT;
CREATE TABLE passkey (
  id BLOB PRIMARY KEY, handle BLOB NOT NULL REFERENCES passkey_holder (handle) ON DELETE CASCADE, key BLOB NOT NULL, counter INTEGER NOT NULL,
  backup INTEGER NOT NULL, name TEXT NOT NULL, party TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER) STRICT;
PRAGMA user_version = 3;
";

/// What leads to each version of the store.
const STEPS: [(i64, &str); 3] = [(1, SCHEMA), (2, PEOPLE), (CURRENT, PASSKEYS)];
/// The last version.
const CURRENT: i64 = 3;

impl Db {
    pub(super) fn open(folder: &Path) -> Result<Db, StoreError> {
        let (path, copy) = (folder.join(NAME), folder.join(COPY));
        if copy.is_file() && !path.exists() {
            // A store that had an owner is gone; without the mark the owner would be asked to set up anew.
            let mark = folder.join(MARK);
            fs::write(&mark, MISSING).map_err(StoreError::io("write", &mark))?;
        }
        let connection = match connect(&path) {
            Ok(connection) => connection,
            // Neither a full disk nor a folder that cannot be read is damage of the file.
            Err(error) if !is_damage(&error) => return Err(error.into()),
            Err(error) => {
                eprintln!("<3>the store {} is damaged and is set aside: {error}", path.display());
                set_aside(folder)?;
                connect(&path)?
            }
        };
        let mark = fs::read_to_string(folder.join(MARK)).ok();
        let trouble = Trouble {
            damaged: mark,
            copy: copy.is_file(),
            ..Trouble::default()
        };
        Ok(Db {
            folder: folder.to_owned(),
            connection,
            homeless: Vec::new(),
            trouble,
        })
    }

    /// Makes the daily copy, whole or not at all. What stands in a damaged store's place, or has no account, is not copied over the
    /// last good copy.
    ///
    /// # Errors
    /// If it cannot be written; [`Trouble::copy_failed`] then says why.
    pub fn copy(&mut self) -> Result<(), StoreError> {
        if self.trouble.damaged.is_some() || self.account()?.is_none() {
            return Ok(());
        }
        let made = self.make_copy();
        self.trouble.copy_failed = made.as_ref().err().map(ToString::to_string);
        self.trouble.copy = self.folder.join(COPY).is_file();
        made
    }

    fn make_copy(&self) -> Result<(), StoreError> {
        let (new, copy) = (self.folder.join("panel.copy.new"), self.folder.join(COPY));
        let _ = fs::remove_file(&new);
        let made = self.connection.execute("VACUUM INTO ?1", [new.to_string_lossy()]);
        if let Err(error) = made {
            let _ = fs::remove_file(&new);
            return Err(error.into());
        }
        in_place(&self.folder, &new, &copy)
    }

    /// Puts the copy in the store's place, without its sessions: some of them may have been ended since.
    ///
    /// # Errors
    /// If there is no copy, or it is damaged too.
    pub fn put_back(&mut self) -> Result<(), StoreError> {
        let (copy, new, path) = (
            self.folder.join(COPY),
            self.folder.join("panel.new"),
            self.folder.join(NAME),
        );
        if !copy.is_file() {
            return Err(StoreError::NoCopy);
        }
        fs::copy(&copy, &new).map_err(StoreError::io("copy", &copy))?;
        {
            let checked = connect(&new)?;
            checked.execute("DELETE FROM session", [])?;
            checked
                .pragma_update(None, "wal_checkpoint", "TRUNCATE")
                .or_else(|error| match error {
                    rusqlite::Error::ExecuteReturnedResults => Ok(()),
                    other => Err(other),
                })?;
        }
        // The old one is closed before its files are replaced.
        self.connection = Connection::open_in_memory()?;
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&new, end));
            let _ = fs::remove_file(beside(&path, end));
        }
        in_place(&self.folder, &new, &path)?;
        self.connection = connect(&path)?;
        let _ = fs::remove_file(self.folder.join(MARK));
        self.homeless.clear();
        self.trouble.damaged = None;
        Ok(())
    }

    /// The owner has seen that a file was set aside, and goes on without it.
    ///
    /// # Errors
    /// If the mark cannot be removed.
    pub fn go_on_without(&mut self) -> Result<(), StoreError> {
        let mark = self.folder.join(MARK);
        fs::remove_file(&mark).map_err(StoreError::io("remove", &mark))?;
        self.trouble.damaged = None;
        Ok(())
    }

    /// Whether something can be written again.
    pub(super) fn room(&mut self) -> bool {
        self.put("room", b"1").is_ok()
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    // FULL: what was answered is on the disk. secure_delete: what was removed is not in the file any more.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;",
    )?;
    let told: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if told != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(told)));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // All or nothing, and the disk is waited for once.
    if version < CURRENT {
        let change = connection.transaction()?;
        for (number, text) in STEPS {
            if version < number {
                change.execute_batch(text)?;
            }
        }
        change.commit()?;
    }
    Ok(connection)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn set_aside(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(NAME);
    let stamp = super::now();
    let aside = format!("{NAME}.damaged-{stamp}");
    // The mark first: whatever happens in between, the owner is told.
    let mark = folder.join(MARK);
    fs::write(&mark, &aside).map_err(StoreError::io("write", &mark))?;
    for end in ["-wal", "-shm"] {
        let from = beside(&path, end);
        if from.exists() {
            let to = folder.join(format!("{aside}{end}"));
            fs::rename(&from, to).map_err(StoreError::io("rename", &from))?;
        }
    }
    fs::rename(&path, folder.join(&aside)).map_err(StoreError::io("rename", &path))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A whole file in the place of another, so that a power cut leaves one of them.
fn in_place(folder: &Path, new: &Path, path: &Path) -> Result<(), StoreError> {
    let sync = |path: &Path| {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(StoreError::io("write", path))
    };
    sync(new)?;
    fs::rename(new, path).map_err(StoreError::io("rename", new))?;
    sync(folder)
}

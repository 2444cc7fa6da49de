//! Sessions. Of a session's token only a hash is kept.

use rusqlite::{OptionalExtension as _, Row};

use super::{Db, StoreError, now};

/// A session that nobody uses ends after this, and any after [`LONGEST`].
const IDLE: i64 = 12 * 3600;
const LONGEST: i64 = 7 * 24 * 3600;
/// How long the code of the authenticator may take to be typed.
const HALF: i64 = 300;

/// How far somebody has logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The password was right, and the authenticator's code is still asked for.
    Half,
    /// Logged in.
    Full,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The hash of its token.
    pub hash: Vec<u8>,
    /// How far it is.
    pub level: Level,
    /// When it began.
    pub created: i64,
    /// When it was used last, to the minute.
    pub seen: i64,
    /// From where it began.
    pub address: String,
    /// By which browser.
    pub agent: String,
    /// Whose it is; `None`: the owner's.
    pub person: Option<String>,
}

/// What a session begins with.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The hash of its token.
    pub hash: [u8; 32],
    /// How far it is.
    pub level: Level,
    /// From where.
    pub address: String,
    /// By which browser.
    pub agent: String,
    /// Whose it is; `None`: the owner's.
    pub person: Option<String>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        hash: row.get(0)?,
        level: match row.get::<_, String>(1)?.as_str() {
            "full" => Level::Full,
            _ => Level::Half,
        },
        created: row.get(2)?,
        seen: row.get(3)?,
        address: row.get(4)?,
        agent: row.get(5)?,
        person: row.get(6)?,
    })
}

const COLUMNS: &str = "hash, level, created, seen, address, agent, person";

impl Session {
    /// What it is called where it is ended singly; by it nobody gets in.
    pub fn id(&self) -> String {
        let start = self.hash.get(..8).unwrap_or_default();
        data_encoding::HEXLOWER.encode(start)
    }

    fn holds(&self, now: i64) -> bool {
        let idle = match self.level {
            Level::Half => HALF,
            Level::Full => IDLE,
        };
        now - self.seen < idle && now - self.created < LONGEST
    }
}

impl Db {
    /// Begins a session, and ends the one that was before it. On a full disk it lives in memory: the owner has to get in.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn begin_session(&mut self, new: &NewSession, before: &[u8]) -> Result<(), StoreError> {
        let _ = self.end_session(before);
        let session = Session {
            hash: new.hash.to_vec(),
            level: new.level,
            created: now(),
            seen: now(),
            address: new.address.clone(),
            agent: new.agent.chars().take(200).collect(),
            person: new.person.clone(),
        };
        match self.insert(&session) {
            Err(StoreError::Full) => {
                self.trouble.full = true;
                self.homeless.retain(|other| other.holds(now()));
                self.homeless.truncate(31);
                self.homeless.insert(0, session);
                Ok(())
            }
            other => other,
        }
    }

    fn insert(&mut self, session: &Session) -> Result<(), StoreError> {
        let level = match session.level {
            Level::Half => "half",
            Level::Full => "full",
        };
        let sql = format!("INSERT INTO session ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        let values = (
            &session.hash,
            level,
            session.created,
            session.seen,
            &session.address,
            &session.agent,
            &session.person,
        );
        self.connection.execute(&sql, values)?;
        Ok(())
    }

    /// The session of a token, if it still holds. Its use is noted once a minute.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn session(&mut self, hash: &[u8]) -> Result<Option<Session>, StoreError> {
        let now = now();
        if let Some(found) = self.homeless.iter_mut().find(|session| session.hash == hash) {
            let held = found.holds(now);
            found.seen = now;
            return Ok(held.then(|| found.clone()));
        }
        let sql = format!("SELECT {COLUMNS} FROM session WHERE hash = ?1");
        let found = self.connection.query_row(&sql, [hash], read).optional()?;
        let Some(mut found) = found.filter(|session| session.holds(now)) else {
            return Ok(None);
        };
        if now - found.seen >= 60 {
            // A full disk is no reason to send the owner away.
            let _ = self
                .connection
                .execute("UPDATE session SET seen = ?1 WHERE hash = ?2", (now, hash));
            found.seen = now;
        }
        Ok(Some(found))
    }

    /// Every session of a person (or of the owner) that holds, the newest first.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn sessions(&self, person: Option<&str>) -> Result<Vec<Session>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM session WHERE person IS ?1 ORDER BY created DESC LIMIT 200");
        let mut query = self.connection.prepare(&sql)?;
        let rows = query.query_map([person], read)?.collect::<Result<Vec<_>, _>>()?;
        let homeless = self
            .homeless
            .iter()
            .filter(|session| session.person.as_deref() == person);
        let all = homeless.cloned().chain(rows);
        Ok(all
            .filter(|session| session.level == Level::Full && session.holds(now()))
            .collect())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_session(&mut self, hash: &[u8]) -> Result<(), StoreError> {
        self.homeless.retain(|session| session.hash != hash);
        self.connection.execute("DELETE FROM session WHERE hash = ?1", [hash])?;
        Ok(())
    }

    /// Ends every session of a person (or of the owner) but this one.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_other_sessions(&mut self, person: Option<&str>, hash: &[u8]) -> Result<(), StoreError> {
        self.homeless
            .retain(|session| session.hash == hash || session.person.as_deref() != person);
        let sql = "DELETE FROM session WHERE hash <> ?1 AND person IS ?2";
        self.connection.execute(sql, (hash, person))?;
        Ok(())
    }

    /// Ends one session of a person (or of the owner), by its [`Session::id`].
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_one_session(&mut self, person: Option<&str>, id: &str) -> Result<(), StoreError> {
        for session in self.sessions(person)?.iter().filter(|session| session.id() == id) {
            self.end_session(&session.hash)?;
        }
        Ok(())
    }

    /// Forgets sessions that hold no more, and codes.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn tidy(&mut self) -> Result<(), StoreError> {
        let now = now();
        let sql = "DELETE FROM session WHERE seen < ?1 OR created < ?2 OR (level = 'half' AND created < ?3)";
        self.connection.execute(sql, (now - IDLE, now - LONGEST, now - HALF))?;
        self.tidy_resets()
    }
}

//! Tokens for programs, kept as hashes.

use rusqlite::OptionalExtension as _;

use super::{Db, StoreError, now};

/// What a token is good for; each holds what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Looking.
    Read,
    /// Starting, stopping and restarting units.
    Operate,
    /// All that the owner may.
    Own,
}

impl Scope {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Own => "own",
        }
    }

    /// The scope of a word.
    pub fn parse(word: &str) -> Option<Scope> {
        [Scope::Read, Scope::Operate, Scope::Own]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }
}

/// A token, without the token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ApiToken {
    /// What the owner calls it.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// When it was made.
    pub created: i64,
    /// When it was used last, to the hour.
    pub used: Option<i64>,
}

impl Db {
    /// Keeps a new token.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn make_token(&mut self, name: &str, scope: Scope, hash: [u8; 32]) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO token (hash, name, scope, created) VALUES (?1, ?2, ?3, ?4)";
        Ok(self.connection.execute(sql, (hash, name, scope.as_str(), now()))? == 1)
    }

    /// A token by its hash.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn token(&mut self, hash: &[u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        let sql = "SELECT name, scope, created, used FROM token WHERE hash = ?1";
        let found = self.connection.query_row(sql, [hash], read).optional()?;
        if let Some(token) = &found
            && token.used.is_none_or(|used| now() - used >= 3600)
        {
            let _ = self
                .connection
                .execute("UPDATE token SET used = ?1 WHERE hash = ?2", (now(), hash));
        }
        Ok(found)
    }

    /// Every token.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let mut query = self
            .connection
            .prepare("SELECT name, scope, created, used FROM token ORDER BY name")?;
        Ok(query.query_map([], read)?.collect::<Result<Vec<_>, _>>()?)
    }

    /// Ends a token.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn end_token(&mut self, name: &str) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM token WHERE name = ?1", [name])?;
        Ok(())
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<ApiToken> {
    Ok(ApiToken {
        name: row.get(0)?,
        scope: Scope::parse(&row.get::<_, String>(1)?).unwrap_or(Scope::Read),
        created: row.get(2)?,
        used: row.get(3)?,
    })
}

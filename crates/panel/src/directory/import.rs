//! People from a table (CSV): every row is looked at and every wrong one reported, and nothing is written unless all are right.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Bound, Card, Directory, DirectoryError, Group, Person};
use crate::setup;

/// The columns, of which only the first has to be there.
const COLUMNS: [&str; 7] = ["uid", "given", "surname", "mail", "aliases", "groups", "password"];
/// So many people at once.
pub(super) const MOST: usize = 10_000;
/// So many of them with a password: each is judged here and hashed by the directory, on purpose slowly.
const PASSWORDS: usize = 500;
/// So many wrong places are told.
const TOLD: usize = 1000;
/// How long the directory may take for all of it.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// So many members are written at once.
const MEMBERS: usize = 500;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The line in the file, from 1.
    pub line: u64,
    /// The column; empty if it is the row as a whole.
    pub column: &'static str,
    /// The key of the sentence.
    pub why: &'static str,
    /// What is there.
    pub value: String,
}

/// A row; of one in which something is wrong, what is right, so that all of it is compared at once.
#[derive(Debug, Clone)]
struct Row {
    line: u64,
    card: Card,
    groups: Vec<String>,
    password: Option<String>,
}

/// A table that was read and is not compared with the directory yet.
#[derive(Debug, Clone, Default)]
pub struct Import {
    rows: Vec<Row>,
    /// Rows and passwords so far, those that are too many too.
    seen: usize,
    passwords: usize,
    /// What is wrong so far, by line.
    pub problems: Vec<Problem>,
}

impl Import {
    /// Reads a table: fields parted by commas or semicolons, the columns' names in the first line.
    pub fn read(text: &str) -> Import {
        // With line ends of one kind, a line has the number that an editor shows.
        let text = text
            .trim_start_matches('\u{feff}')
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        let head = text.lines().next().unwrap_or_default();
        let delimiter = if head.contains(';') { b';' } else { b',' };
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut import = Import::default();
        let names: Vec<String> = reader
            .headers()
            .map(|row| row.iter().map(str::to_lowercase).collect())
            .unwrap_or_default();
        for name in &names {
            if !COLUMNS.contains(&name.as_str()) {
                import.wrong(1, "", "wrong.csv-column", name);
            }
        }
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                import.wrong(1, "", "wrong.csv-twice", name);
            }
        }
        if !names.iter().any(|name| name == "uid") {
            import.wrong(1, "uid", "wrong.csv-uid", "");
        }
        if !import.problems.is_empty() {
            return import;
        }
        for (i, record) in reader.records().enumerate() {
            match record {
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    import.wrong(line, "", "wrong.csv-broken", &error.to_string());
                }
                Ok(record) if record.iter().all(str::is_empty) => {}
                Ok(record) => {
                    let line = record.position().map_or(i as u64 + 2, csv::Position::line);
                    import.take(line, &names, &record);
                }
            }
        }
        import.twice();
        if import.seen > MOST {
            import.wrong(1, "", "wrong.csv-many", &import.seen.to_string());
        }
        if import.passwords > PASSWORDS {
            import.wrong(1, "password", "wrong.csv-passwords", "");
        }
        if import.rows.is_empty() && import.problems.is_empty() {
            import.wrong(1, "", "wrong.csv-empty", "");
        }
        import.problems.sort_by_key(|problem| problem.line);
        import
    }

    /// How many people stand in it.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody stands in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn wrong(&mut self, line: u64, column: &'static str, why: &'static str, value: &str) {
        // A password is no value to be shown.
        let value = if column == "password" { "" } else { value };
        let value = value.chars().take(80).collect();
        // What is wrong with the table as a whole is told in any case.
        if self.problems.len() >= TOLD && line != 1 {
            return;
        }
        self.problems.push(Problem {
            line,
            column,
            why,
            value,
        });
    }

    fn take(&mut self, line: u64, names: &[String], record: &csv::StringRecord) {
        self.seen += 1;
        if self.seen > MOST {
            return;
        }
        if record.len() != names.len() {
            self.wrong(line, "", "wrong.csv-fields", &record.len().to_string());
            return;
        }
        let get = |column: &str| {
            names
                .iter()
                .position(|name| name == column)
                .and_then(|i| record.get(i))
                .unwrap_or_default()
        };
        let (card, wrong) = Card::read(get("uid"), get("given"), get("surname"), get("mail"), get("aliases"));
        for (column, why) in wrong {
            self.wrong(line, column, why, get(column));
        }
        let mut groups = Vec::new();
        for text in get("groups").split([' ', ',', ';']).filter(|text| !text.is_empty()) {
            match super::group_name(text) {
                Ok(name) => groups.push(name),
                Err(why) => self.wrong(line, "groups", why, text),
            }
        }
        let password = Some(get("password").to_owned()).filter(|password| !password.is_empty());
        self.passwords += usize::from(password.is_some());
        if let Some(password) = &password
            && self.passwords <= PASSWORDS
            && let Err(why) = setup::password(password, password, &[&card.uid])
        {
            self.wrong(line, "password", why, "");
        }
        self.rows.push(Row {
            line,
            card,
            groups,
            password,
        });
    }

    /// Finds what stands in two rows.
    fn twice(&mut self) {
        let (mut names, mut addresses, mut wrong) = (HashMap::new(), HashMap::new(), Vec::new());
        for row in &self.rows {
            if !row.card.uid.is_empty() && names.insert(&row.card.uid, row.line).is_some() {
                wrong.push((row.line, "uid", "wrong.csv-again", row.card.uid.clone()));
            }
            for address in row.card.addresses() {
                if addresses
                    .insert(address.to_lowercase(), row.line)
                    .is_some_and(|other| other != row.line)
                {
                    wrong.push((row.line, "mail", "wrong.csv-again", address.clone()));
                }
            }
        }
        for (line, column, why, value) in wrong {
            self.wrong(line, column, why, &value);
        }
    }

    /// Compares it with what is there: `others` are names that nobody may have.
    fn compare(&mut self, people: &[Person], groups: &[Group], others: &[String]) {
        let names: HashSet<&str> = people
            .iter()
            .map(|person| person.uid.as_str())
            .chain(others.iter().map(String::as_str))
            .collect();
        let own = people
            .iter()
            .flat_map(|person| person.aliases.iter().chain(Some(&person.mail)));
        let addresses: HashSet<String> = own.map(|address| address.to_lowercase()).collect();
        let mut wrong = Vec::new();
        for row in &self.rows {
            if names.contains(row.card.uid.as_str()) {
                wrong.push((row.line, "uid", "wrong.uid-taken", row.card.uid.clone()));
            }
            for address in row
                .card
                .addresses()
                .filter(|address| addresses.contains(&address.to_lowercase()))
            {
                wrong.push((row.line, "mail", "wrong.mail-taken", address.clone()));
            }
            for group in row
                .groups
                .iter()
                .filter(|name| !groups.iter().any(|group| group.name == **name))
            {
                wrong.push((row.line, "groups", "wrong.group-gone", group.clone()));
            }
        }
        for (line, column, why, value) in wrong {
            self.wrong(line, column, why, &value);
        }
        self.problems.sort_by_key(|problem| problem.line);
    }
}

impl Bound {
    /// All that a table is compared with.
    async fn there(&mut self) -> Result<(Vec<Person>, Vec<Group>), DirectoryError> {
        Ok((self.people("(objectClass=inetOrgPerson)").await?, self.groups().await?))
    }
}

impl Directory {
    /// Adds to a table what the directory has against it, so that all that is wrong is told at once. `others` are names that nobody
    /// may have.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn compare(&self, import: &mut Import, others: &[String]) -> Result<(), DirectoryError> {
        let (people, groups) = self.work(async |bound| bound.there().await).await?;
        import.compare(&people, &groups, others);
        Ok(())
    }

    /// Makes everybody who stands in a table, or nobody; `Err` has what is wrong with it. `count` has how many are made so far.
    ///
    /// # Errors
    /// If the directory is away or refuses; then too nobody of the table is left behind, as far as it still answers.
    pub async fn import(
        &self,
        mut import: Import,
        others: &[String],
        count: &AtomicUsize,
    ) -> Result<Result<usize, Vec<Problem>>, DirectoryError> {
        self.work_within(PATIENCE, async |bound| {
            let (people, groups) = bound.there().await?;
            import.compare(&people, &groups, others);
            if !import.problems.is_empty() {
                return Ok(Err(import.problems));
            }
            let mut number = bound.next_number().await?;
            let mut made: Vec<&str> = Vec::new();
            let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            let mut failed = None;
            for row in &import.rows {
                if let Err(error) = bound.add_person(&row.card, number, row.password.as_deref()).await {
                    failed = Some(error);
                    break;
                }
                number += 1;
                count.fetch_add(1, Ordering::Relaxed);
                made.push(&row.card.uid);
                for group in &row.groups {
                    members.entry(group).or_default().push(&row.card.uid);
                }
            }
            for (group, uids) in &members {
                for uids in uids.chunks(MEMBERS) {
                    if failed.is_none() {
                        failed = bound.member(group, uids, true).await.err();
                    }
                }
            }
            let Some(error) = failed else { return Ok(Ok(made.len())) };
            for uid in made {
                let _ = bound.remove_person(uid).await;
            }
            Err(error)
        })
        .await
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

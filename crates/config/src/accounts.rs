//! The accounts that bindings need: a password each, made here, kept until the binding is gone, and changed under running services.
//!
//! One file an account, written as a whole. What lies there and what is wanted give a list of steps; one place carries it out. What a
//! provider does with an account is none of this crate's business: the manager compares what it has granted with what stands here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, put};
use crate::error::Error;
use crate::random::random_text;

/// How many letters and digits a password has: 190 bits, and no sign that any format or shell takes for something else.
pub const LENGTH: usize = 32;
/// How the files' names end.
const ENDING: &str = ".json";

/// A binding that needs an account, or a secret that units share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The unit that has the accounts.
    pub provider: String,
    /// What of it is needed.
    pub provide: String,
    /// The unit that needs it; empty for a secret that is the same for all that do.
    pub consumer: String,
    /// Its own name for that; empty likewise.
    pub need: String,
    /// How many characters its password has.
    pub length: usize,
}

/// An account, or a secret that units share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The unit that has it.
    pub provider: String,
    /// What of that unit it is for.
    pub provide: String,
    /// The unit that it belongs to; empty for a secret that units share.
    pub consumer: String,
    /// That unit's name for the binding.
    pub need: String,
    /// Its password.
    pub password: String,
    /// Changes with each password, for providers that cannot hold two passwords for one account and make a second one instead.
    pub turn: Turn,
    /// The password before, as long as a consumer may still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What has become of it.
    pub stage: Stage,
}

impl Account {
    /// Whether it is no account, but a secret that units share.
    pub fn is_shared(&self) -> bool {
        self.consumer.is_empty()
    }

    /// What its units use, and what else they are to accept: at first the one to come, and when all have it, the one of before.
    pub fn shown(&self) -> (&str, Option<&str>) {
        match (self.stage, &self.old) {
            (Stage::Changing, Some(old)) => (old, Some(&self.password)),
            (_, old) => (&self.password, old.as_deref()),
        }
    }
}

/// Which of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    /// The one.
    #[default]
    A,
    /// The other.
    B,
}

impl Turn {
    /// As templates see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Turn::A => "a",
            Turn::B => "b",
        }
    }

    /// The other one.
    pub fn other(self) -> Turn {
        match self {
            Turn::A => Turn::B,
            Turn::B => Turn::A,
        }
    }
}

/// What has become of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is in use.
    #[default]
    Held,
    /// It has another password; the old one is good too, since the consumer has not been told.
    Changing,
    /// The consumer has been told, and may not have begun to use the new one.
    Told,
    /// No binding needs it any more: its rights are taken away, what it owns is kept.
    Gone,
}

/// Every account, by `PROVIDE.NAME`, and every shared secret, by `PROVIDE`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The accounts.
    pub accounts: BTreeMap<String, Account>,
    /// Files that cannot be read, with the reason. Their accounts get another password.
    pub damaged: BTreeMap<String, String>,
}

/// What has to be done to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An account is new.
    Make(String, Wanted),
    /// Its file cannot be read, so it gets another password.
    Replace(String, Wanted, String),
    /// Another unit has it now.
    Move(String, String),
    /// It is needed again.
    Return(String),
    /// It is not needed any more.
    Remove(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Make(key, wanted) if wanted.consumer.is_empty() => write!(f, "the secret {key} is made"),
            Step::Make(key, wanted) => write!(f, "{key} is made for {}", wanted.consumer),
            Step::Replace(key, _, why) => write!(f, "{key} gets another password: {why}"),
            Step::Move(key, provider) => write!(f, "{key} is {provider}'s now"),
            Step::Return(key) => write!(f, "{key} is needed again"),
            Step::Remove(key) => write!(
                f,
                "{key} is not needed any more: its rights are taken away, what it owns is kept"
            ),
        }
    }
}

impl Ledger {
    /// Reads it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read(disk: &dyn Disk, folder: &Path) -> Result<Ledger, Error> {
        let mut ledger = Ledger::default();
        for file in disk.names(folder).map_err(Error::io("read", folder))? {
            let Some(key) = file.strip_suffix(ENDING) else { continue };
            let path = folder.join(&file);
            let read = disk.read(&path).map_err(|e| e.to_string());
            let account = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
            match account {
                Ok(account) => drop(ledger.accounts.insert(key.to_owned(), account)),
                Err(why) => drop(
                    ledger
                        .damaged
                        .insert(key.to_owned(), format!("{} is damaged: {why}", path.display())),
                ),
            }
        }
        Ok(ledger)
    }
}

/// What has to be done so that the ledger has what is wanted, by `PROVIDE.NAME`.
pub fn plan(ledger: &Ledger, wanted: &BTreeMap<String, Wanted>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, wanted) in wanted {
        match (ledger.accounts.get(key), ledger.damaged.get(key)) {
            (None, None) => steps.push(Step::Make(key.clone(), wanted.clone())),
            (None, Some(why)) => steps.push(Step::Replace(key.clone(), wanted.clone(), why.clone())),
            (Some(account), _) => {
                if account.provider != wanted.provider {
                    steps.push(Step::Move(key.clone(), wanted.provider.clone()));
                }
                if account.stage == Stage::Gone {
                    steps.push(Step::Return(key.clone()));
                }
            }
        }
    }
    let gone = ledger
        .accounts
        .iter()
        .filter(|(key, account)| !wanted.contains_key(*key) && account.stage != Stage::Gone);
    steps.extend(gone.map(|(key, _)| Step::Remove(key.clone())));
    steps
}

/// Brings the ledger to what is wanted; what was done, and how it is then.
///
/// # Errors
/// The disk's. What was done until then stays and is whole.
pub fn update(disk: &dyn Disk, folder: &Path, wanted: &BTreeMap<String, Wanted>) -> Result<(Ledger, Vec<Step>), Error> {
    disk.make_folder(folder).map_err(Error::io("make the folder", folder))?;
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    let mut ledger = Ledger::read(disk, folder)?;
    let steps = plan(&ledger, wanted);
    for step in &steps {
        match step {
            Step::Make(key, wanted) | Step::Replace(key, wanted, _) => {
                let account = Account {
                    provider: wanted.provider.clone(),
                    provide: wanted.provide.clone(),
                    consumer: wanted.consumer.clone(),
                    need: wanted.need.clone(),
                    password: random_text(wanted.length)?,
                    turn: Turn::A,
                    old: None,
                    stage: Stage::Held,
                };
                ledger.damaged.remove(key);
                write(disk, folder, &mut ledger, key, account)?;
            }
            Step::Move(key, provider) => change(disk, folder, &mut ledger, key, |account| {
                account.provider.clone_from(provider);
            })?,
            Step::Return(key) => change(disk, folder, &mut ledger, key, |account| account.stage = Stage::Held)?,
            Step::Remove(key) => change(disk, folder, &mut ledger, key, |account| {
                account.stage = Stage::Gone;
                account.old = None;
            })?,
        }
    }
    Ok((ledger, steps))
}

/// One step in the change of a password. Each does nothing where the account is not at the stage before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turnover {
    /// It gets another password, and keeps the old one.
    Begin,
    /// The consumer has been told.
    Tell,
    /// The consumer uses the new one: the old one is good no more.
    End,
}

/// Does one step in the change of a password; the account as it is then.
///
/// # Errors
/// The disk's; there is no such account.
pub fn turn(disk: &dyn Disk, folder: &Path, key: &str, step: Turnover) -> Result<Account, Error> {
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    let mut ledger = Ledger::read(disk, folder)?;
    let Some(account) = ledger.accounts.get(key) else {
        return Err(Error::Refused(format!("there is no account {key}")));
    };
    let mut new = account.clone();
    match (step, account.stage) {
        (Turnover::Begin, Stage::Held) => {
            let password = random_text(new.password.len())?;
            new.old = Some(std::mem::replace(&mut new.password, password));
            new.turn = new.turn.other();
            new.stage = Stage::Changing;
        }
        (Turnover::Tell, Stage::Changing) => new.stage = Stage::Told,
        (Turnover::End, Stage::Told) => {
            new.old = None;
            new.stage = Stage::Held;
        }
        _ => {}
    }
    if new != *account {
        write(disk, folder, &mut ledger, key, new.clone())?;
    }
    Ok(new)
}

/// Removes an account from the ledger. Its provider has removed what it owned.
///
/// # Errors
/// The disk's.
pub fn forget(disk: &dyn Disk, folder: &Path, key: &str) -> Result<(), Error> {
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    let path = folder.join(format!("{key}{ENDING}"));
    disk.remove(&path)
        .and_then(|()| disk.sync_folder(folder))
        .map_err(Error::io("remove", &path))
}

fn change(
    disk: &dyn Disk,
    folder: &Path,
    ledger: &mut Ledger,
    key: &str,
    how: impl FnOnce(&mut Account),
) -> Result<(), Error> {
    let Some(mut account) = ledger.accounts.get(key).cloned() else {
        return Ok(());
    };
    how(&mut account);
    write(disk, folder, ledger, key, account)
}

fn write(disk: &dyn Disk, folder: &Path, ledger: &mut Ledger, key: &str, account: Account) -> Result<(), Error> {
    let text = serde_json::to_vec(&account).map_err(|e| Error::Refused(e.to_string()))?;
    put(disk, &folder.join(format!("{key}{ENDING}")), &text, 0o600)?;
    ledger.accounts.insert(key.to_owned(), account);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Model;

    const FOLDER: &str = "/accounts";

    fn wanted(all: &[(&str, &str)]) -> BTreeMap<String, Wanted> {
        let one = |(provider, consumer): &(&str, &str)| {
            let wanted = Wanted {
                provider: (*provider).into(),
                provide: "sql".into(),
                consumer: (*consumer).into(),
                need: "db".into(),
                length: LENGTH,
            };
            (format!("sql.{consumer}_db"), wanted)
        };
        all.iter().map(one).collect()
    }

    fn done(disk: &Model, all: &[(&str, &str)]) -> (Ledger, Vec<String>) {
        let (ledger, steps) = update(disk, Path::new(FOLDER), &wanted(all)).unwrap();
        assert_eq!(plan(&ledger, &wanted(all)), []);
        (ledger, steps.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_account_is_made_once_and_outlives_its_binding_without_rights() {
        let disk = Model::default();
        let (first, steps) = done(&disk, &[("db", "wiki"), ("db", "shop")]);
        assert_eq!(steps.len(), 2);
        let password = |ledger: &Ledger| ledger.accounts["sql.wiki_db"].password.clone();
        assert_eq!(password(&first).len(), LENGTH);
        assert_ne!(password(&first), first.accounts["sql.shop_db"].password);
        assert_eq!(done(&disk, &[("db", "wiki"), ("db", "shop")]), (first.clone(), vec![]));
        let (second, steps) = done(&disk, &[("db", "shop")]);
        assert_eq!(second.accounts["sql.wiki_db"].stage, Stage::Gone);
        assert!(steps[0].contains("what it owns is kept"), "{steps:?}");
        let (third, steps) = done(&disk, &[("db", "shop"), ("other", "wiki")]);
        assert_eq!(password(&third), password(&first));
        assert_eq!(steps, ["sql.wiki_db is other's now", "sql.wiki_db is needed again"]);
        forget(&disk, Path::new(FOLDER), "sql.wiki_db").unwrap();
        assert_eq!(Ledger::read(&disk, Path::new(FOLDER)).unwrap().accounts.len(), 1);
    }

    #[test]
    fn a_password_is_changed_in_three_steps_and_the_old_one_is_good_until_the_last() {
        let (disk, folder, key) = (Model::default(), Path::new(FOLDER), "sql.wiki_db");
        let (ledger, _) = done(&disk, &[("db", "wiki")]);
        let first = ledger.accounts[key].clone();
        // Out of turn nothing happens.
        for step in [Turnover::Tell, Turnover::End] {
            assert_eq!(turn(&disk, folder, key, step).unwrap(), first);
        }
        let begun = turn(&disk, folder, key, Turnover::Begin).unwrap();
        assert_eq!((begun.old.as_ref(), begun.turn), (Some(&first.password), Turn::B));
        assert_ne!(begun.password, first.password);
        // Who asks twice does not lose the password that the consumer still uses.
        assert_eq!(turn(&disk, folder, key, Turnover::Begin).unwrap(), begun);
        assert_eq!(turn(&disk, folder, key, Turnover::End).unwrap(), begun);
        let told = turn(&disk, folder, key, Turnover::Tell).unwrap();
        assert_eq!((told.stage, &told.old), (Stage::Told, &begun.old));
        let ended = turn(&disk, folder, key, Turnover::End).unwrap();
        assert_eq!(
            (ended.stage, &ended.old, &ended.password),
            (Stage::Held, &None, &begun.password)
        );
        assert_eq!(turn(&disk, folder, key, Turnover::Begin).unwrap().turn, Turn::A);
        assert!(turn(&disk, folder, "sql.none", Turnover::Begin).is_err());
    }

    #[test]
    fn who_shares_a_secret_always_accepts_what_the_others_use() {
        let (disk, folder) = (Model::default(), Path::new(FOLDER));
        let wanted = Wanted {
            provider: "door".into(),
            provide: "key".into(),
            consumer: String::new(),
            need: String::new(),
            length: 64,
        };
        let (ledger, steps) = update(&disk, folder, &BTreeMap::from([("key".to_owned(), wanted)])).unwrap();
        assert_eq!(steps[0].to_string(), "the secret key is made");
        let mut before = ledger.accounts["key"].clone();
        assert!(before.is_shared() && before.password.len() == 64);
        let accepts = |account: &Account, secret: &str| {
            let (used, other) = account.shown();
            used == secret || other == Some(secret)
        };
        for step in [Turnover::Begin, Turnover::Tell, Turnover::End] {
            let after = turn(&disk, folder, "key", step).unwrap();
            // One may still be where the other is no more.
            assert!(
                accepts(&after, before.shown().0) && accepts(&before, after.shown().0),
                "{step:?}"
            );
            before = after;
        }
        assert_eq!(before.shown(), (before.password.as_str(), None));
        assert_ne!(before.password, ledger.accounts["key"].password);
        assert_eq!(before.password.len(), 64);
    }

    #[test]
    fn a_damaged_file_costs_its_password_and_no_other() {
        let disk = Model::default();
        let (first, _) = done(&disk, &[("db", "wiki"), ("db", "shop")]);
        put(
            &disk,
            &Path::new(FOLDER).join("sql.wiki_db.json"),
            b"{\"provider\":",
            0o600,
        )
        .unwrap();
        let (second, steps) = done(&disk, &[("db", "wiki"), ("db", "shop")]);
        assert!(steps[0].contains("is damaged"), "{steps:?}");
        assert_ne!(
            second.accounts["sql.wiki_db"].password,
            first.accounts["sql.wiki_db"].password
        );
        assert_eq!(second.accounts["sql.shop_db"], first.accounts["sql.shop_db"]);
    }

    #[test]
    fn after_a_power_cut_at_any_moment_every_password_that_was_told_is_still_there() {
        let disk = Model::default();
        let (folder, key) = (Path::new(FOLDER), "sql.wiki_db");
        let all = [("db", "wiki")];
        done(&disk, &all);
        for step in [Turnover::Begin, Turnover::Tell, Turnover::End] {
            disk.forget();
            let before = Ledger::read(&disk, folder).unwrap().accounts[key].clone();
            let after = turn(&disk, folder, key, step).unwrap();
            for state in disk.crashes() {
                let left = Model::after(state);
                let (ledger, _) = done(&left, &all);
                let found = &ledger.accounts[key];
                assert!(*found == before || *found == after, "{found:?}");
            }
        }
        // The first start, cut anywhere, ends with one password.
        let disk = Model::default();
        done(&disk, &all);
        for state in disk.crashes() {
            let left = Model::after(state);
            let (first, _) = done(&left, &all);
            assert_eq!(done(&left, &all).0, first);
        }
    }
}

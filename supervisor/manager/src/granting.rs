//! What the manager does about accounts while units run: providers grant what is due once for each of their processes, and passwords
//! change under running units.

use std::collections::BTreeMap;

use cairn_api::Accepted;
use cairn_config::Real;
use cairn_config::accounts::{self, Account, Ledger, Stage, Turnover};
use cairn_init::protocol::ExitStatus;

use crate::accounts::{Due, account_of, due, wanted, wanted_for};
use crate::beside::Purpose;
use crate::clock::now_ms;
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::{Msg, Supervisor};

/// How long a step may take, in milliseconds.
const PATIENCE_MS: u64 = 120_000;
/// The first pause after a step that failed; each further one is twice as long.
const PAUSE_MS: u64 = 2_000;
/// The longest pause.
const PAUSE_MAX_MS: u64 = 60_000;
/// How long a unit that has been told of another password may still use the old one: it may have read that just before, and who
/// reloads by a signal does not say when that is done.
const GRACE_MS: u64 = 5_000;

/// What the manager holds of accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// What lies on the disk; nothing before it was read.
    ledger: Option<Ledger>,
    /// What each account's provider is to do, or why it cannot be known.
    due: BTreeMap<String, Result<Due, String>>,
    /// Steps that failed: how often, the time of the next try in milliseconds, and why.
    failed: BTreeMap<String, (u32, u64, String)>,
    /// Since when consumers have been told of another password, in milliseconds.
    told: BTreeMap<String, u64>,
    /// Accounts whose owner wants what they own to be removed.
    purging: Vec<String>,
    /// Whether a thread is at work on the ledger.
    busy: bool,
    /// Since the ledger could not be read or changed: the time of the next try in milliseconds, and why.
    broken: Option<(u64, String)>,
}

impl Accounts {
    /// When something here is to be looked at again, in milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        let now = now_ms();
        let failed = self.failed.values().map(|(_, at, _)| *at);
        let told = self.told.values().map(|at| at.saturating_add(GRACE_MS));
        let broken = self.broken.iter().map(|(at, _)| *at);
        failed.chain(told).chain(broken).filter(|at| *at > now).min()
    }
}

/// The unit by whose name an account is changed and purged: whose it is, or who provides a secret that units share.
fn owner(account: &Account) -> &str {
    match account.is_shared() {
        true => &account.provider,
        false => &account.consumer,
    }
}

/// What stands for the moment from which units have been told of another password. A shared secret has two such moments.
fn mark(key: &str, account: &Account) -> Option<String> {
    match account.stage {
        Stage::Told => Some(key.to_owned()),
        Stage::Changing if account.is_shared() => Some(format!("{key} to come")),
        _ => None,
    }
}

impl Supervisor {
    /// Brings the ledger to what the bindings want, in a thread that may wait for the disk.
    pub(crate) fn update_accounts(&mut self) {
        let wanted = wanted(&self.manifest);
        // An appliance without accounts has no ledger, unless it had one.
        if wanted.is_empty() && !self.config.accounts().exists() {
            self.accounts.ledger = Some(Ledger::default());
            return;
        }
        self.on_ledger(move |folder| {
            let (ledger, steps) = accounts::update(&Real, folder, &wanted)?;
            Ok((ledger, steps.iter().map(ToString::to_string).collect()))
        });
    }

    fn on_ledger(
        &mut self,
        work: impl FnOnce(&std::path::Path) -> Result<(Ledger, Vec<String>), Error> + Send + 'static,
    ) {
        self.accounts.busy = true;
        let (folder, send) = (self.config.accounts(), self.send.clone());
        tokio::task::spawn_blocking(move || {
            let result = work(&folder).map_err(|e| e.to_string());
            let _ = send.send(Msg::Accounts(result));
        });
    }

    /// The ledger was read or changed.
    pub(crate) fn accounts_found(&mut self, found: Result<(Ledger, Vec<String>), String>) {
        self.accounts.busy = false;
        match found {
            Ok((ledger, said)) => {
                self.accounts.broken = None;
                for line in said {
                    self.console.say(&format!("Accounts: {line}"));
                }
                for why in ledger.damaged.values() {
                    self.console.say(&format!("Accounts: {why}"));
                }
                let marks = ledger.accounts.iter().filter_map(|(key, account)| mark(key, account));
                let marks: Vec<String> = marks.collect();
                self.accounts.told.retain(|mark, _| marks.contains(mark));
                for mark in marks {
                    self.accounts.told.entry(mark).or_insert_with(now_ms);
                }
                self.accounts.purging.retain(|key| ledger.accounts.contains_key(key));
                self.accounts.ledger = Some(ledger);
                self.find_due();
                self.render_again();
            }
            // A full disk stays one for a while: it is tried again, and the same trouble is said once.
            Err(why) => {
                if self.accounts.broken.as_ref().is_none_or(|(_, said)| *said != why) {
                    self.console
                        .say(&format!("{why}; units that need an account wait for it"));
                }
                self.accounts.broken = Some((now_ms().saturating_add(PAUSE_MS), why));
            }
        }
    }

    /// Works out what each account's provider is to do. A provider's own secrets are made at its start, so this is asked then, too.
    pub(crate) fn find_due(&mut self) {
        let address = self.address();
        let Some(ledger) = &self.accounts.ledger else { return };
        let mut all = BTreeMap::new();
        for (key, account) in &ledger.accounts {
            let purge = self.accounts.purging.contains(key);
            match due(&self.config, &self.manifest, account, purge, &address) {
                Ok(Some(due)) => drop(all.insert(key.clone(), Ok(due))),
                Ok(None) => {}
                Err(e) => drop(all.insert(key.clone(), Err(e.to_string()))),
            }
        }
        self.accounts.due = all;
    }

    /// The accounts without which a unit cannot start, as a person reads it.
    pub(crate) fn ungranted(&self, name: &str) -> Vec<String> {
        let bonds = self.manifest.bonds(name).filter(|bond| !bond.need.optional);
        let keys = bonds.filter_map(|bond| wanted_for(&bond));
        let missing = keys.filter(|(key, wanted)| !self.has_granted(&wanted.provider, key));
        let made = |key: &str| {
            let ledger = self.accounts.ledger.as_ref();
            ledger.is_some_and(|ledger| ledger.accounts.contains_key(key))
        };
        let shares = crate::accounts::shares(&self.manifest, name).into_iter();
        let unmade = shares.filter(|share| !share.optional && !made(&share.key));
        missing
            .map(|(key, wanted)| match self.trouble(&key) {
                Some(why) => format!("its account at {} ({why})", wanted.provider),
                None => format!("its account at {}", wanted.provider),
            })
            .chain(unmade.map(|share| format!("the secret {}", share.key)))
            .collect()
    }

    fn trouble(&self, key: &str) -> Option<&str> {
        match self.accounts.due.get(key) {
            Some(Err(why)) => Some(why),
            _ => self.accounts.failed.get(key).map(|(_, _, why)| why.as_str()),
        }
    }

    /// Whether the provider's process has done what is due for an account.
    fn has_granted(&self, provider: &str, key: &str) -> bool {
        let Some(Ok(due)) = self.accounts.due.get(key) else {
            return false;
        };
        let kept = self.saved.units.get(provider);
        kept.is_some_and(|kept| kept.granted.get(key) == Some(&due.number))
    }

    /// Lets ready providers do what is due, one step at a time each, and goes on with passwords that are being changed.
    pub(crate) fn settle_accounts(&mut self) {
        if self.saved.power.is_some() {
            return;
        }
        let now = now_ms();
        if self.accounts.busy || self.accounts.broken.as_ref().is_some_and(|(at, _)| *at > now) {
            return;
        }
        if self.accounts.ledger.is_none() {
            return self.update_accounts();
        }
        let Some(ledger) = self
            .accounts
            .ledger
            .as_ref()
            .filter(|ledger| !ledger.accounts.is_empty())
            .cloned()
        else {
            return;
        };
        for (key, account) in &ledger.accounts {
            if account.is_shared() {
                self.settle_shared(key, account, now);
                continue;
            }
            let provider = &account.provider;
            let ready = |kept: &crate::saved::Kept| kept.machine.ready() && kept.pid != 0;
            if !self.saved.units.get(provider).is_some_and(ready) {
                continue;
            }
            if matches!(self.accounts.due.get(key), Some(Err(_))) {
                // What could not be rendered before the provider had its secrets can be now.
                self.find_due();
            }
            let Some(Ok(due)) = self.accounts.due.get(key).cloned() else {
                continue;
            };
            if self.has_granted(provider, key) {
                self.go_on(key, account, now);
                continue;
            }
            let waits = self.accounts.failed.get(key).is_some_and(|(_, at, _)| *at > now);
            let at_work =
                |b: &crate::beside::Beside| matches!(&b.purpose, Purpose::Account(unit, ..) if unit == provider);
            if waits || self.saved.beside.iter().any(at_work) {
                continue;
            }
            let purpose = Purpose::Account(provider.clone(), key.clone(), due.number);
            let began = self.enter_as(
                purpose,
                &due.step.command,
                due.user.as_deref(),
                due.input.as_bytes(),
                PATIENCE_MS,
            );
            if let Err(e) = began {
                self.account_step_ended(provider, key, due.number, Err(e.to_string()));
            }
        }
    }

    /// Whether this status says of a step that all was so already.
    pub(crate) fn account_step_done(&self, key: &str, number: u64, status: ExitStatus) -> bool {
        let due = self.accounts.due.get(key).and_then(|due| due.as_ref().ok());
        let due = due.filter(|due| due.number == number);
        due.is_some_and(|due| {
            due.step
                .success
                .iter()
                .any(|code| status.code() == Some(i32::from(*code)))
        })
    }

    /// What a provider's step came to.
    pub(crate) fn account_step_ended(&mut self, provider: &str, key: &str, number: u64, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.accounts.failed.remove(key);
                if let Some(kept) = self.saved.units.get_mut(provider).filter(|kept| kept.machine.ready()) {
                    kept.granted.insert(key.to_owned(), number);
                }
            }
            Err(why) => {
                let tries = self
                    .accounts
                    .failed
                    .get(key)
                    .map_or(0, |(tries, ..)| *tries)
                    .saturating_add(1);
                let pause = PAUSE_MS.saturating_mul(1 << (tries - 1).min(10)).min(PAUSE_MAX_MS);
                let line = format!(
                    "unit {provider}: the step for the account {key} failed: {why}; again in {} s",
                    pause / 1000
                );
                self.console.say(&line);
                let at = now_ms().saturating_add(pause);
                self.accounts.failed.insert(key.to_owned(), (tries, at, why));
            }
        }
    }

    /// An account stands as it should at its provider: what follows, if its password is being changed, or it is to go altogether.
    fn go_on(&mut self, key: &str, account: &Account, now: u64) {
        if self.accounts.busy {
            return;
        }
        let key = key.to_owned();
        match account.stage {
            Stage::Held => {}
            Stage::Gone => self.forget_account(key),
            Stage::Changing => {
                // From then on the unit sees the new one, at its start or as soon as that is in the ledger.
                self.on_ledger(move |folder| {
                    accounts::turn(&Real, folder, &key, Turnover::Tell)?;
                    Ok((Ledger::read(&Real, folder)?, Vec::new()))
                });
            }
            Stage::Told => {
                let since = self.accounts.told.get(&key).copied().unwrap_or(now);
                let consumer = account.consumer.clone();
                if !self.sees_files(&consumer) || !self.heard(&consumer, since) {
                    return;
                }
                self.on_ledger(move |folder| {
                    accounts::turn(&Real, folder, &key, Turnover::End)?;
                    let said = vec![format!("{key} has another password")];
                    Ok((Ledger::read(&Real, folder)?, said))
                });
            }
        }
    }

    /// Goes on with a secret that units share: everybody is told of the one to come before anybody uses it, and of the new one before the old
    /// one is gone.
    fn settle_shared(&mut self, key: &str, account: &Account, now: u64) {
        if self.accounts.busy {
            return;
        }
        let step = match account.stage {
            Stage::Held => return,
            Stage::Gone => return self.forget_account(key.to_owned()),
            Stage::Changing => Turnover::Tell,
            Stage::Told => Turnover::End,
        };
        let since = mark(key, account).and_then(|mark| self.accounts.told.get(&mark).copied());
        let shares = |unit: &&cairn_unit::Name| {
            let all = crate::accounts::shares(&self.manifest, unit.as_str());
            all.iter().any(|share| share.key == key)
        };
        let units: Vec<String> = self
            .manifest
            .units
            .keys()
            .filter(shares)
            .map(ToString::to_string)
            .collect();
        // All of them are told before the slowest is waited for.
        let mut heard = true;
        for unit in &units {
            heard &= self.sees_files(unit) && self.heard(unit, since.unwrap_or(now));
        }
        if !heard {
            return;
        }
        let key = key.to_owned();
        self.on_ledger(move |folder| {
            accounts::turn(&Real, folder, &key, step)?;
            let ended = (step == Turnover::End).then(|| format!("the secret {key} is another one"));
            Ok((Ledger::read(&Real, folder)?, ended.into_iter().collect()))
        });
    }

    /// Removes from the ledger what nothing needs any more, if its owner wants that.
    fn forget_account(&mut self, key: String) {
        if self.accounts.purging.contains(&key) {
            self.on_ledger(move |folder| {
                accounts::forget(&Real, folder, &key)?;
                let said = vec![format!("{key} is removed with what it owned")];
                Ok((Ledger::read(&Real, folder)?, said))
            });
        }
    }

    /// Whether a unit uses what it was told at `since`: it is asked to reload once, or restarted if it cannot.
    fn heard(&mut self, consumer: &str, since: u64) -> bool {
        let Some(kept) = self.saved.units.get(consumer) else {
            return true;
        };
        // One that has no process sees it when it starts.
        if kept.machine.at_rest() || kept.pid == 0 {
            return true;
        }
        if kept.retold >= since {
            let reloads = |b: &crate::beside::Beside| matches!(&b.purpose, Purpose::Reload(unit) if unit == consumer);
            return kept.machine.ready()
                && kept.reload.is_none()
                && !self.saved.beside.iter().any(reloads)
                && now_ms() >= since.saturating_add(GRACE_MS);
        }
        if kept.machine.ready() {
            let told = self.reload_unit(consumer);
            if told.status < 400
                && let Some(kept) = self.saved.units.get_mut(consumer)
            {
                kept.retold = now_ms();
            }
        }
        false
    }

    /// Lists the accounts, without their passwords.
    pub(crate) fn listed_accounts(&self) -> Answered {
        let Some(ledger) = &self.accounts.ledger else {
            return Answered::error(503, "the accounts have not been read yet");
        };
        let shown = |(key, account): (&String, &Account)| {
            let done = account.is_shared() || self.has_granted(&account.provider, key);
            let why = self.trouble(key).unwrap_or_default().to_owned();
            let state = match account.stage {
                Stage::Gone if done => "gone",
                _ if !why.is_empty() => "failing",
                Stage::Gone => "leaving",
                Stage::Held if done => "granted",
                Stage::Held => "waiting",
                Stage::Changing | Stage::Told => "changing",
            };
            cairn_api::Account {
                name: account_of(account),
                unit: owner(account).to_owned(),
                need: account.need.clone(),
                provider: account.provider.clone(),
                provide: account.provide.clone(),
                state: state.to_owned(),
                why,
            }
        };
        let accounts = ledger.accounts.iter().map(shown).collect();
        Answered::of(200, &cairn_api::Accounts { accounts })
    }

    /// Begins to change passwords.
    pub(crate) fn rotate(&mut self, unit: Option<&str>) -> Answered {
        let Some(ledger) = &self.accounts.ledger else {
            return Answered::error(503, "the accounts have not been read yet");
        };
        // Of two threads the one that ends later could tell what the other has changed already.
        if self.accounts.busy {
            return Answered::error(503, "the accounts are being worked on; try again in a moment");
        }
        if let Some(unit) = unit.filter(|unit| !self.manifest.units.contains_key(*unit)) {
            return Answered::error(404, &format!("there is no unit {unit}"));
        }
        let due = ledger
            .accounts
            .iter()
            .filter(|(_, account)| account.stage == Stage::Held && unit.is_none_or(|unit| owner(account) == unit));
        let keys: Vec<String> = due.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return Answered::error(409, "there is no account whose password could be changed now");
        }
        // What was accepted is on the disk: another manager goes on with it.
        let folder = self.config.accounts();
        for key in &keys {
            if let Err(e) = accounts::turn(&Real, &folder, key, Turnover::Begin) {
                return Answered::error(500, &e.to_string());
            }
        }
        self.on_ledger(|folder| Ok((Ledger::read(&Real, folder)?, Vec::new())));
        Answered::of(202, &Accepted { units: keys })
    }

    /// Lets providers remove what accounts own that no binding needs any more.
    pub(crate) fn purge(&mut self, unit: &str) -> Answered {
        let Some(ledger) = &self.accounts.ledger else {
            return Answered::error(503, "the accounts have not been read yet");
        };
        let of = ledger.accounts.iter().filter(|(_, account)| owner(account) == unit);
        let (gone, used): (Vec<_>, Vec<_>) = of.partition(|(_, account)| account.stage == Stage::Gone);
        if gone.is_empty() {
            let why = match used.first() {
                Some((key, _)) => format!("{key} is in use: a binding of {unit} needs it"),
                None => format!("{unit} has no accounts"),
            };
            return Answered::error(409, &why);
        }
        let units: Vec<String> = gone.iter().map(|(key, _)| (*key).clone()).collect();
        for key in &units {
            if !self.accounts.purging.contains(key) {
                self.accounts.purging.push(key.clone());
            }
        }
        self.find_due();
        Answered::of(202, &Accepted { units })
    }
}

//! The accounts that bindings need: which are wanted, what their templates can name, and what providers are to do for them. What lies
//! on the disk and its steps stand in `cairn_config::accounts`.

use std::collections::BTreeMap;

use cairn_config::Real;
use cairn_config::accounts::{Account, LENGTH, Ledger, Stage, Wanted};
use cairn_unit::{AccountSpec, AccountStep, Bond, Manifest, Name, account_name};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::error::Error;
use crate::{address, data, plan, secrets};
use cairn_config::template::{AccountContext, render_value};

/// What a provider is to do for an account.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Due {
    /// The step.
    pub(crate) step: AccountStep,
    /// As which account of the provider it runs.
    pub(crate) user: Option<String>,
    /// What it reads.
    pub(crate) input: String,
    /// Tells it from any other.
    pub(crate) number: u64,
}

/// A binding's key in the ledger, with what is wanted there. None if it has no account.
pub(crate) fn wanted_for(bond: &Bond<'_>) -> Option<(String, Wanted)> {
    bond.provide.account.as_ref()?;
    let wanted = Wanted {
        provider: bond.provider.to_string(),
        provide: bond.need.from.to_string(),
        consumer: bond.consumer.to_string(),
        need: bond.name.to_string(),
        length: LENGTH,
    };
    let key = format!("{}.{}", bond.need.from, account_name(bond.consumer, bond.name));
    Some((key, wanted))
}

/// Every account that the appliance's bindings want, and every secret that its units share.
pub(crate) fn wanted(manifest: &Manifest) -> BTreeMap<String, Wanted> {
    let shared = manifest.units.iter().flat_map(|(provider, unit)| {
        unit.unit.provides.iter().filter_map(move |(name, provide)| {
            let wanted = Wanted {
                provider: provider.to_string(),
                provide: name.to_string(),
                consumer: String::new(),
                need: String::new(),
                length: provide.secret.as_ref()?.characters(),
            };
            Some((name.to_string(), wanted))
        })
    });
    let accounts = manifest.all_bonds().filter_map(|bond| wanted_for(&bond));
    accounts.chain(shared).collect()
}

/// A secret that a unit shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its key in the ledger.
    pub(crate) key: String,
    /// The unit's own name for it, which is the file's.
    pub(crate) own: String,
    /// Whether the unit does without it.
    pub(crate) optional: bool,
}

/// The secrets that a unit shares with others: those that it provides and those that it needs.
pub(crate) fn shares(manifest: &Manifest, name: &str) -> Vec<Share> {
    let own = manifest
        .units
        .get(name)
        .into_iter()
        .flat_map(|unit| &unit.unit.provides);
    let own = own
        .filter(|(_, provide)| provide.secret.is_some())
        .map(|(key, _)| Share {
            key: key.to_string(),
            own: key.to_string(),
            optional: false,
        });
    let needs = manifest.bonds(name).filter(|bond| bond.provide.secret.is_some());
    let needs = needs.map(|bond| Share {
        key: bond.need.from.to_string(),
        own: bond.name.to_string(),
        optional: bond.need.optional,
    });
    own.chain(needs).collect()
}

/// An account as its unit is to use it: with the password of before, until the provider takes the new one.
fn known_to_unit(account: Account) -> Account {
    match (account.stage, &account.old) {
        (Stage::Changing, Some(old)) => Account {
            password: old.clone(),
            turn: account.turn.other(),
            old: None,
            ..account
        },
        _ => Account { old: None, ..account },
    }
}

/// The same for a secret that units share: with what they are to accept beside it.
fn known_to_all(account: Account) -> Account {
    let (password, old) = account.shown();
    Account {
        password: password.to_owned(),
        old: old.map(ToOwned::to_owned),
        ..account
    }
}

/// A unit's accounts at others and the secrets that it shares, by its own names. Only of the latter is there an old password beside the
/// one to use.
///
/// # Errors
/// One has not been made; it is made before the unit is let start. An optional one may come later.
pub(crate) fn held(config: &Config, manifest: &Manifest, name: &str) -> Result<BTreeMap<String, Account>, Error> {
    let shares = shares(manifest, name);
    let bonds = manifest.bonds(name);
    let mut keys = bonds
        .filter_map(|bond| Some((bond.need.optional, wanted_for(&bond)?)))
        .peekable();
    if keys.peek().is_none() && shares.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut ledger = Ledger::read(&Real, &config.accounts())?;
    let mut all = BTreeMap::new();
    for (optional, (key, wanted)) in keys {
        match ledger.accounts.remove(&key) {
            Some(account) => drop(all.insert(wanted.need, known_to_unit(account))),
            None if optional => {}
            None => {
                return Err(Error::Sandbox {
                    unit: name.to_owned(),
                    why: format!("it has no account at {} yet", wanted.provider),
                });
            }
        }
    }
    for share in shares {
        match ledger.accounts.get(&share.key) {
            Some(account) => drop(all.insert(share.own, known_to_all(account.clone()))),
            None if share.optional => {}
            None => {
                return Err(Error::Sandbox {
                    unit: name.to_owned(),
                    why: format!("the secret {} has not been made yet", share.key),
                });
            }
        }
    }
    Ok(all)
}

pub(crate) fn account_of(account: &Account) -> String {
    let names = (account.consumer.parse::<Name>(), account.need.parse::<Name>());
    match names {
        (Ok(consumer), Ok(need)) => account_name(&consumer, &need),
        _ if account.is_shared() => account.provide.clone(),
        _ => account.consumer.clone(),
    }
}

/// What the templates of an account's steps can name.
fn context(manifest: &Manifest, account: &Account, address: &str) -> AccountContext {
    use minijinja::Value;
    let mut own = BTreeMap::from([
        ("name".to_owned(), Value::from(account_of(account))),
        ("password".to_owned(), Value::from(account.password.as_str())),
        ("turn".to_owned(), Value::from(account.turn.as_str())),
    ]);
    let old = account.old.as_ref().map(|password| {
        Value::from(BTreeMap::from([
            ("password", Value::from(password.as_str())),
            ("turn", Value::from(account.turn.other().as_str())),
        ]))
    });
    own.insert("old".to_owned(), old.unwrap_or(Value::from(())));
    let mut consumer = BTreeMap::from([
        ("unit".to_owned(), account.consumer.clone()),
        ("host".to_owned(), plan::host_name(&account.consumer)),
    ]);
    let index = manifest.units.get(account.consumer.as_str()).map(|unit| unit.index);
    let (ipv4, ipv6) = match index {
        Some(index) => (address::ipv4(index).to_string(), address::ipv6(index).to_string()),
        None => Default::default(),
    };
    consumer.insert("address".to_owned(), ipv4);
    consumer.insert("address6".to_owned(), ipv6);
    AccountContext {
        account: own,
        consumer,
        secrets: BTreeMap::new(),
        host: cairn_config::context::host(manifest, address),
        site: cairn_config::context::site(manifest),
    }
}

/// What a provider tells the unit that an account belongs to.
///
/// # Errors
/// A template that names what there is not.
pub(crate) fn tells(manifest: &Manifest, account: &Account, address: &str) -> Result<BTreeMap<String, String>, Error> {
    let Some(spec) = spec(manifest, account) else {
        return Ok(BTreeMap::new());
    };
    let value = context(manifest, account, address).value();
    let told = spec.tells.iter().map(|(key, text)| {
        let place = format!("{}: provides.{}.account.tells.{key}", account.provider, account.provide);
        Ok((key.clone(), render_value(&place, text, value.clone())?))
    });
    told.collect()
}

fn spec<'a>(manifest: &'a Manifest, account: &Account) -> Option<&'a AccountSpec> {
    let unit = manifest.units.get(account.provider.as_str())?;
    unit.unit.provides.get(account.provide.as_str())?.account.as_ref()
}

/// A step with what it reads.
pub(crate) fn due(
    config: &Config,
    manifest: &Manifest,
    account: &Account,
    purge: bool,
    address: &str,
) -> Result<Option<Due>, Error> {
    let (Some(spec), Some(unit)) = (spec(manifest, account), manifest.units.get(account.provider.as_str())) else {
        return Ok(None);
    };
    let step = match (account.stage, purge) {
        (Stage::Gone, true) => match &spec.purge {
            Some(step) => step,
            None => &spec.revoke,
        },
        (Stage::Gone, false) => &spec.revoke,
        _ => &spec.grant,
    };
    let input = match &step.stdin {
        None => String::new(),
        Some(path) => {
            let text = data::root_file(config, unit, path.as_str())?;
            let mut context = context(manifest, account, address);
            context.secrets = secrets::passwords(config, &account.provider, unit)?;
            render_value(path.as_str(), &String::from_utf8_lossy(&text), context.value())?
        }
    };
    let mut hash = Sha256::new();
    for text in step.command.iter().chain([&input]) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let number = hash
        .finalize()
        .first_chunk::<8>()
        .map_or(0, |first| u64::from_le_bytes(*first));
    Ok(Some(Due {
        step: step.clone(),
        user: spec.user.clone(),
        input,
        number,
    }))
}

//! Numbers that must not change from one version of an appliance to the next: ids of accounts that packages or units
//! declare without one, and each unit's block of host ids. They stand in the lock's `uids`.

use std::collections::{BTreeMap, BTreeSet};

use cairn_unit::{Name, Unit};

use super::BuildError;
use super::contents::{self, Loaded};
use crate::archive::Mirror;
use crate::cache::{Cache, FetchOptions, Transport, fetch_all};
use crate::progress::Progress;
use crate::resolve::{Ids, Lock};
use crate::tree::{Accounts, Declared, PackageFiles, Tree, lay_packages};

/// The ids that are given out.
const RANGE: std::ops::RangeInclusive<u32> = 100..=999;

/// The lock's key for a unit's block of host ids. No account can have such a name.
fn block_key(unit: &str) -> String {
    format!("unit/{unit}")
}

/// The unit's block of 65,536 host ids, if the lock has one.
pub(super) fn block(lock: &Lock, unit: &str) -> Option<u32> {
    lock.uids.get(&block_key(unit)).map(|ids| ids.uid)
}

/// The account's id, if the lock has one.
pub(super) fn account(lock: &Lock, name: &str) -> Option<u32> {
    lock.uids.get(name).map(|ids| ids.uid)
}

/// Gives every account and every unit that has no number in the lock one, and keeps all that are there.
/// `packages` are the contents of every package of the lock's units.
pub fn assign_ids(
    lock: &mut Lock,
    units: &BTreeMap<Name, Unit>,
    packages: &BTreeMap<String, Loaded>,
) -> Result<(), BuildError> {
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let roots = units
        .iter()
        .map(|(name, unit)| (name.to_string(), Some(unit)))
        .chain([("@host".to_owned(), None)]);
    for (name, unit) in roots {
        let closure = lock.units.get(&name).map(|u| u.closure.clone()).unwrap_or_default();
        let tree = accounts_tree(&name, closure.iter().filter_map(|p| packages.get(p)))?;
        let base = Accounts::base(&tree)?;
        taken.extend(base.users.values().map(|u| u.uid));
        taken.extend(base.groups.values().map(|(gid, _)| *gid));
        for declared in Accounts::declared(&tree, unit)? {
            match declared {
                Declared::User { name, id, .. } if !base.users.contains_key(&name) => match id {
                    Some(id) => _ = taken.insert(id),
                    None => _ = wanted.insert(name),
                },
                Declared::Group { name, id } if !base.groups.contains_key(&name) => match id {
                    Some(id) => _ = taken.insert(id),
                    None => _ = wanted.insert(name),
                },
                _ => {}
            }
        }
    }
    taken.extend(
        lock.uids
            .iter()
            .filter(|(key, _)| !key.contains('/'))
            .map(|(_, ids)| ids.uid),
    );
    for name in wanted {
        if lock.uids.contains_key(&name) {
            continue;
        }
        let free = RANGE
            .clone()
            .find(|id| !taken.contains(id))
            .ok_or_else(|| BuildError::NoId {
                path: "the lock".into(),
                what: format!("free id between 100 and 999 for `{name}`"),
            })?;
        taken.insert(free);
        lock.uids.insert(name, Ids { uid: free, gid: free });
    }
    let mut blocks: BTreeSet<u32> = lock
        .uids
        .iter()
        .filter(|(key, _)| key.starts_with("unit/"))
        .map(|(_, ids)| ids.uid)
        .collect();
    for unit in units.keys() {
        lock.uids.entry(block_key(unit.as_str())).or_insert_with(|| {
            let free = (0..).find(|n| !blocks.contains(n)).unwrap_or(0);
            blocks.insert(free);
            Ids { uid: free, gid: free }
        });
    }
    Ok(())
}

/// Finishes a lock that was resolved: fetches and unpacks its packages and gives out the ids that it lacks.
pub fn complete_lock(
    lock: &mut Lock,
    units: &BTreeMap<Name, Unit>,
    cache: &Cache,
    mirror: &dyn Fn() -> Result<Mirror, String>,
    fetch: &FetchOptions,
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    let _in_use = cache.in_use()?;
    let roots: Vec<String> = units.keys().map(Name::to_string).chain(["@host".to_owned()]).collect();
    let wanted: BTreeSet<String> = roots
        .iter()
        .filter_map(|r| lock.units.get(r))
        .flat_map(|u| u.closure.clone())
        .collect();
    let packages: Vec<_> = lock
        .packages
        .iter()
        .filter(|p| wanted.contains(&p.name))
        .cloned()
        .collect();
    if packages.iter().any(|p| cache.blob(&p.sha256, p.size).is_none()) {
        let hashes: BTreeSet<String> = packages.iter().map(|p| p.sha256.to_string()).collect();
        let mirror = mirror().map_err(BuildError::Mirror)?;
        let wants: Vec<_> = lock
            .wants(&mirror)
            .into_iter()
            .filter(|w| hashes.contains(&w.sha256.to_string()))
            .collect();
        fetch_all(cache, &Transport::new(contents::PATIENCE), &wants, fetch, progress)?;
    }
    let loaded = contents::load_by_name(cache, &packages.iter().collect::<Vec<_>>(), progress)?;
    assign_ids(lock, units, &loaded)
}

/// Only what tells about accounts.
pub(super) fn accounts_tree<'a>(name: &str, packages: impl Iterator<Item = &'a Loaded>) -> Result<Tree, BuildError> {
    let tells = |path: &str| path.starts_with("usr/lib/sysusers.d/") || path.starts_with("usr/share/base-passwd/");
    let packages: Vec<PackageFiles> = packages
        .map(|p| PackageFiles {
            name: p.files.name.clone(),
            replaces: p.files.replaces.clone(),
            entries: p
                .files
                .entries
                .iter()
                .filter(|(path, _)| tells(path))
                .cloned()
                .collect(),
            owners: BTreeMap::new(),
        })
        .collect();
    let mut tree = Tree::new(name);
    lay_packages(&mut tree, &packages)?;
    Ok(tree)
}

//! The imported certificates: a folder with a file for each set of names, key and chain in it, written whole.
//!
//! A certificate for the same names takes the place of the one that is there. Which one a service shows is [`choose`]'s to say.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::import::{Imported, examine};
use super::names::{AltName, Names, list};
use super::read::Held;
use crate::disk::{Disk, put};
use crate::error::Error;

/// Only root reads a private key.
const MODE: u32 = 0o600;

/// How much of a name is part of an id.
const LONGEST: usize = 100;

/// What a certificate is called: its first name, and a part of the hash of all of them.
pub fn import_id(names: &Names) -> String {
    let hash = Sha256::digest(list(names));
    let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let first = names.iter().next().map(AltName::to_string).unwrap_or_default();
    let fine = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
            c
        } else {
            '_'
        }
    };
    let first: String = first.chars().map(fine).take(LONGEST).collect();
    format!("{first}-{short}")
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.pem"))
}

/// What the folder holds, by id; nothing if it is not there.
///
/// # Errors
/// The disk's. What cannot be used is not an error but [`Held::Damaged`].
pub fn imported(disk: &dyn Disk, folder: &Path) -> Result<Vec<(String, Held<Imported>)>, Error> {
    let mut all = Vec::new();
    for name in disk.names(folder).map_err(Error::io("read", folder))? {
        let Some(id) = name.strip_suffix(".pem") else { continue };
        let path = file(folder, id);
        let held = match disk.read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", path)(e)),
            Ok(bytes) => match examine(&String::from_utf8_lossy(&bytes), &Names::new()) {
                Ok(certificate) => Held::Whole(certificate),
                Err(why) => Held::Damaged(why.to_string()),
            },
        };
        all.push((id.to_owned(), held));
    }
    Ok(all)
}

/// Keeps a certificate that was checked, in place of one for the same names. Gives its id.
///
/// # Errors
/// The disk's.
pub fn keep_imported(disk: &dyn Disk, folder: &Path, certificate: &Imported) -> Result<String, Error> {
    let id = import_id(&certificate.names);
    disk.make_folder(folder).map_err(Error::io("make the folder", folder))?;
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    put(disk, &file(folder, &id), certificate.pem.as_bytes(), MODE)?;
    Ok(id)
}

/// Removes one; `false` if there is none of that id.
///
/// # Errors
/// The disk's.
pub fn remove_imported(disk: &dyn Disk, folder: &Path, id: &str) -> Result<bool, Error> {
    // An id is a file's name, and comes from outside.
    if !imported(disk, folder)?.iter().any(|(own, _)| own == id) {
        return Ok(false);
    }
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    let path = file(folder, id);
    disk.remove(&path)
        .and_then(|()| disk.sync_folder(folder))
        .map_err(Error::io("remove", path))?;
    Ok(true)
}

/// The certificate for a service that is reached by `names`: of those that are good at `now` and are for at least one of the names,
/// the one that is for most of them, and of those the one that lasts longest.
pub fn choose<'a>(
    all: &'a [(String, Held<Imported>)],
    names: &Names,
    now: Timestamp,
) -> Option<(&'a str, &'a Imported)> {
    let good = all.iter().filter_map(|(id, held)| match held {
        Held::Whole(one) if one.from <= now && now < one.until => Some((id.as_str(), one)),
        _ => None,
    });
    let covered = |one: &Imported| {
        let of = |name: &&AltName| one.names.iter().any(|own| own.covers(name));
        names.iter().filter(of).count()
    };
    let fitting = good.filter(|(_, one)| covered(one) > 0);
    fitting.max_by_key(|(id, one)| (covered(one), one.until, std::cmp::Reverse(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::plan_tests::names;
    use crate::testing::Model;

    fn one(all: &[&str], until: (i32, u8, u8)) -> Imported {
        let all: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = rcgen::CertificateParams::new(all).unwrap();
        wanted.not_before = rcgen::date_time_ymd(2026, 1, 1);
        wanted.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let text = key.serialize_pem() + &wanted.self_signed(&key).unwrap().pem();
        examine(&text, &Names::new()).unwrap()
    }

    fn at(day: &str) -> Timestamp {
        format!("{day}T00:00:00Z").parse().unwrap()
    }

    fn place() -> &'static Path {
        Path::new("/secrets/.imported")
    }

    #[test]
    fn a_certificate_takes_the_place_of_one_for_the_same_names_and_stands_beside_others() {
        let disk = Model::default();
        assert_eq!(imported(&disk, place()).unwrap(), []);
        let (old, new) = (
            one(&["home.example", "*.home.example"], (2026, 4, 1)),
            one(&["*.home.example", "home.example"], (2026, 7, 1)),
        );
        let other = one(&["mail.home.example"], (2026, 4, 1));
        let id = keep_imported(&disk, place(), &old).unwrap();
        assert!(id.starts_with("_.home.example-"), "{id}");
        keep_imported(&disk, place(), &other).unwrap();
        assert_eq!(keep_imported(&disk, place(), &new).unwrap(), id);
        let all = imported(&disk, place()).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.contains(&(id.clone(), Held::Whole(new))));
        assert!(remove_imported(&disk, place(), &id).unwrap());
        assert!(!remove_imported(&disk, place(), &id).unwrap());
        // An id is no way to another folder.
        let outside = file(place(), "other/authority");
        disk.make_folder(outside.parent().unwrap()).unwrap();
        put(&disk, &outside, b"key", MODE).unwrap();
        assert!(!remove_imported(&disk, place(), "other/authority").unwrap());
        assert_eq!(disk.read(&outside).unwrap(), b"key");
        assert_eq!(
            imported(&disk, place()).unwrap(),
            [(import_id(&other.names), Held::Whole(other))]
        );
    }

    #[test]
    fn a_power_cut_leaves_the_old_or_the_new_key_with_its_own_certificate() {
        let disk = Model::default();
        let (old, new) = (
            one(&["home.example"], (2026, 4, 1)),
            one(&["home.example"], (2026, 7, 1)),
        );
        keep_imported(&disk, place(), &old).unwrap();
        let before = disk.crashes().len();
        keep_imported(&disk, place(), &new).unwrap();
        assert!(disk.all_durable());
        let mut ends = std::collections::BTreeSet::new();
        for state in disk.crashes().into_iter().skip(before) {
            match &imported(&Model::after(state), place()).unwrap()[..] {
                [(_, Held::Whole(one))] => ends.insert(one.until),
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(ends, [old.until, new.until].into());
    }

    #[test]
    fn the_one_for_most_names_is_chosen_of_those_that_are_good_now() {
        let star = one(&["*.home.example", "home.example"], (2026, 4, 1));
        let longer = one(&["home.example"], (2026, 9, 1));
        let all = [("star", star), ("longer", longer)].map(|(id, one)| (id.to_owned(), Held::Whole(one)));
        let chosen = |wanted: &[&str], day: &str| choose(&all, &names(wanted), at(day)).map(|(id, _)| id.to_owned());
        assert_eq!(
            chosen(&["home.example", "web.home.example"], "2026-02-01").as_deref(),
            Some("star")
        );
        assert_eq!(chosen(&["home.example"], "2026-02-01").as_deref(), Some("longer"));
        assert_eq!(
            chosen(&["home.example", "web.home.example"], "2026-05-01").as_deref(),
            Some("longer")
        );
        assert_eq!(chosen(&["web.other.example"], "2026-02-01"), None);
        for day in ["2025-12-31", "2026-09-01"] {
            assert_eq!(chosen(&["home.example"], day), None, "{day}");
        }
        assert_eq!(chosen(&[], "2026-02-01"), None);
        let damaged = [("x".to_owned(), Held::Damaged("no key".into()))];
        assert_eq!(choose(&damaged, &names(&["home.example"]), at("2026-02-01")), None);
    }
}

//! A unit's secrets: kept on the data partition, and shown to its sandbox alone, in memory.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cairn_config::{private_folder, random_text, write_atomically};
use cairn_unit::{Manifest, ManifestUnit, Secret, SecretKind};

use crate::certificates;
use crate::config::Config;
use crate::data::folder;
use crate::error::Error;
use crate::plan::{shows_secrets, user};

/// Reads the unit's secrets and makes those that are missing. At its start, certificates are renewed if that is due.
pub(crate) fn secrets(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
    start: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let folder = config.secrets(name);
    let mut all = BTreeMap::new();
    for (secret, spec) in &unit.unit.secrets {
        let path = folder.join(secret.as_str());
        if spec.kind == SecretKind::Certificate {
            continue;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                private_folder(&folder)?;
                let text = random_text(usize::from(spec.length.unwrap_or(Secret::LENGTH)))?;
                write_atomically(&path, text.as_bytes(), 0o600)?;
                text
            }
            Err(e) => return Err(Error::io("read the secret", &path)(e)),
        };
        all.insert(secret.as_str().to_owned(), text);
    }
    for (need, account) in crate::accounts::held(config, manifest, name)? {
        if let Some(other) = account.old {
            all.insert(format!("{need}.other"), other);
        }
        all.insert(need, account.password);
    }
    let shown = match start {
        true => None,
        false => shown_certificates(config, name, unit),
    };
    all.extend(match shown {
        Some(texts) => texts,
        None => certificates::prepare(config, manifest, name, unit, address)?,
    });
    // Where an earlier version kept a certificate that signed itself.
    for secret in certificates::secrets(unit).filter(|_| start) {
        let _ = fs::remove_file(folder.join(secret));
    }
    Ok(all)
}

/// The unit's passwords that have been made.
pub(crate) fn passwords(config: &Config, name: &str, unit: &ManifestUnit) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    for (secret, _) in unit
        .unit
        .secrets
        .iter()
        .filter(|(_, spec)| spec.kind == SecretKind::Password)
    {
        let path = config.secrets(name).join(secret.as_str());
        match fs::read_to_string(&path) {
            Ok(text) => drop(all.insert(secret.to_string(), text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("read the secret", &path)(e)),
        }
    }
    Ok(all)
}

/// The certificates that the unit sees since its start, if it sees all of them.
fn shown_certificates(config: &Config, name: &str, unit: &ManifestUnit) -> Option<BTreeMap<String, String>> {
    let folder = config.shown_secrets(name);
    let texts = certificates::files(unit).into_iter().map(|secret| {
        let text = fs::read_to_string(folder.join(&secret)).ok()?;
        Some((secret, text))
    });
    texts.collect()
}

/// Puts the unit's secrets where its sandbox sees them, each as a whole: it may be running.
fn show(config: &Config, name: &str, unit: &ManifestUnit, secrets: &BTreeMap<String, String>) -> Result<(), Error> {
    // A unit may start while its certificates are looked at; two that write one file would take it away from each other.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !shows_secrets(unit) {
        return Ok(());
    }
    let place = config.shown_secrets(name);
    let (user, _) = user(name, unit, None)?;
    if !place.exists() {
        private_folder(&config.at("/run/cairn/secrets"))?;
        folder(&place, 0, 0, 0o755)?;
    }
    for (secret, text) in secrets {
        let path = place.join(secret);
        put(&path, text, 0o400, (user.uid, user.gid)).map_err(Error::io("write", &path))?;
    }
    for entry in fs::read_dir(&place).map_err(Error::io("read", &place))?.flatten() {
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| secrets.contains_key(name))
        {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Makes a file in memory what a running unit sees, at once and as a whole. Returns whether it was another one.
pub(crate) fn put(path: &Path, text: &str, mode: u32, (uid, gid): (u32, u32)) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)?;
    Ok(true)
}

/// Lets the unit's sandbox see its certificates as they are now.
///
/// # Errors
/// They cannot be read, or not be written where it sees them.
pub(crate) fn refresh(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<(), Error> {
    let secrets = secrets(config, manifest, name, unit, address, true)?;
    show(config, name, unit, &secrets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{load, prepare};
    use crate::testing::manifest;

    fn world() -> (tempfile::TempDir, Config, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        (dir, config, manifest(&[("db", r#"{"secrets":{"admin":{}}}"#)]))
    }

    #[test]
    fn a_secret_is_made_once_for_root_alone() {
        let (_dir, config, manifest) = world();
        let unit = &manifest.units["db"];
        let first = secrets(&config, &manifest, "db", unit, "", true).unwrap();
        assert_eq!(first["admin"].len(), 32);
        assert!(first["admin"].bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(secrets(&config, &manifest, "db", unit, "", true).unwrap(), first);
        let path = config.secrets("db").join("admin");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!path.with_extension("new").exists());
    }

    #[test]
    fn a_sandbox_sees_its_secrets_as_whole_files_of_its_own_account() {
        use std::os::unix::fs::MetadataExt as _;
        let (_dir, config, _) = world();
        let manifest = manifest(&[(
            "db",
            r#"{"service":{"command":["/x"],"user":"svc"},"secrets":{"admin":{}}}"#,
        )]);
        let unit = &manifest.units["db"];
        fs::create_dir_all(config.shown_secrets("db")).unwrap();
        fs::write(config.shown_secrets("db").join("gone"), "of before").unwrap();
        prepare(&config, &manifest, "db", unit, "", &unit.state_version).unwrap();
        let path = config.shown_secrets("db").join("admin");
        let seen = fs::metadata(&path).unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.uid(), seen.gid()), (0o400, 101, 102));
        assert_eq!(fs::read_dir(config.shown_secrets("db")).unwrap().count(), 1);
        let before = load(&config, &manifest, "db", unit, "").unwrap().secrets;
        assert_eq!(fs::read_to_string(&path).unwrap(), before["admin"]);
        // What is right stays the same file.
        refresh(&config, &manifest, "db", unit, "").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), seen.ino());
        fs::write(config.secrets("db").join("admin"), "other").unwrap();
        refresh(&config, &manifest, "db", unit, "").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    }
}

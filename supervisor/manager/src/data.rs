//! A unit's state on the data partition, and what else its start needs. A power cut at any moment leaves each of them whole or absent.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cairn_config::private_folder;
use cairn_disk::quota;
use cairn_unit::{Listen, Manifest, ManifestUnit};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::config::{Config, escape};
use crate::error::Error;
use crate::plan::{owner, shared};
use crate::{files, secrets};
use cairn_config::template;

/// What a start needs beside the unit's text.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The unit's secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// Its rendered templates, by path inside.
    pub rendered: BTreeMap<String, String>,
}

/// Reads a file of the unit's root; links in it lead nowhere else.
pub fn root_file(config: &Config, unit: &ManifestUnit, path: &str) -> Result<Vec<u8>, Error> {
    let root = config.at(unit.root.as_str());
    let whole = root.join(path.trim_start_matches('/'));
    let read = || -> io::Result<Vec<u8>> {
        let folder = File::open(&root)?;
        let relative = path.trim_start_matches('/');
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat2(&folder, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT)?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(Error::io("read", whole))
}

/// Reads secrets and renders templates.
pub fn load(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<Prepared, Error> {
    let secrets = secrets::secrets(config, manifest, name, unit, address, false)?;
    let mut rendered = BTreeMap::new();
    if !unit.templates.is_empty() {
        let accounts = crate::accounts::held(config, manifest, name)?;
        let context = crate::plan::context(manifest, name, &secrets, &accounts, address)?;
        for each in &unit.templates {
            let source = format!("{}.tmpl", each.path);
            let bytes = root_file(config, unit, &source)?;
            let text = String::from_utf8_lossy(&bytes);
            rendered.insert(
                each.path.as_str().to_owned(),
                template::render(&source, &text, &context)?,
            );
        }
    }
    Ok(Prepared { secrets, rendered })
}

/// Makes a folder of this owner and mode.
pub(crate) fn folder(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), Error> {
    let make = || -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(Error::io("make the folder", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes the runtime folders of the unit that others see, where they are not there. Returns those that are, by path inside.
fn make_shared_folders<'a>(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &'a ManifestUnit,
) -> Result<Vec<(&'a str, PathBuf)>, Error> {
    // Its own start and that of a unit that can do without it may both be at it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all = config.shared(name);
    let mut there = Vec::new();
    for (path, directory) in shared(manifest, unit) {
        let (uid, gid) = owner(name, unit, directory)?;
        let place = all.join(escape(path));
        if place.exists() {
            there.push((path, place));
            continue;
        }
        private_folder(&all)?;
        folder(&place, uid, gid, directory.mode.0)?;
    }
    Ok(there)
}

/// Makes the runtime folders of the unit that others see, and empties them but for the sockets that Cairn itself listens on. A
/// folder that is there stays the same one: others have it mounted.
pub fn shared_folders(config: &Config, manifest: &Manifest, name: &str, unit: &ManifestUnit) -> Result<(), Error> {
    for (path, place) in make_shared_folders(config, manifest, name, unit)? {
        for entry in fs::read_dir(&place).map_err(Error::io("read", &place))?.flatten() {
            let inside = Path::new(path).join(entry.file_name());
            let ours = |socket: &cairn_unit::ListenSocket| matches!(&socket.listen, Listen::Unix(path) if inside == AsRef::<Path>::as_ref(path));
            if unit.unit.sockets.values().any(ours) {
                continue;
            }
            let gone = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
            gone.map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Makes everything that a start of the unit needs. Returns whether its state has to be made by its setup steps: then it
/// stands, empty, under its `.new` name.
pub fn prepare(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<bool, Error> {
    secrets::refresh(config, manifest, name, unit, address)?;
    files::prepare(config, manifest, name, unit, address)?;
    shared_folders(config, manifest, name, unit)?;
    // Who does not wait for another one sees its folder before it is there.
    for bond in manifest
        .bonds(name)
        .filter(|bond| bond.need.optional && bond.provide.socket.is_some())
    {
        make_shared_folders(config, manifest, bond.provider.as_str(), bond.provider_unit)?;
    }
    if unit.unit.state.is_empty() && unit.unit.setup.is_empty() {
        return Ok(false);
    }
    private_folder(&config.at("/data/state"))?;
    let state = config.state(name);
    if state.exists() {
        // A newer release can want one more folder.
        for (path, directory) in &unit.unit.state {
            let place = state.join(escape(path.as_str()));
            if !place.exists() {
                let (uid, gid) = owner(name, unit, directory)?;
                let new = state.join(format!("{}.new", escape(path.as_str())));
                remove(&new)?;
                folder(&new, uid, gid, directory.mode.0)?;
                fs::rename(&new, &place).map_err(Error::io("rename", &new))?;
            }
        }
        return Ok(false);
    }
    let new = config.new_state(name);
    remove(&new)?;
    private_folder(&new)?;
    for (path, directory) in &unit.unit.state {
        let (uid, gid) = owner(name, unit, directory)?;
        folder(&new.join(escape(path.as_str())), uid, gid, directory.mode.0)?;
    }
    if unit.unit.setup.is_empty() {
        commit(config, name)?;
        return Ok(false);
    }
    Ok(true)
}

/// Whether the data partition keeps account of what each unit holds.
pub fn has_quotas(config: &Config) -> bool {
    File::open(config.at("/data")).is_ok_and(|data| quota::usage(data, 0).is_ok())
}

/// Bounds what the unit's folders hold, those that are being made too.
///
/// # Errors
/// A bound that cannot be set.
pub fn bound(config: &Config, name: &str, unit: &ManifestUnit) -> Result<(), Error> {
    let path = config.at("/data");
    let data = File::open(&path).map_err(Error::io("open", &path))?;
    let project = project(unit);
    let whole = quota::size(&data).map_err(Error::io("ask the size of", &path))?;
    let bound = quota::Bound {
        bytes: unit.unit.limits.disk_max.map_or(whole.bytes / 10 * 9, |bytes| bytes.0),
        files: whole.files / 10 * 9,
    };
    quota::limit(&data, project, bound).map_err(Error::io("bound what a unit keeps on", &path))?;
    for folder in [config.state(name), config.new_state(name)] {
        if folder.exists() {
            quota::assign(&folder, project).map_err(Error::io("keep account of", &folder))?;
        }
    }
    Ok(())
}

/// What the unit keeps on the data partition, and may keep.
pub fn kept(config: &Config, unit: &ManifestUnit) -> Option<(quota::Used, quota::Bound)> {
    let data = File::open(config.at("/data")).ok()?;
    quota::usage(data, project(unit)).ok()
}

/// The number under which the file system counts what the unit keeps.
fn project(unit: &ManifestUnit) -> quota::Project {
    unit.index + 1
}

/// Puts a finished state in place: everything of it is on the disk before it has its name.
pub fn commit(config: &Config, name: &str) -> Result<(), Error> {
    let (new, place) = (config.new_state(name), config.state(name));
    let parent = config.at("/data/state");
    let put = || -> io::Result<()> {
        rustix::fs::syncfs(File::open(&new)?)?;
        fs::rename(&new, &place)?;
        File::open(&parent)?.sync_all()
    };
    put().map_err(Error::io("put in place", &new))
}

/// Removes what an interrupted first start left, of any unit.
pub fn sweep(config: &Config) {
    let Ok(folder) = fs::read_dir(config.at("/data/state")) else {
        return;
    };
    for entry in folder.flatten() {
        if entry.file_name().as_encoded_bytes().ends_with(b".new") {
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    fn world() -> (tempfile::TempDir, Config, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let manifest = manifest(&[(
            "db",
            r#"{"setup":[{"name":"s","command":["/s"]}], "state":{"/var/lib/db":{"mode":"0700"}}, "secrets":{"admin":{}}}"#,
        )]);
        (dir, config, manifest)
    }

    #[test]
    fn an_interrupted_setup_is_discarded_and_a_finished_one_stays() {
        let (_dir, config, manifest) = world();
        let unit = &manifest.units["db"];
        assert!(prepare(&config, &manifest, "db", unit, "").unwrap());
        let file = config.new_state("db").join("var-lib-db/half");
        fs::write(&file, "x").unwrap();
        // The power goes here: the next start finds nothing of it.
        assert!(prepare(&config, &manifest, "db", unit, "").unwrap());
        assert!(!file.exists() && !config.state("db").exists());
        commit(&config, "db").unwrap();
        assert!(config.state("db").join("var-lib-db").exists());
        assert!(!prepare(&config, &manifest, "db", unit, "").unwrap());
        sweep(&config);
        assert!(config.state("db").exists());
    }

    #[test]
    fn a_folder_of_one_that_is_not_there_yet_can_be_shown() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let db = r#"{"provides":{"sql":{"kind":"database","socket":"/run/db/s"}},"runtime":{"/run/db":{}}}"#;
        let all = manifest(&[
            ("web", r#"{"needs":{"db":{"from":"sql","optional":true}}}"#),
            ("db", db),
        ]);
        prepare(&config, &all, "web", &all.units["web"], "").unwrap();
        let place = config.shared("db").join(escape("/run/db"));
        let before = fs::metadata(&place).unwrap();
        // Its own start leaves the same one.
        prepare(&config, &all, "db", &all.units["db"], "").unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&before),
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(&place).unwrap())
        );
    }

    #[test]
    fn a_link_in_a_service_root_does_not_lead_out_of_it() {
        let (dir, config, manifest) = world();
        let root = dir.path().join("services/db");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("real"), "inside").unwrap();
        fs::write(dir.path().join("services/real"), "outside").unwrap();
        std::os::unix::fs::symlink("/real", root.join("a")).unwrap();
        std::os::unix::fs::symlink("../real", root.join("b")).unwrap();
        let unit = &manifest.units["db"];
        for link in ["/a", "/b"] {
            assert_eq!(root_file(&config, unit, link).unwrap(), b"inside");
        }
    }
}

//! A unit's state on the data partition, and what else its start needs. A power cut at any moment leaves each of them whole or absent.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cairn_config::private_folder;
use cairn_disk::quota;
use cairn_unit::{Listen, Manifest, ManifestUnit, StateVersion};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::config::{Config, escape};
use crate::dumps::Restores;
use crate::error::Error;
use crate::migrate::{Next, Record, States, Way, way};
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

/// What a start goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readied {
    /// The first command.
    Start,
    /// The same; the state is again what it was at this time, in seconds since 1970.
    Restored(u64),
    /// The setup steps: the state stands, empty, under its `.new` name.
    Setup,
    /// The steps of a restore: another state stands, empty, under its `.new` name.
    Restore,
    /// These steps, on a copy of the state.
    Migrate(Way),
}

/// Makes the folders that a state lacks: a newer release can want one more.
fn missing_folders(state: &Path, name: &str, unit: &ManifestUnit) -> Result<(), Error> {
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
    Ok(())
}

/// Makes an empty state under its `.new` name.
fn empty_state(config: &Config, name: &str, unit: &ManifestUnit) -> Result<(), Error> {
    let new = config.new_state(name);
    remove(&new)?;
    private_folder(&new)?;
    for (path, directory) in &unit.unit.state {
        let (uid, gid) = owner(name, unit, directory)?;
        folder(&new.join(escape(path.as_str())), uid, gid, directory.mode.0)?;
    }
    Ok(())
}

/// Makes everything that a start of the unit needs, with a state of the version that is wanted.
pub fn prepare(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
    wanted: &StateVersion,
) -> Result<Readied, Error> {
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
    for bond in manifest.consumers(name).filter(|bond| bond.need.socket.is_some()) {
        make_shared_folders(config, manifest, bond.consumer.as_str(), bond.consumer_unit)?;
    }
    if unit.unit.state.is_empty() && unit.unit.setup.is_empty() {
        return Ok(Readied::Start);
    }
    private_folder(&config.at("/data/state"))?;
    let state = config.state(name);
    if unit.unit.dump.is_some() && *wanted == unit.state_version {
        let restores = Restores::of(config, name);
        if let Some(marker) = restores.marker()? {
            empty_state(config, name, unit)?;
            restores
                .record(&marker, wanted, &manifest.version)
                .write(&config.new_state(name))?;
            return Ok(Readied::Restore);
        }
    }
    if state.exists() {
        let migration = unit.unit.migration.as_ref();
        let readied = match States::of(config, name).prepare(wanted, migration, &manifest.version)? {
            Next::Start => Readied::Start,
            Next::Restored(since) => Readied::Restored(since),
            // What the copy lacks is made there.
            Next::Migrate(way) => return Ok(Readied::Migrate(way)),
        };
        missing_folders(&state, name, unit)?;
        return Ok(readied);
    }
    let new = config.new_state(name);
    empty_state(config, name, unit)?;
    let record = Record {
        version: wanted.clone(),
        appliance: manifest.version.clone(),
        unproved: false,
        since: 0,
        by: String::new(),
        restored: 0,
    };
    record.write(&new)?;
    if unit.unit.setup.is_empty() {
        commit(config, name)?;
        return Ok(Readied::Start);
    }
    Ok(Readied::Setup)
}

/// Makes the copy of a unit's state that its steps work on. What both hold would be too much for some units' bounds: only the copy counts.
///
/// # Errors
/// Too little room, in a sentence; or the disk's; or `stop` said not to go on.
pub fn copy(
    config: &Config,
    name: &str,
    unit: &ManifestUnit,
    bounded: bool,
    stop: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let states = States::of(config, name);
    states.copy(stop)?;
    missing_folders(&states.working(), name, unit)?;
    if bounded {
        let count =
            |folder: PathBuf, project| quota::assign(&folder, project).map_err(Error::io("keep account of", &folder));
        count(states.state(), 0)?;
        count(states.working(), project(unit))?;
    }
    Ok(())
}

/// Which of the unit's steps is number `number` on the way to the version that is wanted, and whether it leads down.
///
/// # Errors
/// The state is not where the steps began.
pub fn step(
    config: &Config,
    name: &str,
    unit: &ManifestUnit,
    wanted: &StateVersion,
    number: usize,
) -> Result<(usize, bool), Error> {
    let record = Record::read(&config.state(name))?;
    let version = record.as_ref().map(|record| &record.version);
    let found = match way(version, wanted, unit.unit.migration.as_ref()) {
        Ok(Way::Up(steps)) => steps.get(number).map(|step| (*step, false)),
        Ok(Way::Down(steps)) => steps.get(number).map(|step| (*step, true)),
        _ => None,
    };
    found.ok_or_else(|| Error::State(format!("its state has no step {} to version {wanted}", number + 1)))
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
    // While a state is made of a dump only that one counts: both would be too much for some.
    let restores = matches!(Restores::of(config, name).marker(), Ok(Some(_)));
    let state = if restores { 0 } else { project };
    let folders = [
        (config.state(name), state),
        (config.new_state(name), project),
        (Restores::of(config, name).before(), 0),
    ];
    for (folder, project) in folders {
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
        let name = entry.file_name();
        if [".new", ".gone"]
            .iter()
            .any(|end| name.as_encoded_bytes().ends_with(end.as_bytes()))
        {
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
        let ready = || prepare(&config, &manifest, "db", unit, "", &unit.state_version).unwrap();
        assert_eq!(ready(), Readied::Setup);
        let file = config.new_state("db").join("var-lib-db/half");
        fs::write(&file, "x").unwrap();
        // The power goes here: the next start finds nothing of it.
        assert_eq!(ready(), Readied::Setup);
        assert!(!file.exists() && !config.state("db").exists());
        commit(&config, "db").unwrap();
        assert!(config.state("db").join("var-lib-db").exists());
        assert_eq!(ready(), Readied::Start);
        sweep(&config);
        assert!(config.state("db").exists());
    }

    #[test]
    fn a_folder_that_the_new_version_wants_is_made_in_the_copy_and_the_state_stays_as_it_is() {
        let (_dir, config, old) = world();
        let ready = |manifest: &Manifest| {
            let unit = &manifest.units["db"];
            prepare(&config, manifest, "db", unit, "", &unit.state_version).unwrap()
        };
        ready(&old);
        commit(&config, "db").unwrap();
        let mut new = manifest(&[(
            "db",
            r#"{"state": {"/var/lib/db": {}, "/var/lib/more": {}}, "migration": {"version": 2, "steps": [{"from": 1, "to": 2, "up": ["/u"]}]}}"#,
        )]);
        let unit = std::sync::Arc::make_mut(new.units.get_mut("db").unwrap());
        unit.state_version = StateVersion::number(2);
        assert_eq!(ready(&new), Readied::Migrate(Way::Up(vec![0])));
        assert!(!config.state("db").join("var-lib-more").exists());
        let unit = &new.units["db"];
        copy(&config, "db", unit, false, &|| false).unwrap();
        assert!(config.new_state("db").join("var-lib-more").exists());
        assert_eq!(step(&config, "db", unit, &unit.state_version, 0).unwrap(), (0, false));
        assert!(step(&config, "db", unit, &unit.state_version, 1).is_err());
        States::of(&config, "db").commit(&unit.state_version, "1", 0).unwrap();
        assert_eq!(ready(&new), Readied::Start);
        assert!(config.state("db").join("var-lib-more").exists());
        assert!(!States::of(&config, "db").before().join("var-lib-more").exists());
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
        let ready = |name: &str| prepare(&config, &all, name, &all.units[name], "", &StateVersion::default()).unwrap();
        ready("web");
        let place = config.shared("db").join(escape("/run/db"));
        let before = fs::metadata(&place).unwrap();
        // Its own start leaves the same one.
        ready("db");
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&before),
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(&place).unwrap())
        );
    }

    #[test]
    fn a_provider_that_connects_starts_before_the_unit_whose_socket_it_sees() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let app = r#"{"needs":{"web":{"from":"web","socket":"/run/app/s"}},"runtime":{"/run/app":{"mode":"0755"}}}"#;
        let all = manifest(&[
            ("proxy", r#"{"provides":{"web":{"kind":"http","upstream":{}}}}"#),
            ("app", app),
        ]);
        let ready = |name: &str| prepare(&config, &all, name, &all.units[name], "", &StateVersion::default()).unwrap();
        ready("proxy");
        let place = config.shared("app").join(escape("/run/app"));
        let before = fs::metadata(&place).unwrap();
        fs::write(place.join("s"), "of before").unwrap();
        ready("app");
        assert!(!place.join("s").exists());
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

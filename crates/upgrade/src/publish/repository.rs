//! The repository's files and their signing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _};
use tough::editor::RepositoryEditor;
use tough::editor::signed::PathExists;
use tough::key_source::KeySource;
use tough::schema::{Role as _, RoleKeys, Root, Signature, Signed, Targets};

use super::block_on;
use super::giving::GIVING;
use super::keys::{self, PemKey, Role, key_file};
use super::pack::{Image, pack_release};
use crate::bundle::Writer;
use crate::error::Error;
use crate::index::Index;
use crate::metadata::{About, CHANNELS, Channels, DELTA, RELEASE, stem};
use crate::record::write_whole;
use crate::waves::ROLLOUT;

/// For how many days what a role signs is good.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// The list of keys.
    pub root: i64,
    /// What there is, and what belongs together.
    pub targets: i64,
    /// That this is the newest. The shorter, the sooner an appliance notices that somebody holds news back.
    pub timestamp: i64,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            root: 3650,
            targets: 365,
            timestamp: 30,
        }
    }
}

/// How many keys a role has, and how many of them must sign.
#[derive(Debug, Clone, Copy)]
pub struct Threshold {
    /// All keys.
    pub keys: u32,
    /// Those that must sign.
    pub sign: u32,
}

/// A repository with the folder of its keys.
#[derive(Debug)]
pub struct Publisher {
    pub(super) folder: PathBuf,
    keys: PathBuf,
}

/// What was added.
#[derive(Debug)]
pub struct Added {
    /// The release's index.
    pub index: Index,
    /// Bytes of chunks that are new in the repository.
    pub fresh: u64,
    /// Bytes of all of the release's chunks.
    pub whole: u64,
}

/// What was published.
#[derive(Debug)]
pub struct Published {
    /// The version of the metadata.
    pub version: u64,
    /// The channels as they are now.
    pub channels: Channels,
    /// Releases that were new.
    pub releases: Vec<String>,
}

pub(super) fn tough_error(error: impl std::error::Error) -> Error {
    Error::Wrong(error.to_string())
}

pub(super) fn days(days: i64) -> Result<Timestamp, Error> {
    // Whole seconds: the format has no others.
    let now = Timestamp::from_second(Timestamp::now().as_second()).map_err(tough_error)?;
    now.checked_add((days.saturating_mul(24)).hours()).map_err(tough_error)
}

/// What an index says of its release, without where its chunks lie: signed beside it.
fn said(index: &Path) -> Result<serde_json::Value, Error> {
    let file = fs::read(index).map_err(Error::io("read", index))?;
    let mut release = Index::decode(&file)?.release;
    release.packs.clear();
    serde_json::to_value(release).map_err(|_| Error::Index("header"))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|e| Error::Wrong(format!("{}: {e}", path.display())))
}

impl Publisher {
    /// Opens one.
    ///
    /// # Errors
    /// There is none.
    pub fn open(folder: &Path, keys: &Path) -> Result<Self, Error> {
        let publisher = Self {
            folder: folder.to_owned(),
            keys: keys.to_owned(),
        };
        publisher.root()?;
        Ok(publisher)
    }

    /// Makes keys, the first root.json and an empty repository for an appliance.
    ///
    /// # Errors
    /// There is one already, or files cannot be written.
    pub fn init(folder: &Path, keys: &Path, name: &str, threshold: Threshold, expiry: Expiry) -> Result<Self, Error> {
        if threshold.sign < 1 || threshold.sign > threshold.keys {
            return Err(Error::Refused(format!(
                "{} of {} keys cannot be asked for",
                threshold.sign, threshold.keys
            )));
        }
        let publisher = Self {
            folder: folder.to_owned(),
            keys: keys.to_owned(),
        };
        if publisher.root().is_ok() {
            return Err(Error::Refused(format!("{} is a repository already", folder.display())));
        }
        for sub in ["metadata", "targets", "packs", "incoming"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        fs::create_dir_all(keys).map_err(Error::io("make", keys))?;
        let mut root = Root {
            spec_version: "1.0.0".into(),
            consistent_snapshot: true,
            version: NonZeroU64::MIN,
            expires: days(expiry.root)?,
            keys: HashMap::new(),
            roles: HashMap::new(),
            _extra: HashMap::new(),
        };
        for role in Role::ALL {
            let (count, sign) = match role {
                Role::Root | Role::Targets => (threshold.keys, threshold.sign),
                Role::Snapshot | Role::Timestamp => (1, 1),
            };
            for number in 1..=count {
                keys::make(&key_file(keys, role, number))?;
            }
            publisher.put_keys(&mut root, role, sign)?;
        }
        publisher.write_root(root, &[])?;
        publisher.write_channels(&Channels {
            name: name.to_owned(),
            channels: BTreeMap::new(),
        })?;
        Ok(publisher)
    }

    /// Gives a role the keys that lie in the folder.
    fn put_keys(&self, root: &mut Root, role: Role, sign: u32) -> Result<(), Error> {
        let mut keyids = Vec::new();
        for (_, path) in keys::of(&self.keys, role)? {
            let key = PemKey(path).read()?.tuf_key();
            let id = key.key_id().map_err(tough_error)?;
            root.keys.insert(id.clone(), key);
            keyids.push(id);
        }
        let threshold = NonZeroU64::new(sign.into()).unwrap_or(NonZeroU64::MIN);
        let role_keys = RoleKeys {
            keyids,
            threshold,
            _extra: HashMap::new(),
        };
        root.roles.insert(role.kind(), role_keys);
        let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
        root.keys.retain(|id, _| used.contains(id));
        Ok(())
    }

    /// Signs and writes a root by the keys in the folder and by those of before.
    fn write_root(&self, root: Root, before: &[PathBuf]) -> Result<(), Error> {
        let mut paths: Vec<PathBuf> = keys::of(&self.keys, Role::Root)?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        paths.extend_from_slice(before);
        let text = root.canonical_form().map_err(tough_error)?;
        let mut signatures = Vec::new();
        let random = aws_lc_rs::rand::SystemRandom::new();
        for path in paths {
            let key = PemKey(path).read()?;
            let keyid = key.tuf_key().key_id().map_err(tough_error)?;
            let sig = block_on(async { Ok(key.sign(&text, &random).await) })?;
            let sig = sig.map_err(|e| Error::Wrong(e.to_string()))?;
            signatures.push(Signature { keyid, sig: sig.into() });
        }
        let path = self.folder.join("metadata").join(root.filename(true));
        let mut signed = serde_json::to_vec_pretty(&Signed {
            signed: root,
            signatures,
        })
        .map_err(tough_error)?;
        signed.push(b'\n');
        write_whole(&path, &signed).map_err(Error::io("write", path))
    }

    /// The file of the newest root: what an image is built with.
    ///
    /// # Errors
    /// There is none.
    pub fn root(&self) -> Result<PathBuf, Error> {
        let found = self.newest("root")?;
        let none = || {
            Error::Refused(format!(
                "{} is not a repository; make one with `imagegen release init`",
                self.folder.display()
            ))
        };
        found.map(|(_, path)| path).ok_or_else(none)
    }

    /// The metadata of a role with the highest version.
    pub(super) fn newest(&self, role: &str) -> Result<Option<(u64, PathBuf)>, Error> {
        let folder = self.folder.join("metadata");
        let mut best = None;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name
                .strip_suffix(".json")
                .and_then(|rest| rest.strip_suffix(role)?.strip_suffix('.')?.parse().ok());
            if let Some(version) = version {
                best = best.max(Some((version, entry.path())));
            }
        }
        Ok(best)
    }

    /// Gives a role new keys, in place of those that it has, and writes the next root.json: signed by the old root keys and the new.
    ///
    /// # Errors
    /// Keys are missing.
    pub fn rotate(&self, role: Role, expiry: Expiry) -> Result<(), Error> {
        let mut root: Signed<Root> = json(&self.root()?)?;
        let old = keys::of(&self.keys, role)?;
        let last = old.last().map_or(0, |(number, _)| *number);
        let retired = self.keys.join("retired");
        fs::create_dir_all(&retired).map_err(Error::io("make", &retired))?;
        let mut before = Vec::new();
        for (count, (_, path)) in (1..).zip(&old) {
            keys::make(&key_file(&self.keys, role, last + count))?;
            let kept = retired.join(path.file_name().unwrap_or_default());
            fs::rename(path, &kept).map_err(Error::io("retire", path))?;
            before.push(kept);
        }
        let kind = role.kind();
        let sign = root.signed.roles.get(&kind).map_or(1, |role| role.threshold.get());
        self.put_keys(&mut root.signed, role, u32::try_from(sign).unwrap_or(1))?;
        root.signed.version = root.signed.version.saturating_add(1);
        root.signed.expires = days(expiry.root)?;
        let before = if role == Role::Root { before } else { Vec::new() };
        self.write_root(root.signed, &before)
    }

    fn channels_path(&self) -> PathBuf {
        self.folder.join("incoming").join(CHANNELS)
    }

    /// The channels as they will be published next.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn channels(&self) -> Result<Channels, Error> {
        json(&self.channels_path())
    }

    pub(super) fn write_channels(&self, channels: &Channels) -> Result<(), Error> {
        let path = self.channels_path();
        let text = serde_json::to_vec_pretty(channels).map_err(tough_error)?;
        write_whole(&path, &text).map_err(Error::io("write", path))
    }

    /// Adds a release: packs its chunks and puts index, description and list of parts beside those that wait to be published. Returns what
    /// an appliance of an earlier release will have to fetch at most.
    ///
    /// # Errors
    /// There is such a release already, it is another appliance's, or files cannot be read or written.
    pub fn add(&self, image: Image<'_>, about: &About, sbom: Option<&[u8]>) -> Result<Added, Error> {
        let release = &image.release;
        let name = stem(&release.name, &release.version, &release.arch);
        let own = self.channels()?.name;
        if own != release.name {
            return Err(Error::Refused(format!(
                "this is the repository of `{own}`, and the image is of `{}`",
                release.name
            )));
        }
        let incoming = self.folder.join("incoming");
        let earlier = self.indexes()?;
        let is = |index: &&Index| index.release.version == release.version && index.release.arch == release.arch;
        if earlier.iter().any(|index| is(&index)) {
            return Err(Error::Refused(format!(
                "{name} is in the repository already; give the appliance another version"
            )));
        }
        let pack = format!("{name}.pack");
        let packed = pack_release(image, &earlier, &pack, &self.folder.join("packs").join(&pack))?;
        let put = |ending: &str, content: &[u8]| {
            let path = incoming.join(format!("{name}.{ending}"));
            write_whole(&path, content).map_err(Error::io("write", path))
        };
        let mut about = about.clone();
        if let Some(sbom) = sbom {
            put("spdx.json", sbom)?;
            about.sbom = Some(format!("{name}.spdx.json"));
        }
        put("json", &serde_json::to_vec_pretty(&about).map_err(tough_error)?)?;
        let index = packed.index.encode().map_err(Error::io("write", &incoming))?;
        // Last: a release without its index is none.
        put("index", &index)?;
        Ok(Added {
            index: packed.index,
            fresh: packed.fresh,
            whole: packed.whole,
        })
    }

    /// The indexes of all releases, published or not.
    pub(super) fn indexes(&self) -> Result<Vec<Index>, Error> {
        let mut all = Vec::new();
        for folder in ["targets", "incoming"] {
            let folder = self.folder.join(folder);
            for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))?.flatten() {
                if entry.path().extension().is_some_and(|ending| ending == "index") {
                    all.push(Index::decode(
                        &fs::read(entry.path()).map_err(Error::io("read", entry.path()))?,
                    )?);
                }
            }
        }
        all.sort_by(|a, b| crate::entries::newer(&a.release.version, &b.release.version));
        Ok(all)
    }

    /// The newest version for an architecture before this one, if there is one.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn before(&self, version: &str, arch: &str) -> Result<Option<String>, Error> {
        let all = self.indexes()?;
        let older = |index: &&Index| {
            index.release.arch == arch && crate::entries::newer(&index.release.version, version).is_lt()
        };
        Ok(all.iter().rfind(older).map(|index| index.release.version.clone()))
    }

    /// A file of a release that was added or published, by its ending (`spdx.json`, `index`).
    pub fn file(&self, name: &str, version: &str, arch: &str, ending: &str) -> Option<Vec<u8>> {
        let own = format!("{}.{ending}", stem(name, version, arch));
        if let Ok(found) = fs::read(self.folder.join("incoming").join(&own)) {
            return Some(found);
        }
        let suffix = format!(".{own}");
        let mut all = fs::read_dir(self.folder.join("targets")).ok()?.flatten();
        let found = all.find(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))?;
        fs::read(found.path()).ok()
    }

    /// Signs everything that was added and the channels, and gives the metadata its next version.
    ///
    /// # Errors
    /// Keys are missing, or files cannot be written.
    pub fn publish(&self, expiry: Expiry) -> Result<Published, Error> {
        let metadata = self.folder.join("metadata");
        let (incoming, targets) = (self.folder.join("incoming"), self.folder.join("targets"));
        let before = self.newest("targets")?;
        let version = before.as_ref().map_or(0, |(version, _)| *version) + 1;
        let number = NonZeroU64::new(version).unwrap_or(NonZeroU64::MIN);
        let mut known = match &before {
            Some((_, path)) => json::<Signed<Targets>>(path)?.signed.targets,
            None => HashMap::new(),
        };
        let mut releases = Vec::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&incoming).map_err(Error::io("list", &incoming))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(release) = name.strip_suffix(".index") {
                releases.push(release.to_owned());
            }
            if !name.ends_with(".new") && name != GIVING {
                known.retain(|target, _| target.raw() != name);
                files.push(entry.path());
            }
        }
        let mut rollout = self.rollout()?;
        rollout.begin(days(0)?);
        let root = self.root()?;
        let mut all: Vec<Box<dyn KeySource>> = Vec::new();
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            for (_, path) in keys::of(&self.keys, role)? {
                all.push(Box::new(PemKey(path)));
            }
        }
        let (later, soon) = (days(expiry.targets)?, days(expiry.timestamp)?);
        let indexes = files
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "index"));
        let indexes: HashMap<&PathBuf, serde_json::Value> = indexes
            .map(|path| Ok((path, said(path)?)))
            .collect::<Result<_, Error>>()?;
        block_on(async {
            let mut editor = RepositoryEditor::new(&root).await?;
            editor.targets_version(number)?.targets_expires(later)?;
            editor.snapshot_version(number).snapshot_expires(later);
            editor.timestamp_version(number).timestamp_expires(soon);
            for (name, target) in known {
                editor.add_target(name, target)?;
            }
            for path in &files {
                let (name, mut target) = RepositoryEditor::build_target(path).await?;
                if name.raw() == CHANNELS {
                    target.custom.insert(ROLLOUT.to_owned(), rollout.published());
                }
                if let Some(said) = indexes.get(path) {
                    target.custom.insert(RELEASE.to_owned(), said.clone());
                }
                editor.add_target(name, target)?;
            }
            let signed = editor.sign(&all).await?;
            // Targets first, then what says that they are there; timestamp.json is the last that is written.
            signed.copy_targets(&incoming, &targets, PathExists::Skip).await?;
            signed.write(&metadata).await
        })?;
        for path in files
            .iter()
            .filter(|path| path.file_name().is_none_or(|name| name != CHANNELS))
        {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        self.write_rollout(&rollout)?;
        Ok(Published {
            version,
            channels: self.channels()?,
            releases,
        })
    }

    /// Writes one published release as a bundle: all metadata, its targets, and the packs that hold its chunks. With `since`, only those with
    /// chunks that this earlier release lacks: such a bundle is for appliances that run it.
    ///
    /// # Errors
    /// It is not published, or files cannot be read or written.
    pub fn bundle(&self, version: &str, arch: &str, to: &Path, since: Option<&str>) -> Result<(), Error> {
        let name = self.channels()?.name;
        let release = stem(&name, version, arch);
        if let Some(withdrawn) = self.rollout()?.withdrawn.get(version).filter(|w| w.channels.is_empty()) {
            let why = withdrawn.reason();
            return Err(Error::Refused(format!(
                "version {version} was withdrawn{why}; bundle another one"
            )));
        }
        let absent = || Error::Refused(format!("{release} is not published"));
        let (_, path) = self.newest("targets")?.ok_or_else(absent)?;
        let signed: Signed<Targets> = json(&path)?;
        let index = self.file(&name, version, arch, "index").ok_or_else(absent)?;
        let index = Index::decode(&index)?;
        let mut files = Vec::new();
        let metadata = self.folder.join("metadata");
        for entry in fs::read_dir(&metadata).map_err(Error::io("list", &metadata))?.flatten() {
            files.push(format!("metadata/{}", entry.file_name().to_string_lossy()));
        }
        files.sort();
        for (target, signed) in &signed.signed.targets {
            let own = target.raw();
            // Whoever has all chunks needs no delta.
            let is_ours = own
                .strip_prefix(&release)
                .is_some_and(|rest| rest.starts_with('.') && !rest.ends_with(DELTA));
            if own == CHANNELS || is_ours {
                let digits: String = signed.hashes.sha256.iter().map(|b| format!("{b:02x}")).collect();
                files.push(format!("targets/{digits}.{own}"));
            }
        }
        if !files.iter().any(|file| file.ends_with(".index")) {
            return Err(absent());
        }
        let had = match since {
            None => HashSet::new(),
            Some(since) => {
                let gone = || Error::Refused(format!("the repository has no version {since} for {arch}"));
                let earlier = Index::decode(&self.file(&name, since, arch, "index").ok_or_else(gone)?)?;
                earlier.chunks.iter().map(|chunk| chunk.id).collect()
            }
        };
        let needed = index.chunks.iter().filter(|chunk| !had.contains(&chunk.id));
        let needed: BTreeSet<&String> = needed
            .map(|chunk| &index.release.packs[usize::from(chunk.pack)])
            .collect();
        files.extend(needed.into_iter().map(|pack| format!("packs/{pack}")));
        let new = to.with_extension("new");
        let out = File::create(&new).map_err(Error::io("create", &new))?;
        let mut writer = Writer::new(std::io::BufWriter::new(out));
        for file in files {
            let path = self.folder.join(&file);
            let content = File::open(&path).map_err(Error::io("open", &path))?;
            let length = content.metadata().map_err(Error::io("read", &path))?.len();
            writer.add(&file, length, content).map_err(Error::io("bundle", &path))?;
        }
        let out = writer.finish().map_err(Error::io("write", &new))?;
        let out = out.into_inner().map_err(|e| Error::io("write", &new)(e.into_error()))?;
        out.sync_all().map_err(Error::io("write", &new))?;
        fs::rename(&new, to).map_err(Error::io("name", to))
    }
}

//! What a repository offers, believed only as far as The Update Framework (TUF) proves it: `tough` checks signatures and thresholds, follows new root
//! keys, and refuses what is expired or older than what was seen before (the data folder remembers).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tough::{ExpirationEnforcement, IntoVec as _, Limits, Repository, RepositoryLoader};
use tough::{TargetName, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::delta::{Delta, MAX_DELTA};
use crate::error::Error;
use crate::index::{Index, MAX_INDEX, Release};
use crate::source::{Source, Stream};
use crate::waves::{ROLLOUT, Rollout};

/// The target that says which version each channel has.
pub const CHANNELS: &str = "channels.json";
/// The key of an index's custom data: what it says of the release, for who asks without fetching it.
pub const RELEASE: &str = "release";
const MAX_TEXT: u64 = 1 << 20;
/// No address: names below it are given to the source.
const BASE: &str = "http://repository.invalid/";

/// The versions of each channel, by architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// The appliance.
    pub name: String,
    /// Channel, then Debian's name of the architecture, then the version.
    pub channels: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a release says of itself, beside its index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What the publisher says of it.
    #[serde(default)]
    pub notes: String,
    /// The version that the changes are counted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The packages that differ from it.
    #[serde(default)]
    pub changes: Vec<PackageChange>,
    /// The target with the list of its parts (SPDX), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
}

/// A package of which two releases have different versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageChange {
    /// The package.
    pub name: String,
    /// Its version before; `None` if it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its version now; `None` if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// The start of the names of a release's targets.
pub fn stem(name: &str, version: &str, arch: &str) -> String {
    format!("{name}-{version}-{arch}")
}

/// The ending of a delta's name.
pub const DELTA: &str = ".delta";

/// The name of the target with what an appliance of version `from` lacks of the release with this [`stem`].
pub fn delta_name(stem: &str, from: &str) -> String {
    format!("{stem}.from-{from}{DELTA}")
}

/// A repository whose metadata was checked.
pub struct Trusted {
    repository: Repository,
    runtime: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trusted").finish_non_exhaustive()
    }
}

impl Trusted {
    /// Reads and checks the metadata. `root` is the root.json that the appliance was built with; `known` is the folder that remembers what
    /// was seen, so that an older state is noticed.
    ///
    /// # Errors
    /// Nothing can be read, or it does not prove itself.
    pub fn load(source: &Arc<dyn Source>, root: &[u8], known: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(known).map_err(Error::io("make", known))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(Error::io("start", "a runtime"))?;
        let place = |folder: &str| {
            Url::parse(BASE)
                .and_then(|base| base.join(folder))
                .map_err(|e| Error::Untrusted(e.to_string()))
        };
        let loader = RepositoryLoader::new(&root, place("metadata/")?, place("targets/")?)
            .transport(Adapter(source.clone()))
            .limits(Limits {
                max_root_size: MAX_TEXT,
                max_targets_size: 4 * MAX_TEXT,
                max_timestamp_size: MAX_TEXT / 16,
                max_snapshot_size: MAX_TEXT,
                max_root_updates: 256,
            })
            .datastore(known)
            .expiration_enforcement(ExpirationEnforcement::Safe);
        let repository = runtime.block_on(loader.load()).map_err(untrusted)?;
        Ok(Self { repository, runtime })
    }

    /// A target of at most so many bytes.
    ///
    /// # Errors
    /// It is not signed for, longer, absent, or not what was signed.
    pub fn read(&self, target: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let name = TargetName::new(target).map_err(untrusted)?;
        let signed = self.repository.targets().signed.targets.get(&name);
        let absent = || Error::Untrusted(format!("the repository offers no {target}"));
        if signed.ok_or_else(absent)?.length > limit {
            return Err(Error::Untrusted(format!("{target} is longer than {limit} bytes")));
        }
        self.runtime.block_on(async {
            let stream = self.repository.read_target(&name).await.map_err(untrusted)?;
            stream.ok_or_else(absent)?.into_vec().await.map_err(untrusted)
        })
    }

    /// Whether a target is signed for.
    pub fn offers(&self, target: &str) -> bool {
        let name = TargetName::new(target);
        name.is_ok_and(|name| self.repository.targets().signed.targets.contains_key(&name))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, target: &str) -> Result<T, Error> {
        let text = self.read(target, MAX_TEXT)?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::Untrusted(format!("{target} is not understood ({e}); upgrade in smaller steps")))
    }

    /// The version that a channel has for an appliance; `None` if all that it had were withdrawn.
    ///
    /// # Errors
    /// The repository is another appliance's, or has no such channel.
    pub fn latest(&self, name: &str, arch: &str, channel: &str) -> Result<Option<String>, Error> {
        let channels: Channels = self.json(CHANNELS)?;
        if channels.name != name {
            let other = channels.name;
            return Err(Error::Refused(format!(
                "this is a repository of `{other}`, and this appliance is `{name}`"
            )));
        }
        let by_arch = channels.channels.get(channel);
        if let Some(version) = by_arch.and_then(|by_arch| by_arch.get(arch)) {
            return Ok(Some(version.clone()));
        }
        let rollout = self.rollout()?;
        if by_arch.is_some()
            && rollout
                .withdrawn
                .keys()
                .any(|v| rollout.withdrawn(channel, v).is_some())
        {
            return Ok(None);
        }
        let all: Vec<&str> = channels.channels.keys().map(String::as_str).collect();
        Err(Error::Refused(format!(
            "the channel `{channel}` has no release for {arch} (channels: {})",
            all.join(", ")
        )))
    }

    /// How versions are given out. A repository that says nothing of it gives everything to everybody at once.
    ///
    /// # Errors
    /// It was written for later versions of the appliance.
    pub fn rollout(&self) -> Result<Rollout, Error> {
        let name = TargetName::new(CHANNELS).map_err(untrusted)?;
        let target = self.repository.targets().signed.targets.get(&name);
        match target.and_then(|target| target.custom.get(ROLLOUT)) {
            None => Ok(Rollout::default()),
            Some(value) => Rollout::deserialize(value).map_err(|e| {
                Error::Untrusted(format!(
                    "how versions are given out is not understood ({e}); upgrade in smaller steps"
                ))
            }),
        }
    }

    /// The index of a release, if it is the one that was asked for.
    ///
    /// # Errors
    /// It is not signed for, damaged, or another's.
    pub fn index(&self, name: &str, version: &str, arch: &str) -> Result<Index, Error> {
        let index = Index::decode(&self.read(&format!("{}.index", stem(name, version, arch)), MAX_INDEX)?)?;
        let release = &index.release;
        if (release.name.as_str(), release.version.as_str(), release.arch.as_str()) != (name, version, arch) {
            return Err(Error::Untrusted(format!(
                "the index of {name} {version} for {arch} is that of {} {} for {}",
                release.name, release.version, release.arch
            )));
        }
        Ok(index)
    }

    /// What a release is, as it is signed beside its index; `None` if nothing is said there that is understood.
    pub fn release(&self, name: &str, version: &str, arch: &str) -> Option<Release> {
        let target = TargetName::new(format!("{}.index", stem(name, version, arch))).ok()?;
        let target = self.repository.targets().signed.targets.get(&target)?;
        Release::deserialize(target.custom.get(RELEASE)?).ok()
    }

    /// What an appliance that runs version `from` lacks of a release, if the repository has that and it is understood.
    pub fn delta(&self, index: &Index, from: &str, from_size: u64) -> Option<Delta> {
        let release = &index.release;
        let target = delta_name(&stem(&release.name, &release.version, &release.arch), from);
        if !self.offers(&target) {
            return None;
        }
        let file = self.read(&target, MAX_DELTA).ok()?;
        let delta = Delta::decode(&file, from_size, release.root_size).ok()?;
        (delta.to == release.root_hash).then_some(delta)
    }

    /// What a release says of itself.
    ///
    /// # Errors
    /// As [`Trusted::index`].
    pub fn about(&self, name: &str, version: &str, arch: &str) -> Result<About, Error> {
        self.json(&format!("{}.json", stem(name, version, arch)))
    }
}

/// What tough found, in words for the owner where they are known.
fn untrusted(error: tough::error::Error) -> Error {
    use tough::error::Error as T;
    let text = causes(&error);
    let what = match &error {
        T::ExpiredMetadata { role, .. } => format!(
            "the repository's {role} metadata has expired: it is out of date, or somebody holds it back; check the clock, or ask the publisher"
        ),
        T::OlderMetadata { role, .. } => {
            format!(
                "the repository's {role} metadata is older than what was seen before; somebody may have set it back"
            )
        }
        T::VerifyMetadata { role, .. } => {
            format!("the repository's {role} metadata is not signed by the keys that this appliance trusts")
        }
        T::SystemTimeSteppedBackward { .. } => {
            "the clock is behind the time of the last look at the repository; set the clock".to_owned()
        }
        _ => return Error::Untrusted(format!("the repository cannot be believed or read: {text}")),
    };
    Error::Untrusted(format!("{what} ({text})"))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// A source as tough reads it.
#[derive(Clone)]
struct Adapter(Arc<dyn Source>);

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Adapter")
    }
}

#[async_trait::async_trait]
impl Transport for Adapter {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().trim_start_matches('/').to_owned();
        let opened = self.0.open(&name, None).map_err(|e| {
            let kind = match e {
                Error::Fetch { absent: true, .. } => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, &name, e)
        })?;
        let pieces = Pieces {
            stream: Mutex::new(Some(opened)),
            name,
        };
        Ok(Box::pin(futures::stream::iter(pieces)))
    }
}

/// A file in pieces. One thread reads at a time; the lock only says so.
struct Pieces {
    stream: Mutex<Option<Stream>>,
    name: String,
}

impl Iterator for Pieces {
    type Item = Result<bytes::Bytes, TransportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let stream = self.stream.get_mut().ok()?;
        let mut piece = vec![0; 64 << 10];
        match stream.as_mut()?.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(piece.into()))
            }
            Err(e) => {
                *stream = None;
                Some(Err(TransportError::new_with_cause(
                    TransportErrorKind::Other,
                    &self.name,
                    e,
                )))
            }
        }
    }
}

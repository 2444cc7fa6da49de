//! `imagegen release`: images as releases that appliances upgrade to. The repository itself is `cairn_upgrade::publish`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use cairn_disk::verity::{RootHash, Superblock};
use cairn_disk::{ReadAt, Window};
use cairn_upgrade::entries::is_version;
use cairn_upgrade::index::Release;
use cairn_upgrade::metadata::{About, Channels, PackageChange};
use cairn_upgrade::publish::{Expiry, Image as Parts, Publisher, Role, Threshold};
use serde_json::{Value, json};

use super::Outcome;
use super::arguments::{Expires, ReleaseAction};
use super::inspect::need_manifest;
use super::release_status;
use crate::image::inspect::{Image, root_hash};
use crate::report::{bytes, print, print_json};
use crate::sbom::spdx;

fn expiry(options: &Expires) -> Expiry {
    Expiry {
        root: options.root_days,
        targets: options.targets_days,
        timestamp: options.timestamp_days,
    }
}

pub(super) fn run(action: &ReleaseAction, json: bool) -> Outcome {
    let none = Path::new("");
    let (text, value) = match action {
        ReleaseAction::Init {
            repository,
            keys,
            name,
            key_count,
            threshold,
            expires,
        } => {
            let threshold = Threshold {
                keys: *key_count,
                sign: *threshold,
            };
            let publisher = Publisher::init(repository, keys, name.as_str(), threshold, expiry(expires))?;
            let root = publisher.root()?;
            let text = format!(
                "The keys are in {}: keep copies of the root keys offline.\nAppliances are built with {}: copy it into the project and name it \
                 in the recipe's [upgrade].\n",
                keys.display(),
                root.display()
            );
            (text, json!({ "root": root }))
        }
        ReleaseAction::Add {
            repository,
            image,
            notes,
            minimum,
            delta_from,
            no_delta,
        } => add(
            &Publisher::open(repository, none)?,
            image,
            notes.as_deref(),
            minimum.as_deref(),
            (!no_delta).then_some(&delta_from[..]),
        )?,
        ReleaseAction::Promote {
            repository,
            version,
            channel,
            waves,
        } => {
            let publisher = Publisher::open(repository, none)?;
            publisher.promote(version, channel, waves.clone())?;
            changed(&publisher)?
        }
        ReleaseAction::Withdraw {
            repository,
            version,
            channel,
            reason,
        } => {
            let publisher = Publisher::open(repository, none)?;
            publisher.withdraw(version, channel.as_deref(), reason)?;
            changed(&publisher)?
        }
        ReleaseAction::Pause {
            repository,
            channel,
            reason,
        } => {
            let publisher = Publisher::open(repository, none)?;
            publisher.pause(channel, reason)?;
            changed(&publisher)?
        }
        ReleaseAction::Resume { repository, channel } => {
            let publisher = Publisher::open(repository, none)?;
            publisher.resume(channel)?;
            changed(&publisher)?
        }
        ReleaseAction::Status { repository } => {
            let status = Publisher::open(repository, none)?.status()?;
            (release_status::text(&status, jiff::Timestamp::now()), json!(status))
        }
        ReleaseAction::Gc { repository, dry_run } => {
            let publisher = Publisher::open(repository, none)?;
            let unused = if *dry_run { publisher.unused()? } else { publisher.gc()? };
            let size: u64 = unused.iter().map(|(_, size)| size).sum();
            let mut text = String::new();
            for (path, _) in &unused {
                text.push_str(&format!("{}\n", path.display()));
            }
            let done = if *dry_run { "unused" } else { "removed" };
            text.push_str(&format!("{done}: {} files, {}\n", unused.len(), bytes(size)));
            let files: Vec<_> = unused.iter().map(|(path, _)| path).collect();
            (text, json!({ "files": files, "size": size, "removed": !dry_run }))
        }
        ReleaseAction::Publish {
            repository,
            keys,
            expires,
        } => {
            let published = Publisher::open(repository, keys)?.publish(expiry(expires))?;
            let mut text = format!("Published state {}.\n{}", published.version, list(&published.channels));
            for release in &published.releases {
                text.push_str(&format!("new: {release}\n"));
            }
            let value =
                json!({ "version": published.version, "channels": published.channels, "releases": published.releases });
            (text, value)
        }
        ReleaseAction::Keys {
            repository,
            keys,
            rotate,
            expires,
        } => {
            let role = Role::ALL
                .into_iter()
                .find(|role| role.name() == rotate)
                .ok_or("no such role")?;
            let publisher = Publisher::open(repository, keys)?;
            publisher.rotate(role, expiry(expires))?;
            let root = publisher.root()?;
            let text = format!(
                "{} tells the new keys, signed by the old root keys and the new; those of before are in {}. Publish now.\n",
                root.display(),
                keys.join("retired").display()
            );
            (text, json!({ "root": root }))
        }
        ReleaseAction::Bundle {
            repository,
            version,
            arch,
            since,
            output,
        } => {
            Publisher::open(repository, none)?.bundle(version, arch.debian(), output, since.as_deref())?;
            let size = std::fs::metadata(output)?.len();
            (
                format!("{}: {}\n", output.display(), bytes(size)),
                json!({ "bundle": output, "size": size }),
            )
        }
    };
    match json {
        true => print_json(&value),
        false => print(&text),
    }
}

fn list(channels: &Channels) -> String {
    let mut text = String::new();
    for (channel, by_arch) in &channels.channels {
        for (arch, version) in by_arch {
            text.push_str(&format!("{channel} ({arch}): {version}\n"));
        }
    }
    text
}

/// What was changed, which is not in force yet.
fn changed(publisher: &Publisher) -> Result<(String, Value), Box<dyn Error>> {
    let status = publisher.status()?;
    let text = release_status::offered(&status, jiff::Timestamp::now());
    Ok((
        format!("{text}Not in force before `imagegen release publish`.\n"),
        json!(status),
    ))
}

/// A stretch of an image in sequence.
struct Stretch<'a>(Window<'a, File>, u64);

impl Read for Stretch<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into
            .len()
            .min(usize::try_from(self.0.size() - self.1).unwrap_or(usize::MAX));
        self.0.fill_at(&mut into[..length], self.1)?;
        self.1 += length as u64;
        Ok(length)
    }
}

fn add(
    publisher: &Publisher,
    path: &Path,
    notes: Option<&Path>,
    minimum: Option<&str>,
    deltas: Option<&[String]>,
) -> Result<(String, Value), Box<dyn Error>> {
    let manifest = need_manifest(path)?;
    let (name, version, arch) = (&manifest.inventory.name, &manifest.inventory.version, &manifest.arch);
    if let Some(wrong) = [Some(version.as_str()), minimum]
        .into_iter()
        .flatten()
        .find(|v| !is_version(v))
    {
        return Err(format!("`{wrong}` is not a version: digits and dots").into());
    }
    let image = Image::open(path)?;
    let hash: RootHash = manifest.root_hash.parse()?;
    image.verify(&hash)?;
    let [(root_at, _), (tree_at, tree_size)] = image.root(&hash).ok_or("the image has no partitions of its root")?;
    let mut files = image.esp_files()?.into_iter();
    let uki = files.find(|(path, bytes)| path.starts_with("EFI/Linux/") && holds(bytes, &hash));
    let (_, uki) = uki.ok_or("the image's ESP has no boot entry of its root; build it again")?;
    let file = File::open(path)?;
    let superblock = Superblock::read(&Window::new(&file, tree_at, tree_size))?;
    let size = superblock.data_blocks * cairn_disk::verity::BLOCK;
    let before = publisher.before(version, arch)?;
    let about = About {
        notes: notes.map(std::fs::read_to_string).transpose()?.unwrap_or_default(),
        changes: match &before {
            Some(before) => changes(publisher, name, before, arch, &manifest.inventory.packages),
            None => Vec::new(),
        },
        since: before,
        sbom: None,
    };
    let sbom = serde_json::to_vec_pretty(&spdx(&manifest.inventory))?;
    let parts = Parts {
        release: Release {
            name: name.clone(),
            version: version.clone(),
            arch: arch.clone(),
            minimum: minimum.map(str::to_owned),
            states: manifest.states.clone(),
            root_hash: manifest.root_hash.clone(),
            salt: superblock.salt.iter().map(|b| format!("{b:02x}")).collect(),
            uuid: superblock.uuid.to_string(),
            root_size: 0,
            uki_size: 0,
            packs: Vec::new(),
            root_chunks: 0,
        },
        root: &mut std::io::BufReader::with_capacity(1 << 20, Stretch(Window::new(&file, root_at, size), 0)),
        uki: &mut &uki[..],
    };
    let added = publisher.add(parts, &about, Some(&sbom))?;
    let mut text = format!(
        "{name} {version} ({arch}): {} in {} chunks, {} of them not in the repository before ({} %)\n",
        bytes(added.whole),
        added.index.chunks.len(),
        bytes(added.fresh),
        (added.fresh * 100).div_ceil(added.whole.max(1))
    );
    if let Some(since) = &about.since {
        text.push_str(&format!("packages that differ from {since}: {}\n", about.changes.len()));
    }
    let mut made = Vec::new();
    let from: Vec<&String> = match deltas {
        Some([]) => about.since.iter().collect(),
        named => named.unwrap_or_default().iter().collect(),
    };
    for from in from {
        // It compresses all that changed: minutes for a new kernel.
        eprintln!("comparing with {from} ...");
        let said = match publisher.difference(from, version, arch)? {
            Some(delta) => {
                made.push(json!({ "from": from, "bytes": delta.bytes, "instead_of": delta.instead }));
                let (bytes, instead) = (bytes(delta.bytes), bytes(delta.instead));
                format!("delta from {from}: {bytes} in place of {instead}\n")
            }
            None => format!("delta from {from}: none, it would save nothing (only the profile `release` has one)\n"),
        };
        text.push_str(&said);
    }
    let value = json!({
        "name": name, "version": version, "arch": arch, "chunks": added.index.chunks.len(), "bytes": added.whole, "new_bytes": added.fresh,
        "deltas": made, "about": about,
    });
    Ok((text, value))
}

fn holds(uki: &[u8], hash: &RootHash) -> bool {
    let sections = crate::image::uki::read(uki).unwrap_or_default();
    crate::image::uki::text(&sections, ".cmdline").and_then(root_hash) == Some(*hash)
}

/// What differs in packages from an earlier release, whose list of parts lies in the repository.
fn changes(
    publisher: &Publisher,
    name: &str,
    before: &str,
    arch: &str,
    now: &[crate::sbom::Package],
) -> Vec<PackageChange> {
    let document = publisher.file(name, before, arch, "spdx.json");
    let document: Value = document
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut all: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    for package in document["packages"].as_array().into_iter().flatten() {
        // Units stand in the same list; packages alone have an address of a package.
        if let (Some(name), Some(version), true) = (
            package["name"].as_str(),
            package["versionInfo"].as_str(),
            package["externalRefs"].is_array(),
        ) {
            all.entry(name.to_owned()).or_default().0 = Some(version.to_owned());
        }
    }
    for package in now {
        all.entry(package.name.clone()).or_default().1 = Some(package.version.clone());
    }
    let differs = all.into_iter().filter(|(_, (from, to))| from != to);
    differs
        .map(|(name, (from, to))| PackageChange { name, from, to })
        .collect()
}

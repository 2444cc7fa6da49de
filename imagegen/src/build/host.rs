//! The host root: our programs, the manifest, the kernel's modules, and a few packages.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cairn_unit::{Manifest, ManifestUnit, Name, Template};
use serde::{Deserialize, Serialize};

use super::contents::Loaded;
use super::roots::{Root, base_root, finish_root};
use super::{BuildError, BuildPlan, binaries, ids};
use crate::cache::Cache;
use crate::tree::{
    Content, KernelModules, Node, PackageFiles, Release, Rules, Source, Tree, host_release, lay_packages, mount_point,
};

/// The kernel as its packages hold it.
pub(super) struct Kernel {
    /// `vmlinuz`.
    pub(super) image: Vec<u8>,
    /// Its modules, decompressed, with their indexes: `usr/lib/modules/RELEASE/...`.
    pub(super) tree: Tree,
    pub(super) modules: KernelModules,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Unpacked(BTreeMap<String, (u64, u64, String)>);

/// Reads the kernel; its decompressed modules are kept in the cache.
pub(super) fn kernel(
    plan: &BuildPlan,
    packages: &BTreeMap<String, Loaded>,
    cache: &Cache,
    rules: &Rules,
) -> Result<Kernel, BuildError> {
    let files: Vec<PackageFiles> = plan
        .kernel
        .iter()
        .filter_map(|p| packages.get(&p.name))
        .map(|p| p.files.clone())
        .collect();
    let mut tree = Tree::new("kernel");
    lay_packages(&mut tree, &files)?;
    let image = tree
        .iter()
        .find(|(path, node)| path.starts_with("boot/vmlinu") && node.content().is_some())
        .and_then(|(_, node)| node.content().cloned())
        .ok_or_else(|| BuildError::NoBootFile {
            what: "/boot/vmlinuz-*".into(),
        })?;
    let image = image
        .read()
        .map_err(BuildError::io("read", Path::new("the unpacked kernel package")))?;
    rules.apply(&mut tree);
    tree.remove("boot");
    tree.remove("usr/lib/linux-image");
    let key = plan
        .kernel
        .iter()
        .map(|p| p.sha256.to_string())
        .collect::<Vec<_>>()
        .join("");
    let name = crate::cache::Digest::of(key.as_bytes());
    let blob = cache.unpacked().join(format!("{name}.modules"));
    let index = cache.unpacked().join(format!("{name}.modules.json"));
    let known: Option<Unpacked> = std::fs::read(&index)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let known = known.filter(|k| {
        let end = k.0.values().map(|(at, len, _)| at + len).max().unwrap_or(0);
        std::fs::metadata(&blob).is_ok_and(|m| m.len() == end)
    });
    let modules = match known {
        Some(known) => {
            let from: std::sync::Arc<Path> = blob.as_path().into();
            let store = |path: &str, _: &Content| {
                let (offset, len, hex) = known.0.get(path).ok_or(std::io::ErrorKind::NotFound)?;
                let digest: crate::cache::Digest = hex.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
                Ok(Content {
                    source: Source::Range {
                        file: from.clone(),
                        offset: *offset,
                    },
                    len: *len,
                    digest: *digest.as_bytes(),
                })
            };
            KernelModules::unpack(&mut tree, 2, &store)?
        }
        None => unpack_modules(&mut tree, cache, &blob, &index)?,
    };
    modules.write_indexes(&mut tree)?;
    Ok(Kernel { image, tree, modules })
}

fn unpack_modules(tree: &mut Tree, cache: &Cache, blob: &Path, index: &Path) -> Result<KernelModules, BuildError> {
    let staged = Mutex::new((cache.stage(blob)?, 0_u64, Unpacked::default()));
    let from: std::sync::Arc<Path> = blob.into();
    let store = |path: &str, packed: &Content| {
        let mut bytes = Vec::with_capacity(packed.len as usize * 4);
        liblzma::read::XzDecoder::new(&packed.read()?[..]).read_to_end(&mut bytes)?;
        let digest = crate::cache::Digest::of(&bytes);
        let mut staged = staged
            .lock()
            .map_err(|_| std::io::Error::other("another thread failed"))?;
        let at = staged.1;
        staged.0.write_all(&bytes)?;
        staged.1 += bytes.len() as u64;
        staged
            .2
            .0
            .insert(path.to_owned(), (at, bytes.len() as u64, digest.to_string()));
        // In memory for the reading of its header; the blob has no name yet.
        Ok(Content::bytes(bytes))
    };
    let modules = KernelModules::unpack(tree, 2, &store)?;
    let (file, _, known) = staged.into_inner().map_err(|_| BuildError::NoBootFile {
        what: "readable kernel modules".into(),
    })?;
    file.commit_unsynced()?;
    let text = serde_json::to_vec(&known).unwrap_or_default();
    cache.write(index, &text)?;
    for (path, (offset, len, _)) in &known.0 {
        let path = path.trim_end_matches(".xz");
        if let Some(node) = tree.get_mut(path)
            && let crate::tree::Kind::File(content) = &mut node.kind
        {
            content.source = Source::Range {
                file: from.clone(),
                offset: *offset,
            };
            content.len = *len;
        }
    }
    Ok(modules)
}

/// What the running appliance reads about itself.
pub(super) fn manifest(plan: &BuildPlan, roots: &BTreeMap<Name, Root>) -> Result<Manifest, BuildError> {
    let mut units = BTreeMap::new();
    for (name, unit) in &plan.units {
        let Some(root) = roots.get(name) else { continue };
        let index = ids::block(&plan.lock, name.as_str()).ok_or_else(|| BuildError::NoId {
            path: plan.lock_file.clone(),
            what: format!("block of ids for unit `{name}`"),
        })?;
        let locked = |package: &str| {
            let packages = &plan.roots[name].packages;
            Some(packages.iter().find(|locked| locked.name == package)?.version.clone())
        };
        let path = |text: &str| {
            text.parse::<cairn_unit::Path>().map_err(|e| BuildError::Template {
                unit: name.to_string(),
                path: text.to_owned(),
                why: e.to_string(),
            })
        };
        let templates = root
            .templates
            .iter()
            .map(|t| path(t).map(|path| Template { path }))
            .collect::<Result<Vec<_>, _>>()?;
        units.insert(
            name.clone(),
            Arc::new(ManifestUnit {
                unit: unit.clone(),
                root: path(&format!("/services/{name}"))?,
                index,
                accounts: root.accounts.manifest_accounts(),
                groups: root.accounts.manifest_groups(),
                templates,
                state_version: super::states::version(name, unit, locked)?,
                waits_for: plan.waits_for.get(name).cloned().unwrap_or_default(),
            }),
        );
    }
    Ok(Manifest {
        name: plan.recipe.name.clone(),
        version: plan.recipe.version.clone(),
        description: plan.recipe.description.clone(),
        built: plan.epoch,
        domain: None,
        time: Vec::new(),
        chosen: BTreeMap::new(),
        setup: plan.recipe.setup.clone(),
        disabled: std::collections::BTreeSet::new(),
        upgrade: plan.recipe.upgrade.clone(),
        units,
    })
}

/// The manifest as a file.
pub(super) fn manifest_text(manifest: &Manifest) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    text.push(b'\n');
    text
}

/// What `os-release` says of recovery. It has no identifier of an image or a system, from which systemd-boot would make a sort key: an entry without
/// one comes after all that have one, but before those that were given up (Boot Loader Specification, "Sorting").
pub(super) fn recovery_release(plan: &BuildPlan) -> String {
    format!(
        "NAME=\"Cairn\"\nPRETTY_NAME=\"Cairn recovery of {}\"\n",
        plan.recipe.name
    )
}

/// What `os-release` says of this image.
pub(super) fn release(plan: &BuildPlan) -> Release<'_> {
    Release {
        name: plan.recipe.name.as_str(),
        version: &plan.recipe.version,
        description: &plan.recipe.description,
    }
}

/// The whole host root, without the service roots.
pub(super) fn host_root(
    plan: &BuildPlan,
    packages: &BTreeMap<String, Loaded>,
    rules: &Rules,
    kernel: Tree,
    programs: &Path,
    manifest: &Manifest,
    esp: &BTreeMap<String, Vec<u8>>,
) -> Result<Root, BuildError> {
    let mut built = base_root(plan, &plan.host, packages, rules, None)?;
    for (path, node) in kernel.iter().filter(|(path, _)| !path.is_empty()) {
        if built.tree.get(path).is_none() || !node.is_folder() {
            built.tree.put(path, node.clone());
        }
    }
    host_release(&mut built.tree, &release(plan));
    for (path, mode) in [
        ("data", 0o755),
        ("efi", 0o700),
        ("services", 0o755),
        ("usr/lib/cairn", 0o755),
    ] {
        mount_point(&mut built.tree, path, mode, 0, 0)?;
    }
    for (name, path) in binaries::programs(plan.extras()) {
        let from = programs.join(name);
        let bytes = std::fs::read(&from).map_err(BuildError::io("read", &from))?;
        built
            .tree
            .put(path, Node::file(Content::bytes(bytes), 0o755, "imagegen"));
    }
    // The kernel looks for modprobe at this path.
    built
        .tree
        .put("usr/sbin/modprobe", Node::link("../lib/cairn/cairn-init", "imagegen"));
    built.tree.put(
        "usr/lib/cairn/appliance.json",
        Node::file(Content::bytes(manifest_text(manifest)), 0o644, "imagegen"),
    );
    for (path, bytes) in esp {
        let copy = format!("{}/{path}", cairn_upgrade::loader::COPY.trim_start_matches('/'));
        let node = Node::file(Content::bytes(bytes.clone()), 0o644, "imagegen");
        built.tree.put(&copy, node);
    }
    if let Some(root) = &plan.trusted {
        let root = Node::file(Content::bytes(root.clone()), 0o644, "imagegen");
        built.tree.put("usr/lib/cairn/upgrade-root.json", root);
    }
    finish_root(plan, &plan.host, &mut built)?;
    Ok(built)
}

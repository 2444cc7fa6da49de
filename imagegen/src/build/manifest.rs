//! The manifest beside an image: what is in it, for `inspect`, `diff` and `sbom`.

use std::collections::{BTreeMap, BTreeSet};

use cairn_unit::StateVersion;
use serde::{Deserialize, Serialize};

use super::contents::Loaded;
use super::crates::Compiled;
use super::roots::Root;
use super::{BuildPlan, RootPlan};
use crate::sbom::{self, Inventory};
use crate::tree::{Kind, Node, Tree};

/// What is in an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// The root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// The root file system's size in bytes.
    pub root_size: u64,
    /// The initrd's size in bytes.
    pub initrd_size: u64,
    /// Packages, licences and the units that need them.
    pub inventory: Inventory,
    /// The version of each unit's state, by unit; without it that of units that keep none, or of an image from before there were versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, StateVersion>,
    /// Each root: the host's as `host`, a unit's by its name.
    pub roots: BTreeMap<String, RootEntry>,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootEntry {
    /// Its packages with the bytes of the files that each has in this root.
    pub packages: Vec<PackageEntry>,
    /// The bytes of all files.
    pub bytes: u64,
    /// The bytes of files that no other root has.
    pub own_bytes: u64,
    /// Bytes that the recipe's rules left out.
    pub left_out: u64,
    /// Every path.
    pub files: Vec<FileEntry>,
}

/// One package of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Bytes of its files in this root.
    pub bytes: u64,
}

/// One path of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The absolute path in its root.
    pub path: String,
    /// Permission bits, in octal.
    pub mode: String,
    /// Owner and group, as `uid:gid`.
    pub owner: String,
    /// Bytes of content.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// SHA-256 of the content, if it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The target, if it is a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn files(tree: &Tree) -> Vec<FileEntry> {
    let mut out = Vec::new();
    for (path, node) in tree.iter() {
        let mut entry = FileEntry {
            path: format!("/{path}"),
            mode: format!("{:04o}", node.mode),
            owner: format!("{}:{}", node.uid, node.gid),
            size: 0,
            sha256: None,
            target: None,
        };
        match &node.kind {
            Kind::File(content) => {
                entry.size = content.len;
                entry.sha256 = Some(hex(&content.digest));
            }
            Kind::Link(target) => entry.target = Some(target.clone()),
            _ => {}
        }
        out.push(entry);
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The roots as the manifest holds them, and the inventory.
pub(super) fn describe(
    plan: &BuildPlan,
    roots: &BTreeMap<String, (&RootPlan, &Root)>,
    loaded: &BTreeMap<String, Loaded>,
    compiled: &Compiled,
) -> (Inventory, BTreeMap<String, RootEntry>) {
    let mut holders: BTreeMap<[u8; 32], BTreeSet<&str>> = BTreeMap::new();
    for (name, (_, root)) in roots {
        for content in root.tree.iter().filter_map(|(_, n)| n.content()) {
            holders.entry(content.digest).or_default().insert(name);
        }
    }
    let mut entries = BTreeMap::new();
    let mut packages: BTreeMap<&str, sbom::Package> = BTreeMap::new();
    for (name, (root_plan, root)) in roots {
        let (mut bytes, mut own_bytes, mut by_package) = (0, 0, BTreeMap::<&str, u64>::new());
        for (_, node) in root.tree.iter() {
            let Some(content) = node.content() else { continue };
            bytes += content.len;
            *by_package.entry(&node.origin).or_default() += content.len;
            if holders.get(&content.digest).is_some_and(|h| h.len() == 1) {
                own_bytes += content.len;
            }
        }
        let locked: Vec<_> = root_plan
            .packages
            .iter()
            .chain(plan.kernel.iter().filter(|_| name == sbom::HOST))
            .collect();
        let list = locked.iter().map(|p| PackageEntry {
            name: p.name.clone(),
            version: p.version.clone(),
            bytes: by_package.get(p.name.as_str()).copied().unwrap_or(0),
        });
        entries.insert(
            name.clone(),
            RootEntry {
                packages: list.collect(),
                bytes,
                own_bytes,
                left_out: root.left_out,
                files: files(&root.tree),
            },
        );
        for package in locked
            .into_iter()
            .chain(plan.loader.iter().filter(|_| name == sbom::HOST))
        {
            let entry = packages.entry(&package.name).or_insert_with(|| sbom::Package {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.arch.clone(),
                source: package.source.clone(),
                source_version: package.source_version.clone(),
                sha256: package.sha256.to_string(),
                size: package.size,
                units: BTreeSet::new(),
                license: license(&package.name, loaded),
            });
            entry.units.insert(name.clone());
        }
    }
    let mut units: BTreeMap<String, String> = plan
        .units
        .iter()
        .map(|(name, unit)| (name.to_string(), unit.description.clone()))
        .collect();
    units.insert(
        sbom::HOST.into(),
        "The host root: PID 1, the manager, the kernel and its modules".into(),
    );
    let inventory = Inventory {
        name: plan.recipe.name.to_string(),
        version: plan.recipe.version.clone(),
        built: plan.epoch,
        sha256: None,
        units,
        packages: packages.into_values().collect(),
        crates: compiled.of(plan),
    };
    (inventory, entries)
}

fn license(name: &str, loaded: &BTreeMap<String, Loaded>) -> sbom::License {
    let text = copyright(name, loaded).and_then(|node| node.content()?.text().ok());
    sbom::read_copyright(&text.unwrap_or_default())
}

/// A package's copyright file. Packages of one source may share one: the documentation's folder is then a link to that of
/// another package (Debian Policy, 12.3 and 12.5).
fn copyright<'a>(name: &str, loaded: &'a BTreeMap<String, Loaded>) -> Option<&'a Node> {
    let mut name = name;
    // A link to a link is as far as Debian goes; a circle must end.
    for _ in 0..4 {
        let folder = format!("usr/share/doc/{name}");
        let file = format!("{folder}/copyright");
        let entries = &loaded.get(name)?.files.entries;
        if let Some((_, node)) = entries.iter().find(|(at, _)| *at == file) {
            return Some(node);
        }
        name = entries.iter().find_map(|(at, node)| match &node.kind {
            Kind::Link(target) if *at == folder => Some(target.trim_start_matches("/usr/share/doc/")),
            _ => None,
        })?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, PackageFiles};

    fn package(name: &str, path: &str, node: Node) -> (String, Loaded) {
        let files = PackageFiles {
            name: name.into(),
            replaces: Vec::new(),
            entries: vec![(path.to_owned(), node)],
            owners: BTreeMap::new(),
        };
        let loaded = Loaded {
            name: name.into(),
            files,
            bytes: 0,
        };
        (name.to_owned(), loaded)
    }

    #[test]
    fn a_package_that_shares_anothers_documentation_has_its_licence() {
        let text =
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n";
        let text = Node::file(Content::bytes(text), 0o644, "p");
        let loaded = BTreeMap::from([
            package("libtinfo6", "usr/share/doc/libtinfo6/copyright", text),
            package("libncurses6", "usr/share/doc/libncurses6", Node::link("libtinfo6", "p")),
            package("circle", "usr/share/doc/circle", Node::link("circle", "p")),
        ]);
        let expression = |name: &str| license(name, &loaded).expression;
        assert_eq!(expression("libncurses6").as_deref(), Some("MIT"));
        assert_eq!(expression("circle"), None);
        assert_eq!(expression("absent"), None);
    }
}

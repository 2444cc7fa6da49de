//! The oracle: the same packages installed the ordinary way, with their maintainer scripts, beside our service roots.
//! Every difference must be explained in `oracle.toml`, and every explanation must explain something.
//!
//! Needs root, mmdebstrap and a Debian mirror; skipped with a reason where they lack.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_unit::{Arch, Name};
use imagegen::archive::{Area, Mirror};
use imagegen::build::{self, Options, Services};
use imagegen::cache::{Cache, FetchOptions};
use imagegen::progress::Silent;
use imagegen::tree::{Content, Glob, Kind, Rules, Tree};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    explained: Vec<Explained>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    /// `missing`, `added`, `content`, `mode`, `owner` or `kind`.
    difference: String,
    pattern: String,
    reason: String,
}

/// What of a node is compared.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    content: String,
}

fn skip() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("it needs root to run maintainer scripts".into());
    }
    if Command::new("mmdebstrap").arg("--version").output().is_err() {
        return Some("mmdebstrap is not installed".into());
    }
    if std::env::var_os("CAIRN_ORACLE").is_none() {
        return Some("it installs packages for minutes; set CAIRN_ORACLE=1 to run it".into());
    }
    None
}

fn ours(tree: &Tree) -> BTreeMap<String, Facts> {
    let mut out = BTreeMap::new();
    for (path, node) in tree.iter().filter(|(p, _)| !p.is_empty()) {
        let (kind, content) = match &node.kind {
            Kind::Folder => ("folder", String::new()),
            Kind::File(content) => ("file", hex(&content.digest)),
            Kind::Link(target) => ("link", target.clone()),
            Kind::Character { .. } => ("device", String::new()),
        };
        let mode = if kind == "link" { 0o777 } else { node.mode };
        out.insert(
            format!("/{path}"),
            Facts {
                kind: kind.into(),
                mode,
                owner: (node.uid, node.gid),
                content,
            },
        );
    }
    out
}

fn theirs(
    root: &Path,
    ours: &BTreeMap<String, Facts>,
    foreign: &BTreeSet<String>,
    rules: &Rules,
) -> BTreeMap<String, Facts> {
    let mut out = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let inside = format!("/{}", path.strip_prefix(root).unwrap().display());
            let (kind, content) = if meta.is_dir() {
                todo.push(path.clone());
                ("folder", String::new())
            } else if meta.is_symlink() {
                ("link", fs::read_link(&path).unwrap().display().to_string())
            } else if meta.is_file() {
                ("file", hex(&Content::file(&path).unwrap().digest))
            } else {
                ("device", String::new())
            };
            // What another package has, or a rule leaves out, is a difference only where we have it all the same.
            if !ours.contains_key(&inside) && (foreign.contains(&inside) || rules.leaves_out(&inside)) {
                continue;
            }
            let mode = if kind == "link" {
                0o777
            } else {
                meta.permissions().mode() & 0o7777
            };
            out.insert(
                inside,
                Facts {
                    kind: kind.into(),
                    mode,
                    owner: (meta.uid(), meta.gid()),
                    content,
                },
            );
        }
    }
    out
}

/// Paths that only packages outside of the closure have.
fn foreign(root: &Path, closure: &BTreeSet<&str>) -> BTreeSet<String> {
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(root.join("var/lib/dpkg/info")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "list") {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .split(':')
            .next()
            .unwrap()
            .to_owned();
        let set = if closure.contains(name.as_str()) {
            &mut inside
        } else {
            &mut outside
        };
        for line in fs::read_to_string(&path).unwrap().lines() {
            let first = line.trim_start_matches('/').split('/').next().unwrap_or_default();
            let merged = ["bin", "sbin", "lib", "lib64"].contains(&first) && line.matches('/').count() > 1;
            set.insert(if merged { format!("/usr{line}") } else { line.to_owned() });
        }
    }
    outside.difference(&inside).cloned().collect()
}

fn compare(ours: &BTreeMap<String, Facts>, theirs: &BTreeMap<String, Facts>) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        match (ours.get(path), theirs.get(path)) {
            (Some(_), None) => out.push(("added", path.clone())),
            (None, Some(_)) => out.push(("missing", path.clone())),
            (Some(a), Some(b)) => {
                if a.kind != b.kind {
                    out.push(("kind", path.clone()));
                    continue;
                }
                let parts = [
                    ("mode", a.mode != b.mode),
                    ("owner", a.owner != b.owner),
                    ("content", a.content != b.content),
                ];
                out.extend(
                    parts
                        .iter()
                        .filter(|(_, differs)| *differs)
                        .map(|(name, _)| (*name, path.clone())),
                );
            }
            (None, None) => {}
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_difference_to_an_ordinary_installation_is_explained() {
    if let Some(reason) = skip() {
        eprintln!("skipped: {reason}");
        return;
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cache = Cache::from_env().unwrap();
    let mirror = Mirror::discover().unwrap();
    let fetch = FetchOptions::default();
    let find = || Mirror::discover().map_err(|e| e.to_string());
    let services = Services {
        cache: &cache,
        fetch: &fetch,
        mirror: &find,
        tools: None,
        helper: None,
        progress: &Silent,
    };
    let options = Options {
        arch: Arch::Amd64,
        formats: None,
        profile: None,
        output: PathBuf::from("unused"),
        binaries: None,
    };
    let plan = build::plan(&project.join("appliances/base.toml"), &options).unwrap();
    let rules = Rules::new(&plan.recipe.exclude).unwrap();
    let table: Table = toml::from_str(include_str!("oracle.toml")).unwrap();
    let patterns: Vec<Glob> = table.explained.iter().map(|e| Glob::new(&e.pattern).unwrap()).collect();
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for unit in plan.units.keys() {
        let root = plan.roots[unit]
            .packages
            .iter()
            .map(|p| p.name.as_str())
            .collect::<BTreeSet<_>>();
        let other = install(unit, &root, &mirror);
        let mine = ours(&build::preview_root(&plan, unit, &services).unwrap());
        let other = theirs(other.path(), &mine, &foreign(other.path(), &root), &rules);
        assert!(other.len() > 100, "the ordinary installation of {unit} is empty");
        for (difference, path) in compare(&mine, &other) {
            let found = table
                .explained
                .iter()
                .zip(&patterns)
                .position(|(e, p)| e.difference == difference && p.matches(&path));
            match found {
                Some(i) => _ = used.insert(i),
                None => unexplained.push(format!(
                    "{unit}: {difference} {path}: {:?} / {:?}",
                    mine.get(&path),
                    other.get(&path)
                )),
            }
        }
    }
    assert!(
        unexplained.is_empty(),
        "{} differences are not explained:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    let idle: Vec<_> = table
        .explained
        .iter()
        .enumerate()
        .filter(|(i, _)| !used.contains(i))
        .map(|(_, e)| &e.pattern)
        .collect();
    assert!(idle.is_empty(), "explanations without a difference: {idle:?}");
    assert!(table.explained.iter().all(|e| e.reason.len() > 10));
}

fn install(unit: &Name, closure: &BTreeSet<&str>, mirror: &Mirror) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let packages = closure.iter().copied().collect::<Vec<_>>().join(",");
    let (main, security) = (mirror.base(Area::Main), mirror.base(Area::Security));
    let sources = [
        format!("deb [trusted=yes] {main} trixie main"),
        format!("deb [trusted=yes] {main} trixie-updates main"),
        format!("deb [trusted=yes] {security} trixie-security main"),
    ];
    let status = Command::new("mmdebstrap")
        .args([
            "--quiet",
            "--variant=minbase",
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
            &format!("--include={packages}"),
            "trixie",
        ])
        .arg(folder.path())
        .args(sources)
        .status()
        .unwrap();
    assert!(status.success(), "mmdebstrap could not install {unit}");
    folder
}

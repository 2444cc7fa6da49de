//! `imagegen inspect` and `imagegen diff`: what is in an image, and what differs between two.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use cairn_unit::nearest;
use serde_json::json;

use super::Outcome;
use super::arguments::{Diff, Inspect};
use crate::build::{FileEntry, ImageManifest};
use crate::image::inspect::{Image, Report};
use crate::image::secureboot::Signed;
use crate::report::{bytes, print, print_json, table};

/// The manifest beside an image: the image's name with the ending `.manifest.json`.
pub(super) fn manifest_path(image: &Path) -> PathBuf {
    image.with_extension("manifest.json")
}

/// Reads the manifest beside an image; `None` if there is none.
pub(super) fn manifest(image: &Path) -> Result<Option<ImageManifest>, Box<dyn Error>> {
    let path = manifest_path(image);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
            format!(
                "the manifest {} cannot be read: {e}; build the image again",
                path.display()
            )
            .into()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the manifest {} cannot be read: {error}", path.display()).into()),
    }
}

/// The same for commands that cannot do without.
pub(super) fn need_manifest(image: &Path) -> Result<ImageManifest, Box<dyn Error>> {
    must_exist(image)?;
    manifest(image)?.ok_or_else(|| {
        format!(
            "{} is not beside the image, and what an image is made of stands there: copy it from the build, or build again",
            manifest_path(image).display()
        )
        .into()
    })
}

fn must_exist(image: &Path) -> Outcome {
    if image.exists() {
        return Ok(());
    }
    let here = image.parent().filter(|p| !p.as_os_str().is_empty());
    let names: Vec<String> = std::fs::read_dir(here.unwrap_or(Path::new(".")))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = image
        .file_name()
        .and_then(|name| nearest(name.to_str()?, names.iter().map(String::as_str)));
    let meant = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    Err(format!(
        "there is no image {}: {meant}check the path, or build it with `imagegen build`",
        image.display()
    )
    .into())
}

fn report(image: &Path) -> Result<Report, Box<dyn Error>> {
    must_exist(image)?;
    let report = Image::open(image).and_then(|image| image.report());
    report.map_err(|error| {
        let (error, path) = (error.to_string(), image.display().to_string());
        match error.contains(&path) {
            true => error.into(),
            false => format!("{path} cannot be read as an image: {error}").into(),
        }
    })
}

pub(super) fn run(options: &Inspect, json: bool) -> Outcome {
    let report = report(&options.image)?;
    let manifest = manifest(&options.image)?;
    if let Some(manifest) = &manifest
        && !report
            .entries
            .iter()
            .any(|e| e.root_hash.as_deref() == Some(&manifest.root_hash))
    {
        let path = manifest_path(&options.image);
        return Err(format!(
            "{} belongs to another image: its root hash is in no boot entry; build again",
            path.display()
        )
        .into());
    }
    if json {
        return print_json(&json!({ "image": report, "manifest": manifest }));
    }
    let mut text = disk(&options.image, &report);
    match &manifest {
        Some(manifest) => text.push_str(&content(manifest)),
        None => text.push_str(&format!(
            "\n(no {}: packages and units unknown)\n",
            manifest_path(&options.image).display()
        )),
    }
    print(&text)
}

fn disk(path: &Path, report: &Report) -> String {
    let mut text = format!(
        "{}: {}, {} on disk; partition table {}\n\n",
        path.display(),
        bytes(report.size),
        bytes(report.allocated),
        report.table
    );
    let rows: Vec<Vec<String>> = report
        .partitions
        .iter()
        .map(|p| {
            vec![
                p.number.to_string(),
                p.kind.clone(),
                p.name.clone(),
                bytes(p.size),
                p.id.clone(),
            ]
        })
        .collect();
    text.push_str(&table(&["#", "type", "name", "size", "partuuid"], &[0, 3], &rows));
    for entry in &report.entries {
        let hash = entry.root_hash.as_deref().unwrap_or("none: it starts without one");
        let size = entry
            .root_size
            .map(|s| format!(", root {}", bytes(s)))
            .unwrap_or_default();
        let here = if entry.root_present || entry.root_hash.is_none() {
            ""
        } else {
            " (its partitions are MISSING)"
        };
        text.push_str(&format!(
            "\n{}: kernel {}{size}\nroot hash {hash}{here}\n{}\n",
            entry.path, entry.kernel, entry.signed
        ));
    }
    // An entry that is signed is worth nothing behind a loader that is not.
    if report.entries.iter().any(|entry| entry.signed != Signed::No) {
        for (path, signed) in &report.loaders {
            text.push_str(&format!("\n{path}: {signed}\n"));
        }
    }
    text
}

fn content(manifest: &ImageManifest) -> String {
    let inventory = &manifest.inventory;
    let rows: Vec<Vec<String>> = manifest
        .roots
        .iter()
        .map(|(name, root)| {
            vec![
                name.clone(),
                root.packages.len().to_string(),
                root.files.len().to_string(),
                bytes(root.bytes),
                bytes(root.own_bytes),
            ]
        })
        .collect();
    let mut text = format!("\n{} {} for {}\n\n", inventory.name, inventory.version, manifest.arch);
    text.push_str(&table(
        &["root", "packages", "files", "size", "its own"],
        &[1, 2, 3, 4],
        &rows,
    ));
    let mut packages: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for package in manifest.roots.values().flat_map(|r| &r.packages) {
        let entry = packages.entry(&package.name).or_insert((&package.version, 0));
        entry.1 = entry.1.max(package.bytes);
    }
    let mut rows: Vec<(&str, &str, u64)> = packages.into_iter().map(|(n, (v, b))| (n, v, b)).collect();
    rows.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(b.0)));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, version, size)| vec![name.into(), version.into(), bytes(size)])
        .collect();
    text.push('\n');
    text.push_str(&table(&["package", "version", "size"], &[2], &rows));
    text
}

/// What differs in one kind of thing: its name, before and after.
type Changes = Vec<(String, Option<String>, Option<String>)>;

pub(super) fn diff(options: &Diff, json: bool) -> Outcome {
    let (a, b) = (need_manifest(&options.a)?, need_manifest(&options.b)?);
    let packages = changes(&packages(&a), &packages(&b));
    let files = changes(&files(&a), &files(&b));
    let sizes = [&options.a, &options.b].map(|p| std::fs::metadata(p).map(|m| m.len()).unwrap_or(0));
    if json {
        let list = |changes: &Changes| -> Vec<_> {
            changes
                .iter()
                .map(|(n, old, new)| json!({ "name": n, "old": old, "new": new }))
                .collect()
        };
        return print_json(&json!({
            "same": a.root_hash == b.root_hash, "packages": list(&packages), "files": list(&files),
            "bytes": { "old": sizes[0], "new": sizes[1] }, "root_bytes": { "old": a.root_size, "new": b.root_size },
        }));
    }
    let mut text = String::new();
    for (title, changes) in [("packages", &packages), ("files", &files)] {
        text.push_str(&format!(
            "{title}: {}\n",
            if changes.is_empty() { "the same" } else { "" }
        ));
        for (name, old, new) in changes {
            text.push_str(&match (old, new) {
                (None, Some(new)) => format!("  + {name} {new}\n"),
                (Some(old), None) => format!("  - {name} {old}\n"),
                (old, new) => format!(
                    "  ~ {name} {} -> {}\n",
                    old.as_deref().unwrap_or(""),
                    new.as_deref().unwrap_or("")
                ),
            });
        }
    }
    text.push_str(&format!(
        "image {} -> {}, root {} -> {}\n",
        bytes(sizes[0]),
        bytes(sizes[1]),
        bytes(a.root_size),
        bytes(b.root_size)
    ));
    print(&text)
}

fn packages(manifest: &ImageManifest) -> BTreeMap<String, String> {
    manifest
        .inventory
        .packages
        .iter()
        .map(|p| (p.name.clone(), p.version.clone()))
        .collect()
}

fn files(manifest: &ImageManifest) -> BTreeMap<String, String> {
    let word = |f: &FileEntry| {
        let what = match (&f.sha256, &f.target) {
            (Some(sha256), _) => format!("{} {}", f.size, sha256.get(..12).unwrap_or_default()),
            (None, Some(target)) => format!("-> {target}"),
            (None, None) => String::new(),
        };
        format!("{} {} {what}", f.mode, f.owner).trim_end().to_owned()
    };
    let each = manifest
        .roots
        .iter()
        .flat_map(|(root, entry)| entry.files.iter().map(move |f| (root, f)));
    each.map(|(root, f)| (format!("{root}:{}", f.path), word(f))).collect()
}

fn changes(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Changes {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let each = names.into_iter().filter(|n| a.get(*n) != b.get(*n));
    each.map(|n| (n.clone(), a.get(n).cloned(), b.get(n).cloned()))
        .collect()
}

//! `imagegen import-unit`: a systemd service file as a unit.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use cairn_import::{File, Imported, Siblings, import};
use serde_json::json;

use super::arguments::ImportUnit;
use crate::report::{print, print_json};

/// The exit status of a unit that behaves differently until somebody decides.
const DECIDE: u8 = 3;

/// A file's path and text.
type Text = (String, String);

/// Returns 0, or [`DECIDE`].
pub(super) fn run(options: &ImportUnit, json: bool) -> Result<u8, Box<dyn Error>> {
    let path = &options.service;
    if path.extension().is_none_or(|kind| kind != "service") {
        let path = path.display();
        return Err(format!(
            "{path} is not a service file: give the one that ends with .service; what is beside it is found"
        )
        .into());
    }
    let service = read(path)?;
    let drop_ins = drop_ins(&path.with_extension("service.d"))?;
    let timer = beside(path, "timer")?;
    let socket = beside(path, "socket")?;
    let watched = beside(path, "path")?;
    let more = Siblings {
        drop_ins: drop_ins.iter().map(file).collect(),
        timer: timer.as_ref().map(file),
        socket: socket.as_ref().map(file),
        path: watched.as_ref().map(file),
        packages: options.packages.clone(),
    };
    let found = import(&service.0, &service.1, &more);
    if let Some(output) = &options.output {
        fits(output, &found.name)?;
        write(output, &found.unit_toml, options.force)?;
    }
    show(options, &found, json)?;
    Ok(if found.changes_behaviour() { DECIDE } else { 0 })
}

fn show(options: &ImportUnit, found: &Imported, json: bool) -> Result<(), Box<dyn Error>> {
    if json {
        let notes: Vec<_> = found
            .notes
            .iter()
            .map(|note| {
                let level = note.level.to_string();
                json!({ "file": note.file, "line": note.line, "directive": note.directive, "level": level, "text": note.text })
            })
            .collect();
        return print_json(&json!({
            "name": found.name, "unit": found.unit_toml, "notes": notes, "covered": found.covered(), "written": options.output,
        }));
    }
    for note in &found.notes {
        eprintln!("{note}");
    }
    if !found.covered().is_empty() {
        eprintln!("done by Cairn anyway: {}", found.covered().join(", "));
    }
    match &options.output {
        None => print(&found.unit_toml),
        Some(output) => print(&format!("{}\n", output.display())),
    }
}

fn file(text: &Text) -> File<'_> {
    File {
        name: &text.0,
        text: &text.1,
    }
}

fn read(path: &Path) -> Result<Text, Box<dyn Error>> {
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is not text in UTF-8", path.display()))?;
    Ok((path.display().to_string(), text))
}

/// The file of the same name and another kind, if there is one.
fn beside(service: &Path, kind: &str) -> Result<Option<Text>, Box<dyn Error>> {
    let path = service.with_extension(kind);
    if path.is_file() {
        read(&path).map(Some)
    } else {
        Ok(None)
    }
}

/// The drop-ins of a folder, in the order of their names.
fn drop_ins(folder: &Path) -> Result<Vec<Text>, Box<dyn Error>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| format!("cannot read {}: {e}", folder.display()))?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "conf"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// A template's file is found by its `@`, and only in one is `%i` an instance's name.
fn fits(output: &Path, name: &str) -> Result<(), Box<dyn Error>> {
    let template = |stem: &str| stem.ends_with('@');
    let stem = output.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if template(stem) == template(name) {
        return Ok(());
    }
    Err(format!(
        "{} is not a file for this unit: write it to units/{name}.toml",
        output.display()
    )
    .into())
}

fn write(output: &Path, text: &str, force: bool) -> Result<(), Box<dyn Error>> {
    let opened = match force {
        true => OpenOptions::new().write(true).create(true).truncate(true).open(output),
        false => OpenOptions::new().write(true).create_new(true).open(output),
    };
    let shown = output.display();
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(format!("{shown} is there already: --force overwrites it").into())
        }
        result => result.map_err(|e| format!("cannot write {shown}: {e}").into()),
    }
}

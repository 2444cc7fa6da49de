//! Writes what helps to find out what happened to a medium: the logs, the records of upgrades, and what recovery found.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::mounts::{Access, Mounted};
use super::{Machine, Outcome};
use crate::findings::{Findings, Medium};

/// Of `/data/upgrade`: not what the appliance tells to nobody.
const RECORDS: [&str; 3] = ["tried.json", "history.jsonl", "states.json"];

impl Machine {
    /// Returns the name of the file on the medium.
    pub(super) fn export(&self, medium: &Medium, findings: &Findings) -> Outcome<String> {
        let own = self.own_disk()?;
        let data = self.data(&own, Access::Read)?;
        let node = Path::new("/dev").join(medium.device.replace('!', "/"));
        let mounted = Mounted::new(&node, &medium.kind, Access::Write)?;
        let (file, name) = fresh(mounted.path(), &findings.name).map_err(|e| format!("cannot write there: {e}"))?;
        let found: String = findings.reasons().into_iter().map(|line| line + "\n").collect();
        let written = write(&file, data.path(), &found).and_then(|()| file.sync_all());
        match written {
            Ok(()) => Ok(name),
            Err(error) => {
                let _ = fs::remove_file(mounted.path().join(&name));
                Err(format!("cannot write {name} to {}: {error}", medium.device))
            }
        }
    }
}

/// A file that was not there.
fn fresh(folder: &Path, appliance: &str) -> io::Result<(File, String)> {
    for number in 1..1000 {
        let name = format!("{appliance}-logs-{number}.tar");
        match File::create_new(folder.join(&name)) {
            Ok(file) => return Ok((file, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The archive.
fn write(to: impl Write, data: &Path, found: &str) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    tar.follow_symlinks(false);
    let mut header = tar::Header::new_ustar();
    header.set_size(found.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "found.txt", found.as_bytes())?;
    if data.join("log").is_dir() {
        tar.append_dir_all("log", data.join("log"))?;
    }
    for name in RECORDS {
        let path = data.join("upgrade").join(name);
        if path.is_file() {
            tar.append_path_with_name(path, format!("upgrade/{name}"))?;
        }
    }
    tar.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_logs_and_records_and_not_what_is_told_to_nobody() {
        let data = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("log/web/0000.tail", "x"),
            ("upgrade/history.jsonl", "{}"),
            ("upgrade/machine", "secret"),
            ("secrets/web/admin", "secret"),
        ] {
            let path = data.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut bytes = Vec::new();
        write(&mut bytes, data.path(), "Slot A is empty.\n").unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .filter(|name| !name.ends_with('/'))
            .collect();
        assert!(
            names.contains(&"found.txt".into()) && names.contains(&"log/web/0000.tail".into()),
            "{names:?}"
        );
        assert!(names.contains(&"upgrade/history.jsonl".into()), "{names:?}");
        assert!(
            !names
                .iter()
                .any(|name| name.contains("machine") || name.contains("secret")),
            "{names:?}"
        );
    }
}

//! The boot loader's files on the ESP: each version's root has a copy, and what is damaged on the ESP is written again from it.
//!
//! A loader of another version is not damaged: it lies there twice, under the firmware's name and its own, and both are the same. It is left alone,
//! since to write it anew is the one moment at which a power cut could leave none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::Error;

/// The copy in the root.
pub const COPY: &str = "/usr/lib/cairn/esp";
/// The folders in which the firmware and systemd-boot's own tools look for the loader.
const PLACES: [&str; 2] = ["EFI/systemd/", "EFI/BOOT/"];

/// Content by path below the ESP.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Which files are to be written again, in this order: the one that the firmware starts comes after the other loader.
pub fn damaged(own: &Files, found: &Files) -> Vec<String> {
    let is_loader = |path: &str| PLACES.iter().any(|place| path.starts_with(place));
    let (loaders, others): (Vec<_>, Vec<_>) = own.keys().partition(|path| is_loader(path));
    let there: Vec<Option<&Vec<u8>>> = loaders.iter().map(|path| found.get(*path)).collect();
    let same = there.len() > 1 && there.iter().all(|content| content.is_some() && *content == there[0]);
    let mut wrong: Vec<String> = loaders
        .into_iter()
        .rev()
        .filter(|path| !same && found.get(*path) != own.get(*path))
        .cloned()
        .collect();
    wrong.extend(
        others
            .into_iter()
            .filter(|path| found.get(*path) != own.get(*path))
            .cloned(),
    );
    wrong
}

/// Compares the mounted ESP with the copy in the root and writes what is damaged; returns what was.
///
/// # Errors
/// The copy cannot be read, or the ESP cannot be written.
pub fn mend(copy: &Path, esp: &Path) -> Result<Vec<String>, Error> {
    let mut own = Files::new();
    gather(copy, "", &mut own).map_err(Error::io("read", copy))?;
    // What cannot be read is damaged.
    let read = |path: &String| Some((path.clone(), fs::read(esp.join(path)).ok()?));
    let found = own.keys().filter_map(read).collect();
    let wrong = damaged(&own, &found);
    for path in &wrong {
        write(esp, path, &own[path]).map_err(Error::io("write", esp.join(path)))?;
    }
    Ok(wrong)
}

fn gather(folder: &Path, below: &str, into: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), &format!("{path}/"), into)?;
        } else {
            into.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// All of the new file is on the disk before it takes the damaged one's name.
fn write(esp: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let path = esp.join(path);
    let folder = path.parent().unwrap_or(esp);
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    let folder = File::open(folder)?;
    folder.sync_all()?;
    Ok(rustix::fs::syncfs(&folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRMWARE: &str = "EFI/BOOT/BOOTX64.EFI";
    const OWN: &str = "EFI/systemd/systemd-bootx64.efi";
    const CONF: &str = "loader/loader.conf";

    fn files(all: &[(&str, &str)]) -> Files {
        let file = |(path, content): &(&str, &str)| ((*path).to_owned(), content.as_bytes().to_vec());
        all.iter().map(file).collect()
    }

    #[test]
    fn what_is_damaged_is_written_again_and_another_versions_loader_is_not() {
        let own = files(&[(FIRMWARE, "257"), (OWN, "257"), (CONF, "timeout 0")]);
        for (found, expected) in [
            (files(&[(FIRMWARE, "257"), (OWN, "257"), (CONF, "timeout 0")]), vec![]),
            (files(&[(FIRMWARE, "256"), (OWN, "256"), (CONF, "timeout 0")]), vec![]),
            (
                files(&[(FIRMWARE, "2?7"), (OWN, "257"), (CONF, "timeout 0")]),
                vec![FIRMWARE],
            ),
            (files(&[(FIRMWARE, "257"), (CONF, "")]), vec![OWN, CONF]),
            (
                files(&[(FIRMWARE, "2?6"), (OWN, "256"), (CONF, "timeout 0")]),
                vec![OWN, FIRMWARE],
            ),
            (files(&[]), vec![OWN, FIRMWARE, CONF]),
        ] {
            assert_eq!(damaged(&own, &found), expected, "{found:?}");
        }
    }

    #[test]
    fn the_esp_has_what_the_root_has_afterwards() {
        let (copy, esp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in files(&[(FIRMWARE, "257"), (OWN, "257"), (CONF, "timeout 0")]) {
            let path = copy.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(esp.path().join("setup.toml"), "the owner's").unwrap();
        assert_eq!(mend(copy.path(), esp.path()).unwrap(), [OWN, FIRMWARE, CONF]);
        assert_eq!(mend(copy.path(), esp.path()).unwrap(), [""; 0]);
        assert_eq!(fs::read(esp.path().join(FIRMWARE)).unwrap(), b"257");
        assert_eq!(fs::read(esp.path().join("setup.toml")).unwrap(), b"the owner's");
        assert!(!esp.path().join("EFI/BOOT/BOOTX64.new").exists());
    }
}

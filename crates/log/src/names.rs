//! What files and folders of a store are called.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::Error;
use crate::record::Seq;

/// What a file of a unit's folder is. Each is named by a place, of its first record, in 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Segment,
    Tail,
    /// Empty, and named by the place of the last packed record: where there is no tail, it tells how far places were used.
    Mark,
}

impl FileKind {
    fn ending(self) -> &'static str {
        match self {
            FileKind::Segment => "seg",
            FileKind::Tail => "tail",
            FileKind::Mark => "mark",
        }
    }
}

pub(crate) fn path_of(folder: &Path, first: Seq, kind: FileKind) -> PathBuf {
    folder.join(format!("{first}.{}", kind.ending()))
}

fn parse(name: &str) -> Option<(FileKind, Seq)> {
    let (first, ending) = name.split_once('.')?;
    let kind = [FileKind::Segment, FileKind::Tail, FileKind::Mark]
        .into_iter()
        .find(|k| k.ending() == ending)?;
    let lower = first.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let number = (first.len() == 16 && lower).then(|| u64::from_str_radix(first, 16).ok())??;
    Some((kind, Seq(number)))
}

/// The store's files in a unit's folder: segments, tails, marks, each in order. A folder that is not there has none.
pub(crate) fn list(folder: &Path) -> Result<Vec<(FileKind, Seq)>, Error> {
    let mut found: Vec<(FileKind, Seq)> = read_names(folder)?.iter().filter_map(|name| parse(name)).collect();
    found.sort();
    Ok(found)
}

/// The units that have a folder in the store.
pub(crate) fn units(root: &Path) -> Result<Vec<String>, Error> {
    let mut names = read_names(root)?;
    names.retain(|name| check_unit(name).is_ok() && root.join(name).is_dir());
    names.sort();
    Ok(names)
}

fn read_names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

/// Whether a unit of this name can have a folder: nothing that leads elsewhere or hides.
pub(crate) fn check_unit(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match first && name.len() <= 200 && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(Error::UnitName { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unit_name_leads_out_of_the_store() {
        assert!(check_unit("worker@1").is_ok() && check_unit("a.b-c_D").is_ok());
        for bad in ["", ".", "..", ".a", "a/b", "a\0", "-a", "é", &"a".repeat(201)] {
            assert!(check_unit(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_files_of_the_store_are_taken_for_such() {
        let name = |s: &str| parse(s).map(|(_, seq)| seq.0);
        assert_eq!(name("00000000000000ff.seg"), Some(255));
        for other in [
            "00000000000000FF.seg",
            "ff.tail",
            "00000000000000ff.seg.tmp",
            "+0000000000000ff.seg",
        ] {
            assert_eq!(name(other), None);
        }
    }
}

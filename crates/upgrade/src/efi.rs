//! What the boot loader left in EFI variables (<https://systemd.io/BOOT_LOADER_INTERFACE/>): whether it could count the try, and whether
//! somebody's choice stands in the way of counting.

use std::path::Path;

use crate::entries::EntryName;

/// systemd-boot's namespace of variables.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// A variable as text; `None` where there is none.
fn variable(efivars: &Path, name: &str) -> Option<String> {
    let bytes = std::fs::read(efivars.join(format!("{name}-{VENDOR}"))).ok()?;
    // Four bytes of attributes, then UTF-16 with a zero at the end.
    let units: Vec<u16> = bytes
        .get(4..)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
}

/// What is wrong with the way in which this boot was counted, in sentences, beside the entries that lie on the ESP.
pub fn problems(efivars: &Path, entries: &[EntryName]) -> Vec<String> {
    let mut found = Vec::new();
    // The loader says under which name the counted entry now lies. It ignores that it could not rename it, and would try it for ever. What we
    // renamed since then has fewer tries left, or is not counted any more.
    let path = variable(efivars, "LoaderBootCountPath").unwrap_or_default();
    let file = path.rsplit('\\').next().unwrap_or_default();
    if let Some(told) = EntryName::parse(file) {
        let left = |entry: &EntryName| entry.tries.map_or(0, |(left, _)| left);
        let same = |entry: &&EntryName| (&entry.name, &entry.version) == (&told.name, &told.version);
        if entries.iter().filter(same).any(|entry| left(entry) > left(&told)) {
            found.push(format!(
                "the boot loader could not count this try ({file} is not on the ESP): the ESP is full, damaged or cannot be written"
            ));
        }
    }
    for name in ["LoaderEntryDefault", "LoaderEntryOneShot"] {
        if let Some(entry) = variable(efivars, name).filter(|entry| !entry.is_empty()) {
            found.push(format!(
                "the EFI variable {name} chooses {entry}, whatever was counted: remove it, or a failed version is started again and again"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, text: &str) {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        std::fs::write(folder.join(format!("{name}-{VENDOR}")), bytes).unwrap();
    }

    #[test]
    fn a_try_that_could_not_be_counted_is_told() {
        let vars = tempfile::tempdir().unwrap();
        let told = |file: &str| problems(vars.path(), &[EntryName::parse(file).unwrap()]);
        assert_eq!(told("box_2.0+3.efi"), Vec::<String>::new());
        put(vars.path(), "LoaderBootCountPath", "\\EFI\\Linux\\box_2.0+2-1.efi");
        // Counted, kept since, given up since, and another version's.
        for file in ["box_2.0+2-1.efi", "box_2.0.efi", "box_2.0+0-3.efi", "box_1.0+3.efi"] {
            assert_eq!(told(file), Vec::<String>::new(), "{file}");
        }
        let why = told("box_2.0+3.efi");
        assert!(why.len() == 1 && why[0].contains("box_2.0+2-1.efi"), "{why:?}");
        put(vars.path(), "LoaderEntryDefault", "box_1.0.efi");
        assert!(told("box_2.0.efi")[0].contains("LoaderEntryDefault chooses box_1.0.efi"));
    }
}

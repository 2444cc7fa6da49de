//! What the boot loader left in EFI variables (<https://systemd.io/BOOT_LOADER_INTERFACE/>): whether it could count the try, and whether
//! somebody's choice stands in the way of counting.

use cairn_disk::efivars::{EfiVars, LOADER};

use crate::entries::EntryName;

/// What is wrong with the way in which this boot was counted, in sentences, beside the entries that lie on the ESP.
pub fn problems(efivars: &EfiVars, entries: &[EntryName]) -> Vec<String> {
    let mut found = Vec::new();
    // The loader says under which name the counted entry now lies. It ignores that it could not rename it, and would try it for ever. What we
    // renamed since then has fewer tries left, or is not counted any more.
    let path = efivars.text(LOADER, "LoaderBootCountPath").unwrap_or_default();
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
        if let Some(entry) = efivars.text(LOADER, name).filter(|entry| !entry.is_empty()) {
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

    #[test]
    fn a_try_that_could_not_be_counted_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let vars = EfiVars::at(folder.path());
        let told = |file: &str| problems(&vars, &[EntryName::parse(file).unwrap()]);
        assert_eq!(told("box_2.0+3.efi"), Vec::<String>::new());
        vars.set_text(LOADER, "LoaderBootCountPath", "\\EFI\\Linux\\box_2.0+2-1.efi")
            .unwrap();
        // Counted, kept since, given up since, and another version's.
        for file in ["box_2.0+2-1.efi", "box_2.0.efi", "box_2.0+0-3.efi", "box_1.0+3.efi"] {
            assert_eq!(told(file), Vec::<String>::new(), "{file}");
        }
        let why = told("box_2.0+3.efi");
        assert!(why.len() == 1 && why[0].contains("box_2.0+2-1.efi"), "{why:?}");
        vars.set_text(LOADER, "LoaderEntryDefault", "box_1.0.efi").unwrap();
        assert!(told("box_2.0.efi")[0].contains("LoaderEntryDefault chooses box_1.0.efi"));
    }
}

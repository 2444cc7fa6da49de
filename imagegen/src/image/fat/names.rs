//! Names in FAT folders: the short one that every entry has, and the entries of the long one before it.

use crate::image::Error;

const LONG_NAME: u8 = 0x0f;

/// The form `NAME.EXT` of a padded short name.
pub(super) fn plain(short: &[u8; 11]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = (part(&short[..8]), part(&short[8..]));
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

pub(super) fn is_short(name: &str, short: &[u8; 11]) -> bool {
    name == plain(short)
}

/// A short name for each name of a folder: the name itself where it is one (capitals, 8.3), else `BASE~N.EXT`.
pub(super) fn short_names(names: &[&String]) -> Result<Vec<[u8; 11]>, Error> {
    let mut taken: Vec<[u8; 11]> = Vec::new();
    let mut folded: Vec<String> = Vec::new();
    for name in names {
        let wrong = |why: &str| Error::input(format!("ESP file name `{name}`"), why);
        if name.is_empty() || name.len() > 255 || name.ends_with(['.', ' ']) {
            return Err(wrong("it is empty, too long, or ends in a dot or space"));
        }
        if name.chars().any(|c| c < ' ' || "\"*/:<>?\\|".contains(c)) {
            return Err(wrong("it has a character that FAT does not allow"));
        }
        if folded.contains(&name.to_uppercase()) {
            return Err(wrong("another name differs only in capitals"));
        }
        folded.push(name.to_uppercase());
        let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let kept = |text: &str, most: usize| -> Vec<u8> {
            let simple = |c: &char| c.is_ascii_alphanumeric() || "_-$!#%&'()@^`{}~".contains(*c);
            text.chars()
                .filter(simple)
                .take(most)
                .map(|c| c.to_ascii_uppercase() as u8)
                .collect()
        };
        let (base8, extension) = (kept(base, 8), kept(extension, 3));
        let make = |base: &[u8]| {
            let mut short = [b' '; 11];
            short[..base.len()].copy_from_slice(base);
            short[8..8 + extension.len()].copy_from_slice(&extension);
            short
        };
        let exact = make(&base8);
        let candidates = (1..100_000).map(|n| {
            let tail = format!("~{n}");
            let cut = base8.len().min(8 - tail.len());
            make(&[&base8[..cut], tail.as_bytes()].concat())
        });
        let mut candidates = is_short(name, &exact).then_some(exact).into_iter().chain(candidates);
        let short = candidates
            .find(|s| !taken.contains(s))
            .ok_or_else(|| wrong("no short name is free"))?;
        taken.push(short);
    }
    Ok(taken)
}

/// The long-name entries that stand before an entry, or none if the short name says it all.
pub(super) fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    if is_short(name, short) {
        return Vec::new();
    }
    let sum = short.iter().fold(0_u8, |sum, b| sum.rotate_right(1).wrapping_add(*b));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    let pieces = units.len().div_ceil(13);
    if units.len() < pieces * 13 {
        units.push(0);
        units.resize(pieces * 13, 0xffff);
    }
    let mut bytes = Vec::new();
    for (index, piece) in units.chunks(13).enumerate().rev() {
        let mut entry = [0; 32];
        entry[0] = (index + 1) as u8 | if index + 1 == pieces { 0x40 } else { 0 };
        entry[11] = LONG_NAME;
        entry[13] = sum;
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        for (unit, at) in piece.iter().zip(places) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        bytes.extend(entry);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fat_cannot_tell_apart_are_refused() {
        let (a, b) = ("loader.conf".to_owned(), "LOADER.conf".to_owned());
        assert!(short_names(&[&a, &b]).is_err());
        let (a, b) = ("a long name one.efi".to_owned(), "a long name two.efi".to_owned());
        assert_eq!(short_names(&[&a, &b]).unwrap(), [*b"ALONGN~1EFI", *b"ALONGN~2EFI"]);
    }
}

//! Boot entries on the ESP as values: `EFI/Linux/NAME_VERSION+LEFT-DONE.efi`, by the Boot Loader Specification's "boot counting".
//!
//! `+3` is to be tried three times, `+2-1` was tried once, `+0-3` is given up, and without a `+` it has proved itself. systemd-boot
//! counts; this side only gives names.

use std::cmp::Ordering;

use cairn_disk::verity::RootHash;

/// How often a new version is tried.
pub const TRIES: u32 = 3;

/// What the file name of an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// The appliance's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// How many tries are left and how many were made; `None` once it has proved itself.
    pub tries: Option<(u32, u32)>,
}

impl EntryName {
    /// An entry that is to be tried.
    pub fn fresh(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            tries: Some((TRIES, 0)),
        }
    }

    /// The same, proved.
    pub fn good(&self) -> Self {
        Self {
            tries: None,
            ..self.clone()
        }
    }

    /// The same, given up: systemd-boot takes it only if there is no other.
    pub fn bad(&self) -> Self {
        let done = self.tries.map_or(0, |(left, done)| left.saturating_add(done)).max(1);
        Self {
            tries: Some((0, done)),
            ..self.clone()
        }
    }

    /// Whether it was given up.
    pub fn is_bad(&self) -> bool {
        self.tries.is_some_and(|(left, _)| left == 0)
    }

    /// Reads a file name; `None` if it is not that of an entry of ours.
    pub fn parse(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".efi").or_else(|| file.strip_suffix(".EFI"))?;
        let (stem, tries) = match stem.rsplit_once('+') {
            None => (stem, None),
            Some((stem, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                (stem, Some((number(left)?, number(done)?)))
            }
        };
        let (name, version) = stem.split_once('_')?;
        (!name.is_empty() && !version.is_empty()).then(|| Self {
            name: name.to_owned(),
            version: version.to_owned(),
            tries,
        })
    }

    /// The file name.
    pub fn file(&self) -> String {
        let (name, version) = (&self.name, &self.version);
        match self.tries {
            None => format!("{name}_{version}.efi"),
            Some((left, 0)) => format!("{name}_{version}+{left}.efi"),
            Some((left, done)) => format!("{name}_{version}+{left}-{done}.efi"),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// An entry that lies on the ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What its name says.
    pub name: EntryName,
    /// The file as it is called there.
    pub file: String,
    /// Its length in bytes.
    pub size: u64,
    /// The root that it boots; `None` if it does not say so in a way that can be read.
    pub root: Option<RootHash>,
}

/// Which of two versions is newer: numbers between dots, compared as numbers.
pub fn newer(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| -> Vec<u64> { text.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    let (mut one, mut other) = (parts(one), parts(other));
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    one.cmp(&other)
}

/// Whether a text is a version: digits between dots.
pub fn is_version(text: &str) -> bool {
    let part = |part: &str| (1..=18).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 32 && text.split('.').all(part)
}

/// The word `roothash=` of a UKI's command line, from the start of the file.
pub fn root_of(uki: &[u8]) -> Option<RootHash> {
    let line = section(uki, b".cmdline")?;
    let line = std::str::from_utf8(line).ok()?.trim_end_matches('\0');
    line.split_whitespace()
        .find_map(|word| word.strip_prefix("roothash=")?.parse().ok())
}

/// Whether a UKI, of which the start is enough, has a signature: Microsoft's PE format, the entry of the certificate table among the data
/// directories of a 64-bit program. Whose it is, firmware judges.
pub fn is_signed(uki: &[u8]) -> bool {
    let at = |at: usize| Some(u32::from_le_bytes(uki.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let length = || {
        let optional = at(0x3c)? as usize + 24;
        (uki.get(optional..optional + 2)? == [0x0b, 0x02] && at(optional + 108)? > 4).then_some(())?;
        at(optional + 112 + 4 * 8 + 4)
    };
    length().is_some_and(|length| length > 0)
}

/// A section of a PE file (Microsoft's PE format, "Section Table").
fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let word = |at: usize, length: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let pe = word(0x3c, 4)?;
    if file.get(..2)? != b"MZ" || file.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let (count, optional) = (word(pe + 6, 2)?, word(pe + 20, 2)?);
    let table = pe + 24 + optional;
    (0..count.min(96)).find_map(|number| {
        let at = table + number * 40;
        let own = file.get(at..at + 8)?;
        let end = own.iter().position(|b| *b == 0).unwrap_or(8);
        if &own[..end] != name {
            return None;
        }
        let (virtual_size, size, from) = (word(at + 8, 4)?, word(at + 16, 4)?, word(at + 20, 4)?);
        file.get(from..from.checked_add(size.min(virtual_size))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_often_an_entry_is_tried() {
        for (file, tries) in [
            ("box_1.2.0.efi", None),
            ("box_1.2.0+3.efi", Some((3, 0))),
            ("box_1.2.0+2-1.efi", Some((2, 1))),
            ("box_1.2.0+0-3.efi", Some((0, 3))),
        ] {
            let entry = EntryName::parse(file).unwrap();
            assert_eq!(
                (entry.name.as_str(), entry.version.as_str(), entry.tries),
                ("box", "1.2.0", tries)
            );
            assert_eq!(entry.file(), file);
        }
        for other in [
            "box.efi",
            "box_1.2.0",
            "box_+3.efi",
            "_1.efi",
            "box_1+x.efi",
            "box_1+3-.efi",
            "box_1+3.efi.tmp",
        ] {
            assert_eq!(EntryName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_entry_is_proved_or_given_up_by_its_name_alone() {
        let fresh = EntryName::fresh("box", "2.0");
        assert_eq!(fresh.file(), "box_2.0+3.efi");
        assert_eq!(fresh.good().file(), "box_2.0.efi");
        assert_eq!(fresh.bad().file(), "box_2.0+0-3.efi");
        assert_eq!(fresh.good().bad().file(), "box_2.0+0-1.efi");
        assert!(fresh.bad().is_bad() && !fresh.is_bad() && !fresh.good().is_bad());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(newer("1.10.0", "1.9.9"), Ordering::Greater);
        assert_eq!(newer("1.0", "1.0.0"), Ordering::Equal);
        assert_eq!(newer("2", "10"), Ordering::Less);
        assert!(is_version("1.4.0") && !is_version("1..0") && !is_version("1.a") && !is_version(""));
    }

    #[test]
    fn a_signed_entry_is_told_from_one_that_is_not() {
        let mut uki = vec![0; 0x200];
        uki[0x3c] = 0x80;
        uki[0x98..0x9a].copy_from_slice(&[0x0b, 0x02]);
        uki[0x98 + 108] = 16;
        assert!(!is_signed(&uki) && !is_signed(b"") && !is_signed(&crate::testing::uki(b"quiet")));
        uki[0x98 + 148] = 8;
        assert!(is_signed(&uki));
        assert!(!is_signed(&uki[..0x98 + 150]));
    }

    #[test]
    fn the_root_of_a_uki_is_read_from_its_command_line() {
        let line = format!("quiet roothash={} panic=10\0", "cd".repeat(32));
        let uki = crate::testing::uki(line.as_bytes());
        assert_eq!(root_of(&uki).unwrap().to_string(), "cd".repeat(32));
        for damage in [0, 0x3c, 0x80] {
            let mut uki = uki.clone();
            uki[damage] ^= 0xff;
            assert_eq!(root_of(&uki), None, "{damage}");
        }
        assert_eq!(root_of(&uki[..200]), None);
        assert_eq!(root_of(b""), None);
    }
}

//! The recovery key: 140 random bits as a person types them, and a group by which a mistake in typing is told.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Crockford's base 32: no letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters of a group.
const GROUP: usize = 4;
/// Groups that are random; one more is made of them.
const GROUPS: usize = 7;
const LETTERS: usize = GROUP * GROUPS;

/// A recovery key in the one form that opens the partition: `abcd-...`, eight groups, small letters.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RecoveryKey(String);

/// What was typed is no recovery key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistyped;

impl RecoveryKey {
    /// A fresh one, from the kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new() -> io::Result<Self> {
        let mut bytes = [0; LETTERS];
        // Waits until the kernel's generator is seeded.
        File::open(Path::new("/dev/random"))?.read_exact(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    /// Five bits of each byte.
    fn of(bytes: &[u8; LETTERS]) -> Self {
        let random: Vec<u8> = bytes.iter().map(|byte| ALPHABET[usize::from(byte & 31)]).collect();
        let check = check(&random);
        let letters = [random, check.to_vec()].concat();
        let groups: Vec<_> = letters.chunks(GROUP).map(String::from_utf8_lossy).collect();
        Self(groups.join("-"))
    }

    /// What a person typed: capitals, spaces and lines between the groups do not matter, nor does an O for a zero, or an I or L for a one.
    pub(crate) fn typed(text: &str) -> Result<Self, Mistyped> {
        let letters = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let letters: Vec<u8> = letters
            .map(|c| match c.to_ascii_lowercase() {
                'o' => b'0',
                'i' | 'l' => b'1',
                c => u8::try_from(c).unwrap_or(b'?'),
            })
            .collect();
        let Some((random, given)) = letters.split_at_checked(LETTERS) else {
            return Err(Mistyped);
        };
        let known = random.iter().all(|letter| ALPHABET.contains(letter));
        if !known || given != check(random) {
            return Err(Mistyped);
        }
        let groups: Vec<_> = letters.chunks(GROUP).map(String::from_utf8_lossy).collect();
        Ok(Self(groups.join("-")))
    }

    /// As it is shown, and as LUKS takes it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Not in any message by accident.
impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey")
    }
}

/// The last group: 20 bits of the others' CRC. It finds mistakes, and has no part in the key's strength.
fn check(random: &[u8]) -> [u8; GROUP] {
    let crc = crc32fast::hash(random);
    [0, 5, 10, 15].map(|shift| ALPHABET[(crc >> shift & 31) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> RecoveryKey {
        let mut bytes = [0; LETTERS];
        for (byte, n) in bytes.iter_mut().zip(40..) {
            *byte = n;
        }
        RecoveryKey::of(&bytes)
    }

    #[test]
    fn a_key_is_known_however_it_is_typed() {
        let key = some();
        assert_eq!(key.text().len(), 8 * 4 + 7);
        let bare = key.text().replace('-', "");
        let alike = key.text().replace('0', "O").replace('1', "l");
        for typed in [
            key.text(),
            &key.text().to_uppercase(),
            &bare,
            &alike,
            &format!(" {} \r\n", key.text()),
        ] {
            assert_eq!(RecoveryKey::typed(typed), Ok(key.clone()), "{typed}");
        }
    }

    #[test]
    fn one_wrong_missing_or_exchanged_letter_is_told() {
        let key = some().text().replace('-', "");
        for at in 0..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(RecoveryKey::typed(&wrong), Err(Mistyped), "{wrong}");
            let mut short = key.clone();
            short.remove(at);
            assert_eq!(RecoveryKey::typed(&short), Err(Mistyped), "{short}");
            let mut turned = key.clone().into_bytes();
            if at > 0 && turned[at] != turned[at - 1] {
                turned.swap(at, at - 1);
                let turned = String::from_utf8(turned).unwrap();
                assert_eq!(RecoveryKey::typed(&turned), Err(Mistyped), "{turned}");
            }
        }
        for text in ["", "u", &"é".repeat(32), &format!("{key}{key}")] {
            assert_eq!(RecoveryKey::typed(text), Err(Mistyped), "{text}");
        }
    }

    #[test]
    fn two_keys_are_two_and_no_message_shows_one() {
        let (one, other) = (RecoveryKey::new().unwrap(), RecoveryKey::new().unwrap());
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains(&one.text()[..4]));
        assert_eq!(RecoveryKey::typed(one.text()), Ok(one));
    }
}

//! Secrets out of the kernel's random numbers.

use crate::error::Error;

/// So many random bytes.
///
/// # Errors
/// The kernel gives none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0u8; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::Random(e.into()))?;
    }
    Ok(bytes)
}

/// Random text of letters and digits, each equally likely.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random_text(length: usize) -> Result<String, Error> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    while text.len() < length {
        for byte in random_bytes::<64>()? {
            // 248 = 4 * 62: what is above would make some characters likelier.
            if byte < 248 && text.len() < length {
                text.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_text_has_its_length_and_every_character_of_its_alphabet() {
        let text = random_text(10_000).unwrap();
        assert_eq!(text.len(), 10_000);
        let seen: std::collections::BTreeSet<char> = text.chars().collect();
        assert_eq!(seen.len(), 62);
        assert!(seen.iter().all(char::is_ascii_alphanumeric));
        assert_ne!(random_text(32).unwrap(), random_text(32).unwrap());
    }
}

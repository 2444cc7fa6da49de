//! Random values, what is kept of them, passwords, and the codes of authenticators.

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version, password_hash::SaltString,
};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, Specification};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random numbers: {0}")]
pub struct NoRandom(getrandom::Error);

/// Random bytes.
///
/// # Errors
/// If the kernel has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandom)?;
    Ok(bytes)
}

/// A token of 256 random bits, as text.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn token() -> Result<String, NoRandom> {
    Ok(BASE64URL_NOPAD.encode(&random::<32>()?))
}

/// Whether a text has a token's form.
pub fn is_token(text: &str) -> bool {
    text.len() == 43 && BASE64URL_NOPAD.decode(text.as_bytes()).is_ok()
}

/// What is kept of a token: who reads the store cannot use it.
pub fn kept(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether two texts are the same, in a time that does not tell how far they are.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The value that forms of this session carry. It is made from the session's token, so nothing has to be kept for it.
pub fn form_token(key: &[u8], session: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(b"form\0");
    mac.update(session.as_bytes());
    BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
}

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
fn argon() -> Argon2<'static> {
    let params = Params::new(19 << 10, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A password as it is kept. Takes a tenth of a second and 19 MiB.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn hash_password(password: &str) -> Result<String, NoRandom> {
    let salt = random::<16>()?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| NoRandom(getrandom::Error::UNSUPPORTED))?;
    let hash = argon().hash_password(password.as_bytes(), &salt);
    Ok(hash.map(|hash| hash.to_string()).unwrap_or_default())
}

/// Whether a password is the one that was kept. Without one it takes as long, so that the time does not tell whether an
/// account exists.
pub fn check_password(password: &str, kept: Option<&str>) -> bool {
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2Q$UPaFkbPLtSbGTmmbn6Vmb5I5BSNTNzyFGXfwZ0jD0gM";
    let parsed = PasswordHash::new(kept.unwrap_or(NOBODY));
    let right = parsed.is_ok_and(|hash| argon().verify_password(password.as_bytes(), &hash).is_ok());
    right && kept.is_some()
}

/// How hard a password is to guess: 0 (at once) to 4. `others` are words that a guesser knows: the account's name and the like.
pub fn strength(password: &str, others: &[&str]) -> u8 {
    // zxcvbn's time grows faster than the length. A whole is no easier to guess than a part of it, so both ends are looked at.
    let all: Vec<char> = password.chars().collect();
    let ends = [&all[..all.len().min(40)], &all[all.len().saturating_sub(40)..]];
    let scores = ends.map(|end| u8::from(zxcvbn::zxcvbn(&end.iter().collect::<String>(), others).score()));
    scores.into_iter().max().unwrap_or(0)
}

/// An authenticator's secret: 160 bits, as RFC 4226 recommends, in base32.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn totp_secret() -> Result<String, NoRandom> {
    Ok(BASE32_NOPAD.encode(&random::<20>()?))
}

/// The code of RFC 6238 (SHA-1, 30 seconds, six digits) in a step of time.
pub fn totp_code(secret: &str, step: u64) -> Option<u32> {
    let key = BASE32_NOPAD.decode(secret.as_bytes()).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).ok()?;
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let word = u32::from_be_bytes(hash.get(at..at + 4)?.try_into().ok()?);
    Some((word & 0x7fff_ffff) % 1_000_000)
}

/// The step in which a code holds, if it does at this time (in seconds since 1970), one step of grace to either side. A step
/// up to `used` counts no more: each code is good once.
pub fn totp_step(secret: &str, code: &str, now: u64, used: u64) -> Option<u64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    if code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let step = now / 30;
    let steps = [step.saturating_sub(1), step, step + 1];
    steps.into_iter().find(|step| {
        let right = totp_code(secret, *step).map(|right| format!("{right:06}"));
        *step > used && right.is_some_and(|right| same(&right, &code))
    })
}

/// What an authenticator reads from the picture.
pub fn totp_address(secret: &str, account: &str, appliance: &str) -> String {
    let safe = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let (account, appliance) = (safe(account), safe(appliance));
    format!("otpauth://totp/{appliance}:{account}?secret={secret}&issuer={appliance}")
}

/// Random bits in groups of four letters that cannot be taken for each other (Crockford's base32).
fn letters<const BYTES: usize>() -> Result<String, NoRandom> {
    let mut letters = Specification::new();
    letters.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    let bytes = random::<BYTES>()?;
    let text = match letters.encoding() {
        Ok(encoding) => encoding.encode(&bytes),
        Err(_) => BASE32_NOPAD.encode(&bytes).to_lowercase(),
    };
    let groups: Vec<&str> = (0..text.len() / 4).filter_map(|i| text.get(i * 4..i * 4 + 4)).collect();
    Ok(groups.join("-"))
}

/// A recovery key: 160 random bits in eight groups.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn recovery_key() -> Result<String, NoRandom> {
    letters::<20>()
}

/// A code by which somebody sets a password, within a day and once: 80 random bits in four groups, short enough to be read out.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn reset_code() -> Result<String, NoRandom> {
    letters::<10>()
}

/// What is kept of a recovery key or such a code, however a person writes it.
pub fn kept_recovery(key: &str) -> [u8; 32] {
    let plain = key
        .chars()
        .filter(|c| c.is_alphanumeric())
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        });
    kept(&plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_rfc_6238() {
        // Appendix B, the last six digits.
        let secret = BASE32_NOPAD.encode(b"12345678901234567890");
        for (time, code) in [(59, 287_082), (1_111_111_109, 81_804), (20_000_000_000, 353_130)] {
            assert_eq!(totp_code(&secret, time / 30), Some(code));
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_one_step_more() {
        let secret = totp_secret().unwrap();
        let now = 1_700_000_000;
        let code = format!("{:06}", totp_code(&secret, now / 30).unwrap());
        assert_eq!(totp_step(&secret, &code, now, 0), Some(now / 30));
        assert_eq!(totp_step(&secret, &code, now + 30, 0), Some(now / 30));
        assert_eq!(totp_step(&secret, &code, now, now / 30), None);
        assert_eq!(totp_step(&secret, "12345", now, 0), None);
    }

    #[test]
    fn a_password_of_every_printable_character_is_itself_and_no_other() {
        let every: String = (' '..='~').chain("äß€🐄👩‍🚀".chars()).collect();
        let kept = hash_password(&every).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(check_password(&every, Some(&kept)));
        assert!(!check_password(&every[1..], Some(&kept)));
        assert!(!check_password(&every, None));
    }

    #[test]
    fn nobodys_password_costs_what_a_real_one_does() {
        let hash = PasswordHash::new(
            "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2Q$UPaFkbPLtSbGTmmbn6Vmb5I5BSNTNzyFGXfwZ0jD0gM",
        );
        assert!(hash.is_ok());
    }

    #[test]
    fn a_recovery_key_is_the_same_however_it_is_written() {
        let key = recovery_key().unwrap();
        assert_eq!(key.len(), 39);
        let other = key.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "l");
        assert_eq!(kept_recovery(&key), kept_recovery(&other));
        assert_ne!(kept_recovery(&key), kept_recovery(&recovery_key().unwrap()));
    }

    #[test]
    fn a_form_belongs_to_its_session() {
        assert_ne!(form_token(b"key", "one"), form_token(b"key", "two"));
        assert_ne!(form_token(b"key", "one"), form_token(b"other", "one"));
    }
}

//! An authenticator: the codes of RFC 6238 (SHA-1, 30 seconds, six digits).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

const STEP_S: u64 = 30;

/// One account in the authenticator.
#[derive(Debug, Clone)]
pub struct Authenticator {
    key: Vec<u8>,
    used: u64,
}

impl Authenticator {
    /// From the secret as a page shows it: base32 in either case, with or without spaces. `None` if it is not that.
    pub fn new(shown: &str) -> Option<Authenticator> {
        let text: String = shown.split_whitespace().collect();
        let key = BASE32_NOPAD.decode(text.to_uppercase().as_bytes()).ok()?;
        Some(Authenticator { key, used: 0 })
    }

    /// A code that was not given before: each is good once, so a second one within 30 s waits for the next.
    pub fn code(&mut self) -> String {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let step = now.as_secs() / STEP_S;
            if step > self.used {
                self.used = step;
                return self.at(step);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn at(&self, step: u64) -> String {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.key) else {
            return String::new();
        };
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let at = usize::from(hash[19] & 15);
        let word = u32::from_be_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]) & 0x7fff_ffff;
        format!("{:06}", word % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        let own = Authenticator::new("gezd gnbv gy3t qojq gezd gnbv gy3t qojq").unwrap();
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(own.at(time / STEP_S), code);
        }
    }
}

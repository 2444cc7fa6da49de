//! Public keys as authenticators give them: COSE_Key (RFC 9052, section 7; RFC 9053; RFC 8230), and the signatures that they prove.

use ciborium::Value;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::Refused;

/// ECDSA over P-256, Ed25519 and RSA with PKCS #1, by their numbers in IANA's register of COSE algorithms; the best liked first.
pub(super) const ALGORITHMS: [i64; 3] = [-7, -8, -257];

/// A public key that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A point that is not compressed (SEC 1, 2.3.3).
    P256([u8; 65]),
    Ed25519([u8; 32]),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

/// The entry of a map, by its number.
fn entry(map: &[(Value, Value)], label: i64) -> Option<&Value> {
    let found = map.iter().find(|(key, _)| *key == Value::from(label));
    found.map(|(_, value)| value)
}

fn number(map: &[(Value, Value)], label: i64) -> Option<i64> {
    entry(map, label)?.as_integer()?.try_into().ok()
}

fn bytes<const N: usize>(map: &[(Value, Value)], label: i64) -> Option<[u8; N]> {
    entry(map, label)?.as_bytes()?.as_slice().try_into().ok()
}

impl Key {
    /// Reads a COSE_Key.
    ///
    /// # Errors
    /// If it is none, or of an algorithm that was not asked for.
    pub(super) fn read(value: &Value) -> Result<Key, Refused> {
        let map = value.as_map().ok_or(Refused::Malformed("the public key"))?;
        // 1: key type, 3: algorithm, -1: curve.
        let key = match (number(map, 1), number(map, 3), number(map, -1)) {
            (Some(2), Some(-7), Some(1)) => bytes::<32>(map, -2).zip(bytes::<32>(map, -3)).map(|(x, y)| {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&x);
                point[33..].copy_from_slice(&y);
                Key::P256(point)
            }),
            (Some(1), Some(-8), Some(6)) => bytes(map, -2).map(Key::Ed25519),
            (Some(3), Some(-257), _) => {
                let part = |label| entry(map, label).and_then(Value::as_bytes).cloned();
                part(-1)
                    .zip(part(-2))
                    .map(|(modulus, exponent)| Key::Rsa { modulus, exponent })
            }
            _ => return Err(Refused::Algorithm),
        };
        key.ok_or(Refused::Malformed("the public key"))
    }

    /// Whether it signed this.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let right = match self {
            Key::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature),
            Key::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Key::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
        };
        right.is_ok()
    }
}

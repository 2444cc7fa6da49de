//! Clear-signed indexes against pinned keys.
//!
//! Good means: at least one signature by a trusted, unexpired, unrevoked key or signing subkey, made with a hash that is
//! not broken; no signature that claims such a key may fail. Signatures by unknown keys are passed over, as gpgv does.

use std::path::Path;
use std::time::{Duration, SystemTime};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{Fingerprint, KeyDetails, KeyId};

use super::ArchiveError;

/// Debian's keys, as data. Where they come from: `keys/README.md`.
const PINNED: [(&str, &[u8]); 6] = [
    (
        "debian-archive-trixie-automatic.asc",
        include_bytes!("../../keys/debian-archive-trixie-automatic.asc"),
    ),
    (
        "debian-archive-trixie-security-automatic.asc",
        include_bytes!("../../keys/debian-archive-trixie-security-automatic.asc"),
    ),
    (
        "debian-archive-trixie-stable.asc",
        include_bytes!("../../keys/debian-archive-trixie-stable.asc"),
    ),
    (
        "debian-archive-bookworm-automatic.asc",
        include_bytes!("../../keys/debian-archive-bookworm-automatic.asc"),
    ),
    (
        "debian-archive-bookworm-security-automatic.asc",
        include_bytes!("../../keys/debian-archive-bookworm-security-automatic.asc"),
    ),
    (
        "debian-archive-bookworm-stable.asc",
        include_bytes!("../../keys/debian-archive-bookworm-stable.asc"),
    ),
];

/// How far a clock may be off before a signature counts as made in the future.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

/// What is wrong with a signed file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not a clear-signed message.
    #[error(
        "it is not a signed file ({0}); something between here and the mirror answers in its place (a login page?)"
    )]
    NotSigned(String),
    /// No signature is by a trusted key.
    #[error("it is signed by {signed}, and trusted are {trusted}; if Debian has new keys, imagegen must be updated", signed = names(.signed_by), trusted = names(.trusted))]
    UnknownKey {
        /// Key ids or fingerprints of the signatures.
        signed_by: Vec<String>,
        /// Fingerprints of the trusted keys.
        trusted: Vec<String>,
    },
    /// The file was changed after it was signed.
    #[error(
        "the signature by {key} does not fit the content: the file was changed or damaged after signing ({reason}); try another mirror (IMAGEGEN_MIRROR)"
    )]
    Bad {
        /// The key that the signature claims.
        key: String,
        /// What the check said.
        reason: String,
    },
    /// The key or signature is not valid at this time.
    #[error("the signature by {key} cannot be used: {reason}; check this machine's clock")]
    Lapsed {
        /// The key.
        key: String,
        /// Which time limit is passed.
        reason: String,
    },
}

fn names(list: &[String]) -> String {
    if list.is_empty() {
        "no one".into()
    } else {
        list.join(", ")
    }
}

/// A key that may sign: a primary key or a subkey that is bound to one.
#[derive(Debug)]
struct Signer {
    fingerprint: Fingerprint,
    id: KeyId,
    expires: Option<SystemTime>,
    key: Material,
}

#[derive(Debug)]
enum Material {
    Primary(Box<pgp::packet::PublicKey>),
    Subkey(Box<pgp::packet::PublicSubkey>),
}

impl Signer {
    fn check(&self, signature: &Signature, text: &[u8]) -> Result<(), pgp::errors::Error> {
        match &self.key {
            Material::Primary(key) => signature.verify(key.as_ref(), text),
            Material::Subkey(key) => signature.verify(key.as_ref(), text),
        }
    }

    fn is_issuer(&self, signature: &Signature) -> bool {
        signature.issuer_fingerprint().contains(&&self.fingerprint) || signature.issuer_key_id().contains(&&self.id)
    }
}

/// The keys that are trusted.
#[derive(Debug, Default)]
pub struct Keyring {
    signers: Vec<Signer>,
}

impl Keyring {
    /// The keys pinned in this repository.
    pub fn pinned() -> Result<Self, ArchiveError> {
        let mut keyring = Self::default();
        for (name, bytes) in PINNED {
            keyring.add(Path::new(name), bytes)?;
        }
        Ok(keyring)
    }

    /// No keys at all; add some with [`Keyring::add_folder`].
    pub fn empty() -> Self {
        Self::default()
    }

    /// Trusts every `*.asc` in `folder` too.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), ArchiveError> {
        let error = |path: &Path, e: std::io::Error| ArchiveError::Key {
            path: path.into(),
            reason: e.to_string(),
        };
        let entries = std::fs::read_dir(folder).map_err(|e| error(folder, e))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "asc"));
        paths.sort();
        for path in paths {
            self.add(&path, &std::fs::read(&path).map_err(|e| error(&path, e))?)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, armoured: &[u8]) -> Result<(), ArchiveError> {
        let error = |reason: String| ArchiveError::Key {
            path: path.into(),
            reason,
        };
        let (keys, _) = SignedPublicKey::from_armor_many(armoured).map_err(|e| error(e.to_string()))?;
        let before = self.signers.len();
        for key in keys {
            let key = key.map_err(|e| error(e.to_string()))?;
            self.add_key(key).map_err(|e| error(e.to_string()))?;
        }
        if self.signers.len() == before {
            return Err(error("it holds no key that may sign".into()));
        }
        Ok(())
    }

    fn add_key(&mut self, key: SignedPublicKey) -> Result<(), pgp::errors::Error> {
        if !key.details.revocation_signatures.is_empty() {
            return Ok(());
        }
        let primary = &key.primary_key;
        // The newest self-signature holds; certifications by others are not looked at.
        let own = key
            .details
            .users
            .iter()
            .flat_map(|user| user.signatures.iter().map(move |s| (user, s)));
        let newest = own
            .filter(|(_, s)| {
                s.issuer_fingerprint().contains(&&primary.fingerprint())
                    || s.issuer_key_id().contains(&&primary.legacy_key_id())
            })
            .filter(|(user, s)| {
                s.verify_certification(primary, pgp::types::Tag::UserId, &user.id)
                    .is_ok()
            })
            .map(|(_, s)| s)
            .max_by_key(|s| s.created());
        let Some(newest) = newest else {
            return Err(pgp::errors::Error::from(std::io::Error::other(
                "it has no valid self-signature",
            )));
        };
        if newest.key_flags().sign() {
            self.signers.push(Signer {
                fingerprint: primary.fingerprint(),
                id: primary.legacy_key_id(),
                expires: expiry(primary.created_at(), newest),
                key: Material::Primary(Box::new(primary.clone())),
            });
        }
        for subkey in key.public_subkeys {
            let revoked = subkey
                .signatures
                .iter()
                .any(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
            let binding = subkey
                .signatures
                .iter()
                .filter(|s| s.typ() == Some(SignatureType::SubkeyBinding))
                .filter(|s| s.verify_subkey_binding(primary, &subkey.key).is_ok())
                .max_by_key(|s| s.created());
            let Some(binding) = binding.filter(|s| s.key_flags().sign() && !revoked) else {
                continue;
            };
            // A signing subkey must itself have agreed to the binding (RFC 9580, 5.2.1.9).
            let agreed = binding
                .embedded_signature()
                .is_some_and(|s| s.verify_primary_key_binding(&subkey.key, primary).is_ok());
            if agreed {
                let limits = [
                    expiry(primary.created_at(), newest),
                    expiry(subkey.key.created_at(), binding),
                ];
                self.signers.push(Signer {
                    fingerprint: subkey.key.fingerprint(),
                    id: subkey.key.legacy_key_id(),
                    expires: limits.into_iter().flatten().min(),
                    key: Material::Subkey(Box::new(subkey.key)),
                });
            }
        }
        Ok(())
    }

    /// The fingerprints of all keys that may sign.
    pub fn fingerprints(&self) -> Vec<String> {
        self.signers.iter().map(|signer| hex(&signer.fingerprint)).collect()
    }

    /// The signed text of a clear-signed message, if it is good at the time `now`. Lines end in `\n`; what stands
    /// outside the signature is not part of it.
    pub fn verify(&self, message: &[u8], now: SystemTime) -> Result<String, SignatureError> {
        let message = std::str::from_utf8(message).map_err(|e| SignatureError::NotSigned(e.to_string()))?;
        let (message, _) =
            CleartextSignedMessage::from_string(message).map_err(|e| SignatureError::NotSigned(e.to_string()))?;
        let text = message.signed_text();
        let mut good = false;
        let mut signed_by = Vec::new();
        for signature in message.signatures() {
            signed_by.push(issuer(signature));
            for signer in self.signers.iter().filter(|signer| signer.is_issuer(signature)) {
                let key = hex(&signer.fingerprint);
                let bad = |reason: String| SignatureError::Bad {
                    key: key.clone(),
                    reason,
                };
                let sound = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
                if !signature.hash_alg().is_some_and(|hash| sound.contains(&hash)) {
                    return Err(bad("its hash algorithm is not safe".into()));
                }
                if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
                    return Err(bad("it is not a signature of a document".into()));
                }
                signer
                    .check(signature, text.as_bytes())
                    .map_err(|e| bad(e.to_string()))?;
                lapsed(signer, signature, now).map_err(|reason| SignatureError::Lapsed {
                    key: key.clone(),
                    reason,
                })?;
                good = true;
            }
        }
        if good {
            return Ok(text.replace("\r\n", "\n"));
        }
        Err(SignatureError::UnknownKey {
            signed_by,
            trusted: self.fingerprints(),
        })
    }
}

fn lapsed(signer: &Signer, signature: &Signature, now: SystemTime) -> Result<(), String> {
    let created: SystemTime = signature.created().ok_or("it states no time")?.into();
    if created > now + CLOCK_SKEW {
        return Err("it was made in the future".into());
    }
    if signer.expires.is_some_and(|at| at <= now) {
        return Err("the key has expired".into());
    }
    let ends = signature
        .signature_expiration_time()
        .map(|span| u64::from(span.as_secs()))
        .filter(|span| *span > 0);
    if ends.is_some_and(|span| created + Duration::from_secs(span) <= now) {
        return Err("the signature has expired".into());
    }
    Ok(())
}

/// When a key ends by its self-signature; 0 means never.
fn expiry(created: pgp::types::Timestamp, signature: &Signature) -> Option<SystemTime> {
    let span = signature
        .key_expiration_time()
        .map(|span| u64::from(span.as_secs()))
        .filter(|span| *span > 0)?;
    Some(SystemTime::from(created) + Duration::from_secs(span))
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.to_string().to_uppercase()
}

fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return hex(fingerprint);
    }
    signature
        .issuer_key_id()
        .first()
        .map_or("an unnamed key".into(), |id| id.to_string().to_uppercase())
}

//! Passkeys: what a relying party verifies of them (W3C Web Authentication Level 3, sections 7.1 and 7.2).
//!
//! It is the part of the standard that passkeys need, over values alone: attestation is not asked for, so nothing is believed of who made an
//! authenticator, and no extension is. Signatures are ring's, as TLS' are.

mod challenges;
mod key;
#[cfg(test)]
mod tests;

pub(crate) use challenges::{Challenges, Pending, Purpose};

use ciborium::Value;
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use self::key::{ALGORITHMS, Key};

/// How long a browser lets somebody look for the passkey, in milliseconds; the standard's own proposal.
const TIMEOUT_MS: u32 = 300_000;
/// The longest credential id (6.5.1).
const LONGEST_ID: usize = 1023;
/// So deep may what an authenticator sends be nested.
const DEPTH: usize = 16;

/// Why a passkey is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something of it is not as the standard writes it.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// A use in the place of a making, or the other way.
    #[error("it was made for something else than what was asked for")]
    Type,
    /// Another challenge, or none.
    #[error("it does not answer the challenge that was given")]
    Challenge,
    /// Another page's.
    #[error("it was used on a page of another site")]
    Origin,
    /// A page in a frame.
    #[error("it was used on a page inside of another site's")]
    CrossOrigin,
    /// Another appliance's, or another name's.
    #[error("it belongs to another name")]
    Name,
    /// Made without anybody.
    #[error("nobody was there")]
    Presence,
    /// No PIN, finger or face.
    #[error("it was not unlocked by its owner")]
    Verification,
    /// Flags that contradict each other, or what was said before.
    #[error("it says otherwise than before whether it is copied to other devices")]
    Backup,
    /// A key that nobody asked for.
    #[error("its kind of key was not asked for")]
    Algorithm,
    /// Not signed by the key.
    #[error("its signature is wrong")]
    Signature,
    /// Not used later than the last time.
    #[error("its counter went back, so there may be a copy of it")]
    Counter,
}

/// Where a page is: what a passkey is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The name that passkeys belong to (RP ID).
    pub name: String,
    /// The page's origin, as browsers write it.
    pub origin: String,
}

/// What an answer has to be made for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Where it was asked for.
    pub party: &'a Party,
    /// The challenge that was given.
    pub challenge: &'a [u8],
    /// Whether the authenticator has to have verified its user, by a PIN or a finger.
    pub verified: bool,
}

/// What is kept of a passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: Vec<u8>,
    /// The public key, as the authenticator gave it (COSE_Key).
    pub key: Vec<u8>,
    /// How often it signed, if it counts.
    pub counter: u32,
    /// Whether it may be copied to other devices (backup eligible).
    pub backup: bool,
}

/// CollectedClientData (5.8.1), as far as it counts here; what is added to it later is passed over.
#[derive(Deserialize)]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<serde_json::Value>,
}

/// What the browser says.
fn client_data(expected: &Expected<'_>, json: &[u8], kind: &str) -> Result<(), Refused> {
    let said: ClientData = serde_json::from_slice(json).map_err(|_| Refused::Malformed("what the browser says"))?;
    let challenge = BASE64URL_NOPAD.encode(expected.challenge);
    match () {
        () if said.r#type != kind => Err(Refused::Type),
        () if !crate::secret::same(&said.challenge, &challenge) => Err(Refused::Challenge),
        () if said.origin != expected.party.origin => Err(Refused::Origin),
        () if said.cross_origin || said.top_origin.is_some() => Err(Refused::CrossOrigin),
        () => Ok(()),
    }
}

/// Authenticator data (6.1).
struct Data<'a> {
    flags: u8,
    counter: u32,
    /// A new credential: its id, its key's bytes, and the key.
    made: Option<(&'a [u8], &'a [u8], Key)>,
}

const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const BACKUP: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENDED: u8 = 1 << 7;

/// One value of CBOR at the start of some bytes; what is behind it stays.
fn value(bytes: &mut &[u8], what: &'static str) -> Result<Value, Refused> {
    ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH).map_err(|_| Refused::Malformed(what))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Refused> {
    let (taken, rest) = bytes
        .split_at_checked(count)
        .ok_or(Refused::Malformed("what the authenticator says"))?;
    *bytes = rest;
    Ok(taken)
}

impl<'a> Data<'a> {
    fn read(expected: &Expected<'_>, mut bytes: &'a [u8]) -> Result<Data<'a>, Refused> {
        let malformed = Refused::Malformed("what the authenticator says");
        let hash = take(&mut bytes, 32)?;
        let flags = take(&mut bytes, 1)?[0];
        let counter = take(&mut bytes, 4)?.try_into().map_err(|_| malformed)?;
        let mut made = None;
        if flags & ATTESTED != 0 {
            let _maker = take(&mut bytes, 16)?;
            let length: [u8; 2] = take(&mut bytes, 2)?.try_into().map_err(|_| malformed)?;
            let id = take(&mut bytes, u16::from_be_bytes(length).into())?;
            let before = bytes;
            let key = Key::read(&value(&mut bytes, "the public key")?)?;
            made = Some((id, &before[..before.len() - bytes.len()], key));
        }
        if flags & EXTENDED != 0 {
            value(&mut bytes, "the authenticator's extensions")?;
        }
        if !bytes.is_empty() {
            return Err(malformed);
        }
        match () {
            () if hash != digest(&SHA256, expected.party.name.as_bytes()).as_ref() => Err(Refused::Name),
            () if flags & PRESENT == 0 => Err(Refused::Presence),
            () if expected.verified && flags & VERIFIED == 0 => Err(Refused::Verification),
            () if flags & BACKUP == 0 && flags & BACKED_UP != 0 => Err(Refused::Backup),
            () => Ok(Data {
                flags,
                counter: u32::from_be_bytes(counter),
                made,
            }),
        }
    }
}

/// A new passkey (7.1), from what the browser says and the attestation object. How the maker vouches for it is not looked at.
///
/// # Errors
/// Why it is not taken.
pub fn registered(expected: &Expected<'_>, client_json: &[u8], attestation: &[u8]) -> Result<Credential, Refused> {
    client_data(expected, client_json, "webauthn.create")?;
    let mut rest = attestation;
    let object = value(&mut rest, "the attestation")?;
    let map = object.as_map().filter(|_| rest.is_empty());
    let bytes = map.and_then(|map| {
        let found = map.iter().find(|(name, _)| name.as_text() == Some("authData"));
        found.and_then(|(_, value)| value.as_bytes())
    });
    let bytes = bytes.ok_or(Refused::Malformed("the attestation"))?;
    let data = Data::read(expected, bytes)?;
    let (id, key, _) = data.made.ok_or(Refused::Malformed("the new passkey"))?;
    if id.is_empty() || id.len() > LONGEST_ID {
        return Err(Refused::Malformed("the passkey's id"));
    }
    Ok(Credential {
        id: id.to_vec(),
        key: key.to_vec(),
        counter: data.counter,
        backup: data.flags & BACKUP != 0,
    })
}

/// The use of a passkey (7.2); gives its counter of now.
///
/// # Errors
/// Why it is not believed.
pub fn asserted(
    expected: &Expected<'_>,
    known: &Credential,
    client_json: &[u8],
    authenticator: &[u8],
    signature: &[u8],
) -> Result<u32, Refused> {
    client_data(expected, client_json, "webauthn.get")?;
    let data = Data::read(expected, authenticator)?;
    let key = Key::read(&value(&mut known.key.as_slice(), "the public key")?)?;
    let mut message = authenticator.to_vec();
    message.extend_from_slice(digest(&SHA256, client_json).as_ref());
    match () {
        () if !key.signed(&message, signature) => Err(Refused::Signature),
        () if (data.flags & BACKUP != 0) != known.backup => Err(Refused::Backup),
        // An authenticator that does not count says 0 for ever.
        () if (data.counter, known.counter) != (0, 0) && data.counter <= known.counter => Err(Refused::Counter),
        () => Ok(data.counter),
    }
}

/// Who a passkey is made for.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// What the authenticator knows them by; random.
    pub handle: &'a [u8],
    /// The name by which they log in.
    pub name: &'a str,
    /// The name by which they are known.
    pub shown: &'a str,
}

/// What a browser is given to make a passkey (5.4), with byte strings in base64url.
pub fn creation(
    party: &Party,
    appliance: &str,
    challenge: &[u8],
    user: User<'_>,
    there: &[Vec<u8>],
) -> serde_json::Value {
    let kinds: Vec<_> = ALGORITHMS.map(|alg| json!({ "type": "public-key", "alg": alg })).into();
    let there: Vec<_> = there
        .iter()
        .map(|id| json!({ "type": "public-key", "id": BASE64URL_NOPAD.encode(id) }))
        .collect();
    json!({
        "rp": { "id": party.name, "name": appliance },
        "user": { "id": BASE64URL_NOPAD.encode(user.handle), "name": user.name, "displayName": user.shown },
        "challenge": BASE64URL_NOPAD.encode(challenge),
        "pubKeyCredParams": kinds,
        "timeout": TIMEOUT_MS,
        "excludeCredentials": there,
        "authenticatorSelection": { "residentKey": "required", "requireResidentKey": true, "userVerification": "required" },
        "attestation": "none",
    })
}

/// What a browser is given to use a passkey of whoever sits before it (5.5).
pub fn request(party: &Party, challenge: &[u8]) -> serde_json::Value {
    json!({
        "rpId": party.name, "challenge": BASE64URL_NOPAD.encode(challenge), "timeout": TIMEOUT_MS, "userVerification": "required",
    })
}

//! The test vectors of the standard, and what is not to be believed.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

use super::*;

type Vectors = BTreeMap<String, BTreeMap<String, String>>;

fn vectors() -> Vectors {
    toml::from_str(include_str!("vectors.toml")).unwrap()
}

fn party() -> Party {
    Party {
        name: "example.org".into(),
        origin: "https://example.org".into(),
    }
}

/// A vector's registration and use, which can be spoilt.
#[derive(Clone)]
struct Case {
    party: Party,
    verified: bool,
    challenge: Vec<u8>,
    client: Vec<u8>,
    attestation: Vec<u8>,
    id: Vec<u8>,
    used_challenge: Vec<u8>,
    used_client: Vec<u8>,
    authenticator: Vec<u8>,
    signature: Vec<u8>,
}

impl Case {
    fn of(name: &str) -> Case {
        let all = vectors();
        let part = |key: &str| HEXLOWER.decode(all[name][key].as_bytes()).unwrap();
        Case {
            party: party(),
            verified: false,
            challenge: part("made-challenge"),
            client: part("made-clientDataJSON"),
            attestation: part("made-attestationObject"),
            id: part("made-credential_id"),
            used_challenge: part("used-challenge"),
            used_client: part("used-clientDataJSON"),
            authenticator: part("used-authenticatorData"),
            signature: part("used-signature"),
        }
    }

    fn made(&self) -> Result<Credential, Refused> {
        let expected = Expected {
            party: &self.party,
            challenge: &self.challenge,
            verified: self.verified,
        };
        registered(&expected, &self.client, &self.attestation)
    }

    fn used(&self, known: &Credential) -> Result<u32, Refused> {
        let expected = Expected {
            party: &self.party,
            challenge: &self.used_challenge,
            verified: self.verified,
        };
        asserted(
            &expected,
            known,
            &self.used_client,
            &self.authenticator,
            &self.signature,
        )
    }

    /// The same with another text in what the browser says at the making and at the use.
    fn saying(&self, from: &str, to: &str) -> Case {
        let change = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap().replace(from, to).into_bytes();
        Case {
            client: change(&self.client),
            used_client: change(&self.used_client),
            ..self.clone()
        }
    }
}

#[test]
fn the_standards_own_examples_are_told_right() {
    let counted = vectors().len();
    let mut seen = 0;
    for (name, right) in [
        ("none-es256", Ok(0)),
        ("packed-self-es256", Ok(0)),
        ("none-es256-long-credential-id", Ok(0)),
        ("packed-rs256", Ok(0)),
        ("packed-eddsa", Ok(0)),
        ("fido-u2f-es256", Ok(0)),
        ("none-es256-crossOrigin", Err(Refused::CrossOrigin)),
        ("none-es256-topOrigin", Err(Refused::CrossOrigin)),
        ("packed-es384", Err(Refused::Algorithm)),
    ] {
        let case = Case::of(name);
        let made = case.made();
        assert_eq!(
            made.as_ref().map(|made| &made.id),
            right.as_ref().map(|_| &case.id),
            "{name}"
        );
        if let Ok(known) = made {
            assert_eq!(case.used(&known), right, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, counted);
}

#[test]
fn what_is_made_for_something_else_is_refused() {
    let case = Case::of("packed-self-es256");
    let known = case.made().unwrap();
    let another = |name: &str| Case {
        party: Party {
            name: name.into(),
            origin: case.party.origin.clone(),
        },
        ..case.clone()
    };
    let challenge = Case {
        challenge: vec![1; 32],
        used_challenge: vec![1; 32],
        ..case.clone()
    };
    let part = Case {
        challenge: case.challenge[..31].to_vec(),
        used_challenge: case.used_challenge[..31].to_vec(),
        ..case.clone()
    };
    for (case, why) in [
        (case.saying("webauthn.", "payment."), Refused::Type),
        (challenge, Refused::Challenge),
        (part, Refused::Challenge),
        (
            case.saying("https://example.org", "https://example.org:8443"),
            Refused::Origin,
        ),
        (
            case.saying("https://example.org", "https://www.example.org"),
            Refused::Origin,
        ),
        (
            case.saying("https://example.org", "http://example.org"),
            Refused::Origin,
        ),
        (
            case.saying("\"crossOrigin\":false", "\"crossOrigin\":true"),
            Refused::CrossOrigin,
        ),
        (
            case.saying("\"crossOrigin\":false", "\"topOrigin\":\"https://example.org\""),
            Refused::CrossOrigin,
        ),
        (
            case.saying("\"crossOrigin\":false", "\"challenge\":\"\""),
            Refused::Malformed("what the browser says"),
        ),
        (another("org"), Refused::Name),
        (another("www.example.org"), Refused::Name),
        (
            Case {
                verified: true,
                ..Case::of("none-es256")
            },
            Refused::Verification,
        ),
    ] {
        assert_eq!((case.made(), case.used(&known)), (Err(why), Err(why)), "{why}");
    }
    // One for the other.
    let swapped = Case {
        client: case.used_client.clone(),
        used_client: case.client.clone(),
        ..case.clone()
    };
    assert_eq!(
        (swapped.made(), swapped.used(&known)),
        (Err(Refused::Type), Err(Refused::Type))
    );
    // What the browser says is signed, to the last byte.
    assert_eq!(case.saying("future,", "future.").used(&known), Err(Refused::Signature));
    let other = Case::of("none-es256").made().unwrap();
    assert_eq!(case.used(&other), Err(Refused::Signature));
}

/// The answer of an authenticator that signs whatever it is given.
fn signed(flags: u8, counter: u32, known: u32, backup: bool) -> Result<u32, Refused> {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let key = Value::Map(vec![
        (1.into(), 1.into()),
        (3.into(), (-8).into()),
        ((-1).into(), 6.into()),
        ((-2).into(), Value::Bytes(pair.public_key().as_ref().to_vec())),
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&key, &mut bytes).unwrap();
    let known = Credential {
        id: vec![1],
        key: bytes,
        counter: known,
        backup,
    };
    let party = party();
    let client =
        json!({ "type": "webauthn.get", "challenge": BASE64URL_NOPAD.encode(&[9; 32]), "origin": party.origin });
    let client = client.to_string().into_bytes();
    let mut data = digest(&SHA256, party.name.as_bytes()).as_ref().to_vec();
    data.push(flags);
    data.extend(counter.to_be_bytes());
    let mut message = data.clone();
    message.extend(digest(&SHA256, &client).as_ref());
    let signature = pair.sign(&message);
    let expected = Expected {
        party: &party,
        challenge: &[9; 32],
        verified: true,
    };
    asserted(&expected, &known, &client, &data, signature.as_ref())
}

#[test]
fn a_counter_that_does_not_rise_and_flags_that_contradict_are_refused() {
    const BOTH: u8 = PRESENT | VERIFIED;
    for (flags, counter, known, backup, right) in [
        (BOTH, 0, 0, false, Ok(0)),
        (BOTH, 6, 5, false, Ok(6)),
        (BOTH, 5, 5, false, Err(Refused::Counter)),
        (BOTH, 4, 5, false, Err(Refused::Counter)),
        (BOTH, 0, 5, false, Err(Refused::Counter)),
        (BOTH, u32::MAX, 0, false, Ok(u32::MAX)),
        (VERIFIED, 0, 0, false, Err(Refused::Presence)),
        (PRESENT, 0, 0, false, Err(Refused::Verification)),
        (BOTH | BACKED_UP, 0, 0, false, Err(Refused::Backup)),
        (BOTH | BACKUP, 0, 0, false, Err(Refused::Backup)),
        (BOTH, 0, 0, true, Err(Refused::Backup)),
        (BOTH | BACKUP | BACKED_UP, 0, 0, true, Ok(0)),
    ] {
        assert_eq!(
            signed(flags, counter, known, backup),
            right,
            "{flags:#b} {counter} {known}"
        );
    }
}

#[test]
fn what_is_cut_off_lengthened_or_changed_anywhere_is_refused_without_a_panic() {
    for name in ["none-es256", "packed-eddsa", "fido-u2f-es256"] {
        let case = Case::of(name);
        let known = case.made().unwrap();
        let parts: [fn(&mut Case) -> &mut Vec<u8>; 5] = [
            |case| &mut case.client,
            |case| &mut case.attestation,
            |case| &mut case.used_client,
            |case| &mut case.authenticator,
            |case| &mut case.signature,
        ];
        for (i, part) in parts.into_iter().enumerate() {
            let whole = part(&mut case.clone()).clone();
            let tried = |bytes: Vec<u8>| {
                let mut spoilt = case.clone();
                *part(&mut spoilt) = bytes;
                match i {
                    0 | 1 => spoilt.made().is_ok(),
                    _ => spoilt.used(&known).is_ok(),
                }
            };
            for length in 0..whole.len() {
                assert!(!tried(whole[..length].to_vec()), "{name}: part {i} cut to {length}");
            }
            assert!(
                !tried([&whole[..], &[0]].concat()),
                "{name}: part {i} with one byte more"
            );
            for at in 0..whole.len() {
                for bits in [0x01, 0x20, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= bits;
                    let taken = tried(bytes);
                    // Of a making nothing is signed; of a use everything is.
                    assert!(!taken || i < 2, "{name}: part {i}, byte {at}");
                }
            }
        }
    }
}

/// An attestation with other authenticator data.
fn attestation_with(case: &Case, change: impl FnOnce(&mut Vec<u8>)) -> Case {
    let object = value(&mut case.attestation.as_slice(), "").unwrap();
    let mut map = object.into_map().unwrap();
    let found = map.iter_mut().find(|(name, _)| name.as_text() == Some("authData"));
    change(found.unwrap().1.as_bytes_mut().unwrap());
    let mut attestation = Vec::new();
    ciborium::into_writer(&Value::Map(map), &mut attestation).unwrap();
    Case {
        attestation,
        ..case.clone()
    }
}

#[test]
fn what_stands_behind_a_new_key_is_extensions_or_refused() {
    let case = Case::of("none-es256");
    let made = case.made();
    let wrong = Refused::Malformed("what the authenticator says");
    assert_eq!(attestation_with(&case, |data| data.push(0)).made(), Err(wrong));
    assert_eq!(attestation_with(&case, |data| data.truncate(37)).made(), Err(wrong));
    // Without a new passkey in it; with extensions, which are passed over; with more behind them.
    let none = |data: &mut Vec<u8>| {
        data.truncate(37);
        data[32] &= !ATTESTED;
    };
    assert_eq!(
        attestation_with(&case, none).made(),
        Err(Refused::Malformed("the new passkey"))
    );
    for (more, right) in [(&[0xa0][..], made), (&[0xa0, 0], Err(wrong))] {
        let extended = attestation_with(&case, |data| {
            data[32] |= EXTENDED;
            data.extend_from_slice(more);
        });
        assert_eq!(extended.made(), right);
    }
}

#[test]
fn lengths_and_depths_that_nobody_has_do_no_harm() {
    let case = Case::of("none-es256");
    let attested = |attestation: Vec<u8>| {
        Case {
            attestation,
            ..case.clone()
        }
        .made()
        .unwrap_err()
    };
    let wrong = Refused::Malformed("the attestation");
    for bytes in [
        [vec![0x81; 100_000], vec![0]].concat(),
        [0xa1, 0x00].repeat(50_000),
        [&[0x5b][..], &u64::MAX.to_be_bytes()].concat(),
        [&[0x9b][..], &u64::MAX.to_be_bytes()].concat(),
        [&[0xbb][..], &u64::MAX.to_be_bytes()].concat(),
        vec![0x5f; 1000],
        vec![0xff],
        vec![0xa0],
        vec![0x40],
    ] {
        assert_eq!(attested(bytes.clone()), wrong, "{:x?}", &bytes[..bytes.len().min(9)]);
    }
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)).into_bytes();
    let case = Case { client: deep, ..case };
    assert_eq!(case.made(), Err(Refused::Malformed("what the browser says")));
}

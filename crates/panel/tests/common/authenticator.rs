//! An authenticator that is a program: it makes passkeys (ES256) and signs, and does what it is told also where a real one would not.

use ciborium::Value as Cbor;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Browser, PASSWORD, Page};

/// What a form has.
pub(crate) type Fields = Vec<(&'static str, String)>;

/// Present and verified.
const FLAGS: u8 = 0b101;
const ATTESTED: u8 = 1 << 6;

/// An authenticator with one passkey.
#[derive(Clone)]
pub(crate) struct Authenticator {
    key: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) handle: Vec<u8>,
    /// The name that the passkey belongs to.
    pub(crate) party: String,
    /// The page before which somebody sits.
    pub(crate) origin: String,
    pub(crate) flags: u8,
    pub(crate) counter: u32,
}

fn base64(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// What a form's field is without its encoding.
pub(crate) fn field<'a>(fields: &'a mut Fields, name: &str) -> &'a mut String {
    &mut fields.iter_mut().find(|(own, _)| *own == name).unwrap().1
}

impl Authenticator {
    /// One with a new passkey for these options.
    pub(crate) fn new(options: &Value) -> Authenticator {
        let decoded = |value: &Value| BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let name = options["rp"]["id"].as_str().unwrap();
        Authenticator {
            id: Sha256::digest(key.as_ref()).to_vec(),
            key: key.as_ref().to_vec(),
            handle: decoded(&options["user"]["id"]),
            party: name.to_owned(),
            origin: format!("https://{name}"),
            flags: FLAGS,
            counter: 0,
        }
    }

    fn pair(&self) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key, &SystemRandom::new()).unwrap()
    }

    fn client(&self, kind: &str, options: &Value) -> String {
        json!({ "type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false })
            .to_string()
    }

    fn data(&self, more: u8) -> Vec<u8> {
        let mut data = Sha256::digest(self.party.as_bytes()).to_vec();
        data.push(self.flags | more);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// What the browser sends of the making.
    pub(crate) fn made(&self, options: &Value) -> Fields {
        let pair = self.pair();
        let point = pair.public_key().as_ref();
        let key = [(1, 2.into()), (3, (-7).into()), (-1, 1.into())].into_iter();
        let place = [
            (-2, Cbor::Bytes(point[1..33].to_vec())),
            (-3, Cbor::Bytes(point[33..].to_vec())),
        ];
        let key = key.chain(place).map(|(label, value)| (Cbor::from(label), value));
        let mut data = self.data(ATTESTED);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        ciborium::into_writer(&Cbor::Map(key.collect()), &mut data).unwrap();
        let text = |text: &str| Cbor::Text(text.into());
        let object = Cbor::Map(vec![
            (text("fmt"), text("none")),
            (text("attStmt"), Cbor::Map(Vec::new())),
            (text("authData"), Cbor::Bytes(data)),
        ]);
        let mut attestation = Vec::new();
        ciborium::into_writer(&object, &mut attestation).unwrap();
        let client = self.client("webauthn.create", options);
        vec![
            ("client_data", base64(client.as_bytes())),
            ("attestation", base64(&attestation)),
        ]
    }

    /// What the browser sends of a use.
    pub(crate) fn used(&self, options: &Value) -> Fields {
        let (client, data) = (self.client("webauthn.get", options), self.data(0));
        let message = [&data[..], &Sha256::digest(client.as_bytes())].concat();
        let signature = self.pair().sign(&SystemRandom::new(), &message).unwrap();
        vec![
            ("id", base64(&self.id)),
            ("client_data", base64(client.as_bytes())),
            ("authenticator_data", base64(&data)),
            ("signature", base64(signature.as_ref())),
            ("user_handle", base64(&self.handle)),
        ]
    }
}

/// Fields as a browser takes them.
pub(crate) fn pairs(fields: &Fields) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The options for a new passkey.
pub(crate) async fn begun(browser: &mut Browser<'_>, name: &str) -> Value {
    browser.get("/account").await;
    let page = browser
        .post("/account/passkeys/begin", &[("name", name), ("current", PASSWORD)])
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    serde_json::from_str(&page.text).unwrap()
}

/// Adds a passkey.
pub(crate) async fn added(browser: &mut Browser<'_>, name: &str) -> Authenticator {
    let options = begun(browser, name).await;
    let authenticator = Authenticator::new(&options);
    let page = browser
        .post("/account/passkeys", &pairs(&authenticator.made(&options)))
        .await;
    assert_eq!(page.location, "/account?said=passkey-added", "{}", page.text);
    authenticator
}

/// The options for a login.
pub(crate) async fn asked(browser: &mut Browser<'_>) -> Value {
    browser.get("/login").await;
    let page = browser.get("/login/passkey").await;
    assert_eq!(page.status, 200, "{}", page.text);
    serde_json::from_str(&page.text).unwrap()
}

/// Logs in by a passkey.
pub(crate) async fn log_in(browser: &mut Browser<'_>, authenticator: &Authenticator) -> Page {
    let options = asked(browser).await;
    browser
        .post("/login/passkey", &pairs(&authenticator.used(&options)))
        .await
}

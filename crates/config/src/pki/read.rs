//! What lies in an authority's folder, parsed and checked: a file that is not wholly right is damaged, with the reason.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::names::{AltName, Names, Permitted};
use crate::disk::Disk;
use crate::error::Error;

/// The authority's file.
pub(super) fn authority_file(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// The folder of the services' files.
pub(super) fn issued_folder(folder: &Path) -> PathBuf {
    folder.join("issued")
}

/// The file of one use.
pub(super) fn issued_file(folder: &Path, of: &str) -> PathBuf {
    issued_folder(folder).join(format!("{of}.pem"))
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Held<T> {
    /// It is not there.
    Absent,
    /// It is there and cannot be used: why.
    Damaged(String),
    /// It is whole.
    Whole(T),
}

/// What is known of the authority.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    /// Its name, as browsers show it.
    pub name: String,
    /// What it may issue certificates for. Empty where its certificate is damaged and only its key is left.
    pub permitted: Permitted,
    /// The SHA-256 of its certificate, as browsers show it.
    pub fingerprint: String,
    /// Why its certificate has to be written again with the same key, if it has to.
    pub certificate_damaged: Option<String>,
}

/// What is known of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Its names.
    pub names: Names,
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Who issued it.
    pub issuer: String,
    /// Whether that is the authority that is there now.
    pub ours: bool,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The authority. Damaged means that its key is.
    pub authority: Held<Authority>,
    /// The certificates that were looked for or are there, by use.
    pub certificates: BTreeMap<String, Held<Facts>>,
}

impl Found {
    /// Reads a folder: of `only` one use, or of all that are there.
    ///
    /// # Errors
    /// The disk's. What is on it wrongly is not an error but [`Held::Damaged`].
    pub fn read(disk: &dyn Disk, folder: &Path, only: Option<&str>) -> Result<Found, Error> {
        let issued = issued_folder(folder);
        let names = disk.names(&issued).map_err(Error::io("read", &issued))?;
        let uses: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".pem")).collect();
        let content = content(disk, &authority_file(folder))?;
        // The certificate of an authority judges those that it issued.
        let pair = content.as_ref().map(|text| Pair::parse(text));
        let signer = pair.as_ref().and_then(|pair| pair.as_ref().ok());
        let mut certificates = BTreeMap::new();
        for of in uses.iter().filter(|of| only.is_none_or(|only| only == **of)) {
            let held = match self::content(disk, &issued_file(folder, of))? {
                None => Held::Absent,
                Some(text) => match Pair::parse(&text).and_then(|pair| facts(&pair, signer)) {
                    Ok(facts) => Held::Whole(facts),
                    Err(why) => Held::Damaged(why),
                },
            };
            certificates.insert((*of).to_owned(), held);
        }
        let authority = match &content {
            None if uses.is_empty() => Held::Absent,
            None => Held::Damaged("it is gone, and there are certificates that it issued".into()),
            Some(text) => match Pair::parse(text).and_then(|pair| authority(&pair)) {
                Ok(authority) => Held::Whole(authority),
                Err(why) => match key(text) {
                    Ok(_) => Held::Whole(Authority {
                        name: String::new(),
                        permitted: Permitted::default(),
                        fingerprint: String::new(),
                        certificate_damaged: Some(why),
                    }),
                    Err(why) => Held::Damaged(why),
                },
            },
        };
        Ok(Found {
            authority,
            certificates,
        })
    }
}

fn content(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// The blocks of a PEM file.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<pem::Pem>, String> {
    match pem::parse_many(text) {
        Ok(all) if all.is_empty() => Err("there is nothing in PEM in it".into()),
        Ok(all) => Ok(all),
        Err(why) => Err(format!("it is not PEM: {why}")),
    }
}

/// The private key of a file that may have more.
pub(super) fn key(text: &[u8]) -> Result<KeyPair, String> {
    let all = blocks(text)?;
    let of = |tag: &str| all.iter().find(|block| block.tag() == tag);
    if let Some(key) = of("PRIVATE KEY") {
        return KeyPair::try_from(key.contents()).map_err(|_| "its private key cannot be read".to_owned());
    }
    let older = ["RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    Err(match older.into_iter().find(|tag| of(tag).is_some()) {
        Some(tag) => format!("its key is an `{tag}`; `openssl pkcs8 -topk8 -nodes` makes a `PRIVATE KEY` of it"),
        None => "it has no private key".into(),
    })
}

/// A key and the certificate for it, as one file has them.
pub(super) struct Pair {
    pub(super) key: KeyPair,
    pub(super) certificate: Vec<u8>,
}

impl Pair {
    /// Parses a file that has one key and one certificate.
    pub(super) fn parse(text: &[u8]) -> Result<Pair, String> {
        let key = key(text)?;
        let mut certificates = blocks(text)?.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let certificate = certificates.next().ok_or("it has no certificate")?.into_contents();
        if certificates.next().is_some() {
            return Err("it has more than one certificate".into());
        }
        let parsed = parse(&certificate)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its key is not the certificate's".into());
        }
        if !signed_as_ours(&parsed) {
            return Err("its certificate's signature cannot be read".into());
        }
        Ok(Pair { key, certificate })
    }
}

/// Whether what stands around the signed part is as it is written here. The parser lets more pass there than others do.
fn signed_as_ours(certificate: &X509Certificate<'_>) -> bool {
    // ecdsa-with-SHA256 (RFC 5758), and the head of a BIT STRING of less than 128 bytes without unused bits.
    const ALGORITHM: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let (raw, inner) = (certificate.as_raw(), certificate.tbs_certificate.as_ref());
    // The outer SEQUENCE's length takes two bytes.
    let around = |raw: &[u8]| -> Option<bool> {
        let rest = raw.strip_prefix(&[0x30, 0x82])?.get(2..)?.strip_prefix(inner)?;
        let signature = rest.strip_prefix(&ALGORITHM)?.strip_prefix(&[0x03])?;
        Some(signature.split_first()?.1.first() == Some(&0))
    };
    around(raw) == Some(true)
}

/// One certificate, and nothing behind it.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("something follows its certificate".into()),
        Err(why) => Err(format!("its certificate cannot be read: {why}")),
    }
}

pub(super) fn time(at: x509_parser::time::ASN1Time) -> Timestamp {
    // The last day of the year 9999 is more than a Timestamp holds.
    Timestamp::from_second(at.timestamp()).unwrap_or(Timestamp::MAX)
}

/// The names of a certificate. Kinds that are no service's are left out.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Result<Names, String> {
    let found = certificate.subject_alternative_name();
    let all = found.map_err(|why| format!("its names cannot be read: {why}"))?;
    let all = all.map(|all| all.value.general_names.iter()).into_iter().flatten();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(AltName::Ip)
        }
        _ => None,
    };
    Ok(all.filter_map(name).collect())
}

/// A subject's or issuer's common name; all of it where there is none.
pub(super) fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

/// A certificate's SHA-256, as browsers and OpenSSL show it.
fn hash(certificate: &[u8]) -> String {
    let hash = Sha256::digest(certificate);
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    hex.join(":")
}

/// The SHA-256 fingerprint of the first certificate in a PEM text, as browsers show it.
pub fn fingerprint(text: &str) -> Option<String> {
    let blocks = blocks(text.as_bytes()).ok()?;
    let first = blocks.iter().find(|block| block.tag() == "CERTIFICATE")?;
    Some(hash(first.contents()))
}

pub(super) fn authority(pair: &Pair) -> Result<Authority, String> {
    let certificate = parse(&pair.certificate)?;
    let wrong = certificate.verify_signature(None);
    wrong.map_err(|_| "its certificate's signature is wrong".to_owned())?;
    if !certificate.is_ca() {
        return Err("its certificate is not an authority's".into());
    }
    let constraints = certificate
        .name_constraints()
        .map_err(|why| format!("its name constraints cannot be read: {why}"))?;
    let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
    let domains = permitted.into_iter().flatten().filter_map(|tree| match tree.base {
        GeneralName::DNSName(name) => Some(name.to_owned()),
        _ => None,
    });
    Ok(Authority {
        name: common_name(certificate.subject()),
        permitted: Permitted(domains.collect()),
        fingerprint: hash(&pair.certificate),
        certificate_damaged: None,
    })
}

fn facts(pair: &Pair, signer: Option<&Pair>) -> Result<Facts, String> {
    let certificate = parse(&pair.certificate)?;
    let mut ours = false;
    if let Some(signer) = signer {
        let signer = parse(&signer.certificate)?;
        if certificate.issuer().as_raw() == signer.subject().as_raw() {
            let wrong = certificate.verify_signature(Some(signer.public_key()));
            wrong.map_err(|_| "its certificate's signature is wrong".to_owned())?;
            ours = true;
        }
    }
    Ok(Facts {
        names: names(&certificate)?,
        from: time(certificate.validity().not_before),
        until: time(certificate.validity().not_after),
        issuer: common_name(certificate.issuer()),
        ours,
    })
}

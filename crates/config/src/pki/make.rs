//! Keys and certificates, made. Nothing here touches a file.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData as _, SanType, SerialNumber,
};
use sha2::{Digest as _, Sha256};

use super::names::{AltName, Permitted, RANGES};
use super::plan::Certificate;
use crate::error::Error;
use crate::random::random_bytes;

/// The longest common name (RFC 5280, appendix A.1, ub-common-name).
const COMMON_NAME: usize = 64;

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    move |why| Error::Certificate(format!("cannot make {what}: {why}"))
}

pub(super) fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed("a key"))
}

/// A serial number that nobody can guess, positive and of full length.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = random_bytes::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// The name of an authority. A part of the key's hash is in it, since programs that know two authorities of the same name take one
/// for the other.
pub(super) fn authority_name(appliance: &str, key: &KeyPair) -> String {
    let hash = Sha256::digest(key.subject_public_key_info());
    let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = COMMON_NAME - "Cairn authority of  ()".len() - short.len();
    let appliance: String = appliance.chars().take(room).collect();
    format!("Cairn authority of {appliance} ({short})")
}

/// An authority's key and its certificate, signed by itself, in PEM.
pub(super) fn authority(name: &str, permitted: &Permitted, key: &KeyPair) -> Result<String, Error> {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = DistinguishedName::new();
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted.serial_number = Some(serial()?);
    // A clock can stand anywhere when this is made. The end is what RFC 5280, 4.1.2.5, says for "has none".
    wanted.not_before = rcgen::date_time_ymd(1970, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(9999, 12, 31);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Names of other kinds than below are not constrained, so nothing that uses them is permitted.
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let dns = permitted.0.iter().cloned().map(GeneralSubtree::DnsName);
    let ranges = RANGES
        .iter()
        .map(|(range, prefix)| CidrSubnet::from_addr_prefix(*range, *prefix));
    wanted.name_constraints = Some(NameConstraints {
        permitted_subtrees: dns.chain(ranges.map(GeneralSubtree::IpAddress)).collect(),
        excluded_subtrees: Vec::new(),
    });
    let made = wanted.self_signed(key).map_err(failed("the authority's certificate"))?;
    Ok(key.serialize_pem() + &made.pem())
}

/// A service's key and its certificate, in PEM.
pub(super) fn certificate(wanted: &Certificate, issuer: &Issuer<'_, KeyPair>) -> Result<String, Error> {
    let what = format!("the certificate {}", wanted.of);
    let mut all = CertificateParams::default();
    all.distinguished_name = DistinguishedName::new();
    for name in &wanted.names {
        all.subject_alt_names.push(match name {
            AltName::Ip(address) => SanType::IpAddress(*address),
            AltName::Dns(name) => {
                if name.len() <= COMMON_NAME && all.distinguished_name.iter().next().is_none() {
                    all.distinguished_name.push(DnType::CommonName, name.as_str());
                }
                SanType::DnsName(name.as_str().try_into().map_err(failed(&what))?)
            }
        });
    }
    all.serial_number = Some(serial()?);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    all.not_before = epoch + since(wanted.from);
    all.not_after = epoch + since(wanted.until);
    all.is_ca = IsCa::ExplicitNoCa;
    all.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    all.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    all.use_authority_key_identifier_extension = true;
    let key = new_key()?;
    let made = all.signed_by(&key, issuer).map_err(failed(&what))?;
    Ok(key.serialize_pem() + &made.pem())
}

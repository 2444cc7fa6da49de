//! Certificates that somebody else issued: checked before they are taken. Each refusal is a sentence that says what is wrong.

use jiff::Timestamp;
use rcgen::PublicKeyData as _;
use x509_parser::certificate::X509Certificate;

use super::names::{AltName, Names, list};
use super::read::{blocks, common_name, key, names, parse, time};

/// A key with its chain that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The key, the service's certificate and those above it, in PEM.
    pub pem: String,
    /// The names that it is for.
    pub names: Names,
    /// The last beginning of any certificate in it.
    pub from: Timestamp,
    /// The first end of any certificate in it.
    pub until: Timestamp,
    /// Who issued it.
    pub issuer: String,
    /// The beginning and end of each certificate.
    validity: Vec<(Timestamp, Timestamp)>,
}

/// Why a key and chain are not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The text is not what is asked for.
    #[error("{0}; give the private key and the chain in PEM, the service's own certificate first")]
    Unreadable(String),
    /// The key is of none of the certificates.
    #[error(
        "the private key belongs to none of the certificates; the key that the certificate was requested with is needed"
    )]
    Key,
    /// The key is of a later certificate.
    #[error("certificate {0} is the private key's; put the service's own certificate first and its issuers behind it")]
    First(usize),
    /// The first certificate is not for a server.
    #[error("the certificate of {0} is not for a server ({1})")]
    Purpose(String, &'static str),
    /// A certificate did not issue the one before it.
    #[error("certificate {after} ({issuer}) did not issue certificate {number}, which {wanted} did; put each issuer behind what it issued", after = number + 1)]
    Order {
        /// The one that was not issued by what follows it, from 1.
        number: usize,
        /// What follows it.
        issuer: String,
        /// Who issued it.
        wanted: String,
    },
    /// It names its issuer, but that did not sign it.
    #[error("certificate {number} was changed: the signature of {issuer} on it is wrong")]
    Signature {
        /// Which, from 1.
        number: usize,
        /// Who should have signed it.
        issuer: String,
    },
    /// An issuer may not issue.
    #[error("certificate {0} ({1}) is not an authority's, so what it signed is worth nothing")]
    NotAuthority(usize, String),
    /// A name is missing.
    #[error("the certificate is for {have}, and not for {missing}")]
    Names {
        /// What is there.
        have: String,
        /// What is not.
        missing: AltName,
    },
    /// It is over.
    #[error("certificate {0} ended on {1}; ask its issuer for a new one")]
    Ended(usize, String),
    /// It has not begun.
    #[error("certificate {0} begins on {1}; if that is past, the appliance's clock is wrong")]
    Early(usize, String),
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Checks a private key and a chain in PEM for a service that is to be reached by `wanted`. The root that the chain leads to need not
/// be in it, and is not judged: those who connect know which roots they trust.
///
/// # Errors
/// What is wrong with it.
pub fn import(text: &str, wanted: &Names, now: Timestamp) -> Result<Imported, Refusal> {
    let seen = examine(text, wanted)?;
    for (at, (from, until)) in seen.validity.iter().enumerate() {
        if now < *from {
            return Err(Refusal::Early(at + 1, day(*from)));
        }
        if now >= *until {
            return Err(Refusal::Ended(at + 1, day(*until)));
        }
    }
    Ok(seen)
}

/// Checks a private key and a chain as [`import`] does, but for the time.
///
/// # Errors
/// What is wrong with it.
pub fn examine(text: &str, wanted: &Names) -> Result<Imported, Refusal> {
    let key = key(text.as_bytes()).map_err(Refusal::Unreadable)?;
    let all = blocks(text.as_bytes()).map_err(Refusal::Unreadable)?;
    let ders: Vec<&pem::Pem> = all.iter().filter(|block| block.tag() == "CERTIFICATE").collect();
    let parsed: Result<Vec<_>, _> = ders.iter().map(|block| parse(block.contents())).collect();
    let chain = parsed.map_err(Refusal::Unreadable)?;
    let own = key.subject_public_key_info();
    match chain.iter().position(|certificate| certificate.public_key().raw == own) {
        _ if chain.is_empty() => return Err(Refusal::Unreadable("there is no certificate".into())),
        Some(0) => {}
        Some(later) => return Err(Refusal::First(later + 1)),
        None => return Err(Refusal::Key),
    }
    for_server(&chain[0])?;
    for (at, pair) in chain.windows(2).enumerate() {
        issued(at + 1, &pair[0], &pair[1])?;
    }
    let have = names(&chain[0]).map_err(Refusal::Unreadable)?;
    if let Some(missing) = wanted.iter().find(|wanted| !have.iter().any(|own| own.covers(wanted))) {
        let have = match have.is_empty() {
            true => "no name".to_owned(),
            false => list(&have),
        };
        let missing = missing.clone();
        return Err(Refusal::Names { have, missing });
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let chain_text = ders.iter().map(|block| pem::encode_config(block, config));
    let validity: Vec<(Timestamp, Timestamp)> = chain
        .iter()
        .map(|one| (time(one.validity().not_before), time(one.validity().not_after)))
        .collect();
    Ok(Imported {
        pem: key.serialize_pem() + &chain_text.collect::<String>(),
        names: have,
        from: validity.iter().map(|(from, _)| *from).max().unwrap_or_default(),
        until: validity.iter().map(|(_, until)| *until).min().unwrap_or_default(),
        issuer: common_name(chain[0].issuer()),
        validity,
    })
}

/// The name of the root that a chain in PEM leads to: who issued the last certificate of it.
pub fn root_name(chain: &str) -> Option<String> {
    let all = blocks(chain.as_bytes()).ok()?;
    let last = all.iter().rfind(|block| block.tag() == "CERTIFICATE")?;
    Some(common_name(parse(last.contents()).ok()?.issuer()))
}

/// Whether a certificate may be a server's.
fn for_server(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::Purpose(common_name(certificate.subject()), why));
    if certificate.is_ca() {
        return refuse("it is an authority's");
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => refuse("its extended key usage says so"),
        Err(_) => refuse("its extended key usage cannot be read"),
        _ => Ok(()),
    }
}

/// Whether `issuer` issued `certificate`, which is the one of this number.
fn issued(number: usize, certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<(), Refusal> {
    let name = common_name(issuer.subject());
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        let wanted = common_name(certificate.issuer());
        let issuer = name;
        return Err(Refusal::Order { number, issuer, wanted });
    }
    if !issuer.is_ca() {
        return Err(Refusal::NotAuthority(number + 1, name));
    }
    match certificate.verify_signature(Some(issuer.public_key())) {
        Ok(()) => Ok(()),
        Err(_) => Err(Refusal::Signature { number, issuer: name }),
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

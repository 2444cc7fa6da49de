//! Signatures of EFI programs: Microsoft's "Windows Authenticode Portable Executable Signature Format" (2008), with SHA-256.

use std::fmt;

use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode as _, Reader as _, Sequence, SliceReader};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::SigningKey;
use super::pkcs7::{self, Content, asn1};
use crate::image::Error;
use crate::image::uki::{self, Pe, put32, usize_at};

const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
/// `WIN_CERTIFICATE` (PE Format, "The Attribute Certificate Table"): revision 2.0, PKCS #7.
const REVISION_AND_KIND: [u8; 4] = [0x00, 0x02, 0x02, 0x00];
/// Certificates, and so the end of what is signed, stand at a multiple of this.
const ALIGNMENT: usize = 8;

/// `SpcIndirectDataContent`: what it is, and its digest.
#[derive(Sequence)]
struct IndirectData {
    data: TypeAndValue,
    digest: DigestInfo,
}

#[derive(Sequence)]
struct TypeAndValue {
    kind: ObjectIdentifier,
    value: Any,
}

#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// `SpcPeImageData` with nothing in it: no flags, and the link to a file that everybody fills with "<<<Obsolete>>>".
fn image_data() -> Result<Any, Error> {
    let mut bytes = vec![0x03, 0x01, 0x00, 0xa0, 0x20, 0xa2, 0x1e, 0x80, 0x1c];
    bytes.extend("<<<Obsolete>>>".encode_utf16().flat_map(u16::to_be_bytes));
    Any::new(der::Tag::Sequence, bytes).map_err(asn1)
}

fn bad(why: &str) -> Error {
    Error::input("EFI binary", why)
}

/// Places in a PE file that the digest passes over.
struct Places {
    checksum: usize,
    /// The entry of the certificate table among the data directories.
    entry: usize,
    /// Where the certificates stand and how long they are; 0 and 0 without any.
    table: (usize, usize),
}

fn places(bytes: &[u8], pe: &Pe) -> Result<Places, Error> {
    if usize_at(bytes, pe.optional + 108)? < 5 {
        return Err(bad("it has no room for a signature"));
    }
    let entry = pe.optional + 112 + 4 * 8;
    let table = (usize_at(bytes, entry)?, usize_at(bytes, entry + 4)?);
    if table != (0, 0) && (table.0 % ALIGNMENT != 0 || table.0.checked_add(table.1) != Some(bytes.len())) {
        return Err(bad("its signature does not stand at its end"));
    }
    Ok(Places {
        checksum: pe.optional + 64,
        entry,
        table,
    })
}

/// The SHA-256 by which firmware knows an EFI program: of all but its checksum, its signatures and where they stand.
///
/// # Errors
/// It is not a 64-bit EFI program, or has bytes that the digest would leave out.
pub fn digest(bytes: &[u8]) -> Result<[u8; 32], Error> {
    let pe = Pe::parse(bytes)?;
    let places = places(bytes, &pe)?;
    let mut sections = (0..pe.sections)
        .map(|index| Ok(pe.section(bytes, index)?.1))
        .collect::<Result<Vec<_>, Error>>()?;
    sections.retain(|[.., file_size]| *file_size != 0);
    sections.sort_by_key(|[_, _, start, _]| *start);
    let mut end = pe.headers_end;
    for [_, _, start, file_size] in sections {
        // Between sections firmware would hash other bytes than it does not load.
        if start != end {
            return Err(bad(
                "its sections do not follow each other without gaps, so a signature would not cover it",
            ));
        }
        end = start.saturating_add(file_size);
    }
    let whole = match places.table {
        (0, 0) => bytes.len(),
        (start, _) => start,
    };
    if end > whole || pe.table > pe.headers_end || places.entry + 8 > pe.headers_end {
        return Err(bad("it is cut short"));
    }
    let mut hash = Sha256::new();
    hash.update(&bytes[..places.checksum]);
    hash.update(&bytes[places.checksum + 4..places.entry]);
    hash.update(&bytes[places.entry + 8..whole]);
    hash.update(&[0; ALIGNMENT][..whole.next_multiple_of(ALIGNMENT) - whole]);
    Ok(hash.finalize().into())
}

/// Signs an EFI program; the same key and program give the same bytes.
///
/// # Errors
/// It is not a 64-bit EFI program, or is signed already.
pub fn sign(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    let pe = Pe::parse(bytes)?;
    let places = places(bytes, &pe)?;
    if places.table != (0, 0) {
        return Err(bad("it is signed already"));
    }
    let content = IndirectData {
        data: TypeAndValue {
            kind: SPC_PE_IMAGE_DATA,
            value: image_data()?,
        },
        digest: DigestInfo {
            algorithm: pkcs7::sha_256(),
            digest: OctetString::new(digest(bytes)?.to_vec()).map_err(asn1)?,
        },
    };
    let content = Content::Attached(SPC_INDIRECT_DATA, Any::encode_from(&content).map_err(asn1)?);
    let signature = ContentInfo {
        content_type: pkcs7::ID_SIGNED_DATA,
        content: Any::encode_from(&pkcs7::sign(key, content)?).map_err(asn1)?,
    };
    let signature = signature.to_der().map_err(asn1)?;
    let mut signed = bytes.to_vec();
    signed.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    let start = signed.len();
    let length = (8 + signature.len()).next_multiple_of(ALIGNMENT);
    let too_long = |_| bad("it would grow over 4 GiB");
    signed.extend(u32::try_from(length).map_err(too_long)?.to_le_bytes());
    signed.extend(REVISION_AND_KIND);
    signed.extend(signature);
    signed.resize(start + length, 0);
    put32(&mut signed, places.entry, start)?;
    put32(&mut signed, places.entry + 4, length)?;
    put32(&mut signed, places.checksum, 0)?;
    let sum = uki::checksum(&signed);
    put32(&mut signed, places.checksum, sum as usize)?;
    Ok(signed)
}

/// The program without its signatures.
///
/// # Errors
/// It is not a 64-bit EFI program, or is cut short.
pub fn unsigned(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let places = places(bytes, &Pe::parse(bytes)?)?;
    let mut plain = bytes.to_vec();
    if places.table != (0, 0) {
        plain.truncate(places.table.0);
        put32(&mut plain, places.entry, 0)?;
        put32(&mut plain, places.entry + 4, 0)?;
        put32(&mut plain, places.checksum, 0)?;
        let sum = uki::checksum(&plain);
        put32(&mut plain, places.checksum, sum as usize)?;
    }
    Ok(plain)
}

/// What an EFI program's signature is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Signed {
    /// It has none.
    No,
    /// It has one that is not right for it.
    Wrong,
    /// By the key of this certificate.
    By {
        /// The certificate's subject.
        name: String,
        /// The SHA-256 of the certificate.
        sha256: String,
    },
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("not signed"),
            Self::Wrong => f.write_str("its signature is WRONG: firmware with Secure Boot refuses it"),
            Self::By { name, sha256 } => write!(f, "signed by {name} (certificate {sha256})"),
        }
    }
}

/// Who signed an EFI program. One signature with one signer is looked at: the first.
///
/// # Errors
/// It is not a 64-bit EFI program, or is cut short.
pub fn signed(bytes: &[u8]) -> Result<Signed, Error> {
    let pe = Pe::parse(bytes)?;
    let places = places(bytes, &pe)?;
    if places.table == (0, 0) {
        return Ok(Signed::No);
    }
    let table = &bytes[places.table.0..];
    let certificate = (|| {
        let length = usize_at(table, 0).ok()?;
        if table.get(4..8)? != REVISION_AND_KIND {
            return None;
        }
        // What follows is padding.
        let mut reader = SliceReader::new(table.get(8..length)?).ok()?;
        let info: ContentInfo = reader.decode().ok()?;
        let data: SignedData = info.content.decode_as().ok()?;
        let content = data.encap_content_info.econtent.as_ref()?;
        let said: IndirectData = content.decode_as().ok()?;
        (said.digest.digest.as_bytes() == digest(bytes).ok()?).then_some(())?;
        pkcs7::signer(&data)
    })();
    Ok(match certificate {
        None => Signed::Wrong,
        Some(certificate) => Signed::By {
            name: certificate.tbs_certificate.subject.to_string(),
            sha256: hex(&Sha256::digest(certificate.to_der().map_err(asn1)?)),
        },
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

//! PKCS #7 as UEFI and Authenticode want it: one signer, who is named by issuer and serial number, with RSA and SHA-256.

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::CmsVersion;
use cms::signed_data::{EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos};
use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode as _, Encode as _};
use rcgen::SigningKey as _;
use sha2::{Digest as _, Sha256};
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::SigningKey;
use crate::image::Error;

pub(super) const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
pub(super) const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const ID_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const ID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ID_CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const ID_MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");

/// For `map_err` where ASN.1 fails: of what we write ourselves, it does not.
pub(super) fn asn1(error: der::Error) -> Error {
    Error::input("signature", format!("its ASN.1 is wrong ({error})"))
}

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::null()),
    }
}

pub(super) fn sha_256() -> AlgorithmIdentifierOwned {
    algorithm(ID_SHA_256)
}

/// What is signed.
pub(super) enum Content<'a> {
    /// Bytes that stand elsewhere, signed as they are.
    Detached(&'a [u8]),
    /// A value of this type, which goes along; signed by way of attributes that hold its type and digest.
    Attached(ObjectIdentifier, Any),
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute, Error> {
    let values = SetOfVec::try_from(vec![value]).map_err(asn1)?;
    Ok(Attribute { oid, values })
}

/// Signs.
pub(super) fn sign(key: &SigningKey, content: Content<'_>) -> Result<SignedData, Error> {
    let raw = |bytes: &[u8]| {
        let signature = key.key.sign(bytes);
        signature.map_err(|e| Error::input("signature", format!("the key does not sign ({e})")))
    };
    let (info, attributes, signature) = match content {
        Content::Detached(bytes) => {
            let info = EncapsulatedContentInfo {
                econtent_type: ID_DATA,
                econtent: None,
            };
            (info, None, raw(bytes)?)
        }
        Content::Attached(kind, value) => {
            // PKCS #7 (RFC 2315, 9.3): the digest is of the value, without its tag and length.
            let digest = OctetString::new(Sha256::digest(value.value()).to_vec()).map_err(asn1)?;
            let attributes = vec![
                attribute(ID_CONTENT_TYPE, Any::encode_from(&kind).map_err(asn1)?)?,
                attribute(ID_MESSAGE_DIGEST, Any::encode_from(&digest).map_err(asn1)?)?,
            ];
            let attributes = SetOfVec::try_from(attributes).map_err(asn1)?;
            let signature = raw(&attributes.to_der().map_err(asn1)?)?;
            let info = EncapsulatedContentInfo {
                econtent_type: kind,
                econtent: Some(value),
            };
            (info, Some(attributes), signature)
        }
    };
    let certificate = x509_cert::Certificate::from_der(&key.certificate).map_err(asn1)?;
    let signer = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: certificate.tbs_certificate.issuer.clone(),
            serial_number: certificate.tbs_certificate.serial_number.clone(),
        }),
        digest_alg: sha_256(),
        signed_attrs: attributes,
        signature_algorithm: algorithm(ID_RSA),
        signature: OctetString::new(signature).map_err(asn1)?,
        unsigned_attrs: None,
    };
    Ok(SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![sha_256()]).map_err(asn1)?,
        encap_content_info: info,
        certificates: Some(
            vec![CertificateChoices::Certificate(certificate)]
                .try_into()
                .map_err(asn1)?,
        ),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![signer]).map_err(asn1)?),
    })
}

/// The certificate of whoever signed the attached content, if the signature is right.
pub(super) fn signer(signed: &SignedData) -> Option<x509_cert::Certificate> {
    let [signer] = signed.signer_infos.0.as_slice() else {
        return None;
    };
    let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
        return None;
    };
    let mut all = signed.certificates.iter().flat_map(|set| set.0.iter());
    let certificate = all.find_map(|choice| match choice {
        CertificateChoices::Certificate(c)
            if c.tbs_certificate.issuer == id.issuer && c.tbs_certificate.serial_number == id.serial_number =>
        {
            Some(c)
        }
        _ => None,
    })?;
    let attributes = signer.signed_attrs.as_ref()?;
    let said = attributes.iter().find(|a| a.oid == ID_MESSAGE_DIGEST)?.values.get(0)?;
    let content = signed.encap_content_info.econtent.as_ref()?;
    if said.value() != &Sha256::digest(content.value())[..] {
        return None;
    }
    let spki = &certificate.tbs_certificate.subject_public_key_info;
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
        spki.subject_public_key.raw_bytes(),
    );
    key.verify(&attributes.to_der().ok()?, signer.signature.as_bytes())
        .ok()?;
    Some(certificate.clone())
}

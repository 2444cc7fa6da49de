//! The keys as files of a folder: for PK, KEK and db each a key (`.key`, readable by its owner alone), its certificate (`.crt`) and the write of
//! it to firmware's variable (`.auth`), and the owner's GUID (`owner`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use cairn_disk::Guid;
use der::{Decode as _, Encode as _};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use super::authenticode::hex;
use super::variables::{self, FILES};
use crate::image::Error;

/// Each variable, whose key signs its first write, and what its certificate is called.
const ROLES: [(&str, &str, &str); 3] = [
    ("PK", "PK", "platform key"),
    ("KEK", "PK", "key exchange key"),
    ("db", "KEK", "signature database key"),
];

/// A key with its certificate.
pub struct SigningKey {
    pub(super) key: KeyPair,
    /// DER.
    pub(super) certificate: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.fingerprint())
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The GUID.
    pub owner: Guid,
    /// The SHA-256 of each certificate, by variable.
    pub certificates: BTreeMap<String, String>,
}

/// What an image needs of the keys beside signatures: how firmware takes them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Enrolment {
    /// The SHA-256 of the certificate that firmware will want programs to be signed for.
    pub certificate: String,
    /// The files of [`FILES`], by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl SigningKey {
    /// Makes an RSA key of 2048 bits, the only kind that all firmware knows, and a certificate of its own.
    fn generate(name: &str, from: jiff::Timestamp) -> Result<(Self, String), Error> {
        let none = || Error::input("key", "the system gives no random numbers");
        let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| none())?;
        let key = key.as_der().map_err(|_| none())?;
        let text = pem::encode(&pem::Pem::new("PRIVATE KEY", key.as_ref()));
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_RSA_SHA256).map_err(|_| none())?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        let day = from.to_zoned(jiff::tz::TimeZone::UTC);
        let mut certificate = CertificateParams::default();
        certificate.distinguished_name = subject;
        // Firmware does not look at these: it mostly does not know the time. The end is the last year that is written in two digits.
        certificate.not_before =
            rcgen::date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs());
        certificate.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let certificate = certificate.self_signed(&key);
        let certificate = certificate.map_err(|e| Error::input("certificate", e.to_string()))?;
        let made = Self {
            key,
            certificate: certificate.der().to_vec(),
        };
        Ok((made, text))
    }

    /// Reads the key that signs programs, `db.key`, with its certificate `db.crt`.
    ///
    /// # Errors
    /// One of them is missing or unreadable, others may read the key, or they do not belong together.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let (path, beside) = (folder.join("db.key"), folder.join("db.crt"));
        let at = |path: &Path, why: String| Error::input(path.display().to_string(), why);
        let found = fs::metadata(&path).map_err(|e| missing(&path, e))?;
        if found.permissions().mode() & 0o077 != 0 {
            let why = "others than its owner may read or change this key: chmod 600 it, and make new keys if somebody may have seen it";
            return Err(at(&path, why.into()));
        }
        let text = fs::read_to_string(&path).map_err(|e| missing(&path, e))?;
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_RSA_SHA256)
            .map_err(|e| at(&path, format!("it is no RSA key in PEM (PKCS #8): {e}")))?;
        let certificate = certificate(&beside)?;
        let parsed = x509_cert::Certificate::from_der(&certificate)
            .and_then(|c| c.tbs_certificate.subject_public_key_info.to_der().map(|spki| (c, spki)));
        let (parsed, spki) = parsed.map_err(|e| at(&beside, format!("it is no certificate ({e})")))?;
        if spki != key.subject_public_key_info() {
            let why = format!(
                "it is not the certificate of {}: bring the two that belong together",
                path.display()
            );
            return Err(at(&beside, why));
        }
        // The signature holds it as it was parsed, and firmware compares bytes.
        if parsed.to_der().map_err(super::pkcs7::asn1)? != certificate {
            return Err(at(&beside, "it is not in DER throughout: make another".into()));
        }
        Ok(Self { key, certificate })
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.certificate))
    }
}

fn missing(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        let why = "it is not there: make keys by `imagegen keys secureboot`, or bring it from where they are kept";
        return Error::input(path.display().to_string(), why);
    }
    Error::io("read", path)(error)
}

fn certificate(path: &Path) -> Result<Vec<u8>, Error> {
    let text = fs::read(path).map_err(|e| missing(path, e))?;
    match pem::parse(&text) {
        Ok(found) if found.tag() == "CERTIFICATE" => Ok(found.into_contents()),
        _ => Err(Error::input(path.display().to_string(), "it is no certificate in PEM")),
    }
}

/// Reads what lets firmware take the keys, and checks that it is for the key that signs.
///
/// # Errors
/// As [`SigningKey::read`]; a file is missing, or was made for another certificate.
pub fn enrolment(folder: &Path) -> Result<Enrolment, Error> {
    let key = SigningKey::read(folder)?;
    let mut files = BTreeMap::new();
    for name in FILES {
        let path = folder.join(name);
        let content = fs::read(&path).map_err(|e| missing(&path, e))?;
        // Firmware that takes it and finds another certificate would start nothing any more.
        if name == "db.auth" && !content.windows(key.certificate.len()).any(|w| w == key.certificate) {
            let why = "it does not hold the certificate in db.crt beside it: bring the files that were made together";
            return Err(Error::input(path.display().to_string(), why));
        }
        files.insert(name.to_owned(), content);
    }
    Ok(Enrolment {
        certificate: key.fingerprint(),
        files,
    })
}

/// Makes the keys for the appliance or owner called `name`, in a folder that appears whole or not at all.
///
/// # Errors
/// The folder is there and not empty, or cannot be written.
pub fn create(folder: &Path, name: &str, at: jiff::Timestamp) -> Result<Created, Error> {
    let shown = folder.display().to_string();
    if name.is_empty() || name.len() > 40 || name.chars().any(char::is_control) {
        return Err(Error::input(
            format!("name `{name}`"),
            "give 1 to 40 characters, without line breaks",
        ));
    }
    if fs::read_dir(folder).is_ok_and(|mut found| found.next().is_some()) || folder.is_file() {
        return Err(Error::input(
            shown,
            "it is there already, and keys are never written over: name another folder",
        ));
    }
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::input("key", "the system gives no random numbers"))?;
    // Version 4, random (RFC 9562).
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let owner = Guid::from_bytes(random);
    let mut keys = BTreeMap::new();
    for (role, _, title) in ROLES {
        keys.insert(role, SigningKey::generate(&format!("{name} {title}"), at)?);
    }
    let parent = folder
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let new = tempfile::Builder::new().prefix(".secureboot-").tempdir_in(parent);
    let new = new.map_err(Error::io("create a folder in", parent))?;
    let _watched = crate::leftovers::watch(new.path());
    // A folder of its own within: the temporary one's mode is not ours to rely on, and it goes with what is left.
    let inner = new.path().join("keys");
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&inner)
        .map_err(Error::io("create", &inner))?;
    // Projects lie in version control.
    write(&inner.join(".gitignore"), b"*.key\n", 0o644)?;
    write(&inner.join("owner"), format!("{owner}\n").as_bytes(), 0o644)?;
    for (role, signer, _) in ROLES {
        let (key, text) = &keys[role];
        write(&inner.join(format!("{role}.key")), text.as_bytes(), 0o600)?;
        let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", key.certificate.clone()));
        write(&inner.join(format!("{role}.crt")), certificate.as_bytes(), 0o644)?;
        let list = variables::list(&key.certificate, owner)?;
        let content = variables::write(role, &list, &keys[signer].0, at)?;
        write(&inner.join(format!("{role}.auth")), &content, 0o644)?;
    }
    let sync = |path: &Path| {
        File::open(path)
            .and_then(|f| f.sync_all())
            .map_err(Error::io("write", path))
    };
    sync(&inner)?;
    // Takes the place of an empty folder, and of nothing else.
    fs::rename(&inner, folder).map_err(Error::io("rename to", folder))?;
    sync(parent)?;
    Ok(Created {
        owner,
        certificates: keys
            .iter()
            .map(|(role, (key, _))| ((*role).to_owned(), key.fingerprint()))
            .collect(),
    })
}

fn write(path: &PathBuf, content: &[u8], mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(Error::io("create", path))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", path))
}

//! Other people's programs say what our certificates are worth: OpenSSL's command and rustls' webpki.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::plan_tests::{folder, names, two};
use super::read::{Pair, authority_file};
use super::*;
use crate::disk::Disk as _;
use crate::testing::Model;

/// `openssl` from the folder CAIRN_JUDGES or from PATH; there, it may be missing.
fn openssl() -> Option<Command> {
    let judges = std::env::var_os("CAIRN_JUDGES").map(|folder| PathBuf::from(folder).join("openssl"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = judges
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join("openssl")));
    let found = all.find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: there is no openssl");
    }
    found.map(Command::new)
}

/// A settled disk, its authority as a pair, and certificates issued by it.
struct World {
    disk: Model,
    pair: Pair,
}

fn world() -> World {
    let disk = Model::default();
    ensure(&disk, folder(), Timestamp::now(), &two(), None).unwrap();
    let text = disk.read(&authority_file(folder())).unwrap();
    let pair = Pair::parse(&text).unwrap();
    World { disk, pair }
}

impl World {
    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.pair.key.serialize_pem()).unwrap();
        Issuer::from_ca_cert_der(&self.pair.certificate.as_slice().into(), key).unwrap()
    }

    /// A certificate that the authority's key signed, whatever its names are: as somebody would who stole it.
    fn stolen(&self, all: &[&str]) -> String {
        let wanted = Certificate {
            of: "stolen".into(),
            names: names(all),
            from: Timestamp::now() - BACKDATED,
            until: Timestamp::now() + LIFETIME,
        };
        super::make::certificate(&wanted, &self.issuer()).unwrap()
    }

    /// What `openssl verify` says of a file, strictly; `None` without openssl.
    fn openssl(&self, text: &str, more: &[&str]) -> Option<Result<(), String>> {
        let mut openssl = openssl()?;
        let dir = tempfile::tempdir_in(target()).unwrap();
        let ca = authority_certificate(&self.disk, folder()).unwrap().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
        std::fs::write(dir.path().join("one.pem"), text).unwrap();
        let output = openssl
            .current_dir(dir.path())
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-CAfile",
                "ca.pem",
                "-no-CApath",
            ])
            .args(more)
            .arg("one.pem")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Some(if output.status.success() { Ok(()) } else { Err(said) })
    }

    /// What webpki says of a certificate for a name, at a time.
    fn webpki(&self, text: &str, name: &str, at: Timestamp) -> Result<(), webpki::Error> {
        let ca = CertificateDer::from(self.pair.certificate.as_slice());
        let anchor = webpki::anchor_from_trusted_cert(&ca)?;
        let all = pem::parse_many(text).unwrap();
        let der = all.iter().find(|block| block.tag() == "CERTIFICATE").unwrap();
        let der = CertificateDer::from(der.contents());
        let one = webpki::EndEntityCert::try_from(&der)?;
        let seconds = u64::try_from(at.as_second()).unwrap();
        one.verify_for_usage(
            &[webpki::ring::ECDSA_P256_SHA256],
            &[anchor],
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )?;
        one.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
    }
}

/// Below the build's folder, which the judges' sandbox shows them.
fn target() -> &'static Path {
    // A unit test is told no folder of its own.
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| std::env::current_exe().unwrap().parent().unwrap().to_owned())
}

#[test]
fn both_judges_take_what_the_authority_issued() {
    let world = world();
    for (of, names) in two().certificates {
        let text = issued(&world.disk, folder(), &of).unwrap().unwrap();
        for name in names {
            let name = name.to_string();
            let option = if name.parse::<std::net::IpAddr>().is_ok() {
                "-verify_ip"
            } else {
                "-verify_hostname"
            };
            if let Some(said) = world.openssl(&text, &[option, &name]) {
                assert_eq!(said, Ok(()), "{of} as {name}");
            }
            assert_eq!(world.webpki(&text, &name, Timestamp::now()), Ok(()), "{of} as {name}");
        }
        let other = "other.box.local";
        if let Some(said) = world.openssl(&text, &["-verify_hostname", other]) {
            assert!(
                said.as_ref().is_err_and(|said| said.contains("hostname mismatch")),
                "{said:?}"
            );
        }
        assert!(world.webpki(&text, other, Timestamp::now()).is_err());
    }
}

#[test]
fn both_judges_refuse_what_a_thief_of_the_authoritys_key_would_issue() {
    let world = world();
    for outside in ["google.com", "box.local.example", "internal", "8.8.8.8", "2001:db8::1"] {
        // One good name does not carry a bad one.
        for all in [&[outside][..], &["box.local", outside]] {
            let text = world.stolen(all);
            if let Some(said) = world.openssl(&text, &[]) {
                let refused = |said: &String| said.contains("permitted subtree violation");
                assert!(said.as_ref().is_err_and(refused), "{all:?}: {said:?}");
            }
            let said = world.webpki(&text, all[0], Timestamp::now());
            assert_eq!(said, Err(webpki::Error::NameConstraintViolation), "{all:?}");
        }
    }
    // So that the refusals above are for the names alone.
    let text = world.stolen(&["fd00::1", "a.box.local"]);
    if let Some(said) = world.openssl(&text, &[]) {
        assert_eq!(said, Ok(()));
    }
    assert_eq!(world.webpki(&text, "fd00::1", Timestamp::now()), Ok(()));
}

#[test]
fn the_authority_can_make_no_other_authority() {
    let world = world();
    let mut wanted = CertificateParams::new(["below.box.local".to_owned()]).unwrap();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wanted.use_authority_key_identifier_extension = true;
    wanted.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let middle = wanted.signed_by(&key, &world.issuer()).unwrap().pem();
    let below = Issuer::new(wanted, key);
    let mut leaf = CertificateParams::new(["a.box.local".to_owned()]).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    leaf.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = leaf.signed_by(&key, &below).unwrap().pem();
    let dir = tempfile::tempdir_in(target()).unwrap();
    let path = dir.path().join("middle.pem");
    std::fs::write(&path, middle).unwrap();
    if let Some(said) = world.openssl(&leaf, &["-untrusted", path.to_str().unwrap()]) {
        let refused = |said: &String| said.contains("path length constraint exceeded");
        assert!(said.as_ref().is_err_and(refused), "{said:?}");
    }
}

#[test]
fn the_judges_see_the_time_that_we_see() {
    let world = world();
    let text = issued(&world.disk, folder(), "db.tls").unwrap().unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let now = Timestamp::now();
    let at = |at| world.webpki(&text, "db.box.internal", at);
    assert_eq!(at(now - BACKDATED + hour), Ok(()));
    assert_eq!(at(now + LIFETIME - hour), Ok(()));
    assert!(at(now - BACKDATED - hour).is_err());
    assert!(at(now + LIFETIME + hour).is_err());
}

#[test]
fn serial_numbers_are_random_and_keys_are_made_for_each_certificate() {
    let world = world();
    let (a, b) = (world.stolen(&["a.box.local"]), world.stolen(&["a.box.local"]));
    let parts = |text: &str| {
        let pair = Pair::parse(text.as_bytes()).unwrap();
        let serial = super::read::parse(&pair.certificate).unwrap().raw_serial().to_vec();
        (serial, pair.key.serialized_der().to_vec())
    };
    let ((first, key), (second, other)) = (parts(&a), parts(&b));
    assert_eq!(first.len(), 16);
    assert_ne!(first, second);
    assert_ne!(key, other);
}

use super::*;
use crate::pki::plan_tests::{names, now};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate, its key, and its parameters for issuing others.
struct One {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(name: &str, alt: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(alt.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

fn signed(params: CertificateParams, by: Option<&One>) -> One {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let certificate = match by {
        Some(by) => params
            .signed_by(&key, &Issuer::from_params(&by.params, &by.key))
            .unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let pem = certificate.pem();
    One { params, key, pem }
}

fn authority(name: &str, by: Option<&One>) -> One {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    signed(params, by)
}

/// Root, authority below it, and a service's.
fn chain() -> (One, One, One) {
    let root = authority("Root", None);
    let middle = authority("Middle", Some(&root));
    let leaf = signed(
        params("web", &["www.home.example", "*.apps.home.example"]),
        Some(&middle),
    );
    (root, middle, leaf)
}

fn refused(text: &str, wanted: &[&str]) -> String {
    import(text, &names(wanted), now()).unwrap_err().to_string()
}

#[test]
fn a_right_chain_is_taken_wherever_its_key_stands_and_given_in_one_order() {
    let (root, middle, leaf) = chain();
    let key = leaf.key.serialize_pem();
    let certificates = leaf.pem.clone() + &middle.pem;
    let wanted = names(&["www.home.example", "a.apps.home.example"]);
    let taken = import(&(key.clone() + &certificates), &wanted, now()).unwrap();
    assert_eq!(import(&(certificates.clone() + &key), &wanted, now()).unwrap(), taken);
    assert_eq!(import(&taken.pem, &wanted, now()).unwrap(), taken);
    assert!(taken.pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(taken.issuer, "Middle");
    assert_eq!(taken.until.to_string(), "2027-01-01T00:00:00Z");
    // With its root, and signed by itself.
    assert!(import(&(key + &certificates + &root.pem), &wanted, now()).is_ok());
    let alone = signed(params("web", &["www.home.example"]), None);
    let text = alone.key.serialize_pem() + &alone.pem;
    assert!(import(&text, &names(&["www.home.example"]), now()).is_ok());
}

#[test]
fn another_key_and_a_wrong_order_are_told_apart() {
    let (root, middle, leaf) = chain();
    let key = leaf.key.serialize_pem();
    assert_eq!(
        refused(&(root.key.serialize_pem() + &leaf.pem + &middle.pem), &[]),
        "the private key belongs to none of the certificates; the key that the certificate was requested with is needed"
    );
    assert_eq!(
        refused(&(key.clone() + &middle.pem + &leaf.pem), &[]),
        "certificate 2 is the private key's; put the service's own certificate first and its issuers behind it"
    );
    assert_eq!(
        refused(&(key.clone() + &leaf.pem + &root.pem + &middle.pem), &[]),
        "certificate 2 (Root) did not issue certificate 1, which Middle did; put each issuer behind what it issued"
    );
    let namesake = authority("Middle", Some(&root));
    assert_eq!(
        refused(&(key + &leaf.pem + &namesake.pem), &[]),
        "certificate 1 was changed: the signature of Middle on it is wrong"
    );
}

#[test]
fn names_that_are_missing_are_told() {
    let (_, middle, leaf) = chain();
    let text = leaf.key.serialize_pem() + &leaf.pem + &middle.pem;
    assert_eq!(
        refused(&text, &["www.home.example", "mail.home.example"]),
        "the certificate is for *.apps.home.example, www.home.example, and not for mail.home.example"
    );
    let bare = signed(params("web", &[]), Some(&middle));
    assert_eq!(
        refused(&(bare.key.serialize_pem() + &bare.pem), &["web.example"]),
        "the certificate is for no name, and not for web.example"
    );
}

#[test]
fn time_is_judged_for_every_certificate_of_the_chain() {
    let root = authority("Root", None);
    let mut old = params("Middle", &[]);
    old.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    old.not_after = rcgen::date_time_ymd(2026, 2, 1);
    let old = signed(old, Some(&root));
    let leaf = signed(params("web", &["www.home.example"]), Some(&old));
    let text = leaf.key.serialize_pem() + &leaf.pem + &old.pem;
    assert_eq!(
        refused(&text, &["www.home.example"]),
        "certificate 2 ended on 2026-02-01 00:00 UTC; ask its issuer for a new one"
    );
    let early = import(&text, &names(&[]), "2025-06-01T00:00:00Z".parse().unwrap()).unwrap_err();
    assert_eq!(
        early.to_string(),
        "certificate 1 begins on 2026-01-01 00:00 UTC; if that is past, the appliance's clock is wrong"
    );
}

#[test]
fn what_is_not_a_servers_or_not_an_authoritys_is_refused() {
    let (_, middle, leaf) = chain();
    assert_eq!(
        refused(&(middle.key.serialize_pem() + &middle.pem), &[]),
        "the certificate of Middle is not for a server (it is an authority's)"
    );
    let mut mail = params("mail", &["www.home.example"]);
    mail.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    let mail = signed(mail, Some(&middle));
    assert_eq!(
        refused(&(mail.key.serialize_pem() + &mail.pem), &[]),
        "the certificate of mail is not for a server (its extended key usage says so)"
    );
    let below = signed(params("below", &["www.home.example"]), Some(&leaf));
    assert_eq!(
        refused(&(below.key.serialize_pem() + &below.pem + &leaf.pem), &[]),
        "certificate 2 (web) is not an authority's, so what it signed is worth nothing"
    );
}

#[test]
fn text_that_is_something_else_is_refused_with_what_is_asked_for() {
    let (_, _, leaf) = chain();
    let key = leaf.key.serialize_pem();
    let help = "; give the private key and the chain in PEM, the service's own certificate first";
    for (text, why) in [
        (String::new(), "there is nothing in PEM in it"),
        (leaf.pem.clone(), "it has no private key"),
        (key.clone(), "there is no certificate"),
        (key[..key.len() / 2].to_owned(), "there is nothing in PEM in it"),
    ] {
        assert_eq!(refused(&text, &[]), format!("{why}{help}"));
    }
    let older = key.replace("PRIVATE KEY", "RSA PRIVATE KEY") + &leaf.pem;
    let told = refused(&older, &[]);
    assert!(
        told.starts_with("its key is an `RSA PRIVATE KEY`; `openssl pkcs8 -topk8 -nodes`"),
        "{told}"
    );
}

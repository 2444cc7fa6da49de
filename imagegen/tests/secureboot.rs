//! Keys, signatures and firmware's variables of Secure Boot, before others' tools.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{agrees, judge, judges};
use imagegen::image::secureboot::{self, Created, Signed, SigningKey};

const TIME: &str = "2026-03-01T12:34:56Z";

fn keys(folder: &Path) -> Created {
    secureboot::create(folder, "Example", TIME.parse().unwrap()).unwrap()
}

fn text(error: &impl ToString) -> String {
    error.to_string()
}

/// systemd-boot as Debian ships it.
fn loader() -> Vec<u8> {
    fs::read(judges().root.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi")).unwrap()
}

#[test]
fn keys_are_made_once_and_only_their_owner_reads_them() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("keys");
    let created = keys(&folder);
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for role in ["PK", "KEK", "db"] {
        assert_eq!(
            (mode(&format!("{role}.key")), mode(&format!("{role}.crt"))),
            (0o600, 0o644)
        );
    }
    assert_eq!(
        fs::read_to_string(folder.join("owner")).unwrap().trim(),
        created.owner.to_string()
    );
    let before = fs::read(folder.join("db.key")).unwrap();
    let refused = secureboot::create(&folder, "Example", TIME.parse().unwrap()).unwrap_err();
    assert!(text(&refused).contains("never written over"), "{refused}");
    assert_eq!(fs::read(folder.join("db.key")).unwrap(), before);
    // Nothing is left beside it, not of what failed either.
    secureboot::create(&folder.join("db.crt/keys"), "Example", TIME.parse().unwrap()).unwrap_err();
    let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!((left(work.path()), left(&folder)), (1, 11));
    keys(&work.path().join("a/new/place"));
    assert_eq!((left(&work.path().join("a")), left(&work.path().join("a/new"))), (1, 1));
}

#[test]
fn variables_are_what_efitools_make_of_the_same_keys() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().canonicalize().unwrap().join("keys");
    let owner = keys(&folder).owner.to_string();
    let at = |name: &str| folder.join(name);
    for (variable, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
        let (list, auth) = (at("judge.esl"), at("judge.auth"));
        let mut make = judge("cert-to-efi-sig-list");
        make.args(["-g", &owner]).arg(at(&format!("{variable}.crt"))).arg(&list);
        agrees(&mut make);
        let mut sign = judge("sign-efi-sig-list");
        sign.env("TZ", "UTC").args(["-t", "2026-03-01 12:34:56", "-g", &owner]);
        sign.arg("-k")
            .arg(at(&format!("{signer}.key")))
            .arg("-c")
            .arg(at(&format!("{signer}.crt")));
        sign.arg(variable).args([&list, &auth]);
        agrees(&mut sign);
        let (ours, theirs) = (
            fs::read(at(&format!("{variable}.auth"))).unwrap(),
            fs::read(&auth).unwrap(),
        );
        assert!(ours.ends_with(&fs::read(&list).unwrap()), "{variable}: the list");
        assert_eq!(&ours[..16], &theirs[..16], "{variable}: the time");
        assert!(ours == theirs, "{variable}: the signature");
    }
}

#[test]
fn a_signed_program_is_what_others_take_for_signed_and_an_altered_one_is_not() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().canonicalize().unwrap();
    keys(&folder.join("keys"));
    keys(&folder.join("others"));
    let key = SigningKey::read(&folder.join("keys")).unwrap();
    let plain = loader();
    assert_eq!(secureboot::signed(&plain).unwrap(), Signed::No);
    let signed = secureboot::sign(&plain, &key).unwrap();
    assert!(
        signed == secureboot::sign(&plain, &key).unwrap(),
        "the same bytes again"
    );
    assert!(text(&secureboot::sign(&signed, &key).unwrap_err()).contains("signed already"));

    let by = |bytes: &[u8]| secureboot::signed(bytes).unwrap();
    let expected = Signed::By {
        name: "CN=Example signature database key".into(),
        sha256: key.fingerprint(),
    };
    assert_eq!(by(&signed), expected);
    let program = folder.join("signed.efi");
    let verify = |bytes: &[u8], keys: &str| {
        fs::write(&program, bytes).unwrap();
        let mut sbverify = judge("sbverify");
        sbverify
            .arg("--cert")
            .arg(folder.join(keys).join("db.crt"))
            .arg(&program);
        sbverify.output().unwrap().status.success()
    };
    assert!(verify(&signed, "keys"));
    assert!(!verify(&signed, "others"));
    // One bit anywhere in what is loaded, or in the signed digest itself.
    let first = signed.len() / 2;
    let inside = signed
        .windows(32)
        .position(|w| w == secureboot::digest(&plain).unwrap())
        .unwrap();
    for place in [first, inside] {
        let mut altered = signed.clone();
        altered[place] ^= 1;
        assert_eq!(by(&altered), Signed::Wrong, "{place}");
        assert!(!verify(&altered, "keys"), "{place}");
    }
    let mut cut = signed.clone();
    cut.truncate(signed.len() - 8);
    assert!(secureboot::signed(&cut).is_err());

    // The digest, as pesign computes it.
    fs::write(&program, &plain).unwrap();
    let said = agrees(judge("pesign").arg("-h").arg("-i").arg(&program));
    let hex: String = secureboot::digest(&plain)
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(said.contains(&hex), "{said} is not {hex}");
}

#[test]
fn keys_that_do_not_fit_or_that_others_may_read_are_refused_with_what_to_do() {
    let work = tempfile::tempdir().unwrap();
    let (folder, other) = (work.path().join("keys"), work.path().join("other"));
    keys(&folder);
    keys(&other);
    assert!(secureboot::enrolment(&folder).is_ok());
    let refused = |words: &str| {
        let error = text(&secureboot::enrolment(&folder).unwrap_err());
        assert!(error.contains(words), "{error}");
    };
    let mode = |mode| fs::set_permissions(folder.join("db.key"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    refused("chmod 600");
    mode(0o600);
    let exchanged = |name: &str, words: &str| {
        let before = fs::read(folder.join(name)).unwrap();
        fs::copy(other.join(name), folder.join(name)).unwrap();
        refused(words);
        fs::write(folder.join(name), before).unwrap();
    };
    exchanged("db.crt", "is not the certificate of");
    exchanged("db.auth", "does not hold the certificate in db.crt");
    fs::write(folder.join("db.key"), "hello").unwrap();
    refused("no RSA key in PEM");
    fs::remove_file(folder.join("db.key")).unwrap();
    refused("imagegen keys secureboot");
}

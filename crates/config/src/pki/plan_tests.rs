//! What is done about an authority's folder, and why.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::read::{authority_file, issued_file, key};
use super::*;
use crate::disk::{Disk as _, put};
use crate::testing::Model;
use rcgen::PublicKeyData as _;

const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn folder() -> &'static Path {
    Path::new("/data/secrets/.ca")
}

pub(super) fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(super) fn names(all: &[&str]) -> Names {
    all.iter().map(|name| name.parse().unwrap()).collect()
}

pub(super) fn wanted(certificates: &[(&str, &[&str])]) -> Wanted {
    Wanted {
        appliance: "box".into(),
        domain: Some("home.example".into()),
        certificates: certificates
            .iter()
            .map(|(of, all)| ((*of).to_owned(), names(all)))
            .collect(),
        replace: false,
    }
}

pub(super) fn two() -> Wanted {
    wanted(&[
        ("db.tls", &["db.box.internal"]),
        ("web.tls", &["home.example", "box.local", "10.0.0.5"]),
    ])
}

/// A disk on which all is as wanted.
pub(super) fn settled(wanted: &Wanted) -> Model {
    let disk = Model::default();
    ensure(&disk, folder(), now(), wanted, None).unwrap();
    disk
}

pub(super) fn found(disk: &Model) -> Found {
    Found::read(disk, folder(), None).unwrap()
}

/// The authority's public key.
pub(super) fn authority_key(disk: &Model) -> Vec<u8> {
    let text = disk.read(&authority_file(folder())).unwrap();
    key(&text).unwrap().subject_public_key_info()
}

fn planned(disk: &Model, now: Timestamp, wanted: &Wanted) -> Vec<String> {
    let steps = plan(now, &found(disk), wanted);
    steps.iter().map(Step::to_string).collect()
}

fn damage(disk: &Model, path: &Path, bytes: &[u8]) {
    put(disk, path, bytes, 0o600).unwrap();
}

#[test]
fn the_first_plan_makes_the_authority_and_every_certificate_and_the_second_does_nothing() {
    let disk = Model::default();
    let steps = planned(&disk, now(), &two());
    assert_eq!(
        steps,
        [
            "make the authority for box.internal, box.local, home.example and private addresses",
            "issue db.tls for db.box.internal: there is none",
            "issue web.tls for box.local, home.example, 10.0.0.5: there is none",
        ]
    );
    let done = ensure(&disk, folder(), now(), &two(), None).unwrap();
    assert_eq!(done.iter().map(Step::to_string).collect::<Vec<_>>(), steps);
    assert!(disk.all_durable());
    assert!(found(&disk).whole());
    assert_eq!(planned(&disk, now(), &two()), [""; 0]);
    let before = disk.now();
    ensure(&disk, folder(), now(), &two(), None).unwrap();
    assert_eq!(disk.now(), before);
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
    let disk = settled(&two());
    let at = |days: i64| planned(&disk, now() + DAY * i32::try_from(days).unwrap(), &two());
    assert_eq!(at(19), [""; 0]);
    assert_eq!(
        at(21),
        [
            "renew db.tls until 2026-04-21 12:00 UTC: it ends on 2026-03-31 12:00 UTC",
            "renew web.tls until 2026-04-21 12:00 UTC: it ends on 2026-03-31 12:00 UTC",
        ]
    );
    assert!(at(40)[0].ends_with("it ended on 2026-03-31 12:00 UTC"), "{:?}", at(40));
    let later = now() + DAY * 21;
    let old = issued(&disk, folder(), "db.tls").unwrap().unwrap();
    ensure(&disk, folder(), later, &two(), None).unwrap();
    assert_ne!(issued(&disk, folder(), "db.tls").unwrap().unwrap(), old);
    assert_eq!(planned(&disk, later, &two()), [""; 0]);
}

#[test]
fn a_clock_that_is_set_back_or_far_ahead_renews_certificates_and_never_the_authority() {
    let disk = settled(&two());
    let authority = found(&disk).authority;
    let hours = |hours: i64| SignedDuration::from_hours(hours);
    // An hour here or there, or local time taken for UTC, is nothing.
    assert_eq!(planned(&disk, now() - hours(14), &two()), [""; 0]);
    let back = planned(&disk, now() - hours(25), &two());
    assert_eq!(
        back[0],
        "renew db.tls until 2026-03-30 11:00 UTC: it begins on 2026-02-28 12:00 UTC, so the clock was set back"
    );
    for at in [
        Timestamp::UNIX_EPOCH,
        "2099-01-01T00:00:00Z".parse().unwrap(),
        Timestamp::MAX,
        Timestamp::MIN,
        now(),
    ] {
        ensure(&disk, folder(), at, &two(), None).unwrap();
        let found = found(&disk);
        assert!(found.whole(), "{at}");
        assert_eq!(found.authority, authority, "{at}");
        for held in found.certificates.values() {
            let Held::Whole(facts) = held else { panic!("{held:?}") };
            // At the ends of what a clock can say, a day more or less does not fit.
            let clamped = at.clamp(Timestamp::UNIX_EPOCH, "9999-12-01T00:00:00Z".parse().unwrap());
            assert!(
                facts.from <= clamped.max(facts.from) && facts.from <= facts.until,
                "{at}: {facts:?}"
            );
            if at == clamped {
                assert!(facts.from <= at && at < facts.until, "{at}: {facts:?}");
            }
        }
    }
    assert_eq!(planned(&disk, now(), &two()), [""; 0]);
}

#[test]
fn a_certificate_is_issued_again_for_a_name_more_and_kept_for_one_less() {
    let disk = settled(&wanted(&[("web.tls", &["box.local", "10.0.0.5"])]));
    assert_eq!(
        planned(&disk, now(), &wanted(&[("web.tls", &["box.local", "10.0.0.6"])])),
        ["issue web.tls for box.local, 10.0.0.6: it was not for 10.0.0.6"]
    );
    assert_eq!(planned(&disk, now(), &wanted(&[("web.tls", &["box.local"])])), [""; 0]);
}

#[test]
fn another_domain_writes_the_authoritys_certificate_again_with_the_same_key() {
    let disk = settled(&two());
    let (key, before) = (authority_key(&disk), found(&disk));
    let moved = Wanted {
        domain: Some("new.example".into()),
        ..wanted(&[("db.tls", &["db.box.internal"]), ("web.tls", &["new.example"])])
    };
    assert_eq!(
        planned(&disk, now(), &moved),
        [
            "write the authority's certificate again, with the same key, for box.internal, box.local, new.example and private \
             addresses: it was not for new.example",
            "issue web.tls for new.example: it was not for new.example",
        ]
    );
    ensure(&disk, folder(), now(), &moved, None).unwrap();
    let after = found(&disk);
    assert!(after.whole());
    assert_eq!(authority_key(&disk), key);
    let (Held::Whole(old), Held::Whole(new)) = (before.authority, after.authority) else {
        panic!("an authority is damaged");
    };
    assert_eq!(old.name, new.name);
    assert_ne!(old.fingerprint, new.fingerprint);
    assert_eq!(planned(&disk, now(), &moved), [""; 0]);
    // Where it permits more than is wanted, it stays as people know it.
    let less = Wanted {
        domain: None,
        ..wanted(&[("db.tls", &["db.box.internal"])])
    };
    assert_eq!(
        planned(&disk, now(), &less),
        ["remove web.tls: nothing wants it any more"]
    );
}

#[test]
fn looking_at_one_use_touches_no_other() {
    let disk = settled(&two());
    let one = wanted(&[("db.tls", &["db.box.internal", "db2.box.internal"])]);
    let steps = ensure(&disk, folder(), now(), &one, Some("db.tls")).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(found(&disk).certificates.len(), 2);
    let gone = ensure(&disk, folder(), now(), &one, None).unwrap();
    assert_eq!(gone, [Step::Remove("web.tls".into())]);
    assert_eq!(issued(&disk, folder(), "web.tls").unwrap(), None);
}

#[test]
fn a_certificate_that_is_broken_anywhere_is_found_and_made_anew() {
    let one = wanted(&[("db.tls", &["db.box.internal"])]);
    let disk = settled(&one);
    let path = issued_file(folder(), "db.tls");
    let good = disk.read(&path).unwrap();
    let repaired = |broken: &[u8]| {
        damage(&disk, &path, broken);
        let steps = planned(&disk, now(), &one);
        assert_eq!(steps.len(), 1, "{:?}", String::from_utf8_lossy(broken));
        assert!(steps[0].starts_with("issue db.tls for db.box.internal: "), "{steps:?}");
        steps[0].rsplit(": ").next().unwrap().to_owned()
    };
    // But for the end of the last line, every byte of it is needed.
    for length in 0..good.len() - 1 {
        repaired(&good[..length]);
    }
    // The base64 text; the lines around it say nothing.
    let text = String::from_utf8(good.clone()).unwrap();
    let mut changed = 0;
    for (at, _) in text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
        if text[..at].rsplit('\n').next().unwrap().starts_with('-') || text[at..].starts_with('-') {
            continue;
        }
        let mut broken = good.clone();
        broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8_lossy(&broken);
        if text
            .lines()
            .any(|line| line.starts_with("-----") && line.contains("AA"))
        {
            continue;
        }
        repaired(&broken);
        changed += 1;
    }
    assert!(changed > 200, "{changed}");
    assert_eq!(repaired(b""), "there is nothing in PEM in it");
    let other = settled(&one);
    let of_other = String::from_utf8(other.read(&path).unwrap()).unwrap();
    let end = "-----END PRIVATE KEY-----\n";
    let mixed = format!(
        "{}{end}{}",
        text.split_once(end).unwrap().0,
        of_other.split_once(end).unwrap().1
    );
    assert_eq!(repaired(mixed.as_bytes()), "its key is not the certificate's");
    assert!(repaired(of_other.as_bytes()).ends_with("had issued it"));
    ensure(&disk, folder(), now(), &one, None).unwrap();
    assert!(found(&disk).whole());
}

#[test]
fn a_lost_authority_is_never_replaced_unless_that_is_asked_for() {
    let disk = settled(&two());
    let path = authority_file(folder());
    let good = String::from_utf8(disk.read(&path).unwrap()).unwrap();
    let start = good.find('\n').unwrap() + 1;
    let mut flipped = good.clone().into_bytes();
    flipped[start + 60] ^= 1;
    let broken = [
        Some(""),
        Some(&good[..20]),
        Some(&good[..start + 70]),
        Some("garbage\n"),
        None,
    ];
    let broken = broken.map(|text| text.map(|text| text.as_bytes().to_vec()));
    for broken in broken.into_iter().chain([Some(flipped)]) {
        match &broken {
            Some(broken) => damage(&disk, &path, broken),
            None => disk.remove(&path).unwrap(),
        }
        let before = disk.now();
        let steps = ensure(&disk, folder(), now() + DAY * 40, &two(), None).unwrap();
        assert_eq!(steps.len(), 1, "{broken:?}: {steps:?}");
        let told = steps[0].refusal().unwrap();
        assert!(told.starts_with("the certificate authority's key is lost"), "{told}");
        assert!(told.contains("put authority.pem back from a backup"), "{told}");
        assert_eq!(disk.now(), before, "{broken:?}");
        damage(&disk, &path, good.as_bytes());
        assert!(found(&disk).whole());
    }
    disk.remove(&path).unwrap();
    let asked = Wanted { replace: true, ..two() };
    let steps = ensure(&disk, folder(), now(), &asked, None).unwrap();
    assert!(
        matches!(&steps[..], [Step::Replace { .. }, Step::Issue(..), Step::Issue(..)]),
        "{steps:?}"
    );
    assert!(found(&disk).whole());
}

#[test]
fn an_asked_for_replacement_issues_every_certificate_again() {
    let disk = settled(&two());
    let key = authority_key(&disk);
    let steps = ensure(&disk, folder(), now(), &Wanted { replace: true, ..two() }, None).unwrap();
    let shown: Vec<String> = steps.iter().map(Step::to_string).collect();
    assert!(
        shown[0].starts_with("replace the authority, as was asked for"),
        "{shown:?}"
    );
    assert_eq!(shown[1], "issue db.tls for db.box.internal: its authority is another");
    assert_eq!(shown.len(), 3);
    assert_ne!(authority_key(&disk), key);
    assert!(found(&disk).whole());
}

#[test]
fn a_broken_certificate_of_the_authority_is_written_again_from_its_key() {
    let disk = settled(&two());
    let (key, authority) = (authority_key(&disk), found(&disk).authority);
    let path = authority_file(folder());
    let good = disk.read(&path).unwrap();
    damage(&disk, &path, &good[..good.len() - 100]);
    let steps = planned(&disk, now(), &two());
    assert!(
        steps[0].starts_with("write the authority's certificate again, with the same key"),
        "{steps:?}"
    );
    ensure(&disk, folder(), now(), &two(), None).unwrap();
    assert_eq!(authority_key(&disk), key);
    let (Held::Whole(old), Held::Whole(new)) = (authority, found(&disk).authority) else {
        panic!("it is damaged");
    };
    assert_eq!(old.name, new.name);
    assert!(found(&disk).whole());
}

#[test]
fn a_name_outside_of_the_authoritys_is_refused_and_the_others_are_issued() {
    let disk = Model::default();
    let mut all = wanted(&[
        ("web.tls", &["home.example", "203.0.113.5"]),
        ("db.tls", &["db.box.internal"]),
        ("none", &[]),
    ]);
    all.certificates.insert("../web".into(), names(&["box.local"]));
    let steps = ensure(&disk, folder(), now(), &all, None).unwrap();
    let refused: Vec<String> = steps.iter().filter_map(Step::refusal).collect();
    assert_eq!(
        refused,
        [
            "no certificate for ../web: a use is lower case letters, digits, `-`, `@` and `.`",
            "no certificate for none: it has no name",
            "no certificate for web.tls: the authority is for box.internal, box.local, home.example and private addresses, and not \
             for 203.0.113.5; import a certificate for it",
        ]
    );
    assert_eq!(found(&disk).certificates.len(), 1);
    let wrong = Wanted {
        domain: Some("com".into()),
        ..two()
    };
    let steps = ensure(&disk, folder(), now(), &wrong, None).unwrap();
    assert!(
        steps[0]
            .refusal()
            .unwrap()
            .contains("`com` is not a domain of your own"),
        "{steps:?}"
    );
}

#[test]
fn the_authoritys_certificate_is_given_without_its_key() {
    let disk = settled(&two());
    let text = authority_certificate(&disk, folder()).unwrap().unwrap();
    assert!(
        text.starts_with("-----BEGIN CERTIFICATE-----\n") && !text.contains("PRIVATE"),
        "{text}"
    );
    assert_eq!(authority_certificate(&Model::default(), folder()).unwrap(), None);
}

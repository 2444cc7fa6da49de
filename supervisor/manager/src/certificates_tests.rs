use super::*;
use crate::testing::manifest;

const WEB: &str = r#"{"secrets":{"tls":{"kind":"certificate"}},"network":{"mode":"bridge","publish":[{"port":443}]}}"#;
const DB: &str = r#"{"secrets":{"tls":{"kind":"certificate"}}}"#;

fn texts(names: &Names) -> Vec<String> {
    names.iter().map(AltName::to_string).collect()
}

fn of_web(config: &Config) -> Vec<String> {
    match &Found::read(&Real, &config.authority(), None).unwrap().certificates["web.tls"] {
        Held::Whole(facts) => texts(&facts.names),
        other => panic!("{other:?}"),
    }
}

/// Starts both units, at no address yet.
fn started() -> (tempfile::TempDir, Config, Manifest) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::below(dir.path());
    let manifest = manifest(&[("web", WEB), ("db", DB)]);
    for (name, unit) in &manifest.units {
        crate::secrets::refresh(&config, &manifest, name.as_str(), unit, "").unwrap();
    }
    (dir, config, manifest)
}

#[test]
fn a_certificate_has_the_names_by_which_the_unit_is_reached_and_no_public_address() {
    let manifest = manifest(&[("web@1", WEB), ("db", DB)]);
    let of = |name: &str, address: &str| texts(&names(&manifest, name, &manifest.units[name], address));
    assert_eq!(of("db", "192.168.1.5"), ["db.test.internal"]);
    assert_eq!(of("web@1", ""), ["test.local", "web-1.test.internal"]);
    assert_eq!(
        of("web@1", "192.168.1.5"),
        ["test.local", "web-1.test.internal", "192.168.1.5"]
    );
    assert_eq!(of("web@1", "203.0.113.5"), of("web@1", ""));
}

#[test]
fn another_address_disturbs_no_unit_and_is_taken_when_the_certificate_is_renewed_or_the_unit_starts() {
    let (_dir, config, manifest) = started();
    assert_eq!(check(&config, &manifest, "10.0.0.5", false), Checked::default());
    assert_eq!(of_web(&config), ["test.local", "web.test.internal"]);
    let then = now(&manifest) - std::time::Duration::from_secs(25 * 86_400);
    pki::ensure(&Real, &config.authority(), then, &wanted(&manifest, ""), None).unwrap();
    // Not started in this boot: what it sees at its start is made then.
    std::fs::remove_dir_all(config.shown_secrets("web")).unwrap();
    let checked = check(&config, &manifest, "10.0.0.5", false);
    assert!(!config.shown_secrets("web").exists());
    assert_eq!(checked.changed, ["db".to_owned(), "web".to_owned()].into());
    assert_eq!(of_web(&config), ["test.local", "web.test.internal", "10.0.0.5"]);
    // An address that has gone is no reason either; another one is at a start.
    assert_eq!(check(&config, &manifest, "", false), Checked::default());
    crate::secrets::refresh(&config, &manifest, "web", &manifest.units["web"], "10.0.0.6").unwrap();
    assert_eq!(of_web(&config), ["test.local", "web.test.internal", "10.0.0.6"]);
}

#[test]
fn a_check_leaves_units_alone_that_have_not_started_and_removes_what_no_unit_has() {
    let (dir, config, manifest) = started();
    let more = crate::testing::manifest(&[("web", WEB), ("new", DB)]);
    let checked = check(&config, &more, "", false);
    assert_eq!(checked.changed, BTreeSet::new());
    assert_eq!(checked.done, ["remove db.tls: nothing wants it any more"]);
    assert_eq!(checked.failed, [""; 0]);
    // Before anything was started there is nothing to look at.
    let other = Config::below(&dir.path().join("other"));
    assert_eq!(check(&other, &manifest, "", false), Checked::default());
    assert!(!other.authority().exists());
}

#[test]
fn a_unit_that_is_bound_sees_the_authority_and_one_with_a_secret_of_that_name_sees_its_own() {
    let (_dir, config, _) = started();
    let needs = r#"{"needs":{"db":"sql"}}"#;
    let own = r#"{"secrets":{"ca":{},"tls":{"kind":"certificate"}}}"#;
    let db = r#"{"provides":{"sql":{"kind":"database","port":3306}}}"#;
    let manifest = manifest(&[("web", needs), ("own", own), ("db", db)]);
    let seen = |name: &str| crate::secrets::secrets(&config, &manifest, name, &manifest.units[name], "", true).unwrap();
    assert!(seen("web")["ca"].starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(seen("own")["ca"].len(), 32);
    assert!(seen("db").is_empty());
}

#[test]
fn the_clock_is_never_taken_to_be_before_the_image_was_built() {
    let mut manifest = manifest(&[("db", DB)]);
    assert!(now(&manifest) <= crate::clock::timestamp());
    manifest.built = 40_000_000_000;
    assert_eq!(now(&manifest).as_second(), 40_000_000_000);
}

/// A certificate that somebody else issued, from a year ago for so many days, with its key.
fn foreign(names: &[&str], days: u64) -> String {
    let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut wanted = rcgen::CertificateParams::new(all).unwrap();
    let begun = std::time::SystemTime::now() - std::time::Duration::from_secs(365 * 86_400);
    wanted.not_before = begun.into();
    wanted.not_after = (begun + std::time::Duration::from_secs(days * 86_400)).into();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    key.serialize_pem() + &wanted.self_signed(&key).unwrap().pem()
}

fn import(config: &Config, pem: &str) -> String {
    let taken = pki::examine(pem, &Names::new()).unwrap();
    pki::keep_imported(&Real, &config.imported(), &taken).unwrap()
}

/// As [`started`], in a domain.
fn in_a_domain() -> (tempfile::TempDir, Config, Manifest) {
    let (dir, config, mut manifest) = started();
    manifest.domain = Some("home.example".parse().unwrap());
    check(&config, &manifest, "", false);
    (dir, config, manifest)
}

fn seen(config: &Config, file: &str) -> String {
    std::fs::read_to_string(config.shown_secrets("web").join(file)).unwrap()
}

#[test]
fn in_a_domain_a_published_unit_has_a_certificate_for_it_and_others_have_not() {
    let (_dir, config, manifest) = in_a_domain();
    let own = ["home.example", "test.local", "web.home.example", "web.test.internal"];
    assert_eq!(of_web(&config), own);
    let db = names(&manifest, "db", &manifest.units["db"], "10.0.0.5");
    assert_eq!(texts(&db), ["db.test.internal"]);
}

#[test]
fn an_imported_certificate_is_shown_outside_and_the_authoritys_to_other_units() {
    let (_dir, config, manifest) = in_a_domain();
    let own = seen(&config, "tls");
    assert_eq!(seen(&config, "tls.internal"), own);
    let pem = foreign(&["home.example"], 400);
    let id = import(&config, &pem);
    let checked = check(&config, &manifest, "", false);
    assert_eq!(checked.changed, ["web".to_owned()].into());
    assert_eq!(checked.failed, [""; 0]);
    assert!(
        checked.done[0].starts_with(&format!("web shows the imported certificate {id}, of ")),
        "{checked:?}"
    );
    assert_eq!(
        (seen(&config, "tls"), seen(&config, "tls.internal")),
        (pem, own.clone())
    );
    // Looked at again, nobody is disturbed; nor by a start.
    assert_eq!(check(&config, &manifest, "", false), Checked::default());
    crate::secrets::refresh(&config, &manifest, "web", &manifest.units["web"], "").unwrap();
    assert_eq!(check(&config, &manifest, "", false), Checked::default());
    // Renewed by whoever issues it: the unit is told.
    let next = foreign(&["home.example"], 500);
    assert_eq!(import(&config, &next), id);
    assert_eq!(check(&config, &manifest, "", false).changed, ["web".to_owned()].into());
    assert_eq!(seen(&config, "tls"), next);
    // Removed: the authority's again.
    assert!(pki::remove_imported(&Real, &config.imported(), &id).unwrap());
    let checked = check(&config, &manifest, "", false);
    assert_eq!(checked.done, ["web shows the authority's certificate again"]);
    assert_eq!(seen(&config, "tls"), own);
}

#[test]
fn an_imported_certificate_that_has_ended_or_is_damaged_is_not_shown_and_the_owner_is_told() {
    let (_dir, config, manifest) = in_a_domain();
    let own = seen(&config, "tls");
    let id = import(&config, &foreign(&["home.example"], 300));
    let checked = check(&config, &manifest, "", false);
    assert_eq!(checked.changed, BTreeSet::new());
    assert!(
        checked.failed[0].starts_with(&format!("the imported certificate {id} ended on ")),
        "{checked:?}"
    );
    std::fs::write(config.imported().join("x-00.pem"), "half").unwrap();
    let told = check(&config, &manifest, "", false).failed;
    assert!(
        told[1].starts_with("the imported certificate x-00 cannot be used: "),
        "{told:?}"
    );
    assert_eq!(seen(&config, "tls"), own);
}

#[test]
fn a_certificate_for_other_names_is_shown_by_nobody_and_a_unit_of_that_name_shows_its_own() {
    let (_dir, config, manifest) = in_a_domain();
    import(&config, &foreign(&["other.example", "db.home.example"], 400));
    assert_eq!(check(&config, &manifest, "", false), Checked::default());
    import(&config, &foreign(&["*.home.example"], 400));
    assert_eq!(check(&config, &manifest, "", false).changed, ["web".to_owned()].into());
    let both = foreign(&["home.example", "web.home.example"], 380);
    import(&config, &both);
    check(&config, &manifest, "", false);
    assert_eq!(seen(&config, "tls"), both);
}

#[test]
fn with_the_authoritys_key_lost_a_unit_that_shows_an_imported_certificate_starts_all_the_same() {
    let (_dir, config, mut manifest) = started();
    manifest.domain = Some("home.example".parse().unwrap());
    std::fs::write(config.authority().join("authority.pem"), "damaged").unwrap();
    std::fs::remove_file(config.authority().join("issued/web.tls.pem")).unwrap();
    let start = || crate::secrets::refresh(&config, &manifest, "web", &manifest.units["web"], "");
    assert!(start().is_err());
    let pem = foreign(&["home.example"], 400);
    import(&config, &pem);
    start().unwrap();
    assert_eq!(seen(&config, "tls"), pem);
}

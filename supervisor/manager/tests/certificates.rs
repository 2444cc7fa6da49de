//! Certificates of the appliance's own authority: issued before a unit starts, renewed while it runs, and never in its way. And those
//! that somebody else issued, as they come to units.

mod fake_init;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use cairn_config::pki::{self, Found, Held, Wanted};
use cairn_config::{Real, Timestamp};
use fake_init::World;
use serde_json::Value;

const WEB: &str = r#"{"service":{"command":["/fake-service","ready"],"reload":"notify"},"ready":{"when":"notify"},
    "secrets":{"tls":{"kind":"certificate"}},"needs":{"db":"sql"},"network":{"publish":[{"port":443}]}}"#;
const DB: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"},
    "secrets":{"tls":{"kind":"certificate"},"admin":{}},"provides":{"sql":{"kind":"database","port":3306}}}"#;
const PLAIN: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#;

fn units() -> [(&'static str, &'static str); 3] {
    [("db", DB), ("plain", PLAIN), ("web", WEB)]
}

fn ready(world: &mut World) {
    world.until("ready", |w| {
        ["db", "plain", "web"].iter().all(|unit| w.state(unit) == "ready")
    });
}

fn listed(world: &World) -> Value {
    let mut text = String::new();
    world.open("/v1/certificates").read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn authority(world: &World) -> PathBuf {
    world.at("data/secrets/.ca")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Makes the certificates as old as if they had been issued so long ago.
fn age(world: &World, days: i64) {
    let found = Found::read(&Real, &authority(world), None).unwrap();
    let names = |held: &Held<pki::Facts>| match held {
        Held::Whole(facts) => facts.names.clone(),
        other => panic!("{other:?}"),
    };
    let wanted = Wanted {
        appliance: "test".into(),
        certificates: found
            .certificates
            .iter()
            .map(|(of, held)| (of.clone(), names(held)))
            .collect(),
        ..Wanted::default()
    };
    let then = Timestamp::now() - std::time::Duration::from_secs(u64::try_from(days).unwrap() * 86_400);
    let steps = pki::ensure(&Real, &authority(world), then, &wanted, None).unwrap();
    assert_eq!(steps.len(), found.certificates.len(), "{steps:?}");
}

#[test]
fn a_unit_has_its_certificate_and_the_authoritys_before_it_starts() {
    let mut world = World::prepared(&units(), |at| {
        // As an earlier version left it.
        std::fs::create_dir_all(at.join("data/secrets/web")).unwrap();
        std::fs::write(at.join("data/secrets/web/tls"), "signed by itself").unwrap();
    });
    ready(&mut world);
    let shown = |unit: &str| {
        let folder = std::fs::read_dir(world.at("run/cairn/secrets").join(unit));
        let mut names: Vec<String> = folder
            .map(|all| all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    assert_eq!(shown("web"), ["ca", "tls", "tls.internal"]);
    assert_eq!(shown("db"), ["admin", "ca", "tls"]);
    assert_eq!(shown("plain"), [""; 0]);
    assert_eq!(
        read(world.at("run/cairn/secrets/web/tls")),
        read(authority(&world).join("issued/web.tls.pem"))
    );
    let all = listed(&world);
    assert_eq!(all["authority"]["pem"], read(world.at("run/cairn/secrets/db/ca")));
    assert!(!read(world.at("run/cairn/secrets/db/ca")).contains("PRIVATE"));
    let certificates = all["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 2);
    assert_eq!(certificates[0]["names"], serde_json::json!(["db.test.internal"]));
    assert_eq!(
        certificates[1]["names"],
        serde_json::json!(["test.local", "web.test.internal"])
    );
    for one in certificates {
        assert_eq!(one["issuer"], all["authority"]["name"]);
        assert_eq!(one["due"], Value::Null);
    }
    assert_eq!(all["errors"], serde_json::json!([]));
    assert!(!world.at("data/secrets/web/tls").exists());
    assert!(world.at("data/secrets/db/admin").exists());
}

#[test]
fn a_certificate_that_ends_soon_is_renewed_and_the_unit_reloads_or_is_restarted() {
    let mut world = World::new(&units());
    ready(&mut world);
    age(&world, 25);
    let due = listed(&world)["certificates"][0]["due"].as_str().unwrap().to_owned();
    assert!(due.starts_with("renew db.tls until "), "{due}");
    let (before, old) = (world.pids(), read(world.at("run/cairn/secrets/web/tls")));
    let ca = read(world.at("run/cairn/secrets/web/ca"));
    world.post("/v1/certificates/renew");
    world.until("reloaded", |w| w.log("web").contains("reloading"));
    world.until("restarted", |w| {
        w.pids()["db"] != before["db"] && w.state("db") == "ready"
    });
    ready(&mut world);
    assert_eq!(world.pids()["web"], before["web"]);
    assert_eq!(world.pids()["plain"], before["plain"]);
    let new = read(world.at("run/cairn/secrets/web/tls"));
    assert_ne!(new, old);
    assert_eq!(new, read(authority(&world).join("issued/web.tls.pem")));
    assert_eq!(read(world.at("run/cairn/secrets/web/ca")), ca);
    assert_eq!(listed(&world)["certificates"][0]["due"], Value::Null);
    assert!(
        world.console().contains("Certificates: renew web.tls until "),
        "{}",
        world.console()
    );
}

#[test]
fn a_lost_authority_stops_no_unit_that_has_a_certificate_and_is_replaced_when_that_is_asked_for() {
    let mut world = World::new(&units());
    ready(&mut world);
    let kept = read(authority(&world).join("issued/db.tls.pem"));
    std::fs::write(authority(&world).join("authority.pem"), "broken").unwrap();
    std::fs::remove_file(authority(&world).join("issued/web.tls.pem")).unwrap();
    let old = world.pids();
    world.post("/v1/units/db/restart");
    world.until("db is back", |w| {
        w.pids()["db"] != old["db"] && w.state("db") == "ready"
    });
    assert_eq!(read(world.at("run/cairn/secrets/db/tls")), kept);
    // The one that has none is told why.
    world.post("/v1/units/web/restart");
    world.until("web fails", |w| {
        let reason = w.unit("web")["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("the certificate authority's key is lost") && reason.contains("backup")
    });
    let all = listed(&world);
    assert_eq!(all["authority"], Value::Null);
    assert!(all["errors"][0].as_str().unwrap().contains("key is lost"), "{all}");
    assert_eq!(read(authority(&world).join("authority.pem")), "broken");
    let old = world.pids();
    world.post("/v1/certificates/replace-authority");
    world.until("db has another", |w| {
        w.pids()["db"] != old["db"] && w.state("db") == "ready"
    });
    world.post("/v1/units/web/start");
    ready(&mut world);
    let all = listed(&world);
    assert_eq!(all["errors"], serde_json::json!([]));
    assert_eq!(all["certificates"][0]["issuer"], all["authority"]["name"]);
    assert_eq!(all["authority"]["pem"], read(world.at("run/cairn/secrets/web/ca")));
}

const MAIL: &str = r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"},
    "secrets":{"tls":{"kind":"certificate"}},"network":{"publish":[{"port":25}]}}"#;

/// An appliance in the domain `home.example`, with two units that are reached from outside: one can reload.
fn in_a_domain() -> World {
    let mut world = World::prepared(&[("db", DB), ("mail", MAIL), ("web", WEB)], |at| {
        std::fs::create_dir_all(at.join("data/site")).unwrap();
        let site = "[appliance]\nname = \"test\"\ndomain = \"home.example\"\n";
        std::fs::write(at.join("data/site/site.toml"), site).unwrap();
    });
    all_ready(&mut world);
    world
}

fn all_ready(world: &mut World) {
    world.until("ready", |w| {
        ["db", "mail", "web"].iter().all(|unit| w.state(unit) == "ready")
    });
}

/// A certificate that somebody else issued, which begins so many days from now and lasts for 90, and its key.
fn foreign(names: &[&str], begins: i64) -> (String, String) {
    let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut wanted = rcgen::CertificateParams::new(all).unwrap();
    let day = |days: i64| {
        let seconds = Timestamp::now().as_second() + days * 86_400;
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(u64::try_from(seconds).unwrap())
    };
    (wanted.not_before, wanted.not_after) = (day(begins), day(begins + 90));
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "Somebody");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    (key.serialize_pem(), wanted.self_signed(&key).unwrap().pem())
}

fn import(world: &World, pem: &str) -> (u16, Value) {
    let body = serde_json::json!({ "pem": pem }).to_string();
    world.ask_with("POST", "/v1/certificates/imported", &body).unwrap()
}

fn shown(world: &World, unit: &str, file: &str) -> String {
    read(world.at("run/cairn/secrets").join(unit).join(file))
}

#[test]
fn an_imported_certificate_and_each_renewal_of_it_reach_the_units_that_need_it_and_no_others() {
    let mut world = in_a_domain();
    let own = shown(&world, "web", "tls");
    let mut pids = world.pids();
    for (reloads, begins) in [(1, -60), (2, -1)] {
        let (key, chain) = foreign(&["home.example", "mail.home.example"], begins);
        let (status, told) = import(&world, &(chain.clone() + &key));
        assert_eq!(status, 200, "{told}");
        assert_eq!(told["used_by"], serde_json::json!(["mail", "web"]));
        assert_eq!(
            (told["issuer"].as_str(), &told["unused"]),
            (Some("Somebody"), &Value::Null)
        );
        assert!(!told.to_string().contains("PRIVATE"));
        world.until("reloaded", |w| w.log("web").matches("reloading").count() == reloads);
        world.until("restarted", |w| {
            w.pids()["mail"] != pids["mail"] && w.state("mail") == "ready"
        });
        all_ready(&mut world);
        // One that can reload goes on running, and one that is not reached from outside is left alone.
        for unit in ["web", "db"] {
            assert_eq!(world.pids()[unit], pids[unit], "{unit}");
        }
        for unit in ["web", "mail"] {
            assert_eq!(shown(&world, unit, "tls"), key.clone() + &chain, "{unit}");
        }
        assert_eq!(shown(&world, "web", "tls.internal"), own);
        pids = world.pids();
    }
    // It was for the same names, so it took the place of the first.
    let all = listed(&world);
    assert_eq!(all["imported"].as_array().unwrap().len(), 1);
    let id = all["imported"][0]["id"].as_str().unwrap();
    assert_eq!(all["certificates"][2]["imported"], id);
    assert_eq!(all["certificates"][0]["imported"], Value::Null);
    // The key is for root alone.
    use std::os::unix::fs::PermissionsExt as _;
    let kept = world.at(&format!("data/secrets/.imported/{id}.pem"));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o600);

    // A manager that comes later finds the same.
    world.kill_manager();
    world.until("another manager", |w| w.state("web") == "ready");
    assert_eq!(listed(&world)["imported"][0]["id"], id);
    world.post(&format!("/v1/certificates/imported/remove?id={id}"));
    world.until("the authority's again", |w| shown(w, "web", "tls") == own);
    assert!(!kept.exists());
    let (status, _) = world
        .ask_with("POST", "/v1/certificates/imported/remove?id=../.ca/authority", "")
        .unwrap();
    assert_eq!(status, 404);
}

#[test]
fn what_cannot_be_used_is_refused_with_a_sentence_and_nothing_is_kept() {
    let world = in_a_domain();
    let ((key, chain), (other, _)) = (foreign(&["home.example"], -1), foreign(&["home.example"], -1));
    let (late_key, late) = foreign(&["home.example"], 10);
    let (old_key, old) = foreign(&["home.example"], -100);
    for (pem, why) in [
        (chain.clone(), "it has no private key"),
        (
            chain.clone() + &other,
            "the private key belongs to none of the certificates",
        ),
        (late_key + &late, "certificate 1 begins on "),
        (old_key + &old, "certificate 1 ended on "),
        ("x".into(), "there is nothing in PEM in it"),
    ] {
        let (status, told) = import(&world, &pem);
        assert_eq!(status, 422, "{told}");
        assert!(told["error"].as_str().unwrap().starts_with(why), "{told}");
    }
    assert_eq!(
        world.ask_with("POST", "/v1/certificates/imported", "{}").unwrap().0,
        400
    );
    assert_eq!(listed(&world)["imported"], serde_json::json!([]));
    assert!(!world.at("data/secrets/.imported").exists());
    // What is for other names is kept, and says that nobody shows it.
    let (foreign_key, elsewhere) = foreign(&["other.example"], -1);
    let (status, told) = import(&world, &(foreign_key + &elsewhere));
    assert_eq!((status, &told["used_by"]), (200, &serde_json::json!([])));
    let why = told["unused"].as_str().unwrap();
    assert!(
        why.contains("is reached as home.example and UNIT.home.example"),
        "{why}"
    );
    drop(key);
}

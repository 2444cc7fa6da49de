//! Certificates of the appliance's own authority: issued before a unit starts, renewed while it runs, and never in its way.

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
    assert_eq!(shown("web"), ["ca", "tls"]);
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

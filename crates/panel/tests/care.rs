//! Looking after the appliance: what a device needs to trust it, the diagnosis, and the file for somebody who helps.

mod common;

use std::io::Read as _;

use cairn_panel::secret;
use common::slapd::Slapd;
use common::{PASSWORD, Panel};

#[tokio::test]
async fn whoever_opens_the_panel_can_get_the_authoritys_certificate_and_nothing_else() {
    let panel = Panel::new().await;
    let mut anybody = panel.browser();
    // Before the setup too: then the browser warns for the first time.
    let page = anybody.get("/trust").await;
    assert_eq!(page.status, 200);
    for what in [
        "3F:<wbr>A1:<wbr>77:<wbr>0C",
        "birch.internal",
        "Windows",
        "iPhone",
        "Android",
        "Firefox",
    ] {
        page.says(what);
    }
    let file = anybody.get("/trust/cairn-ca.crt").await;
    assert_eq!(
        (file.status, file.headers["content-type"].to_str().unwrap()),
        (200, "application/x-x509-ca-cert")
    );
    assert!(file.text.starts_with("-----BEGIN CERTIFICATE-----") && !file.text.contains("PRIVATE"));
    let profile = anybody.get("/trust/cairn-ca.mobileconfig").await;
    assert_eq!(profile.headers["content-type"], "application/x-apple-aspen-config");
    profile.says("com.apple.security.root");
    for path in ["/trust/tls", "/trust/..%2ftls"] {
        assert_eq!(anybody.get(path).await.status, 404, "{path}");
    }
    anybody.get("/trust?lang=de").await;
    anybody.get("/trust").await.says("Fingerabdruck");
}

#[tokio::test]
async fn the_diagnosis_says_what_is_wrong_and_what_to_do_in_both_languages() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    panel.manager.told.lock().unwrap().settled = true;
    let page = owner.get("/diagnosis").await;
    for what in [
        "valkey has failed: it ended with exit code 1",
        "Read the end of its log",
        "The address is 192.168.1.20.",
        "443&#x2f;tcp (caddy)",
        "This appliance runs no directory",
    ] {
        page.says(what);
    }
    // The worst stands first.
    let at = |what: &str| page.text.find(what).unwrap_or_else(|| panic!("{what}"));
    assert!(at("valkey has failed") < at("is due") && at("is due") < at("The address is"));
    owner.get("/diagnosis?lang=de").await;
    owner.get("/diagnosis").await.says("valkey ist gescheitert");
}

#[tokio::test]
async fn the_diagnosis_opens_without_the_manager_and_without_the_directory() {
    let Some(mut slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.get("/diagnosis").await.says("The directory answers.");
    slapd.stop();
    owner.get("/diagnosis").await.says("The directory cannot be asked");
    std::fs::remove_file(&panel.settings.control).unwrap();
    let page = owner.get("/diagnosis").await;
    assert_eq!(page.status, 200);
    page.says("The manager does not answer.");
}

fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    files.collect()
}

#[tokio::test]
async fn no_secret_of_the_store_or_the_site_is_in_the_file_for_who_helps() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    let code = owner.make_code("bob").await;
    // An authenticator, and a token for programs.
    let page = owner.get("/account/totp").await;
    let (_, rest) = page.text.split_once("name=\"secret\" value=\"").unwrap();
    let totp = rest.split('"').next().unwrap().to_owned();
    let step = u64::try_from(cairn_panel::store::now()).unwrap() / 30;
    let now = format!("{:06}", secret::totp_code(&totp, step).unwrap());
    assert_eq!(
        owner
            .post("/account/totp", &[("secret", &totp), ("code", &now)])
            .await
            .status,
        303
    );
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", "home"), ("scope", "own")]).await;
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    let token = format!("cairn_{}", rest.split('<').next().unwrap());
    let cookie = owner.cookies["__Host-session"].clone();
    let directory = std::fs::read_to_string(panel.settings.state.join("directory-password")).unwrap();
    let key = std::fs::read_to_string(&panel.settings.tls).unwrap();
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo";
    // A careless service wrote all of them.
    let log = format!(
        "harmless: listening on 8080\nlogged in, password={PASSWORD:?}, cookie: {cookie}\ndirectory said {directory} was fine\n\
         code {code}\ntotp {totp} added\nGET / authorization: Bearer {token}\nmade {token}\nkept {hash}\n{key}\nmysql://wiki:Vq3site@db/wiki\n"
    );
    {
        let mut told = panel.manager.told.lock().unwrap();
        (told.log, told.settled) = (log, true);
    }
    let bytes = owner.bytes("/diagnosis/support").await;
    let files = unpacked(&bytes);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "README.txt",
        "status.json",
        "diagnosis.json",
        "versions.txt",
        "site-history.json",
        "logs/wiki.log",
        "logs/slapd.log",
    ] {
        assert!(names.contains(&format!("cairn-support/{name}").as_str()), "{names:?}");
    }
    let (_, certificates) = files
        .iter()
        .find(|(name, _)| name.ends_with("certificates.json"))
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(certificates).unwrap()["certificates"][0]["secret"],
        "tls"
    );
    let all: String = files.into_iter().map(|(_, text)| text).collect();
    assert!(all.contains("harmless: listening on 8080") && all.contains("code 1, five times in a row"));
    let key: String = key.lines().nth(1).unwrap().to_owned();
    for (what, secret) in [
        ("password", PASSWORD),
        ("cookie", &cookie),
        ("directory", &directory),
        ("totp", &totp),
        ("token", &token),
        ("hash", hash),
        ("key", &key),
        ("address", "Vq3site"),
    ] {
        assert!(secret.len() >= 6 && !all.contains(secret), "{what}: {secret}\n{all}");
    }
    // What nobody could name in advance: a code is known by its form.
    assert!(!all.contains(&code), "{code}");
    // It is on nobody's record but the panel's own: who took it stands in the log.
    assert_eq!(panel.browser().get("/diagnosis/support").await.location, "/login");
}

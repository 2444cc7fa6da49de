//! Passkeys: how they are added, what they open, and what is not believed of them.

mod common;

use cairn_panel::secret;
use common::authenticator::{Authenticator, added, asked, begun, field, log_in, pairs};
use common::{PASSWORD, Panel};
use serde_json::Value;

const REFUSED: &str = "That passkey was not accepted.";

/// Why a use or a making is refused, and what is wrong with it.
type Spoil = (&'static str, fn(&mut Authenticator));

#[tokio::test]
async fn a_passkey_stands_for_password_and_code_and_is_told_in_the_audit_log() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    // Nobody has one yet, so the login page does not speak of it.
    assert!(!panel.browser().get("/login").await.text.contains("passkey"));
    let options = begun(&mut owner, "My phone").await;
    assert_eq!(options["rp"]["id"], "localhost");
    assert_eq!(options["user"]["name"], "ada");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert!(!options["user"]["id"].as_str().unwrap().contains("ada"));
    let mut phone = added(&mut owner, "My phone").await;
    // The next one is told what is there, and that it is the same account.
    let options = begun(&mut owner, "Another").await;
    assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
    assert_eq!(Authenticator::new(&options).handle, phone.handle);
    let page = owner.get("/account").await;
    for what in ["My phone", "never used", "action=\"/account/passkeys/remove\""] {
        page.says(what);
    }
    // With an authenticator, too.
    let (totp, code) = code_of(&owner.get("/account/totp").await.text);
    let page = owner.post("/account/totp", &[("secret", &totp), ("code", &code)]).await;
    assert_eq!(page.location, "/account?said=totp-on");

    let mut browser = panel.browser();
    browser.get("/login").await.says("Log in with a passkey");
    let before = browser.cookies.clone();
    phone.counter = 1;
    assert_eq!(log_in(&mut browser, &phone).await.location, "/");
    assert_ne!(browser.cookies, before, "another session, another cookie");
    assert_eq!(browser.get("/").await.status, 200);
    assert!(!browser.get("/account").await.text.contains("never used"));
    let log = browser.get("/audit").await;
    log.says("the passkey “My phone” was added");
    log.says("ada logged in by the passkey “My phone”");
    // What was before the login is worth nothing.
    let mut old = panel.browser();
    old.cookies = before;
    assert_eq!(old.get("/").await.location, "/login");
}

fn code_of(text: &str) -> (String, String) {
    let (_, rest) = text.split_once("name=\"secret\" value=\"").unwrap();
    let secret = rest.split('"').next().unwrap().to_owned();
    let step = u64::try_from(cairn_panel::store::now()).unwrap() / 30;
    let code = format!("{:06}", secret::totp_code(&secret, step).unwrap());
    (secret, code)
}

#[tokio::test]
async fn a_passkey_is_added_and_removed_with_the_password_only() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for (name, current, status, why) in [
        ("My phone", "a guess", 403, "That is not your current password."),
        ("My phone", "", 403, "That is not your current password."),
        (" ", PASSWORD, 400, "Give the passkey a name"),
        (&"x".repeat(65), PASSWORD, 400, "Give the passkey a name"),
    ] {
        owner.get("/account").await;
        let page = owner
            .post("/account/passkeys/begin", &[("name", name), ("current", current)])
            .await;
        assert_eq!(page.status, status, "{name}");
        let told: Value = serde_json::from_str(&page.text).unwrap();
        assert!(told["error"].as_str().unwrap().contains(why), "{}", page.text);
        // Nothing was given by which one could be added.
        assert!(told.get("challenge").is_none());
    }
    let phone = added(&mut owner, "My phone").await;
    let id = data_encoding::BASE64URL_NOPAD.encode(&phone.id);
    for (current, status) in [("a guess", 403), (PASSWORD, 303), (PASSWORD, 404)] {
        owner.get("/account").await;
        let page = owner
            .post("/account/passkeys/remove", &[("id", &id), ("current", current)])
            .await;
        assert_eq!(page.status, status, "{}", page.text);
    }
    owner.get("/audit").await.says("the passkey “My phone” was removed");
    let mut browser = panel.browser();
    assert_eq!(log_in(&mut browser, &phone).await.status, 403);
}

#[tokio::test]
async fn what_is_not_made_for_the_panels_own_page_is_not_added() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let spoil: [Spoil; 4] = [
        ("another site", |one| one.origin = "https://localhost.example".into()),
        ("belongs to another name", |one| one.party = "localhost.example".into()),
        ("not unlocked", |one| one.flags = 1),
        ("nobody was there", |one| one.flags = 0),
    ];
    for (why, spoil) in spoil {
        let options = begun(&mut owner, "My phone").await;
        let mut one = Authenticator::new(&options);
        let right = one.clone();
        spoil(&mut one);
        let page = owner.post("/account/passkeys", &pairs(&one.made(&options))).await;
        assert_eq!(page.status, 403, "{why}");
        page.says("That passkey was not added.");
        owner.get("/audit").await.says(why);
        // The challenge was used up by it.
        owner.get("/account").await;
        let page = owner.post("/account/passkeys", &pairs(&right.made(&options))).await;
        assert_eq!(page.status, 403, "{why}");
    }
    // One for the login is none for a new passkey; and one that is there cannot be added again.
    let options = begun(&mut owner, "My phone").await;
    let one = Authenticator::new(&options);
    assert_eq!(
        owner
            .post("/account/passkeys", &pairs(&one.made(&options)))
            .await
            .status,
        303
    );
    let page = owner.get("/login/passkey").await;
    let other: Value = serde_json::from_str(&page.text).unwrap();
    owner.get("/account").await;
    assert_eq!(
        owner.post("/account/passkeys", &pairs(&one.made(&other))).await.status,
        403
    );
    let options = begun(&mut owner, "Twice").await;
    let page = owner.post("/account/passkeys", &pairs(&one.made(&options))).await;
    assert_eq!(page.status, 409);
    assert!(!owner.get("/account").await.text.contains("Twice"));
}

#[tokio::test]
async fn a_use_that_is_not_meant_for_this_login_is_refused_and_told() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut phone = added(&mut owner, "My phone").await;
    phone.counter = 7;
    let spoil: [Spoil; 7] = [
        ("another site", |one| one.origin = "https://localhost:9443".into()),
        ("another site", |one| one.origin = "http://localhost".into()),
        ("belongs to another name", |one| one.party = "localhost.example".into()),
        ("not unlocked", |one| one.flags = 1),
        ("nobody was there", |one| one.flags = 0b100),
        ("another account", |one| one.handle = vec![1; 32]),
        ("nobody has it", |one| one.id = vec![1; 32]),
    ];
    for (why, spoil) in spoil {
        let mut one = phone.clone();
        spoil(&mut one);
        let mut browser = panel.browser();
        let page = log_in(&mut browser, &one).await;
        assert_eq!(page.status, 403, "{why}");
        page.says(REFUSED);
        assert_eq!(browser.get("/").await.location, "/login", "{why}");
        owner.get("/audit").await.says(why);
        // Who gets in is not slowed down by those before.
        assert_eq!(panel.browser().log_in(PASSWORD).await.location, "/");
    }
    // Nothing of it has been kept: the right use is still good.
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
}

#[tokio::test]
async fn a_use_is_good_once_and_a_counter_that_goes_back_is_a_copy() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut phone = added(&mut owner, "My phone").await;
    phone.counter = 5;
    let mut browser = panel.browser();
    let options = asked(&mut browser).await;
    let fields = phone.used(&options);
    let cookies = browser.cookies.clone();
    assert_eq!(browser.post("/login/passkey", &pairs(&fields)).await.location, "/");
    // The same again: of the same browser before its login, and of another with a challenge of its own.
    let mut again = panel.browser();
    again.cookies = cookies;
    again.get("/login").await;
    let page = again.post("/login/passkey", &pairs(&fields)).await;
    assert_eq!(page.status, 403, "{}", page.text);
    owner
        .get("/audit")
        .await
        .says("refused: it does not answer the challenge that was given");
    let mut third = panel.browser();
    asked(&mut third).await;
    assert_eq!(third.post("/login/passkey", &pairs(&fields)).await.status, 403);
    for counter in [5, 4, 0] {
        phone.counter = counter;
        assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403, "{counter}");
    }
    owner.get("/audit").await.says("its counter went back");
    phone.counter = 6;
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
}

#[tokio::test]
async fn a_challenge_is_of_one_browser() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let phone = added(&mut owner, "My phone").await;
    let (mut one, mut other) = (panel.browser(), panel.browser());
    let options = asked(&mut one).await;
    let fields = phone.used(&options);
    // Neither with a challenge of its own nor without.
    for with in [false, true] {
        match with {
            true => drop(asked(&mut other).await),
            false => drop(other.get("/login").await),
        }
        let page = other.post("/login/passkey", &pairs(&fields)).await;
        assert_eq!(page.status, 403);
        page.says(REFUSED);
    }
    // Nor with a form of another page.
    let bare = panel.browser().post_bare("/login/passkey", &pairs(&fields)).await;
    assert_eq!(bare.status, 403);
    assert_eq!(one.post("/login/passkey", &pairs(&fields)).await.location, "/");
    // One for making a passkey is none for a login.
    let options = begun(&mut owner, "Another").await;
    let page = owner.post("/login/passkey", &pairs(&phone.used(&options))).await;
    assert_eq!(page.status, 403);
    // A second question takes the place of the first.
    let mut twice = panel.browser();
    let first = asked(&mut twice).await;
    asked(&mut twice).await;
    let fields = phone.used(&first);
    assert_eq!(twice.post("/login/passkey", &pairs(&fields)).await.status, 403);
}

#[tokio::test]
async fn messages_that_are_cut_off_or_no_messages_are_refused() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let phone = added(&mut owner, "My phone").await;
    for name in ["id", "client_data", "authenticator_data", "signature", "user_handle"] {
        for kept in [0, 1, 2] {
            let mut browser = panel.browser();
            let options = asked(&mut browser).await;
            let mut fields = phone.used(&options);
            let text = field(&mut fields, name);
            text.truncate(text.len() * kept / 3 / 4 * 4);
            let page = browser.post("/login/passkey", &pairs(&fields)).await;
            assert_eq!(page.status, 403, "{name} {kept}: {}", page.text);
            page.says(REFUSED);
        }
        assert_eq!(panel.browser().log_in(PASSWORD).await.location, "/");
    }
    for name in ["client_data", "attestation"] {
        for kept in [0, 1, 2] {
            let options = begun(&mut owner, "Another").await;
            let mut fields = Authenticator::new(&options).made(&options);
            let text = field(&mut fields, name);
            text.truncate(text.len() * kept / 3 / 4 * 4);
            let page = owner.post("/account/passkeys", &pairs(&fields)).await;
            assert_eq!(page.status, 403, "{name} {kept}");
            assert_eq!(panel.browser().log_in(PASSWORD).await.location, "/");
        }
    }
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
}

#[tokio::test]
async fn guessing_is_slowed_down_as_with_passwords() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut phone = added(&mut owner, "My phone").await;
    panel.browser().log_in(PASSWORD).await;
    phone.id = vec![1; 32];
    let mut statuses = Vec::new();
    for _ in 0..9 {
        statuses.push(log_in(&mut panel.browser(), &phone).await.status);
    }
    assert_eq!(statuses, [403, 403, 403, 403, 403, 403, 403, 403, 429]);
}

#[tokio::test]
async fn a_passkey_belongs_to_a_name_of_the_appliance_and_the_page_says_to_which() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let phone = added(&mut owner, "My phone").await;
    // Elsewhere is also the port of another service (the wiki's): there is another page.
    for host in [
        "192.168.1.20",
        "192.168.1.20:443",
        "[fd00::1]",
        "localhost:9443",
        "localhost.",
        "birch.example",
        "",
        "localhost:x",
    ] {
        let mut browser = panel.browser();
        browser.host = host.into();
        let page = browser.get("/login").await;
        page.says("A passkey belongs to a name.");
        page.says("localhost/login\"");
        assert!(!page.text.contains("data-passkey"), "{host}");
        assert_eq!(browser.get("/login/passkey").await.status, 409, "{host}");
        owner.host = host.into();
        owner.get("/account").await.says("localhost/account\"");
        let fields = [("name", "x"), ("current", PASSWORD)];
        assert_eq!(
            owner.post("/account/passkeys/begin", &fields).await.status,
            409,
            "{host}"
        );
        // A challenge that was given at the right name is not answered here.
        let mut browser = panel.browser();
        let options = asked(&mut browser).await;
        browser.host = host.into();
        let page = browser.post("/login/passkey", &pairs(&phone.used(&options))).await;
        assert_eq!(page.status, 403, "{host}");
        assert_eq!(panel.browser().log_in(PASSWORD).await.location, "/");
    }
    // A new one is taken where it was asked for.
    owner.host = "localhost".into();
    let options = begun(&mut owner, "Another").await;
    owner.host = "birch.local".into();
    let made = Authenticator::new(&options).made(&options);
    assert_eq!(owner.post("/account/passkeys", &pairs(&made)).await.status, 403);
    // At the appliance's other name it is none, even if an authenticator signed for it.
    let mut other = phone.clone();
    (other.party, other.origin) = ("birch.local".into(), "https://birch.local".into());
    let mut browser = panel.browser();
    browser.host = "birch.local".into();
    assert_eq!(log_in(&mut browser, &other).await.status, 403);
    let mut browser = panel.browser();
    browser.host = "LOCALHOST:443".into();
    assert_eq!(log_in(&mut browser, &phone).await.location, "/");
}

#[tokio::test]
async fn passkeys_work_at_a_forwarded_port_as_the_browser_sees_it() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.host = "localhost:18443".into();
    let options = begun(&mut owner, "My phone").await;
    assert_eq!(options["rp"]["id"], "localhost");
    let mut phone = Authenticator::new(&options);
    // Not of another page of that name, and not of the panel's own port, since that was not asked for.
    for origin in [
        "https://localhost",
        "https://localhost:9443",
        "http://localhost:18443",
        "https://birch.local:18443",
    ] {
        let options = begun(&mut owner, "My phone").await;
        phone.origin = origin.into();
        let page = owner.post("/account/passkeys", &pairs(&phone.made(&options))).await;
        assert_eq!(page.status, 403, "{origin}");
    }
    let options = begun(&mut owner, "My phone").await;
    phone.origin = "https://localhost:18443".into();
    let page = owner.post("/account/passkeys", &pairs(&phone.made(&options))).await;
    assert_eq!(page.location, "/account?said=passkey-added", "{}", page.text);
    // There, at the panel's own port, and at any other that is not another service's.
    for (host, origin, status) in [
        ("localhost:18443", "https://localhost:18443", 303),
        ("localhost", "https://localhost", 303),
        ("localhost:2443", "https://localhost:2443", 303),
        ("localhost:2443", "https://localhost:18443", 403),
        ("localhost", "https://localhost:18443", 403),
    ] {
        let mut browser = panel.browser();
        browser.host = host.into();
        phone.origin = origin.into();
        assert_eq!(log_in(&mut browser, &phone).await.status, status, "{host} {origin}");
    }
    // Nothing is believed of a port when nobody can tell whose it is.
    std::fs::remove_file(&panel.settings.control).unwrap();
    let mut browser = panel.browser();
    browser.host = "localhost:18443".into();
    assert_eq!(browser.get("/login/passkey").await.status, 409);
    phone.origin = "https://localhost".into();
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
}

#[tokio::test]
async fn a_passkey_is_renamed_by_whose_it_is() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let phone = added(&mut owner, "My phone").await;
    let id = data_encoding::BASE64URL_NOPAD.encode(&phone.id);
    owner.get("/account").await.says("action=\"/account/passkeys/rename\"");
    for (id, name, status) in [
        (id.as_str(), " ", 400),
        (&id, &"x".repeat(65), 400),
        (&id, "a\u{7}b", 400),
        ("AAAA", "Blue key", 404),
        ("", "Blue key", 404),
        (&id, " Blue key ", 303),
    ] {
        owner.get("/account").await;
        let page = owner
            .post("/account/passkeys/rename", &[("id", id), ("name", name)])
            .await;
        assert_eq!(page.status, status, "{name}: {}", page.text);
    }
    let page = owner.get("/account?said=passkey-renamed").await;
    page.says("The passkey has its new name.");
    page.says("<strong>Blue key</strong>");
    assert!(!page.text.contains("My phone"));
    owner
        .get("/audit")
        .await
        .says("the passkey “My phone” is now called “Blue key”");
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
}

#[tokio::test]
async fn the_recovery_key_ends_the_owners_passkeys() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let phone = added(&mut owner, "My phone").await;
    let page = owner.get("/setup/done").await;
    let (_, rest) = page.text.split_once("class=\"secret key\" tabindex=\"0\">").unwrap();
    let key = rest.split('<').next().unwrap().to_owned();
    let mut lost = panel.browser();
    lost.get("/login/recovery").await;
    let new = "cobalt heron 3 lantern moss";
    let fields = [("key", key.as_str()), ("password", new), ("again", new)];
    assert_eq!(lost.post("/login/recovery", &fields).await.status, 200);
    assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
    let page = lost.get("/account").await;
    assert!(!page.text.contains("My phone"), "{}", page.text);
}

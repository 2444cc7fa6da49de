//! Passkeys of people, who are the directory's.

mod common;

use common::authenticator::{added, log_in};
use common::slapd::Slapd;
use common::{PASSWORD, Panel};

#[tokio::test]
async fn a_persons_passkey_opens_the_persons_account_and_ends_with_it() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    for uid in ["bob", "dora"] {
        owner.make_person(uid, PASSWORD).await;
    }
    let (mut bob, mut dora) = (panel.browser(), panel.browser());
    bob.log_in_as("bob", PASSWORD).await;
    dora.log_in_as("dora", PASSWORD).await;
    let (phone, key) = (added(&mut bob, "My phone").await, added(&mut dora, "Key").await);
    assert_ne!(phone.handle, key.handle);
    let mut browser = panel.browser();
    assert_eq!(log_in(&mut browser, &phone).await.location, "/");
    assert_eq!(browser.get("/").await.location, "/account");
    assert_eq!(browser.get("/people").await.status, 403);
    // Another's is not seen and not removed.
    assert!(!browser.get("/account").await.text.contains("Key"));
    let id = data_encoding::BASE64URL_NOPAD.encode(&key.id);
    let page = browser
        .post("/account/passkeys/remove", &[("id", &id), ("current", PASSWORD)])
        .await;
    assert_eq!(page.status, 404);
    let rename = [("id", id.as_str()), ("name", "Mine")];
    bob.get("/account").await;
    assert_eq!(bob.post("/account/passkeys/rename", &rename).await.status, 404);
    dora.get("/account").await.says("<strong>Key</strong>");
    // Who is disabled is not let in; opened again, the passkey is good again.
    owner.get("/people/bob").await;
    owner.post("/people/bob/disable", &[]).await;
    assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
    owner.get("/audit").await.says("the account is disabled");
    owner.get("/people/bob").await;
    owner.post("/people/bob/enable", &[]).await;
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
    // Who looks after people ends them; the other person's stay.
    owner.get("/people/bob").await.says("Remove all passkeys");
    let page = owner.post("/people/bob/passkeys-off", &[]).await;
    assert_eq!(page.location, "/people/bob?said=person-passkeys-off", "{}", page.text);
    assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
    assert_eq!(log_in(&mut panel.browser(), &key).await.location, "/");
    // Removed by the panel.
    owner.get("/people/dora").await;
    assert_eq!(owner.post("/people/dora/remove", &[("sure", "dora")]).await.status, 303);
    owner.make_person("dora", PASSWORD).await;
    assert_eq!(log_in(&mut panel.browser(), &key).await.status, 403);
    let log = owner.get("/audit").await;
    assert!(!log.text.contains("the account is not there any more"), "it was kept");
}

#[tokio::test]
async fn who_is_given_a_name_that_was_anothers_does_not_get_the_passkeys() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    let directory = cairn_panel::directory::Directory::new(panel.settings.directory.clone());
    for used_between in [true, false] {
        owner.make_person("bob", PASSWORD).await;
        let mut bob = panel.browser();
        bob.log_in_as("bob", PASSWORD).await;
        let phone = added(&mut bob, "My phone").await;
        assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
        // Past the panel, in the directory itself.
        directory.remove_person("bob").await.unwrap();
        if used_between {
            assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
            owner.get("/audit").await.says("the account is not there any more");
            assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
            owner.get("/audit").await.says("passkey refused: nobody has it");
        }
        owner.make_person("bob", PASSWORD).await;
        let mut bob = panel.browser();
        bob.log_in_as("bob", PASSWORD).await;
        assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
        let new = added(&mut bob, "Another").await;
        assert_ne!(new.handle, phone.handle);
        assert!(!bob.get("/account").await.text.contains("My phone"));
        assert_eq!(log_in(&mut panel.browser(), &phone).await.status, 403);
        assert_eq!(log_in(&mut panel.browser(), &new).await.location, "/");
        directory.remove_person("bob").await.unwrap();
    }
}

#[tokio::test]
async fn an_administrator_cannot_end_another_administrators_passkeys() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    for uid in ["bob", "dora"] {
        owner.make_person(uid, PASSWORD).await;
        owner.get("/groups/administrators").await;
        owner.post("/groups/administrators/add", &[("uid", uid)]).await;
    }
    let (mut bob, mut dora) = (panel.browser(), panel.browser());
    bob.log_in_as("bob", PASSWORD).await;
    dora.log_in_as("dora", PASSWORD).await;
    let phone = added(&mut bob, "My phone").await;
    dora.get("/people/bob").await;
    assert_eq!(dora.post("/people/bob/passkeys-off", &[]).await.status, 403);
    assert_eq!(log_in(&mut panel.browser(), &phone).await.location, "/");
    // A directory that is away lets nobody in but the owner.
    let mut slapd = slapd;
    slapd.stop();
    let page = log_in(&mut panel.browser(), &phone).await;
    assert_eq!(page.status, 503, "{}", page.text);
}

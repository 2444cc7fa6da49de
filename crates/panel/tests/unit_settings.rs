//! What can be chosen for a unit, on its page.

mod common;

use common::Panel;
use serde_json::json;

#[tokio::test]
async fn the_owner_chooses_what_the_unit_offers_and_nothing_else_is_sent() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/units/wiki?lang=en").await;
    let page = owner.get("/units/wiki").await;
    for what in [
        "id=\"settings\"",
        "Let everybody read, also without an account.",
        "<textarea id=\"set-names\"",
        "wiki.example.org</textarea>",
        "<option value=\"paper\" selected>",
        "inputmode=\"email\"",
    ] {
        page.says(what);
    }
    assert!(!owner.get("/units/caddy").await.text.contains("id=\"settings\""));

    owner.get("/units/wiki").await;
    let same = [
        ("set-names", "wiki.example.org"),
        ("set-sender", ""),
        ("set-theme", "paper"),
    ];
    let before = panel.manager.posts();
    let page = owner.post("/units/wiki/settings", &same).await;
    assert_eq!(
        (page.status, page.location.as_str()),
        (303, "/units/wiki?said=settings#settings")
    );
    assert_eq!(panel.manager.posts(), before, "nothing was changed");

    owner.get("/units/wiki").await;
    let other = [
        ("set-names", "wiki.example.org\r\nw.example.org"),
        ("set-open", "true"),
        ("set-sender", "wiki@example.org"),
        ("set-theme", ""),
    ];
    let page = owner.post("/units/wiki/settings", &other).await;
    assert_eq!(page.status, 303, "{}", page.text);
    let (path, body) = panel.manager.told.lock().unwrap().posts.last().unwrap().clone();
    assert_eq!(path, "/v1/units/wiki/settings");
    assert_eq!(
        body["settings"],
        json!({"names": "wiki.example.org\nw.example.org", "open": "true", "sender": "wiki@example.org", "theme": null})
    );
    owner
        .get("/audit")
        .await
        .says("wiki was set: names, open, sender, theme");
}

#[tokio::test]
async fn what_the_manager_refuses_is_said_and_what_was_typed_stays() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/units/wiki?lang=de").await;
    owner.get("/units/wiki").await;
    let fields = [("set-names", "Wrong"), ("set-open", "true"), ("set-theme", "paper")];
    let page = owner.post("/units/wiki/settings", &fields).await;
    assert_eq!(page.status, 409, "{}", page.text);
    page.says("Es wurde nichts geändert.");
    page.says("`names` must be a domain in lower case");
    page.says("Wrong</textarea>");
    page.says("value=\"true\" checked");
}

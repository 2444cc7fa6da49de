//! The copies of what a unit keeps, on its page.

mod common;

use common::{PASSWORD, Panel};

#[tokio::test]
async fn copies_are_listed_and_made_and_gone_back_to_with_the_password_alone() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/units/mariadb?lang=en").await;
    let page = owner.get("/units/mariadb").await;
    for what in [
        "Copies",
        "2026-11-22 02:15",
        "48\u{a0}MiB",
        "its state has &lt;version&gt; 10.11",
        "Make a copy now",
        "Before the copy was put back",
    ] {
        page.says(what);
    }
    assert_eq!(
        page.text.matches("action=\"/units/mariadb/restore").count(),
        2,
        "not to one that is refused"
    );
    owner.get("/units/mariadb?lang=de").await;
    owner.get("/units/mariadb").await.says("Jetzt eine Kopie machen");
    assert!(!owner.get("/units/caddy").await.text.contains("/units/caddy/dump"));

    owner.get("/units/mariadb?lang=en").await;
    owner.get("/units/mariadb").await;
    let page = owner.post("/units/mariadb/dump", &[]).await;
    assert_eq!(
        (page.status, page.location.as_str()),
        (303, "/units/mariadb?said=copy#copies")
    );
    assert_eq!(panel.manager.posts().last().unwrap(), "/v1/units/mariadb/dumps");
    let before = panel.manager.posts();
    owner.get("/units/mariadb").await;
    let fields = [("dump", "20261122T021500Z"), ("current", "wrong wrong wrong")];
    let page = owner.post("/units/mariadb/restore", &fields).await;
    assert_eq!(page.status, 403, "{}", page.text);
    page.says("id=\"copy-wrong\"");
    assert_eq!(panel.manager.posts(), before);
    owner.get("/units/mariadb").await;
    let fields = [("dump", "20261122T021500Z"), ("current", PASSWORD)];
    let page = owner.post("/units/mariadb/restore", &fields).await;
    assert_eq!(
        (page.status, page.location.as_str()),
        (303, "/units/mariadb?said=restore#copies"),
        "{}",
        page.text
    );
    assert_eq!(
        panel.manager.posts().last().unwrap(),
        "/v1/units/mariadb/restore?dump=20261122T021500Z"
    );
    owner
        .get("/audit")
        .await
        .says("mariadb goes back to the copy 20261122T021500Z");
}

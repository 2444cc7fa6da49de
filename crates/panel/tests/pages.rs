//! The owner's pages, and the API for programs.

mod common;

use common::{Browser, Panel};
use http_body_util::BodyExt as _;
use serde_json::Value;

#[tokio::test]
async fn every_page_stands_in_both_languages_without_inline_script_or_style() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let paths = [
        "/",
        "/units/wiki",
        "/units/valkey",
        "/certificates",
        "/version",
        "/history",
        "/history?from=2&to=3",
        "/network",
        "/audit",
        "/tokens",
        "/sessions",
        "/account",
        "/account/totp",
        "/diagnosis",
        "/trust",
        "/reset",
        "/power",
        "/setup/progress",
        "/setup/done",
        "/no-such-page",
    ];
    for (lang, word) in [("en", "Log out"), ("de", "Abmelden")] {
        assert_eq!(owner.get(&format!("/?lang={lang}")).await.location, "/");
        for path in paths {
            let page = owner.get(path).await;
            assert_eq!(
                page.status,
                if path == "/no-such-page" { 404 } else { 200 },
                "{path}: {}",
                page.text
            );
            page.says(&format!("<html lang=\"{lang}\">"));
            if !["/setup", "/trust", "/reset"]
                .iter()
                .any(|start| path.starts_with(start))
                && page.status == 200
            {
                page.says(word);
            }
            for forbidden in [" style=", "<style", "<script>", " onclick=", "javascript:"] {
                assert!(!page.text.contains(forbidden), "{path}: {forbidden}");
            }
            for what in ["<main id=\"main\"", "<h1", "<title>"] {
                assert_eq!(page.text.matches(what).count(), 1, "{path}: {what}");
            }
        }
    }
    // Whoever issued them, certificates stand on one page.
    let page = owner.get("/certificates").await;
    for what in [
        "birch (Cairn)",
        "An authority",
        "2027-01-30",
        "Zertifikate anderer Stellen",
    ] {
        page.says(what);
    }
}

#[tokio::test]
async fn the_language_is_the_browsers_until_another_is_chosen() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.headers = vec![("accept-language", "de-DE,de;q=0.9,en;q=0.5".to_owned())];
    browser.get("/setup/code").await.says("Ihr Gerät einrichten");
    browser.get("/setup/code?lang=en").await;
    browser.get("/setup/code").await.says("Set up your appliance");
}

#[tokio::test]
async fn a_units_page_shows_its_log_as_text() {
    let panel = Panel::new().await;
    let page = panel.owner().await.get("/units/wiki").await;
    page.says("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;");
    page.says("db (3306)");
    page.says("writable code");
    assert!(!page.text.contains("<script>alert"));
    let missing = panel.owner_again().await.get("/units/nothing").await;
    assert_eq!(missing.status, 404);
    missing.says("there is no unit nothing");
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_manager_and_the_audit_log() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for (path, to) in [
        ("/units/wiki/restart", "/v1/units/wiki/restart"),
        ("/units/worker@1/stop", "/v1/units/worker@1/stop"),
        ("/units/wiki%2f..%2fx/stop", "/v1/units/wiki%2F%2E%2E%2Fx/stop"),
        ("/certificates/renew", "/v1/certificates/renew"),
        ("/history/rollback", "/v1/site/rollback?to=2"),
        ("/power/reboot", "/v1/power/reboot"),
    ] {
        owner.get("/").await;
        let sure = if path == "/history/rollback" { "2" } else { "reboot" };
        let page = owner.post(path, &[("to", "2"), ("sure", sure)]).await;
        assert!(page.status < 400, "{path}: {}", page.text);
        assert_eq!(panel.manager.posts().last().unwrap(), to);
    }
    assert!(
        panel
            .manager
            .told
            .lock()
            .unwrap()
            .actors
            .iter()
            .all(|actor| actor == "ada")
    );
    let log = owner.get("/audit").await;
    for what in [
        "the appliance was set up",
        "restart was begun",
        "version 2 is in force again",
        "reboot was begun",
        "127.0.0.1",
    ] {
        log.says(what);
    }
}

#[tokio::test]
async fn a_version_is_put_in_force_after_a_look_at_what_differs() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let page = owner.get("/history").await;
    for what in [
        "2026-11-12 09:30 UTC",
        "enabled valkey",
        "href=\"/history?back=2\"",
        "href=\"/history?from=2",
    ] {
        page.says(what);
    }
    assert!(!page.text.contains("action=\"/history/rollback\""));
    owner.get("/history?back=2").await.says("Yes, put version 2 in force");
    let asked = panel.manager.told.lock().unwrap().looks.last().unwrap().clone();
    assert_eq!(asked, "/v1/site/diff?from=3&to=2");
    let before = panel.manager.posts();
    for sure in ["", "3", "on"] {
        assert_eq!(
            owner
                .post("/history/rollback", &[("to", "2"), ("sure", sure)])
                .await
                .status,
            400
        );
        owner.get("/history?back=2").await;
    }
    assert_eq!(panel.manager.posts(), before);
    let page = owner.post("/history/rollback", &[("to", "2"), ("sure", "2")]).await;
    assert_eq!(page.location, "/history?said=rolled-back");
    // By the API the same, with a query that cannot lead elsewhere.
    let made = token(&mut owner, "own", "own").await;
    let mut program = panel.browser();
    program.headers = vec![("authorization", format!("Bearer {made}"))];
    for (method, path, to) in [
        ("GET", "/api/v1/site/diff?from=1&to=2", "/v1/site/diff?from=1&to=2"),
        ("GET", "/api/v1/site/diff", "/v1/site/diff"),
        ("POST", "/api/v1/site/rollback?to=1%26x", "/v1/site/rollback?to=1%26x"),
    ] {
        assert_eq!(program.send(method, path, String::new()).await.status, 200, "{path}");
        let told = panel.manager.told.lock().unwrap();
        let found = match method {
            "GET" => told.looks.last().unwrap(),
            _ => &told.posts.last().unwrap().0,
        };
        assert_eq!(found, to);
    }
    // Whoever asks for more than there is gets nothing else instead.
    let looks = panel.manager.told.lock().unwrap().looks.len();
    let page = program.send("GET", "/api/v1/site/diff?x=3", String::new()).await;
    assert!(
        page.status == 400 && page.text.contains("no parameter `x`"),
        "{}",
        page.text
    );
    assert_eq!(panel.manager.told.lock().unwrap().looks.len(), looks);
}

#[tokio::test]
async fn the_power_is_switched_only_by_who_is_sure() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let before = panel.manager.posts();
    for sure in ["", "on", "reboot"] {
        let page = owner.post("/power/poweroff", &[("sure", sure)]).await;
        assert_eq!(page.status, 400);
        owner.get("/power").await;
    }
    assert_eq!(panel.manager.posts(), before);
    assert_eq!(owner.get("/power/poweroff").await.status, 404);
}

#[tokio::test]
async fn all_data_goes_only_for_the_owner_who_types_the_appliances_name() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    assert!(
        owner
            .get("/power")
            .await
            .text
            .contains("type the appliance’s name: birch")
    );
    let page = owner
        .post("/power/factory-reset", &[("name", "oak"), ("sure", "factory-reset")])
        .await;
    assert_eq!(page.status, 400);
    assert!(page.text.contains("Nothing was removed"), "{}", page.text);
    owner.get("/power").await;
    let page = owner.post("/power/factory-reset", &[("name", " birch ")]).await;
    assert!(
        page.text.contains("removes everything and starts again"),
        "{}",
        page.text
    );
    assert_eq!(
        panel.manager.posts().last().unwrap(),
        "/v1/power/factory-reset?name=birch"
    );
    assert!(owner.get("/audit").await.text.contains("a factory reset was begun"));
}

#[tokio::test]
async fn a_change_of_a_unit_reaches_a_page_that_follows() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut body = owner.stream("/live").await;
    let mut next =
        async || String::from_utf8(body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap();
    assert!(next().await.starts_with("retry:"));
    // The panel listens at the manager, once it has connected.
    while panel.manager.events.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    panel.manager.events.send("{\"unit\":\"wiki\"}".into()).unwrap();
    assert!(next().await.contains("event: change"));
}

#[tokio::test]
async fn new_lines_of_a_log_reach_the_page_and_cannot_become_events() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    while panel.manager.events.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let mut body = owner.stream("/units/wiki/log?search=x").await;
    let mut next =
        async || String::from_utf8(body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap();
    assert!(next().await.starts_with("retry:"));
    panel.manager.events.send("a line\revent: change".into()).unwrap();
    assert_eq!(next().await, "data: a line event: change\n\n");
}

#[tokio::test]
async fn a_manager_that_is_away_is_told_and_waited_for() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let away = panel.settings.control.with_extension("away");
    std::fs::rename(&panel.settings.control, &away).unwrap();
    let page = owner.get("/").await;
    assert_eq!(page.status, 502);
    page.says("The manager does not answer");
    // What is the panel's own stays there.
    assert_eq!(owner.get("/audit").await.status, 200);
    std::fs::rename(&away, &panel.settings.control).unwrap();
    assert_eq!(owner.get("/").await.status, 200);
}

async fn token(owner: &mut Browser<'_>, name: &str, scope: &str) -> String {
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", name), ("scope", scope)]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    format!("cairn_{}", rest.split('<').next().unwrap())
}

#[tokio::test]
async fn a_token_does_what_its_scope_says_and_no_more() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let before = panel.manager.posts().len();
    let requests = [
        ("GET", "/api/v1/status", 0),
        ("GET", "/api/v1/units/wiki", 0),
        ("POST", "/api/v1/units/wiki/restart", 1),
        ("GET", "/api/v1/site/history", 2),
        ("GET", "/api/v1/machine", 0),
        ("GET", "/api/v1/logs", 1),
        ("GET", "/api/v1/site", 2),
        ("POST", "/api/v1/power/reboot", 2),
    ];
    let mut done = 0;
    for (rank, scope) in ["read", "operate", "own"].into_iter().enumerate() {
        let made = token(&mut owner, scope, scope).await;
        let mut program = panel.browser();
        program.headers = vec![("authorization", format!("Bearer {made}"))];
        for (method, path, needs) in requests {
            let answer = program.send(method, path, String::new()).await;
            let allowed = rank >= needs;
            assert_eq!(answer.status, if allowed { 200 } else { 403 }, "{scope} {path}");
            done += usize::from(allowed && method == "POST");
        }
    }
    assert_eq!(panel.manager.posts().len() - before, done);
    owner.get("/audit").await.says("token operate");
    assert_eq!(panel.manager.told.lock().unwrap().actors.last().unwrap(), "token own");
}

#[tokio::test]
async fn without_a_token_that_holds_the_api_says_nothing() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let made = token(&mut owner, "home", "read").await;
    assert_eq!(owner.get("/api/v1/status").await.status, 401, "a cookie is no token");
    let mut program = panel.browser();
    program.headers = vec![("authorization", format!("Bearer {made}x"))];
    assert_eq!(program.get("/api/v1/status").await.status, 401);
    program.headers = vec![("authorization", format!("Bearer {made}"))];
    assert_eq!(program.get("/api/v1/status").await.status, 200);
    owner.get("/tokens").await;
    owner.post("/tokens/end", &[("name", "home")]).await;
    assert_eq!(program.get("/api/v1/status").await.status, 401);
    let document: Value = serde_json::from_str(&panel.browser().get("/api/v1/openapi.json").await.text).unwrap();
    assert!(
        document["paths"]["/api/v1/units/{unit}/stop"]["post"]["responses"].is_object(),
        "{document}"
    );
}

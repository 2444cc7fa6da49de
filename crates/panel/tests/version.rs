//! The page of versions: a later one, the restart into it, the way back.

mod common;

use common::{Panel, manager};
use serde_json::Value;

fn versions(panel: &Panel, how: &str) {
    panel.manager.told.lock().unwrap().upgrade = manager::upgrade(how);
}

#[tokio::test]
async fn the_page_tells_how_the_versions_stand_in_both_languages() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for (how, english, german) in [
        (
            "new",
            vec![
                "Install version 0.2.0",
                "Go back to version 0.0.9",
                "takes the place of version 0.0.9",
                "mariadb-server 10.11.6 -&gt; 10.11.9",
            ],
            "Version 0.2.0 installieren",
        ),
        (
            "refused",
            vec![
                "Version 0.2.0 is offered, but cannot be installed: install 0.1.5 first.",
                "starts only what is signed",
            ],
            "startet nur, was mit",
        ),
        (
            "installing",
            vec![
                "Installing version 0.2.0",
                "value=\"40\"",
                "8.0\u{a0}MiB a second",
                "18\u{a0}s left",
                "http-equiv=\"refresh\"",
                "is being replaced",
            ],
            "Version 0.2.0 wird installiert",
        ),
        (
            "installed",
            vec![
                "Restart into version 0.2.0",
                "Every service stops",
                "version 0.1.0 comes back by itself",
            ],
            "Mit Version 0.2.0 neu starten",
        ),
        (
            "proving",
            vec![
                "unit wiki is ready",
                "has to prove itself",
                "8\u{a0}min",
                "Go back to version 0.0.9",
            ],
            "muss sich bewähren",
        ),
        (
            "failed",
            vec![
                "Version 0.2.0 was given up",
                "ended with exit code 1",
                "wiki: no &lt;database&gt;",
                "does not answer",
                "given up here before",
            ],
            "Version 0.2.0 wurde aufgegeben",
        ),
        (
            "held",
            vec![
                "upgrades are held until 2027-01-31 00:00 UTC (audit).",
                "turn comes on 2026-11-25 06:00 UTC.",
                "has withdrawn version 0.1.0, which runs: mail is lost; install version 0.2.0.",
            ],
            "Version 0.2.0 installieren",
        ),
        (
            "left",
            vec!["Restart into version 0.0.9", "ends with the next restart"],
            "Mit Version 0.0.9 neu starten",
        ),
    ] {
        versions(&panel, how);
        owner.get("/version?lang=en").await;
        let page = owner.get("/version").await;
        assert_eq!(page.status, 200, "{how}: {}", page.text);
        english.iter().for_each(|what| page.says(what));
        // What there are no words for yet is shown as it came; what came is text.
        page.says("a-later-word");
        assert!(!page.text.contains("<b>A table"), "{how}");
        assert_eq!(page.text.contains("http-equiv"), how == "installing", "{how}");
        let installs = page.text.contains("action=\"/version/install\"");
        assert_eq!(installs, ["new", "failed", "held"].contains(&how), "{how}");
        assert_eq!(page.text.contains("Secure Boot"), how == "refused", "{how}");
        owner.get("/version?lang=de").await;
        owner.get("/version").await.says(german);
    }
}

#[tokio::test]
async fn what_is_done_about_versions_reaches_the_manager_and_the_audit_log() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for (how, verb, to, told) in [
        ("new", "check", "/v1/upgrade/check", "asked for a new version"),
        (
            "new",
            "install",
            "/v1/upgrade/install",
            "the install of version 0.2.0 was begun",
        ),
        (
            "new",
            "rollback",
            "/v1/upgrade/rollback",
            "the next restart starts version 0.0.9 again",
        ),
        (
            "installed",
            "restart",
            "/v1/power/reboot",
            "a restart into version 0.2.0 was begun",
        ),
    ] {
        versions(&panel, how);
        owner.get("/version").await;
        let page = owner.post(&format!("/version/{verb}"), &[("sure", verb)]).await;
        let location = if verb == "restart" {
            "/version"
        } else {
            "/version?begun=1"
        };
        assert_eq!(
            (page.status, page.location.as_str()),
            (303, location),
            "{verb}: {}",
            page.text
        );
        assert_eq!(panel.manager.posts().last().unwrap(), to);
        owner.get("/audit").await.says(told);
    }
    // Until the work has said its first words, the page comes again by itself.
    versions(&panel, "new");
    let page = owner.get("/version?begun=1").await;
    page.says("It has begun");
    page.says("http-equiv");
    versions(&panel, "installed");
    let page = owner.get("/version?begun=1").await;
    assert!(!page.text.contains("It has begun") && !page.text.contains("http-equiv"));
    // What is lost is lost only if that was ticked.
    versions(&panel, "new");
    for (lose, to) in [("", "/v1/upgrade/rollback"), ("1", "/v1/upgrade/rollback?lose-data=1")] {
        owner.get("/version").await;
        let fields = [("sure", "rollback"), ("lose", lose)];
        assert_eq!(owner.post("/version/rollback", &fields).await.status, 303);
        assert_eq!(panel.manager.posts().last().map(String::as_str), Some(to));
    }
}

#[tokio::test]
async fn nothing_is_done_that_the_versions_do_not_allow_or_nobody_is_sure_of() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let before = panel.manager.posts();
    for (how, verb, sure, status) in [
        ("new", "rollback", "", 400),
        ("installed", "restart", "rollback", 400),
        ("new", "restart", "restart", 409),
        ("installed", "install", "", 409),
        ("installed", "rollback", "rollback", 409),
        ("proving", "install", "", 409),
        ("installing", "install", "", 409),
        ("failed", "rollback", "rollback", 409),
        ("new", "reformat", "reformat", 404),
    ] {
        versions(&panel, how);
        owner.get("/version").await;
        let page = owner.post(&format!("/version/{verb}"), &[("sure", sure)]).await;
        assert_eq!(page.status, status, "{how} {verb}: {}", page.text);
    }
    assert_eq!(panel.manager.posts(), before);
}

#[tokio::test]
async fn an_appliance_without_upgrades_says_so() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    panel.manager.told.lock().unwrap().upgrade = Value::Null;
    owner.get("/version").await.says("built without upgrades");
    assert_eq!(owner.get("/").await.status, 200);
    owner.get("/version").await;
    owner.get("/account").await;
    assert_eq!(owner.post("/version/check", &[]).await.status, 409);
}

#[tokio::test]
async fn the_overview_has_a_line_of_a_new_version_and_of_one_that_failed() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for (how, what) in [
        ("new", "Version 0.2.0 can be installed."),
        ("installed", "Version 0.2.0 starts with the next restart."),
        ("failed", "Version 0.2.0 was given up"),
    ] {
        versions(&panel, how);
        owner.get("/").await.says(what);
    }
    versions(&panel, "proving");
    assert!(!owner.get("/").await.text.contains("href=\"/version\">Look"));
}

#[tokio::test]
async fn a_program_looks_at_versions_with_any_token_and_changes_them_with_the_owners() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    for scope in ["read", "operate", "own"] {
        owner.get("/tokens").await;
        let page = owner.post("/tokens/make", &[("name", scope), ("scope", scope)]).await;
        let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
        let token = format!("Bearer cairn_{}", rest.split('<').next().unwrap());
        let mut program = panel.browser();
        program.headers = vec![("authorization", token)];
        for (method, path, least) in [
            ("GET", "/api/v1/upgrade", "read"),
            ("GET", "/api/v1/upgrade/history", "read"),
            ("POST", "/api/v1/upgrade/check", "own"),
            ("POST", "/api/v1/upgrade/install", "own"),
            ("POST", "/api/v1/upgrade/rollback", "own"),
        ] {
            let answer = program.send(method, path, String::new()).await;
            let allowed = least == "read" || scope == "own";
            assert_eq!(
                answer.status,
                if allowed { 200 } else { 403 },
                "{scope} {path}: {}",
                answer.text
            );
        }
    }
    // A file of the appliance cannot be named by the API, and nothing else is installed in its place.
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", "last"), ("scope", "own")]).await;
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    let mut program = panel.browser();
    program.headers = vec![(
        "authorization",
        format!("Bearer cairn_{}", rest.split('<').next().unwrap()),
    )];
    let before = panel.manager.posts();
    let answer = program
        .send("POST", "/api/v1/upgrade/install?from=/etc/shadow", String::new())
        .await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert_eq!(panel.manager.posts(), before);
    assert!(panel.manager.posts().iter().all(|path| !path.contains("from")));
}

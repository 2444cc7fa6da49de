//! Sessions: how they begin, what they are kept as, how they end.

mod common;

use common::{PASSWORD, Panel};

#[tokio::test]
async fn a_login_gives_another_cookie_and_the_old_one_is_worth_nothing() {
    let panel = Panel::new().await;
    panel.owner().await;
    let mut browser = panel.browser();
    browser.get("/login").await;
    let before = browser.cookies.clone();
    assert_eq!(browser.log_in(PASSWORD).await.location, "/");
    assert_ne!(browser.cookies, before);
    assert_eq!(browser.get("/").await.status, 200);
    let mut old = panel.browser();
    old.cookies = before;
    assert_eq!(old.get("/").await.location, "/login");
}

#[tokio::test]
async fn the_store_holds_no_token_and_no_password() {
    let panel = Panel::new().await;
    let owner = panel.owner().await;
    let cookie = owner.cookies["__Host-session"].clone();
    let mut all = Vec::new();
    for file in std::fs::read_dir(&panel.settings.state).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("panel") {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    let holds = |text: &str| all.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("$argon2id$") && holds("ada"));
    assert!(!holds(&cookie) && !holds(PASSWORD));
}

#[tokio::test]
async fn a_wrong_login_does_not_tell_what_was_wrong() {
    let panel = Panel::new().await;
    panel.owner().await;
    let mut browser = panel.browser();
    let wrong_password = browser.log_in("not the password").await;
    let wrong_name = browser.post("/login", &[("name", "eve"), ("password", PASSWORD)]).await;
    assert_eq!((wrong_password.status, wrong_name.status), (403, 403));
    for page in [wrong_password, wrong_name] {
        page.says("Name or password is wrong.");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let panel = Panel::new().await;
    panel.owner().await;
    let mut browser = panel.browser();
    browser.get("/login").await;
    let mut statuses = Vec::new();
    for _ in 0..9 {
        statuses.push(
            browser
                .post("/login", &[("name", "ada"), ("password", "guess")])
                .await
                .status,
        );
    }
    assert_eq!(statuses, [403, 403, 403, 403, 403, 403, 403, 403, 429]);
    let page = browser.post("/login", &[("name", "ada"), ("password", PASSWORD)]).await;
    assert_eq!(page.status, 429);
    page.says("Too many tries");
}

#[tokio::test]
async fn logging_out_ends_the_session_and_others_can_be_ended() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let (mut second, mut third) = (panel.browser(), panel.browser());
    second.headers = vec![(
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(),
    )];
    second.log_in(PASSWORD).await;
    third.log_in(PASSWORD).await;
    let cookies = third.cookies.clone();
    third.get("/").await;
    assert_eq!(third.post("/logout", &[]).await.location, "/login?said=logged-out");
    let mut thief = panel.browser();
    thief.cookies = cookies;
    assert_eq!(thief.get("/").await.location, "/login");
    let page = owner.get("/sessions").await;
    page.says("Firefox, Linux");
    page.says("This browser");
    assert_eq!(owner.post("/sessions/end", &[]).await.status, 303);
    assert_eq!(second.get("/").await.location, "/login");
    assert_eq!(owner.get("/").await.status, 200);
}

#[tokio::test]
async fn sessions_outlive_a_restart_of_the_panel() {
    let panel = Panel::new().await;
    let cookies = panel.owner().await.cookies;
    let panel = panel.restart(|_| ()).await;
    let mut owner = panel.browser();
    owner.cookies = cookies;
    assert_eq!(owner.get("/").await.status, 200);
}

#[tokio::test]
async fn who_is_not_logged_in_sees_and_changes_nothing() {
    let panel = Panel::new().await;
    panel.owner().await;
    let mut browser = panel.browser();
    for path in [
        "/",
        "/units/wiki",
        "/certificates",
        "/history",
        "/audit",
        "/tokens",
        "/sessions",
        "/power",
        "/units/wiki/log",
        "/no-such-page",
    ] {
        assert_eq!(browser.get(path).await.location, "/login", "{path}");
    }
    // A browser that still follows a page neither asks again nor complains.
    assert_eq!(browser.get("/live").await.status, 204);
    browser.get("/login").await;
    let before = panel.manager.posts();
    for path in [
        "/units/wiki/stop",
        "/power/poweroff",
        "/history/rollback",
        "/tokens/make",
        "/certificates/renew",
        "/store/put-back",
        "/logout",
    ] {
        let page = browser
            .post(
                path,
                &[("sure", "poweroff"), ("to", "1"), ("name", "x"), ("scope", "own")],
            )
            .await;
        assert_eq!(page.status, 401, "{path}");
        browser.get("/login").await;
    }
    assert_eq!(panel.manager.posts(), before);
}

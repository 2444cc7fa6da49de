//! The setup, by forms alone.

mod common;

use common::manager::CODE;
use common::{PASSWORD, Panel};
use serde_json::json;

#[tokio::test]
async fn the_wizard_sets_up_what_was_answered_and_logs_in() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    browser
        .post("/setup/name", &[("name", "birch"), ("domain", "Müller.example")])
        .await;
    browser
        .post(
            "/setup/admin",
            &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
        )
        .await;
    browser.post("/setup/totp", &[("choice", "skip")]).await;
    browser.post("/setup/parts", &[("unit", "wiki")]).await;
    let page = browser.get("/setup/summary").await;
    for what in ["birch", "xn--mller-kva.example", "ada", "caddy, mariadb, wiki, slapd"] {
        page.says(what);
    }
    assert!(!page.text.contains(PASSWORD));
    assert_eq!(browser.post("/setup/finish", &[]).await.location, "/setup/progress");
    let told = panel.manager.told.lock().unwrap().posts.clone();
    let choice = json!({ "code": CODE, "name": "birch", "domain": "xn--mller-kva.example", "units": ["caddy", "mariadb", "slapd", "wiki"] });
    assert_eq!(told, [("/v1/setup/apply".to_owned(), choice)]);
    browser.get("/setup/progress").await.says("of 5 services are ready");
    browser.get("/").await.says("birch");
    assert_eq!(browser.get("/setup/name").await.location, "/");
}

#[tokio::test]
async fn the_key_of_encrypted_data_is_shown_beside_it_and_goes_with_it() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let own = owner.get("/setup/done").await;
    assert!(!own.text.contains("Save the key of your data"));
    let key = "abcd-efgh-jkmn-pqrs-tvwx-yz01-2345-6789";
    panel.manager.told.lock().unwrap().data_key = Some(key.to_owned());
    // A page that did not show it removes nothing.
    assert_eq!(owner.post("/setup/saved", &[("saved", "on")]).await.location, "/");
    assert!(panel.manager.told.lock().unwrap().data_key.is_some());
    let shown = owner.get("/setup/done").await;
    shown.says(key);
    shown.says("Save the key of your data");
    let fields = [("saved", "on"), ("data_key", "abcd")];
    assert_eq!(owner.post("/setup/saved", &fields).await.location, "/");
    assert_eq!(panel.manager.told.lock().unwrap().data_key, None);
    assert!(!owner.get("/setup/done").await.text.contains(key));
}

#[tokio::test]
async fn the_recovery_key_is_shown_until_it_is_saved_and_then_never() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let key = |text: &str| {
        let (_, rest) = text.split_once("secret key\" tabindex=\"0\">")?;
        rest.split('<').next().map(str::to_owned)
    };
    let first = key(&owner.get("/setup/done").await.text).unwrap();
    assert_eq!(first.len(), 39);
    assert_eq!(key(&owner.get("/setup/done").await.text), Some(first.clone()));
    // Nobody else sees it.
    assert_eq!(panel.browser().get("/setup/done").await.location, "/login");
    assert_eq!(owner.post("/setup/saved", &[("saved", "on")]).await.location, "/");
    assert_eq!(key(&owner.get("/setup/done").await.text), None);
    // And it works.
    let mut other = panel.browser();
    other.get("/login/recovery").await;
    let new = "another velvet otter 9";
    let fields = [("key", first.as_str()), ("password", new), ("again", new)];
    let page = other.post("/login/recovery", &fields).await;
    assert!(key(&page.text).is_some_and(|second| second != first), "{}", page.text);
    other.get("/").await.says("birch");
    assert_eq!(owner.get("/").await.location, "/login");
    let mut third = panel.browser();
    third.get("/login/recovery").await;
    assert_eq!(third.post("/login/recovery", &fields).await.status, 403);
    assert_eq!(third.log_in(PASSWORD).await.status, 403);
    assert_eq!(third.log_in(new).await.location, "/");
}

#[tokio::test]
async fn without_the_code_nothing_can_be_set() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    assert_eq!(browser.get("/").await.location, "/setup");
    assert_eq!(browser.get("/setup").await.location, "/setup/code");
    let page = browser.post("/setup/code", &[("code", "WRONG")]).await;
    assert_eq!(page.status, 403);
    page.says("That is not the code");
    for path in ["name", "admin", "parts", "summary", "progress", "done"] {
        assert_eq!(
            browser.get(&format!("/setup/{path}")).await.location,
            "/setup/code",
            "{path}"
        );
    }
    browser.get("/setup/code").await;
    for path in ["name", "admin", "parts", "finish", "take-over"] {
        assert_eq!(
            browser
                .post(&format!("/setup/{path}"), &[("name", "birch")])
                .await
                .status,
            403,
            "{path}"
        );
    }
    assert!(panel.manager.posts().is_empty());
}

#[tokio::test]
async fn tries_of_the_code_run_out() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    for _ in 0..5 {
        assert_eq!(browser.post("/setup/code", &[("code", "WRONG")]).await.status, 403);
    }
    // The manager counts; the right code does not help then.
    let page = browser.post("/setup/code", &[("code", CODE)]).await;
    assert_eq!(page.status, 429);
    page.says("Try again in 60 seconds");
    // And the panel itself bounds an address.
    browser.post("/setup/code", &[("code", "WRONG")]).await;
    browser.post("/setup/code", &[("code", "WRONG")]).await;
    browser
        .post("/setup/code", &[("code", "WRONG")])
        .await
        .says("Too many tries");
    assert_eq!(panel.manager.told.lock().unwrap().wrong_codes, 5);
}

#[tokio::test]
async fn a_wrong_answer_is_told_at_its_field_and_what_was_typed_stays() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    let long = "n".repeat(300);
    for (name, domain, field, why) in [
        (long.as_str(), "", "name-wrong", "At most 32 characters"),
        ("Mein Büro", "", "name-wrong", "mein-buero"),
        ("birch", "-bad-.example", "domain-wrong", "That is not a domain"),
        ("\"><script>", "", "name-wrong", "&quot;&gt;&lt;script&gt;"),
    ] {
        let page = browser.post("/setup/name", &[("name", name), ("domain", domain)]).await;
        assert_eq!(page.status, 400);
        page.says(&format!("id=\"{field}\""));
        page.says("aria-invalid=\"true\"");
        page.says(why);
        assert!(!page.text.contains("<script>"));
    }
    browser.post("/setup/name", &[("name", "birch"), ("domain", "")]).await;
    for (account, password, again, why) in [
        ("ada", "short", "short", "At least 8"),
        ("ada", "password1234", "password1234", "Too easy"),
        ("ada", PASSWORD, "other", "differ"),
        ("", PASSWORD, PASSWORD, "Choose a name"),
        ("a\u{7}da", PASSWORD, PASSWORD, "cannot be shown"),
        (long.as_str(), PASSWORD, PASSWORD, "At most 64"),
    ] {
        let page = browser
            .post(
                "/setup/admin",
                &[("account", account), ("password", password), ("again", again)],
            )
            .await;
        assert_eq!(page.status, 400, "{why}");
        page.says(why);
        assert!(!page.text.contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_password_of_every_character_works_at_the_next_login() {
    let every: String = (' '..='~').chain("äß€🐄👩‍🚀".chars()).collect();
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    browser.post("/setup/name", &[("name", "birch"), ("domain", "")]).await;
    let page = browser
        .post(
            "/setup/admin",
            &[("account", "ada"), ("password", &every), ("again", &every)],
        )
        .await;
    assert_eq!(page.status, 303, "{}", page.text);
    browser.post("/setup/totp", &[("choice", "skip")]).await;
    browser.post("/setup/parts", &[]).await;
    assert_eq!(browser.post("/setup/finish", &[]).await.status, 303);
    assert_eq!(panel.browser().log_in(&every).await.location, "/");
    assert_eq!(panel.browser().log_in(&every[1..]).await.status, 403);
}

#[tokio::test]
async fn back_and_reload_lose_nothing_and_neither_does_a_restart() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.wizard_to_summary().await;
    browser.get("/setup/name").await.says("value=\"birch\"");
    browser.get("/setup/admin").await.says("A password is set");
    // The step is sent again, without the password.
    assert_eq!(
        browser
            .post("/setup/admin", &[("account", "grace"), ("password", ""), ("again", "")])
            .await
            .status,
        303
    );
    let cookies = browser.cookies.clone();
    let panel = panel.restart(|_| ()).await;
    let mut browser = panel.browser();
    browser.cookies = cookies;
    assert_eq!(browser.get("/setup").await.location, "/setup/summary");
    let page = browser.get("/setup/summary").await;
    page.says("grace");
    page.says("birch");
    assert_eq!(browser.post("/setup/finish", &[]).await.status, 303);
}

#[tokio::test]
async fn a_second_browser_with_the_code_may_take_over_and_the_first_is_told() {
    let panel = Panel::new().await;
    let (mut first, mut second) = (panel.browser(), panel.browser());
    first.wizard_to_summary().await;
    assert_eq!(second.post("/setup/take-over", &[]).await.status, 403);
    second.get("/setup/code").await;
    assert_eq!(
        second.post("/setup/code", &[("code", CODE)]).await.location,
        "/setup/code"
    );
    second
        .get("/setup/code")
        .await
        .says("Another browser is setting this appliance up");
    // Until it does, the first goes on.
    assert_eq!(second.get("/setup/name").await.location, "/setup/code");
    assert_eq!(first.get("/setup/name").await.status, 200);
    second.get("/setup/code").await;
    assert_eq!(second.post("/setup/take-over", &[]).await.location, "/setup");
    assert_eq!(second.get("/setup").await.location, "/setup/summary");
    let told = first.get("/setup/name").await;
    assert_eq!(told.status, 409);
    told.says("Another browser has taken over");
    assert_eq!(first.post("/setup/finish", &[]).await.status, 409);
    assert!(panel.manager.posts().is_empty());
    second.get("/setup/summary").await;
    assert_eq!(second.post("/setup/finish", &[]).await.status, 303);
    assert_eq!(first.get("/setup/name").await.location, "/login");
}

#[tokio::test]
async fn of_two_that_finish_at_once_one_does() {
    let panel = Panel::new().await;
    let mut one = panel.browser();
    one.wizard_to_summary().await;
    one.get("/setup/summary").await;
    let mut two = panel.browser();
    (two.cookies, two.form_token) = (one.cookies.clone(), one.form_token.clone());
    let (a, b) = tokio::join!(one.post("/setup/finish", &[]), two.post("/setup/finish", &[]));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 409], "{} {}", a.text, b.text);
    assert_eq!(panel.manager.posts(), ["/v1/setup/apply"]);
}

#[tokio::test]
async fn what_the_manager_refuses_is_told_at_its_step() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.wizard_to_summary().await;
    let refuse = |field: &str| Some((400, json!({ "error": "the manager says no", "field": field })));
    for (field, step) in [
        ("name", "Name your appliance"),
        ("units", "Choose what runs"),
        ("domain", "Name your appliance"),
        ("other", "Everything right?"),
    ] {
        panel.manager.told.lock().unwrap().apply = refuse(field);
        browser.get("/setup/summary").await;
        let page = browser.post("/setup/finish", &[]).await;
        assert_eq!(page.status, 400, "{field}");
        page.says("the manager says no");
        page.says(step);
    }
    browser.get("/setup/summary").await;
    assert_eq!(browser.post("/setup/finish", &[]).await.status, 303);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_second_setup() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.wizard_to_summary().await;
    // The manager did it, and the panel heard an error: finishing again finds it done.
    panel.manager.told.lock().unwrap().apply = Some((500, json!({ "error": "broken off" })));
    browser.get("/setup/summary").await;
    assert_eq!(browser.post("/setup/finish", &[]).await.status, 500);
    panel.manager.told.lock().unwrap().apply = Some((409, json!({ "error": "the appliance is set up already" })));
    browser.get("/setup/summary").await;
    assert_eq!(browser.post("/setup/finish", &[]).await.location, "/setup/progress");
    browser.get("/").await.says("birch");
}

#[tokio::test]
async fn an_authenticator_is_confirmed_by_a_code_and_asked_for_at_login() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    browser.post("/setup/name", &[("name", "birch"), ("domain", "")]).await;
    browser
        .post(
            "/setup/admin",
            &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
        )
        .await;
    let page = browser.get("/setup/totp").await;
    page.says("<svg class=\"qr\"");
    let (_, rest) = page.text.split_once("class=\"secret\">").unwrap();
    let secret = rest.split('<').next().unwrap().replace(' ', "");
    let code = |steps: i64| {
        let now = cairn_panel::store::now() / 30 + steps;
        format!(
            "{:06}",
            cairn_panel::secret::totp_code(&secret, now.try_into().unwrap()).unwrap()
        )
    };
    assert_eq!(
        browser
            .post("/setup/totp", &[("choice", "use"), ("code", &code(-9))])
            .await
            .status,
        400
    );
    assert_eq!(
        browser
            .post("/setup/totp", &[("choice", "use"), ("code", &code(0))])
            .await
            .status,
        303
    );
    browser.post("/setup/parts", &[]).await;
    assert_eq!(browser.post("/setup/finish", &[]).await.status, 303);
    let mut other = panel.browser();
    assert_eq!(other.log_in(PASSWORD).await.location, "/login");
    assert_eq!(other.get("/").await.location, "/login");
    other.get("/login").await.says("One more step");
    assert_eq!(other.post("/login/code", &[("code", &code(-9))]).await.status, 403);
    let good = code(0);
    assert_eq!(other.post("/login/code", &[("code", &good)]).await.location, "/");
    assert_eq!(other.get("/").await.status, 200);
    // The same code again, as somebody who looked over the shoulder would.
    let mut third = panel.browser();
    third.log_in(PASSWORD).await;
    third.get("/login").await;
    assert_eq!(third.post("/login/code", &[("code", &good)]).await.status, 403);
}

#[tokio::test]
async fn an_account_that_somebody_brought_is_taken_once_and_logs_in() {
    let panel = Panel::new().await;
    {
        let mut told = panel.manager.told.lock().unwrap();
        told.open = false;
        told.settled = true;
        told.administrator = json!({ "name": "ada", "password": PASSWORD });
    }
    let taken = || {
        panel
            .manager
            .posts()
            .contains(&"/v1/setup/administrator/taken".to_owned())
    };
    while !taken() {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut owner = panel.browser();
    assert_eq!(owner.log_in(PASSWORD).await.location, "/");
    // Nobody has seen its recovery key; the owner is told until there is one that somebody has.
    for path in ["/", "/account"] {
        owner.get(path).await.says("Nobody has seen the recovery key");
    }
    let page = owner.post("/account/recovery", &[("current", PASSWORD)]).await;
    page.says("secret key");
    for path in ["/", "/account"] {
        assert!(!owner.get(path).await.text.contains("Nobody has seen"), "{path}");
    }
    // No page lets anybody make another one.
    assert_eq!(panel.browser().get("/setup/code").await.status, 303);
}

//! Who may do what: a person, an administrator and the owner, each with a real session.

mod common;

use cairn_panel::roles::{ROUTES, Role};
use cairn_panel::secret;
use common::slapd::Slapd;
use common::{Browser, PASSWORD, Panel};

const REFUSED: &str = "Your account may not do that.";
const NEW: &str = "cobalt heron 3 lantern moss";

async fn people<'a>(panel: &'a Panel) -> [(Role, Browser<'a>); 3] {
    let mut owner = panel.owner_again().await;
    for uid in ["bob", "dora"] {
        owner.make_person(uid, PASSWORD).await;
    }
    owner.get("/groups/administrators").await;
    assert_eq!(
        owner
            .post("/groups/administrators/add", &[("uid", "dora")])
            .await
            .status,
        303
    );
    let (mut bob, mut dora) = (panel.browser(), panel.browser());
    for (browser, uid) in [(&mut bob, "bob"), (&mut dora, "dora")] {
        assert_eq!(browser.log_in_as(uid, PASSWORD).await.location, "/");
    }
    [(Role::Person, bob), (Role::Administrator, dora), (Role::Owner, owner)]
}

#[tokio::test]
async fn each_role_is_refused_what_is_not_its_own_and_nothing_else() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    assert!(ROUTES.iter().any(|route| route.role == Role::Owner) && ROUTES.len() > 40);
    for (role, mut browser) in people(&panel).await {
        for route in ROUTES {
            let path = route
                .path
                .replace("{unit}", "wiki")
                .replace("{uid}", "nobody")
                .replace("{group}", "nothing");
            let allowed = role >= route.role;
            if path == "/live" || path.ends_with("/log") || path.ends_with("/support") {
                assert_eq!(
                    browser.status("GET", &path).await,
                    if allowed { 200 } else { 403 },
                    "{role:?} {path}"
                );
                continue;
            }
            let page = match route.method {
                "GET" => browser.get(&path).await,
                _ => {
                    browser.get("/sessions").await;
                    browser.post(&path, &[]).await
                }
            };
            let told = format!("{role:?} {} {path}: {} {}", route.method, page.status, page.text);
            assert_eq!(page.text.contains(REFUSED), !allowed, "{told}");
            assert_eq!(page.status == 403 && page.text.contains(REFUSED), !allowed, "{told}");
            assert!(
                page.status != 401 && page.location != "/login" && page.status < 500,
                "{told}"
            );
        }
        // What no role has is not there.
        assert_eq!(browser.get("/no-such-page").await.status, 404);
    }
    // What was refused has not been done either.
    let done = panel.manager.posts();
    assert_eq!(
        done.iter().filter(|path| path.contains("/units/")).count(),
        2 * 4,
        "{done:?}"
    );
}

#[tokio::test]
async fn the_recovery_key_is_shown_to_the_owner_alone() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, mut bob), (_, mut dora), (_, mut owner)] = people(&panel).await;
    for browser in [&mut bob, &mut dora] {
        assert_eq!(browser.get("/setup/done").await.location, "/");
    }
    owner.get("/setup/done").await.says("recovery");
}

#[tokio::test]
async fn a_person_changes_the_own_password_and_every_other_session_ends() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, mut bob), ..] = people(&panel).await;
    let mut other = panel.browser();
    other.log_in_as("bob", PASSWORD).await;
    let mut change = async |current: &str, new: &str, again: &str| {
        bob.get("/account").await;
        bob.post(
            "/account/password",
            &[("current", current), ("password", new), ("again", again)],
        )
        .await
    };
    assert_eq!(change("a guess", NEW, NEW).await.status, 403);
    assert_eq!(change(PASSWORD, "short", "short").await.status, 400);
    assert_eq!(change(PASSWORD, NEW, "else").await.status, 400);
    assert_eq!(other.get("/account").await.status, 200);
    assert_eq!(
        change(PASSWORD, NEW, NEW).await.location,
        "/account?said=password-changed"
    );
    assert_eq!(bob.get("/account").await.status, 200);
    assert_eq!(other.get("/account").await.location, "/login");
    assert_eq!(panel.browser().log_in_as("bob", PASSWORD).await.status, 403);
    assert_eq!(panel.browser().log_in_as("bob", NEW).await.location, "/");
    // The owner's session is not a person's to end.
    panel.owner_again().await;
}

fn code_of(text: &str) -> (String, String) {
    let (_, rest) = text.split_once("name=\"secret\" value=\"").unwrap();
    let secret = rest.split('"').next().unwrap().to_owned();
    let step = u64::try_from(cairn_panel::store::now()).unwrap() / 30;
    (
        secret.clone(),
        format!("{:06}", secret::totp_code(&secret, step).unwrap()),
    )
}

#[tokio::test]
async fn an_authenticator_is_asked_for_once_it_is_on_and_ends_with_the_password_only() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, bob), _, (_, owner)] = people(&panel).await;
    for (mut browser, name) in [(bob, "bob"), (owner, "ada")] {
        let (secret, code) = code_of(&browser.get("/account/totp").await.text);
        let wrong = browser
            .post("/account/totp", &[("secret", &secret), ("code", "000000")])
            .await;
        assert_eq!(wrong.status, 403, "{name}");
        wrong.says(&secret);
        let page = browser
            .post("/account/totp", &[("secret", &secret), ("code", &code)])
            .await;
        assert_eq!(page.location, "/account?said=totp-on", "{name}: {}", page.text);
        // The password alone opens nothing any more; the code by which it was confirmed is used up.
        let mut again = panel.browser();
        assert_eq!(again.log_in_as(name, PASSWORD).await.location, "/login", "{name}");
        assert_eq!(again.get("/account").await.location, "/login");
        again.get("/login").await;
        assert_eq!(
            again.post("/login/code", &[("code", &code)]).await.status,
            403,
            "{name}"
        );
        browser.get("/account").await;
        assert_eq!(
            browser
                .post("/account/totp/off", &[("current", "a guess")])
                .await
                .status,
            403
        );
        browser.get("/account").await;
        assert_eq!(
            browser.post("/account/totp/off", &[("current", PASSWORD)]).await.status,
            303
        );
        assert_eq!(panel.browser().log_in_as(name, PASSWORD).await.location, "/", "{name}");
    }
}

#[tokio::test]
async fn who_looks_after_people_ends_a_lost_authenticator() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, mut bob), (_, mut dora), _] = people(&panel).await;
    let (secret, code) = code_of(&bob.get("/account/totp").await.text);
    bob.post("/account/totp", &[("secret", &secret), ("code", &code)]).await;
    dora.get("/people/bob").await.says("Switch the authenticator off");
    assert_eq!(dora.post("/people/bob/totp-off", &[]).await.status, 303);
    assert_eq!(panel.browser().log_in_as("bob", PASSWORD).await.location, "/");
    // The own account is another's to close.
    dora.get("/people/dora").await;
    for (path, fields) in [
        ("/people/dora/disable", vec![]),
        ("/people/dora/remove", vec![("sure", "dora")]),
        ("/groups/administrators/drop", vec![("uid", "dora")]),
    ] {
        assert_eq!(dora.post(path, &fields).await.status, 409, "{path}");
        dora.get("/people/dora").await;
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_singly_by_whose_they_are() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, mut bob), (_, mut dora), (_, mut owner)] = people(&panel).await;
    let mut second = panel.browser();
    second.log_in_as("bob", PASSWORD).await;
    let page = bob.get("/sessions").await;
    assert_eq!(page.text.matches("/sessions/end-one").count(), 1, "{}", page.text);
    let (_, rest) = page.text.split_once("name=\"id\" value=\"").unwrap();
    let id = rest.split('"').next().unwrap().to_owned();
    // Somebody else's session is not theirs to end, the owner's neither.
    for browser in [&mut dora, &mut owner] {
        browser.get("/sessions").await;
        browser.post("/sessions/end-one", &[("id", &id)]).await;
        browser.post("/sessions/end", &[]).await;
    }
    assert_eq!(second.get("/account").await.status, 200);
    assert_eq!(
        bob.post("/sessions/end-one", &[("id", &id)]).await.location,
        "/sessions?said=session-ended"
    );
    assert_eq!(second.get("/account").await.location, "/login");
    assert_eq!(bob.get("/account").await.status, 200);
}

#[tokio::test]
async fn the_owner_changes_the_own_password() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/account").await.says("You are ada, the owner");
    let page = owner
        .post(
            "/account/password",
            &[("current", PASSWORD), ("password", NEW), ("again", NEW)],
        )
        .await;
    assert_eq!(page.location, "/account?said=password-changed", "{}", page.text);
    assert_eq!(owner.get("/").await.status, 200);
    assert_eq!(panel.browser().log_in(PASSWORD).await.status, 403);
    assert_eq!(panel.browser().log_in(NEW).await.location, "/");
}

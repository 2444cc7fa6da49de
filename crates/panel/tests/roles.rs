//! Who may do what: a person, an administrator and the owner, each with a real session.

mod common;

use cairn_panel::roles::{ROUTES, Role};
use cairn_panel::secret;
use common::slapd::Slapd;
use common::{Browser, PASSWORD, Panel};
use http_body_util::BodyExt;

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
    for (number, (role, mut browser)) in (2..).zip(people(&panel).await) {
        browser.address = [127, 0, 0, number].into();
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
    let (set, acted): (Vec<_>, Vec<_>) = done
        .iter()
        .filter(|path| path.contains("/units/"))
        .partition(|path| path.ends_with("/settings"));
    assert_eq!((set.len(), acted.len()), (1, 2 * 5), "{done:?}");
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

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [_, (_, mut dora), (_, mut owner)] = people(&panel).await;
    let whole = async |mut body: hyper::body::Incoming| {
        let end = async { while let Some(Ok(_)) = body.frame().await {} };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), end).await;
        waited.expect("the stream ends");
    };
    let followed = [dora.stream("/units/wiki/log").await, dora.stream("/live").await];
    let mut kept = owner.stream("/units/wiki/log").await;
    owner.get("/people/dora").await;
    assert_eq!(owner.post("/people/dora/disable", &[]).await.status, 303);
    for body in followed {
        whole(body).await;
    }
    kept.frame().await.unwrap().unwrap();
    owner.post("/logout", &[]).await;
    whole(kept).await;
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
async fn an_administrator_cannot_get_into_another_administrators_account_or_the_owners() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let [(_, mut bob), (_, mut dora), (_, mut owner)] = people(&panel).await;
    // A code from before ends when somebody becomes an administrator.
    let early = dora.make_code("bob").await;
    dora.get("/people/bob").await;
    assert_eq!(
        dora.post("/groups/administrators/add", &[("uid", "bob")]).await.status,
        303
    );
    let (secret, code) = code_of(&bob.get("/account/totp").await.text);
    bob.post("/account/totp", &[("secret", &secret), ("code", &code)]).await;
    let mut guest = panel.browser();
    guest.get("/reset").await;
    let fields = [("code", early.as_str()), ("password", NEW), ("again", NEW)];
    assert_eq!(guest.post("/reset", &fields).await.status, 403);
    for (path, fields, status) in [
        ("/people/bob/disable", vec![], 403),
        ("/people/bob/enable", vec![], 403),
        ("/people/bob/passkeys-off", vec![], 403),
        ("/people/bob/reset", vec![], 403),
        ("/people/bob/totp-off", vec![], 403),
        ("/people/bob/remove", vec![("sure", "bob")], 403),
        ("/groups/administrators/drop", vec![("uid", "bob")], 403),
        // The directory takes names in any case, and with blanks.
        ("/groups/Administrators/drop", vec![("uid", "bob")], 404),
        ("/groups/%20administrators/drop", vec![("uid", "bob")], 404),
        ("/groups/administrators/drop", vec![("uid", "BOB")], 404),
        ("/groups/administrators/drop", vec![("uid", "DORA")], 404),
        ("/groups/Administrators/remove", vec![("sure", "Administrators")], 404),
        ("/people/BOB/reset", vec![], 404),
        // The own one neither, as that would do without the password.
        ("/people/dora/reset", vec![], 403),
        ("/people/dora/totp-off", vec![], 403),
        // The owner's account is not the directory's.
        ("/people/ada/reset", vec![], 404),
        ("/people/ada/totp-off", vec![], 404),
    ] {
        dora.get("/people/bob").await;
        let page = dora.post(path, &fields).await;
        assert_eq!(page.status, status, "{path} {fields:?}: {}", page.text);
    }
    let page = dora.get("/people/bob").await;
    page.says("Only the owner may disable, hand over or remove");
    for gone in [
        "/people/bob/reset",
        "/people/bob/totp-off",
        "/people/bob/remove",
        "/people/bob/disable",
        "administrators/drop",
    ] {
        assert!(!page.text.contains(gone), "{gone}");
    }
    assert!(
        !dora
            .get("/groups/administrators")
            .await
            .text
            .contains("administrators/drop")
    );
    assert_eq!(bob.get("/people").await.status, 200);
    // The owner may; and whom the owner has shut out, no administrator lets in again.
    owner.make_code("bob").await;
    owner.get("/people/bob").await.says("/people/bob/disable");
    assert_eq!(owner.post("/people/bob/disable", &[]).await.status, 303);
    assert_eq!(bob.get("/people").await.location, "/login");
    assert!(!dora.get("/people/bob").await.text.contains("/people/bob/enable"));
    assert_eq!(dora.post("/people/bob/enable", &[]).await.status, 403);
    owner.get("/people/bob").await;
    assert_eq!(owner.post("/people/bob/enable", &[]).await.status, 303);
    for (path, fields) in [
        ("/people/bob/totp-off", vec![]),
        ("/groups/administrators/drop", vec![("uid", "bob")]),
        ("/people/bob/remove", vec![("sure", "bob")]),
    ] {
        owner.get("/account").await;
        let page = owner.post(path, &fields).await;
        assert_eq!(page.status, 303, "{path}: {}", page.text);
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

/// The recovery key that a page shows.
fn key_of(text: &str) -> String {
    let (_, rest) = text.split_once("class=\"secret key\" tabindex=\"0\">").unwrap();
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_owner_makes_another_recovery_key_and_the_one_before_is_good_no_more() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let first = key_of(&owner.get("/setup/done").await.text);
    owner.get("/account").await;
    let wrong = owner.post("/account/recovery", &[("current", "a guess")]).await;
    assert_eq!(wrong.status, 403);
    wrong.says("recovery-wrong");
    owner.get("/account").await;
    let page = owner.post("/account/recovery", &[("current", PASSWORD)]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let second = key_of(&page.text);
    assert_ne!(first, second);
    // Shown once, there and nowhere else; and the first is not offered to be saved any more.
    for path in ["/account", "/setup/done"] {
        let text = owner.get(path).await.text;
        assert!(!text.contains(&second) && !text.contains(&first), "{path}");
    }
    let log = owner.get("/audit").await;
    log.says("another recovery key was made");
    assert!(!log.text.contains(&second));
    let mut lost = panel.browser();
    for (key, status) in [(&first, 403), (&second, 200)] {
        lost.get("/login/recovery").await;
        let fields = [("key", key.as_str()), ("password", NEW), ("again", NEW)];
        assert_eq!(lost.post("/login/recovery", &fields).await.status, status);
    }
    assert_eq!(panel.browser().log_in(NEW).await.location, "/");
}

//! Everybody's own account: password, authenticator, sessions; passkeys are beside. The owner's is the panel's; a person's password is the directory's.

use minijinja::Value;

use super::login::{begin, bounded, check};
use super::passkeys;
use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::store::{Level, StoreError, now};
use crate::view::values;
use crate::{qr, secret, setup};

/// Something that was wrong: the form's name, and the key of the sentence.
type Wrong = (&'static str, &'static str);

async fn has_totp(app: &App, visit: &Visit) -> Result<bool, Failure> {
    Ok(match visit.whose() {
        None => visit.account.as_ref().is_some_and(|account| account.totp.is_some()),
        Some(uid) => app.store.with(move |db| db.person_totp(&uid)).await?.is_some(),
    })
}

/// The page.
pub(super) async fn show(
    app: &App,
    visit: &Visit,
    status: u16,
    wrong: Option<Wrong>,
    after: u64,
) -> Result<Response, Failure> {
    page(app, visit, status, wrong, after, None).await
}

/// The page, with a recovery key that was just made.
async fn page(
    app: &App,
    visit: &Visit,
    status: u16,
    wrong: Option<Wrong>,
    after: u64,
    key: Option<String>,
) -> Result<Response, Failure> {
    let (form, wrong) = wrong.unzip();
    let totp = has_totp(app, visit).await?;
    let unseen = app.store.with(|db| db.recovery_unseen()).await?;
    let passkeys = passkeys::shown(app, visit).await?;
    let values = values! { person => visit.person, owner => visit.account.as_ref().filter(|_| visit.person.is_none()).map(|account| &account.name),
    totp, form, wrong, after, key, unseen, passkeys, place => passkeys::Where::of(app, visit).await };
    app.page(visit, status, "account.html", values)
}

/// Whether the form has the password of who is logged in; `Err` has what is wrong, and after how many seconds to try again.
pub(super) async fn confirmed(app: &App, visit: &Visit) -> Result<Result<(), (&'static str, u64)>, Failure> {
    let person = visit.whose();
    if let Err(after) = bounded(app, visit, person.as_deref()) {
        return Ok(Err(("wrong.tries", after)));
    }
    let typed = visit.request.form.get("current").to_owned();
    let right = match person {
        Some(uid) => app.directory.check_password(&uid, &typed).await?,
        None => check(typed, visit.account.as_ref().map(|account| account.password.clone())).await,
    };
    Ok(right.then_some(()).ok_or(("wrong.current", 0)))
}

/// Another password. Every other session ends, and this one goes on under another cookie.
pub(super) async fn password(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return show(app, visit, 403, Some(("password", why)), after).await;
    }
    let form = visit.request.form.clone();
    let typed = form.get("password").to_owned();
    if let Err(why) = setup::password(&typed, form.get("again"), &[&visit.who()]) {
        return show(app, visit, 400, Some(("password", why)), 0).await;
    }
    let person = visit.whose();
    match &person {
        Some(uid) => app.directory.set_password(uid, &typed).await?,
        None => {
            let hash = tokio::task::spawn_blocking(move || secret::hash_password(&typed)).await;
            let hash = hash.map_err(|_| StoreError::Broken)??;
            app.store.with(move |db| db.set_password(&hash)).await?;
        }
    }
    let own = visit.kept();
    let whose = person.clone();
    app.store
        .with(move |db| db.end_other_sessions(whose.as_deref(), &own))
        .await?;
    begin(app, visit, Level::Full, person).await?;
    visit.told = "the password was changed".into();
    Ok(Response::see("/account?said=password-changed"))
}

/// The picture with an authenticator's secret. Until its first code is given, nothing is kept of it.
pub(super) async fn show_totp(
    app: &App,
    visit: &Visit,
    status: u16,
    secret: String,
    wrong: Option<&str>,
) -> Result<Response, Failure> {
    if has_totp(app, visit).await? {
        return Ok(Response::see("/account"));
    }
    let appliance = app.control.get::<cairn_api::Status>("/v1/status").await;
    let appliance = appliance.map_or_else(|_| "Cairn".into(), |status| status.appliance);
    let address = secret::totp_address(&secret, &visit.who(), &appliance);
    let groups: Vec<_> = secret.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    let values = values! { secret, shown => groups.join(" "), wrong };
    let picture = Value::from_safe_string(qr::svg(&address, "QR"));
    let values = minijinja::context! { picture, ..values };
    app.page(visit, status, "account-totp.html", values)
}

/// Takes the authenticator whose first code is right.
pub(super) async fn use_totp(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let form = &visit.request.form;
    let secret: String = form.get("secret").to_owned();
    if secret.len() != 32 {
        return Err(Failure::Refused(400, "error.form"));
    }
    let time = now().try_into().unwrap_or(0);
    let Some(step) = secret::totp_step(&secret, form.get("code"), time, 0) else {
        visit.told = "wrong code".into();
        return show_totp(app, visit, 403, secret, Some("wrong.totp")).await;
    };
    if has_totp(app, visit).await? {
        return Err(Failure::Refused(409, "error.totp-on"));
    }
    let person = visit.whose();
    app.store
        .with(move |db| match person {
            Some(uid) => db.set_person_totp(&uid, Some(&secret), step),
            None => db.set_totp(Some(&secret), step),
        })
        .await?;
    visit.told = "the authenticator is on".into();
    Ok(Response::see("/account?said=totp-on"))
}

/// Does without the authenticator.
pub(super) async fn end_totp(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return show(app, visit, 403, Some(("totp", why)), after).await;
    }
    let person = visit.whose();
    app.store
        .with(move |db| match person {
            Some(uid) => db.set_person_totp(&uid, None, 0),
            None => db.set_totp(None, 0),
        })
        .await?;
    visit.told = "the authenticator is off".into();
    Ok(Response::see("/account?said=totp-off"))
}

/// Makes another recovery key for the owner, which is shown this once. The one before is good no more.
pub(super) async fn renew_recovery(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return show(app, visit, 403, Some(("recovery", why)), after).await;
    }
    let key = secret::recovery_key()?;
    let kept = secret::kept_recovery(&key);
    app.store.with(move |db| db.set_recovery(kept)).await?;
    // The one from the setup may wait to be saved.
    super::setup::change(app, |wizard| wizard.recovery = None).await?;
    // Else the key of before would come back with the copy.
    let _ = app.store.with(|db| db.copy()).await;
    visit.told = "another recovery key was made".into();
    page(app, visit, 200, None, 0, Some(key)).await
}

/// The own sessions.
pub(super) async fn sessions(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let (own, whose) = (visit.kept(), visit.whose());
    let all = app.store.with(move |db| db.sessions(whose.as_deref())).await?;
    let sessions: Vec<Value> = all
        .iter()
        .map(|session| {
            values! {
                own => session.hash == own, created => session.created, idle => now() - session.seen, id => session.id(),
                address => session.address, agent => browser(&session.agent),
            }
        })
        .collect();
    app.page(visit, 200, "sessions.html", values! { sessions })
}

/// Ends every own session but this one.
pub(super) async fn end_others(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let (own, whose) = (visit.kept(), visit.whose());
    app.store
        .with(move |db| db.end_other_sessions(whose.as_deref(), &own))
        .await?;
    Ok(Response::see("/sessions?said=sessions-ended"))
}

/// Ends one of the own sessions.
pub(super) async fn end_one(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let (id, whose) = (visit.request.form.get("id").to_owned(), visit.whose());
    app.store
        .with(move |db| db.end_one_session(whose.as_deref(), &id))
        .await?;
    Ok(Response::see("/sessions?said=session-ended"))
}

/// A browser and its system, from what it says of itself.
fn browser(agent: &str) -> String {
    let find = |known: &[(&str, &str)]| {
        known
            .iter()
            .find(|(part, _)| agent.contains(part))
            .map(|(_, name)| (*name).to_owned())
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser}, {system}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => agent.chars().take(60).collect(),
    }
}

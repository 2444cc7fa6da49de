//! Logging in and out.

use std::time::Instant;

use minijinja::Value;

use super::passkeys;
use crate::app::{App, Failure, Visit};
use crate::directory::DirectoryError;
use crate::http::Response;
use crate::limits::Bound;
use crate::secret;
use crate::store::{Account, Level, NewSession, now};
use crate::view::values;

/// The form, or the one for the code where the password was right already.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    if visit.logged_in() {
        return Ok(Response::see("/"));
    }
    form(app, visit, 200, None, 0).await
}

/// The form, with what is wrong.
pub(super) async fn form(
    app: &App,
    visit: &Visit,
    status: u16,
    wrong: Option<&str>,
    after: u64,
) -> Result<Response, Failure> {
    let half = visit
        .session
        .as_ref()
        .is_some_and(|session| session.level == Level::Half);
    let template = if half { "totp.html" } else { "login.html" };
    let name = visit.request.form.get("name");
    let passkeys = app.store.with(|db| db.has_passkeys()).await?;
    let place = passkeys::Where::of(app, visit).await;
    app.page(visit, status, template, values! { wrong, after, name, passkeys, place })
}

/// Takes a try of this address and of an account: the owner's, or a person's.
pub(super) fn bounded(app: &App, visit: &Visit, person: Option<&str>) -> Result<(), u64> {
    let address = visit.request.peer.to_string();
    app.limits.take(Bound::TriesOfAddress, &address, Instant::now())?;
    // A person cannot have a name with a blank, so nobody takes the owner's tries away.
    app.limits
        .take(Bound::TriesOfAccount, person.unwrap_or("the owner"), Instant::now())
}

pub(super) fn account(visit: &Visit) -> Result<Account, Failure> {
    visit.account.clone().ok_or(Failure::Refused(403, "error.not-set-up"))
}

/// Begins a session under a new cookie.
pub(super) async fn begin(app: &App, visit: &mut Visit, level: Level, person: Option<String>) -> Result<(), Failure> {
    let before = visit.kept();
    visit.rotate()?;
    let session = NewSession {
        hash: visit.kept(),
        level,
        address: visit.request.peer.to_string(),
        agent: visit.request.header("user-agent").to_owned(),
        person,
    };
    if level == Level::Full {
        app.limits.forget(Bound::TriesOfAddress, &session.address);
    }
    Ok(app.store.with(move |db| db.begin_session(&session, &before)).await?)
}

/// Name and password. The owner's account is the panel's own, so it works whatever the directory does.
pub(super) async fn password(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    let name = visit.request.form.get("name").trim().to_owned();
    let person = (name != account.name).then(|| name.to_lowercase());
    if let Err(after) = bounded(app, visit, person.as_deref()) {
        visit.told = "too many tries".into();
        return form(app, visit, 429, Some("wrong.tries"), after).await;
    }
    let typed = visit.request.form.get("password").to_owned();
    let right = match &person {
        None => check(typed, Some(account.password)).await,
        Some(uid) => match person_password(app, uid, typed).await {
            Ok(right) => right,
            Err(error) => {
                visit.told = error.to_string();
                return form(app, visit, 503, Some("wrong.directory"), 0).await;
            }
        },
    };
    if !right {
        visit.told = "wrong name or password".into();
        visit.session = None;
        visit.role = None;
        return form(app, visit, 403, Some("wrong.login"), 0).await;
    }
    let has_totp = match person.clone() {
        None => account.totp.is_some(),
        Some(uid) => app.store.with(move |db| db.person_totp(&uid)).await?.is_some(),
    };
    let level = if has_totp { Level::Half } else { Level::Full };
    visit.told = match (level, &person) {
        (Level::Half, None) => "password right, code asked for".into(),
        (Level::Full, None) => "logged in".into(),
        (Level::Half, Some(uid)) => format!("{uid}: password right, code asked for"),
        (Level::Full, Some(uid)) => format!("{uid} logged in"),
    };
    begin(app, visit, level, person).await?;
    Ok(Response::see(if level == Level::Half { "/login" } else { "/" }))
}

/// Whether a password is the one that is kept; takes as long if nothing is.
pub(super) async fn check(typed: String, kept: Option<String>) -> bool {
    let checked = tokio::task::spawn_blocking(move || secret::check_password(&typed, kept.as_deref())).await;
    checked.unwrap_or(false)
}

/// Whether it is a person's. For a name that nobody has it takes about as long.
async fn person_password(app: &App, uid: &str, typed: String) -> Result<bool, DirectoryError> {
    let found = match app.directory.person(uid).await {
        Err(DirectoryError::None) => None,
        other => other?,
    };
    match found {
        Some(person) if !person.disabled => app.directory.check_password(uid, &typed).await,
        _ => Ok(check(typed, None).await),
    }
}

/// The authenticator's code.
pub(super) async fn code(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    if visit.session.is_none() {
        return Ok(Response::see("/login"));
    }
    let person = visit.whose();
    if let Err(after) = bounded(app, visit, person.as_deref()) {
        return form(app, visit, 429, Some("wrong.tries"), after).await;
    }
    let (secret, used) = match person.clone() {
        None => (account.totp.unwrap_or_default(), account.totp_used),
        Some(uid) => app
            .store
            .with(move |db| db.person_totp(&uid))
            .await?
            .unwrap_or_default(),
    };
    let now = now().try_into().unwrap_or(0);
    let step = secret::totp_step(&secret, visit.request.form.get("code"), now, used);
    let used = match step {
        Some(step) => {
            let person = person.clone();
            let noted = app.store.with(move |db| match &person {
                None => db.use_totp(step),
                Some(uid) => db.use_person_totp(uid, step),
            });
            match noted.await {
                // It cannot be noted that the code was used; the owner has to get in all the same.
                Err(crate::store::StoreError::Full) => true,
                other => other?,
            }
        }
        None => false,
    };
    if !used {
        visit.told = "wrong code".into();
        return form(app, visit, 403, Some("wrong.totp"), 0).await;
    }
    visit.told = person
        .as_ref()
        .map_or("logged in".into(), |uid| format!("{uid} logged in"));
    begin(app, visit, Level::Full, person).await?;
    Ok(Response::see("/"))
}

/// The form for the recovery key.
pub(super) fn show_recovery(app: &App, visit: &Visit) -> Result<Response, Failure> {
    app.page(
        visit,
        200,
        "recovery.html",
        values! { wrong => Value::from(()), after => 0 },
    )
}

/// The recovery key gives another password, ends the authenticator and passkeys, and is replaced.
pub(super) async fn recovery(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    if let Err(after) = bounded(app, visit, None) {
        return app.page(visit, 429, "recovery.html", values! { wrong => "wrong.tries", after });
    }
    let form = visit.request.form.clone();
    let kept = secret::kept_recovery(form.get("key"));
    let right = subtle::ConstantTimeEq::ct_eq(&kept[..], &account.recovery[..]);
    if !bool::from(right) {
        visit.told = "wrong recovery key".into();
        return app.page(
            visit,
            403,
            "recovery.html",
            values! { wrong => "wrong.recovery", after => 0 },
        );
    }
    let typed = form.get("password").to_owned();
    if let Err(wrong) = crate::setup::password(&typed, form.get("again"), &[&account.name]) {
        return app.page(visit, 400, "recovery.html", values! { wrong, after => 0 });
    }
    let hash = tokio::task::spawn_blocking(move || secret::hash_password(&typed)).await;
    let hash = hash.map_err(|_| crate::store::StoreError::Broken)??;
    let key = secret::recovery_key()?;
    let new = secret::kept_recovery(&key);
    if !app.store.with(move |db| db.recover(&kept, &hash, new)).await? {
        return app.page(
            visit,
            403,
            "recovery.html",
            values! { wrong => "wrong.recovery", after => 0 },
        );
    }
    begin(app, visit, Level::Full, None).await?;
    visit.session = None;
    visit.role = None;
    visit.told = "password set by the recovery key".into();
    app.page(visit, 200, "recovered.html", values! { key })
}

/// Ends this session.
pub(super) async fn log_out(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let own = visit.kept();
    app.store.with(move |db| db.end_session(&own)).await?;
    visit.rotate()?;
    Ok(Response::see("/login?said=logged-out"))
}

/// Puts the store's copy back.
pub(super) async fn put_back(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if visit.trouble.damaged.is_none() {
        return Err(Failure::Refused(409, "error.not-damaged"));
    }
    app.store.with(|db| db.put_back()).await?;
    visit.told = "the store's copy was put back".into();
    Ok(Response::see("/login?said=put-back"))
}

/// Goes on without the damaged store.
pub(super) async fn go_on(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if visit.trouble.damaged.is_some() {
        app.store.with(|db| db.go_on_without()).await?;
    }
    Ok(Response::see("/"))
}

//! Logging in and out, and the sessions.

use std::time::Instant;

use minijinja::Value;

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::limits::Bound;
use crate::secret;
use crate::store::{Account, Level, NewSession, now};
use crate::view::values;

/// The form, or the one for the code where the password was right already.
pub(super) fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    if visit.logged_in() {
        return Ok(Response::see("/"));
    }
    form(app, visit, 200, None, 0)
}

fn form(app: &App, visit: &Visit, status: u16, wrong: Option<&str>, after: u64) -> Result<Response, Failure> {
    let half = visit
        .session
        .as_ref()
        .is_some_and(|session| session.level == Level::Half);
    let template = if half { "totp.html" } else { "login.html" };
    let name = visit.request.form.get("name");
    app.page(visit, status, template, values! { wrong, after, name })
}

/// Takes a try of this address and of the account.
fn bounded(app: &App, visit: &Visit) -> Result<(), u64> {
    let address = visit.request.peer.to_string();
    app.limits.take(Bound::TriesOfAddress, &address, Instant::now())?;
    app.limits.take(Bound::TriesOfAccount, "owner", Instant::now())
}

fn account(visit: &Visit) -> Result<Account, Failure> {
    visit.account.clone().ok_or(Failure::Refused(403, "error.not-set-up"))
}

/// Begins a session under a new cookie.
pub(super) async fn begin(app: &App, visit: &mut Visit, level: Level) -> Result<(), Failure> {
    let before = visit.kept();
    visit.rotate()?;
    let session = NewSession {
        hash: visit.kept(),
        level,
        address: visit.request.peer.to_string(),
        agent: visit.request.header("user-agent").to_owned(),
    };
    if level == Level::Full {
        app.limits.forget(Bound::TriesOfAddress, &session.address);
    }
    Ok(app.store.with(move |db| db.begin_session(&session, &before)).await?)
}

/// Name and password.
pub(super) async fn password(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    if let Err(after) = bounded(app, visit) {
        visit.told = "too many tries".into();
        return form(app, visit, 429, Some("wrong.tries"), after);
    }
    let form_values = &visit.request.form;
    let known = form_values.get("name").trim() == account.name;
    let (typed, kept) = (form_values.get("password").to_owned(), account.password.clone());
    let checked = tokio::task::spawn_blocking(move || secret::check_password(&typed, known.then_some(&kept))).await;
    if !checked.unwrap_or(false) {
        visit.told = "wrong name or password".into();
        visit.session = None;
        return form(app, visit, 403, Some("wrong.login"), 0);
    }
    let level = if account.totp.is_some() {
        Level::Half
    } else {
        Level::Full
    };
    begin(app, visit, level).await?;
    visit.told = if level == Level::Half {
        "password right, code asked for"
    } else {
        "logged in"
    }
    .into();
    Ok(Response::see(if level == Level::Half { "/login" } else { "/" }))
}

/// The authenticator's code.
pub(super) async fn code(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    if visit.session.is_none() {
        return Ok(Response::see("/login"));
    }
    if let Err(after) = bounded(app, visit) {
        return form(app, visit, 429, Some("wrong.tries"), after);
    }
    let secret = account.totp.unwrap_or_default();
    let now = now().try_into().unwrap_or(0);
    let step = secret::totp_step(&secret, visit.request.form.get("code"), now, account.totp_used);
    let used = match step {
        Some(step) => match app.store.with(move |db| db.use_totp(step)).await {
            // It cannot be noted that the code was used; the owner has to get in all the same.
            Err(crate::store::StoreError::Full) => true,
            other => other?,
        },
        None => false,
    };
    if !used {
        visit.told = "wrong code".into();
        return form(app, visit, 403, Some("wrong.totp"), 0);
    }
    begin(app, visit, Level::Full).await?;
    visit.told = "logged in".into();
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

/// The recovery key gives another password, ends the authenticator, and is replaced.
pub(super) async fn recovery(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = account(visit)?;
    if let Err(after) = bounded(app, visit) {
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
    begin(app, visit, Level::Full).await?;
    visit.session = None;
    visit.told = "password set by the recovery key".into();
    app.page(visit, 200, "recovered.html", values! { key })
}

/// Every session.
pub(super) async fn sessions(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let own = visit.kept();
    let all = app.store.with(|db| db.sessions()).await?;
    let sessions: Vec<Value> = all
        .iter()
        .map(|session| {
            values! {
                own => session.hash == own, created => session.created, idle => now() - session.seen,
                address => session.address, agent => browser(&session.agent),
            }
        })
        .collect();
    app.page(visit, 200, "sessions.html", values! { sessions })
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

/// Ends every session but this one.
pub(super) async fn end_others(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let own = visit.kept();
    app.store.with(move |db| db.end_other_sessions(&own)).await?;
    Ok(Response::see("/sessions?said=sessions-ended"))
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

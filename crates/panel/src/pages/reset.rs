//! A code by which a person sets a password: made by who looks after people, shown once, good once and for a day. It stands behind the
//! `#` of a link, which browsers send to nobody, or is typed.

use std::time::Instant;

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::limits::Bound;
use crate::view::values;
use crate::{secret, setup};

/// The form.
pub(super) fn show(
    app: &App,
    visit: &Visit,
    status: u16,
    wrong: Option<&str>,
    after: u64,
) -> Result<Response, Failure> {
    let code = visit.request.form.get("code");
    app.page(visit, status, "reset.html", values! { wrong, after, code })
}

/// Sets the password.
pub(super) async fn set(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let address = visit.request.peer.to_string();
    if let Err(after) = app.limits.take(Bound::TriesOfAddress, &address, Instant::now()) {
        return show(app, visit, 429, Some("wrong.tries"), after);
    }
    let form = visit.request.form.clone();
    let hash = secret::kept_recovery(form.get("code"));
    let Some(uid) = app.store.with(move |db| db.reset(&hash)).await? else {
        visit.told = "wrong or old code".into();
        return show(app, visit, 403, Some("wrong.reset"), 0);
    };
    let typed = form.get("password");
    if let Err(why) = setup::password(typed, form.get("again"), &[&uid]) {
        return show(app, visit, 400, Some(why), 0);
    }
    if app.store.with(move |db| db.take_reset(&hash)).await?.is_none() {
        return show(app, visit, 403, Some("wrong.reset"), 0);
    }
    if let Err(error) = app.directory.set_password(&uid, typed).await {
        // The code was not of use, so it is good again.
        app.store.with(move |db| db.make_reset(&uid, hash)).await?;
        return Err(error.into());
    }
    visit.told = format!("the password of {uid} was set by a code");
    app.store.with(move |db| db.end_other_sessions(Some(&uid), &[])).await?;
    app.limits.forget(Bound::TriesOfAddress, &address);
    Ok(Response::see("/login?said=password-set"))
}

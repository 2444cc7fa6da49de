//! The pages, and which one a path names.

mod history;
mod live;
mod login;
mod overview;
pub(crate) mod setup;
mod setup_finish;
mod setup_show;
mod site;
mod tokens;
mod unit;

use hyper::Method;

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::store::Level;

/// The answer to a request that may be made.
pub(crate) async fn route(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let parts = visit.request.parts.clone();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let get = visit.request.method != Method::POST;
    // Those for who is not logged in.
    match (get, &parts[..]) {
        (_, ["setup", rest @ ..]) => return setup::route(app, visit, get, rest).await,
        (false, ["store", "put-back"]) if visit.account.is_none() || visit.logged_in() => {
            return login::put_back(app, visit).await;
        }
        (true, ["live"]) => return live::changes(app, visit).await,
        _ => {}
    }
    if visit.account.is_none() {
        return match get {
            true => Ok(Response::see("/setup")),
            false => Err(Failure::Refused(403, "error.not-set-up")),
        };
    }
    match (get, &parts[..]) {
        (true, ["login"]) => return login::show(app, visit),
        (false, ["login"]) => return login::password(app, visit).await,
        (false, ["login", "code"]) => return login::code(app, visit).await,
        (true, ["login", "recovery"]) => return login::show_recovery(app, visit),
        (false, ["login", "recovery"]) => return login::recovery(app, visit).await,
        _ => {}
    }
    if !visit.logged_in() {
        return match (get, visit.session.as_ref().map(|session| session.level)) {
            (true, _) => Ok(Response::see("/login")),
            (false, Some(Level::Half) | None) => Err(Failure::Refused(401, "error.login")),
            (false, Some(Level::Full)) => Err(Failure::Refused(403, "error.login")),
        };
    }
    match (get, &parts[..]) {
        (true, []) => overview::show(app, visit).await,
        (true, ["units", name]) => unit::show(app, visit, name).await,
        (true, ["units", name, "log"]) => live::log(app, visit, name).await,
        (false, ["units", name, verb @ ("start" | "stop" | "restart" | "reload")]) => {
            unit::act(app, visit, name, verb).await
        }
        (true, ["certificates"]) => site::certificates(app, visit).await,
        (false, ["certificates", "renew"]) => site::renew(app, visit).await,
        (true, ["history"]) => history::show(app, visit).await,
        (false, ["history", "rollback"]) => history::rollback(app, visit).await,
        (true, ["audit"]) => site::audit(app, visit).await,
        (true, ["power"]) => site::power(app, visit),
        (false, ["power", verb @ ("poweroff" | "reboot")]) => site::switch(app, visit, verb).await,
        (true, ["sessions"]) => login::sessions(app, visit).await,
        (false, ["sessions", "end"]) => login::end_others(app, visit).await,
        (false, ["logout"]) => login::log_out(app, visit).await,
        (true, ["tokens"]) => tokens::show(app, visit, None).await,
        (false, ["tokens", "make"]) => tokens::make(app, visit).await,
        (false, ["tokens", "end"]) => tokens::end(app, visit).await,
        (false, ["store", "go-on"]) => login::go_on(app, visit).await,
        _ => Err(Failure::Refused(404, "error.nothing-here")),
    }
}

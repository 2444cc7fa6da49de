//! The pages, and which one a path names.

mod account;
mod care;
mod copies;
mod groups;
mod history;
mod live;
mod login;
mod network;
mod overview;
mod passkeys;
mod people;
mod people_import;
mod reset;
pub(crate) mod setup;
mod setup_finish;
mod setup_show;
mod site;
mod tokens;
mod trust;
mod unit;
mod unit_settings;
mod version;

pub(crate) use people::make_code;

use std::sync::Arc;

use hyper::{Method, header};

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::roles::{self, Role};
use crate::secret;
use crate::store::Level;

/// The answer to a request that may be made.
pub(crate) async fn route(app: &Arc<App>, visit: &mut Visit) -> Result<Response, Failure> {
    let parts = visit.request.parts.clone();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let get = visit.request.method != Method::POST;
    // Those for who is not logged in.
    match (get, &parts[..]) {
        (_, ["setup", rest @ ..]) => return setup::route(app, visit, get, rest).await,
        (false, ["store", "put-back"]) if visit.account.is_none() => return login::put_back(app, visit).await,
        (true, ["trust"]) => return trust::show(app, visit).await,
        (true, ["trust", name]) => return trust::file(app, name).await,
        (true, ["live"]) if visit.role.is_none() => return live::changes(app, visit).await,
        (false, ["logout"]) if visit.session.is_some() => return login::log_out(app, visit).await,
        _ => {}
    }
    if visit.account.is_none() {
        return match get {
            true => Ok(Response::see("/setup")),
            false => Err(Failure::Refused(403, "error.not-set-up")),
        };
    }
    if let Some(error) = &visit.unsure {
        return Err(error.clone().into());
    }
    match (get, &parts[..]) {
        (true, ["login"]) => return login::show(app, visit).await,
        (false, ["login"]) => return login::password(app, visit).await,
        (true, ["login", "passkey"]) => return passkeys::challenge(app, visit).await,
        (false, ["login", "passkey"]) => return passkeys::log_in(app, visit).await,
        (false, ["login", "code"]) => return login::code(app, visit).await,
        (true, ["login", "recovery"]) => return login::show_recovery(app, visit),
        (false, ["login", "recovery"]) => return login::recovery(app, visit).await,
        (true, ["reset"]) => return reset::show(app, visit, 200, None, 0),
        (false, ["reset"]) => return reset::set(app, visit).await,
        _ => {}
    }
    if !visit.logged_in() {
        if get && visit.request.header(header::ACCEPT) == "text/event-stream" {
            return Ok(Response::text(204, "")); // As in live::changes
        }
        return match (get, visit.session.as_ref().map(|session| session.level)) {
            (true, _) => Ok(Response::see("/login")),
            (false, Some(Level::Half) | None) => Err(Failure::Refused(401, "error.login")),
            (false, Some(Level::Full)) => Err(Failure::Refused(403, "error.login")),
        };
    }
    match roles::needed(get, &parts) {
        None => return Err(Failure::Refused(404, "error.nothing-here")),
        Some(role) if !visit.may(role) => return Err(Failure::Refused(403, "error.role")),
        Some(_) => {}
    }
    match (get, &parts[..]) {
        (true, []) if visit.role == Some(Role::Person) => Ok(Response::see("/account")),
        (true, []) => overview::show(app, visit).await,
        (true, ["live"]) => live::changes(app, visit).await,
        (true, ["account"]) => account::show(app, visit, 200, None, 0).await,
        (false, ["account", "password"]) => account::password(app, visit).await,
        (true, ["account", "totp"]) => account::show_totp(app, visit, 200, secret::totp_secret()?, None).await,
        (false, ["account", "totp"]) => account::use_totp(app, visit).await,
        (false, ["account", "totp", "off"]) => account::end_totp(app, visit).await,
        (false, ["account", "passkeys", "begin"]) => passkeys::begin(app, visit).await,
        (false, ["account", "passkeys"]) => passkeys::add(app, visit).await,
        (false, ["account", "passkeys", "rename"]) => passkeys::rename(app, visit).await,
        (false, ["account", "passkeys", "remove"]) => passkeys::remove(app, visit).await,
        (false, ["account", "recovery"]) => account::renew_recovery(app, visit).await,
        (true, ["sessions"]) => account::sessions(app, visit).await,
        (false, ["sessions", "end"]) => account::end_others(app, visit).await,
        (false, ["sessions", "end-one"]) => account::end_one(app, visit).await,
        (true, ["units", name]) => unit::show(app, visit, name).await,
        (true, ["units", name, "log"]) => live::log(app, visit, name).await,
        (false, ["units", name, "dump"]) => copies::make(app, visit, name).await,
        (false, ["units", name, "settings"]) => unit_settings::choose(app, visit, name).await,
        (false, ["units", name, "restore"]) => copies::go_back(app, visit, name).await,
        (false, ["units", name, verb]) => unit::act(app, visit, name, verb).await,
        (true, ["diagnosis"]) => care::diagnosis(app, visit).await,
        (true, ["diagnosis", "support"]) => care::support(app, visit).await,
        (true, ["people"]) => people::list(app, visit).await,
        (true, ["people-new"]) => people::show_new(app, visit).await,
        (false, ["people-new"]) => people::add(app, visit).await,
        (true, ["people-import"]) => people_import::show(app, visit),
        (false, ["people-import"]) => people_import::import(app, visit).await,
        (true, ["people", uid]) => people::show(app, visit, uid).await,
        (false, ["people", uid]) => people::edit(app, visit, uid).await,
        (false, ["people", uid, verb]) => people::act(app, visit, uid, verb).await,
        (true, ["groups"]) => groups::list(app, visit, 200, None).await,
        (false, ["groups"]) => groups::add(app, visit).await,
        (true, ["groups", name]) => groups::show(app, visit, name).await,
        (false, ["groups", name, verb]) => groups::act(app, visit, name, verb).await,
        (true, ["certificates"]) => site::certificates(app, visit).await,
        (false, ["certificates", "renew"]) => site::renew(app, visit).await,
        (true, ["network"]) => network::show(app, visit).await,
        (false, ["network"]) => network::choose(app, visit).await,
        (false, ["network", "names"]) => network::names(app, visit).await,
        (false, ["network", verb]) => network::decide(app, visit, verb).await,
        (true, ["history"]) => history::show(app, visit).await,
        (false, ["history", "rollback"]) => history::rollback(app, visit).await,
        (true, ["version"]) => version::show(app, visit).await,
        (false, ["version", verb]) => version::act(app, visit, verb).await,
        (true, ["audit"]) => site::audit(app, visit).await,
        (true, ["power"]) => site::power(app, visit).await,
        (false, ["power", verb]) => site::switch(app, visit, verb).await,
        (true, ["tokens"]) => tokens::show(app, visit, None).await,
        (false, ["tokens", "make"]) => tokens::make(app, visit).await,
        (false, ["tokens", "end"]) => tokens::end(app, visit).await,
        (false, ["store", "put-back"]) => login::put_back(app, visit).await,
        (false, ["store", "go-on"]) => login::go_on(app, visit).await,
        _ => Err(Failure::Refused(404, "error.nothing-here")),
    }
}

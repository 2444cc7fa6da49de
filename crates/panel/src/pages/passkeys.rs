//! Passkeys: logging in by one, and the own ones. What is verified of them is in [`crate::webauthn`].

use std::time::Instant;

use data_encoding::BASE64URL_NOPAD;
use minijinja::Value;
use serde::Serialize;
use serde_json::json;

use super::account::{self, confirmed};
use super::login;
use crate::app::{App, Failure, Visit};
use crate::directory::DirectoryError;
use crate::http::Response;
use crate::limits::Bound;
use crate::secret;
use crate::store::{Holder, Level, MOST_PASSKEYS, Passkey, StoreError};
use crate::view::values;
use crate::webauthn::{self, Expected, Party, Pending, Purpose, Refused, User};

/// What a page says of where passkeys can be used.
#[derive(Debug, Serialize)]
pub(super) struct Where {
    /// Whether it is here.
    here: bool,
    /// Where else; empty if nowhere.
    address: String,
    script: String,
}

/// Where a request was made, if passkeys can belong to it.
async fn party(app: &App, visit: &Visit) -> Option<Party> {
    app.place.party(&visit.request, &app.control).await
}

impl Where {
    pub(super) async fn of(app: &App, visit: &Visit) -> Where {
        let here = party(app, visit).await.is_some();
        let address = app.place.address().unwrap_or_default();
        let script = crate::assets::passkey_script_path();
        Where { here, address, script }
    }
}

/// The own ones, as the page shows them.
pub(super) async fn shown(app: &App, visit: &Visit) -> Result<Vec<Value>, Failure> {
    let whose = visit.whose();
    let all = app.store.with(move |db| db.passkeys(whose.as_deref())).await?;
    let shown = all.iter().map(|passkey| {
        let id = BASE64URL_NOPAD.encode(&passkey.credential.id);
        values! { id, name => passkey.name, party => passkey.party, created => passkey.created, used => passkey.used }
    });
    Ok(shown.collect())
}

fn field(visit: &Visit, name: &str) -> Vec<u8> {
    let text = visit.request.form.get(name);
    BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default()
}

/// A refusal for the script, in the reader's words.
fn refused(app: &App, visit: &Visit, status: u16, key: &str, after: u64) -> Response {
    let why = app.view.say(visit.lang, key, &[("seconds", after.to_string())]);
    Response::json(status, &json!({ "error": why }))
}

/// Gives the browser a challenge.
fn challenged(
    app: &App,
    visit: &Visit,
    party: Party,
    purpose: Purpose,
    options: impl FnOnce(&Party, &[u8]) -> serde_json::Value,
) -> Result<Response, Failure> {
    let challenge = secret::random::<32>()?;
    let answer = Response::json(200, &options(&party, &challenge));
    let pending = Pending {
        challenge,
        party,
        purpose,
    };
    app.challenges.put(visit.kept(), pending, Instant::now());
    Ok(answer)
}

/// A challenge for who wants to log in.
pub(super) async fn challenge(app: &App, visit: &Visit) -> Result<Response, Failure> {
    match party(app, visit).await {
        Some(party) => challenged(app, visit, party, Purpose::LogIn, webauthn::request),
        None => Ok(refused(app, visit, 409, "passkey.elsewhere", 0)),
    }
}

/// Why nobody is logged in by a passkey.
enum Denied {
    /// For the audit log; the page says less.
    Because(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Denied {
    fn from(error: E) -> Denied {
        Denied::Failed(error.into())
    }
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        Denied::Because(refused.to_string())
    }
}

/// Whether a passkey is believed, and its account is there still.
async fn believed(
    app: &App,
    visit: &Visit,
    pending: Option<Pending>,
    (passkey, holder): &(Passkey, Holder),
) -> Result<(), Denied> {
    let pending = pending.filter(|pending| pending.purpose == Purpose::LogIn);
    let pending = pending.ok_or(Refused::Challenge)?;
    let (id, expected) = (passkey.credential.id.clone(), &pending.party);
    if party(app, visit).await.as_ref() != Some(expected) || passkey.party != expected.name {
        return Err(Refused::Name.into());
    }
    if field(visit, "user_handle") != holder.handle {
        return Err(Denied::Because("it says that it is another account's".into()));
    }
    let expected = Expected {
        party: expected,
        challenge: &pending.challenge,
        verified: true,
    };
    let (client, data, signature) = (
        field(visit, "client_data"),
        field(visit, "authenticator_data"),
        field(visit, "signature"),
    );
    let counter = webauthn::asserted(&expected, &passkey.credential, &client, &data, &signature)?;
    if let Some(uid) = &holder.person {
        let found = match app.directory.person(uid).await {
            Err(DirectoryError::None) => None,
            other => other?,
        };
        match found {
            Some(person) if person.entry == holder.entry && !person.disabled => {}
            Some(person) if person.entry == holder.entry => {
                return Err(Denied::Because("the account is disabled".into()));
            }
            _ => {
                let whose = holder.person.clone();
                app.store.with(move |db| db.end_passkeys(whose.as_deref())).await?;
                return Err(Denied::Because("the account is not there any more".into()));
            }
        }
    }
    let noted = app.store.with(move |db| db.use_passkey(&id, counter)).await;
    match noted {
        // It cannot be noted that it was used; the owner has to get in all the same.
        Ok(true) | Err(StoreError::Full) => Ok(()),
        Ok(false) => Err(Refused::Counter.into()),
        Err(error) => Err(error.into()),
    }
}

/// A login by a passkey. Its owner was verified by the authenticator, so it stands for password and code.
pub(super) async fn log_in(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let account = login::account(visit)?;
    let pending = app.challenges.take(&visit.kept(), Instant::now());
    // Not of the account: a passkey cannot be guessed, and who guesses at passwords shall not keep its owner out.
    let address = visit.request.peer.to_string();
    if let Err(after) = app.limits.take(Bound::TriesOfAddress, &address, Instant::now()) {
        visit.told = "too many tries".into();
        return login::form(app, visit, 429, Some("wrong.tries"), after).await;
    }
    let id = field(visit, "id");
    let Some(found) = app.store.with(move |db| db.passkey(&id)).await? else {
        visit.told = "passkey refused: nobody has it".into();
        return denied(app, visit).await;
    };
    let (passkey, holder) = &found;
    let who = holder.person.as_ref().unwrap_or(&account.name);
    match believed(app, visit, pending, &found).await {
        Ok(()) => {}
        Err(Denied::Because(why)) => {
            visit.told = format!("passkey “{}” of {who} refused: {why}", passkey.name);
            return denied(app, visit).await;
        }
        Err(Denied::Failed(Failure::Directory(error))) => {
            visit.told = error.to_string();
            return login::form(app, visit, 503, Some("wrong.directory"), 0).await;
        }
        Err(Denied::Failed(failure)) => return Err(failure),
    }
    visit.told = format!("{who} logged in by the passkey “{}”", passkey.name);
    login::begin(app, visit, Level::Full, holder.person.clone()).await?;
    Ok(Response::see("/"))
}

async fn denied(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    visit.session = None;
    visit.role = None;
    login::form(app, visit, 403, Some("wrong.passkey"), 0).await
}

/// What somebody calls a passkey, if it can be its name.
fn name(visit: &Visit) -> Option<String> {
    let name = visit.request.form.get("name").trim();
    let right = !name.is_empty() && name.chars().count() <= 64 && !name.chars().any(char::is_control);
    right.then(|| name.to_owned())
}

/// Asks for the password, and gives a challenge for a new passkey.
pub(super) async fn begin(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let Some(party) = party(app, visit).await else {
        return Ok(refused(app, visit, 409, "passkey.elsewhere", 0));
    };
    let Some(name) = name(visit) else {
        return Ok(refused(app, visit, 400, "wrong.passkey-name", 0));
    };
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return Ok(refused(app, visit, if after > 0 { 429 } else { 403 }, why, after));
    }
    let (whose, fresh) = (visit.whose(), secret::random::<32>()?);
    let entry = visit.person.as_ref().map(|person| person.entry.clone());
    let entry = entry.unwrap_or_default();
    let (handle, there) = app
        .store
        .with(move |db| {
            let handle = db.passkey_handle(whose.as_deref(), &entry, fresh)?;
            Ok((handle, db.passkeys(whose.as_deref())?))
        })
        .await?;
    if there.len() >= MOST_PASSKEYS {
        return Ok(refused(app, visit, 409, "wrong.passkey-many", 0));
    }
    let there = there.into_iter().filter(|passkey| passkey.party == party.name);
    let there: Vec<_> = there.map(|passkey| passkey.credential.id).collect();
    let appliance = app.control.get::<cairn_api::Status>("/v1/status").await;
    let appliance = appliance.map_or_else(|_| "Cairn".into(), |status| status.appliance);
    let who = visit.who();
    visit.told = format!("the passkey “{name}” is being made");
    let purpose = Purpose::Add {
        name,
        handle: handle.clone(),
    };
    let shown = visit.person.as_ref().map_or(&who, |person| &person.name);
    let user = User {
        handle: &handle,
        name: &who,
        shown,
    };
    challenged(app, visit, party, purpose, |party, challenge| {
        webauthn::creation(party, &appliance, challenge, user, &there)
    })
}

/// Keeps a new passkey.
pub(super) async fn add(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let pending = app.challenges.take(&visit.kept(), Instant::now());
    let here = party(app, visit).await;
    let made = match pending {
        Some(Pending {
            challenge,
            party,
            purpose: Purpose::Add { name, handle },
        }) if here.as_ref() == Some(&party) => {
            let expected = Expected {
                party: &party,
                challenge: &challenge,
                verified: true,
            };
            let (client, attestation) = (field(visit, "client_data"), field(visit, "attestation"));
            webauthn::registered(&expected, &client, &attestation).map(|made| (made, name, handle, party))
        }
        _ => Err(Refused::Challenge),
    };
    let (made, name, handle, party) = match made {
        Ok(made) => made,
        Err(why) => {
            visit.told = format!("passkey refused: {why}");
            return account::show(app, visit, 403, Some(("passkey", "wrong.passkey-made")), 0).await;
        }
    };
    let told = format!("the passkey “{name}” was added");
    let kept = app
        .store
        .with(move |db| db.add_passkey(&handle, &made, &name, &party.name));
    if !kept.await? {
        visit.told = "passkey refused: it is known already, or there are too many".into();
        return account::show(app, visit, 409, Some(("passkey", "wrong.passkey-made")), 0).await;
    }
    visit.told = told;
    Ok(Response::see("/account?said=passkey-added"))
}

/// Gives one of the own passkeys another name.
pub(super) async fn rename(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let Some(name) = name(visit) else {
        return account::show(app, visit, 400, Some(("passkey", "wrong.passkey-name")), 0).await;
    };
    let (id, whose) = (field(visit, "id"), visit.whose());
    let told = name.clone();
    let renamed = app
        .store
        .with(move |db| db.rename_passkey(whose.as_deref(), &id, &name));
    let Some(before) = renamed.await? else {
        return Err(Failure::Refused(404, "error.no-passkey"));
    };
    visit.told = format!("the passkey “{before}” is now called “{told}”");
    Ok(Response::see("/account?said=passkey-renamed"))
}

/// Forgets one of the own passkeys.
pub(super) async fn remove(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return account::show(app, visit, 403, Some(("passkey", why)), after).await;
    }
    let (id, whose) = (field(visit, "id"), visit.whose());
    let ended = app.store.with(move |db| db.end_passkey(whose.as_deref(), &id)).await?;
    let Some(name) = ended else {
        return Err(Failure::Refused(404, "error.no-passkey"));
    };
    // Else it would come back with the copy.
    let _ = app.store.with(|db| db.copy()).await;
    visit.told = format!("the passkey “{name}” was removed");
    Ok(Response::see("/account?said=passkey-removed"))
}

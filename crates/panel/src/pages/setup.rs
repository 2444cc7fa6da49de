//! The setup wizard: a form for each step, whose answers are kept in the store.

use std::time::Instant;

use super::network::said;
use super::setup_finish::{finish, saved, show_done, show_progress};
use super::setup_show::{show, steps};
use crate::app::{App, Failure, Visit};
use crate::control::ControlError;
use crate::http::Response;
use crate::limits::Bound;
use crate::network;
use crate::roles::Role;
use crate::secret;
use crate::setup::{self, Admin, Phase, STEPS, Wizard};
use crate::store::{Db, StoreError, now};
use crate::view::values;
use cairn_api::{NetworkChoices, Setup};
use data_encoding::HEXLOWER;

const WIZARD: &str = "wizard";

pub(super) fn read(db: &Db) -> Result<Wizard, StoreError> {
    let text = db.get(WIZARD)?.unwrap_or_default();
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

/// Changes the answers, one browser after the other.
pub(super) async fn change<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&mut Wizard) -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = app.store.with(move |db| {
        let before = read(db)?;
        let mut wizard = before.clone();
        let told = work(&mut wizard);
        if wizard != before {
            let text = serde_json::to_vec(&wizard).unwrap_or_default();
            db.put(WIZARD, &text)?;
        }
        Ok(told)
    });
    Ok(done.await?)
}

pub(super) fn own(visit: &Visit) -> String {
    HEXLOWER.encode(&visit.kept())
}

/// Whether this browser is the one that sets up.
pub(super) async fn is_at_work(app: &App, visit: &Visit) -> Result<bool, Failure> {
    let wizard = app.store.with(|db| read(db)).await?;
    Ok(wizard.holder.as_deref() == Some(&own(visit)))
}

/// See [`super::setup_finish::finish_what_was_begun`].
pub(crate) use super::setup_finish::finish_what_was_begun;

/// The steps' pages.
pub(super) async fn route(app: &App, visit: &mut Visit, get: bool, rest: &[&str]) -> Result<Response, Failure> {
    let mut wizard = app.store.with(|db| read(db)).await?;
    let me = own(visit);
    let holds = wizard.holder.as_deref() == Some(&me);
    // With an account there is only what comes after the setup, for the browser that did it.
    if visit.account.is_some() {
        let after = wizard.phase == Phase::Done && (holds || visit.may(Role::Owner));
        return match (get, rest) {
            (true, ["progress"]) if after => show_progress(app, visit).await,
            (true, ["done"]) if after => show_done(app, visit, &wizard).await,
            (false, ["saved"]) if after => saved(app, visit).await,
            (true, _) => Ok(Response::see(if visit.logged_in() { "/" } else { "/login" })),
            _ => Err(Failure::Refused(409, "error.set-up")),
        };
    }
    let setup = app.control.setup().await?;
    if !setup.open && wizard.phase == Phase::Open {
        // The appliance is set up and the panel has lost its account, or is newer than the setup.
        return app.page(visit, 409, "setup-taken.html", values! { why => "lost" });
    }
    if !holds && wizard.previous.as_deref() == Some(&me) && rest != ["code"] {
        return app.page(visit, 409, "setup-taken.html", values! { why => "taken-over" });
    }
    match (get, rest) {
        (true, ["code"]) => return code_page(app, visit, 200, &setup, &wizard, None, 0),
        (false, ["code"]) => return code(app, visit, &setup, &wizard).await,
        (false, ["take-over"]) => return take_over(app, visit).await,
        (true, _) if !holds => return Ok(Response::see("/setup/code")),
        (false, _) if !holds => return Err(Failure::Refused(403, "error.not-holder")),
        _ => {}
    }
    let holder = me.clone();
    change(app, move |wizard| {
        if wizard.holder == Some(holder) && now() - wizard.seen >= 30 {
            wizard.seen = now();
        }
    })
    .await?;
    match (get, rest) {
        (true, [step]) if STEPS.contains(step) && wizard.reachable(step) => {
            if *step == "totp" && wizard.totp_shown.is_none() && wizard.totp.is_none() {
                let fresh = secret::totp_secret()?;
                wizard = change(app, move |wizard| {
                    wizard.totp_shown.get_or_insert(fresh);
                    wizard.clone()
                })
                .await?;
            }
            show(app, visit, 200, step, &setup, &wizard, None).await
        }
        (true, _) => Ok(Response::see(&format!("/setup/{}", wizard.next()))),
        (false, [step @ ("name" | "network" | "admin" | "totp" | "parts")]) if wizard.reachable(step) => {
            match answer(app, visit, step, &setup, &wizard).await? {
                Ok(()) => {
                    let next = STEPS.iter().position(|other| other == step).map_or(0, |at| at + 1);
                    Ok(Response::see(&format!("/setup/{}", STEPS[next])))
                }
                Err(wrong) => show(app, visit, 400, step, &setup, &wizard, Some(wrong)).await,
            }
        }
        (false, ["finish"]) if wizard.reachable("summary") => finish(app, visit, &setup).await,
        _ => Err(Failure::Refused(404, "error.nothing-here")),
    }
}

pub(super) fn code_page(
    app: &App,
    visit: &Visit,
    status: u16,
    setup: &Setup,
    wizard: &Wizard,
    wrong: Option<&str>,
    after: u64,
) -> Result<Response, Failure> {
    let me = own(visit);
    let claims = wizard.claimant.as_deref() == Some(&me) && wizard.holder.is_some();
    let idle = now() - wizard.seen;
    let holds = wizard.holder.as_deref() == Some(&me);
    app.page(
        visit,
        status,
        "setup-code.html",
        values! { steps => steps("code"), step => "code", problems => setup.problems, wrong, after, claims, idle, holds },
    )
}

/// The code from the console: the manager judges it, and counts the tries.
async fn code(app: &App, visit: &mut Visit, setup: &Setup, wizard: &Wizard) -> Result<Response, Failure> {
    let address = visit.request.peer.to_string();
    if let Err(after) = app.limits.take(Bound::TriesOfAddress, &address, Instant::now()) {
        return code_page(app, visit, 429, setup, wizard, Some("wrong.tries"), after);
    }
    let typed: String = visit
        .request
        .form
        .get("code")
        .chars()
        .filter(|c| !c.is_whitespace())
        .take(100)
        .collect();
    match app.control.try_code(&typed).await {
        Ok(()) => {}
        Err(error) if matches!(error.status(), 403 | 400) => {
            visit.told = "wrong setup code".into();
            return code_page(app, visit, 403, setup, wizard, Some("wrong.code"), 0);
        }
        Err(error @ ControlError::Refused { status: 429, .. }) => {
            let after = error.value("after_s").and_then(serde_json::Value::as_u64).unwrap_or(60);
            return code_page(app, visit, 429, setup, wizard, Some("wrong.tries"), after);
        }
        Err(error) => return Err(error.into()),
    }
    app.limits.forget(Bound::TriesOfAddress, &address);
    let before = own(visit);
    visit.rotate()?;
    let me = own(visit);
    let taken = change(app, move |wizard| {
        wizard.code = typed;
        match &wizard.holder {
            Some(holder) if *holder != before => {
                wizard.claimant = Some(me);
                true
            }
            _ => {
                wizard.holder = Some(me);
                wizard.seen = now();
                false
            }
        }
    })
    .await?;
    visit.told = if taken {
        "right setup code, another browser is at work"
    } else {
        "right setup code"
    }
    .into();
    Ok(Response::see(if taken { "/setup/code" } else { "/setup" }))
}

/// A browser with the right code goes on in the place of another.
async fn take_over(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let me = own(visit);
    let done = change(app, move |wizard| {
        let may = wizard.claimant.as_deref() == Some(&me) && wizard.phase == Phase::Open;
        if may {
            wizard.previous = wizard.holder.replace(me);
            wizard.claimant = None;
            wizard.seen = now();
        }
        may
    })
    .await?;
    visit.told = "the setup was taken over".into();
    match done {
        true => Ok(Response::see("/setup")),
        false => Err(Failure::Refused(403, "error.not-holder")),
    }
}

/// What is wrong, and in which field.
pub(super) type Wrong = (&'static str, String);

/// Takes a step's answer.
async fn answer(
    app: &App,
    visit: &mut Visit,
    step: &str,
    setup: &Setup,
    wizard: &Wizard,
) -> Result<Result<(), Wrong>, Failure> {
    let form = visit.request.form.clone();
    let say = |key: &str| app.view.say(visit.lang, key, &[]);
    let new = match step {
        "name" => {
            let name = match setup::host_name(form.get("name")) {
                Ok(name) => name,
                Err(key) => return Ok(Err(("name", say(key)))),
            };
            let domain = match setup::domain(form.get("domain")) {
                Ok(domain) => domain,
                Err(key) => return Ok(Err(("domain", say(key)))),
            };
            Wizard {
                name: Some(name),
                domain,
                ..wizard.clone()
            }
        }
        "network" => {
            let device = form.get("device");
            let network = match network::choice(&form, None).map(network::meant) {
                Ok(Some(choice)) if !device.is_empty() => NetworkChoices {
                    devices: [(device.to_owned(), choice)].into(),
                    ..NetworkChoices::default()
                },
                // Without a device there is nothing to choose for.
                Ok(_) => NetworkChoices::default(),
                Err((field, why)) => return Ok(Err((field, said(app, visit, &why)))),
            };
            if let Err((field, why)) = network::check(&network) {
                return Ok(Err((field, said(app, visit, &why))));
            }
            Wizard {
                network,
                network_decided: true,
                ..wizard.clone()
            }
        }
        "admin" => {
            let name = match setup::account_name(form.get("account")) {
                Ok(name) => name,
                Err(key) => return Ok(Err(("account", say(key)))),
            };
            let password = form.get("password").to_owned();
            // Who comes back to this step need not choose again.
            let kept = wizard
                .admin
                .as_ref()
                .filter(|_| password.is_empty() && form.get("again").is_empty());
            let password = match kept {
                Some(admin) => admin.password.clone(),
                None => {
                    let appliance = wizard.name.clone().unwrap_or_default();
                    if let Err(key) = setup::password(&password, form.get("again"), &[&name, &appliance]) {
                        return Ok(Err(("password", say(key))));
                    }
                    let hash = tokio::task::spawn_blocking(move || secret::hash_password(&password)).await;
                    hash.map_err(|_| StoreError::Broken)??
                }
            };
            Wizard {
                admin: Some(Admin { name, password }),
                ..wizard.clone()
            }
        }
        "totp" if form.get("choice") == "skip" => Wizard {
            totp: None,
            totp_decided: true,
            ..wizard.clone()
        },
        "totp" if form.get("choice") == "keep" && wizard.totp.is_some() => wizard.clone(),
        "totp" => {
            let shown = wizard.totp_shown.clone().unwrap_or_default();
            let time = now().try_into().unwrap_or(0);
            if secret::totp_step(&shown, form.get("code"), time, 0).is_none() {
                return Ok(Err(("code", say("wrong.totp"))));
            }
            Wizard {
                totp: Some(shown),
                totp_shown: None,
                totp_decided: true,
                ..wizard.clone()
            }
        }
        _ => Wizard {
            units: Some(setup::chosen(&setup.parts, &form.all("unit"))),
            ..wizard.clone()
        },
    };
    let me = own(visit);
    let kept = change(app, move |wizard| {
        // Another browser may have taken over while the password was worked on.
        let still = wizard.holder == Some(me) && wizard.phase == Phase::Open;
        if still {
            *wizard = Wizard {
                holder: wizard.holder.clone(),
                previous: wizard.previous.clone(),
                claimant: wizard.claimant.clone(),
                ..new
            };
        }
        still
    })
    .await?;
    match kept {
        true => Ok(Ok(())),
        false => Err(Failure::Refused(409, "error.not-holder")),
    }
}

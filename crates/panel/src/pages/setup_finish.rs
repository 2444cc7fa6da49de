//! The end of the setup: the manager is told, once, and the owner's account is made.

use cairn_api::{NetworkChoices, NetworkState, RecoveryKey, Setup, SetupAnswers, Status};
use minijinja::Value;

use super::overview;
use super::setup::{Wrong, change, own, read};
use super::setup_show::{show, steps};
use crate::app::{App, Failure, Visit};
use crate::control::ControlError;
use crate::http::Response;
use crate::network;
use crate::secret;
use crate::setup::{Phase, Wizard};
use crate::store::{Level, NewAccount, StoreError};
use crate::view::values;

/// Tells the manager. Of two browsers that finish at once, one finds the other under way.
pub(super) async fn finish(app: &App, visit: &mut Visit, setup: &Setup) -> Result<Response, Failure> {
    let me = own(visit);
    let begun = change(app, move |wizard| {
        let mine = wizard.holder.as_deref() == Some(&me) && wizard.phase == Phase::Open && wizard.reachable("summary");
        mine.then(|| {
            let before = wizard.sent;
            wizard.phase = Phase::Applying;
            wizard.sent = true;
            (wizard.clone(), before)
        })
    })
    .await?;
    let Some((wizard, sent_before)) = begun else {
        return Err(Failure::Refused(409, "error.not-holder"));
    };
    let choice = SetupAnswers {
        code: wizard.code.clone(),
        name: wizard.name.clone().unwrap_or_default(),
        domain: wizard.domain.clone(),
        network: Some(wizard.network.clone()).filter(|network| *network != NetworkChoices::default()),
        units: wizard.units.clone().unwrap_or_default(),
    };
    let actor = wizard
        .admin
        .as_ref()
        .map(|admin| admin.name.clone())
        .unwrap_or_default();
    match app.control.of(&actor).apply(&choice).await {
        Ok(_) => {}
        // It was told before and did it; only its answer was lost.
        Err(error) if error.status() == 409 && sent_before => {}
        Err(error) => {
            change(app, |wizard| wizard.phase = Phase::Open).await?;
            visit.told = error.to_string();
            return refused(app, visit, setup, &wizard, error).await;
        }
    }
    complete(app, &wizard).await?;
    super::login::begin(app, visit, Level::Full, None).await?;
    let me = own(visit);
    change(app, move |wizard| wizard.holder = Some(me)).await?;
    visit.told = "the appliance was set up".into();
    let _ = app.changes.send(());
    Ok(Response::see("/setup/progress"))
}

/// The step to which the manager's refusal belongs.
async fn refused(
    app: &App,
    visit: &Visit,
    setup: &Setup,
    wizard: &Wizard,
    error: ControlError,
) -> Result<Response, Failure> {
    let why = error.to_string();
    if error.status() == 403 {
        return Ok(Response::see("/setup/code"));
    }
    if error.status() != 400 {
        return Err(error.into());
    }
    let (step, field): (&str, &'static str) = match error.value("field").and_then(serde_json::Value::as_str) {
        Some("name") => ("name", "name"),
        Some("domain") => ("name", "domain"),
        Some("network") => ("network", "addresses"),
        Some("units") => ("parts", "units"),
        Some("code") => return Ok(Response::see("/setup/code")),
        _ => ("summary", "summary"),
    };
    let wrong: Wrong = (field, why);
    // What is shown is what was kept, not this request's form.
    show(app, visit, 400, step, setup, wizard, Some(wrong)).await
}

/// Makes the account. The recovery key stays until the owner says that it is saved, so that a reload shows it again.
async fn complete(app: &App, wizard: &Wizard) -> Result<(), Failure> {
    let Some(admin) = wizard.admin.clone() else {
        return Ok(());
    };
    let key = secret::recovery_key()?;
    let account = NewAccount {
        name: admin.name,
        password: admin.password,
        totp: wizard.totp.clone(),
        recovery: secret::kept_recovery(&key),
    };
    let made = app.store.with(move |db| db.make_account(&account)).await;
    match made {
        Ok(()) => {}
        Err(StoreError::Taken) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    change(app, |wizard| {
        let keep = std::mem::take(wizard);
        *wizard = Wizard {
            phase: Phase::Done,
            holder: keep.holder,
            recovery: Some(key),
            ..Wizard::default()
        };
    })
    .await?;
    let _ = app.store.with(|db| db.copy()).await;
    Ok(())
}

/// After a power cut between the manager's work and ours: if the appliance is set up, the account is made; if not, the
/// owner goes on where they were.
pub(crate) async fn finish_what_was_begun(app: &App) {
    let Ok(wizard) = app.store.with(|db| read(db)).await else {
        return;
    };
    if wizard.phase != Phase::Applying {
        return;
    }
    let done = match app.control.setup().await {
        Ok(setup) if !setup.open => complete(app, &wizard).await,
        // A manager that is away is asked when the owner finishes again.
        _ => change(app, |wizard| wizard.phase = Phase::Open).await,
    };
    if let Err(error) = done {
        eprintln!("<3>the setup that was begun: {error}");
    }
}

/// Where the appliance is found from now on, if it has moved to a fixed address.
async fn moved(app: &App) -> Option<String> {
    let state: NetworkState = app.control.get("/v1/network").await.ok()?;
    network::fixed_host(&state.chosen)
}

/// How far the units are.
pub(super) async fn show_progress(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let status: Status = app.control.get("/v1/status").await?;
    let wanted: Vec<_> = status.units.iter().filter(|unit| unit.wanted).collect();
    let units: Vec<Value> = wanted
        .iter()
        .map(|unit| {
            values! {
                name => unit.name, description => unit.description, state => unit.state, mood => overview::mood(unit), reason => unit.reason,
                says => unit.says,
            }
        })
        .collect();
    let up = wanted.iter().filter(|unit| unit.state == "ready").count();
    let failed = wanted.iter().filter(|unit| unit.state == "failed").count();
    app.page(
        visit,
        200,
        "setup-progress.html",
        values! { steps => steps("progress"), step => "progress", units, up, failed, moved => moved(app).await, count => wanted.len(), ready => status.ready },
    )
}

/// The recovery key of the data partition, where that is encrypted and nobody has said yet that it is saved.
async fn data_key(app: &App) -> Option<String> {
    let kept: Result<RecoveryKey, _> = app.control.get("/v1/data/recovery-key").await;
    kept.ok().map(|kept| kept.key)
}

/// Where to go from here, and the recovery keys until they are saved.
pub(super) async fn show_done(app: &App, visit: &Visit, wizard: &Wizard) -> Result<Response, Failure> {
    let status: Status = app.control.get("/v1/status").await?;
    let moved = moved(app).await;
    let address = moved.clone().unwrap_or(status.address);
    app.page(
        visit,
        200,
        "setup-done.html",
        values! {
            steps => steps("done"), step => "done", recovery => wizard.recovery, data_key => data_key(app).await, appliance => status.appliance, address, moved,
        },
    )
}

/// The owner has saved the recovery keys that the page showed: they are not kept any longer.
pub(super) async fn saved(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    // Only the one that was shown.
    let shown = visit.request.form.get("data_key").to_owned();
    if !shown.is_empty() && data_key(app).await.is_some_and(|kept| kept.starts_with(&shown)) {
        app.control.post("/v1/data/recovery-key/saved", None).await?;
    }
    change(app, |wizard| {
        wizard.recovery = None;
        wizard.holder = None;
    })
    .await?;
    visit.told = "the recovery key is saved".into();
    Ok(Response::see("/"))
}

//! The owner's account where nobody walked through the wizard: the manager has it from first choices that somebody brought, and keeps it
//! until it is taken.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::{Administrator, FirstAccount};

use crate::app::App;
use crate::control::ControlError;
use crate::secret;
use crate::store::{NewAccount, StoreError};

/// How long until the manager is asked again.
const PACE: Duration = Duration::from_secs(2);

/// Waits for an account, makes it, and tells the manager to forget it. Ends when there is an account, whoever made it.
pub(crate) async fn take(app: Arc<App>) {
    let mut said = String::new();
    loop {
        match once(&app).await {
            Ok(true) => return,
            Ok(false) => {}
            // The same trouble is said once.
            Err(why) if why != said => {
                eprintln!("<3>the owner's account from first choices: {why}");
                said = why;
            }
            Err(_) => {}
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Whether there is an account now.
async fn once(app: &App) -> Result<bool, String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let has = app.store.with(|db| db.account()).await.map_err(|e| told(&e))?.is_some();
    let waiting: FirstAccount = match app.control.get("/v1/setup/administrator").await {
        Ok(waiting) => waiting,
        // It starts, or is another version: it is asked again.
        Err(ControlError::Away { .. }) => return Ok(has),
        Err(error) => return Err(told(&error)),
    };
    let Some(owner) = waiting.administrator else {
        return Ok(has);
    };
    if !has {
        make(app, owner).await?;
    }
    app.control
        .post("/v1/setup/administrator/taken", None)
        .await
        .map_err(|e| told(&e))?;
    Ok(true)
}

async fn make(app: &App, owner: Administrator) -> Result<(), String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let password = match (owner.password_hash, owner.password) {
        (Some(hash), _) => hash,
        (None, Some(password)) => {
            let hashing = tokio::task::spawn_blocking(move || secret::hash_password(&password));
            hashing.await.map_err(|e| told(&e))?.map_err(|e| told(&e))?
        }
        (None, None) => return Err("it has no password".to_owned()),
    };
    // Nobody has seen this key: the owner makes another one in the panel.
    let key = secret::recovery_key().map_err(|e| told(&e))?;
    let account = NewAccount {
        name: owner.name,
        password,
        totp: None,
        recovery: secret::kept_recovery(&key),
    };
    match app
        .store
        .with(move |db| db.make_account(&account).and_then(|()| db.hide_recovery()))
        .await
    {
        Ok(()) | Err(StoreError::Taken) => {}
        Err(error) => return Err(told(&error)),
    }
    let _ = app.store.with(|db| db.copy()).await;
    Ok(())
}

//! The copies (dumps) of what a unit keeps: they are listed on its page, made by who looks after it, and gone back to by the owner.

use cairn_api::UnitDumps;
use minijinja::Value;

use super::account::confirmed;
use super::unit::Wrong;
use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;
use crate::view::values;

/// What the unit's page shows of them; nothing for a unit without any.
pub(super) async fn shown(app: &App, name: &str) -> Option<Value> {
    let told: UnitDumps = app
        .control
        .get(&format!("/v1/units/{}/dumps", encode(name)))
        .await
        .ok()?;
    let all: Vec<Value> = told
        .dumps
        .iter()
        .map(|dump| {
            values! {
                name => dump.name, at => i64::try_from(dump.at).unwrap_or(0), bytes => dump.bytes as f64, appliance => dump.appliance,
                refused => dump.refused,
            }
        })
        .collect();
    let restored = told
        .restored
        .as_ref()
        .map(|end| values! { at => i64::try_from(end.at).unwrap_or(0), why => end.why });
    Some(values! {
        all, keep => told.keep, daily => told.daily, under_way => told.under_way, failed => told.failed, overdue => told.overdue,
        restoring => told.restoring.is_some(), restored, before => told.before, next_s => told.next_ms.map(|ms| ms as f64 / 1000.0),
    })
}

/// Has one made.
pub(super) async fn make(app: &App, visit: &mut Visit, name: &str) -> Result<Response, Failure> {
    let unit = encode(name);
    visit
        .control(app)
        .post(&format!("/v1/units/{unit}/dumps"), None)
        .await?;
    visit.told = format!("a copy of what {name} keeps was begun");
    Ok(Response::see(&format!("/units/{unit}?said=copy#copies")))
}

/// Lets the unit go back to one, for the owner's password.
pub(super) async fn go_back(app: &App, visit: &mut Visit, name: &str) -> Result<Response, Failure> {
    if let Err((why, after)) = confirmed(app, visit).await? {
        visit.told = "wrong password".into();
        return super::unit::page(
            app,
            visit,
            name,
            403,
            Wrong {
                copy: Some((why, after)),
                ..Wrong::default()
            },
        )
        .await;
    }
    let (unit, dump) = (encode(name), visit.request.form.get("dump").to_owned());
    visit
        .control(app)
        .post(&format!("/v1/units/{unit}/restore?dump={}", encode(&dump)), None)
        .await?;
    visit.told = format!("{name} goes back to the copy {dump}");
    Ok(Response::see(&format!("/units/{unit}?said=restore#copies")))
}

//! Certificates, the audit log, and the power switch.

use cairn_api::{Certificates, Status};

use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;
use crate::view::values;

/// The certificates.
pub(super) async fn certificates(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let all: Certificates = app.control.get("/v1/certificates").await?;
    app.page(
        visit,
        200,
        "certificates.html",
        values! { authority => all.authority, certificates => all.certificates, imported => all.imported, errors => all.errors },
    )
}

/// Renews what is due.
pub(super) async fn renew(app: &App, visit: &Visit) -> Result<Response, Failure> {
    visit.control(app).post("/v1/certificates/renew", None).await?;
    Ok(Response::see("/certificates?said=renewed"))
}

/// The audit log.
pub(super) async fn audit(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let entries = app.store.with(|db| db.audit(500)).await?;
    app.page(visit, 200, "audit.html", values! { entries })
}

/// The power switch.
pub(super) async fn power(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let status: Status = app.control.get("/v1/status").await?;
    app.page(
        visit,
        200,
        "power.html",
        values! { begun => "", appliance => status.appliance },
    )
}

/// Switches off, or starts again; only with the tick that says so. All data goes only for who types the appliance's name.
pub(super) async fn switch(app: &App, visit: &mut Visit, verb: &str) -> Result<Response, Failure> {
    if verb == "factory-reset" {
        let name = visit.request.form.get("name").trim().to_owned();
        let path = format!("/v1/power/factory-reset?name={}", encode(&name));
        let begun = visit.control(app).post(&path, None).await;
        begun.map_err(|refused| match refused.status() {
            409 => Failure::Refused(400, "error.reset-name"),
            _ => refused.into(),
        })?;
        visit.told = "a factory reset was begun".to_owned();
        return app.page(visit, 200, "power.html", values! { begun => verb });
    }
    if visit.request.form.get("sure") != verb {
        return Err(Failure::Refused(400, "error.sure"));
    }
    visit.control(app).post(&format!("/v1/power/{verb}"), None).await?;
    visit.told = format!("{verb} was begun");
    app.page(visit, 200, "power.html", values! { begun => verb })
}

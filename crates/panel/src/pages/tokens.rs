//! Tokens for programs that use the panel's API.

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::secret;
use crate::store::Scope;
use crate::view::values;

/// The page; with a token that was just made, which is shown this once.
pub(super) async fn show(app: &App, visit: &Visit, made: Option<String>) -> Result<Response, Failure> {
    let tokens = app.store.with(|db| db.tokens()).await?;
    app.page(visit, 200, "tokens.html", values! { tokens, made })
}

/// Makes a token.
pub(super) async fn make(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let form = &visit.request.form;
    let name = crate::setup::account_name(form.get("name")).map_err(|why| Failure::Refused(400, why))?;
    let scope = Scope::parse(form.get("scope")).ok_or(Failure::Refused(400, "error.form"))?;
    let token = format!("cairn_{}", secret::token()?);
    let hash = secret::kept(&token);
    let told = format!("token `{name}` with scope {} was made", scope.as_str());
    if !app.store.with(move |db| db.make_token(&name, scope, hash)).await? {
        return Err(Failure::Refused(409, "error.token-taken"));
    }
    visit.told = told;
    show(app, visit, Some(token)).await
}

/// Ends a token.
pub(super) async fn end(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let name = visit.request.form.get("name").to_owned();
    visit.told = format!("token `{name}` was ended");
    app.store.with(move |db| db.end_token(&name)).await?;
    Ok(Response::see("/tokens?said=token-ended"))
}

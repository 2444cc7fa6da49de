//! The versions of the owner's choices: what differs between them, and the way back.

use cairn_api::{SiteDiff, SiteHistory};
use minijinja::Value;

use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;
use crate::view::values;

/// The page; with `from` and `to` in its query, what differs between those. With `back`, what would be another if that version were in
/// force again, and the form for it.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let history: SiteHistory = app.control.get("/v1/site/history").await?;
    let back: Option<u64> = visit.request.query.get("back").parse().ok();
    let current = history.versions.iter().find(|version| version.in_force);
    let (from, to) = match (back, current) {
        (Some(back), Some(current)) => (current.number.to_string(), back.to_string()),
        _ => {
            let query = |name| visit.request.query.get(name).to_owned();
            (query("from"), query("to"))
        }
    };
    let diff: Option<SiteDiff> = match (from.as_str(), to.as_str()) {
        ("", "") => None,
        (from, to) => {
            let pairs = [("from", from), ("to", to)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty());
            let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
            Some(app.control.get(&format!("/v1/site/diff?{}", query.join("&"))).await?)
        }
    };
    let lines: Vec<Value> = diff.iter().flat_map(|diff| diff.diff.lines()).map(line).collect();
    app.page(
        visit,
        200,
        "history.html",
        values! {
            versions => history.versions, instead => history.instead, compared => diff.is_some(),
            from => diff.as_ref().map(|diff| &diff.from), to => diff.as_ref().map(|diff| &diff.to), lines, back,
        },
    )
}

fn line(text: &str) -> Value {
    let kind = match text.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'@', ..] => "head",
        [b'+', ..] => "added",
        [b'-', ..] => "removed",
        _ => "same",
    };
    values! { kind, text }
}

/// Puts an earlier version in force.
pub(super) async fn rollback(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let to: u64 = visit
        .request
        .form
        .get("to")
        .parse()
        .map_err(|_| Failure::Refused(400, "error.form"))?;
    if visit.request.form.get("sure") != to.to_string() {
        return Err(Failure::Refused(400, "error.sure"));
    }
    visit
        .control(app)
        .post(&format!("/v1/site/rollback?to={to}"), None)
        .await?;
    visit.told = format!("version {to} is in force again");
    Ok(Response::see("/history?said=rolled-back"))
}

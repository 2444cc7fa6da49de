//! What the panel tells of the appliance itself, beside what the manager answers.

use serde_json::{Value, json};

use crate::app::{App, Failure};
use crate::diagnosis;
use crate::http::Request;

/// A status, and what is said.
type Answer = Result<(u16, Value), Failure>;

/// To where the owner's domain or a name in it leads. Other names are not looked up: a token that may only look is no way to ask a stranger's
/// name server something.
pub(super) async fn look_up(app: &App, request: &Request) -> Answer {
    let refused = |why: &str| Ok((400, json!({ "error": why, "field": "name" })));
    let certificates = app.control.get("/v1/certificates").await?;
    let Some(domain) = diagnosis::domain(&certificates) else {
        return refused("no domain was chosen for this appliance");
    };
    let asked = request.query.get("name").trim_end_matches('.').to_ascii_lowercase();
    let name = match asked.as_str() {
        "" => domain,
        name if name == domain => domain,
        name if name.len() <= 253 && name.ends_with(&format!(".{domain}")) => name,
        _ => return refused(&format!("only {domain} and names in it are looked up")),
    };
    let addresses = diagnosis::look_up(name).await;
    let own = app.control.get::<cairn_api::Status>("/v1/status").await?.address;
    let here = addresses
        .as_ref()
        .map(|all| all.iter().any(|address| address.to_string() == own));
    Ok((200, json!({ "name": name, "addresses": addresses, "here": here })))
}

/// So many lines of logs are told if nothing is said, and so many at most: all of them have to be in memory.
const LINES: (u32, u32) = (200, 2000);

/// Logs, as text in JSON. `query` is what the manager is asked, with names that the route knows.
pub(super) async fn logs(app: &App, request: &Request, query: &str) -> Answer {
    let asked = request.query.get("lines");
    if !asked.is_empty() && !asked.parse().is_ok_and(|lines: u32| (1..=LINES.1).contains(&lines)) {
        let error = format!("`lines` is a number from 1 to {}", LINES.1);
        return Ok((400, json!({ "error": error, "field": "lines" })));
    }
    let lines = if asked.is_empty() {
        format!("lines={}&", LINES.0)
    } else {
        String::new()
    };
    let start = if query.is_empty() { "?" } else { "&" };
    let text = app
        .control
        .text(&format!("/v1/logs{query}{start}{lines}output=short"))
        .await?;
    Ok((200, json!({ "text": text })))
}

//! The panel's API for programs: `/api/v1`, with a bearer token, as far as its scope goes. The manager's answers are handed on; of people and groups
//! the panel answers itself.

mod facts;
mod openapi;
mod people;
mod routes;

use std::time::Instant;

use hyper::{Method, header};
use serde_json::{Value, json};

use self::routes::{Own, ROUTES, Route, To};
use crate::app::{App, Failure, path};
use crate::bundle;
use crate::control::{ControlError, encode};
use crate::http::{Request, Response};
use crate::limits::Bound;
use crate::secret;
use crate::store::Record;
use crate::words::Lang;

fn refuse(status: u16, why: impl Into<String>) -> Response {
    Response::json(status, &json!({ "error": why.into() }))
}

/// The answer to a table that is too long.
pub(crate) fn table_too_long() -> Response {
    refuse(
        413,
        "a table has at most 4 MiB; nothing was imported: import it in parts",
    )
}

/// Answers what is below `/api`.
pub(crate) async fn answer(app: &App, request: &Request) -> Response {
    let parts = path(request);
    if request.method == Method::GET && parts == ["api", "v1", "openapi.json"] {
        return Response::json(200, &openapi::document());
    }
    let Some(token) = request.header(header::AUTHORIZATION).strip_prefix("Bearer ") else {
        return refuse(
            401,
            "give a token as `Authorization: Bearer TOKEN`; the owner makes one on the panel's page Tokens",
        )
        .with(header::WWW_AUTHENTICATE, "Bearer");
    };
    let (hash, address) = (secret::kept(token.trim()), request.peer.to_string());
    let token = match app.store.with(move |db| db.token(&hash)).await {
        Ok(Some(token)) => token,
        Ok(None) => {
            return match app.limits.take(Bound::TriesOfAddress, &address, Instant::now()) {
                Ok(()) => refuse(401, "there is no such token"),
                Err(after) => refuse(429, "too many tries").with(header::RETRY_AFTER, &after.to_string()),
            };
        }
        Err(error) => return refuse(500, error.to_string()),
    };
    let mut all = ROUTES.iter().filter(|route| route.method == request.method.as_str());
    let Some((route, values)) = all.find_map(|route| Some((route, matched(route.path, &parts)?))) else {
        return refuse(
            404,
            "there is nothing here; GET /api/v1/openapi.json tells what there is",
        );
    };
    if token.scope < route.scope {
        let (needs, has) = (route.scope.as_str(), token.scope.as_str());
        return refuse(
            403,
            format!("this needs a token with the scope `{needs}`, and this one has `{has}`"),
        );
    }
    let who = format!("token {}", token.name);
    let file = match route.to {
        To::Panel(Own::Support) => Some(bundle::make(app).await),
        _ => None,
    };
    let (status, answered) = match &file {
        None => done(app, route, request, &values, &who).await,
        Some(Ok(_)) => (200, json!({})),
        Some(Err(error)) => (500, json!({ "error": error.to_string() })),
    };
    // What changes nothing but goes away with the one who asked is told of too.
    if route.method != "GET" || file.is_some() {
        let result = match answered["error"].as_str() {
            Some(error) if status >= 400 => error.to_owned(),
            _ => "done".to_owned(),
        };
        let what = format!("{} {}", route.method, request.path);
        let record = Record {
            who,
            address,
            what,
            result,
        };
        let _ = app.store.with(move |db| db.record(&record)).await;
    }
    match file {
        Some(Ok(file)) => bundle::response(file),
        _ => Response::json(status, &answered),
    }
}

/// Has a route's work done; a status, and what is said.
async fn done(app: &App, route: &Route, request: &Request, values: &[&str], who: &str) -> (u16, Value) {
    // A program that meant something by it is not to get something else.
    let strict = !matches!(route.to, To::Panel(_)) || !route.query.is_empty();
    let other = request
        .query
        .0
        .iter()
        .find(|(name, _)| !route.query.contains(&name.as_str()));
    if let Some((name, _)) = other.filter(|_| strict) {
        return (400, json!({ "error": format!("there is no parameter `{name}` here") }));
    }
    let answered = match route.to {
        To::Panel(Own::LookUp) => facts::look_up(app, request).await,
        To::Panel(Own::Logs) => facts::logs(app, request, &query(route, request)).await,
        To::Panel(own) => people::answer(app, own, request, values, who).await,
        To::Manager(to) => {
            let to = filled(to, values) + &query(route, request);
            let answered = match route.method {
                "GET" => app.control.get::<Value>(&to).await,
                _ if route.body => match serde_json::from_slice(&request.body) {
                    Ok(body) => app.control.of(who).post(&to, Some(body)).await,
                    Err(e) => return (400, json!({ "error": format!("the body is no JSON: {e}") })),
                },
                _ => app.control.of(who).post(&to, None).await,
            };
            answered.map(|value| (200, value)).map_err(Failure::from)
        }
    };
    match answered {
        Ok(answer) => answer,
        Err(Failure::Control(ControlError::Refused { status, error, answer })) => {
            let mut told = json!({ "error": error });
            // Each mistake of a text with its line.
            if answer["problems"].is_array() {
                told["problems"] = answer["problems"].clone();
            }
            (status, told)
        }
        Err(Failure::Directory(error)) => (people::status(&error), json!({ "error": error.to_string() })),
        Err(Failure::Refused(status, key)) => (status, json!({ "error": app.view.say(Lang::En, key, &[]) })),
        Err(Failure::Control(error)) => (502, json!({ "error": error.to_string() })),
        Err(error) => (500, json!({ "error": error.to_string() })),
    }
}

/// What stands where the form has braces, if the request's path is of this form.
fn matched<'a>(form: &str, parts: &[&'a str]) -> Option<Vec<&'a str>> {
    let own: Vec<&str> = form.split('/').skip(1).collect();
    if own.len() != parts.len() {
        return None;
    }
    let mut values = Vec::new();
    for (own, part) in own.iter().zip(parts) {
        match own.starts_with('{') {
            true => values.push(*part),
            false if own == part => {}
            false => return None,
        }
    }
    Some(values)
}

/// The query for the manager: of the request's, what the route says.
fn query(route: &Route, request: &Request) -> String {
    // Each as often as it was given: logs are asked of several units.
    let known = |name: &str| route.query.contains(&name);
    let pairs: Vec<String> = (request.query.0.iter())
        .filter(|(name, value)| known(name) && !value.is_empty())
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

/// A path of the manager with these values where it has braces.
fn filled(to: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let parts = to.split('/').map(|part| match part.starts_with('{') {
        true => values.next().map_or_else(String::new, |value| encode(value)),
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_leads_to_one_of_the_managers_or_to_the_panel() {
        for route in ROUTES {
            let To::Manager(to) = route.to else { continue };
            let path = filled(to, &["web"]);
            let (found, _) = cairn_api::find(route.method, &path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(found.method.as_str(), route.method, "{path}");
            for name in route.query {
                assert!(found.query.iter().any(|own| own.name == *name), "{path} {name}");
            }
        }
    }

    #[test]
    fn a_units_name_cannot_lead_elsewhere() {
        let values = matched(
            "/api/v1/units/{unit}/stop",
            &["api", "v1", "units", "../power/poweroff?", "stop"],
        )
        .unwrap();
        assert_eq!(
            filled("/v1/units/{unit}/stop", &values),
            "/v1/units/%2E%2E%2Fpower%2Fpoweroff%3F/stop"
        );
        assert_eq!(
            matched("/api/v1/units/{unit}/stop", &["api", "v1", "units", "web"]),
            None
        );
    }

    #[test]
    fn the_document_describes_every_route_and_names_no_type_that_it_lacks() {
        let document = openapi::document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            let responses = operation["responses"].as_object().unwrap();
            let done = responses.iter().filter(|(status, _)| status.starts_with('2'));
            assert!(done.count() == 1 && responses.contains_key("4XX"), "{}", route.path);
            let braces = route.path.matches('{').count();
            let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
            assert!(parameters >= braces, "{}", route.path);
        }
        let text = document.to_string();
        let mut seen = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
    }
}

//! The panel's API for programs: `/api/v1`, with a bearer token. It hands on what the manager answers, as far as the token's scope goes.

use std::time::Instant;

use hyper::{Method, header};
use serde_json::{Value, json};

use crate::app::{App, path};
use crate::control::{ControlError, encode};
use crate::http::{Request, Response};
use crate::limits::Bound;
use crate::secret;
use crate::store::{Record, Scope};

/// One route: how it is asked, where, what it needs, and what it does.
struct Route {
    method: &'static str,
    path: &'static str,
    /// The manager's path; a part in braces is taken from the request's.
    to: &'static str,
    scope: Scope,
    summary: &'static str,
}

const fn route(
    method: &'static str,
    path: &'static str,
    to: &'static str,
    scope: Scope,
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        to,
        scope,
        summary,
    }
}

const ROUTES: &[Route] = &[
    route(
        "GET",
        "/api/v1/status",
        "/v1/status",
        Scope::Read,
        "The appliance and the state of its units.",
    ),
    route("GET", "/api/v1/top", "/v1/top", Scope::Read, "What the units use."),
    route(
        "GET",
        "/api/v1/graph",
        "/v1/graph",
        Scope::Read,
        "The units and what is between them.",
    ),
    route(
        "GET",
        "/api/v1/certificates",
        "/v1/certificates",
        Scope::Read,
        "The certificates.",
    ),
    route(
        "GET",
        "/api/v1/security",
        "/v1/security",
        Scope::Read,
        "Every unit's sandbox.",
    ),
    route(
        "GET",
        "/api/v1/units/{unit}",
        "/v1/units/{unit}/explain",
        Scope::Read,
        "Why a unit is as it is.",
    ),
    route(
        "GET",
        "/api/v1/units/{unit}/security",
        "/v1/units/{unit}/security",
        Scope::Read,
        "A unit's sandbox.",
    ),
    route(
        "POST",
        "/api/v1/units/{unit}/start",
        "/v1/units/{unit}/start",
        Scope::Operate,
        "Start a unit.",
    ),
    route(
        "POST",
        "/api/v1/units/{unit}/stop",
        "/v1/units/{unit}/stop",
        Scope::Operate,
        "Stop a unit.",
    ),
    route(
        "POST",
        "/api/v1/units/{unit}/restart",
        "/v1/units/{unit}/restart",
        Scope::Operate,
        "Restart a unit.",
    ),
    route(
        "POST",
        "/api/v1/units/{unit}/reload",
        "/v1/units/{unit}/reload",
        Scope::Operate,
        "Let a unit read its configuration again.",
    ),
    route(
        "GET",
        "/api/v1/site/history",
        "/v1/site/history",
        Scope::Own,
        "The versions of the owner's choices.",
    ),
    route(
        "POST",
        "/api/v1/certificates/renew",
        "/v1/certificates/renew",
        Scope::Own,
        "Renew the certificates that are due.",
    ),
    route(
        "POST",
        "/api/v1/power/reboot",
        "/v1/power/reboot",
        Scope::Own,
        "Start the machine again.",
    ),
    route(
        "POST",
        "/api/v1/power/poweroff",
        "/v1/power/poweroff",
        Scope::Own,
        "Switch the machine off.",
    ),
];

fn refuse(status: u16, why: impl Into<String>) -> Response {
    Response::json(status, &json!({ "error": why.into() }))
}

/// Answers what is below `/api`.
pub(crate) async fn answer(app: &App, request: &Request) -> Response {
    let parts = path(request);
    if request.method == Method::GET && parts == ["api", "v1", "openapi.json"] {
        return Response::json(200, &openapi());
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
    let found = ROUTES.iter().find_map(|route| {
        Some((route, matched(route, &parts)?)).filter(|(route, _)| route.method == request.method.as_str())
    });
    let Some((route, to)) = found else {
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
    let answered = match route.method {
        "GET" => app.control.get::<Value>(&to).await,
        _ => app.control.of(&format!("token {}", token.name)).post(&to, None).await,
    };
    if route.method == "POST" {
        let result = answered
            .as_ref()
            .map_or_else(ToString::to_string, |_| "done".to_owned());
        let (who, what) = (format!("token {}", token.name), format!("POST {}", request.path));
        let record = Record {
            who,
            address,
            what,
            result,
        };
        let _ = app.store.with(move |db| db.record(&record)).await;
    }
    match answered {
        Ok(value) => Response::json(200, &value),
        Err(ControlError::Refused { status, error, .. }) => refuse(status, error),
        Err(error) => refuse(502, error.to_string()),
    }
}

/// The manager's path, if the request's is the route's.
fn matched(route: &Route, parts: &[&str]) -> Option<String> {
    let own: Vec<&str> = route.path.split('/').skip(1).collect();
    let mut to = route.to.to_owned();
    if own.len() != parts.len() {
        return None;
    }
    for (own, part) in own.iter().zip(parts) {
        match own.starts_with('{') {
            true => to = to.replace(own, &encode(part)),
            false if own == part => {}
            false => return None,
        }
    }
    Some(to)
}

/// The API's description. The answers are the manager's; its own document has their types.
fn openapi() -> Value {
    let control = cairn_api::openapi();
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        let method = route.method.to_ascii_lowercase();
        let mut operation = json!({
            "summary": route.summary,
            "description": format!("Needs the scope `{}`.", route.scope.as_str()),
            "responses": control["paths"][route.to][&method]["responses"],
        });
        if route.path.contains("{unit}") {
            operation["parameters"] =
                json!([{ "name": "unit", "in": "path", "required": true, "schema": { "type": "string" } }]);
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Cairn panel", "version": "1", "description": "Scopes: read, operate (which holds read), own (which holds both)." },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": control["components"]["schemas"],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_leads_to_one_of_the_managers() {
        for route in ROUTES {
            let path = route.to.replace("{unit}", "web");
            let (found, _) = cairn_api::find(route.method, &path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(found.method.as_str(), route.method, "{path}");
        }
    }

    #[test]
    fn a_units_name_cannot_lead_elsewhere() {
        let route = ROUTES
            .iter()
            .find(|route| route.path == "/api/v1/units/{unit}/stop")
            .unwrap();
        let to = matched(route, &["api", "v1", "units", "../power/poweroff?", "stop"]).unwrap();
        assert_eq!(to, "/v1/units/%2E%2E%2Fpower%2Fpoweroff%3F/stop");
        assert_eq!(matched(route, &["api", "v1", "units", "web"]), None);
    }
}

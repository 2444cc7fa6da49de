//! The API's description. Where the manager answers, the types are those of its own document.

use serde_json::{Value, json};

use super::routes::{Own, ROUTES, Route, To};

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(name: &str, of: &str) -> Value {
    json!({ "type": "object", "required": [name], "properties": { name: { "type": "array", "items": reference(of) } } })
}

fn content(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// The status of success, and the schema of what is answered.
fn answered(own: Own) -> (&'static str, Value) {
    let text =
        |name: &str| json!({ "type": "object", "required": [name], "properties": { name: { "type": "string" } } });
    match own {
        Own::People => ("200", list("people", "PanelPerson")),
        Own::Person => ("200", reference("PanelPerson")),
        Own::AddPerson => ("201", text("uid")),
        Own::Import => (
            "2XX",
            json!({ "type": "object", "properties": {
                "made": { "type": "integer", "description": "With 201: so many people were made." },
                "making": { "type": "integer", "description": "With 202: so many are still being made; the audit log tells how it ended." },
            } }),
        ),
        Own::Reset => ("201", text("code")),
        Own::Groups => ("200", list("groups", "PanelGroup")),
        Own::Group => ("200", reference("PanelGroup")),
        Own::AddGroup => ("201", text("name")),
        Own::Diagnosis => ("200", list("findings", "PanelFinding")),
        Own::LookUp => ("200", reference("PanelLookup")),
        Own::Logs => ("200", text("text")),
        Own::Audit => ("200", list("entries", "PanelAuditEntry")),
        Own::EditPerson
        | Own::RemovePerson
        | Own::Disable
        | Own::Enable
        | Own::TotpOff
        | Own::PasskeysOff
        | Own::RemoveGroup
        | Own::AddMember
        | Own::DropMember
        | Own::Support => ("200", json!({ "type": "object" })),
    }
}

/// What is sent, if something is.
fn sent(own: Own) -> Option<Value> {
    match own {
        Own::AddPerson => Some(content(reference("PanelPersonMade"))),
        Own::EditPerson => Some(content(reference("PanelPersonWritten"))),
        Own::AddGroup => Some(content(reference("PanelGroupWritten"))),
        Own::Import => Some(json!({ "text/csv": { "schema": { "type": "string" } } })),
        _ => None,
    }
}

fn operation(route: &Route, control: &Value) -> Value {
    let method = route.method.to_ascii_lowercase();
    let refused = json!({ "description": "It was refused.", "content": content(reference("PanelRefusal")) });
    let mut operation = json!({
        "summary": route.summary,
        "description": format!("Needs the scope `{}`.", route.scope.as_str()),
    });
    let mut responses = match route.to {
        To::Manager(to) => {
            let own = &control["paths"][to][&method];
            if route.body {
                operation["requestBody"] = own["requestBody"].clone();
            }
            own["responses"].clone()
        }
        To::Panel(own) => {
            if let Some(content) = sent(own) {
                operation["requestBody"] = json!({ "required": true, "content": content });
            }
            let (status, schema) = answered(own);
            let content = match own {
                Own::Support => json!({ "application/gzip": {} }),
                _ => content(schema),
            };
            json!({ status: { "description": "Done.", "content": content } })
        }
    };
    for status in ["4XX", "5XX"] {
        if responses[status].is_null() {
            responses[status] = refused.clone();
        }
    }
    operation["responses"] = responses;
    let parts = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = parts
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if route.to == To::Panel(Own::People) {
        parameters.push(json!({ "name": "search", "in": "query", "required": false, "schema": { "type": "string" } }));
    }
    for name in route.query {
        parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// The panel's own types, beside the manager's.
fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let truth = || json!({ "type": "boolean" });
    // As `directory::Card` and `directory::group_name` have it.
    let name = || json!({ "type": "string", "pattern": "^[a-z][a-z0-9._-]{0,31}$" });
    let short = || json!({ "type": "string", "maxLength": 100 });
    let written = json!({
        "uid": name(), "given": short(), "surname": short(), "mail": { "type": "string", "maxLength": 254 }, "aliases": texts(),
    });
    json!({
        "PanelPerson": {
            "type": "object",
            "required": ["uid", "name", "given", "surname", "mail", "aliases", "groups", "disabled", "has_password"],
            "properties": {
                "uid": text(), "name": text(), "given": text(), "surname": text(), "mail": text(), "aliases": texts(), "groups": texts(),
                "disabled": truth(), "has_password": truth(),
            },
        },
        "PanelPersonMade": {
            "type": "object", "additionalProperties": false, "required": ["uid"],
            "description": "One of the names has to be there.", "properties": written,
        },
        "PanelPersonWritten": {
            "type": "object", "additionalProperties": false,
            "description": "One of the names has to be there. The login name stays what it is.", "properties": written,
        },
        "PanelGroup": {
            "type": "object", "required": ["name", "description", "members"],
            "properties": { "name": text(), "description": text(), "members": texts() },
        },
        "PanelGroupWritten": {
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": { "name": name(), "description": text() },
        },
        "PanelFinding": {
            "type": "object", "required": ["topic", "state", "what", "means", "todo", "unit"],
            "properties": {
                "topic": text(), "state": { "enum": ["bad", "warn", "good", "off"] }, "what": text(), "means": text(), "todo": text(),
                "unit": { "type": ["string", "null"] },
            },
        },
        "PanelLookup": {
            "type": "object", "required": ["name", "addresses", "here"],
            "properties": {
                "name": text(),
                "addresses": { "type": ["array", "null"], "items": { "type": "string" }, "description": "`null`: it cannot be looked up here." },
                "here": { "type": ["boolean", "null"], "description": "Whether one of them is this appliance's." },
            },
        },
        "PanelAuditEntry": {
            "type": "object", "required": ["at", "who", "address", "what", "result"],
            "properties": { "at": { "type": "integer" }, "who": text(), "address": text(), "what": text(), "result": text() },
        },
        "PanelRefusal": {
            "type": "object", "required": ["error"],
            "properties": {
                "error": text(), "field": text(),
                "problems": { "type": "array", "items": { "type": "object", "properties": {
                    "line": { "type": "integer" }, "column": text(), "value": text(), "error": text(),
                } } },
            },
        },
    })
}

/// The document.
pub(super) fn document() -> Value {
    let control = cairn_api::openapi();
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route, &control);
    }
    let mut types = control["components"]["schemas"].clone();
    if let (Some(types), Value::Object(own)) = (types.as_object_mut(), schemas()) {
        types.extend(own);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cairn panel", "version": "1",
            "description": "Scopes: read, operate (which holds read), own (which holds both). A refusal is a status of 400 or more with `error`.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": types,
        },
    })
}

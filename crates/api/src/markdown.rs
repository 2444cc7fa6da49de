//! The page on the control API, made from the same table.

use std::fmt::Write as _;

use serde_json::Value;

use crate::openapi::openapi;
use crate::routes::ROUTES;

/// `docs/control-api.md`. The same build gives the same bytes.
pub fn markdown() -> String {
    let document = openapi();
    let mut out = "# The control API\n\nMade by `cairn api --markdown` from the table in `crates/api`; a test fails when this file differs.\n\n\
        HTTP/1.1 on the Unix socket `/run/cairn/control.sock`. Callers are known by the kernel's word (`SO_PEERCRED`): root may \
        ask for everything, anybody else on the appliance for what the table says, and a unit for nothing unless its file grants it the socket \
        (`sandbox.control`). A request's body is JSON, at most 256 KiB. The header `Cairn-Actor` names the person for whom a unit asks; it is noted, never trusted. An error is a status of 400 or more \
        with `{\"error\": \"...\"}`. `GET /v1/openapi.json` gives this as an OpenAPI 3.1 document. The `cairn` command is a client of it:\n\n\
        ```sh\ncurl --unix-socket /run/cairn/control.sock http://localhost/v1/status\n```\n\n\
        | request | who | what |\n| --- | --- | --- |\n"
        .to_owned();
    for route in ROUTES {
        let who = route.scope.who();
        let _ = writeln!(
            out,
            "| `{} {}` | {who} | {} |",
            route.method.as_str(),
            route.path,
            route.summary
        );
    }
    for route in ROUTES.iter().filter(|route| !route.query.is_empty()) {
        let _ = write!(
            out,
            "\n## The query of `{}`\n\n| name | meaning |\n| --- | --- |\n",
            route.path
        );
        for parameter in route.query {
            let _ = writeln!(out, "| `{}` | {} |", parameter.name, parameter.meaning);
        }
    }
    out.push_str("\n## Answers\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let words = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = write!(out, "\n### {name}\n\n{words}\n");
        let fields = schema["properties"].as_object();
        if fields.is_some_and(|fields| !fields.is_empty()) {
            out.push_str("\n| field | type | meaning |\n| --- | --- | --- |\n");
        }
        for (key, field) in fields.into_iter().flatten() {
            let meaning = field["description"].as_str().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(out, "| `{key}` | {} | {meaning} |", kind(field));
        }
    }
    out
}

/// A field's type in a few words.
fn kind(field: &Value) -> String {
    let named = |field: &Value| {
        let reference = field["$ref"].as_str()?;
        Some(reference.rsplit('/').next().unwrap_or(reference).to_owned())
    };
    if let Some(name) = named(field) {
        return name;
    }
    for key in ["allOf", "anyOf"] {
        if let Some(name) = field[key].as_array().into_iter().flatten().find_map(named) {
            return name;
        }
    }
    match &field["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&field["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "value".to_owned(),
    }
}

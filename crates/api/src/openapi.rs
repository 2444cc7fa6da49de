//! The OpenAPI 3.1 document, made from the routes and the answers' types.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::answers::Problem;
use crate::routes::{Method, ROUTES};

/// The document. The same build gives the same bytes.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths = Map::new();
    for route in ROUTES {
        let content = match route.answer {
            Some(answer) => json!({ route.media: { "schema": answer(&mut generator) } }),
            None => json!({ route.media: {} }),
        };
        let in_path = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        parameters.extend(route.query.iter().map(|parameter| {
            json!({ "name": parameter.name, "in": "query", "description": parameter.meaning, "schema": { "type": "string" } })
        }));
        let refused = json!({ "description": "Refused", "content": { "application/json": { "schema": problem } } });
        let operation = json!({
            "operationId": format!("{:?}", route.endpoint),
            "summary": route.summary,
            "description": format!("Who may ask: {}.", route.scope.who()),
            "parameters": parameters,
            "responses": { "2XX": { "description": "Done", "content": content }, "4XX": refused },
        });
        let mut operation = operation;
        if let Some(body) = route.body {
            let schema = body(&mut generator);
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        let method = match route.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cairn control API",
            "version": "1",
            "description": "HTTP on the Unix socket /run/cairn/control.sock. Callers are known by the kernel's word (SO_PEERCRED).",
        },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "components": { "schemas": generator.definitions() },
    })
}

//! The table of routes and the document made from it.

use std::collections::BTreeSet;

use cairn_api::{Endpoint, Method, ROUTES, find, openapi};

#[test]
fn every_route_is_found_by_its_path_and_no_two_are_the_same() {
    let mut seen = BTreeSet::new();
    for route in ROUTES {
        let path = route.path.replace("{unit}", "web-1").replace("{dump}", "web-1");
        let (found, values) = find(route.method.as_str(), &path).unwrap();
        assert_eq!(found.endpoint, route.endpoint);
        assert_eq!(values.len(), route.path.matches('{').count());
        assert!(values.iter().all(|value| *value == "web-1"));
        assert!(seen.insert((route.method.as_str(), route.path)), "{} twice", route.path);
    }
}

#[test]
fn what_is_not_there_is_not_found_and_another_method_tells_which_is_right() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/status/",
        "/v1/units//start",
        "/v1/units/a/b/start",
        "/v2/status",
    ] {
        assert!(find("GET", path).is_none(), "{path}");
    }
    let (route, _) = find("POST", "/v1/status").unwrap();
    assert_eq!((route.endpoint, route.method), (Endpoint::Status, Method::Get));
}

#[test]
fn what_changes_something_is_not_for_everybody() {
    for route in ROUTES.iter().filter(|route| route.method == Method::Post) {
        assert!(route.scope > cairn_api::Scope::Observe, "{}", route.path);
    }
}

/// Every reference of the document leads somewhere, and every type has a meaning.
#[test]
fn the_document_is_whole() {
    let document = openapi();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let references: BTreeSet<&str> = text
        .split("\"$ref\":\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(references.len() > 10, "{references:?}");
    for reference in references {
        let name = reference.strip_prefix("#/components/schemas/").expect(reference);
        assert!(schemas.contains_key(name), "{name} is missing");
    }
    for (name, schema) in schemas {
        assert!(schema["description"].is_string(), "{name} has no meaning");
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key} has no meaning");
        }
    }
    let paths = document["paths"].as_object().unwrap().values();
    let operations: usize = paths.map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(operations, ROUTES.len());
    assert_eq!(document, openapi());
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control-api.md");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == cairn_api::markdown(),
        "docs/control-api.md is out of date: run `make docs`"
    );
}

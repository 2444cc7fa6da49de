//! The schemas that the makers of SPDX and CycloneDX publish (tests/schemas says where from).

use serde_json::Value;

fn schema(name: &str) -> Value {
    let path = format!("{}/tests/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What the schema of `format` (`spdx` or `cyclonedx`) finds wrong with the document.
pub(crate) fn complaints(format: &str, document: &Value) -> Vec<String> {
    let validator = match format {
        "spdx" => jsonschema::validator_for(&schema("spdx-2.3.schema.json")).unwrap(),
        _ => cyclonedx(),
    };
    validator
        .iter_errors(document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect()
}

fn cyclonedx() -> jsonschema::Validator {
    let mut registry = jsonschema::Registry::new();
    for name in ["spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json"] {
        registry = registry
            .add(format!("http://cyclonedx.org/schema/{name}"), schema(name))
            .unwrap();
    }
    let registry = registry.prepare().unwrap();
    jsonschema::options()
        .with_registry(&registry)
        .build(&schema("bom-1.6.SNAPSHOT.schema.json"))
        .unwrap()
}

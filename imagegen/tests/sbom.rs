//! Both bills of materials against the schemas that their makers publish.

use imagegen::sbom::{Inventory, cyclonedx, spdx};
use serde_json::Value;

fn schema(name: &str) -> Value {
    let path = format!("{}/tests/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn sample() -> Inventory {
    serde_json::from_str(include_str!("../src/sbom/sample.json")).unwrap()
}

fn complaints(validator: &jsonschema::Validator, document: &Value) -> Vec<String> {
    validator
        .iter_errors(document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect()
}

fn cyclonedx_validator() -> jsonschema::Validator {
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

#[test]
fn the_spdx_document_is_valid_by_the_published_schema() {
    let validator = jsonschema::validator_for(&schema("spdx-2.3.schema.json")).unwrap();
    assert_eq!(complaints(&validator, &spdx(&sample())), Vec::<String>::new());
}

#[test]
fn the_cyclonedx_document_is_valid_by_the_published_schema() {
    assert_eq!(
        complaints(&cyclonedx_validator(), &cyclonedx(&sample())),
        Vec::<String>::new()
    );
}

#[test]
fn the_schemas_refuse_a_document_with_a_bad_hash() {
    let mut inventory = sample();
    inventory.packages[0].sha256 = "no hash".into();
    assert!(!complaints(&cyclonedx_validator(), &cyclonedx(&inventory)).is_empty());
    let mut document = spdx(&sample());
    document["packages"][1]["checksums"] = serde_json::json!([{ "algorithm": "SHA0", "checksumValue": "x" }]);
    let validator = jsonschema::validator_for(&schema("spdx-2.3.schema.json")).unwrap();
    assert!(!complaints(&validator, &document).is_empty());
}

#[test]
fn spdx_identifiers_are_unique_and_every_relationship_leads_somewhere() {
    let document = spdx(&sample());
    let ids: Vec<&str> = document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["SPDXID"].as_str().unwrap())
        .collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    for relation in document["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let id = relation[end].as_str().unwrap();
            assert!(id == "SPDXRef-DOCUMENT" || ids.contains(&id), "{id}");
        }
    }
}

#[test]
fn every_license_reference_of_a_document_has_its_text() {
    let document = spdx(&sample());
    let known: Vec<&str> = document["hasExtractedLicensingInfos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["licenseId"].as_str().unwrap())
        .collect();
    assert_eq!(known.len(), 2, "two texts of one name stay apart: {known:?}");
    for package in document["packages"].as_array().unwrap() {
        for word in package["licenseDeclared"].as_str().unwrap().split([' ', '(', ')']) {
            assert!(!word.starts_with("LicenseRef-") || known.contains(&word), "{word}");
        }
    }
}

//! Both bills of materials against the schemas that their makers publish.

#[path = "common/schemas.rs"]
mod schemas;

use imagegen::sbom::{Inventory, cyclonedx, spdx};
use schemas::complaints;

fn sample() -> Inventory {
    serde_json::from_str(include_str!("../src/sbom/sample.json")).unwrap()
}

#[test]
fn the_spdx_document_is_valid_by_the_published_schema() {
    assert_eq!(complaints("spdx", &spdx(&sample())), Vec::<String>::new());
}

#[test]
fn the_cyclonedx_document_is_valid_by_the_published_schema() {
    assert_eq!(complaints("cyclonedx", &cyclonedx(&sample())), Vec::<String>::new());
}

#[test]
fn the_schemas_refuse_a_document_with_a_bad_hash() {
    let mut inventory = sample();
    inventory.packages[0].sha256 = "no hash".into();
    assert!(!complaints("cyclonedx", &cyclonedx(&inventory)).is_empty());
    let mut document = spdx(&sample());
    document["packages"][1]["checksums"] = serde_json::json!([{ "algorithm": "SHA0", "checksumValue": "x" }]);
    assert!(!complaints("spdx", &document).is_empty());
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

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

#[test]
fn crates_that_are_compiled_in_stand_in_both_documents_with_checksum_licence_and_units() {
    let (spdx, cyclonedx) = (spdx(&sample()), cyclonedx(&sample()));
    let find = |list: &serde_json::Value, version: &str| {
        let all = list.as_array().unwrap();
        let found = |one: &&serde_json::Value| {
            one["name"] == "toml" && one["versionInfo"] == version || one["version"] == version
        };
        all.iter().find(found).unwrap().clone()
    };
    let version = "1.2.1+spec-1.1.0";
    let package = find(&spdx["packages"], version);
    assert_eq!(package["licenseDeclared"], "MIT OR Apache-2.0");
    assert!(
        package["checksums"][0]["checksumValue"]
            .as_str()
            .unwrap()
            .starts_with("6f4e")
    );
    let purl = "pkg:cargo/toml@1.2.1%2Bspec-1.1.0";
    assert_eq!(package["externalRefs"][0]["referenceLocator"], purl);
    let linked = |unit: &str| {
        spdx["relationships"].as_array().unwrap().iter().any(|one| {
            one["relationshipType"] == "STATIC_LINK"
                && one["spdxElementId"] == format!("SPDXRef-Unit-{unit}")
                && one["relatedSpdxElement"] == package["SPDXID"]
        })
    };
    assert!(linked("host") && !linked("wiki"));
    assert_eq!(find(&spdx["packages"], "0.9.0")["licenseDeclared"], "NOASSERTION");
    let component = find(&cyclonedx["components"], version);
    assert_eq!(component["purl"], purl);
    assert!(component["hashes"][0]["content"].as_str().unwrap().starts_with("6f4e"));
    let needs = |unit: &str| {
        let all = cyclonedx["dependencies"].as_array().unwrap();
        let one = all.iter().find(|one| one["ref"] == format!("unit:{unit}")).unwrap();
        one["dependsOn"].as_array().unwrap().contains(&component["bom-ref"])
    };
    assert!(needs("host") && !needs("wiki"));
}

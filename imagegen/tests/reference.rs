//! The checked-in reference is what the types say, and its samples use every key.

use imagegen::reference;
use serde_json::Value;

#[test]
fn docs_units_md_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/units.md");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == reference::markdown(),
        "docs/units.md is out of date: run `make docs`"
    );
}

#[test]
fn docs_site_md_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/site.md");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == reference::site_markdown(),
        "docs/site.md is out of date: run `make docs`"
    );
}

#[test]
fn the_samples_are_right() {
    let source = |file: &str, text: &str| cairn_unit::Source {
        file: file.into(),
        text: text.into(),
    };
    cairn_unit::Unit::parse(&source("units/wiki.toml", reference::UNIT_SAMPLE)).unwrap_or_else(|e| panic!("{e}"));
    cairn_unit::Recipe::parse(&source("appliances/sample.toml", reference::RECIPE_SAMPLE))
        .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_samples_are_valid_by_the_schemas() {
    for (schema, sample) in [
        (reference::unit_schema(), reference::UNIT_SAMPLE),
        (reference::recipe_schema(), reference::RECIPE_SAMPLE),
        (reference::site_schema(), reference::SITE_SAMPLE),
    ] {
        let value = serde_json::to_value(sample.parse::<toml::Table>().unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let found: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn the_schemas_refuse_an_unknown_key() {
    let mut value = serde_json::to_value(reference::UNIT_SAMPLE.parse::<toml::Table>().unwrap()).unwrap();
    value["servce"] = Value::Null;
    assert!(!jsonschema::is_valid(&reference::unit_schema(), &value));
}

#[test]
fn every_key_has_a_meaning_and_stands_in_a_sample() {
    for (schema, sample) in [
        (reference::unit_schema(), reference::UNIT_SAMPLE),
        (reference::recipe_schema(), reference::RECIPE_SAMPLE),
        (reference::site_schema(), reference::SITE_SAMPLE),
    ] {
        let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for (key, value) in tables.filter_map(|t| t["properties"].as_object()).flatten() {
            if value["description"].is_null() {
                let target = value["$ref"]
                    .as_str()
                    .map(|r| &schema["$defs"][r.trim_start_matches("#/$defs/")]);
                assert!(
                    target.is_some_and(|t| !t["description"].is_null()),
                    "`{key}` has no description"
                );
            }
            assert!(sample.contains(key.as_str()), "`{key}` is in no sample");
        }
    }
}

//! CycloneDX 1.6 in JSON: <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Value, json};

use super::{Crate, Inventory, Package};

/// The inventory as a CycloneDX 1.6 document.
pub fn cyclonedx(inventory: &Inventory) -> Value {
    let (packages, crates) = (inventory.sorted(), inventory.sorted_crates());
    let units = inventory.units.iter().map(|(name, description)| {
        json!({
            "type": "application", "bom-ref": unit_ref(name), "name": name, "version": inventory.version,
            "description": description,
        })
    });
    let components: Vec<Value> = units
        .chain(packages.iter().map(|p| component(p)))
        .chain(crates.iter().map(|one| crate_component(one)))
        .collect();
    let mut dependencies = vec![json!({
        "ref": "appliance", "dependsOn": inventory.units.keys().map(|u| unit_ref(u)).collect::<Vec<_>>(),
    })];
    for unit in inventory.units.keys() {
        let packages = packages.iter().filter(|p| p.units.contains(unit));
        let crates = crates.iter().filter(|one| one.units.contains(unit));
        let needs: Vec<String> = packages
            .map(|p| package_ref(p))
            .chain(crates.map(|one| crate_ref(one)))
            .collect();
        dependencies.push(json!({ "ref": unit_ref(unit), "dependsOn": needs }));
    }
    let mut appliance = json!({
        "type": "operating-system", "bom-ref": "appliance", "name": inventory.name, "version": inventory.version,
    });
    if let Some(sha256) = &inventory.sha256 {
        appliance["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": format!("urn:uuid:{}", inventory.uuid()),
        "metadata": {
            "timestamp": inventory.timestamp(),
            "tools": { "components": [{ "type": "application", "name": "imagegen", "version": env!("CARGO_PKG_VERSION") }] },
            "component": appliance,
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(package: &Package) -> Value {
    let property = |name: &str, value: &str| json!({ "name": format!("cairn:{name}"), "value": value });
    let mut properties = vec![
        property("source", &package.source),
        property("source-version", &package.source_version),
        property("size", &package.size.to_string()),
    ];
    properties.extend(package.units.iter().map(|unit| property("unit", unit)));
    let mut component = json!({
        "type": "library", "bom-ref": package_ref(package), "name": package.name, "version": package.version,
        "purl": package.purl(), "supplier": { "name": "Debian" },
        "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
        "properties": properties,
    });
    if let Some(expression) = &package.license.expression {
        component["licenses"] = json!([{ "expression": expression, "acknowledgement": "declared" }]);
    }
    component
}

fn crate_component(one: &Crate) -> Value {
    let properties: Vec<Value> = one
        .units
        .iter()
        .map(|unit| json!({ "name": "cairn:unit", "value": unit }))
        .collect();
    let mut component = json!({
        "type": "library", "bom-ref": crate_ref(one), "name": one.name, "version": one.version, "properties": properties,
    });
    if let Some(purl) = one.purl() {
        component["purl"] = json!(purl);
    }
    if let Some(sha256) = &one.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    if let Some(expression) = &one.license {
        component["licenses"] = json!([{ "expression": expression, "acknowledgement": "declared" }]);
    }
    component
}

fn crate_ref(one: &Crate) -> String {
    format!("crate:{}@{}", one.name, one.version)
}

fn unit_ref(name: &str) -> String {
    format!("unit:{name}")
}

fn package_ref(package: &Package) -> String {
    format!("{}#{}", package.purl(), package.sha256.get(..12).unwrap_or_default())
}

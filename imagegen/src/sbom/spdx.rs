//! SPDX 2.3 in JSON: <https://spdx.github.io/spdx-spec/v2.3/>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Crate, Inventory, Package};

/// The inventory as an SPDX 2.3 document.
pub fn spdx(inventory: &Inventory) -> Value {
    let mut packages = vec![appliance(inventory)];
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Appliance")];
    for (name, description) in &inventory.units {
        packages.push(json!({
            "SPDXID": unit_id(name), "name": name, "versionInfo": inventory.version, "description": description,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
            "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "supplier": "NOASSERTION",
        }));
        relationships.push(relation("SPDXRef-Appliance", "CONTAINS", &unit_id(name)));
    }
    let mut texts: BTreeMap<String, (String, String)> = BTreeMap::new();
    for package in inventory.sorted() {
        let declared = declared(package, &mut texts);
        packages.push(json!({
            "SPDXID": package_id(package), "name": package.name, "versionInfo": package.version,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
            "licenseConcluded": "NOASSERTION", "licenseDeclared": declared,
            "supplier": "Organization: Debian", "primaryPackagePurpose": "LIBRARY",
            "sourceInfo": format!("built from source package {} {}", package.source, package.source_version),
            "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": package.purl(),
            }],
        }));
        for unit in &package.units {
            relationships.push(relation(&unit_id(unit), "DEPENDS_ON", &package_id(package)));
        }
    }
    for one in inventory.sorted_crates() {
        packages.push(crate_package(one));
        for unit in &one.units {
            relationships.push(relation(&unit_id(unit), "STATIC_LINK", &crate_id(one)));
        }
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", inventory.name, inventory.version),
        "documentNamespace": format!("urn:uuid:{}", inventory.uuid()),
        "creationInfo": {
            "created": inventory.timestamp(),
            "creators": [concat!("Tool: imagegen-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages, "relationships": relationships,
    });
    if !texts.is_empty() {
        let info = |(id, (name, text)): (&String, &(String, String))| json!({ "licenseId": id, "name": name, "extractedText": text });
        document["hasExtractedLicensingInfos"] = texts.iter().map(info).collect();
    }
    document
}

fn appliance(inventory: &Inventory) -> Value {
    let mut package = json!({
        "SPDXID": "SPDXRef-Appliance", "name": inventory.name, "versionInfo": inventory.version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "supplier": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING_SYSTEM",
    });
    if let Some(sha256) = &inventory.sha256 {
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
    }
    package
}

/// The package's licence. Two packages may give one name to different texts, so a reference that a document already
/// holds with another text gets the package's name.
fn declared(package: &Package, texts: &mut BTreeMap<String, (String, String)>) -> String {
    let Some(expression) = &package.license.expression else {
        return "NOASSERTION".into();
    };
    let mut words: Vec<String> = expression.split(' ').map(str::to_owned).collect();
    for (id, text) in &package.license.references {
        let name = id.trim_start_matches("LicenseRef-").to_owned();
        let mut used = id.clone();
        if texts.get(id).is_some_and(|(_, other)| other != text) {
            used = format!("{id}-{}", clean(&package.name));
        }
        for word in &mut words {
            let bare = word.trim_matches(['(', ')']);
            if bare == id {
                *word = word.replace(bare, &used);
            }
        }
        texts.insert(used, (name, text.clone()));
    }
    words.join(" ")
}

fn crate_package(one: &Crate) -> Value {
    let Crate { name, version, .. } = one;
    let download = match one.registry {
        true => format!("https://crates.io/api/v1/crates/{name}/{version}/download"),
        false => "NOASSERTION".to_owned(),
    };
    let mut package = json!({
        "SPDXID": crate_id(one), "name": name, "versionInfo": version,
        "downloadLocation": download, "filesAnalyzed": false, "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": one.license.as_deref().unwrap_or("NOASSERTION"),
        "supplier": "NOASSERTION", "primaryPackagePurpose": "LIBRARY",
    });
    if let Some(sha256) = &one.sha256 {
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
    }
    if let Some(purl) = one.purl() {
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
        }]);
    }
    package
}

fn crate_id(one: &Crate) -> String {
    // Neither `_` nor `+` is a character of an identifier, and names differ by them.
    let text = format!("{}-{}", one.name, one.version);
    let text = text.replace('_', ".under.").replace('+', ".plus.");
    format!("SPDXRef-Crate-{}", clean(&text))
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn unit_id(name: &str) -> String {
    format!("SPDXRef-Unit-{}", clean(name))
}

fn package_id(package: &Package) -> String {
    // A `+` is no character of an identifier, and names differ by it: `g++` and `g--`.
    let name = package.name.replace('+', ".plus.");
    format!(
        "SPDXRef-Package-{}-{}",
        clean(&name),
        &package.sha256.get(..12).unwrap_or_default()
    )
}

fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect()
}

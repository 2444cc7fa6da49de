//! Manifests for tests.

use cairn_unit::Manifest;

/// A manifest of units; each is JSON laid over a smallest unit. Indexes follow the names.
pub(crate) fn manifest(units: &[(&str, &str)]) -> Manifest {
    let mut all = serde_json::Map::new();
    let mut names: Vec<&str> = units.iter().map(|(n, _)| *n).collect();
    names.sort_unstable();
    for (name, text) in units {
        let mut unit = serde_json::json!({"description": "x", "service": {"command": ["/bin/x"]}});
        let more: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        let waits: Vec<String> = more
            .get("needs")
            .and_then(|n| n.as_object())
            .map(|n| {
                n.values()
                    .filter(|need| need["optional"] != true && need.get("port").is_none())
                    .filter_map(|need| {
                        let from = need.as_str().or(need["from"].as_str()).unwrap();
                        units.iter().find(|(_, t)| {
                            let v: serde_json::Value = serde_json::from_str(t).unwrap();
                            v["provides"].get(from).is_some()
                        })
                    })
                    .map(|(n, _)| (*n).to_owned())
                    .collect()
            })
            .unwrap_or_default();
        unit.as_object_mut().unwrap().extend(more);
        all.insert(
            (*name).to_owned(),
            serde_json::json!({
                "unit": unit,
                "root": format!("/services/{name}"),
                "index": names.iter().position(|n| n == name),
                "accounts": {
                    "root": {"uid": 0, "gid": 0, "groups": [], "home": "/root"},
                    "svc": {"uid": 101, "gid": 102, "groups": [7], "home": "/"},
                },
                "groups": {"root": 0, "svc": 102, "shared": 7},
                "templates": [],
                "waits_for": waits,
            }),
        );
    }
    let value = serde_json::json!({
        "name": "test", "version": "1", "description": "x", "built": 0, "units": all,
    });
    serde_json::from_value(value).unwrap()
}

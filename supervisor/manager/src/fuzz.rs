//! What of the control socket's reading is private, for fuzzers: whatever a caller sends, it is understood or refused, and only
//! root gets to what is root's.

use cairn_api::Scope;
use hyper::{Method, Uri};

use crate::log::api;

/// A request as its first line (`GET /v1/status`), for root and for everybody.
pub fn control(text: &str) {
    let line = text.lines().next().unwrap_or_default();
    let Some((method, target)) = line.split_once(' ') else {
        return;
    };
    // hyper lets nothing else through.
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method.as_bytes()), target.parse::<Uri>()) else {
        return;
    };
    let boot = [7; 16]
        .into_iter()
        .map(|byte: u8| format!("{byte:02x}"))
        .collect::<String>();
    for scope in [Scope::Root, Scope::Own, Scope::Observe] {
        let query = uri.query().unwrap_or_default();
        match crate::control::admit(method.as_str(), uri.path(), scope) {
            Err(refused) => {
                assert!([403, 404, 405].contains(&refused.status));
                let answer: serde_json::Value = serde_json::from_slice(&refused.body).expect("a refusal is JSON");
                assert!(answer["error"].is_string());
            }
            Ok((route, values)) => {
                assert!(route.scope <= scope && (scope > Scope::Observe || route.method == cairn_api::Method::Get));
                let braces = route.path.matches('{').count();
                assert!(values.len() == braces && values.iter().all(|value| !value.is_empty() && !value.contains('/')));
                let pairs = api::pairs(query);
                for (name, value) in &pairs {
                    if name == "signal" {
                        let _ = serde_json::from_value::<cairn_unit::Signal>(value.as_str().into());
                    }
                }
            }
        }
        if let Ok(boot) = boot.parse()
            && api::read(query, boot, 1_800_000_000_000_000_000).is_ok()
        {
            let logs = cairn_api::ROUTES
                .iter()
                .find(|r| r.endpoint == cairn_api::Endpoint::Logs);
            let known = |name: &str| logs.is_some_and(|logs| logs.query.iter().any(|p| p.name == name));
            assert!(api::pairs(query).iter().all(|(name, _)| known(name)));
        }
    }
}

/// The owner's file with one unit's choice changed: still a file that is read so, or refused.
pub fn site(text: &str) {
    for (name, on) in [("web", true), ("db", false)] {
        let Ok(edited) = crate::choices::edit(text, name, on) else {
            continue;
        };
        let read: toml::Table = toml::from_str(&edited).expect("what is written can be read");
        assert_eq!(read["units"][name]["enabled"], toml::Value::Boolean(on));
    }
}

//! What a unit's templates can name, from the appliance and what is known of it: the same for the running appliance and for a build,
//! which tries every template with stand-ins.

use std::collections::BTreeMap;

use cairn_unit::{Bond, Manifest, SettingValue};
use minijinja::Value;

use crate::template::{Bound, Context, Host};

/// What only a running appliance knows.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The appliance's outside address; empty while it has none.
    pub address: String,
    /// The unit's secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// Its accounts at others, by its own names for the needs.
    pub accounts: BTreeMap<String, Known>,
}

/// An account of a unit at another.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its password.
    pub password: String,
    /// What else is good while a shared secret is changed.
    pub other: Option<String>,
    /// What the provider tells of it.
    pub tells: BTreeMap<String, String>,
}

/// The appliance as templates see it.
pub fn host(manifest: &Manifest, address: &str) -> Host {
    Host {
        name: manifest.name.to_string(),
        version: manifest.version.clone(),
        address: address.to_owned(),
    }
}

/// The owner's choices as templates see them.
pub fn site(manifest: &Manifest) -> BTreeMap<String, String> {
    let domain = manifest.domain.as_ref().map_or(String::new(), ToString::to_string);
    let time: Vec<String> = manifest.time.iter().map(ToString::to_string).collect();
    BTreeMap::from([
        ("name".to_owned(), manifest.name.to_string()),
        ("domain".to_owned(), domain),
        ("time".to_owned(), time.join(" ")),
    ])
}

/// What the templates of the unit `name` can name.
pub fn context(manifest: &Manifest, name: &str, facts: &Facts) -> Context {
    let mut bindings: BTreeMap<String, Option<Bound>> = BTreeMap::new();
    if let Some(unit) = manifest.units.get(name) {
        // A need that nobody provides is optional: the build saw to that.
        bindings.extend(unit.unit.needs.keys().map(|need| (need.to_string(), None)));
    }
    for bond in manifest.bonds(name) {
        bindings.insert(bond.name.to_string(), bound(manifest, &bond, facts));
    }
    Context {
        unit: name.to_owned(),
        secrets: facts.secrets.clone(),
        host: host(manifest, &facts.address),
        site: site(manifest),
        settings: manifest
            .settings(name)
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_ref().map_or(Value::from(()), setting)))
            .collect(),
        bindings,
        bound: consumers(manifest, name),
    }
}

fn setting(value: &SettingValue) -> Value {
    match value {
        SettingValue::Flag(flag) => Value::from(*flag),
        SettingValue::Number(number) => Value::from(*number),
        SettingValue::Text(text) => Value::from(text.as_str()),
        SettingValue::Many(all) => all.iter().map(String::as_str).collect(),
    }
}

fn bound(manifest: &Manifest, bond: &Bond<'_>, facts: &Facts) -> Option<Bound> {
    let account = facts.accounts.get(bond.name.as_str());
    let has_password = bond.provide.account.is_some() || bond.provide.secret.is_some();
    let lacks_account = has_password && account.is_none();
    if bond.need.optional && (lacks_account || !manifest.enabled(bond.provider.as_str())) {
        return None;
    }
    Some(Bound {
        host: bond.provider.host(),
        name: manifest.internal_name(bond.provider),
        port: bond.provide.port,
        socket: match bond.provide.upstream {
            Some(_) => bond.need.socket.as_ref().map(ToString::to_string),
            None => bond.provide.socket.as_ref().map(ToString::to_string),
        },
        password: account.map(|account| account.password.clone()),
        other: account.and_then(|account| account.other.clone()),
        tells: account.map(|account| account.tells.clone()).unwrap_or_default(),
        says: bond
            .provide
            .upstream
            .as_ref()
            .map(|upstream| upstream.answers(bond.need)),
    })
}

/// The units that need what `name` provides and that the owner lets run, by provide.
fn consumers(manifest: &Manifest, name: &str) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    if let Some(unit) = manifest.units.get(name) {
        all.extend(
            unit.unit
                .provides
                .keys()
                .map(|provide| (provide.to_string(), Vec::new())),
        );
    }
    let enabled = |bond: &Bond<'_>| manifest.enabled(bond.consumer.as_str());
    for bond in manifest.consumers(name).filter(enabled) {
        let mut seen = BTreeMap::from([
            ("unit".to_owned(), Value::from(bond.consumer.as_str())),
            ("need".to_owned(), Value::from(bond.name.as_str())),
            ("server".to_owned(), Value::from(bond.consumer.host())),
            ("name".to_owned(), Value::from(manifest.internal_name(bond.consumer))),
        ]);
        if let Some(upstream) = &bond.provide.upstream {
            seen.insert("port".to_owned(), bond.need.port.map_or(Value::from(()), Value::from));
            let socket = bond.upstream_socket();
            seen.insert(
                "socket".to_owned(),
                socket.map_or(Value::from(()), |socket| Value::from(socket.as_str())),
            );
            let answers = upstream.answers(bond.need).into_iter();
            seen.extend(answers.map(|(key, value)| (key, Value::from(value))));
        }
        all.entry(bond.need.from.to_string())
            .or_default()
            .push(Value::from(seen));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::render;

    fn manifest(disabled: &str) -> Manifest {
        let unit = |index: u32, more: serde_json::Value| {
            let mut unit = serde_json::json!({"description": "x", "service": {"command": ["/x"]}});
            unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::json!({"unit": unit, "root": "/r", "index": index, "accounts": {}, "groups": {}, "templates": [], "waits_for": []})
        };
        let asks = serde_json::json!({"path": {"is": "path", "default": "/"}, "host": {"is": "host", "default": ""}});
        serde_json::from_value(serde_json::json!({
            "name": "box", "version": "1", "description": "x", "built": 0, "disabled": serde_json::from_str::<Vec<String>>(disabled).unwrap(),
            "units": {
                "proxy": unit(0, serde_json::json!({"provides": {"web": {"kind": "http", "upstream": {"asks": asks}}}})),
                "wiki": unit(1, serde_json::json!({"needs": {"http": {"from": "web", "port": 8000, "path": "/wiki"},
                    "cache": {"from": "cache", "optional": true}, "gone": {"from": "nobody", "optional": true}}})),
                "shop@a": unit(2, serde_json::json!({"needs": {"http": {"from": "web", "port": 80, "host": "shop"}}})),
                "blog": unit(4, serde_json::json!({"needs": {"http": {"from": "web", "socket": "/run/blog/http.sock", "path": "/b"}}})),
                "cache": unit(3, serde_json::json!({"provides": {"cache": {"kind": "cache", "port": 6379}}})),
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_provider_sees_the_units_that_need_it_with_what_they_say() {
        let text =
            "{% for u in bound.web %}{{ u.unit }} {{ u.server }}:{{ u.port }} {{ u.path }} {{ u.host }}|{% endfor %}";
        let all = context(&manifest("[]"), "proxy", &Facts::default());
        assert_eq!(
            render("/f", text, &all).unwrap(),
            "blog blog:None /b |shop@a shop-a:80 / shop|wiki wiki:8000 /wiki |"
        );
        // One that the owner does not let run is not there.
        let some = context(&manifest(r#"["wiki", "blog"]"#), "proxy", &Facts::default());
        assert_eq!(render("/f", text, &some).unwrap(), "shop@a shop-a:80 / shop|");
        // And without any it is an empty list, not an unknown name.
        let none = context(&manifest(r#"["wiki", "shop@a", "blog"]"#), "proxy", &Facts::default());
        assert_eq!(render("/f", text, &none).unwrap(), "");
    }

    #[test]
    fn a_socket_is_named_as_each_of_the_two_sees_it() {
        let text = "{% for u in bound.web if u.socket %}{{ u.unit }} {{ u.socket }}{% endfor %}";
        let proxy = context(&manifest("[]"), "proxy", &Facts::default());
        assert_eq!(
            render("/f", text, &proxy).unwrap(),
            "blog /run/upstream/blog.http/http.sock"
        );
        let blog = context(&manifest("[]"), "blog", &Facts::default());
        assert_eq!(
            render("/f", "{{ bindings.http.socket }}", &blog).unwrap(),
            "/run/blog/http.sock"
        );
    }

    #[test]
    fn a_unit_sees_what_it_says_itself() {
        let all = context(&manifest("[]"), "wiki", &Facts::default());
        assert_eq!(render("/f", "{{ bindings.http.says.path }}", &all).unwrap(), "/wiki");
    }

    #[test]
    fn what_the_owner_chose_stands_in_place_of_what_holds_otherwise() {
        let mut manifest = manifest("[]");
        let unit = manifest.units.get_mut("wiki").unwrap();
        let offered = serde_json::json!({
            "on": {"description": "x", "is": "flag"}, "title": {"description": "x", "is": "line", "default": "Wiki"},
            "mail": {"description": "x", "is": "mail"}, "names": {"description": "x", "is": "domain", "many": true},
        });
        std::sync::Arc::make_mut(unit).unit.settings = serde_json::from_value(offered).unwrap();
        let text =
            "{{ settings.on }} {{ settings.title }} {{ settings.mail is none }} {{ settings.names | join(',') }}";
        let now = |manifest: &Manifest| render("/f", text, &context(manifest, "wiki", &Facts::default())).unwrap();
        assert_eq!(now(&manifest), "False Wiki True ");
        let chosen =
            serde_json::json!({"on": true, "title": "W", "mail": "a@b.example", "names": ["a.example", "b.example"]});
        let chosen = serde_json::from_value(chosen).unwrap();
        manifest.chosen.insert("wiki".parse().unwrap(), chosen);
        assert_eq!(now(&manifest), "True W False a.example,b.example");
        // A name that the unit does not offer is as unknown as any other.
        assert!(
            render(
                "/f",
                "{{ settings.gone }}",
                &context(&manifest, "wiki", &Facts::default())
            )
            .is_err()
        );
    }

    #[test]
    fn what_is_optional_is_none_where_it_is_not() {
        let text =
            "{% if bindings.cache %}{{ bindings.cache.host }}{% else %}none{% endif %} {{ bindings.gone is none }}";
        let with = |disabled| render("/f", text, &context(&manifest(disabled), "wiki", &Facts::default())).unwrap();
        assert_eq!(with("[]"), "cache True");
        assert_eq!(with(r#"["cache"]"#), "none True");
    }
}

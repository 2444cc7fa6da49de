//! Templates: an overlay's `PATH.tmpl` with the site's, the host's and the unit's own values, strictly.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::error::Error;

/// What a template can name.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The unit's name.
    pub unit: String,
    /// The unit's secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// The appliance.
    pub host: Host,
    /// The owner's choices.
    pub site: BTreeMap<String, String>,
    /// Those of them that the unit offers.
    pub settings: BTreeMap<String, Value>,
    /// What the unit is bound to, by its own names for it. An optional need is none where nothing serves it.
    pub bindings: BTreeMap<String, Option<Bound>>,
    /// The units that need what this one provides, by provide.
    pub bound: BTreeMap<String, Vec<Value>>,
}

/// The appliance as templates see it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its outside address; empty while it has none.
    pub address: String,
}

/// A binding as templates see it.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// The provider's host name, also in `/etc/hosts`.
    pub host: String,
    /// Its name in its certificates, also in `/etc/hosts`.
    pub name: String,
    /// Its port, if it has one.
    pub port: Option<u16>,
    /// Its socket, if it has one.
    pub socket: Option<String>,
    /// The password of the unit's account there, or the secret that it shares, if it has one.
    pub password: Option<String>,
    /// What else is good while that secret is changed.
    pub other: Option<String>,
    /// What the provider tells of that account.
    pub tells: BTreeMap<String, String>,
    /// What the unit itself says to a provider that connects to it, so that it stands in one place.
    pub says: Option<BTreeMap<String, String>>,
}

/// What the template of a provider's step for an account can name.
#[derive(Debug, Clone, Default)]
pub struct AccountContext {
    /// The account.
    pub account: BTreeMap<String, Value>,
    /// The unit that it belongs to.
    pub consumer: BTreeMap<String, String>,
    /// The provider's secrets.
    pub secrets: BTreeMap<String, String>,
    /// The appliance.
    pub host: Host,
    /// The owner's choices.
    pub site: BTreeMap<String, String>,
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    let entries = entries.into_iter().map(|(k, v)| (k.to_owned(), v));
    Value::from(entries.collect::<BTreeMap<String, Value>>())
}

fn texts(all: &BTreeMap<String, String>) -> Value {
    map(all.iter().map(|(k, v)| (k.as_str(), Value::from(v.as_str()))).collect())
}

impl Host {
    fn value(&self) -> Value {
        map(vec![
            ("name", Value::from(self.name.as_str())),
            ("version", Value::from(self.version.as_str())),
            ("address", Value::from(self.address.as_str())),
        ])
    }
}

impl AccountContext {
    /// As [`render_value`] takes it.
    pub fn value(&self) -> Value {
        map(vec![
            ("account", Value::from(self.account.clone())),
            ("consumer", texts(&self.consumer)),
            ("secrets", texts(&self.secrets)),
            ("host", self.host.value()),
            ("site", texts(&self.site)),
        ])
    }
}

impl Context {
    fn value(&self) -> Value {
        let bindings = self.bindings.iter().map(|(name, bound)| {
            let Some(bound) = bound else {
                return (name.as_str(), Value::from(()));
            };
            let mut entries = vec![
                ("host", Value::from(bound.host.as_str())),
                ("name", Value::from(bound.name.as_str())),
            ];
            entries.extend(bound.port.map(|p| ("port", Value::from(p))));
            entries.extend(bound.socket.as_deref().map(|s| ("socket", Value::from(s))));
            if let Some(password) = &bound.password {
                entries.push(("password", Value::from(password.as_str())));
                let other = bound.other.as_deref();
                entries.push(("other", other.map_or(Value::from(()), Value::from)));
            }
            entries.extend(bound.says.as_ref().map(|says| ("says", texts(says))));
            entries.extend(bound.tells.iter().map(|(k, v)| (k.as_str(), Value::from(v.as_str()))));
            (name.as_str(), map(entries))
        });
        map(vec![
            ("unit", Value::from(self.unit.as_str())),
            ("secrets", texts(&self.secrets)),
            ("host", self.host.value()),
            ("site", texts(&self.site)),
            ("settings", Value::from(self.settings.clone())),
            ("bindings", map(bindings.collect())),
            ("bound", Value::from(self.bound.clone())),
        ])
    }
}

/// Renders `text`, which stands in `file`. Nothing is escaped; a name that is not there is an error with its line.
///
/// # Errors
/// [`Error::Template`].
pub fn render(file: &str, text: &str, context: &Context) -> Result<String, Error> {
    render_value(file, text, context.value())
}

/// The same with any value.
///
/// # Errors
/// [`Error::Template`].
pub fn render_value(file: &str, text: &str, context: Value) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment
        .render_named_str(file, text, context)
        .map_err(|e| Error::Template {
            file: file.to_owned(),
            line: e.line().unwrap_or(0),
            why: e
                .detail()
                .map_or_else(|| e.kind().to_string(), |d| format!("{}: {d}", e.kind())),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_placed_as_they_are() {
        let mut context = Context {
            unit: "u".into(),
            ..Context::default()
        };
        context.secrets.insert("admin".into(), "<&\"'>".into());
        let text = "a {{ secrets.admin }}\nredir https://{host}{uri}\n";
        assert_eq!(
            render("/f", text, &context).unwrap(),
            "a <&\"'>\nredir https://{host}{uri}\n"
        );
    }

    #[test]
    fn an_undefined_name_fails_with_file_and_line() {
        let error = render("/etc/x.conf", "a\nb {{ secrets.gone }}\n", &Context::default()).unwrap_err();
        assert!(error.to_string().starts_with("template /etc/x.conf:2: "), "{error}");
    }
}

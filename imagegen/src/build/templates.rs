//! Templates are tried when the image is built: with every name that the appliance will have for them, and a value for each that is as
//! good as any. A name that is not there is found here, and not by the owner.

use std::collections::BTreeMap;

use cairn_config::template::{AccountContext, Bound, Context, Host, render, render_value};
use cairn_unit::{AccountSpec, Manifest, ManifestUnit, Name, Provide};
use minijinja::Value;

use super::BuildError;
use super::roots::Root;

/// A value that stands for one that is not known yet.
const SOME: &str = "x";

fn host() -> Host {
    Host {
        name: SOME.into(),
        version: SOME.into(),
        address: SOME.into(),
    }
}

fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    names
        .into_iter()
        .map(|name| (name.to_owned(), SOME.to_owned()))
        .collect()
}

fn provided<'a>(manifest: &'a Manifest, need: &str) -> Option<&'a Provide> {
    manifest.units.values().find_map(|unit| unit.unit.provides.get(need))
}

/// What a unit's own templates can name.
fn context(manifest: &Manifest, name: &Name, unit: &ManifestUnit) -> Context {
    let bound = |(need, provide): (&Name, &Name)| {
        let provide = provided(manifest, provide.as_str())?;
        let bound = Bound {
            host: SOME.into(),
            name: SOME.into(),
            port: provide.port,
            socket: provide.socket.as_ref().map(ToString::to_string),
            password: provide.account.as_ref().map(|_| SOME.to_owned()),
            tells: some(
                provide
                    .account
                    .iter()
                    .flat_map(|account| account.tells.keys().map(String::as_str)),
            ),
        };
        Some((need.to_string(), bound))
    };
    let accounts =
        unit.unit.needs.iter().filter(|(_, provide)| {
            provided(manifest, provide.as_str()).is_some_and(|provide| provide.account.is_some())
        });
    let mut secrets = some(unit.unit.secrets.keys().map(Name::as_str));
    secrets.extend(some(accounts.map(|(need, _)| need.as_str())));
    if !unit.unit.needs.is_empty() || !secrets.is_empty() {
        secrets.extend(some(["ca"]));
    }
    Context {
        unit: name.to_string(),
        secrets,
        host: host(),
        site: some(["name", "domain"]),
        bindings: unit.unit.needs.iter().filter_map(bound).collect(),
    }
}

/// What the templates of a step for an account can name, without and with a password of before.
fn account(unit: &ManifestUnit) -> [Value; 2] {
    [false, true].map(|changing| {
        let old = BTreeMap::from([("password", SOME), ("turn", "b")]);
        let old = if changing { Value::from(old) } else { Value::from(()) };
        let context = AccountContext {
            account: BTreeMap::from([
                ("name".to_owned(), Value::from(SOME)),
                ("password".to_owned(), Value::from(SOME)),
                ("turn".to_owned(), Value::from("a")),
                ("old".to_owned(), old),
            ]),
            consumer: some(["unit", "host", "address", "address6"]),
            secrets: some(unit.unit.secrets.keys().map(Name::as_str)),
            host: host(),
            site: some(["name", "domain"]),
        };
        context.value()
    })
}

/// Renders every template of every unit once.
///
/// # Errors
/// The first that names what there is not, or whose file is not in the root.
pub(super) fn check(manifest: &Manifest, roots: &BTreeMap<Name, Root>) -> Result<(), BuildError> {
    for (name, unit) in &manifest.units {
        let Some(root) = roots.get(name) else { continue };
        let wrong = |path: &str, why: String| BuildError::Template {
            unit: name.to_string(),
            path: path.to_owned(),
            why,
        };
        let text = |path: &str| match root.tree.text(path) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(wrong(path, "it is not in the unit's root".into())),
            Err(why) => Err(wrong(path, why.to_string())),
        };
        for template in &unit.templates {
            let path = format!("{}.tmpl", template.path);
            render(&path, &text(&path)?, &context(manifest, name, unit)).map_err(|e| wrong(&path, e.to_string()))?;
        }
        for (provide, spec) in unit
            .unit
            .provides
            .iter()
            .filter_map(|(n, p)| Some((n, p.account.as_ref()?)))
        {
            for value in account(unit) {
                for (_, step) in AccountSpec::steps(spec) {
                    if let Some(path) = &step.stdin {
                        let rendered = render_value(path.as_str(), &text(path.as_str())?, value.clone());
                        rendered.map_err(|e| wrong(path.as_str(), e.to_string()))?;
                    }
                }
                for (key, told) in &spec.tells {
                    let place = format!("provides.{provide}.account.tells.{key}");
                    render_value(&place, told, value.clone()).map_err(|e| wrong(&place, e.to_string()))?;
                }
            }
        }
    }
    Ok(())
}

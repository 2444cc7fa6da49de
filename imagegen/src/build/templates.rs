//! Templates are tried when the image is built: with every name that the appliance will have for them, and a value for each that is as
//! good as any. A name that is not there is found here, and not by the owner.

use std::collections::BTreeMap;

use cairn_config::context::{Facts, Known};
use cairn_config::template::{AccountContext, Context, Host, render, render_value};
use cairn_unit::{AccountSpec, Manifest, ManifestUnit, Name};
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

/// What a unit's own templates can name, with everything that it can be bound to, and without what is optional.
fn contexts(manifest: &Manifest, name: &Name, unit: &ManifestUnit) -> [Context; 2] {
    [true, false].map(|all| {
        let bonds = manifest.bonds(name.as_str()).filter(|bond| all || !bond.need.optional);
        let accounts: BTreeMap<String, Known> = bonds
            .filter_map(|bond| {
                let account = bond.provide.account.as_ref();
                if account.is_none() && bond.provide.secret.is_none() {
                    return None;
                }
                let tells = account.into_iter().flat_map(|account| account.tells.keys());
                let known = Known {
                    password: SOME.to_owned(),
                    other: None,
                    tells: some(tells.map(String::as_str)),
                };
                Some((bond.name.to_string(), known))
            })
            .collect();
        let mut secrets = some(unit.unit.secrets.keys().map(Name::as_str));
        secrets.extend(some(accounts.keys().map(String::as_str)));
        for (name, _) in unit
            .unit
            .provides
            .iter()
            .filter(|(_, provide)| provide.secret.is_some())
        {
            secrets.extend([
                (name.to_string(), SOME.to_owned()),
                (format!("{name}.other"), String::new()),
            ]);
        }
        if !unit.unit.needs.is_empty() || !secrets.is_empty() {
            secrets.extend(some(["ca"]));
        }
        let facts = Facts {
            address: SOME.to_owned(),
            secrets,
            accounts,
        };
        let mut context = cairn_config::context::context(manifest, name.as_str(), &facts);
        if !all {
            let optional = unit.unit.needs.iter().filter(|(_, need)| need.optional);
            context
                .bindings
                .extend(optional.map(|(need, _)| (need.to_string(), None)));
        } else {
            // What a template does with each of its consumers is tried also where there is none.
            for (provide, consumers) in &mut context.bound {
                let upstream = unit
                    .unit
                    .provides
                    .get(provide.as_str())
                    .and_then(|p| p.upstream.as_ref());
                let asked = upstream.iter().flat_map(|u| u.asks.keys().map(Name::as_str));
                let names = ["unit", "need", "server", "name"].into_iter().chain(asked);
                // One that answers at a port, and one at a socket.
                for way in [["port", "socket"], ["socket", "port"]] {
                    let mut seen: BTreeMap<String, Value> = some(names.clone())
                        .into_iter()
                        .map(|(name, value)| (name, Value::from(value)))
                        .collect();
                    if upstream.is_some() {
                        seen.insert(way[0].to_owned(), Value::from(SOME));
                        seen.insert(way[1].to_owned(), Value::from(()));
                    }
                    consumers.push(Value::from(seen));
                }
            }
        }
        context
    })
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
            for context in contexts(manifest, name, unit) {
                render(&path, &text(&path)?, &context).map_err(|e| wrong(&path, e.to_string()))?;
            }
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

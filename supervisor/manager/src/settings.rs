//! What the owner chose of what units offer as settings: told, and written into `site.toml`.

use std::collections::BTreeMap;

use cairn_api::SettingState;
use cairn_unit::{Manifest, Name, Setting, SettingValue};
use serde_json::Value;

use crate::control::Answered;
use crate::site_text;
use crate::supervisor::Supervisor;

/// A unit's settings, and what holds for each.
pub(crate) fn told(manifest: &Manifest, unit: &str) -> Vec<SettingState> {
    let Some(offering) = manifest.units.get(unit) else {
        return Vec::new();
    };
    let chosen = manifest.chosen.get(unit);
    let json = |value: SettingValue| serde_json::to_value(value).ok();
    let told = |(name, value): (Name, Option<SettingValue>)| {
        let setting = offering.unit.settings.get(&name)?;
        let is = serde_json::to_value(setting.is).ok()?;
        Some(SettingState {
            description: setting.description.clone(),
            is: is.as_str()?.to_owned(),
            many: setting.many,
            values: setting.values.clone(),
            value: value.and_then(json),
            chosen: chosen.is_some_and(|chosen| chosen.contains_key(&name)),
            name: name.to_string(),
        })
    };
    manifest.settings(unit).into_iter().filter_map(told).collect()
}

/// A value as somebody gave it, for a setting that is known or not. None for what holds otherwise.
fn read(setting: Option<&Setting>, given: &Value) -> Result<Option<SettingValue>, String> {
    match (given, setting) {
        (Value::Null, _) => Ok(None),
        (Value::String(text), Some(setting)) => Ok(setting.read(text)),
        _ => match serde_json::from_value(given.clone()) {
            Ok(value) => Ok(Some(value)),
            Err(e) => Err(e.to_string()),
        },
    }
}

/// The site's text with other values for a unit's settings; comments and everything else stay.
fn edit(text: &str, unit: &str, values: &BTreeMap<String, Option<SettingValue>>) -> Result<String, String> {
    let mut site = site_text::parse(text)?;
    let settings = site_text::table_at(&mut site, &["units", unit, "settings"])?;
    for (name, value) in values {
        match value {
            None => drop(settings.remove(name)),
            Some(value) => drop(settings.insert(name, toml_edit::value(item(value)))),
        }
    }
    if settings.is_empty() {
        site_text::table_at(&mut site, &["units", unit])?.remove("settings");
    }
    Ok(site.to_string())
}

fn item(value: &SettingValue) -> toml_edit::Value {
    match value {
        SettingValue::Flag(flag) => (*flag).into(),
        SettingValue::Number(number) => (*number).into(),
        SettingValue::Text(text) => text.as_str().into(),
        SettingValue::Many(all) => all.iter().map(String::as_str).collect(),
    }
}

impl Supervisor {
    /// Writes what the owner chose for a unit, and puts it in force. If one value cannot be, none is written.
    pub(crate) fn write_settings(&mut self, unit: &str, given: &BTreeMap<String, Value>, who: &str) -> Answered {
        let Some(offering) = self.built.units.get(unit) else {
            return Answered::error(404, &format!("there is no unit {unit}"));
        };
        let offered = &offering.unit.settings;
        let mut values = BTreeMap::new();
        for (name, given) in given {
            match read(offered.get(name.as_str()), given) {
                // Nothing is ever kept under a name that is not offered, so this says that there is none.
                Ok(None) if !offered.contains_key(name.as_str()) => {
                    return Answered::error(409, &format!("`{unit}` has no setting `{name}`"));
                }
                Ok(value) => drop(values.insert(name.clone(), value)),
                Err(why) => return Answered::error(409, &format!("`{name}`: {why}")),
            }
        }
        let names: Vec<&str> = values.keys().map(String::as_str).collect();
        let why = format!("{unit} was set: {}", names.join(", "));
        self.edit_site(who, &why, &|text| edit(text, unit, &values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, Option<SettingValue>)]) -> BTreeMap<String, Option<SettingValue>> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn values_are_written_between_the_owners_own_lines_and_taken_out_again() {
        let own = "# mine\n[units.web]\nenabled = true # why\n\n[units.web.settings]\ntitle = \"a\" # short\nold = 1\n";
        let chosen = values(&[
            (
                "names",
                Some(SettingValue::Many(vec!["a.example".into(), "b.example".into()])),
            ),
            ("old", None),
            ("on", Some(SettingValue::Flag(true))),
        ]);
        let text = edit(own, "web", &chosen).unwrap();
        assert!(
            text.starts_with("# mine\n[units.web]\nenabled = true # why\n"),
            "{text}"
        );
        assert!(
            text.contains("title = \"a\" # short\n") && !text.contains("old"),
            "{text}"
        );
        assert!(
            text.contains("names = [\"a.example\", \"b.example\"]\non = true\n"),
            "{text}"
        );
        let text = edit(
            "",
            "web",
            &values(&[("pem", Some(SettingValue::Text("a\nb\n".into())))]),
        )
        .unwrap();
        assert!(text.starts_with("[units.web.settings]\npem = "), "{text}");
        let read: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(read["units"]["web"]["settings"]["pem"].as_str(), Some("a\nb\n"));
        let inline = edit(
            "units = { web = { enabled = true } }\n",
            "web",
            &values(&[("on", Some(SettingValue::Flag(true)))]),
        );
        let inline = inline.unwrap();
        assert_eq!(
            inline,
            "units = { web = { enabled = true , settings = { on = true } } }\n"
        );
        let back = edit(&inline, "web", &values(&[("on", None)])).unwrap();
        assert_eq!(back.replace(' ', ""), "units={web={enabled=true}}\n");
        assert!(edit("[units]\nweb = 1\n", "web", &values(&[])).is_err());
    }

    #[test]
    fn a_text_is_read_by_the_settings_form_and_all_else_as_it_is() {
        let flag: Setting = toml::from_str("description = 'x'\nis = 'flag'").unwrap();
        let read = |given: Value| read(Some(&flag), &given);
        assert_eq!(read("true".into()), Ok(Some(SettingValue::Flag(true))));
        assert_eq!(read(false.into()), Ok(Some(SettingValue::Flag(false))));
        assert_eq!(read("".into()), Ok(None));
        assert_eq!(read(Value::Null), Ok(None));
        assert!(
            read(serde_json::json!({"a": 1}))
                .unwrap_err()
                .contains("a list of texts")
        );
    }
}

//! What the owner can choose for a unit, as a form on its page. What there is, and what it does, the unit itself says.

use std::collections::BTreeMap;

use cairn_api::{Explained, SettingState};
use minijinja::Value;
use serde_json::json;

use super::unit::Wrong;
use crate::app::{App, Failure, Visit};
use crate::control::{ControlError, encode};
use crate::http::{Fields, Response};
use crate::view::values;

/// The name of a setting's field.
fn field(setting: &SettingState) -> String {
    format!("set-{}", setting.name)
}

/// What holds, as it stands in the field: a list with a value a line.
fn written(setting: &SettingState) -> String {
    let one = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match &setting.value {
        None => String::new(),
        Some(serde_json::Value::Array(all)) => all.iter().map(one).collect::<Vec<_>>().join("\n"),
        Some(value) => one(value),
    }
}

/// What somebody sent for it.
fn sent(setting: &SettingState, form: &Fields) -> String {
    let text = form.get(&field(setting)).replace("\r\n", "\n");
    match setting.is.as_str() {
        "flag" => (text == "true").to_string(),
        _ => text.trim().to_owned(),
    }
}

/// The fields of the form: with what holds, or with what was sent and could not be.
pub(super) fn fields(settings: &[SettingState], form: Option<&Fields>) -> Vec<Value> {
    let shown = |setting: &SettingState| {
        let value = form.map_or_else(|| written(setting), |form| sent(setting, form));
        let lines = setting.many || setting.is == "text";
        values! {
            field => field(setting), name => setting.name, description => setting.description, is => setting.is, many => setting.many,
            values => setting.values, lines, value => value, chosen => setting.chosen,
        }
    };
    settings.iter().map(shown).collect()
}

/// What was changed, as the manager takes it; an empty field is what holds if nothing is chosen.
fn changed(settings: &[SettingState], form: &Fields) -> BTreeMap<String, serde_json::Value> {
    let differs = settings
        .iter()
        .filter(|setting| sent(setting, form) != written(setting).trim());
    let given = |setting: &SettingState| match sent(setting, form) {
        empty if empty.is_empty() => serde_json::Value::Null,
        text => text.into(),
    };
    differs.map(|setting| (setting.name.clone(), given(setting))).collect()
}

/// Takes the form.
pub(super) async fn choose(app: &App, visit: &mut Visit, name: &str) -> Result<Response, Failure> {
    let unit = encode(name);
    let explained: Explained = app.control.get(&format!("/v1/units/{unit}/explain")).await?;
    let given = changed(&explained.settings, &visit.request.form);
    let back = format!("/units/{unit}?said=settings#settings");
    if given.is_empty() {
        return Ok(Response::see(&back));
    }
    let names: Vec<&str> = given.keys().map(String::as_str).collect();
    let told = format!("{name} was set: {}", names.join(", "));
    let answer = visit
        .control(app)
        .post(
            &format!("/v1/units/{unit}/settings"),
            Some(json!({ "settings": given })),
        )
        .await;
    match answer {
        Ok(_) => {
            visit.told = told;
            Ok(Response::see(&back))
        }
        Err(ControlError::Refused { status: 409, error, .. }) => {
            visit.told = format!("{told}: refused");
            let wrong = Wrong {
                settings: Some((error, &visit.request.form)),
                ..Wrong::default()
            };
            super::unit::page(app, visit, name, 409, wrong).await
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, is: &str, value: serde_json::Value) -> SettingState {
        SettingState {
            name: name.into(),
            description: "What it does.".into(),
            is: is.into(),
            many: value.is_array(),
            values: Vec::new(),
            value: Some(value).filter(|value| !value.is_null()),
            chosen: false,
        }
    }

    #[test]
    fn only_what_was_changed_is_sent() {
        let settings = [
            setting("on", "flag", true.into()),
            setting("off", "flag", false.into()),
            setting("size", "number", 5.into()),
            setting("names", "domain", json!(["a.example", "b.example"])),
            setting("mail", "mail", json!(null)),
            setting("pem", "text", "x\ny\n".into()),
        ];
        let same = "set-on=true&set-size=5&set-names=a.example%0D%0Ab.example&set-mail=&set-pem=x%0D%0Ay%0D%0A";
        assert_eq!(changed(&settings, &Fields::parse(same).unwrap()), BTreeMap::new());
        let other = "set-off=true&set-size=&set-names=a.example&set-mail=a%40b.example&set-pem=";
        let sent = changed(&settings, &Fields::parse(other).unwrap());
        let expected = json!({
            "on": "false", "off": "true", "size": null, "names": "a.example", "mail": "a@b.example", "pem": null,
        });
        assert_eq!(json!(sent), expected);
    }
}

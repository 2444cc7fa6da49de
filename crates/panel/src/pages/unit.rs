//! One unit: how it is and why, what it uses, its sandbox, its bindings, its log.

use cairn_api::{Explained, Graph, Top};
use minijinja::Value;

use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;
use crate::picture;
use crate::view::values;

/// So many lines of the log are shown at first.
const LINES: u32 = 200;

/// The page.
pub(super) async fn show(app: &App, visit: &Visit, name: &str) -> Result<Response, Failure> {
    page(app, visit, name, 200, Wrong::default()).await
}

/// What was wrong with what somebody sent from the page.
#[derive(Default)]
pub(super) struct Wrong<'a> {
    /// With the password for going back to a copy, and for how many seconds none is taken.
    pub copy: Option<(&'a str, u64)>,
    /// With the settings, and the fields as they were sent.
    pub settings: Option<(String, &'a crate::http::Fields)>,
}

/// The page, with what was wrong.
pub(super) async fn page(
    app: &App,
    visit: &Visit,
    name: &str,
    code: u16,
    wrong: Wrong<'_>,
) -> Result<Response, Failure> {
    let unit = encode(name);
    let explained: Explained = app.control.get(&format!("/v1/units/{unit}/explain")).await?;
    let top: Option<Top> = app.control.get("/v1/top").await.ok();
    let used = top.iter().flat_map(|top| &top.units).find(|used| used.name == name);
    let graph: Option<Graph> = app.control.get("/v1/graph").await.ok();
    let publishes = graph
        .iter()
        .flat_map(|graph| &graph.nodes)
        .find(|node| node.name == name);
    let publishes = publishes.map(|node| node.publishes.clone()).unwrap_or_default();
    let label = app.view.say(visit.lang, "unit.picture", &[("unit", name.to_owned())]);
    let drawn = graph
        .as_ref()
        .map(|graph| picture::bindings(graph, name, &label))
        .unwrap_or_default();
    let security = app
        .control
        .get::<serde_json::Value>(&format!("/v1/units/{unit}/security"))
        .await;
    let security = security.map(|answer| answer["units"][0].clone()).unwrap_or_default();
    let search = visit.request.query.get("search").to_owned();
    let log = app
        .control
        .text(&super::live::log_path(name, &search, LINES, false))
        .await;
    let (log, log_error) = match log {
        Ok(text) => (text.lines().map(str::to_owned).collect::<Vec<_>>(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let limits: Vec<(&String, &String)> = explained.limits.iter().collect();
    app.page(
        visit,
        code,
        "unit.html",
        values! {
            unit => super::overview::row(app, visit, &explained.status, used), counted => used.is_some(), why => explained.why,
            waits_for => explained.waits_for, needed_by => explained.needed_by, started_by => explained.started_by,
            ready_rule => explained.ready, health_rule => explained.health, stop_rule => explained.stop, reload_rule => explained.reload,
            restart_policy => explained.restart.policy, exceptions => explained.exceptions, limits, publishes,
            picture => Value::from_safe_string(drawn),
            score => security["score"].as_f64(), differs => security["differs"].as_u64(), rows => rows(&security),
            copies => super::copies::shown(app, name).await, wrong => wrong.copy.map(|(why, _)| why), after => wrong.copy.map(|(_, after)| after),
            settings => super::unit_settings::fields(&explained.settings, wrong.settings.as_ref().map(|(_, sent)| *sent)),
            settings_wrong => wrong.settings.as_ref().map(|(why, _)| why),
            log, log_error, search, search_path => encode(&search),
        },
    )
}

/// The sandbox report's rows: what is declared, and what is in force.
fn rows(security: &serde_json::Value) -> Vec<Value> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => {
            let words: Vec<&str> = list.iter().filter_map(serde_json::Value::as_str).collect();
            words.join(", ")
        }
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let rows = security["rows"].as_array().into_iter().flatten();
    rows.map(|row| {
        values! {
            what => text(&row["item"]), declared => text(&row["declared"]), found => text(&row["in_force"]), state => text(&row["state"]),
        }
    })
    .collect()
}

/// Starts, stops, restarts or reloads it.
pub(super) async fn act(app: &App, visit: &mut Visit, name: &str, verb: &str) -> Result<Response, Failure> {
    visit
        .control(app)
        .post(&format!("/v1/units/{}/{verb}", encode(name)), None)
        .await?;
    visit.told = format!("{verb} was begun");
    Ok(Response::see(&format!("/units/{}?said={verb}", encode(name))))
}

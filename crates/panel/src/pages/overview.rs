//! All units at a glance.

use cairn_api::{NetworkState, Status, Top, UnitStatus, Use};
use minijinja::Value;

use crate::app::{App, Failure, Visit};
use crate::charts;
use crate::http::Response;
use crate::roles::Role;
use crate::view::values;

/// How a unit is, in one of five words: what its colour and its sign say.
pub(super) fn mood(unit: &UnitStatus) -> &'static str {
    match unit.state.as_str() {
        "ready" if unit.health.failed > 0 => "warn",
        "ready" => "good",
        "failed" => "bad",
        "restarting" => "warn",
        "stopped" if !unit.wanted => "off",
        "stopped" | "waiting" if unit.starts_in_ms.is_some() => "off",
        "stopped" => "off",
        _ => "busy",
    }
}

/// A unit's row: its state, and what it uses.
pub(super) fn row(app: &App, visit: &Visit, unit: &UnitStatus, used: Option<&Use>) -> Value {
    let samples = app.samples.of(&unit.name);
    let cpu: Vec<f64> = samples.iter().map(|sample| sample.cpu).collect();
    let memory: Vec<f64> = samples.iter().map(|sample| sample.memory).collect();
    let pressure: Vec<f64> = samples.iter().map(|sample| sample.pressure).collect();
    let used = used.cloned().unwrap_or_default();
    let label = |key: &str| app.view.say(visit.lang, key, &[("unit", unit.name.clone())]);
    // A chart that is scaled to its own noise would look like work: 10 % of a processor is the least height.
    let cpu_top = cpu.iter().copied().fold(10.0, f64::max);
    values! {
        name => unit.name, description => unit.description, state => unit.state, mood => mood(unit), reason => unit.reason,
        for_s => unit.for_ms as f64 / 1000.0, says => unit.says, wanted => unit.wanted,
        running => unit.pid != 0, health => unit.health.last, unhealthy => unit.health.failed > 0,
        memory => used.memory, memory_max => used.memory_max, memory_peak => used.memory_peak,
        memory_share => share(used.memory, used.memory_max),
        processes => used.processes, processes_max => used.processes_max,
        kept => used.kept, kept_max => used.kept_max, read => used.read, written => used.written,
        pressure => f64::from(used.pressure.cpu.max(used.pressure.memory).max(used.pressure.io)),
        pressure_cpu => f64::from(used.pressure.cpu), pressure_memory => f64::from(used.pressure.memory),
        pressure_io => f64::from(used.pressure.io),
        cpu => cpu.last().copied().unwrap_or(0.0),
        cpu_chart => Value::from_safe_string(charts::line(&cpu, cpu_top, &label("overview.cpu-chart"))),
        memory_chart => Value::from_safe_string(charts::line(&memory, used.memory_max as f64, &label("overview.memory-chart"))),
        pressure_chart => Value::from_safe_string(charts::line(&pressure, 100.0, &label("overview.pressure-chart"))),
    }
}

/// A share in whole percent, for `<meter>`.
fn share(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        whole => (part.saturating_mul(100) / whole).min(100),
    }
}

/// The page.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let status: Status = app.control.get("/v1/status").await?;
    // Without what they use, the units' states still count.
    let top: Option<Top> = app.control.get("/v1/top").await.ok();
    let used = |name: &str| top.iter().flat_map(|top| &top.units).find(|used| used.name == name);
    let rows: Vec<Value> = status
        .units
        .iter()
        .map(|unit| row(app, visit, unit, used(&unit.name)))
        .collect();
    let count = |wanted: &str| status.units.iter().filter(|unit| mood(unit) == wanted).count();
    let memory: u64 = top.iter().flat_map(|top| &top.units).map(|used| used.memory).sum();
    let kept: u64 = top.iter().flat_map(|top| &top.units).map(|used| used.kept).sum();
    // That there is a new version is no reason for no page.
    let news = super::version::ask(app).await.ok().flatten();
    let news = news.as_ref().and_then(super::version::news);
    let network: Option<NetworkState> = app.control.get("/v1/network").await.ok();
    let network_waits = network.is_some_and(|network| network.pending.is_some());
    let unseen = visit.may(Role::Owner) && app.store.with(|db| db.recovery_unseen()).await.unwrap_or(false);
    let cpu: f64 = status
        .units
        .iter()
        .filter_map(|unit| app.samples.of(&unit.name).last().map(|sample| sample.cpu))
        .sum();
    app.page(
        visit,
        200,
        "overview.html",
        values! {
            units => rows, appliance => status.appliance, version => status.version, address => status.address, ready => status.ready,
            firewall => status.firewall, going_down => status.going_down, uptime => status.uptime_ms as f64 / 1000.0,
            good => count("good"), bad => count("bad"), warn => count("warn"), busy => count("busy"), off => count("off"),
            memory, kept, cpu, counted => top.is_some(), news, unseen, network_waits,
        },
    )
}

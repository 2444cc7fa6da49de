//! The pages of the setup's steps.

use cairn_api::{NetworkState, Setup};
use minijinja::Value;

use super::network::fields;
use super::setup::{Wrong, code_page};
use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::setup::{self, STEPS, Wizard};
use crate::view::values;
use crate::{qr, secret};

/// The steps with how far they are, for the list at the side.
pub(super) fn steps(now: &str) -> Vec<Value> {
    let at = STEPS.iter().position(|step| *step == now).unwrap_or(STEPS.len());
    STEPS
        .iter()
        .enumerate()
        .map(|(i, step)| {
            let state = match i.cmp(&at) {
                std::cmp::Ordering::Less => "past",
                std::cmp::Ordering::Equal => "now",
                std::cmp::Ordering::Greater => "next",
            };
            values! { name => step, state }
        })
        .collect()
}

/// A step's page, with what was typed where something in it is wrong.
pub(super) async fn show(
    app: &App,
    visit: &Visit,
    status: u16,
    step: &str,
    setup: &Setup,
    wizard: &Wizard,
    wrong: Option<Wrong>,
) -> Result<Response, Failure> {
    if step == "code" {
        return code_page(app, visit, status, setup, wizard, None, 0);
    }
    let form = &visit.request.form;
    let typed = |name: &str, kept: Option<&str>| match form.0.is_empty() {
        true => kept.unwrap_or_default().to_owned(),
        false => form.get(name).to_owned(),
    };
    let account = wizard.admin.as_ref().map(|admin| admin.name.as_str());
    let shown = wizard
        .totp_shown
        .as_deref()
        .filter(|_| step == "totp")
        .unwrap_or_default();
    let address = secret::totp_address(
        shown,
        account.unwrap_or("owner"),
        wizard.name.as_deref().unwrap_or("cairn"),
    );
    let picture = if shown.is_empty() {
        String::new()
    } else {
        qr::svg(&address, "QR")
    };
    let groups: Vec<String> = shown
        .as_bytes()
        .chunks(4)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let units = wizard.units.clone();
    let parts: Vec<Value> = setup
        .parts
        .iter()
        .map(|part| {
            let on = units.as_ref().map_or(part.required, |units| units.contains(&part.unit));
            let fits = part.memory_max <= setup.machine.memory;
            values! { part, on, fits }
        })
        .collect();
    let chosen = setup
        .parts
        .iter()
        .filter(|part| units.as_ref().is_some_and(|units| units.contains(&part.unit)));
    let memory: u64 = chosen.clone().map(|part| part.memory_max).sum();
    let suggested = match wrong.as_ref().map(|(field, _)| *field) {
        Some("name") => setup::suggested(form.get("name")),
        _ => String::new(),
    };
    let default_name = if setup::host_name(&setup.name).is_ok() {
        setup.name.as_str()
    } else {
        ""
    };
    let (field, why) = wrong.map_or((None, None), |(field, why)| (Some(field), Some(why)));
    let back = STEPS
        .iter()
        .position(|other| *other == step)
        .and_then(|at| STEPS.get(at.wrapping_sub(1)));
    let state: NetworkState = match step {
        // Without a manager's word of the devices the page still lets one go on.
        "network" => app.control.get("/v1/network").await.unwrap_or_default(),
        _ => NetworkState::default(),
    };
    let (device, network) = match wizard.network.devices.iter().next() {
        Some((device, choice)) => (device.clone(), fields(Some(choice), None)),
        None => (String::new(), fields(None, None)),
    };
    let sent = step == "network" && !form.0.is_empty() && field.is_some() && visit.request.path == "/setup/network";
    let (device, network) = match sent {
        true => (form.get("device").to_owned(), fields(None, Some(form))),
        false => (device, network),
    };
    app.page(
        visit,
        status,
        &format!("setup-{step}.html"),
        values! {
            steps => steps(step), step, back, field, why, suggested,
            name => typed("name", wizard.name.as_deref().or(Some(default_name))), domain => typed("domain", wizard.domain.as_deref()),
            account => typed("account", account), has_password => wizard.admin.is_some(),
            totp => wizard.totp.is_some(), picture => Value::from_safe_string(picture), secret => groups.join(" "),
            parts, machine => setup.machine, memory, memory_share => (memory * 100).checked_div(setup.machine.memory).unwrap_or(0).min(100),
            chosen => chosen.collect::<Vec<_>>(), devices => state.devices, device, network, fixed => crate::network::fixed_host(&wizard.network), problems => setup.problems, addresses => setup.addresses,
        },
    )
}

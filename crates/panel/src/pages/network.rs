//! The network as it is, the choice of another one, and a change that waits to be confirmed.

use cairn_api::{NetworkChoice, NetworkChoices, NetworkState};
use minijinja::Value;

use crate::app::{App, Failure, Visit};
use crate::control::ControlError;
use crate::http::Response;
use crate::network::{self, Why, Wrong};
use crate::view::values;

/// The sentence for what is wrong.
pub(super) fn said(app: &App, visit: &Visit, why: &Why) -> String {
    match why {
        Why::Key(key, value) => app.view.say(visit.lang, key, &[("value", value.clone())]),
        Why::Sentence(sentence) => sentence.clone(),
    }
}

/// What stands in the fields of a device: what was typed, or what was chosen.
pub(super) fn fields(choice: Option<&NetworkChoice>, typed: Option<&crate::http::Fields>) -> Value {
    let choice = choice.cloned().unwrap_or_default();
    let routers: Vec<String> = choice.gateway.into_iter().chain(choice.gateway6).collect();
    let own = |name: &str, kept: String| match typed {
        Some(form) => form.get(name).to_owned(),
        None => kept,
    };
    values! {
        method => own("method", choice.method.unwrap_or_else(|| "dhcp".to_owned())),
        addresses => own("addresses", choice.addresses.join(" ")), gateway => own("gateway", routers.join(" ")),
        dns => own("dns", choice.dns.join(" ")), search => own("search", choice.search.join(" ")),
        ipv6 => own("ipv6", choice.ipv6.unwrap_or_else(|| "auto".to_owned())),
        mtu => own("mtu", choice.mtu.map(|mtu| mtu.to_string()).unwrap_or_default()),
    }
}

async fn state(app: &App) -> Result<NetworkState, Failure> {
    Ok(app.control.get("/v1/network").await?)
}

/// The page.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let state = state(app).await?;
    page(app, visit, 200, &state, None)
}

fn page(
    app: &App,
    visit: &Visit,
    status: u16,
    state: &NetworkState,
    wrong: Option<(String, Wrong)>,
) -> Result<Response, Failure> {
    let (at, field, why) = match &wrong {
        Some((at, (field, why))) => (at.as_str(), *field, said(app, visit, why)),
        None => ("", "", String::new()),
    };
    let devices: Vec<Value> = state
        .devices
        .iter()
        .map(|device| {
            let (_, choice) = network::chosen(state, &device.name);
            let here = at == device.name;
            let typed = here.then_some(&visit.request.form);
            values! {
                device, form => fields(choice, typed), open => here, field => if here { field } else { "" },
                why => if here { why.as_str() } else { "" },
            }
        })
        .collect();
    let names = NetworkChoice {
        dns: state.chosen.dns.clone(),
        search: state.chosen.search.clone(),
        ..NetworkChoice::default()
    };
    let here = wrong.is_some() && at.is_empty();
    let names = fields(Some(&names), here.then_some(&visit.request.form));
    app.page(
        visit,
        status,
        "network.html",
        values! {
            state, devices, names, names_field => if here { field } else { "" }, names_why => if here { why.as_str() } else { "" },
            moved => state.pending.as_ref().and_then(|_| network::fixed_host(&state.chosen)),
        },
    )
}

/// Has the manager choose, and shows what it refuses where it was typed.
async fn change(
    app: &App,
    visit: &mut Visit,
    state: &NetworkState,
    at: &str,
    choices: NetworkChoices,
) -> Result<Response, Failure> {
    if let Err(wrong) = network::check(&choices) {
        return page(app, visit, 400, state, Some((at.to_owned(), wrong)));
    }
    let body = serde_json::to_value(&choices).ok();
    match visit.control(app).post("/v1/network", body).await {
        Ok(_) => {}
        Err(ControlError::Refused { status: 400, error, .. }) => {
            let field = if at.is_empty() { "dns" } else { "addresses" };
            let wrong = (field, Why::Sentence(error));
            return page(app, visit, 400, state, Some((at.to_owned(), wrong)));
        }
        Err(error) => return Err(error.into()),
    }
    visit.told = "the network was chosen anew".to_owned();
    Ok(Response::see("/network?said=network-changed"))
}

/// Takes the form of a device.
pub(super) async fn choose(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let state = state(app).await?;
    let form = visit.request.form.clone();
    let device = form.get("device");
    if !state.devices.iter().any(|one| one.name == device) {
        return Err(Failure::Refused(404, "error.no-device"));
    }
    let (name, before) = network::chosen(&state, device);
    let choice = match network::choice(&form, before) {
        Ok(choice) => choice,
        Err(wrong) => return page(app, visit, 400, &state, Some((device.to_owned(), wrong))),
    };
    let mut choices = state.chosen.clone();
    match network::meant(choice) {
        Some(choice) => drop(choices.devices.insert(name, choice)),
        None => drop(choices.devices.remove(&name)),
    }
    change(app, visit, &state, device, choices).await
}

/// Takes the form of name servers for every device.
pub(super) async fn names(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let state = state(app).await?;
    let (dns, search) = match network::names(&visit.request.form) {
        Ok(names) => names,
        Err(wrong) => return page(app, visit, 400, &state, Some((String::new(), wrong))),
    };
    let choices = NetworkChoices {
        dns,
        search,
        ..state.chosen.clone()
    };
    change(app, visit, &state, "", choices).await
}

/// Keeps a change, or takes it back.
pub(super) async fn decide(app: &App, visit: &mut Visit, verb: &str) -> Result<Response, Failure> {
    visit.control(app).post(&format!("/v1/network/{verb}"), None).await?;
    visit.told = match verb {
        "confirm" => "the change of the network was confirmed",
        _ => "the change of the network was undone",
    }
    .to_owned();
    Ok(Response::see(&format!("/network?said=network-{verb}")))
}

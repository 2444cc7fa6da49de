//! The network in the panel: as it is, another choice, and its confirmation; and the step of the setup.

mod common;

use common::manager::CODE;
use common::{PASSWORD, Panel};
use serde_json::{Value, json};

fn sent(panel: &Panel) -> Vec<(String, Value)> {
    let all = panel.manager.told.lock().unwrap().posts.clone();
    all.into_iter()
        .filter(|(path, _)| path.starts_with("/v1/network"))
        .collect()
}

const FIXED: [(&str, &str); 6] = [
    ("device", "eth0"),
    ("method", "static"),
    ("addresses", "192.168.1.30/24"),
    ("gateway", "192.168.1.1"),
    ("dns", "192.168.1.53"),
    ("ipv6", "off"),
];

fn with(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    FIXED
        .iter()
        .map(|(own, kept)| (*own, if *own == name { value } else { *kept }))
        .collect()
}

#[tokio::test]
async fn the_page_shows_what_is_and_a_change_waits_to_be_confirmed() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let page = owner.get("/network").await;
    for what in [
        "192.168.1.20&#x2f;24",
        "52:54:00:12:34:56",
        "from 192.168.1.1",
        "for 11\u{a0}h",
        "There is no device eth9",
        "443/tcp",
        "caddy",
    ] {
        page.says(what);
    }
    let page = owner.post("/network", &FIXED).await;
    assert_eq!(page.location, "/network?said=network-changed", "{}", page.text);
    let eth0 = json!({"method": "static", "addresses": ["192.168.1.30/24"], "gateway": "192.168.1.1", "dns": ["192.168.1.53"], "ipv6": "off"});
    assert_eq!(
        sent(&panel),
        [("/v1/network".to_owned(), json!({"devices": {"eth0": eth0}}))]
    );
    let page = owner.get("/network").await;
    for what in [
        "Is the new network right?",
        "https://192.168.1.30:8443/network",
        "action=\"/network/confirm\"",
    ] {
        page.says(what);
    }
    owner.get("/").await.says("Is the new network right?");
    assert_eq!(
        owner.post("/network/confirm", &[]).await.location,
        "/network?said=network-confirm"
    );
    assert!(!owner.get("/network").await.text.contains("Is the new network right?"));
    // Automatic again, and nothing is left to choose.
    owner.post("/network", &[("device", "eth0"), ("method", "dhcp")]).await;
    assert_eq!(
        owner.post("/network/undo", &[]).await.location,
        "/network?said=network-undo"
    );
    let all = sent(&panel);
    assert_eq!(all[1].0, "/v1/network/confirm");
    assert_eq!(all[2], ("/v1/network".to_owned(), json!({})));
    assert_eq!(all[3].0, "/v1/network/undo");
    owner.get("/audit").await.says("the network was chosen anew");
    let actors = panel.manager.told.lock().unwrap().actors.clone();
    assert!(actors.ends_with(&["ada".to_owned(), "ada".to_owned()]), "{actors:?}");
}

#[tokio::test]
async fn what_cannot_be_is_told_where_it_was_typed_and_stays_there() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/network").await;
    for (fields, field, why) in [
        (
            with("addresses", "192.168.1.30"),
            "addresses",
            "Write for example 192.168.1.30&#x2f;24",
        ),
        (with("addresses", ""), "addresses", "Write the address"),
        (
            with("addresses", "192.168.1.255/24"),
            "addresses",
            "not the address of a device",
        ),
        (with("gateway", "10.0.0.1"), "gateway", "in none of the device"),
        (with("dns", "\"><script>"), "dns", "&quot;&gt;&lt;script&gt;"),
    ] {
        let page = owner.post("/network", &fields).await;
        assert_eq!(page.status, 400, "{fields:?}");
        page.says(&format!("id=\"eth0-{field}-wrong\""));
        page.says(why);
        page.says("<details open>");
        assert!(!page.text.contains("<script>"));
    }
    // What only the manager knows is told too.
    panel.manager.told.lock().unwrap().apply = Some((400, json!({"error": "the manager has a reason"})));
    let page = owner.post("/network", &FIXED).await;
    assert_eq!(page.status, 400);
    page.says("the manager has a reason");
    assert_eq!(owner.post("/network", &[("device", "eth7")]).await.status, 404);
    let page = owner.post("/network/names", &[("dns", "ns"), ("search", "")]).await;
    page.says("id=\"all-dns-wrong\"");
    let page = owner
        .post(
            "/network/names",
            &[("dns", "192.168.1.53"), ("search", "office.example")],
        )
        .await;
    assert_eq!(page.status, 303, "{}", page.text);
    let names = json!({"dns": ["192.168.1.53"], "search": ["office.example"]});
    assert_eq!(sent(&panel).last().unwrap().1, names);
}

#[tokio::test]
async fn the_setup_asks_for_a_fixed_address_and_says_where_the_panel_is_then() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    let page = browser.post("/setup/name", &[("name", "birch"), ("domain", "")]).await;
    assert_eq!(page.location, "/setup/network");
    let page = browser.get("/setup/network").await;
    for what in ["How is it reached?", "automatic (DHCP)", "value=\"eth0\""] {
        page.says(what);
    }
    let page = browser.post("/setup/network", &with("gateway", "10.0.0.1")).await;
    assert_eq!(page.status, 400);
    page.says("id=\"own-gateway-wrong\"");
    page.says("value=\"192.168.1.30&#x2f;24\"");
    let page = browser.post("/setup/network", &FIXED).await;
    assert_eq!(
        (page.status, page.location.as_str()),
        (303, "/setup/admin"),
        "{}",
        page.text
    );
    // Who comes back sees it.
    browser
        .get("/setup/network")
        .await
        .says("value=\"192.168.1.30&#x2f;24\"");
    browser
        .post(
            "/setup/admin",
            &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
        )
        .await;
    browser.post("/setup/totp", &[("choice", "skip")]).await;
    browser.post("/setup/parts", &[("unit", "caddy")]).await;
    browser.get("/setup/summary").await.says("192.168.1.30");
    // What the manager refuses is told at this step.
    let refused = json!({"error": "the address is taken", "field": "network"});
    panel.manager.told.lock().unwrap().apply = Some((400, refused));
    let page = browser.post("/setup/finish", &[]).await;
    page.says("How is it reached?");
    page.says("the address is taken");
    browser.get("/setup/summary").await;
    assert_eq!(browser.post("/setup/finish", &[]).await.location, "/setup/progress");
    let told = panel.manager.told.lock().unwrap().posts.clone();
    let (_, answers) = told.iter().rev().find(|(path, _)| path == "/v1/setup/apply").unwrap();
    assert_eq!(answers["code"], CODE);
    assert_eq!(
        answers["network"]["devices"]["eth0"]["addresses"],
        json!(["192.168.1.30/24"])
    );
    panel.manager.told.lock().unwrap().network["chosen"] = answers["network"].clone();
    for path in ["/setup/progress", "/setup/done"] {
        browser.get(path).await.says("https://192.168.1.30:8443/");
    }
}

#[tokio::test]
async fn an_automatic_address_is_no_choice_at_all() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.give_code().await;
    browser.post("/setup/name", &[("name", "birch"), ("domain", "")]).await;
    // What was typed before the owner thought again does not count.
    let page = browser
        .post(
            "/setup/network",
            &[("method", "dhcp"), ("device", "eth0"), ("addresses", "192.168.1.30/24")],
        )
        .await;
    assert_eq!(page.location, "/setup/admin");
    browser
        .post(
            "/setup/admin",
            &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
        )
        .await;
    browser.post("/setup/totp", &[("choice", "skip")]).await;
    browser.post("/setup/parts", &[]).await;
    browser.post("/setup/finish", &[]).await;
    let told = panel.manager.told.lock().unwrap().posts.clone();
    assert!(told[0].1.get("network").is_none(), "{told:?}");
}

#[tokio::test]
async fn a_program_chooses_the_network_by_the_api() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", "net"), ("scope", "own")]).await;
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    let mut program = panel.browser();
    let token = format!("Bearer cairn_{}", rest.split('<').next().unwrap());
    program.headers = vec![("authorization", token)];
    program
        .send("GET", "/api/v1/network", String::new())
        .await
        .says("52:54:00:12:34:56");
    let body = json!({"dns": ["192.168.1.53"]});
    let page = program
        .send("POST", "/api/v1/network?within=10m", body.to_string())
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(sent(&panel), [("/v1/network?within=10m".to_owned(), body)]);
    assert_eq!(
        program.send("POST", "/api/v1/network", "{".to_owned()).await.status,
        400
    );
    assert_eq!(
        program
            .send("POST", "/api/v1/network/confirm", String::new())
            .await
            .status,
        200
    );
}

//! An appliance that waits to be set up (`appliances/panel-test.toml`): the console invites, the pages ask, and what was chosen runs.

use qemu_tests::client::browser::Browser;
use qemu_tests::images;
use qemu_tests::machine::{Home, Options};

use super::daemons::Guest;
use super::*;

pub(super) const PASSWORD: &str = "velvet \"otter\" & 9 Ümläute 🦦";

#[test]
fn who_reads_the_console_sets_the_appliance_up_in_a_browser_and_it_stays_so() {
    let options = Options {
        ports: vec![443, 8443],
        ..Options::default()
    };
    let home = must(Home::new("setup", &must(images::panel()), options));
    let mut machine = must(home.start());
    must(machine.wait_for("Waits to be set up: https://", READY));
    let line = must(machine.wait_for("The code for it: ", READY));
    must(machine.wait_for("Its certificate's SHA-256 fingerprint: ", READY));
    let (_, code) = line.split_once("The code for it: ").unwrap();
    let code = code.trim().to_owned();
    assert_eq!(code.len(), 11, "{code}");
    let mut browser = Browser::new(must(machine.port(8443)));
    assert_eq!(must(browser.get("/")).location, "/setup");
    must(browser.get("/setup/code"));
    assert_eq!(
        must(browser.post("/setup/code", &[("code", "00000-00000")])).status,
        403
    );
    // Nothing else runs before.
    assert!(https::get(must(machine.port(443)), "/").is_err());
    must(browser.get("/setup/code"));
    assert_eq!(
        must(browser.post("/setup/code", &[("code", &code.to_lowercase())])).status,
        303
    );
    let mut step = |path: &str, fields: &[(&str, &str)]| {
        must(browser.get(path));
        let page = must(browser.post(path, fields));
        assert_eq!(page.status, 303, "{path}: {}", page.text);
    };
    step("/setup/name", &[("name", "birch"), ("domain", "Müller.example")]);
    step(
        "/setup/admin",
        &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
    );
    step("/setup/totp", &[("choice", "skip")]);
    step("/setup/parts", &[("unit", "caddy")]);
    must(browser.get("/setup/summary"));
    assert_eq!(must(browser.post("/setup/finish", &[])).location, "/setup/progress");
    must(machine.wait_for("unit caddy: ready", READY));
    let (status, page) = must(https::get(must(machine.port(443)), "/"));
    assert_eq!(status, 200, "{page}");
    assert!(must(browser.get("/")).text.contains("birch"));
    let mut guest = Guest(machine);
    let site = guest.read("/data/site/site.toml");
    for line in ["name = \"birch\"", "domain = \"xn--mller-kva.example\""] {
        assert!(site.contains(line), "{site}");
    }
    let history = guest.cairn(&["config", "history"]);
    assert!(history.contains("ada (panel)"), "{history}");
    // Neither code nor password has reached a log.
    let logs = guest.cairn(&["logs"]);
    assert!(!logs.contains(&code) && !logs.contains("velvet"));
    switch_off(guest.0);

    // It is set up, and the owner's account is the owner's.
    machine = must(home.start());
    must(machine.wait_for("Ready: https://", READY));
    let mut browser = Browser::new(must(machine.port(8443)));
    assert_eq!(must(browser.get("/setup/code")).location, "/login");
    must(browser.get("/login"));
    let wrong = must(browser.post("/login", &[("name", "ada"), ("password", "velvet")]));
    assert_eq!(wrong.status, 403);
    let page = must(browser.post("/login", &[("name", "ada"), ("password", PASSWORD)]));
    assert_eq!((page.status, page.location.as_str()), (303, "/"), "{}", page.text);
    assert!(must(browser.get("/")).text.contains("birch"));
}

pub(super) const CHOICES: &str = r#"
[appliance]
name = "birch"
domain = "birch.example"

[administrator]
name = "ada"
password = 'velvet "otter" & 9 Ümläute 🦦'
"#;

/// The text between the first `before` and the next `<`.
fn after<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} is not in {text}"));
    rest.split('<').next().unwrap()
}

#[test]
fn choices_on_the_esp_set_the_appliance_up_and_its_owner_makes_people() {
    let file = must(tempfile::NamedTempFile::new());
    must(std::fs::write(file.path(), CHOICES));
    let options = Options {
        ports: vec![443, 8443],
        ..Options::default()
    };
    let home = must(Home::new("unattended", &must(images::panel_with(file.path())), options));
    let mut machine = must(home.start());
    must(machine.wait_for("Set up by setup.toml of the volume ESP", READY));
    must(machine.wait_for("Ready: https://", READY));
    let mut browser = Browser::new(must(machine.port(8443)));
    wait_until("the owner's account", READY, || {
        must(browser.get("/login"));
        must(browser.post("/login", &[("name", "ada"), ("password", PASSWORD)])).status == 303
    });
    // The panel found the directory while it ran.
    wait_until("the directory", READY, || must(browser.get("/people")).status == 200);
    must(browser.get("/people-new"));
    let fields = [
        ("uid", "grete"),
        ("given", "Grete"),
        ("surname", "Müller"),
        ("mail", "grete@birch.example"),
    ];
    let page = must(browser.post("/people-new", &fields));
    assert_eq!(page.location, "/people/grete?said=person-made", "{}", page.text);
    must(browser.get("/people/grete"));
    let page = must(browser.post("/people/grete/reset", &[]));
    let code = after(&page.text, "reset#").to_owned();
    let mut grete = Browser::new(must(machine.port(8443)));
    must(grete.get("/reset"));
    let page = must(grete.post(
        "/reset",
        &[("code", &code), ("password", PASSWORD), ("again", PASSWORD)],
    ));
    assert_eq!(page.status, 303, "{}", page.text);
    must(grete.get("/login"));
    let page = must(grete.post("/login", &[("name", "grete"), ("password", PASSWORD)]));
    assert_eq!((page.status, page.location.as_str()), (303, "/"), "{}", page.text);
    assert!(must(grete.get("/account")).text.contains("grete@birch.example"));
    // The network knows the appliance by its new name.
    let mut guest = Guest(machine);
    guest.wait_ready("mdns");
    wait_until("the name", READY, || {
        let (status, said) = guest.ran(&["/usr/lib/cairn/test-agent", "address", "birch.local"], READY);
        status == 0 && said.trim() == "10.0.2.15"
    });
    // What is not hers is refused.
    assert_eq!(must(grete.get("/people")).status, 403);
    // The directory goes, and the owner's account works all the same.
    guest.cairn(&["stop", "slapd"]);
    let mut owner = Browser::new(must(guest.0.port(8443)));
    must(owner.get("/login"));
    assert_eq!(
        must(owner.post("/login", &[("name", "ada"), ("password", PASSWORD)])).status,
        303
    );
    assert_eq!(must(owner.get("/people")).status, 503);
    assert_eq!(must(owner.get("/")).status, 200);
    // Neither the site nor a log has the password.
    let site = guest.read("/data/site/site.toml");
    assert!(site.contains("name = \"birch\"") && !site.contains("velvet"), "{site}");
    assert!(!guest.cairn(&["logs"]).contains("velvet"));
}

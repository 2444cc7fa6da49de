//! What the owner does on the first day, by clicks.

use std::collections::{BTreeSet, VecDeque};

use qemu_tests::client::totp::Authenticator;
use qemu_tests::machine::{Home, Options};
use serde_json::json;

use super::super::daemons::Guest;
use super::super::*;
use super::chrome::{Chrome, Tab};
use super::judge::Judge;

const PASSWORD: &str = "velvet \"otter\" & 9 Ümläute";
const GRETES: &str = "quarry lamp under 7 spoons";
const TABLE: &str = "uid,given,surname,mail,aliases,groups,password\n\
    lin,Lin,Ng,lin@birch.example,,friends,\n\
    Bad Name!,Bad,Name,bad@birch.example,,,\n\
    kim,Kim,Lee,not an address,,,\n\
    grete,Grete,Twice,twice@birch.example,,,\n";

#[test]
fn an_owner_walks_through_every_page_in_a_browser_and_nothing_is_wrong_with_any() {
    let options = Options {
        ports: vec![443, 8443],
        ..Options::default()
    };
    let home = must(Home::new("browser", &must(images::panel()), options));
    let mut machine = must(home.start());
    let line = must(machine.wait_for("The code for it: ", READY));
    let (_, code) = line.split_once("The code for it: ").unwrap();
    let port = must(machine.port(8443));
    let base = format!("https://127.0.0.1:{port}");
    let mut guest = Guest(machine);
    let chrome = Chrome::start();
    let tab = chrome.tab(&base);
    let mut judge = Judge::new("screens");

    let mut authenticator = wizard(&tab, &mut judge, code.trim());
    log_in_again(&tab, &mut judge, &mut authenticator);
    guest.wait_ready("slapd");
    people(&tab, &mut judge);
    import(&tab, &mut judge, &chrome);
    let grete = chrome.tab(&base);
    set_password(&tab, &grete, &mut judge);
    passkey(&chrome.tab_by_name("birch.local", 8443, port), &mut judge);
    disable(&tab, &mut judge);
    log_of_a_unit(&tab, &mut judge);
    versions_of_the_site(&tab, &mut judge);

    let own = everything(&tab, &mut judge, "owner", "/");
    assert!(own.len() > 20, "{own:?}");
    everything(&grete, &mut judge, "person", "/account");
    in_german(&tab, &mut judge, &own);
    assert!(
        judge.found.is_empty(),
        "{}",
        judge.found.iter().cloned().collect::<Vec<_>>().join("\n")
    );
}

/// From the code to the panel, with an authenticator.
fn wizard(tab: &Tab<'_>, judge: &mut Judge, code: &str) -> Authenticator {
    tab.go("/");
    assert_eq!(tab.at(), "/setup/code");
    judge.look(tab, "setup-code", false);
    tab.fill("code", "00000-00000");
    tab.press("Continue");
    tab.find("#code-wrong");
    judge.look(tab, "setup-code-wrong", true);
    tab.fill("code", &code.to_lowercase());
    tab.press("Continue");

    tab.find("#name");
    judge.look(tab, "setup-name", false);
    judge.show(tab, "setup");
    tab.fill("name", "birch");
    tab.fill("domain", "birch.example");
    tab.press("Continue");

    tab.find("#method");
    judge.look(tab, "setup-network", false);
    tab.press("Continue");

    tab.find("#account");
    tab.fill("account", "ada");
    tab.fill("password", PASSWORD);
    tab.fill("again", "another one");
    tab.press("Continue");
    tab.find("#password-wrong");
    judge.look(tab, "setup-admin-wrong", true);
    tab.fill("password", PASSWORD);
    tab.fill("again", PASSWORD);
    judge.look(tab, "setup-admin", false);
    tab.press("Continue");

    tab.find(".qr");
    judge.look(tab, "setup-totp", false);
    let secret = tab.text(".secret");
    let mut authenticator = Authenticator::new(&secret).unwrap_or_else(|| panic!("{secret:?} is no secret"));
    tab.fill("code", &authenticator.code());
    tab.press("Use it");

    for unit in ["caddy", "slapd"] {
        let tick = format!("input[value={unit}]:not(:checked):not(:disabled)");
        if !tab.texts(&tick).is_empty() {
            tab.click(&tick);
        }
    }
    judge.look(tab, "setup-parts", false);
    tab.press("Continue");
    assert_eq!(tab.at(), "/setup/summary");
    assert!(tab.text("main").contains("Authenticator is on"), "{}", tab.text("main"));
    judge.look(tab, "setup-summary", false);
    tab.press("Finish setup");

    tab.find("#progress");
    judge.look(tab, "setup-progress", false);
    // The page says by itself when all of it runs.
    tab.find_within("#progress .actions a:not(.quiet)", READY);
    tab.press("Continue");
    tab.find(".secret.key");
    judge.look(tab, "setup-done", false);
    tab.click("input[name=saved]");
    tab.press("To the panel");
    tab.find("#overview");
    authenticator
}

fn log_in_again(tab: &Tab<'_>, judge: &mut Judge, authenticator: &mut Authenticator) {
    tab.press("Log out");
    tab.find("#password");
    everything(tab, judge, "out", "/login");
    tab.go("/login");
    tab.fill("name", "ada");
    tab.fill("password", "velvet");
    tab.press("Log in");
    tab.find("#wrong");
    judge.look(tab, "login-wrong", true);
    tab.fill("name", "ada");
    tab.fill("password", PASSWORD);
    tab.press("Log in");
    tab.find("#code");
    judge.look(tab, "login-code", false);
    // A page behind the login is not to be had with half of it.
    tab.go("/people");
    assert_eq!(tab.at(), "/login");
    tab.fill("code", &authenticator.code());
    tab.press("Log in");
    tab.find("#overview");
    assert!(tab.text("h1").contains("birch"));
}

fn people(tab: &Tab<'_>, judge: &mut Judge) {
    tab.press("Groups");
    tab.fill("name", "friends");
    tab.fill("description", "Who comes to dinner");
    tab.press("Create");
    assert!(tab.text("main").contains("friends"), "{}", tab.text("main"));
    for (uid, given, surname) in [("grete", "Grete", "Müller"), ("otto", "Otto", "Ott")] {
        tab.press("People");
        tab.press("New person");
        tab.fill("uid", uid);
        tab.fill("given", given);
        tab.fill("surname", surname);
        tab.fill("mail", &format!("{uid}@birch.example"));
        tab.press("Create");
        assert!(tab.at().starts_with(&format!("/people/{uid}")), "{}", tab.at());
    }
    tab.comes(|| tab.click("[aria-label='Add to friends']"));
    tab.find("[aria-label='Take out: friends']");
    judge.look(tab, "person", false);
    // What is wrong is said at its field.
    tab.press("People");
    tab.press("New person");
    tab.fill("uid", "otto");
    tab.press("Create");
    tab.find("[aria-invalid]");
    judge.look(tab, "person-wrong", true);
}

/// A table with faults makes nobody, and each fault is told; without them it makes everybody.
fn import(tab: &Tab<'_>, judge: &mut Judge, chrome: &Chrome) {
    let table = chrome.folder().join("people.csv");
    must(std::fs::write(&table, TABLE));
    tab.press("People");
    tab.press("Import a table");
    tab.attach("file", &table);
    tab.press("Import");
    tab.find(".note.bad");
    // What is wrong by itself, and who is there already.
    assert_eq!(tab.texts("tbody th"), ["3", "4", "5"], "{}", tab.text("main"));
    judge.look(tab, "import-wrong", true);
    let lines: Vec<&str> = TABLE.lines().collect();
    tab.press("People");
    assert!(!tab.text("main").contains("Lin Ng"));
    tab.press("Import a table");
    tab.fill("table", &lines[..2].join("\n"));
    tab.press("Import");
    tab.find("#search");
    assert!(tab.text("main").contains("Lin Ng"), "{}", tab.text("main"));
    judge.show(tab, "people");
    tab.fill("search", "lin");
    tab.press("Search");
    assert_eq!(tab.texts(".rows strong"), ["Lin Ng"]);
}

/// The owner makes a link, and the person chooses a password by it.
fn set_password(tab: &Tab<'_>, person: &Tab<'_>, judge: &mut Judge) {
    tab.go("/people/grete");
    tab.press("Make a link");
    let link = tab.texts(".note .secret").first().cloned().unwrap_or_default();
    judge.look(tab, "person-link", false);
    let (_, code) = link
        .split_once("/reset#")
        .unwrap_or_else(|| panic!("{link:?} is no link"));
    person.go(&format!("/reset#{code}"));
    person.find("#code");
    // The script puts the code where it is typed, and takes it out of the history.
    assert_eq!(
        person.script("return document.getElementById('code').value", vec![]),
        json!(code)
    );
    assert_eq!(person.at(), "/reset");
    judge.look(person, "reset", false);
    person.fill("password", GRETES);
    person.fill("again", GRETES);
    person.press("Set password");
    person.find("#name");
    person.fill("name", "grete");
    person.fill("password", GRETES);
    person.press("Log in");
    assert_eq!(person.at(), "/account");
    assert!(person.text("main").contains("grete@birch.example"));
}

/// A person comes by the appliance's own name, to which a passkey can belong, adds one, and logs in by it.
fn passkey(tab: &Tab<'_>, judge: &mut Judge) {
    tab.authenticator();
    tab.go("/login");
    tab.fill("name", "grete");
    tab.fill("password", GRETES);
    tab.press("Log in");
    tab.find("#passkey-name");
    tab.fill("passkey-name", "My phone");
    tab.fill("passkey-current", GRETES);
    tab.press("Add a passkey");
    tab.find(".note.good");
    assert!(tab.text("#passkeys").contains("My phone"), "{}", tab.text("main"));
    judge.look(tab, "account-passkey", false);
    tab.press("Log out");
    tab.find("[data-passkey=login]:not([hidden])");
    judge.look(tab, "login-passkey", false);
    tab.press("Log in with a passkey");
    tab.find("#passkeys");
    assert_eq!(tab.at(), "/account");
    assert!(tab.text(".who .name").contains("grete"));
    tab.open("Rename or remove");
    judge.look(tab, "account-passkey-change", false);
    tab.fill("passkey-name-1", "Blue phone");
    tab.press("Rename");
    assert!(tab.text("#passkeys").contains("Blue phone"), "{}", tab.text("main"));
}

fn disable(tab: &Tab<'_>, judge: &mut Judge) {
    tab.go("/people/otto");
    tab.press("Disable");
    tab.find("main .state.off");
    judge.look(tab, "person-disabled", false);
    tab.press("Enable");
    tab.find("main .state.warn");
    tab.press("Disable");
    tab.find("main .state.off");
}

fn log_of_a_unit(tab: &Tab<'_>, judge: &mut Judge) {
    tab.press("Overview");
    tab.press("caddy");
    tab.find("pre.log");
    judge.show(tab, "unit");
    let word = "serving initial configuration";
    let all = tab.text("pre.log").lines().count();
    tab.fill("search", word);
    tab.press("Search");
    let lines = tab.text("pre.log");
    assert!(
        !lines.is_empty() && lines.lines().all(|line| line.contains(word)),
        "{lines}"
    );
    assert!(lines.lines().count() < all, "{lines}");
    judge.look(tab, "unit-search", false);
    tab.fill("search", "surely nobody says this");
    tab.press("Search");
    assert_eq!(tab.texts("pre.log .none").len(), 1);
}

/// A change makes a version, and the one before can be put in force again.
fn versions_of_the_site(tab: &Tab<'_>, judge: &mut Judge) {
    tab.press("Network");
    tab.open("Choose name servers for all devices");
    tab.fill("all-search", "birch.example");
    judge.look(tab, "network-names", false);
    tab.press("Change");
    tab.press("Keep it");
    tab.find(".note.good");
    tab.press("History");
    tab.press("Compare");
    judge.look(tab, "history-compare", false);
    assert!(
        tab.text(".diff .added, .diff .removed").contains("birch.example"),
        "{}",
        tab.text("main")
    );
    tab.press("Put in force");
    tab.find("input[name=sure]");
    judge.look(tab, "history-back", false);
    tab.click("input[name=sure]");
    tab.comes(|| tab.click(".sheet button.danger"));
    tab.find(".note.good");
    let first = tab.texts("tbody tr:first-child").join(" ");
    assert!(first.contains("ada"), "{first}");
    // It is about the network, so this too has to be confirmed.
    tab.press("Network");
    tab.press("Keep it");
}

/// Every page that a link leads to from here, and from there on: each once, and of those that are alike (`/units/NAME`) the first two.
fn everything(tab: &Tab<'_>, judge: &mut Judge, who: &str, from: &str) -> BTreeSet<String> {
    // What is below /api is no page.
    let script = "return [...document.querySelectorAll('a[href]')].filter((one) => one.origin === location.origin
        && !one.hasAttribute('download') && !one.pathname.startsWith('/api/')).map((one) => one.pathname)";
    let (mut seen, mut next) = (BTreeSet::new(), VecDeque::from([from.to_owned()]));
    while let Some(path) = next.pop_front() {
        let kind = path.rsplit_once('/').map_or("", |(kind, _)| kind);
        let alike = |other: &&String| !kind.is_empty() && other.rsplit_once('/').is_some_and(|(own, _)| own == kind);
        if seen.contains(&path) || seen.iter().filter(alike).count() >= 2 {
            continue;
        }
        seen.insert(path.clone());
        tab.go(&path);
        let links: Vec<String> = must(serde_json::from_value(tab.script(script, vec![])));
        // Where a page leads elsewhere at once, that is what is looked at.
        let name = format!("{who}{}", tab.at().trim_end_matches('/').replace(['/', '?', '='], "-"));
        judge.look(tab, &name, false);
        if who == "owner" && ["/", "/diagnosis", "/network", "/history"].contains(&path.as_str()) {
            judge.show(tab, if path == "/" { "overview" } else { &path[1..] });
        }
        next.extend(links);
    }
    seen
}

/// German words are longer: they too fit on a phone.
fn in_german(tab: &Tab<'_>, judge: &mut Judge, pages: &BTreeSet<String>) {
    tab.go("/?lang=de");
    assert_eq!(tab.script("return document.documentElement.lang", vec![]), json!("de"));
    for page in pages {
        tab.go(page);
        judge.glance(tab, &format!("german{}", page.trim_end_matches('/').replace('/', "-")));
    }
}

//! The example unit (`units/example.toml`): a place on the web, a database and people who log in, each by one line; and a cache.

use qemu_tests::client::browser::Browser;
use qemu_tests::images;
use qemu_tests::machine::{Home, Options};

use super::daemons::{Guest, PATIENCE};
use super::*;

const PASSWORD: &str = "o'Brien \"Ünïcode\" \u{1f600} \\ %s;--";

fn inside(guest: &mut Guest, unit: &str, argv: &[&str]) -> (i32, String) {
    guest.ran(
        &[&[super::daemons::CAIRN, "enter", unit, "--"], argv].concat(),
        PATIENCE,
    )
}

/// A person of the directory.
fn person(machine: &mut Machine, admin: &str, name: &str) {
    let bind = Ldap::bind(must(machine.port(389)), &format!("cn=admin,{SUFFIX}"), admin);
    let entry = format!("uid={name},ou=people,{SUFFIX}");
    let attributes = [
        ("objectClass", "inetOrgPerson"),
        ("uid", name),
        ("cn", name),
        ("sn", name),
        ("userPassword", PASSWORD),
    ];
    must(must(bind).add(&entry, &attributes));
}

fn browser(guest: &mut Guest) -> Browser {
    Browser::new(must(guest.0.port(443))).with_token("token")
}

/// Logs in and gives the browser, on the page of notes.
fn logged_in(guest: &mut Guest, name: &str) -> Browser {
    let mut browser = browser(guest);
    let page = must(browser.post("/notes/login", &[("name", name), ("password", PASSWORD)]));
    assert_eq!((page.status, page.location.as_str()), (303, "/notes/"), "{}", page.text);
    let page = must(browser.get("/notes/"));
    assert!(page.text.contains(&format!("Notes of {name}")), "{}", page.text);
    browser
}

pub(super) fn the_unit_is_served_at_its_path_to_people_of_the_directory(guest: &mut Guest) {
    for name in ["ada", "grace"] {
        let admin = guest.read("/data/secrets/slapd/admin");
        person(&mut guest.0, &admin, name);
    }
    // What is beside its path is the proxy's own.
    assert!(
        must(browser(guest).get("/"))
            .text
            .contains("Cairn appliance is running")
    );
    let mut nobody = browser(guest);
    assert!(must(nobody.get("/notes")).text.contains("Log in"));
    for (name, password) in [("ada", "wrong"), ("ada", ""), ("*", PASSWORD), ("nobody", PASSWORD)] {
        let page = must(nobody.post("/notes/login", &[("name", name), ("password", password)]));
        assert_eq!(page.status, 403, "{name}: {}", page.text);
    }
    let mut ada = logged_in(guest, "ada");
    let text = "<b>bold</b> & \u{1f980}";
    assert_eq!(must(ada.post("/notes/", &[("text", text)])).status, 303);
    let shown = must(ada.get("/notes/")).text;
    assert!(shown.contains("&lt;b&gt;bold&lt;/b&gt; &amp; \u{1f980}"), "{shown}");
    assert!(!must(logged_in(guest, "grace").get("/notes/")).text.contains("bold"));
    let mut forged = logged_in(guest, "ada").with_token("other");
    assert_eq!(must(forged.post("/notes/", &[("text", "x")])).status, 403);
}

fn new_passwords_fail_no_request(guest: &mut Guest) {
    let mut ada = logged_in(guest, "ada");
    let before = guest.unit("example")["pid"].clone();
    guest.cairn(&["secrets", "rotate", "example"]);
    wait_until("the passwords have changed", PATIENCE, || {
        assert_eq!(must(ada.get("/notes/")).status, 200);
        logged_in(guest, "ada");
        !guest.cairn(&["--json", "secrets"]).contains("\"changing\"")
    });
    assert_eq!(guest.unit("example")["pid"], before, "it was not restarted");
}

fn a_disabled_unit_is_not_served_and_its_proxy_goes_on(guest: &mut Guest) {
    let proxy = guest.unit("caddy")["pid"].clone();
    guest.cairn(&["disable", "example"]);
    wait_until("the path is gone", PATIENCE, || {
        must(browser(guest).get("/notes")).status == 404
    });
    guest.cairn(&["enable", "example"]);
    wait_until("the path is back", PATIENCE, || {
        must(browser(guest).get("/notes")).status == 200
    });
    assert_eq!(guest.unit("caddy")["pid"], proxy, "it was not restarted");
    // And what there was is still there.
    assert!(must(logged_in(guest, "ada").get("/notes/")).text.contains("bold"));
}

fn a_cache_shows_each_unit_its_own_keys(guest: &mut Guest) {
    let password = guest.read("/run/cairn/secrets/hoarder/cache");
    let mut valkey = |words: &[&str]| {
        let at = [
            "/usr/bin/valkey-cli",
            "-e",
            "-h",
            "valkey.example-test.internal",
            "--tls",
            "--cacert",
            "/run/secrets/ca",
            "--no-auth-warning",
            "--user",
            "hoarder_cache",
            "--pass",
            &password,
        ];
        inside(guest, "hoarder", &[&at, words].concat())
    };
    assert_eq!(valkey(&["set", "hoarder_cache:a", "1"]), (0, "OK\n".to_owned()));
    assert_eq!(valkey(&["get", "hoarder_cache:a"]), (0, "1\n".to_owned()));
    for words in [
        &["get", "other:a"][..],
        &["flushall"],
        &["config", "get", "*"],
        &["acl", "list"],
        &["publish", "x", "y"],
    ] {
        let (status, said) = valkey(words);
        assert!(status != 0 && said.contains("NOPERM"), "{words:?}: {status} {said}");
    }
}

fn a_unit_behind_a_socket_is_served_and_shares_a_secret_and_a_folder(guest: &mut Guest) {
    let page = must(browser(guest).get("/swift/nest"));
    assert_eq!((page.status, page.text.as_str()), (200, "swift was here: /swift/nest"));
    // It has another socket when it starts again, and the proxy finds that.
    guest.cairn(&["restart", "swift"]);
    guest.wait_ready("swift");
    assert_eq!(must(browser(guest).get("/swift")).status, 200);
    let agent = "/usr/lib/cairn/test-agent";
    let seen = |guest: &mut Guest| inside(guest, "hoarder", &[agent, "show", "/run/secrets/key"]).1;
    let before = seen(guest);
    assert_eq!(before.trim(), guest.read("/run/cairn/secrets/swift/swift-key"));
    let (_, listed) = inside(
        guest,
        "example",
        &["/usr/bin/python3", "-c", "import os; print(os.listdir('/run/secrets'))"],
    );
    assert!(listed.contains("session") && !listed.contains("key"), "{listed}");
    guest.cairn(&["secrets", "rotate", "swift"]);
    wait_until("the secret is another one", PATIENCE, || {
        !guest.cairn(&["--json", "secrets"]).contains("\"changing\"")
    });
    assert_ne!(seen(guest), before);
    assert_eq!(seen(guest).trim(), guest.read("/run/cairn/secrets/swift/swift-key"));
    assert_ne!(
        inside(guest, "hoarder", &[agent, "show", "/run/secrets/key.other"]).0,
        0
    );
    let (status, text) = inside(guest, "hoarder", &[agent, "show", "/var/lib/swift/greeting"]);
    assert_eq!((status, text.trim()), (0, "chirp"));
    let put = [agent, "put", "/var/lib/swift/greeting", "caw"];
    assert_ne!(inside(guest, "hoarder", &put).0, 0, "the folder is not writable");
    let (_, listed) = inside(
        guest,
        "example",
        &["/usr/bin/python3", "-c", "import os; print(os.listdir('/var/lib'))"],
    );
    assert!(!listed.contains("swift"), "{listed}");
}

#[test]
fn the_example_unit_has_its_database_its_people_and_its_place_on_the_web() {
    let options = Options {
        ports: vec![389, 443],
        ..Options::default()
    };
    let home = must(Home::new("example", &must(images::example()), options));
    let machine = must(home.start());
    must(machine.wait_for("Ready", READY));
    let guest = &mut Guest(machine);
    for unit in ["example", "hoarder", "swift", "caddy"] {
        guest.wait_ready(unit);
    }
    the_unit_is_served_at_its_path_to_people_of_the_directory(guest);
    new_passwords_fail_no_request(guest);
    a_disabled_unit_is_not_served_and_its_proxy_goes_on(guest);
    a_cache_shows_each_unit_its_own_keys(guest);
    a_unit_behind_a_socket_is_served_and_shares_a_secret_and_a_folder(guest);
    let graph = guest.cairn(&["graph"]);
    assert!(graph.contains("/notes from port 8000"), "{graph}");
}

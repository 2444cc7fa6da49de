//! The panel's API does what its document says, whatever it is asked: Schemathesis makes the requests from the document, and judges the
//! answers by it.

use std::fs::File;
use std::process::Command;

use qemu_tests::client::browser::Browser;
use qemu_tests::images;
use qemu_tests::machine::{Home, Options};
use qemu_tests::python;

use super::daemons::Guest;
use super::setup::{CHOICES, PASSWORD};
use super::*;

/// What Schemathesis is, by hash.
const NEEDS: &str = "schemathesis.txt";
/// The requests of every run, unless `CAIRN_SEED` says otherwise.
const SEED: u32 = 20_261_123;
const HOW: [(&str, &str); 7] = [
    (
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ),
    ("--phases", "coverage,fuzzing"),
    // Of each operation, beside those at the edges of what its schema allows.
    ("--max-examples", "20"),
    // Below the panel's own bound of 20.
    ("--rate-limit", "15/s"),
    // An answer that does not come is a failure.
    ("--request-timeout", "30"),
    ("--suppress-health-check", "all"),
    ("--tls-verify", "false"),
];

/// What is not asked, and why.
const NOT_ASKED: [(&str, &str); 6] = [
    ("POST /api/v1/power/poweroff", "it ends the machine"),
    ("POST /api/v1/power/reboot", "it ends the machine"),
    ("POST /api/v1/power/factory-reset", "it ends the machine, and its data"),
    ("POST /api/v1/upgrade/install", "it replaces the other version"),
    // Schemathesis takes names from earlier answers.
    (
        "POST /api/v1/units/{unit}/stop",
        "it stops the panel, and then nobody answers",
    ),
    (
        "POST /api/v1/units/{unit}/restart",
        "it restarts the panel, and then nobody answers for a while",
    ),
];

#[test]
fn the_api_does_what_its_document_says_whatever_it_is_asked() {
    let python = match python::environment(NEEDS) {
        Ok(python) => python,
        Err(why) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
            eprintln!("skipped, the API was not asked by its document: {why}");
            return;
        }
    };
    let file = must(tempfile::NamedTempFile::new());
    must(std::fs::write(file.path(), CHOICES));
    let options = Options {
        ports: vec![8443],
        ..Options::default()
    };
    let home = must(Home::new("api", &must(images::panel_with(file.path())), options));
    let mut machine = must(home.start());
    must(machine.wait_for("Ready: https://", READY));
    let port = must(machine.port(8443));
    let mut guest = Guest(machine);
    guest.wait_ready("slapd");
    let (mut owner, token) = token(port);
    let before = guest.unit("panel");

    let folder = images::target().join("qemu-tests");
    must(std::fs::create_dir_all(&folder));
    let log = folder.join("schemathesis.log");
    let seed = std::env::var("CAIRN_SEED").unwrap_or_else(|_| SEED.to_string());
    eprintln!(
        "the seed is {seed}; what was asked and answered is in {}",
        log.display()
    );
    let mut command = Command::new(&python);
    command.args(["-m", "schemathesis.cli", "run"]);
    command.arg(format!("https://127.0.0.1:{port}/api/v1/openapi.json"));
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(HOW.iter().flat_map(|(name, value)| [name, value]));
    command.args(["--seed", &seed, "--continue-on-failure", "--no-color", "--no-shrink"]);
    for (operation, why) in NOT_ASKED {
        eprintln!("not asked: {operation}, since {why}");
        command.args(["--exclude-name", operation]);
    }
    let said = must(File::create(&log));
    command
        .stdout(must(said.try_clone()))
        .stderr(said)
        .current_dir(home.folder());
    let mut running = must(command.spawn());
    let ended = ended(&mut running);
    let told = must(std::fs::read_to_string(&log));
    let told: Vec<&str> = told.lines().collect();
    let end = told[told.len().saturating_sub(200)..].join("\n");
    assert!(ended, "{end}");
    // It was really asked, with the token, and the panel has lived through it.
    assert!(must(owner.get("/audit")).text.contains("token judge"));
    assert_eq!(guest.unit("panel")["pid"], before["pid"]);
}

/// Waits for the end, and whether that was a good one.
fn ended(running: &mut std::process::Child) -> bool {
    let mut status = None;
    let deadline = Instant::now() + Duration::from_secs(600);
    while status.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        status = must(running.try_wait());
    }
    let _ = running.kill();
    let _ = running.wait();
    status.is_some_and(|status| status.success())
}

/// A token with which a program may do all that the owner may.
fn token(port: u16) -> (Browser, String) {
    let mut owner = Browser::new(port);
    wait_until("the owner's account", READY, || {
        must(owner.get("/login"));
        let login = [("name", "ada"), ("password", PASSWORD)];
        must(owner.post("/login", &login)).status == 303
    });
    must(owner.get("/tokens"));
    let page = must(owner.post("/tokens/make", &[("name", "judge"), ("scope", "own")]));
    let (_, rest) = page
        .text
        .split_once("tabindex=\"0\">cairn_")
        .unwrap_or_else(|| panic!("{}", page.text));
    let token = format!("cairn_{}", rest.split('<').next().unwrap_or_default());
    (owner, token)
}

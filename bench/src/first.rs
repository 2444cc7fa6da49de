//! The first boot as its owner meets it: from power-on to the first page in a browser, and from the last click to everything running.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qemu_tests::client::browser::Browser;
use qemu_tests::{Machine, images};

use crate::boot::{self, LIMIT, System};
use crate::figure::{Goal, Row, Samples, Unit};
use crate::runs;

/// The setup's port (`units/panel.toml`).
const PANEL: u16 = 8443;
/// What is asked of a port where TLS is spoken: the answer is an alert, and comes at once.
const NO_TLS: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const PASSWORD: &str = "of no use to anybody";

/// Answers the wizard's pages, up to its summary.
pub(crate) fn walk(browser: &mut Browser, steps: &[(&str, &[(&str, &str)])]) -> Result<(), Box<dyn Error>> {
    for (path, fields) in steps {
        browser.get(path)?;
        let answer = browser.post(path, fields)?;
        if answer.status != 303 {
            return Err(format!("{path} gave the status {}: {}", answer.status, answer.text).into());
        }
    }
    browser.get("/setup/summary")?;
    Ok(())
}

/// The parts that the wizard offers, which all are taken.
fn parts(page: &str) -> Vec<String> {
    let named = page.split("name=\"unit\" value=\"").skip(1);
    named
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

/// Seconds from power-on to the first page, and from the last click until everything is ready.
fn first_boot(image: &Path, folder: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let system = System {
        setup: None,
        ..boot::ours(image, false, folder)?
    };
    let mut spec = boot::spec(&system)?;
    spec.forwards.push(imagegen::machine::Forward { host: 0, guest: PANEL });
    let start = Instant::now();
    let mut machine = Machine::start("cairn-first", &spec, folder)?;
    let port = machine.port(PANEL)?;
    while !boot::answers(port, NO_TLS) {
        if start.elapsed() > LIMIT {
            return Err("the setup's page did not come".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut browser = Browser::new(port);
    let page = browser.get("/setup/code")?;
    let wizard = start.elapsed().as_secs_f64();
    if page.status != 200 {
        return Err(format!("the setup's page has the status {}", page.status).into());
    }
    let line = machine.wait_for("The code for it: ", LIMIT)?;
    let code = line.split_once("The code for it: ").map_or("", |(_, code)| code.trim());
    let steps: [(&str, &[(&str, &str)]); 5] = [
        ("/setup/code", &[("code", code)]),
        ("/setup/name", &[("name", "bench"), ("domain", "bench.example")]),
        ("/setup/network", &[("method", "dhcp")]),
        (
            "/setup/admin",
            &[("account", "bench"), ("password", PASSWORD), ("again", PASSWORD)],
        ),
        ("/setup/totp", &[("choice", "skip")]),
    ];
    walk(&mut browser, &steps)?;
    let parts = parts(&browser.get("/setup/parts")?.text);
    if parts.is_empty() {
        return Err("the setup offers no part".into());
    }
    let all: Vec<(&str, &str)> = parts.iter().map(|part| ("unit", part.as_str())).collect();
    walk(&mut browser, &[("/setup/parts", &all)])?;
    let click = machine.uptime();
    browser.post("/setup/finish", &[])?;
    machine.wait_for("Ready: https://", LIMIT)?;
    let ready = machine.said_at("Ready: https://").unwrap_or_else(|| machine.uptime());
    let unready = |part: &&String| machine.said_at(&format!("unit {part}: ready")).is_none();
    if let Some(part) = parts.iter().find(unready) {
        return Err(format!("the appliance says it is ready, but not that {part} is").into());
    }
    machine.kill()?;
    Ok((wizard, ready.saturating_sub(click).as_secs_f64()))
}

/// First boots from the image as it is shipped, and Debian's boot until slapd answers.
pub(crate) fn figures(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let scratch = tempfile::tempdir_in(folder)?;
    let image: PathBuf = images::shipped()?;
    let peer = boot::debian(folder).map_err(|why| format!("Debian: {why}"));
    if let Ok(debian) = &peer {
        // Its own first boot, which makes keys and ids, is not held against it.
        boot::boot(debian, scratch.path())?;
    }
    let (mut wizard, mut ready, mut theirs) = (vec![], vec![], vec![]);
    for run in 0..runs() {
        let own = scratch.path().join(run.to_string());
        fs::create_dir(&own)?;
        let (first, last) = first_boot(&image, &own)?;
        wizard.push(first);
        ready.push(last);
        fs::remove_dir_all(&own)?;
        if let Ok(debian) = &peer {
            theirs.push(boot::boot(debian, scratch.path())?.0);
        }
    }
    Ok(vec![
        Row {
            what: "power-on to the wizard's first page".into(),
            unit: Unit::Seconds,
            ours: Samples(wizard),
            peer: peer.map(|_| ("Debian + systemd to slapd".to_owned(), Samples(theirs))),
            goal: Goal::Share(1.0 / 4.0),
        },
        Row {
            what: "last click to all services ready".into(),
            unit: Unit::Seconds,
            ours: Samples(ready),
            peer: Err(String::new()),
            goal: Goal::AtMost(8.0),
        },
    ])
}

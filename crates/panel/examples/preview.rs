//! Runs the panel against a manager that only pretends, to look at its pages: `cargo run -p cairn-panel --example preview`.
//!
//! It listens on https://localhost:8443; the setup's code is K7QM-4RTX. With the argument `settled` everything runs; `settled failed`
//! tells that a new version was given up (see `upgrade` in `tests/common/manager.rs`).

#[path = "../tests/common/manager.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod manager;

use std::time::Duration;

use cairn_panel::server;
use cairn_panel::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(at.join("tls"), made.signing_key.serialize_pem() + &made.cert.pem())?;
    let manager = manager::Manager::start(&at.join("control.sock"), true);
    if std::env::args().nth(1).as_deref() == Some("settled") {
        manager.told.lock().map_err(|_| "poisoned")?.settled = true;
    }
    // The second one says how it is with versions.
    if let Some(how) = std::env::args().nth(2) {
        manager.told.lock().map_err(|_| "poisoned")?.upgrade = manager::upgrade(&how);
    }
    server::run(Settings {
        listen: "127.0.0.1:8443".parse()?,
        port: 8443,
        tls: at.join("tls"),
        state: at.to_owned(),
        control: at.join("control.sock"),
        directory: std::env::var_os("PANEL_DIRECTORY").map_or_else(|| at.join("directory.json"), Into::into),
        patience: Duration::from_secs(10),
        body_max: 64 << 10,
        import_wait: Duration::from_secs(15),
        sample_every: Duration::from_millis(200),
        recheck_every: Duration::from_secs(10),
    })
    .await
}

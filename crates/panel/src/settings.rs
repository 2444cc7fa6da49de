//! Where the panel finds what it needs. On an appliance the defaults hold; tests say otherwise.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the panel finds what it needs, and how patient it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The port that browsers come to, which is a part of what a passkey is bound to.
    pub port: u16,
    /// The key and the certificates, in PEM in one file.
    pub tls: PathBuf,
    /// The folder of the store.
    pub state: PathBuf,
    /// The manager's socket.
    pub control: PathBuf,
    /// The file that says where the directory is.
    pub directory: PathBuf,
    /// How long a client may take for its handshake, for a request's head, and for its body.
    pub patience: Duration,
    /// The most bytes in a request's body.
    pub body_max: usize,
    /// How long a request waits for its import of people before it answers that the import goes on.
    pub import_wait: Duration,
    /// How often what the units use is read.
    pub sample_every: Duration,
    /// How often it is looked whether who follows a stream still may.
    pub recheck_every: Duration,
}

impl Settings {
    /// What an appliance uses, with `PANEL_LISTEN`, `PANEL_TLS`, `PANEL_STATE`, `PANEL_CONTROL` and `PANEL_DIRECTORY` in place of single ones.
    ///
    /// # Errors
    /// If `PANEL_LISTEN` is not an address with a port.
    pub fn from_env() -> Result<Settings, String> {
        let path =
            |name: &str, default: &str| std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from);
        let listen = std::env::var("PANEL_LISTEN").unwrap_or_else(|_| "0.0.0.0:8443".into());
        let listen: SocketAddr = listen
            .parse()
            .map_err(|_| format!("PANEL_LISTEN is `{listen}`: write an address and a port, like 127.0.0.1:8443"))?;
        Ok(Settings {
            port: listen.port(),
            listen,
            tls: path("PANEL_TLS", "/run/secrets/tls"),
            state: path("PANEL_STATE", "/var/lib/panel"),
            control: path("PANEL_CONTROL", "/run/cairn/control.sock"),
            directory: path("PANEL_DIRECTORY", "/etc/panel/directory.json"),
            patience: Duration::from_secs(10),
            body_max: 64 << 10,
            import_wait: Duration::from_secs(15),
            sample_every: Duration::from_secs(5),
            recheck_every: Duration::from_secs(10),
        })
    }
}

//! `cairn-mdns`: answers for the appliance's name in the local network (RFC 6762), and says where its pages are (RFC 6763).
//!
//! It has no options but the configuration's path, and no state. On SIGHUP it reads the configuration again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mdns_sd::{DaemonEvent, IfKind, ServiceDaemon, ServiceInfo};
use sd_notify::NotifyState;
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What it announces.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The appliance's name: it is reached as `NAME.local`.
    name: String,
    /// Network interfaces on which it is silent.
    #[serde(default)]
    except: Vec<String>,
    /// Pages.
    #[serde(default)]
    service: Vec<Service>,
}

/// A page that browsers of the network can find.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    /// Its type, such as `_https._tcp`.
    r#type: String,
    /// Its port.
    port: u16,
}

impl Config {
    fn read(path: &Path) -> Result<Config, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
        toml::from_str(&text).map_err(|e| format!("{shown}: {e}"))
    }
}

fn announce(config: &Config) -> Result<ServiceDaemon, String> {
    let told = |e: mdns_sd::Error| e.to_string();
    let daemon = ServiceDaemon::new().map_err(told)?;
    for interface in &config.except {
        daemon
            .disable_interface(IfKind::Name(interface.clone()))
            .map_err(told)?;
    }
    let host = format!("{}.local.", config.name);
    for service in &config.service {
        let kind = format!("{}.local.", service.r#type);
        let none: &[(&str, &str)] = &[];
        let info = ServiceInfo::new(&kind, &config.name, &host, "", service.port, none).map_err(told)?;
        // Addresses come and go with the network's lease.
        daemon.register(info.enable_addr_auto()).map_err(told)?;
    }
    Ok(daemon)
}

/// Says what people should know: most of all that another machine has the name.
fn watch(daemon: &ServiceDaemon) -> Result<(), String> {
    let events = daemon.monitor().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        while let Ok(event) = events.recv() {
            match event {
                DaemonEvent::NameChange(change) => eprintln!(
                    "<4>another machine of the network has the name {}: this one is {} there",
                    change.original, change.new_name
                ),
                DaemonEvent::Error(error) => eprintln!("<4>{error}"),
                _ => {}
            }
        }
    });
    Ok(())
}

/// Takes the names back (a goodbye, RFC 6762, section 10.1).
fn silence(daemon: &ServiceDaemon) {
    if let Ok(done) = daemon.shutdown() {
        let _ = done.recv();
    }
}

fn run(path: &Path) -> Result<(), String> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|e| e.to_string())?;
    let config = Config::read(path)?;
    let mut daemon = announce(&config)?;
    watch(&daemon)?;
    eprintln!("<6>answers for {}.local", config.name);
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        match Config::read(path) {
            Ok(config) => {
                silence(&daemon);
                daemon = announce(&config)?;
                watch(&daemon)?;
                eprintln!("<6>answers for {}.local", config.name);
            }
            Err(why) => eprintln!("<3>{why}; what was announced stays so"),
        }
    }
    silence(&daemon);
    Ok(())
}

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.unwrap_or_else(|| PathBuf::from("/etc/cairn-mdns/config.toml"));
    match run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cairn-mdns: {why}");
            ExitCode::FAILURE
        }
    }
}

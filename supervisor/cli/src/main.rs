//! `cairn`: the command line of a running appliance, a client of the manager's control API.

mod chart;
mod client;
mod logs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

/// Look at and steer the units of this appliance.
///
/// Exit codes: 0 done; 1 refused or failed; 2 wrong use; 3 (status) not every unit is ready; 4 the manager does not
/// answer.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  cairn status\n  cairn restart caddy\n  cairn logs mariadb\n  cairn chart > boot.svg"
)]
struct Cli {
    /// Print the API's JSON answer.
    #[arg(long, global = true)]
    json: bool,
    /// The control socket.
    #[arg(long, global = true, default_value = "/run/cairn/control.sock", hide = true)]
    socket: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every unit and its state.
    Status,
    /// Start a unit and what it needs.
    Start {
        /// The unit.
        unit: String,
    },
    /// Stop a unit and what needs it.
    Stop {
        /// The unit.
        unit: String,
    },
    /// Stop a unit and start it again.
    Restart {
        /// The unit.
        unit: String,
    },
    /// Show what units have written.
    Logs(logs::Logs),
    /// Draw the boot as an SVG picture.
    Chart,
    /// Stop all units and switch the machine off.
    Poweroff,
    /// Stop all units and start the machine again.
    Reboot,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (method, path) = match &cli.command {
        Command::Logs(logs) => return logs.run(&cli.socket),
        Command::Status => ("GET", "/v1/status".to_owned()),
        Command::Start { unit } => ("POST", format!("/v1/units/{unit}/start")),
        Command::Stop { unit } => ("POST", format!("/v1/units/{unit}/stop")),
        Command::Restart { unit } => ("POST", format!("/v1/units/{unit}/restart")),
        Command::Chart => ("GET", "/v1/boot".to_owned()),
        Command::Poweroff => ("POST", "/v1/power/poweroff".to_owned()),
        Command::Reboot => ("POST", "/v1/power/reboot".to_owned()),
    };
    let (status, body) = match client::ask(&cli.socket, method, &path) {
        Ok(answer) => answer,
        Err(e) => {
            eprintln!("cairn: the manager does not answer on {}: {e}", cli.socket.display());
            return ExitCode::from(4);
        }
    };
    if status >= 400 {
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        eprintln!("cairn: {}", value["error"].as_str().unwrap_or("the manager refused"));
        return ExitCode::from(1);
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = match &cli.command {
        _ if cli.json => body,
        Command::Status => table(&value).into_bytes(),
        Command::Chart => chart::svg(&value).into_bytes(),
        Command::Poweroff | Command::Reboot => b"Stopping all units.\n".to_vec(),
        _ => Vec::new(),
    };
    // A closed pipe is the reader's wish.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
    let all = value["ready"].as_bool().unwrap_or(true);
    if matches!(cli.command, Command::Status) && !all {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    }
}

/// The status for people.
fn table(status: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "{} {}  {}\n\n",
        text(&status["appliance"]),
        text(&status["version"]),
        text(&status["address"])
    );
    let units = status["units"].as_array().cloned().unwrap_or_default();
    let width = units.iter().map(|u| text(&u["name"]).len()).max().unwrap_or(0);
    for unit in &units {
        let seconds = unit["for_ms"].as_u64().unwrap_or(0) / 1000;
        let why = text(&unit["reason"]);
        let says = if why.is_empty() { text(&unit["says"]) } else { why };
        out += &format!(
            "{:width$}  {:11}  {seconds:>6} s  {says}\n",
            text(&unit["name"]),
            text(&unit["state"])
        );
    }
    out
}

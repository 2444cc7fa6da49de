//! `cairn`: the command line of a running appliance, a client of the manager's control API.

mod accounts;
mod certificates;
mod chart;
mod check;
mod client;
mod config;
mod dumps;
mod enter;
mod graph;
mod learn;
mod logs;
mod network;
mod pty;
#[cfg(feature = "remote")]
mod remote;
mod reset;
mod security;
mod settings;
mod table;
mod upgrade;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cairn_api::{
    Boot, Explained, Graph, LearnState, Learned, MachineState, RecoveryKey, Reloaded, SiteDiff, SiteHistory, SiteText,
    Status, Top,
};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::Value;

use table::Paint;

/// Look at and steer the units of this appliance.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done; 1 refused or failed; 2 wrong use; 3 (status) not every unit is ready; 4 the manager does not \
                  answer. `enter` ends with its command's code.\n\nExamples:\n  cairn status\n  cairn explain mariadb\n  \
                  cairn logs -f mariadb\n  cairn top\n  cairn restart caddy\n  cairn graph --svg > units.svg"
)]
struct Cli {
    /// Print the API's JSON answer.
    #[arg(long, global = true)]
    json: bool,
    /// The control socket.
    #[arg(long, global = true, default_value = "/run/cairn/control.sock", hide = true)]
    socket: PathBuf,
    /// Ask an appliance that `cairn remote add` made known, not this one. CAIRN_REMOTE says the same.
    #[cfg(feature = "remote")]
    #[arg(long, global = true, value_name = "NAME")]
    remote: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every unit and its state.
    Status,
    /// Tell why a unit is as it is, and what will happen to it.
    Explain {
        /// The unit.
        unit: String,
    },
    /// Show what the units use, and how much they wait.
    Top {
        /// Seconds between two looks.
        #[arg(short, long, default_value_t = 2)]
        delay: u32,
        /// One look only.
        #[arg(short, long)]
        once: bool,
    },
    /// Show what units have written.
    Logs(logs::Logs),
    /// Show each change of a unit's state, as it happens.
    Events,
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
    /// Let a unit read its configuration again; without a unit, put the owner's choices (site.toml) in force.
    Reload {
        /// The unit.
        unit: Option<String>,
    },
    /// Send a signal to a unit's main process.
    Kill {
        /// The unit.
        unit: String,
        /// The signal's name without SIG.
        #[arg(short, long, default_value = "TERM")]
        signal: String,
    },
    /// Let a unit start with the appliance, and now.
    Enable {
        /// The unit.
        unit: String,
    },
    /// Stop a unit and keep it from starting.
    Disable {
        /// The unit.
        unit: String,
    },
    /// List what can be chosen for a unit, or choose: `cairn set UNIT NAME=VALUE ...`.
    Set {
        /// The unit.
        unit: String,
        /// `NAME=VALUE`, or `NAME=@FILE` for the text of a file. A list's values stand between commas. `NAME=` is what holds if nothing is
        /// chosen.
        #[arg(value_name = "NAME=VALUE")]
        given: Vec<String>,
    },
    /// Have what a unit keeps dumped, while it runs.
    Dump {
        /// The unit.
        unit: String,
        /// Copy the dump to a file, too; `-` is the standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the dumps of what units keep.
    Dumps {
        /// The unit; all if left out.
        unit: Option<String>,
    },
    /// Let a unit go back to what it kept in a dump.
    #[command(
        after_help = "The unit stops, its state is made anew of the dump, and it starts. If that fails, all stays as it was.\n\n\
        Example:\n  cairn restore mariadb 20260131T021500Z"
    )]
    Restore {
        /// The unit.
        unit: String,
        /// The dump, as `cairn dumps` names it; `before`: what there was before the last restore.
        dump: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Run a command in a unit's sandbox.
    Enter {
        /// The unit.
        unit: String,
        /// The command; its program by its path in the unit.
        #[arg(trailing_var_arg = true, default_value = "/bin/sh")]
        command: Vec<String>,
    },
    /// Show what is declared of the units' sandboxes, beside what is in force.
    Security {
        /// The unit; all if left out.
        unit: Option<String>,
    },
    /// Start a unit with its system calls recorded instead of refused, and print what its file should say, tighter or wider.
    #[command(
        after_help = "The unit is started again, and again as it was at the end. The advice goes to the standard output, as TOML.\n\n\
        Example:\n  cairn learn caddy --for 10m > caddy.advice"
    )]
    Learn {
        /// The unit.
        unit: String,
        /// How long, like 60s, 10m or 1d.
        #[arg(long = "for", value_name = "TIME", default_value = "60s")]
        wanted: cairn_unit::Seconds,
    },
    /// Show what is between the units.
    Graph {
        /// As an SVG picture.
        #[arg(long)]
        svg: bool,
    },
    /// Draw the boot as an SVG picture.
    Chart,
    /// List the units by how long they took to be ready at the boot.
    Blame,
    /// Show the chain of units that the last readiness of the boot hung on.
    CriticalChain,
    /// Say what is wrong with a unit's file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// The owner's choices (site.toml): their versions, and the way back.
    #[command(subcommand)]
    Config(config::Config),
    /// Show the machine: its memory, the room for data, and the clock.
    Machine,
    /// The data partition: whether it is encrypted, and its recovery key.
    Data {
        #[command(subcommand)]
        command: Option<Data>,
    },
    /// The outside network: what it is, and the confirmation of a change.
    Network {
        #[command(subcommand)]
        command: Option<network::Command>,
    },
    /// The certificate authority and the units' certificates.
    Certificates {
        #[command(subcommand)]
        command: Option<certificates::Command>,
    },
    /// The accounts that units have at others by their bindings, and their passwords.
    Secrets {
        #[command(subcommand)]
        command: Option<accounts::Command>,
    },
    /// Remove what a unit owned at others that no binding needs any more. This cannot be undone.
    Purge {
        /// The unit.
        unit: String,
    },
    /// Later versions of the whole appliance.
    Upgrade {
        #[command(subcommand)]
        command: Option<upgrade::Command>,
    },
    /// The manager itself.
    #[command(subcommand)]
    Manager(Manager),
    /// Stop all units and switch the machine off.
    Poweroff,
    /// Stop all units and start the machine again.
    Reboot,
    /// Remove all data of all units and your choices, and start again to be set up. The installed version stays.
    FactoryReset {
        /// The appliance's name, so that it is not asked for.
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// The appliances that are known here, for `cairn --remote NAME ...`.
    #[cfg(feature = "remote")]
    #[command(subcommand)]
    Remote(remote::Command),
    /// Print the API's OpenAPI document.
    Api {
        /// As the page of the documentation.
        #[arg(long, hide = true)]
        markdown: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What can be done with the manager.
#[derive(Subcommand)]
enum Manager {
    /// Put another manager's program in its place. No unit notices; one that does not come up is given up.
    Upgrade {
        /// The program, by its absolute path.
        file: PathBuf,
    },
}

/// The data partition.
#[derive(Subcommand)]
enum Data {
    /// Show the recovery key that opens the encrypted data partition where the machine's TPM does not.
    RecoveryKey,
    /// The recovery key is saved elsewhere: remove it from the appliance.
    Saved,
}

/// Why a command ends without success: what to say, and the exit code.
struct Refused(String, u8);

type Outcome<T> = Result<T, Refused>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(Refused(why, code)) => {
            eprintln!("cairn: {why}");
            ExitCode::from(code)
        }
    }
}

fn run(cli: &Cli) -> Outcome<ExitCode> {
    let paint = Paint(std::io::stdout().is_terminal());
    let get = |path: &str| ask(cli, "GET", path);
    let post = |path: String| ask(cli, "POST", &path);
    match &cli.command {
        Command::Status => {
            let status: Status = shown(cli, get("/v1/status")?, |status| table::status(status, paint))?;
            return Ok(ExitCode::from(if status.ready { 0 } else { 3 }));
        }
        Command::Explain { unit } => {
            let answer = get(&format!("/v1/units/{unit}/explain"))?;
            shown::<Explained>(cli, answer, |unit| table::explained(unit, paint))?;
        }
        Command::Top { delay, once } => top(cli, *delay, *once, paint)?,
        #[cfg(feature = "remote")]
        Command::Logs(logs) if is_remote(cli)? => remote::logs(cli, logs)?,
        Command::Events | Command::Enter { .. } | Command::Learn { .. } if is_remote(cli)? => {
            return Err(Refused("this is only done on the appliance itself".into(), 2));
        }
        #[cfg(feature = "remote")]
        Command::Remote(command) => remote::run(cli, command)?,
        Command::Logs(logs) => return Ok(logs.run(&cli.socket)),
        Command::Events => {
            let copied = client::stream(&cli.socket, "/v1/events", &mut std::io::stdout());
            copied.map_err(|e| silent(cli, &e))?;
        }
        Command::Start { unit } => drop(post(format!("/v1/units/{unit}/start"))?),
        Command::Stop { unit } => drop(post(format!("/v1/units/{unit}/stop"))?),
        Command::Restart { unit } => drop(post(format!("/v1/units/{unit}/restart"))?),
        Command::Reload { unit: Some(unit) } => drop(post(format!("/v1/units/{unit}/reload"))?),
        Command::Reload { unit: None } => drop(shown::<Reloaded>(cli, post("/v1/reload".into())?, table::reloaded)?),
        Command::Kill { unit, signal } => {
            let name = signal.to_ascii_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            post(format!("/v1/units/{unit}/kill?signal={name}"))?;
        }
        Command::Enable { unit } => {
            shown::<Reloaded>(cli, post(format!("/v1/units/{unit}/enable"))?, table::reloaded)?;
        }
        Command::Disable { unit } => {
            shown::<Reloaded>(cli, post(format!("/v1/units/{unit}/disable"))?, table::reloaded)?;
        }
        Command::Set { unit, given } => settings::run(cli, unit, given, paint)?,
        Command::Dump { unit, output } => dumps::dump(cli, unit, output.as_deref())?,
        Command::Dumps { unit } => dumps::list(cli, unit.as_deref(), paint)?,
        Command::Restore { unit, dump, yes } => dumps::restore(cli, unit, dump, *yes)?,
        Command::Enter { unit, command } => {
            let job: Value = parsed(&get(&format!("/v1/units/{unit}/enter"))?)?;
            return enter::run(&job, command).map_err(|e| Refused(format!("cannot enter {unit}: {e}"), 1));
        }
        Command::Security { unit } => {
            let path = unit
                .as_ref()
                .map_or("/v1/security".to_owned(), |u| format!("/v1/units/{u}/security"));
            let answer: Value = shown(cli, get(&path)?, |answer| security::text(answer, unit.is_some()))?;
            return Ok(ExitCode::from(u8::from(security::differs(&answer))));
        }
        Command::Learn { unit, wanted } => {
            let (learned, body) = learn::run(unit, *wanted, &Lesson { cli, unit })?;
            if learned.state == LearnState::Never {
                return Err(Refused(format!("the manager knows of no lesson of {unit} any more"), 1));
            }
            if cli.json {
                put(&String::from_utf8_lossy(&body));
            } else {
                put(&learn::text(&learned));
            }
        }
        Command::Graph { svg } => {
            let draw = if *svg { graph::svg } else { graph::text };
            shown::<Graph>(cli, get("/v1/graph")?, draw)?;
        }
        Command::Chart => drop(shown::<Boot>(cli, get("/v1/boot")?, chart::svg)?),
        Command::Blame => drop(shown::<Boot>(cli, get("/v1/boot")?, |boot| table::blame(&boot.units))?),
        Command::CriticalChain => {
            shown::<Boot>(cli, get("/v1/boot")?, |boot| table::critical_chain(&boot.units))?;
        }
        Command::Check { file } => return Ok(check::run(file, cli.json)),
        Command::Config(config::Config::History) => {
            shown::<SiteHistory>(cli, get("/v1/site/history")?, |all| config::history(all, paint))?;
        }
        Command::Config(config::Config::Diff { from, to }) => {
            shown::<SiteDiff>(cli, get(&config::diff_path(*from, *to))?, config::diff)?;
        }
        Command::Config(config::Config::Rollback { to }) => {
            shown::<Reloaded>(cli, post(format!("/v1/site/rollback?to={to}"))?, table::reloaded)?;
        }
        Command::Config(config::Config::Show) => {
            shown::<SiteText>(cli, get("/v1/site")?, |site| site.text.clone())?;
        }
        Command::Config(config::Config::Write { file, version }) => {
            let body = config::written(file, *version)?;
            shown::<Reloaded>(cli, ask_with(cli, "POST", "/v1/site", &body)?, table::reloaded)?;
        }
        Command::Machine => drop(shown::<MachineState>(cli, get("/v1/machine")?, table::machine)?),
        Command::Data { command: None } => drop(shown::<MachineState>(cli, get("/v1/machine")?, |machine| {
            format!("{}\n", table::data_encryption(&machine.encryption))
        })?),
        Command::Data {
            command: Some(Data::RecoveryKey),
        } => drop(shown::<RecoveryKey>(cli, get("/v1/data/recovery-key")?, |shown| {
            format!("{}\n", shown.key)
        })?),
        Command::Data {
            command: Some(Data::Saved),
        } => {
            post("/v1/data/recovery-key/saved".to_owned())?;
            if !cli.json {
                put("The recovery key is not kept on the appliance any more.\n");
            }
        }
        Command::Secrets { command } => accounts::run(cli, command.as_ref(), paint)?,
        Command::Purge { unit } => accounts::purge(cli, unit)?,
        Command::Network { command } => network::run(cli, command.as_ref(), paint)?,
        Command::Certificates { command } => certificates::run(cli, command.as_ref(), paint)?,
        Command::Upgrade { command } => upgrade::run(cli, command.as_ref(), paint)?,
        Command::Manager(Manager::Upgrade { file }) => {
            let file = std::path::absolute(file).map_err(|e| Refused(e.to_string(), 1))?;
            post(format!(
                "/v1/manager/upgrade?file={}",
                client::encode(&file.to_string_lossy())
            ))?;
        }
        Command::Poweroff => {
            post("/v1/power/poweroff".into())?;
            put("Stopping all units.\n");
        }
        Command::Reboot => {
            post("/v1/power/reboot".into())?;
            put("Stopping all units.\n");
        }
        Command::FactoryReset { yes } => reset::run(cli, yes.as_deref())?,
        Command::Api { markdown: true } => put(&cairn_api::markdown()),
        Command::Api { markdown: false } => put(&format!("{:#}\n", cairn_api::openapi())),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "cairn", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The manager, asked about one unit's lesson.
struct Lesson<'a> {
    cli: &'a Cli,
    unit: &'a str,
}

impl learn::Ask for Lesson<'_> {
    type Error = Refused;

    fn learn(&self, wanted: cairn_unit::Seconds) -> Outcome<()> {
        ask(self.cli, "POST", &format!("/v1/units/{}/learn?for={wanted}", self.unit)).map(drop)
    }

    fn learned(&self) -> Outcome<(Learned, Vec<u8>)> {
        let body = ask(self.cli, "GET", &format!("/v1/units/{}/learned", self.unit))?;
        Ok((parsed(&body)?, body))
    }
}

fn silent(cli: &Cli, error: &std::io::Error) -> Refused {
    Refused(
        format!("the manager does not answer on {}: {error}", cli.socket.display()),
        4,
    )
}

/// Whether another machine is asked.
#[cfg(feature = "remote")]
fn is_remote(cli: &Cli) -> Outcome<bool> {
    Ok(remote::chosen(cli)?.is_some())
}

#[cfg(not(feature = "remote"))]
#[expect(clippy::unnecessary_wraps, reason = "as where other machines can be asked")]
fn is_remote(_: &Cli) -> Outcome<bool> {
    Ok(false)
}

/// Status and body of an answer, from this appliance or from another machine's.
fn asked(cli: &Cli, method: &str, path: &str, body: &[u8]) -> Outcome<(u16, Vec<u8>)> {
    #[cfg(feature = "remote")]
    if let Some(remote) = remote::chosen(cli)? {
        let (status, body) = remote.ask(method, path, body)?;
        if status == 404 && remote::is_nothing(&body) {
            return Err(Refused("this is only done on the appliance itself".into(), 2));
        }
        return Ok((status, body));
    }
    client::ask(&cli.socket, method, path, body).map_err(|e| silent(cli, &e))
}

/// The body of a good answer.
fn ask(cli: &Cli, method: &str, path: &str) -> Outcome<Vec<u8>> {
    ask_with(cli, method, path, &[])
}

/// As [`ask`], with a body of the question.
fn ask_with(cli: &Cli, method: &str, path: &str, body: &[u8]) -> Outcome<Vec<u8>> {
    let (status, body) = asked(cli, method, path, body)?;
    if status < 400 {
        return Ok(body);
    }
    let why: Option<cairn_api::Problem> = serde_json::from_slice(&body).ok();
    Err(Refused(
        why.map_or("the manager refused".into(), |problem| problem.error),
        1,
    ))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Outcome<T> {
    serde_json::from_slice(body).map_err(|e| Refused(format!("the manager's answer is not understood: {e}"), 1))
}

/// Prints an answer, for people or as it is, and gives it.
fn shown<T: DeserializeOwned>(cli: &Cli, body: Vec<u8>, text: impl FnOnce(&T) -> String) -> Outcome<T> {
    let value: T = parsed(&body)?;
    if cli.json {
        put(&String::from_utf8_lossy(&body));
    } else {
        put(&text(&value));
    }
    Ok(value)
}

/// A closed pipe is the reader's wish.
fn put(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn top(cli: &Cli, delay: u32, once: bool, paint: Paint) -> Outcome<()> {
    let look = || -> Outcome<Vec<u8>> { ask(cli, "GET", "/v1/top") };
    if cli.json {
        put(&String::from_utf8_lossy(&look()?));
        return Ok(());
    }
    let mut before: Top = parsed(&look()?)?;
    loop {
        std::thread::sleep(Duration::from_secs(delay.max(1).into()));
        let now: Top = parsed(&look()?)?;
        // On a terminal each look takes the place of the last.
        let clear = if paint.0 && !once { "\x1b[H\x1b[2J" } else { "" };
        put(&format!("{clear}{}", table::top(&before, &now, paint)));
        if once {
            return Ok(());
        }
        before = now;
    }
}

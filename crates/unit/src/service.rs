//! What a unit runs: its commands, when it counts as ready and as healthy, and what a failure does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Path, Seconds, Signal};

/// A program and its arguments; the first element is an absolute path in the service root.
pub type Command = Vec<String>;

/// What is started, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Whether the main process stays (`service`) or does its work and exits (`oneshot`).
    #[serde(default)]
    pub kind: Kind,
    /// The main process.
    pub command: Command,
    /// Commands run in the sandbox before the main process at every start, in order; one that fails fails the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Command>,
    /// Commands run in the sandbox after the main process ended, however it did, in order; that one fails is only logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Command>,
    /// How the running service is told to read its configuration again; left out: a reload is a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// The account, inside the unit's root, that the main process runs as.
    #[serde(default = "root")]
    pub user: String,
    /// Its group; left out: the account's primary group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Environment variables. Never put a secret here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The folder in which the main process starts.
    #[serde(default = "slash")]
    pub working_directory: Path,
    /// The signal that asks the main process to stop.
    #[serde(default = "term")]
    pub stop_signal: Signal,
    /// How long it may take to stop before every process of the unit is killed.
    #[serde(default = "stop_timeout")]
    pub stop_timeout: Seconds,
    /// When the main process is started again after it ended.
    #[serde(default)]
    pub restart: Restart,
    /// The delay before the first restart; it doubles with each further one, up to `restart_delay_max`. Left out, the first
    /// restart is at once and the second after a second.
    #[serde(default)]
    pub restart_delay: Seconds,
    /// The longest delay before a restart.
    #[serde(default = "restart_delay_max")]
    pub restart_delay_max: Seconds,
    /// By how much a delay is lengthened or shortened at random, in percent, so that units that failed together do not all
    /// come back in one moment.
    #[serde(default = "restart_jitter")]
    pub restart_jitter: u8,
    /// How long it must have been ready for its earlier failures to be forgotten.
    #[serde(default = "healthy_after")]
    pub healthy_after: Seconds,
    /// After so many failures in a row it is not started again and `[failure]` says what happens; left out: it is tried
    /// for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_limit: Option<u32>,
    /// How long the service may be silent before it counts as hung and is restarted: it gets `WATCHDOG_USEC` and sends
    /// `WATCHDOG=1` by the sd_notify protocol at least twice as often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Seconds>,
}

fn root() -> String {
    "root".into()
}
fn slash() -> Path {
    "/".parse().unwrap_or_else(|_| unreachable!("a constant path"))
}
fn term() -> Signal {
    Signal::Term
}
fn stop_timeout() -> Seconds {
    Seconds::from_secs(30)
}
fn restart_delay_max() -> Seconds {
    Seconds::from_secs(60)
}
fn restart_jitter() -> u8 {
    10
}
fn healthy_after() -> Seconds {
    Seconds::from_secs(60)
}

/// Whether the main process stays or does its work and exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The main process stays until it is stopped.
    #[default]
    Service,
    /// The main process exits when its work is done; the unit is ready when it exits with 0.
    Oneshot,
}

/// When the main process is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    Never,
    /// After an exit status other than 0, or a signal.
    #[default]
    OnFailure,
    /// After any end that was not asked for.
    Always,
}

/// How a running service is told to read its configuration again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// It gets `SIGHUP` and answers by the sd_notify protocol: `RELOADING=1` with `MONOTONIC_USEC`, then `READY=1`.
    Notify,
    /// It gets this signal, and that is all.
    Signal(Signal),
    /// This command is run in its sandbox; exit code 0 is success.
    Command(Command),
}

/// When a started unit counts as ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The sign of readiness.
    pub when: ReadyWhen,
    /// How long it may take; after that the start has failed.
    #[serde(default = "ready_timeout")]
    pub timeout: Seconds,
}

fn ready_timeout() -> Seconds {
    Seconds::from_secs(120)
}

/// The sign of readiness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadyWhen {
    /// The service sends `READY=1` by the sd_notify protocol.
    Notify,
    /// A TCP port of the unit accepts a connection.
    Port(u16),
    /// A file or socket exists, by its path in the unit.
    File(Path),
    /// A line that it writes contains this text.
    Log(String),
    /// This command, run in its sandbox again and again, exits with 0.
    Command(Command),
}

/// How a ready service is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is tried.
    pub check: Check,
    /// The time from the end of one check to the beginning of the next.
    #[serde(default = "health_interval")]
    pub interval: Seconds,
    /// How long one check may take.
    #[serde(default = "health_timeout")]
    pub timeout: Seconds,
    /// After so many failed checks in a row the unit has failed, and `restart` decides.
    #[serde(default = "health_failures")]
    pub failures: u32,
}

fn health_interval() -> Seconds {
    Seconds::from_secs(30)
}
fn health_timeout() -> Seconds {
    Seconds::from_secs(5)
}
fn health_failures() -> u32 {
    3
}

/// One check of a service's health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A TCP port of the unit accepts a connection.
    Tcp(u16),
    /// A request (`port`, and if need be `path` and `status`) gets an answer.
    Http(HttpCheck),
    /// A command, run in the unit's sandbox, exits with 0.
    Exec(Command),
}

/// An HTTP/1.1 GET request to the unit, without TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The unit's TCP port.
    pub port: u16,
    /// The path asked for.
    #[serde(default = "http_path")]
    pub path: String,
    /// The status that is right; left out: any from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

fn http_path() -> String {
    "/".into()
}

/// What happens when the unit has failed for good: `restart` does not start it again, or `start_limit` is reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failure {
    /// What the appliance does.
    pub action: FailureAction,
    /// A command run in the unit's sandbox, with the reason in the variable `CAIRN_REASON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Command>,
    /// What becomes of the units that need this one.
    pub dependants: Dependants,
}

/// What the appliance does when a unit has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    /// Nothing but to say so.
    #[default]
    None,
    /// Stops every unit and starts the machine again.
    Reboot,
}

/// What becomes of the units that need a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dependants {
    /// They go on running.
    #[default]
    Keep,
    /// They are stopped, and started again when it is ready again.
    Stop,
}

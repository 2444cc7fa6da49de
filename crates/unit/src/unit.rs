//! The unit: one service, in `units/NAME.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Problems, Source};
use crate::values::{Bytes, Mode, Name, Path, Seconds, Signal};

/// One service: its packages, command, sandbox, needs, provides, limits and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// One line that says what the service is, shown to the owner.
    pub description: String,
    /// Debian packages by name. Their closure, and nothing else, is the service root.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Folders under `overlays/` laid on the service root, in this order. Left out: the folder with the unit's
    /// own name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlays: Option<Vec<Name>>,
    /// What is started, and how.
    pub service: Service,
    /// When the service counts as ready. Left out: as soon as its process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Steps that make the unit's state at its first start, in this order. They run in the unit's sandbox on an
    /// empty state; all of them succeed and the state is kept, or it is discarded and made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<Setup>,
    /// Folders that outlive the unit, by the path at which it sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<Path, Directory>,
    /// Folders in memory, empty at every start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtime: BTreeMap<Path, Directory>,
    /// Secrets that belong to the unit: made once, kept in `/data/secrets/UNIT/NAME`, and shown to the unit alone as the file
    /// `/run/secrets/NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, Secret>,
    /// Accounts that the unit's root must hold beyond those that its packages declare through `sysusers.d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, UserSpec>,
    /// Links that Debian's alternatives system would make: link to target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alternatives: BTreeMap<Path, Path>,
    /// What other units can bind to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provides: BTreeMap<Name, Provide>,
    /// What this unit binds to: a name of its own choice, and the provide's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<Name, Need>,
    /// Units that start before this one where they are part of the appliance, without a binding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
    /// The unit's network.
    #[serde(default)]
    pub network: Network,
    /// Bounds on what the unit can use.
    #[serde(default)]
    pub limits: Limits,
    /// What the sandbox grants beyond the default, each with its reason.
    #[serde(default)]
    pub sandbox: SandboxGrants,
}

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
    /// The delay before the first restart; it doubles with each further one, up to `restart_delay_max`.
    #[serde(default = "restart_delay")]
    pub restart_delay: Seconds,
    /// The longest delay before a restart.
    #[serde(default = "restart_delay_max")]
    pub restart_delay_max: Seconds,
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
fn restart_delay() -> Seconds {
    Seconds::from_secs(1)
}
fn restart_delay_max() -> Seconds {
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
}

/// One step of making the unit's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// A few words that say what the step does, shown as progress.
    pub name: String,
    /// The program and its arguments.
    pub command: Command,
    /// Files of the service root whose contents, one after the other, are the program's standard input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdin: Vec<Path>,
    /// The account that it runs as; left out: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A folder that the unit can write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The owner; left out: the service's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group; left out: the owner's primary group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The permission bits.
    #[serde(default = "dir_mode")]
    pub mode: Mode,
}

fn dir_mode() -> Mode {
    Mode(0o750)
}

/// A secret that Cairn makes for the unit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// What it is.
    #[serde(default)]
    pub kind: SecretKind,
    /// How many characters (letters and digits, so about 5.95 bits each) a password has; 32 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u8>,
}

impl Secret {
    /// How many characters a password has where the unit does not say.
    pub const LENGTH: u8 = 32;
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// Random letters and digits.
    #[default]
    Password,
    /// A private key (ECDSA, P-256) and a certificate for it that it signs itself, with the unit's name as its subject, both in PEM in one
    /// file. It never expires: who must know it pins it.
    Certificate,
}

/// An account of the unit's root.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The numeric id, 1 to 65533; left out: the next free one of 100 to 999, kept in the lock for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u16>,
    /// The home folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Path>,
    /// Groups beyond its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Something that other units can bind to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provide {
    /// What it is, for example `database` or `directory`.
    pub kind: Name,
    /// The TCP port on which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The Unix socket on which it answers, by its path in the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Path>,
}

/// A binding as the consumer writes it: the name of a provide of another unit.
pub type Need = Name;

/// The unit's network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// `bridge`: a network namespace of its own on the internal bridge. `none`: loopback only.
    pub mode: NetworkMode,
    /// Ports opened to the outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Whether the unit may open connections to the outside.
    pub outbound: bool,
}

/// How the unit is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network namespace of its own on the internal bridge.
    #[default]
    Bridge,
    /// A network namespace of its own with loopback only.
    None,
}

/// A port opened to the outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The port of the appliance.
    pub port: u16,
    /// The unit's port; left out: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// What to show as the address when everything is ready: `https`, `http`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// Bounds on what the unit can use. Every unit has them all; these are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory above which the unit is slowed down and reclaimed from (cgroup `memory.high`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bytes>,
    /// Memory above which the unit is killed as a whole (cgroup `memory.max`).
    pub memory_max: Bytes,
    /// Share of the processor under contention, 1 to 10000 (cgroup `cpu.weight`).
    pub cpu_weight: u16,
    /// Share of the disk under contention, 1 to 10000 (cgroup `io.weight`).
    pub io_weight: u16,
    /// Processes and threads (cgroup `pids.max`).
    pub processes: u32,
    /// Open files of each process (`RLIMIT_NOFILE`).
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_high: None,
            memory_max: Bytes(512 << 20),
            cpu_weight: 100,
            io_weight: 100,
            processes: 512,
            open_files: 16384,
        }
    }
}

/// What the sandbox grants beyond the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxGrants {
    /// Capabilities kept, inside the unit's own user namespace: `net-bind-service`, ...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// System calls allowed beyond the default profile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_calls: Vec<String>,
    /// Whether memory may be both writable and executable (just-in-time compilers).
    pub writable_code: bool,
    /// Why; required as soon as anything is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether programs of the unit may gain privileges on exec (set-user-id programs).
    pub new_privileges: bool,
    /// Whether the stub that is PID 1 in the unit reaps orphans; `false` runs the service itself as PID 1.
    pub reaper: bool,
}

impl Default for SandboxGrants {
    fn default() -> Self {
        SandboxGrants {
            capabilities: Vec::new(),
            system_calls: Vec::new(),
            writable_code: false,
            reason: None,
            new_privileges: false,
            reaper: true,
        }
    }
}

impl Unit {
    /// Parses a unit and checks every rule that one unit alone can break.
    pub fn parse(source: &Source) -> Result<Unit, Problems> {
        let unit: Unit = source.parse()?;
        let mut found = Problems::default();
        let mut refuse = |path: &[&str], message: String, help: &str| {
            found.0.push(source.problem_at(path, message, Some(help.to_owned())));
        };
        let commands = [(vec!["service", "command"], &unit.service.command)];
        let numbers: Vec<String> = (0..unit.setup.len().max(unit.service.before.len()))
            .map(|i| i.to_string())
            .collect();
        let setups = unit
            .setup
            .iter()
            .enumerate()
            .map(|(i, s)| (vec!["setup", &numbers[i], "command"], &s.command));
        let before = unit
            .service
            .before
            .iter()
            .enumerate()
            .map(|(i, c)| (vec!["service", "before", &numbers[i]], c));
        for (path, command) in commands.into_iter().chain(setups).chain(before) {
            match command.first() {
                None => refuse(
                    &path,
                    "the command is empty".into(),
                    "give the program's absolute path first",
                ),
                Some(program) if !program.starts_with('/') => refuse(
                    &path,
                    format!("`{program}` is not an absolute path"),
                    "no PATH is searched: write for example /usr/sbin/NAME",
                ),
                _ => {}
            }
        }
        if unit.description.trim().is_empty() {
            refuse(
                &["description"],
                "the description is empty".into(),
                "say in one line what the service is",
            );
        }
        for (name, provide) in &unit.provides {
            if provide.port.is_none() && provide.socket.is_none() {
                refuse(
                    &["provides", name.as_str()],
                    format!("`{name}` names neither a port nor a socket"),
                    "add `port = ...` or `socket = \"/run/...\"`",
                );
            }
        }
        let grants = &unit.sandbox;
        let granted = !grants.capabilities.is_empty()
            || !grants.system_calls.is_empty()
            || grants.writable_code
            || grants.new_privileges;
        if granted && grants.reason.as_deref().is_none_or(|r| r.trim().is_empty()) {
            refuse(
                &["sandbox"],
                "the sandbox is widened without a reason".into(),
                "add `reason = \"...\"` to [sandbox]",
            );
        }
        if unit.network.mode == NetworkMode::None && (!unit.network.publish.is_empty() || unit.network.outbound) {
            refuse(
                &["network", "mode"],
                "a unit without a network can neither publish a port nor go out".into(),
                "leave out `mode = \"none\"`, or `publish` and `outbound`",
            );
        }
        for (i, publish) in unit.network.publish.iter().enumerate() {
            if publish.port == 0 || publish.to == Some(0) {
                let key = if publish.port == 0 { "port" } else { "to" };
                refuse(
                    &["network", "publish", &i.to_string(), key],
                    "port 0 is no port".into(),
                    "ports are 1 to 65535",
                );
            }
        }
        if unit.limits.cpu_weight == 0 || unit.limits.cpu_weight > 10_000 {
            refuse(
                &["limits", "cpu_weight"],
                "a weight is 1 to 10000".into(),
                "100 is the default",
            );
        }
        if unit.limits.io_weight == 0 || unit.limits.io_weight > 10_000 {
            refuse(
                &["limits", "io_weight"],
                "a weight is 1 to 10000".into(),
                "100 is the default",
            );
        }
        if unit.service.kind == Kind::Oneshot && unit.ready.is_some() {
            refuse(
                &["ready"],
                "a oneshot is ready when it exits with 0".into(),
                "leave out [ready]",
            );
        }
        for (name, secret) in &unit.secrets {
            let at = ["secrets", name.as_str(), "length"];
            match (secret.kind, secret.length) {
                (SecretKind::Certificate, Some(_)) => refuse(
                    &at,
                    "a certificate has no length".into(),
                    "leave it out; the key is always ECDSA on P-256",
                ),
                (SecretKind::Password, Some(..16)) => {
                    refuse(&at, "a secret has at least 16 characters".into(), "32 is the default")
                }
                _ => {}
            }
        }
        crate::checks::unit(&unit, &mut refuse);
        found.or(unit)
    }
}

//! The unit: one service, in `units/NAME.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{Limits, LogLimits, Network, SandboxGrants};
use crate::dump::Dump;
use crate::migration::Migration;
use crate::need::{Need, Upstream};
use crate::problem::{Problems, Source};
use crate::service::{Check, Command, Failure, Health, Ready, ReadyWhen, Reload, Service};
use crate::setting::Setting;
use crate::trigger::{ListenSocket, PathTrigger, Timer};
use crate::values::{Mode, Name, Path};

/// One service: its packages, command, sandbox, needs, provides, limits and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// One line that says what the service is, shown to the owner.
    pub description: String,
    /// Debian packages by name. Their closure, and nothing else, is the service root.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Programs of Cairn's own workspace, laid on the service root as `/usr/bin/NAME`. Each is a cargo package below `crates/` or
    /// `supervisor/` with a binary of the same name. A unit with programs may have no packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Name>,
    /// Folders under `overlays/` laid on the service root, in this order. Left out: the folder with the unit's
    /// own name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlays: Option<Vec<Name>>,
    /// What is started, and how.
    pub service: Service,
    /// When the service counts as ready. Left out: as soon as its process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How the ready service is watched. Left out: by nothing but its process being there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What happens when it has failed for good.
    #[serde(default)]
    pub failure: Failure,
    /// Starts it by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// Sockets whose first connection starts it, by the name under which it gets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sockets: BTreeMap<Name, ListenSocket>,
    /// Starts it when something is at a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathTrigger>,
    /// Steps that make the unit's state at its first start, in this order. They run in the unit's sandbox on an
    /// empty state; all of them succeed and the state is kept, or it is discarded and made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<Setup>,
    /// Folders that outlive the unit, by the path at which it sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<Path, Directory>,
    /// Which version that state has, and how an older one is brought to it. Left out: version 1, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// How what it keeps is dumped and restored. Left out: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<Dump>,
    /// Folders in memory, empty at every start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtime: BTreeMap<Path, Directory>,
    /// Secrets that belong to the unit: made by Cairn, kept below `/data/secrets`, and shown to the unit alone as the file
    /// `/run/secrets/NAME`. A unit with a certificate or a binding also sees the certificate of the appliance's authority, as `/run/secrets/ca`,
    /// unless it has a secret of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, Secret>,
    /// What the owner can choose for the unit, by name. Its templates see what was chosen as `settings.NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<Name, Setting>,
    /// Accounts that the unit's root must hold beyond those that its packages declare through `sysusers.d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, UserSpec>,
    /// Links that Debian's alternatives system would make: link to target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alternatives: BTreeMap<Path, Path>,
    /// What other units can bind to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provides: BTreeMap<Name, Provide>,
    /// What this unit binds to: a name of its own choice, and the provide's name, or a table with `from` and more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<Name, Need>,
    /// Units that start before this one where they are part of the appliance, without a binding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
    /// Units that run beside this one while it sets the appliance up, where they are part of it; neither waits for the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Name>,
    /// The unit's network.
    #[serde(default)]
    pub network: Network,
    /// Bounds on what the unit can use.
    #[serde(default)]
    pub limits: Limits,
    /// What is kept of what it writes.
    #[serde(default)]
    pub log: LogLimits,
    /// What the sandbox grants beyond the default, each with its reason.
    #[serde(default)]
    pub sandbox: SandboxGrants,
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
    /// Whether a restore leaves the step out, since a dump holds what it makes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_only: bool,
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
    /// A private key (ECDSA, P-256) and a certificate for it by the appliance's authority, both in PEM in one file. It is for
    /// `UNIT.APPLIANCE.internal` and, if the unit publishes a port, for `APPLIANCE.local`, the appliance's private address, the owner's domain and the
    /// unit's name in it. It holds for 30 days and is renewed before: the file changes, and the unit is told to reload, or restarted if it cannot. If
    /// the unit publishes a port and a certificate was imported for the domain, the file has that one; `/run/secrets/NAME.internal` always has the
    /// authority's.
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
    /// A folder of its `[state]` that the units which need this see at the same path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<Path>,
    /// Whether those units may write to that folder.
    #[serde(default)]
    pub writable: bool,
    /// A secret that Cairn makes, and that this unit and those which need this share: it is `/run/secrets/NAME` here, by the provide's name, and
    /// `/run/secrets/NEED` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SharedSecret>,
    /// That it is this unit which connects to those that need this. Left out: they connect to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// How each unit that needs this gets an account of its own. Left out: there are no accounts, or none are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountSpec>,
}

/// A secret that units share. While it is changed a second file, `NAME.other`, holds the one to come, and then the one of before, so that who
/// checks by both and makes with the first never refuses anybody.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharedSecret {
    /// How many characters (letters and digits, so about 5.95 bits each) it has; 32 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u8>,
}

impl SharedSecret {
    /// How many characters it has.
    pub fn characters(&self) -> usize {
        usize::from(self.length.unwrap_or(Secret::LENGTH))
    }
}

/// How each unit that needs a provide gets an account of its own, with a password that Cairn makes. The steps run in the ready unit's
/// sandbox. Each must leave the same behind however often it runs: the first one runs at every start of the unit, so that a state that was
/// put back has the accounts that are wanted now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountSpec {
    /// Makes the account, or gives the one that there is its rights and its password. Units that need it start after this.
    pub grant: AccountStep,
    /// Takes its rights away and keeps what it owns.
    pub revoke: AccountStep,
    /// Removes what it owns, too. Left out: it owns nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge: Option<AccountStep>,
    /// The account of this unit's root as which the steps run; left out: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the other unit's templates see beside host, port, socket and password: templates of `account`, `consumer`, `host` and `site`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tells: BTreeMap<String, String>,
}

/// One step for an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountStep {
    /// The program and its arguments.
    pub command: Command,
    /// A file of the service root that is rendered as a template for the account; what comes of it is the program's standard input. It sees
    /// `account` (`name`, `password`, `turn`, and `old` while a password is being changed), `consumer` (`unit`, `host`, `address`, `address6`),
    /// this unit's `secrets`, `host` and `site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Path>,
    /// Exit statuses beside 0 that mean that it is done: a program may have one of its own for what was so already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<u8>,
}

impl AccountSpec {
    /// What every bound unit's templates see of it, so that `tells` cannot have it.
    pub const RESERVED: [&'static str; 7] = ["host", "name", "port", "socket", "password", "other", "says"];

    /// Its steps with their keys.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &AccountStep)> {
        let purge = self.purge.as_ref().map(|step| ("purge", step));
        [("grant", &self.grant), ("revoke", &self.revoke)]
            .into_iter()
            .chain(purge)
    }
}

impl Unit {
    /// Parses a unit and checks every rule that one unit alone can break.
    pub fn parse(source: &Source) -> Result<Unit, Problems> {
        let unit: Unit = source.parse()?;
        let mut found = Problems::default();
        crate::checks::unit(&unit, &mut |path, message, help| {
            found.0.push(source.problem_at(path, message, Some(help.to_owned())));
        });
        found.or(unit)
    }

    /// Every command with the path of keys at which it stands.
    pub fn commands(&self) -> Vec<(Vec<String>, &Command)> {
        let at = |path: &[&str]| path.iter().map(|key| (*key).to_owned()).collect::<Vec<String>>();
        let mut all = vec![(at(&["service", "command"]), &self.service.command)];
        for (key, list) in [("before", &self.service.before), ("after", &self.service.after)] {
            let each = list.iter().enumerate();
            all.extend(each.map(|(i, command)| (at(&["service", key, &i.to_string()]), command)));
        }
        let setup = self.setup.iter().enumerate();
        all.extend(setup.map(|(i, step)| (at(&["setup", &i.to_string(), "command"]), &step.command)));
        for (i, step) in self.migration.iter().flat_map(|m| &m.steps).enumerate() {
            let path = |key| at(&["migration", "steps", &i.to_string(), key]);
            all.push((path("up"), &step.up));
            all.extend(step.down.iter().map(|down| (path("down"), down)));
        }
        if let Some(dump) = &self.dump {
            all.push((at(&["dump", "command"]), &dump.command));
            let steps = dump.restore.iter().enumerate();
            all.extend(steps.map(|(i, command)| (at(&["dump", "restore", &i.to_string()]), command)));
        }
        if let Some(Reload::Command(command)) = &self.service.reload {
            all.push((at(&["service", "reload", "command"]), command));
        }
        if let Some(Ready {
            when: ReadyWhen::Command(command),
            ..
        }) = &self.ready
        {
            all.push((at(&["ready", "when", "command"]), command));
        }
        if let Some(Health {
            check: Check::Exec(command),
            ..
        }) = &self.health
        {
            all.push((at(&["health", "check", "exec"]), command));
        }
        for (name, provide) in &self.provides {
            for (key, step) in provide.account.iter().flat_map(AccountSpec::steps) {
                all.push((
                    at(&["provides", name.as_str(), "account", key, "command"]),
                    &step.command,
                ));
            }
        }
        if let Some(command) = &self.failure.alert {
            all.push((at(&["failure", "alert"]), command));
        }
        all
    }

    /// Whether it is started with the appliance, and not only by time, a connection or a path.
    pub fn starts_with_appliance(&self) -> bool {
        self.timer.is_none() && self.sockets.is_empty() && self.path.is_none()
    }
}

//! From a unit to its sandbox: a pure function, so that every grant can be seen and tested without running anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_sandbox::{Capabilities, Content, Ipv4, Ipv6, Mount, Network, Plan, Resource, Rlimit, User, Veth};
use cairn_unit::{Account, Directory, Listen, Manifest, ManifestUnit, NetworkMode, Template};

use crate::address::{BRIDGE, GATEWAY4, GATEWAY6, PREFIX4, PREFIX6, id_base, ipv4, ipv6, link, mac};
use crate::config::{Config, escape};
use crate::error::Error;
use cairn_config::context::{Facts, Known};
use cairn_config::template::Context;

/// Which of a unit's commands the sandbox is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The main process.
    Main,
    /// A command before it.
    Before(usize),
    /// A command after it.
    After(usize),
    /// What tells someone that the unit has failed; its command is filled in by the caller.
    Alert,
    /// A setup step, on the state that is being made and without a network.
    Setup(usize),
    /// A step that makes a state of a dump, on a state that is being made and without a network.
    Restore(usize),
    /// A step between versions of the state, on a copy of it and without a network.
    Migrate {
        /// Which.
        step: usize,
        /// Whether it is the way down.
        down: bool,
    },
}

impl Role {
    /// Whether it works on a state that is not in place yet, before the unit runs.
    fn is_apart(self) -> bool {
        matches!(self, Role::Setup(_) | Role::Restore(_) | Role::Migrate { .. })
    }
}

/// A unit with all that its sandbox is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Where things are.
    pub config: &'a Config,
    /// The appliance.
    pub manifest: &'a Manifest,
    /// The unit's name.
    pub name: &'a str,
    /// The unit.
    pub unit: &'a ManifestUnit,
    /// Its secrets, by name.
    pub secrets: &'a BTreeMap<String, String>,
    /// Its rendered templates, by path inside.
    pub rendered: &'a BTreeMap<String, String>,
    /// The file of name servers, for those that may go out.
    pub resolv: Option<&'a Path>,
    /// Paths inside that its root holds, of those that the sandbox can do without.
    pub optional: &'a [&'a str],
}

/// Where sandboxes see their generated name servers and hosts, if their root has the place; and the locale, likewise.
pub const OPTIONAL: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", LOCALE];
/// Part of Debian's locale `C.UTF-8`. It is in libc-bin, which not every root has; and a program may refuse to start in a locale that
/// is not there.
const LOCALE: &str = "/usr/lib/locale/C.utf8/LC_CTYPE";

/// A unit's account by name.
pub fn account<'a>(name: &str, unit: &'a ManifestUnit, user: &str) -> Result<&'a Account, Error> {
    unit.accounts.get(user).ok_or_else(|| Error::Missing {
        unit: name.to_owned(),
        what: format!("the account {user}"),
    })
}

/// The owner of a folder: user and group id inside.
pub fn owner(name: &str, unit: &ManifestUnit, folder: &Directory) -> Result<(u32, u32), Error> {
    let account = account(name, unit, folder.user.as_deref().unwrap_or(&unit.unit.service.user))?;
    let gid = match &folder.group {
        Some(group) => *unit.groups.get(group).ok_or_else(|| Error::Missing {
            unit: name.to_owned(),
            what: format!("the group {group}"),
        })?,
        None => account.gid,
    };
    Ok((account.uid, gid))
}

/// Who runs a command of the unit, and its home: the service's account, or another.
pub(crate) fn user(name: &str, unit: &ManifestUnit, other: Option<&str>) -> Result<(User, PathBuf), Error> {
    let service = &unit.unit.service;
    let wanted = other.unwrap_or(&service.user);
    let account = account(name, unit, wanted)?;
    let mut gid = account.gid;
    if let Some(group) = service.group.as_ref().filter(|_| wanted == service.user) {
        gid = *unit.groups.get(group).ok_or_else(|| Error::Missing {
            unit: name.to_owned(),
            what: format!("the group {group}"),
        })?;
    }
    let user = User {
        uid: account.uid,
        gid,
        groups: account.groups.clone(),
    };
    Ok((user, PathBuf::from(account.home.as_str())))
}

/// Whether a unit sees any secret.
pub(crate) fn shows_secrets(unit: &ManifestUnit) -> bool {
    let shares = unit.unit.provides.values().any(|provide| provide.secret.is_some());
    shares || !unit.unit.secrets.is_empty() || crate::certificates::sees_authority(unit)
}

/// The runtime folders of a unit that other units reach a socket in.
pub fn shared<'a>(manifest: &Manifest, unit: &'a ManifestUnit) -> Vec<(&'a str, &'a Directory)> {
    let needed = |name: &cairn_unit::Name| {
        let mut needs = manifest
            .units
            .values()
            .flat_map(|consumer| consumer.unit.needs.values());
        needs.any(|need| need.from == *name)
    };
    let provided = unit.unit.provides.iter().filter(|(name, _)| needed(name));
    let provided = provided.filter_map(|(_, provide)| provide.socket.as_ref());
    // Cairn itself listens in these before the unit is there.
    let listened = unit.unit.sockets.values().filter_map(|socket| match &socket.listen {
        Listen::Unix(path) => Some(path),
        _ => None,
    });
    // A provider that connects comes to it by these.
    let answered = unit.unit.needs.values().filter_map(|need| need.socket.as_ref());
    let all = provided.chain(listened).chain(answered);
    let sockets: Vec<&Path> = all.map(|path| Path::new(path.as_str())).collect();
    unit.unit
        .runtime
        .iter()
        .filter(|(folder, _)| sockets.iter().any(|s| s.parent() == Some(Path::new(folder.as_str()))))
        .map(|(folder, directory)| (folder.as_str(), directory))
        .collect()
}

/// What the unit's templates can name.
///
/// # Errors
/// A provider's template that names what there is not.
pub fn context(
    manifest: &Manifest,
    name: &str,
    secrets: &BTreeMap<String, String>,
    accounts: &BTreeMap<String, cairn_config::accounts::Account>,
    address: &str,
) -> Result<Context, Error> {
    let known = accounts.iter().map(|(own, account)| {
        let known = Known {
            password: account.password.clone(),
            other: account.old.clone(),
            tells: crate::accounts::tells(manifest, account, address)?,
        };
        Ok((own.clone(), known))
    });
    let mut secrets = secrets.clone();
    for share in crate::accounts::shares(manifest, name) {
        secrets.entry(format!("{}.other", share.own)).or_default();
    }
    let facts = Facts {
        address: address.to_owned(),
        secrets,
        accounts: known.collect::<Result<_, Error>>()?,
    };
    Ok(cairn_config::context::context(manifest, name, &facts))
}

/// A unit's host name: an instance's `@` is a `-`, and the build sees to it that no two are the same.
pub fn host_name(unit: &str) -> String {
    unit.replace('@', "-")
}

fn hosts(manifest: &Manifest, own: &str, unit: &ManifestUnit) -> String {
    // The second is the one in its certificates.
    let names = |unit: &str| {
        format!(
            "{} {}",
            host_name(unit),
            crate::certificates::internal_name(manifest, unit)
        )
    };
    let name = &names(own);
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
    let mut add = |index: u32, names: &str| {
        let _ = writeln!(text, "{} {names}\n{} {names}", ipv4(index), ipv6(index));
    };
    if unit.unit.network.mode == NetworkMode::Bridge {
        add(unit.index, name);
        // Who connects knows the other by name.
        let providers = manifest.bonds(own).filter(|bond| bond.provide.upstream.is_none());
        let providers = providers.map(|bond| (bond.provider, bond.provider_unit));
        let consumers = manifest.consumers(own).filter(|bond| bond.provide.upstream.is_some());
        let consumers = consumers.map(|bond| (bond.consumer, bond.consumer_unit));
        for (peer, unit) in providers
            .chain(consumers)
            .filter(|(_, unit)| unit.unit.network.mode == NetworkMode::Bridge)
        {
            add(unit.index, &names(peer.as_str()));
        }
    } else {
        let _ = writeln!(text, "127.0.0.1 {name}");
    }
    text
}

fn network(unit: &ManifestUnit, role: Role) -> Network {
    if unit.unit.network.mode == NetworkMode::Host && !role.is_apart() {
        return Network::Host;
    }
    match link_of(unit).filter(|_| !role.is_apart()) {
        None => Network::Loopback,
        Some(veth) if crate::listening::needs_network(unit) => Network::Joined(veth),
        Some(veth) => Network::Veth(veth),
    }
}

/// The unit's link to the bridge; none for one without a network.
pub fn link_of(unit: &ManifestUnit) -> Option<Veth> {
    (unit.unit.network.mode == NetworkMode::Bridge).then(|| Veth {
        host_name: link(unit.index),
        bridge: Some(BRIDGE.to_owned()),
        name: "eth0".to_owned(),
        mac: Some(mac(unit.index)),
        ipv4: Some(Ipv4 {
            address: ipv4(unit.index),
            prefix: PREFIX4,
            gateway: Some(GATEWAY4),
        }),
        ipv6: Some(Ipv6 {
            address: ipv6(unit.index),
            prefix: PREFIX6,
            gateway: Some(GATEWAY6),
        }),
    })
}

/// The sandbox of one of the unit's commands.
///
/// # Errors
/// An account or group that the root does not have.
pub fn of(input: &Input<'_>, role: Role) -> Result<Plan, Error> {
    let Input { config, name, unit, .. } = *input;
    let service = &unit.unit.service;
    let (argv, other) = match role {
        Role::Main | Role::Alert => (&service.command, None),
        Role::Before(i) => (service.before.get(i).unwrap_or(&service.command), None),
        Role::After(i) => (service.after.get(i).unwrap_or(&service.command), None),
        Role::Setup(i) => match unit.unit.setup.get(i) {
            Some(step) => (&step.command, step.user.as_deref()),
            None => (&service.command, None),
        },
        Role::Restore(i) => match unit.unit.dump.as_ref().and_then(|dump| dump.restore.get(i)) {
            Some(command) => (command, None),
            None => {
                return Err(Error::Missing {
                    unit: name.to_owned(),
                    what: format!("step {i} of its restore"),
                });
            }
        },
        Role::Migrate { step, down } => {
            let steps = unit.unit.migration.as_ref().map(|migration| &migration.steps);
            let found = steps.and_then(|steps| {
                let step = steps.get(step)?;
                let command = if down { step.down.as_ref()? } else { &step.up };
                Some((command, step.user.as_deref()))
            });
            found.ok_or_else(|| Error::Missing {
                unit: name.to_owned(),
                what: format!("step {step} between versions of its state"),
            })?
        }
    };
    let mut plan = Plan::new(name, &config.at(unit.root.as_str()), id_base(unit.index), argv.clone());
    let (user, home) = user(name, unit, other)?;
    let gid = user.gid;
    let uid = user.uid;
    plan.user = user;
    plan.hostname = Some(host_name(name));
    plan.cwd = service.working_directory.as_str().into();
    plan.network = network(unit, role);
    if plan.network == Network::Host {
        // They are the appliance's there.
        plan.sysctls.clear();
    }
    plan.oom_score_adj = Some(0);
    plan.no_new_privs = !unit.unit.sandbox.new_privileges;
    plan.writable_code = unit.unit.sandbox.writable_code;
    plan.reaper = unit.unit.sandbox.reaper;
    let files = unit.unit.limits.open_files;
    plan.rlimits = vec![
        Rlimit {
            resource: Resource::Nofile,
            soft: files,
            hard: files,
        },
        Rlimit {
            resource: Resource::Core,
            soft: 0,
            hard: 0,
        },
    ];
    let capabilities: Vec<String> = unit
        .unit
        .sandbox
        .capabilities
        .iter()
        .map(|c| format!("CAP_{}", c.to_ascii_uppercase().replace('-', "_")))
        .collect();
    plan.capabilities = Capabilities {
        bounding: capabilities.clone(),
        ambient: capabilities,
    };
    if let Some(seccomp) = &mut plan.seccomp {
        seccomp.allow.extend(unit.unit.sandbox.system_calls.iter().cloned());
        // All of a first state is flushed at once before it is in place; until then none of it counts.
        seccomp.skip_sync = matches!(role, Role::Setup(_) | Role::Restore(_));
        seccomp.clock = role == Role::Main && unit.unit.sandbox.clock;
    }
    let lang = if input.optional.contains(&LOCALE) {
        "C.UTF-8"
    } else {
        "C"
    };
    plan.env = BTreeMap::from([
        ("HOME".to_owned(), home.display().to_string()),
        ("LANG".to_owned(), lang.to_owned()),
        ("LOGNAME".to_owned(), other.unwrap_or(&service.user).to_owned()),
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("USER".to_owned(), other.unwrap_or(&service.user).to_owned()),
    ]);
    plan.env.extend(service.environment.clone());
    mounts(input, role, uid, gid, &mut plan)?;
    Ok(plan)
}

fn mounts(input: &Input<'_>, role: Role, uid: u32, gid: u32, plan: &mut Plan) -> Result<(), Error> {
    let Input {
        config,
        manifest,
        name,
        unit,
        ..
    } = *input;
    let bind = |source: PathBuf, target: &str, read_only, idmapped| Mount::Bind {
        source,
        target: target.into(),
        read_only,
        idmapped,
        recursive: false,
        exec: false,
        suid: false,
    };
    if !unit.unit.runtime.contains_key("/run") {
        let run = Mount::Tmpfs {
            target: "/run".into(),
            size: 16 << 20,
            mode: 0o755,
            uid: 0,
            gid: 0,
            exec: false,
        };
        plan.mounts.push(run);
    }
    // A server that a step between versions or of a restore runs is nobody else's.
    let shared_folders = match role {
        Role::Migrate { .. } | Role::Restore(_) => Vec::new(),
        _ => shared(manifest, unit),
    };
    for (path, folder) in &unit.unit.runtime {
        let (uid, gid) = owner(name, unit, folder)?;
        let target = path.as_str();
        plan.mounts
            .push(if shared_folders.iter().any(|(shared, _)| *shared == target) {
                bind(config.shared(name).join(escape(target)), target, false, true)
            } else {
                Mount::Tmpfs {
                    target: target.into(),
                    size: 64 << 20,
                    mode: folder.mode.0,
                    uid,
                    gid,
                    exec: false,
                }
            });
    }
    let state = if role.is_apart() {
        config.new_state(name)
    } else {
        config.state(name)
    };
    for path in unit.unit.state.keys() {
        plan.mounts
            .push(bind(state.join(escape(path.as_str())), path.as_str(), false, true));
    }
    for bond in manifest.bonds(name) {
        let socket = bond.provide.socket.as_ref();
        let folder = socket
            .and_then(|s| Path::new(s.as_str()).parent())
            .and_then(Path::to_str);
        if let Some(folder) = folder
            && shared(manifest, bond.provider_unit)
                .iter()
                .any(|(shared, _)| *shared == folder)
        {
            let source = config.shared(bond.provider.as_str()).join(escape(folder));
            plan.mounts.push(bind(source, folder, true, true));
        }
    }
    for bond in manifest.consumers(name).filter(|_| !role.is_apart()) {
        let socket = bond.need.socket.as_ref();
        let folder = socket
            .and_then(|s| Path::new(s.as_str()).parent())
            .and_then(Path::to_str);
        if let Some(folder) = folder.filter(|_| bond.provide.upstream.is_some()) {
            let source = config.shared(bond.consumer.as_str()).join(escape(folder));
            plan.mounts.push(bind(source, &bond.upstream_folder(), true, true));
        }
    }
    // Folders of others that it may see, but never in the place of its own.
    for bond in manifest.bonds(name) {
        if let Some(folder) = bond
            .provide
            .folder
            .as_ref()
            .filter(|f| !unit.unit.state.contains_key(*f))
        {
            let source = config.state(bond.provider.as_str()).join(escape(folder.as_str()));
            plan.mounts
                .push(bind(source, folder.as_str(), !bond.provide.writable, true));
        }
    }
    // A renewed certificate comes into a running sandbox by this folder. A setup step may have another account, and ends soon.
    let setup = role.is_apart();
    if !setup && shows_secrets(unit) {
        plan.mounts
            .push(bind(config.shown_secrets(name), "/run/secrets", true, true));
    }
    if !setup && !unit.templates.is_empty() {
        plan.mounts
            .push(bind(config.rendered(name), Template::FOLDER, true, true));
    }
    let secrets = input.secrets.iter().map(|(secret, text)| {
        let target = Path::new("/run/secrets").join(secret);
        (target, text, 0o400, uid)
    });
    let rendered = input.rendered.iter().map(|(path, text)| {
        let target = Path::new(Template::FOLDER).join(path.trim_start_matches('/'));
        (target, text, 0o640, 0)
    });
    for (target, text, mode, uid) in secrets.chain(rendered).filter(|_| setup) {
        plan.mounts.push(Mount::File {
            target,
            content: Content::new(text.as_bytes()),
            mode,
            uid,
            gid,
        });
    }
    for path in input.optional {
        let mount = match *path {
            "/etc/hosts" => Some(cairn_sandbox::file(path, hosts(manifest, name, unit), 0o644)),
            LOCALE => None,
            // The network's own file, so that a running unit sees what it says later.
            _ => input
                .resolv
                .filter(|_| unit.unit.network.outbound)
                .map(|file| bind(file.to_owned(), path, true, false)),
        };
        plan.mounts.extend(mount);
    }
    plan.mounts.push(bind(config.dev_log(name), "/dev/log", false, false));
    if unit.unit.sandbox.control.is_some() && !setup {
        plan.mounts
            .push(bind(config.control(), "/run/cairn/control.sock", false, false));
    }
    if role == Role::Main {
        plan.mounts.push(bind(config.notify(name), "/run/notify", false, false));
        plan.notify_socket = Some("/run/notify".into());
        if let Some(watchdog) = unit.unit.service.watchdog {
            // Without WATCHDOG_PID, which nobody can know before: the whole unit may answer.
            plan.env
                .insert("WATCHDOG_USEC".to_owned(), (watchdog.millis() * 1000).to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

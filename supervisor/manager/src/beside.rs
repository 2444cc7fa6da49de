//! Processes beside the units' own: programs of the host root, and commands that enter a unit's sandbox or run in one of their
//! own for it (reloads, health checks, readiness, alerts).

use std::os::fd::OwnedFd;
use std::path::Path;

use cairn_init::protocol::{ExitStatus, Request};
use cairn_sandbox::{Enter, Job, Network, Plan, Report, Resource, Rlimit};
use cairn_unit::{Command, Manifest, Name};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::error::Error;
use crate::plan::Role;
use crate::supervisor::{Msg, Supervisor};

/// How long a command for a unit may take where nothing else says, in milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// What a process reads, and what it writes to instead of the log, if anything.
type Streams = (Option<OwnedFd>, Option<OwnedFd>);

/// A process beside the units' own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The request for it.
    pub token: u64,
    /// The process; 0 if not known.
    pub pid: i32,
    /// What it is for.
    pub purpose: Purpose,
    /// When it is killed, in milliseconds; never if there is none.
    pub until_ms: Option<u64>,
}

/// What a process beside the units' own is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A program of the host root, by name.
    Host(String),
    /// A unit reads its configuration again.
    Reload(String),
    /// Someone is told that a unit has failed.
    Alert(String),
    /// A unit's health, while its process is the one of this request.
    Health(String, u64),
    /// A unit's readiness, likewise.
    Ready(String, u64),
    /// A unit is dumped, by the name of the dump.
    Dump(String, String),
    /// A unit's step for an account, by its key and a number that tells one step from another.
    Account(String, String, u64),
}

impl Purpose {
    fn unit(&self) -> Option<&str> {
        match self {
            Purpose::Host(_) => None,
            Purpose::Reload(unit)
            | Purpose::Alert(unit)
            | Purpose::Health(unit, _)
            | Purpose::Ready(unit, _)
            | Purpose::Dump(unit, _)
            | Purpose::Account(unit, ..) => Some(unit),
        }
    }

    /// Whether it is of a unit that the appliance has, or of a program whose name is no path.
    pub(crate) fn known(&self, manifest: &Manifest) -> bool {
        match self {
            Purpose::Host(program) => program.parse::<Name>().is_ok(),
            Purpose::Dump(unit, dump) => manifest.units.contains_key(unit.as_str()) && crate::dumps::is_name(dump),
            other => other.unit().is_some_and(|unit| manifest.units.contains_key(unit)),
        }
    }
}

impl Supervisor {
    /// Starts a program of the host root.
    pub(crate) fn spawn_host(&mut self, name: &str, plan: &Plan) {
        let output = || {
            let console = std::fs::OpenOptions::new()
                .append(true)
                .open(self.config.at("/dev/console"));
            console.or_else(|_| std::fs::OpenOptions::new().write(true).open("/dev/null"))
        };
        let folder = self.config.at("/sys/fs/cgroup/cairn").join(name);
        let result = output().map_err(Error::io("open", "/dev/null")).and_then(|output| {
            self.spawn_beside(
                Purpose::Host(name.to_owned()),
                &Job::Start(Box::new(plan.clone())),
                &folder,
                output.into(),
                None,
                (None, None),
            )
        });
        if let Err(e) = result {
            self.console.say(&format!("{name} cannot be started: {e}"));
        }
    }

    /// Runs a command in a unit's running sandbox.
    pub(crate) fn enter(&mut self, purpose: Purpose, command: &Command, within_ms: u64) -> Result<(), Error> {
        let name = purpose.unit().unwrap_or_default().to_owned();
        let folder = self.config.cgroup(&name);
        let pid = self.saved.units.get(&name).map_or(0, |k| k.pid);
        let (plan, _) = self.plan(&name, Role::Main)?;
        let shown = self.config.cgroup_shown(&name);
        let job = Job::from(Enter::new(&plan, pid, &shown, command.clone()));
        self.run_for_unit(purpose, &plan, &job, &folder, within_ms, (None, None))
    }

    /// The same as another account of the unit, with something to read.
    pub(crate) fn enter_as(
        &mut self,
        purpose: Purpose,
        command: &Command,
        user: Option<&str>,
        stdin: &[u8],
        within_ms: u64,
    ) -> Result<(), Error> {
        let name = purpose.unit().unwrap_or_default().to_owned();
        let folder = self.config.cgroup(&name);
        let pid = self.saved.units.get(&name).map_or(0, |k| k.pid);
        let (mut plan, _) = self.plan(&name, Role::Main)?;
        if let Some(unit) = self.manifest.units.get(name.as_str()) {
            plan.user = crate::plan::user(&name, unit, user)?.0;
        }
        let shown = self.config.cgroup_shown(&name);
        let mut enter = Enter::new(&plan, pid, &shown, command.clone());
        enter.env.remove("NOTIFY_SOCKET");
        let stdin = crate::io::memory("stdin", stdin).map_err(Error::io("make", "a descriptor"))?;
        self.run_for_unit(
            purpose,
            &plan,
            &Job::from(enter),
            &folder,
            within_ms,
            (Some(stdin), None),
        )
    }

    /// The same as the unit's own, with its standard output in a file of at most so many bytes.
    pub(crate) fn enter_into(
        &mut self,
        purpose: Purpose,
        command: &Command,
        stdout: OwnedFd,
        most: u64,
        within_ms: u64,
    ) -> Result<(), Error> {
        let name = purpose.unit().unwrap_or_default().to_owned();
        let folder = self.config.cgroup(&name);
        let pid = self.saved.units.get(&name).map_or(0, |k| k.pid);
        let (plan, _) = self.plan(&name, Role::Main)?;
        let shown = self.config.cgroup_shown(&name);
        let mut enter = Enter::new(&plan, pid, &shown, command.clone());
        enter.env.remove("NOTIFY_SOCKET");
        enter.rlimits.push(Rlimit {
            resource: Resource::Fsize,
            soft: most,
            hard: most,
        });
        let streams = (None, Some(stdout));
        self.run_for_unit(purpose, &plan, &Job::from(enter), &folder, within_ms, streams)
    }

    /// Runs the command that tells of a unit's failure, in a sandbox of its own.
    pub(crate) fn alert(&mut self, name: &str, command: &Command, reason: &str) -> Result<(), Error> {
        let folder = self.config.cgroup(name);
        let (mut plan, _) = self.plan(name, Role::Alert)?;
        plan.argv.clone_from(command);
        // The network that stood for a unit that has failed goes with its sockets; this one takes its place.
        if let Network::Joined(veth) = plan.network {
            plan.network = Network::Veth(veth);
        }
        plan.env.insert("CAIRN_UNIT".into(), name.to_owned());
        plan.env.insert("CAIRN_REASON".into(), reason.replace('\0', ""));
        let job = Job::Start(Box::new(plan.clone()));
        self.run_for_unit(
            Purpose::Alert(name.to_owned()),
            &plan,
            &job,
            &folder,
            PATIENCE_MS,
            (None, None),
        )
    }

    fn run_for_unit(
        &mut self,
        purpose: Purpose,
        plan: &Plan,
        job: &Job,
        folder: &Path,
        within_ms: u64,
        streams: Streams,
    ) -> Result<(), Error> {
        let name = purpose.unit().unwrap_or_default().to_owned();
        let base = self
            .manifest
            .units
            .get(name.as_str())
            .map_or(0, |u| crate::address::id_base(u.index));
        let output = self.output(&name, base + plan.user.uid)?;
        let until_ms = Some(now_ms().saturating_add(within_ms));
        self.spawn_beside(purpose, job, folder, output, until_ms, streams)
    }

    fn spawn_beside(
        &mut self,
        purpose: Purpose,
        job: &Job,
        folder: &Path,
        output: OwnedFd,
        until_ms: Option<u64>,
        (stdin, stdout): Streams,
    ) -> Result<(), Error> {
        let wrap = |e: std::io::Error| Error::io("make", "a descriptor")(e);
        std::fs::create_dir_all(folder).map_err(Error::io("make the cgroup", folder))?;
        let group = std::fs::File::open(folder).map_err(Error::io("open the cgroup", folder))?;
        let json = serde_json::to_vec(job).map_err(|e| Error::Init(e.to_string()))?;
        let error = output.try_clone().map_err(wrap)?;
        let (ours, theirs) = crate::io::status_pair().map_err(wrap)?;
        let plan = crate::io::memory("plan", &json).map_err(wrap)?;
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => crate::io::null().map_err(wrap)?,
        };
        let output = stdout.unwrap_or(output);
        self.saved.token += 1;
        let token = self.saved.token;
        self.beside_status.push((token, ours));
        self.saved.beside.push(Beside {
            token,
            pid: 0,
            purpose,
            until_ms,
        });
        self.post(
            Request::Spawn { token, listen: 0 },
            vec![plan, group.into(), stdin, output, error, theirs],
        );
        Ok(())
    }

    /// Learns the processes from what their helpers reported, and what went wrong.
    fn read_beside_status(&mut self) {
        let mut buffer = [0u8; 8192];
        for (token, socket) in &self.beside_status {
            while let Ok((length @ 1.., _)) = rustix::net::recv(socket, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
                match Report::parse(&buffer[..length]) {
                    Ok(Report::Pid { pid }) => {
                        let mine = self.saved.beside.iter_mut().filter(|b| b.token == *token);
                        mine.for_each(|b| b.pid = pid);
                    }
                    Ok(Report::Failed(failure)) => self.console.say(&failure.to_string()),
                    _ => {}
                }
            }
        }
    }

    /// Whether this end was that of such a process.
    pub(crate) fn beside_exited(&mut self, token: u64, pid: i32, status: ExitStatus) -> bool {
        self.read_beside_status();
        let helper = self
            .saved
            .beside
            .iter()
            .find(|b| token != 0 && b.token == token && b.pid != pid)
            .map(|b| b.pid);
        if let Some(main) = helper
            && status.success()
        {
            // The helper did its work; the program itself may have ended before.
            if let Some(at) = self.saved.strays.iter().position(|(stray, _)| *stray == main)
                && let Some((_, status)) = self.saved.strays.remove(at)
            {
                return self.beside_exited(0, main, ExitStatus(status));
            }
            return true;
        }
        let found = self
            .saved
            .beside
            .iter()
            .position(|b| (token != 0 && b.token == token) || (pid != 0 && b.pid == pid));
        let Some(at) = found else { return false };
        let beside = self.saved.beside.remove(at);
        self.beside_status.retain(|(t, _)| *t != beside.token);
        self.beside_ended(beside, status);
        true
    }

    fn beside_ended(&mut self, beside: Beside, status: ExitStatus) {
        let failed = || format!("the command ended: {status}");
        match beside.purpose {
            Purpose::Host(name) if name == "firewall" => self.firewall_ended(status),
            Purpose::Host(name) if name == "upgrade" => self.upgrade_ended(status),
            Purpose::Host(name) if !status.success() => self.console.say(&format!("{name} ended: {status}")),
            Purpose::Host(_) => {}
            Purpose::Reload(unit) if status.success() => self.console.say(&format!("unit {unit}: reloaded")),
            Purpose::Reload(unit) => {
                let line = format!("unit {unit}: could not reload: {}; it runs on", failed());
                self.console.say(&line);
            }
            Purpose::Alert(unit) if !status.success() => {
                let line = format!("unit {unit}: nobody was told of its failure: {}", failed());
                self.console.say(&line);
            }
            Purpose::Alert(_) => {}
            Purpose::Health(unit, of) => {
                let result = if status.success() { Ok(()) } else { Err(failed()) };
                self.health_told(&unit, of, result);
                self.check_again(&unit, of);
            }
            Purpose::Ready(unit, of) if status.success() => {
                let _ = self.send.send(Msg::Sign(unit, of));
            }
            Purpose::Ready(unit, of) => self.ask_ready_again(&unit, of),
            Purpose::Dump(unit, dump) => {
                let result = if status.success() { Ok(()) } else { Err(failed()) };
                self.dump_written(&unit, dump, result);
            }
            Purpose::Account(unit, key, number) => {
                let done = status.success() || self.account_step_done(&key, number, status);
                let result = if done { Ok(()) } else { Err(failed()) };
                self.account_step_ended(&unit, &key, number, result);
            }
        }
    }

    /// Kills what has had its time.
    pub(crate) fn end_late_beside(&mut self, now: u64) {
        self.read_beside_status();
        for beside in &mut self.saved.beside {
            if beside.until_ms.is_some_and(|until| until <= now) {
                // Killed again if it is still there then.
                beside.until_ms = Some(now.saturating_add(1000));
                let process = rustix::process::Pid::from_raw(beside.pid).filter(|_| {
                    let unit = beside.purpose.unit();
                    unit.is_some_and(|unit| crate::cgroup::holds(&self.config.cgroup(unit), beside.pid))
                });
                if let Some(process) = process {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// A successor knows no status sockets: what did not tell its process before is not waited for.
    pub(crate) fn adopt_beside(&mut self) {
        let config = self.config.clone();
        let there = |b: &Beside| match &b.purpose {
            Purpose::Host(_) => true,
            // These are begun anew.
            Purpose::Health(..) | Purpose::Ready(..) | Purpose::Account(..) => false,
            Purpose::Reload(unit) | Purpose::Alert(unit) | Purpose::Dump(unit, _) => {
                b.pid != 0 && crate::cgroup::holds(&config.cgroup(unit), b.pid)
            }
        };
        self.saved.beside.retain(there);
    }
}

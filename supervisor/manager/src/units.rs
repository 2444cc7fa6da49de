//! The supervisor's units: events in, actions out, processes begun, watched and ended.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cairn_init::protocol::Request;
use cairn_sandbox::{Network, Plan};
use cairn_unit::{ManifestUnit, ReadyWhen, StateVersion};

use crate::clock::now_ms;
use crate::data::Readied;
use crate::dumps::{Restores, Settled};
use crate::error::Error;
use crate::io::{memory, notify_socket, null, status_pair, watch};
use crate::machine::{Action, Busy, End, Event, State};
use crate::migrate::{States, Way};
use crate::plan::{Input, OPTIONAL, Role};
use crate::saved::Watchdog;
use crate::supervisor::{Msg, Supervisor};
use crate::{address, cgroup, data};

impl Supervisor {
    /// One event of one unit, and what follows from it.
    pub(crate) fn feed(&mut self, name: &str, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let (Some(live), Some(kept)) = (self.live.get(name), self.saved.units.get_mut(name)) else {
                return;
            };
            let before = kept.machine.state.clone();
            let (machine, action) = std::mem::take(&mut kept.machine).step(&live.rules, event, now_ms());
            kept.machine = machine;
            if kept.machine.busy != Busy::Process {
                kept.token = 0;
                kept.pid = 0;
                kept.ended = None;
                kept.open = false;
                kept.granted.clear();
            }
            if !kept.machine.ready() {
                kept.reload = None;
                kept.ill = (0, String::new());
            }
            if !matches!(kept.machine.state, State::Ready { .. } | State::Starting { .. }) {
                kept.watchdog = None;
                kept.leaves_by = None;
            }
            if let Some(watchdog) = kept.watchdog.as_mut().filter(|w| w.at_ms.is_none())
                && kept.machine.ready()
            {
                watchdog.at_ms = Some(now_ms().saturating_add(watchdog.every_ms));
            }
            if kept.machine.state != before {
                self.changed(name, &before);
            }
            if let Some(action) = action {
                next = self.act(name, action);
            }
        }
    }

    fn act(&mut self, name: &str, action: Action) -> Option<Event> {
        let role = match action {
            Action::Prepare | Action::Commit | Action::PutBack | Action::Copy | Action::Replace => {
                self.work_on_files(name, action);
                return None;
            }
            Action::Setup(step) => Role::Setup(step),
            Action::Restore(step) => self.restore_role(name, step),
            Action::Migrate(step) => match self.migration_role(name, step) {
                Ok(role) => role,
                Err(error) => return Some(Event::Exited(End::Because(error.to_string()))),
            },
            Action::Before(step) => Role::Before(step),
            Action::Main => Role::Main,
            Action::After(step) => Role::After(step),
            Action::Signal | Action::Kill => {
                self.end(name, action == Action::Kill);
                return None;
            }
        };
        let error = self.spawn(name, role).err()?;
        Some(Event::Exited(End::Because(error.to_string())))
    }

    /// Preparing and committing wait for the disk, so they have a thread of their own.
    fn work_on_files(&mut self, name: &str, action: Action) {
        let (config, manifest, send) = (self.config.clone(), self.manifest.clone(), self.send.clone());
        let (name, address) = (name.to_owned(), self.address());
        let bounded = self.quotas;
        let lower = self.saved.units.get(&name).and_then(|kept| kept.lower.clone());
        let halt = Arc::new(AtomicBool::new(false));
        let folders = self.live.get_mut(&name).map(|live| {
            live.halt = halt.clone();
            live.folders.clone()
        });
        tokio::task::spawn_blocking(move || {
            let _alone = folders
                .as_ref()
                .map(|folders| folders.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(unit) = manifest.units.get(name.as_str()) else {
                return;
            };
            let wanted = lower.as_ref().unwrap_or(&unit.state_version);
            let result = match action {
                Action::Commit => data::commit(&config, &name).map(|()| Event::Committed),
                Action::PutBack => Restores::of(&config, &name).commit().map(|()| Event::Committed),
                Action::Copy => {
                    let stop = || halt.load(Ordering::Relaxed);
                    data::copy(&config, &name, unit, bounded, &stop).map(|()| Event::Copied)
                }
                Action::Replace => {
                    let replaced =
                        States::of(&config, &name).commit(wanted, &manifest.version, crate::clock::seconds());
                    replaced.map(|()| Event::Committed)
                }
                _ => {
                    let settled = match unit.unit.dump.is_some() && lower.is_none() {
                        true => Restores::of(&config, &name).settle(wanted),
                        false => Ok(Settled::None),
                    };
                    let _ = match &settled {
                        Ok(Settled::Done(dump)) => send.send(Msg::RestoreEnded(name.clone(), Ok(dump.clone()))),
                        Ok(Settled::GivenUp(why)) => send.send(Msg::RestoreEnded(name.clone(), Err(why.clone()))),
                        _ => Ok(()),
                    };
                    let prepared =
                        settled.and_then(|_| data::prepare(&config, &manifest, &name, unit, &address, wanted));
                    let bound = |readied| match bounded {
                        true => data::bound(&config, &name, unit).map(|()| readied),
                        false => Ok(readied),
                    };
                    prepared.and_then(bound).map(|readied| {
                        if let Readied::Restored(since) = readied {
                            let _ = send.send(Msg::Restored(name.clone(), since));
                        }
                        prepared_event(readied, unit, lower.as_ref())
                    })
                }
            };
            let event = result.unwrap_or_else(|e| match e {
                Error::State(why) if action == Action::Prepare => Event::Refused(why),
                e => Event::Failed(e.to_string()),
            });
            let _ = send.send(Msg::Done(name, event));
        });
    }

    /// Which of the unit's steps between versions is number `step` of those that run now.
    fn migration_role(&self, name: &str, step: usize) -> Result<Role, Error> {
        let missing = || Error::Missing {
            unit: name.to_owned(),
            what: "the unit".into(),
        };
        let unit = self.manifest.units.get(name).ok_or_else(missing)?;
        let lower = self.saved.units.get(name).and_then(|kept| kept.lower.as_ref());
        let wanted = lower.unwrap_or(&unit.state_version);
        let (step, down) = data::step(&self.config, name, unit, wanted, step)?;
        Ok(Role::Migrate { step, down })
    }

    pub(crate) fn plan(&self, name: &str, role: Role) -> Result<(Plan, Vec<u8>), Error> {
        let missing = || Error::Missing {
            unit: name.to_owned(),
            what: "the unit".into(),
        };
        let unit = self.manifest.units.get(name).ok_or_else(missing)?;
        let prepared = data::load(&self.config, &self.manifest, name, unit, &self.address())?;
        let root = self.config.at(unit.root.as_str());
        let optional: Vec<&str> = OPTIONAL
            .into_iter()
            .filter(|p| root.join(p.trim_start_matches('/')).is_file())
            .collect();
        let resolv = Some(self.config.resolv()).filter(|path| path.exists());
        let input = Input {
            config: &self.config,
            manifest: &self.manifest,
            name,
            unit,
            secrets: &prepared.secrets,
            rendered: &prepared.rendered,
            resolv: resolv.as_deref(),
            optional: &optional,
        };
        let plan = crate::plan::of(&input, role)?;
        let mut stdin = Vec::new();
        if let Role::Setup(step) = role {
            for path in unit
                .unit
                .setup
                .get(step)
                .map(|s| s.stdin.as_slice())
                .unwrap_or_default()
            {
                match prepared.rendered.get(path.as_str()) {
                    Some(text) => stdin.extend_from_slice(text.as_bytes()),
                    None => stdin.extend_from_slice(&data::root_file(&self.config, unit, path.as_str())?),
                }
            }
        }
        Ok((plan, stdin))
    }

    fn spawn(&mut self, name: &str, role: Role) -> Result<(), Error> {
        let wrap = |what: &'static str| move |e: std::io::Error| Error::io(what, "a descriptor")(e);
        let folder = self.config.cgroup(name);
        let (mut plan, stdin) = self.plan(name, role)?;
        let Some(unit) = self.manifest.units.get(name) else {
            return Ok(());
        };
        let mut kept_for_it = Vec::new();
        if role == Role::Main && !unit.unit.sockets.is_empty() {
            let sockets = self.sockets(name).ok_or_else(|| Error::Sandbox {
                unit: name.to_owned(),
                why: "its sockets are not open".into(),
            })?;
            for (own, fd) in unit.unit.sockets.keys().zip(sockets) {
                plan.listen_fds.push(own.to_string());
                kept_for_it.push(fd.try_clone().map_err(wrap("copy"))?);
            }
        }
        if role == Role::Main {
            for (own, fd) in self.live.get(name).into_iter().flat_map(|live| &live.stored) {
                plan.listen_fds.push(own.clone());
                kept_for_it.push(fd.try_clone().map_err(wrap("copy"))?);
            }
        }
        if let Some(network) = self.live.get(name).and_then(|live| live.demand.network.as_ref())
            && matches!(plan.network, Network::Joined(_))
        {
            kept_for_it.push(network.try_clone().map_err(wrap("copy"))?);
        }
        let open = self.open_plan(name, role, &mut plan);
        let group: OwnedFd = cgroup::make(&folder, &unit.unit.limits)?.into();
        let base = address::id_base(unit.index);
        let watchdog = self.live.get(name).and_then(|l| l.rules.watchdog_ms);
        if role == Role::Main && self.live.get(name).is_some_and(|l| l.notify.is_none()) {
            let path = self.config.notify(name);
            let socket = notify_socket(&path).map_err(Error::io("make", &path))?;
            self.store("notify", name, socket.try_clone().map_err(wrap("copy"))?);
            let unit = name.to_owned();
            let watched = watch(socket, self.send.clone(), move || Msg::Notify(unit.clone())).map_err(wrap("watch"))?;
            if let Some(live) = self.live.get_mut(name) {
                live.notify = Some(watched.0);
            }
        }
        let out = self.output(name, base + plan.user.uid)?;
        let json = serde_json::to_vec(&plan).map_err(|e| Error::Init(format!("the plan: {e}")))?;
        let plan = memory("plan", &json).map_err(wrap("make"))?;
        let stdin = match role {
            Role::Restore(0) => self.dump_to_restore(name)?,
            _ if stdin.is_empty() => null().map_err(wrap("make"))?,
            _ => memory("stdin", &stdin).map_err(wrap("make"))?,
        };
        let (ours, theirs) = status_pair().map_err(wrap("make"))?;
        self.store("status", name, ours.try_clone().map_err(wrap("copy"))?);
        let of = name.to_owned();
        let (status, task) = watch(ours, self.send.clone(), move || Msg::Status(of.clone())).map_err(wrap("watch"))?;
        self.saved.token += 1;
        let token = self.saved.token;
        if let Some(live) = self.live.get_mut(name) {
            live.tasks.iter().for_each(|t| t.abort());
            live.tasks = vec![task];
            live.status = Some(status);
        }
        if let Some(kept) = self.saved.units.get_mut(name) {
            kept.token = token;
            kept.pid = 0;
            kept.ended = None;
            kept.open = open;
            kept.report = None;
            kept.oom = cgroup::out_of_memory(&folder);
            kept.status.clear();
            kept.errno = 0;
            if role == Role::Main {
                kept.last_start = Some(crate::clock::seconds());
                kept.watchdog = watchdog.map(|every_ms| Watchdog { every_ms, at_ms: None });
            }
        }
        let error = out.try_clone().map_err(wrap("copy"))?;
        let listen = u8::try_from(kept_for_it.len()).unwrap_or(u8::MAX);
        let mut fds = vec![plan, group, stdin, out, error, theirs];
        fds.extend(kept_for_it);
        self.post(Request::Spawn { token, listen }, fds);
        if role == Role::Main {
            self.note_times(name, false);
            self.watch_sign(name, token);
        }
        Ok(())
    }

    /// Watches for a port or a file as the sign of readiness.
    pub(crate) fn watch_sign(&mut self, name: &str, token: u64) {
        let Some(unit) = self.manifest.units.get(name) else {
            return;
        };
        let (send, of) = (self.send.clone(), name.to_owned());
        let task = match unit.unit.ready.as_ref().map(|r| r.when.clone()) {
            Some(ReadyWhen::Port(port)) => {
                let at = std::net::SocketAddr::from((address::ipv4(unit.index), port));
                tokio::spawn(async move {
                    let pause = Duration::from_millis(100);
                    while !tokio::time::timeout(Duration::from_secs(1), tokio::net::TcpStream::connect(at))
                        .await
                        .is_ok_and(|connected| connected.is_ok())
                    {
                        tokio::time::sleep(pause).await;
                    }
                    let _ = send.send(Msg::Sign(of, token));
                })
            }
            Some(ReadyWhen::File(path)) => {
                let group = self.config.cgroup(name).join("cgroup.procs");
                let path = path.as_str().trim_start_matches('/').to_owned();
                tokio::spawn(async move {
                    while !seen_inside(&group, &path) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    let _ = send.send(Msg::Sign(of, token));
                })
            }
            Some(ReadyWhen::Log(text)) => {
                self.logs.wait_for(name, token, &text);
                return;
            }
            // A service says so itself; a command is asked once the process runs.
            Some(ReadyWhen::Notify | ReadyWhen::Command(_)) | None => return,
        };
        if let Some(live) = self.live.get_mut(name) {
            live.tasks.push(task);
        }
    }
}

/// What follows from what a start found. A unit whose state was brought down for another version of the appliance does not start in this one.
fn prepared_event(readied: Readied, unit: &ManifestUnit, lower: Option<&StateVersion>) -> Event {
    match (readied, lower) {
        (Readied::Setup, _) => Event::Prepared { setup: true },
        (Readied::Restore, _) => Event::Restore,
        (Readied::Migrate(way), lower) => {
            let (Way::Up(steps) | Way::Down(steps)) = way else {
                return Event::Prepared { setup: false };
            };
            let all = unit.unit.migration.as_ref().map_or(&[][..], |m| &m.steps);
            let timeouts = steps.iter().filter_map(|step| all.get(*step));
            Event::Migrate {
                timeouts: timeouts.map(|step| step.timeout.millis()).collect(),
                rest: lower.is_some(),
            }
        }
        (_, Some(lower)) => Event::Refused(format!(
            "its state has version {lower}, for the version of the appliance that the next restart starts"
        )),
        (_, None) => Event::Prepared { setup: false },
    }
}

/// Whether a process of the group sees something at `path`.
fn seen_inside(group: &std::path::Path, path: &str) -> bool {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let Ok(text) = std::fs::read_to_string(group) else {
        return false;
    };
    text.lines().any(|pid| {
        let Ok(root) = std::fs::File::open(format!("/proc/{pid}/root")) else {
            return false;
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).is_ok()
    })
}

//! The control API's answers: what each endpoint does with the supervisor.

use cairn_api::{
    Accepted, Boot, Clock, Edge, EdgeKind, Endpoint, Explained, Graph, Health, ImportCertificate, MachineState, Node,
    Room, SettingsWritten, SetupCode, Status, Step, Top, UnitPhases, UnitStatus,
};
use cairn_init::protocol::Request;
use cairn_sandbox::{Enter, Job};
use cairn_unit::Protocol;

use crate::clock::now_ms;
use crate::control::{Answered, Asked};
use crate::machine::{Event, State};
use crate::plan::Role;
use crate::supervisor::Supervisor;
use crate::{explain, usage};

/// What is done with a unit and those around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Start,
    Stop,
    Restart,
}

impl Supervisor {
    /// The machine, as it is now.
    fn machine_state(&self) -> MachineState {
        let machine = crate::setup::machine(&self.config);
        let data = rustix::fs::statvfs(self.config.at("/data")).map_or_else(
            |_| Room::default(),
            |fs| Room {
                size: fs.f_blocks.saturating_mul(fs.f_frsize),
                used: fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize),
                free: fs.f_bavail.saturating_mul(fs.f_frsize),
            },
        );
        let error_us = crate::io::clock_kept();
        MachineState {
            memory: machine.memory,
            cpus: machine.cpus,
            data,
            encryption: self.data_encryption(),
            clock: Clock {
                now: crate::clock::timestamp().to_string(),
                synchronised: error_us.is_some(),
                error_us,
            },
        }
    }

    /// Answers a control request. Who may ask was decided before.
    pub(crate) fn answer(&mut self, asked: Asked) {
        let name = asked.values.first().cloned().unwrap_or_default();
        let unknown = !asked.values.is_empty() && !self.live.contains_key(&name);
        let answer = if unknown {
            let near = cairn_unit::nearest(&name, self.live.keys().map(String::as_str));
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            Answered::error(404, &format!("there is no unit {name}{hint}"))
        } else {
            self.answer_known(&asked, &name)
        };
        let _ = asked.answer.send(answer);
    }

    fn answer_known(&mut self, asked: &Asked, name: &str) -> Answered {
        match asked.endpoint {
            Endpoint::OpenApi => Answered::json(200, &cairn_api::openapi()),
            Endpoint::Status => Answered::of(200, &self.status()),
            Endpoint::Boot => Answered::of(200, &self.boot()),
            Endpoint::Top => Answered::of(200, &self.top()),
            Endpoint::Graph => Answered::of(200, &self.graph()),
            Endpoint::Explain => match self.explained(name) {
                Some(explained) => Answered::of(200, &explained),
                None => Answered::error(404, &format!("there is no unit {name}")),
            },
            Endpoint::Security => self.security(None),
            Endpoint::SecurityOfUnit => self.security(Some(name)),
            Endpoint::EnterJob => self.enter_job(name),
            Endpoint::Learned => self.learned(name),
            Endpoint::Learn => self.learn(name, asked.query("for")),
            Endpoint::Start => self.command(name, Command::Start),
            Endpoint::Stop => self.command(name, Command::Stop),
            Endpoint::Restart => self.command(name, Command::Restart),
            Endpoint::ReloadUnit => self.reload_unit(name),
            Endpoint::Kill => self.kill_unit(name, asked.query("signal").unwrap_or("TERM")),
            Endpoint::Dumps => self.all_dumps(),
            Endpoint::DumpsOfUnit => self.dumps_of(name),
            Endpoint::Dump => self.make_dump(name, &asked.who),
            Endpoint::ReadDump => self.read_dump(name, asked.values.get(1).map_or("", String::as_str), &asked.who),
            Endpoint::Restore => self.restore_unit(name, asked.query("dump").unwrap_or_default(), &asked.who),
            Endpoint::WriteSettings => match asked.body() {
                Ok(SettingsWritten { settings }) => self.write_settings(name, &settings, &asked.who),
                Err(refused) => refused,
            },
            Endpoint::Enable => self.enable(name, true, &asked.who),
            Endpoint::Disable => self.enable(name, false, &asked.who),
            Endpoint::Reload => self.reload_site(),
            Endpoint::Machine => Answered::of(200, &self.machine_state()),
            Endpoint::Site => self.site_text(),
            Endpoint::WriteSite => match asked.body() {
                Ok(written) => self.write_site(&written, asked.query("within"), &asked.who),
                Err(refused) => refused,
            },
            Endpoint::SiteHistory => self.site_history(),
            Endpoint::SiteDiff => self.site_diff(asked.query("from"), asked.query("to")),
            Endpoint::SiteRollback => self.roll_back(asked.query("to"), &asked.who),
            Endpoint::Network => self.network_state(),
            Endpoint::ChangeNetwork => match asked.body() {
                Ok(choices) => self.change_network(&choices, asked.query("within"), &asked.who),
                Err(refused) => refused,
            },
            Endpoint::ConfirmNetwork => self.confirm_network(&asked.who),
            Endpoint::UndoNetwork => self.undo_network(&asked.who),
            Endpoint::Setup => Answered::of(200, &self.setup()),
            Endpoint::SetupCode => match asked.body() {
                Ok(SetupCode { code }) => self.setup_code(&code),
                Err(refused) => refused,
            },
            Endpoint::SetupApply => match asked.body() {
                Ok(answers) => self.set_up(&answers, &asked.who),
                Err(refused) => refused,
            },
            Endpoint::Administrator => self.administrator(),
            Endpoint::AdministratorTaken => self.administrator_taken(),
            Endpoint::Accounts => self.listed_accounts(),
            Endpoint::Rotate => self.rotate(asked.query("unit")),
            Endpoint::Purge => self.purge(asked.query("unit").unwrap_or_default()),
            Endpoint::Certificates => self.certificates(),
            Endpoint::RenewCertificates => self.renew_certificates(false),
            Endpoint::ImportCertificate => match asked.body() {
                Ok(ImportCertificate { pem }) => self.import_certificate(&pem),
                Err(refused) => refused,
            },
            Endpoint::RemoveCertificate => self.remove_certificate(asked.query("id").unwrap_or_default()),
            Endpoint::ReplaceAuthority => self.renew_certificates(true),
            Endpoint::Upgrade => self.upgrade(asked.query("file").unwrap_or_default()),
            Endpoint::Upgrades => self.upgrades(),
            Endpoint::UpgradeHistory => self.upgrade_history(),
            Endpoint::CheckUpgrade => self.work_on_upgrade("check", asked.query("from"), false),
            Endpoint::InstallUpgrade => match self.held_back(asked.query("force") == Some("1")) {
                Some(refused) => refused,
                None => self.work_on_upgrade("install", asked.query("from"), asked.query("now") == Some("1")),
            },
            Endpoint::RollBackUpgrade => self.roll_back_upgrade(asked.query("lose-data") == Some("1")),
            Endpoint::HoldUpgrade => {
                let wanted = (asked.query("until"), asked.query("for"), asked.query("reason"));
                self.hold_upgrades(wanted, &asked.who)
            }
            Endpoint::UnholdUpgrade => self.unhold_upgrades(&asked.who),
            Endpoint::PowerOff => {
                self.go_down("poweroff");
                Answered::of(202, &Accepted::default())
            }
            Endpoint::Reboot => {
                self.go_down("reboot");
                Answered::of(202, &Accepted::default())
            }
            Endpoint::FactoryReset => self.factory_reset(asked.query("name").unwrap_or_default()),
            Endpoint::RecoveryKey => self.recovery_key(),
            Endpoint::RecoveryKeySaved => self.recovery_key_saved(),
            // These are answered beside the loop.
            Endpoint::Logs | Endpoint::Events => Answered::error(404, "this is a stream"),
        }
    }

    fn command(&mut self, name: &str, what: Command) -> Answered {
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        if what != Command::Stop && !self.site.enabled(name) {
            return Answered::error(409, &format!("{name} is disabled; `cairn enable {name}` lets it run"));
        }
        // With a unit go those that cannot be without it; and with it come those that it needs.
        let mut affected = vec![name.to_owned()];
        let mut at = 0;
        while let Some(each) = affected.get(at).cloned() {
            at += 1;
            for (other, unit) in &self.manifest.units {
                let linked = match what {
                    Command::Stop => unit.waits_for.iter().any(|w| w.as_str() == each),
                    Command::Start => self
                        .manifest
                        .units
                        .get(each.as_str())
                        .is_some_and(|u| u.waits_for.contains(other)),
                    Command::Restart => false,
                };
                if linked && !affected.iter().any(|a| a == other.as_str()) {
                    affected.push(other.as_str().to_owned());
                }
            }
        }
        for each in &affected {
            if let Some(kept) = self.saved.units.get_mut(each) {
                kept.up = what != Command::Stop;
            }
            if what != Command::Stop {
                self.try_states_again(each);
            }
            match what {
                Command::Start => self.feed(each, Event::Start),
                Command::Restart => self.feed(each, Event::Restart),
                Command::Stop => {
                    // Who stops a failed unit has seen that it failed.
                    let failed = |k: &crate::saved::Kept| matches!(k.machine.state, State::Failed { .. });
                    if self.saved.units.get(each).is_some_and(failed) {
                        self.feed(each, Event::Stop);
                    }
                    // The rest, in its order, is done by `reconcile`.
                }
            }
        }
        Answered::of(202, &Accepted { units: affected })
    }

    fn kill_unit(&self, name: &str, signal: &str) -> Answered {
        let known = serde_json::from_value::<cairn_unit::Signal>(signal.into());
        let Ok(signal) = known else {
            return Answered::error(
                400,
                &format!("{signal} is not a signal's name: write for example TERM or HUP"),
            );
        };
        if self.signal(name, signal.number()) {
            let units = vec![name.to_owned()];
            Answered::of(202, &Accepted { units })
        } else {
            Answered::error(409, &format!("{name} has no process"))
        }
    }

    /// Hands another manager's program to cairn-init, which starts it when this one has ended.
    fn upgrade(&mut self, file: &str) -> Answered {
        if !file.starts_with('/') {
            return Answered::error(400, "name the new manager's program by its absolute path, in `file`");
        }
        match std::fs::File::open(file) {
            Ok(program) => {
                self.post(Request::ReplaceManager, vec![program.into()]);
                Answered::of(202, &Accepted::default())
            }
            Err(e) => Answered::error(400, &format!("{file}: {e}")),
        }
    }

    fn enter_job(&self, name: &str) -> Answered {
        let pid = self.saved.units.get(name).map_or(0, |k| k.pid);
        if pid == 0 {
            return Answered::error(409, &format!("{name} has no process, so there is nothing to enter"));
        }
        match self.plan(name, Role::Main) {
            Ok((plan, _)) => {
                let mut enter = Enter::new(&plan, pid, &self.config.cgroup_shown(name), Vec::new());
                enter.env.remove("NOTIFY_SOCKET");
                let group = self.config.cgroup(name);
                match serde_json::to_value(Job::from(enter)) {
                    Ok(job) => Answered::json(200, &serde_json::json!({ "job": job, "cgroup": group })),
                    Err(e) => Answered::error(500, &e.to_string()),
                }
            }
            Err(e) => Answered::error(409, &e.to_string()),
        }
    }

    /// A unit's state as it is told: one that rests and is started by what comes is listening.
    fn state_name(&self, name: &str) -> &'static str {
        let kept = self.saved.units.get(name);
        match kept.map_or("stopped", |k| k.machine.state.name()) {
            "stopped" if self.waits_for_something(name) => "listening",
            state => state,
        }
    }

    fn unit_status(&self, name: &str) -> Option<UnitStatus> {
        let now = now_ms();
        let (kept, unit) = (self.saved.units.get(name)?, self.manifest.units.get(name)?);
        let reason = match &kept.machine.state {
            State::Failed { reason } | State::Restarting { reason, .. } => reason.clone(),
            _ => String::new(),
        };
        let restart = match kept.machine.state {
            State::Restarting { at_ms, .. } => Some(at_ms.saturating_sub(now)),
            _ => None,
        };
        Some(UnitStatus {
            name: name.to_owned(),
            description: unit.unit.description.clone(),
            state: self.state_name(name).to_owned(),
            reason,
            for_ms: now.saturating_sub(kept.since_ms.max(self.saved.begun_ms)),
            pid: kept.pid,
            failures: kept.machine.attempts,
            wanted: kept.up,
            says: kept.status.clone(),
            errno: kept.errno,
            reloading: kept.reload.is_some(),
            health: Health {
                failed: kept.ill.0,
                last: kept.ill.1.clone(),
            },
            starts_in_ms: restart.or_else(|| self.timer_wait(name)),
            learning_ms: self.learning_ms(name),
        })
    }

    fn status(&self) -> Status {
        Status {
            appliance: self.manifest.name.as_str().to_owned(),
            version: self.manifest.version.clone(),
            address: self.address(),
            network: self.network_notes(),
            ready: self.saved.units.values().all(|k| !k.up || k.machine.ready()),
            firewall: self.saved.firewall,
            going_down: self.saved.power.clone(),
            uptime_ms: now_ms(),
            units: self
                .saved
                .units
                .keys()
                .filter_map(|name| self.unit_status(name))
                .collect(),
        }
    }

    fn boot(&self) -> Boot {
        let text = std::fs::read_to_string(self.config.at("/run/cairn/boot-times")).unwrap_or_default();
        let steps = text.lines().filter_map(|line| {
            let mut words = line.rsplitn(3, ' ');
            let mut ms = || Some(words.next()?.parse::<u64>().ok()? as f64 / 1e6);
            let (end_ms, start_ms) = (ms()?, ms()?);
            let name = words.next()?.to_owned();
            Some(Step { name, start_ms, end_ms })
        });
        let units = self.saved.units.iter().map(|(name, kept)| UnitPhases {
            name: name.clone(),
            waits_for: self.waits_for(name),
            phases: kept.phases.clone(),
        });
        Boot {
            manager_ms: self.started,
            now_ms: now_ms(),
            steps: steps.collect(),
            units: units.collect(),
        }
    }

    fn waits_for(&self, name: &str) -> Vec<String> {
        let waits = self.manifest.units.get(name).map(|u| &u.waits_for);
        waits.into_iter().flatten().map(ToString::to_string).collect()
    }

    fn top(&self) -> Top {
        let units = self.saved.units.keys();
        Top {
            at_ms: now_ms(),
            units: units.map(|name| self.usage(name)).collect(),
        }
    }

    fn usage(&self, name: &str) -> cairn_api::Use {
        let mut usage = usage::read(name, &self.config.cgroup(name));
        let unit = self.manifest.units.get(name).filter(|_| self.quotas);
        if let Some((used, bound)) = unit.and_then(|unit| crate::data::kept(&self.config, unit)) {
            usage.kept = used.bytes;
            usage.kept_max = bound.bytes;
        }
        usage
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph {
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        for (name, unit) in &self.manifest.units {
            let publishes = unit.unit.network.publish.iter().map(|publish| {
                let protocol = match publish.protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                };
                format!("{}/{protocol}", publish.port)
            });
            graph.nodes.push(Node {
                name: name.to_string(),
                state: self.state_name(name.as_str()).to_owned(),
                publishes: publishes.collect(),
            });
            let mut bound = Vec::new();
            for bond in self.manifest.bonds(name.as_str()) {
                let (own, to, provide) = (bond.name, bond.provider, bond.provide);
                let place = match (&provide.socket, &provide.upstream, provide.port) {
                    (Some(socket), ..) => socket.to_string(),
                    (None, Some(_), _) => {
                        let said = bond.need.asks.values().cloned();
                        let port = bond.need.port.map(|port| format!("from port {port}"));
                        let socket = bond.need.socket.as_ref().map(|socket| format!("from {socket}"));
                        said.chain(port).chain(socket).collect::<Vec<_>>().join(" ")
                    }
                    (None, None, Some(port)) => port.to_string(),
                    (None, None, None) => String::new(),
                };
                bound.push(to);
                let account = provide.account.as_ref().map(|_| cairn_unit::account_name(name, own));
                let place = match (account, &provide.secret) {
                    (Some(account), _) => format!("{place}, account {account}"),
                    (None, Some(_)) if place.is_empty() => "a shared secret".to_owned(),
                    (None, Some(_)) => format!("{place}, a shared secret"),
                    (None, None) => place,
                };
                graph.edges.push(Edge {
                    from: name.to_string(),
                    to: to.to_string(),
                    kind: EdgeKind::Binding,
                    label: format!("{own} ({place})"),
                });
            }
            let order = unit.waits_for.iter().filter(|to| !bound.contains(to));
            graph.edges.extend(order.map(|to| Edge {
                from: name.to_string(),
                to: to.to_string(),
                kind: EdgeKind::Order,
                label: String::new(),
            }));
        }
        graph
    }

    fn explained(&self, name: &str) -> Option<Explained> {
        let (unit, live) = (&self.manifest.units.get(name)?.unit, self.live.get(name)?);
        let status = self.unit_status(name)?;
        let waits_for = self.waits_for(name);
        let mut missing: Vec<String> = waits_for.iter().filter(|other| !self.serves(other)).cloned().collect();
        missing.extend(self.ungranted(name));
        let needed_by = self
            .manifest
            .units
            .iter()
            .filter(|(_, u)| u.waits_for.iter().any(|w| w.as_str() == name));
        let limits = crate::cgroup::limits(&unit.limits, None);
        let started_by = explain::started_by(unit);
        let mut why = explain::why(&status, &missing, live.demand.why_not(), &started_by);
        if matches!(status.state.as_str(), "failed" | "restarting")
            && let Some(newest) = self.newest_dump(name)
        {
            let dump = crate::dumps::name_of(newest);
            why.push_str(&format!(
                " If its data is damaged: `cairn restore {name} {dump}` brings back what it kept then."
            ));
        }
        Some(Explained {
            why,
            status,
            started_by,
            waits_for,
            needed_by: needed_by.map(|(other, _)| other.to_string()).collect(),
            ready: explain::ready(unit),
            health: explain::health(unit),
            restart: explain::restart(unit, &live.rules),
            stop: explain::stop(unit),
            reload: explain::reload(unit),
            limits: limits
                .into_iter()
                .map(|(file, value)| (file.to_owned(), value))
                .collect(),
            exceptions: explain::exceptions(unit),
            settings: crate::settings::told(&self.manifest, name),
        })
    }
}

//! The appliance as a whole: what the console says, the host's own programs, the network's news, control and power.

use std::os::fd::OwnedFd;

use cairn_init::protocol::{ExitStatus, PowerKind, Request};
use cairn_sandbox::{Plan, Report};
use serde_json::json;

use crate::clock::now_ms;
use crate::control::{Answered, Asked};
use crate::error::Error;
use crate::machine::{Event, State};
use crate::network::News;
use crate::supervisor::{Msg, Supervisor};
use crate::{firewall, network, plan};

/// How long the whole may take to stop beyond the slowest unit, in milliseconds.
const POWER_EXTRA_MS: u64 = 15_000;
/// How long cairn-init gives what is left, in milliseconds.
const LAST_MS: u32 = 5_000;
/// How long the first address is waited for before the console says what there is, in milliseconds.
const ADDRESS_MS: u64 = 20_000;

impl Supervisor {
    /// The outside address, or nothing.
    pub(crate) fn address(&self) -> String {
        self.saved
            .leases
            .first()
            .map(|(_, l)| l.address.to_string())
            .unwrap_or_default()
    }

    /// What the console says of a unit.
    pub(crate) fn shown(&self, name: &str) -> String {
        let (Some(kept), Some(live)) = (self.saved.units.get(name), self.live.get(name)) else {
            return String::new();
        };
        let step = |step: usize| {
            let setup = self.manifest.units.get(name).and_then(|u| u.unit.setup.get(step));
            setup.map_or("storing the state".to_owned(), |s| s.name.clone())
        };
        match &kept.machine.state {
            State::Waiting => String::new(),
            State::Preparing | State::Starting { .. } => "starting".into(),
            State::SettingUp { step: n } => format!("setting up ({})", step(*n)),
            State::Ready { since_ms } => {
                let took = since_ms.saturating_sub(live.began);
                format!("ready ({}.{} s)", took / 1000, took % 1000 / 100)
            }
            State::Stopping { .. } | State::Finishing { .. } => String::new(),
            State::Stopped => "stopped".into(),
            State::Failed { reason } => format!("failed: {reason}"),
            State::Restarting { at_ms, reason } => {
                let wait = at_ms.saturating_sub(now_ms()).div_ceil(1000);
                format!("failed: {reason}; starting again in {wait} s")
            }
        }
    }

    /// A unit's state is another one.
    pub(crate) fn changed(&mut self, name: &str, before: &State) {
        let now = now_ms();
        let Some(kept) = self.saved.units.get_mut(name) else {
            return;
        };
        let state = kept.machine.state.clone();
        let phase = match &state {
            State::Stopped => "stopped",
            State::Waiting => "waiting",
            State::Preparing => "preparing",
            State::SettingUp { .. } => "setting up",
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Stopping { .. } | State::Finishing { .. } => "stopping",
            State::Failed { .. } => "failed",
            State::Restarting { .. } => "restarting",
        };
        if kept.phases.len() < 64 && kept.phases.last().is_none_or(|(last, _)| last != phase) {
            kept.phases.push((phase.to_owned(), now));
        }
        if let Some(live) = self.live.get_mut(name)
            && matches!(before, State::Waiting)
        {
            live.began = now;
        }
        let shown = self.shown(name);
        let Some(live) = self.live.get_mut(name) else { return };
        if shown.is_empty() || shown == live.shown {
            return;
        }
        self.console.say(&format!("unit {name}: {shown}"));
        live.shown = shown;
        if matches!(state, State::Failed { .. } | State::Restarting { .. }) {
            for line in live.log.take_tail() {
                self.console.say(&format!("  {name}: {line}"));
            }
        }
    }

    /// Says, once, how it all stands.
    pub(crate) fn announce(&mut self) {
        if self.saved.power.is_some() {
            return;
        }
        let mut bad = Vec::new();
        for (name, kept) in &self.saved.units {
            match &kept.machine.state {
                State::Ready { .. } => {}
                State::Failed { reason } | State::Restarting { reason, .. } => bad.push(format!("{name}: {reason}")),
                State::Stopped if !kept.up => {}
                State::Stopped if kept.phases.iter().any(|(p, _)| p == "ready") => {}
                // Another try of one that has failed keeps what was said.
                _ if kept.machine.attempts > 0 => return,
                _ => return,
            }
        }
        let address = self.address();
        if self.config.network && address.is_empty() && now_ms() < self.started + ADDRESS_MS && bad.is_empty() {
            return;
        }
        let line = if bad.is_empty() {
            let shown = self.addresses(&address);
            if shown.is_empty() {
                "Ready, without an address from the network".to_owned()
            } else {
                format!("Ready: {shown}")
            }
        } else {
            format!("Not everything is ready: {}", bad.join("; "))
        };
        if line != self.saved.announced {
            self.console.say(&line);
            self.saved.announced = line;
        }
    }

    fn addresses(&self, address: &str) -> String {
        if address.is_empty() && self.config.network {
            return String::new();
        }
        let publish = self.manifest.units.values().flat_map(|u| &u.unit.network.publish);
        let shown: Vec<String> = publish
            .filter_map(|p| {
                let scheme = p.scheme.as_deref()?;
                let usual = matches!((scheme, p.port), ("https", 443) | ("http", 80));
                let port = if usual { String::new() } else { format!(":{}", p.port) };
                Some(format!("{scheme}://{address}{port}/"))
            })
            .collect();
        if shown.is_empty() {
            address.to_owned()
        } else {
            shown.join(" ")
        }
    }

    /// When the loop must look again although nothing happens, in milliseconds.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let units = self.saved.units.values().filter_map(|k| k.machine.deadline).min();
        let say = self.saved.power.as_ref().map(|_| now_ms() + 500);
        let address = (self.saved.announced.is_empty())
            .then_some(self.started + ADDRESS_MS)
            .filter(|t| *t > now_ms());
        [units, say, address].into_iter().flatten().min()
    }

    /// Starts a program of the host root.
    pub(crate) fn spawn_host(&mut self, name: &str, plan: &Plan) {
        let folder = self.config.at("/sys/fs/cgroup/cairn").join(name);
        let go = || -> Result<(OwnedFd, Vec<OwnedFd>), Error> {
            let wrap = |e: std::io::Error| Error::io("make", "a descriptor")(e);
            std::fs::create_dir_all(&folder).map_err(Error::io("make the cgroup", &folder))?;
            let group = std::fs::File::open(&folder).map_err(Error::io("open the cgroup", &folder))?;
            let json = serde_json::to_vec(plan).map_err(|e| Error::Init(e.to_string()))?;
            let output = std::fs::OpenOptions::new()
                .append(true)
                .open(self.config.at("/dev/console"));
            let output: OwnedFd = match output {
                Ok(file) => file.into(),
                Err(_) => std::fs::OpenOptions::new()
                    .write(true)
                    .open("/dev/null")
                    .map_err(wrap)?
                    .into(),
            };
            let error = output.try_clone().map_err(wrap)?;
            let (ours, theirs) = crate::io::status_pair().map_err(wrap)?;
            let plan = crate::io::memory("plan", &json).map_err(wrap)?;
            let null = crate::io::null().map_err(wrap)?;
            Ok((ours, vec![plan, group.into(), null, output, error, theirs]))
        };
        match go() {
            Ok((status, fds)) => {
                self.saved.token += 1;
                let token = self.saved.token;
                self.host_status.push((token, status));
                self.saved.host.push((name.to_owned(), token, 0));
                self.post(Request::Spawn { token }, fds);
            }
            Err(e) => self.console.say(&format!("{name} cannot be started: {e}")),
        }
    }

    /// Learns the host programs' processes from what their helpers reported, and what went wrong.
    fn read_host_status(&mut self) {
        let mut buffer = [0u8; 8192];
        for (token, socket) in &self.host_status {
            while let Ok((length @ 1.., _)) = rustix::net::recv(socket, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
                match Report::parse(&buffer[..length]) {
                    Ok(Report::Pid { pid }) => {
                        self.saved
                            .host
                            .iter_mut()
                            .filter(|(_, t, _)| t == token)
                            .for_each(|h| h.2 = pid);
                    }
                    Ok(Report::Failed(failure)) => self.console.say(&failure.to_string()),
                    _ => {}
                }
            }
        }
    }

    /// Whether this end was that of a host program.
    pub(crate) fn host_exited(&mut self, token: u64, pid: i32, status: ExitStatus) -> bool {
        self.read_host_status();
        let helper = self
            .saved
            .host
            .iter()
            .find(|(_, t, p)| token != 0 && *t == token && *p != pid)
            .cloned();
        if let Some((_, _, main)) = helper
            && status.success()
        {
            // The helper did its work; the program itself may have ended before.
            if let Some(at) = self.strays.iter().position(|(stray, _)| *stray == main)
                && let Some((_, status)) = self.strays.remove(at)
            {
                return self.host_exited(0, main, ExitStatus(status));
            }
            return true;
        }
        let found = self
            .saved
            .host
            .iter()
            .position(|(_, t, p)| (token != 0 && *t == token) || (pid != 0 && *p == pid));
        let Some(at) = found else { return false };
        let (name, token, _) = self.saved.host.remove(at);
        self.host_status.retain(|(t, _)| *t != token);
        if name == "firewall" {
            if status.success() {
                self.open_network();
            } else {
                let line = format!("The firewall could not be set up ({status}): nothing is reachable from outside.");
                self.console.say(&line);
            }
        } else if !status.success() {
            self.console.say(&format!("{name} ended: {status}"));
        }
        true
    }

    pub(crate) fn start_network(&mut self) {
        if !self.config.network {
            return;
        }
        let host = self.manifest.name.as_str().to_owned();
        if !self.saved.firewall {
            // A manager before this one may have died while it was set up; once more does no harm.
            self.saved.host.retain(|(name, ..)| name != "firewall");
            let _ = rustix::system::sethostname(host.as_bytes());
            match network::prepare() {
                Ok(()) => {
                    let rules = firewall::ruleset(&self.manifest);
                    self.spawn_host("firewall", &plan::firewall(&self.config.at("/"), &rules));
                }
                Err(e) => self.console.say(&format!("{e}; nothing is reachable from outside")),
            }
        }
        let (send, to) = (self.send.clone(), tokio::sync::mpsc::unbounded_channel());
        let (news, mut told) = to;
        tokio::spawn(network::run(host, self.saved.leases.clone(), news));
        tokio::spawn(async move {
            while let Some(news) = told.recv().await {
                let _ = send.send(Msg::Net(news));
            }
        });
    }

    fn open_network(&mut self) {
        match network::open(&self.config) {
            Ok(()) => self.saved.firewall = true,
            Err(e) => self.console.say(&format!("{e}; units cannot be reached")),
        }
    }

    pub(crate) fn network_news(&mut self, news: News) {
        match news {
            News::Problem(what) => self.console.say(&format!("Network: {what}")),
            News::Leased(name, lease) => {
                self.console.say(&format!("Network: {name} has {}", lease.address));
                self.saved.leases.retain(|(n, _)| *n != name);
                let path = self.config.resolv();
                let new = path.with_extension("new");
                let put = std::fs::write(&new, lease.resolv()).and_then(|()| std::fs::rename(&new, &path));
                if let Err(e) = put {
                    self.console.say(&format!("cannot write {}: {e}", path.display()));
                }
                self.saved.leases.push((name, lease));
                self.saved.leases.sort_by(|a, b| a.0.cmp(&b.0));
            }
            News::Lost(name) => {
                self.saved.leases.retain(|(n, _)| *n != name);
                self.console
                    .say(&format!("Network: the address of {name} is no longer ours"));
            }
        }
    }

    /// Begins to go down; a second request changes only how it ends.
    pub(crate) fn go_down(&mut self, kind: &str) {
        if self.saved.power.replace(kind.to_owned()).is_none() {
            self.saved.power_since = now_ms();
            self.waited = now_ms();
            self.console.say(if kind == "reboot" {
                "Restarting: stopping all units"
            } else {
                "Stopping all units"
            });
        }
        for kept in self.saved.units.values_mut() {
            kept.up = false;
        }
    }

    /// Goes on going down.
    pub(crate) fn power(&mut self) {
        let Some(kind) = self.saved.power.clone() else { return };
        let left: Vec<&str> = self
            .saved
            .units
            .iter()
            .filter(|(_, k)| !k.machine.at_rest())
            .map(|(n, _)| n.as_str())
            .collect();
        let now = now_ms();
        let patience: u64 = self.live.values().map(|l| l.rules.stop_ms).max().unwrap_or(0) + POWER_EXTRA_MS;
        let late = now > self.saved.power_since + patience;
        if !left.is_empty() && !late {
            if now >= self.waited + 3000 {
                self.waited = now;
                let seconds = (self.saved.power_since + patience).saturating_sub(now) / 1000;
                let line = format!("Waiting for {} to stop (at most {seconds} s more)", left.join(", "));
                self.console.say(&line);
            }
            return;
        }
        if late {
            let line = format!("Giving up on {}", left.join(", "));
            self.console.say(&line);
        }
        self.saved.power = None;
        let kind = if kind == "reboot" {
            PowerKind::Reboot
        } else {
            PowerKind::PowerOff
        };
        self.post(
            Request::Shutdown {
                kind,
                deadline_ms: LAST_MS,
            },
            Vec::new(),
        );
    }

    /// Answers a control request. Who may write was decided before.
    pub(crate) fn answer(&mut self, asked: Asked) {
        let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
        let answer = match (asked.write, parts.as_slice()) {
            (false, ["v1", "status"]) => Answered::json(200, &self.status()),
            (false, ["v1", "boot"]) => Answered::json(200, &self.boot()),
            (false, ["v1", "units", name, "log"]) if asked.uid == 0 => match self.live.contains_key(*name) {
                true => Answered {
                    status: 200,
                    kind: "text/plain",
                    body: crate::log::last(&self.config.log(name), 256 << 10),
                },
                false => Answered::error(404, &format!("there is no unit {name}")),
            },
            (false, ["v1", "units", _, "log"]) => Answered::error(403, "only root can read logs"),
            (false, ["v1", "security"]) if asked.uid == 0 => self.security(None),
            (false, ["v1", "units", name, "security"]) if asked.uid == 0 => self.security(Some(name)),
            (false, ["v1", "security"] | ["v1", "units", _, "security"]) => {
                Answered::error(403, "only root can look into units")
            }
            (true, ["v1", "units", name, what @ ("start" | "stop" | "restart")]) => self.command(name, what),
            (true, ["v1", "power", kind @ ("poweroff" | "reboot")]) => {
                self.go_down(kind);
                Answered::json(202, &json!({}))
            }
            _ => Answered::error(404, &format!("there is nothing at {}", asked.path)),
        };
        let _ = asked.answer.send(answer);
    }

    fn command(&mut self, name: &str, what: &str) -> Answered {
        if !self.live.contains_key(name) {
            return Answered::error(404, &format!("there is no unit {name}"));
        }
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        // With a unit go those that cannot be without it; and with it come those that it needs.
        let mut affected = vec![name.to_owned()];
        let mut at = 0;
        while let Some(each) = affected.get(at).cloned() {
            at += 1;
            for (other, unit) in &self.manifest.units {
                let linked = match what {
                    "stop" => unit.waits_for.iter().any(|w| w.as_str() == each),
                    "start" => self
                        .manifest
                        .units
                        .get(each.as_str())
                        .is_some_and(|u| u.waits_for.contains(other)),
                    _ => false,
                };
                if linked && !affected.iter().any(|a| a == other.as_str()) {
                    affected.push(other.as_str().to_owned());
                }
            }
        }
        for each in &affected {
            if let Some(kept) = self.saved.units.get_mut(each) {
                kept.up = what != "stop";
            }
            match what {
                "start" => self.feed(each, Event::Start),
                "restart" => self.feed(each, Event::Restart),
                // The rest, in its order, is done by `reconcile`.
                _ => {}
            }
        }
        Answered::json(202, &json!({ "units": affected }))
    }

    fn status(&self) -> serde_json::Value {
        let now = now_ms();
        let units: Vec<serde_json::Value> = self
            .saved
            .units
            .iter()
            .map(|(name, kept)| {
                let description = self
                    .manifest
                    .units
                    .get(name.as_str())
                    .map(|u| u.unit.description.as_str());
                let since = kept.phases.last().map_or(0, |(_, at)| now.saturating_sub(*at));
                let mut value = serde_json::to_value(&kept.machine.state).unwrap_or_default();
                if let Some(map) = value.as_object_mut() {
                    map.remove("since_ms");
                    map.remove("at_ms");
                    map.insert("name".into(), json!(name));
                    map.insert("description".into(), json!(description));
                    map.insert("for_ms".into(), json!(since));
                    map.insert("pid".into(), json!(kept.pid));
                    map.insert("failures".into(), json!(kept.machine.attempts));
                    map.insert("wanted".into(), json!(kept.up));
                    map.insert("says".into(), json!(kept.status));
                }
                value
            })
            .collect();
        let ready = self.saved.units.values().all(|k| !k.up || k.machine.ready());
        json!({
            "appliance": self.manifest.name,
            "version": self.manifest.version,
            "address": self.address(),
            "ready": ready,
            "firewall": self.saved.firewall,
            "going_down": self.saved.power,
            "uptime_ms": now,
            "units": units,
        })
    }

    fn boot(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.config.at("/run/cairn/boot-times")).unwrap_or_default();
        let steps: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.rsplitn(3, ' ');
                let end: u64 = words.next()?.parse().ok()?;
                let start: u64 = words.next()?.parse().ok()?;
                Some(json!({ "name": words.next()?, "start_ms": start as f64 / 1e6, "end_ms": end as f64 / 1e6 }))
            })
            .collect();
        let units: Vec<serde_json::Value> = self
            .saved
            .units
            .iter()
            .map(|(name, kept)| {
                let phases: Vec<_> = kept
                    .phases
                    .iter()
                    .map(|(phase, at)| json!({ "phase": phase, "at_ms": at }))
                    .collect();
                json!({ "name": name, "phases": phases })
            })
            .collect();
        json!({ "manager_ms": self.started, "now_ms": now_ms(), "steps": steps, "units": units })
    }
}

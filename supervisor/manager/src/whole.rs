//! The appliance as a whole: what the console says, the host's own programs, the network's news, control and power.

use cairn_api::EventLine;
use cairn_init::protocol::{ExitStatus, PowerKind, Request};
use cairn_log::Priority;
use cairn_unit::{Protocol, Publish};

use crate::clock::now_ms;
use crate::machine::{Busy, State};
use crate::network;
use crate::supervisor::Supervisor;

/// The port of multicast DNS (RFC 6762, section 3).
const MDNS_PORT: u16 = 5353;
/// How long the whole may take to stop beyond the slowest unit, in milliseconds.
const POWER_EXTRA_MS: u64 = 15_000;
/// How long cairn-init gives what is left, in milliseconds.
const LAST_MS: u32 = 5_000;
/// How long the first address is waited for before the console says what there is, in milliseconds.
const ADDRESS_MS: u64 = 20_000;

impl Supervisor {
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
            State::Restoring { step } if *step < live.rules.restore => {
                format!(
                    "making its state of a dump (step {} of {})",
                    step + 1,
                    live.rules.restore
                )
            }
            State::Restoring { .. } => "storing the state".into(),
            State::Migrating { .. } if kept.machine.busy == Busy::Preparing => "copying its state, to change it".into(),
            State::Migrating { step, timeouts, .. } if *step < timeouts.len() => {
                format!(
                    "bringing its state to another version (step {} of {})",
                    step + 1,
                    timeouts.len()
                )
            }
            State::Migrating { .. } => "storing its state".into(),
            State::Ready { since_ms } => {
                let took = since_ms.saturating_sub(live.began);
                format!("ready ({}.{} s)", took / 1000, took % 1000 / 100)
            }
            State::Stopping { .. } | State::Finishing { .. } => String::new(),
            State::Stopped => "stopped".into(),
            State::Failed { reason } => format!("failed: {reason}"),
            State::Restarting { at_ms, reason } => {
                let wait = at_ms.saturating_sub(now_ms()).div_ceil(1000);
                let when = if wait == 0 {
                    "now".to_owned()
                } else {
                    format!("in {wait} s")
                };
                format!("failed: {reason}; starting again {when}")
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
        let phase = state.name();
        if phase != before.name() {
            kept.since_ms = now;
        }
        if kept.phases.len() < 64 && kept.phases.last().is_none_or(|(last, _)| last != phase) {
            kept.phases.push((phase.to_owned(), now));
        }
        let reason = match &state {
            State::Failed { reason } | State::Restarting { reason, .. } => reason.clone(),
            _ => String::new(),
        };
        self.events.tell(&EventLine {
            at_ms: now,
            unit: name.to_owned(),
            state: phase.to_owned(),
            reason,
        });
        if let Some(live) = self.live.get_mut(name)
            && matches!(before, State::Waiting)
        {
            live.began = now;
        }
        self.changed_state(name, before, &state);
        match &state {
            State::Ready { .. } if self.live.get(name).is_some_and(|l| !l.rules.oneshot) => self.watch_health(name),
            State::Ready { .. } => self.note_times(name, true),
            State::Stopped => {
                self.note_times(name, true);
                // What waits for its time, a connection or a path is not wanted up while it rests.
                let on_demand = |u: &std::sync::Arc<cairn_unit::ManifestUnit>| !u.unit.starts_with_appliance();
                if self.manifest.units.get(name).is_some_and(on_demand)
                    && let Some(kept) = self.saved.units.get_mut(name)
                {
                    kept.up = false;
                }
            }
            State::Failed { reason } => {
                self.note_times(name, true);
                self.failed_for_good(name, reason);
            }
            _ => {}
        }
        let shown = self.shown(name);
        let Some(live) = self.live.get_mut(name) else { return };
        if shown.is_empty() || shown == live.shown {
            return;
        }
        let failed = matches!(state, State::Failed { .. } | State::Restarting { .. });
        let priority = if failed { Priority::Err } else { Priority::Info };
        self.console.say_of(name, priority, &shown);
        live.shown = shown;
        if failed {
            self.logs.tail(name);
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
        if bad.is_empty() && self.is_unset() {
            return self.invite(&address);
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
            if self.saved.announced.is_empty() {
                self.say_encryption();
            }
            self.saved.announced = line;
        }
    }

    pub(crate) fn addresses(&self, address: &str) -> String {
        if address.is_empty() && self.config.network {
            return String::new();
        }
        let running = self.manifest.units.iter();
        let running = running.filter(|(name, _)| self.site.enabled(name.as_str()));
        let publish: Vec<&Publish> = running.flat_map(|(_, unit)| &unit.unit.network.publish).collect();
        // Who answers at the port of multicast DNS answers for the appliance's name.
        let named = publish
            .iter()
            .any(|p| (p.protocol, p.port) == (Protocol::Udp, MDNS_PORT));
        let name = named.then(|| format!("{}.local", self.manifest.name.host()));
        // In an address of a page the colons of IPv6 stand in brackets (RFC 3986, section 3.2.2).
        let literal = match address.contains(':') {
            true => format!("[{address}]"),
            false => address.to_owned(),
        };
        let hosts = [Some(literal), name];
        let pages = |host: &String| {
            let pages = publish.iter().filter_map(|p| {
                let scheme = p.scheme.as_deref()?;
                let usual = matches!((scheme, p.port), ("https", 443) | ("http", 80));
                let port = if usual { String::new() } else { format!(":{}", p.port) };
                Some(format!("{scheme}://{host}{port}/"))
            });
            pages.collect::<Vec<String>>()
        };
        let shown: Vec<String> = hosts.iter().flatten().flat_map(pages).collect();
        if shown.is_empty() {
            address.to_owned()
        } else {
            shown.join(" ")
        }
    }

    /// When the loop must look again although nothing happens, in milliseconds.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let units = self.saved.units.values().filter_map(|k| k.machine.deadline).min();
        let care = self.next_care();
        let say = self.saved.power.as_ref().map(|_| now_ms() + 500);
        let address = (self.saved.announced.is_empty())
            .then_some(self.started + ADDRESS_MS)
            .filter(|t| *t > now_ms());
        let upgrade = self.upgrading.next();
        [
            units,
            care,
            say,
            address,
            self.look_at,
            self.accounts.next(),
            self.files.next(),
            self.outside.next(),
            upgrade,
            self.next_dump(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn firewall_ended(&mut self, status: ExitStatus) {
        if status.success() {
            self.open_network();
        } else {
            let line = format!("The firewall could not be set up ({status}): nothing is reachable from outside.");
            self.console.say(&line);
        }
    }

    fn open_network(&mut self) {
        match network::open(&self.config) {
            Ok(()) => self.saved.firewall = true,
            Err(e) => self.console.say(&format!("{e}; units cannot be reached")),
        }
    }

    /// Begins to go down; a second request changes only how it ends.
    pub(crate) fn go_down(&mut self, kind: &str) {
        if self.saved.power.replace(kind.to_owned()).is_none() {
            self.saved.power_since = now_ms();
            self.waited = now_ms();
            crate::timekeeping::note(&self.config);
            if self.built.upgrade.is_some() {
                crate::outage::leave(&self.config, crate::clock::real_ns() / 1_000_000_000);
            }
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
        // It goes on going down until init ends this manager too: nothing is begun in between.
        if self.ending {
            return;
        }
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
        if !self.logs_settled(now) {
            return;
        }
        self.ending = true;
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
}

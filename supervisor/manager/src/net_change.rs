//! A change of the network by whoever is at the other end of it: unless it is confirmed in time, the network of before comes back. What
//! waits stands on the disk, so a manager that dies, or a restart of the machine, confirms nothing.

use std::path::PathBuf;

use cairn_api::{Accepted, NetworkChoices, NetworkPending};
use cairn_config::{private_folder, write_atomically};
use cairn_unit::{Seconds, SiteNetwork};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::config::Config;
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::Supervisor;

/// How long a change waits to be confirmed, if nothing else was said.
pub(crate) const WITHIN: Seconds = Seconds::from_secs(180);
/// The shortest and the longest time that can be said.
const BOUNDS: [Seconds; 2] = [Seconds::from_secs(1), Seconds::from_secs(3600)];
/// How long the answer to a change may still take over the network of before, in milliseconds.
pub(crate) const GRACE_MS: u64 = 2_000;

/// A change that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Who made it.
    who: String,
    /// The table of before, as TOML; empty if there was none.
    before: String,
    /// What was chosen. Another choice since then has not to be confirmed.
    after: SiteNetwork,
    /// The boot that it was made in.
    boot: String,
    /// When the network of before comes back, in milliseconds since the kernel's start.
    pub(crate) until_ms: u64,
}

/// Where it stands.
fn place(config: &Config) -> PathBuf {
    config.at("/data/site/pending/network.json")
}

/// Which boot this is.
fn boot(config: &Config) -> String {
    let text = std::fs::read_to_string(config.at("/proc/sys/kernel/random/boot_id"));
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn keep(config: &Config, pending: &Pending) -> Result<(), Error> {
    let path = place(config);
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    write_atomically(&path, &serde_json::to_vec(pending).unwrap_or_default(), 0o600)?;
    Ok(())
}

/// It waits no more, also after a power cut.
fn forget(config: &Config) -> Result<(), Error> {
    let path = place(config);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("remove", &path))?,
    }
    let folder = path.parent().map(std::fs::File::open);
    match folder.map(|folder| folder.and_then(|folder| folder.sync_all())) {
        Some(Err(e)) => Err(Error::io("sync", &path)(e)),
        _ => Ok(()),
    }
}

/// The `[network]` of a text, as a text of its own.
fn table(text: &str) -> Result<String, String> {
    let site: toml_edit::DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let mut alone = toml_edit::DocumentMut::new();
    if let Some(network) = site.get("network") {
        alone.insert("network", network.clone());
    }
    Ok(alone.to_string())
}

/// The text with another `[network]`; an empty one is left out. Comments and everything else stay.
pub(crate) fn with_table(text: &str, network: &str) -> Result<String, String> {
    let wrong = |e: toml_edit::TomlError| e.to_string();
    let mut site: toml_edit::DocumentMut = text.parse().map_err(wrong)?;
    let other: toml_edit::DocumentMut = network.parse().map_err(wrong)?;
    let has = |item: &toml_edit::Item| item.as_table_like().is_none_or(|table| !table.is_empty());
    match other.get("network").filter(|item| has(item)) {
        None => drop(site.remove("network")),
        Some(network) => {
            let mut network = network.clone();
            // Behind everything else: it comes from a text with an order of its own.
            unplace(&mut network);
            site.insert("network", network);
        }
    }
    Ok(site.to_string())
}

fn unplace(item: &mut toml_edit::Item) {
    if let toml_edit::Item::Table(table) = item {
        table.set_position(None);
        table.iter_mut().for_each(|(_, item)| unplace(item));
    }
}

/// Choices as they came by the API, as a text with `[network]`.
pub(crate) fn text_of(choices: &NetworkChoices) -> Result<String, String> {
    #[derive(Serialize)]
    struct All<'a> {
        network: &'a NetworkChoices,
    }
    toml::to_string(&All { network: choices }).map_err(|e| e.to_string())
}

/// Choices as the API gives them.
pub(crate) fn told(choices: &SiteNetwork) -> NetworkChoices {
    let value = serde_json::to_value(choices).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

/// Choices that a text with `[network]` says.
fn read(text: &str) -> SiteNetwork {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct All {
        network: SiteNetwork,
    }
    toml::from_str::<All>(text).unwrap_or_default().network
}

/// How long a change waits to be confirmed, as a request says it.
pub(crate) fn waits(within: Option<&str>) -> Result<Seconds, Answered> {
    match within.map_or(Ok(WITHIN), str::parse::<Seconds>) {
        Ok(within) if (BOUNDS[0]..=BOUNDS[1]).contains(&within) => Ok(within),
        _ => Err(Answered::error(400, "`within` is a duration from 1s to 1h, like 3m")),
    }
}

impl Supervisor {
    /// Takes up what waits to be confirmed. What was not confirmed before a restart of the machine is undone, before anything uses it.
    pub(crate) fn find_pending(&mut self) {
        let pending = match std::fs::read(place(&self.config)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => Err(e.to_string()),
            Ok(text) => serde_json::from_slice::<Pending>(&text).map_err(|e| e.to_string()),
        };
        match pending {
            Ok(pending) if self.site.network != pending.after => drop(forget(&self.config)),
            Ok(pending) => {
                let again = pending.boot != boot(&self.config);
                self.outside.pending = Some(pending);
                if again {
                    self.bring_back("the network was not confirmed before the restart");
                }
            }
            Err(why) => {
                let path = place(&self.config);
                let line = format!(
                    "cannot read {}: {why}; the network stays as site.toml says",
                    path.display()
                );
                self.console.say(&line);
            }
        }
    }

    /// A text that was chosen by the API: where its network is another one, that has to be confirmed.
    fn guard_network(&mut self, text: &str, who: &str, within: Seconds) -> Result<bool, Answered> {
        let failed = |why: String| Answered::error(500, &why);
        let chosen = self.parse_site(text).map_err(|problems| {
            let why = crate::choices::in_one_line(problems);
            Answered::error(400, &why)
        })?;
        if chosen.network == self.site.network {
            return Ok(false);
        }
        let before = match &self.outside.pending {
            // What was last confirmed is what comes back.
            Some(pending) => pending.before.clone(),
            None => {
                let text = self.written().map_err(|e| failed(e.to_string()))?;
                table(text.as_deref().unwrap_or_default()).map_err(failed)?
            }
        };
        let pending = Pending {
            who: who.to_owned(),
            before,
            after: chosen.network,
            boot: boot(&self.config),
            until_ms: now_ms() + GRACE_MS + within.millis(),
        };
        keep(&self.config, &pending).map_err(|e| failed(e.to_string()))?;
        self.outside.pending = Some(pending);
        self.outside.grace_ms = GRACE_MS;
        Ok(true)
    }

    /// Chooses the network anew, to be confirmed within a time.
    pub(crate) fn change_network(&mut self, choices: &NetworkChoices, within: Option<&str>, who: &str) -> Answered {
        if self.is_unset() {
            return Answered::error(409, "the appliance waits to be set up: choose the network there");
        }
        let within = match waits(within) {
            Ok(within) => within,
            Err(refused) => return refused,
        };
        let failed = |why: String| Answered::error(500, &why);
        let before = match self.written() {
            Ok(before) => before.unwrap_or_default(),
            Err(e) => return failed(e.to_string()),
        };
        let text = match text_of(choices).and_then(|network| with_table(&before, &network)) {
            Ok(text) => text,
            Err(why) => return failed(why),
        };
        if self
            .parse_site(&text)
            .is_ok_and(|chosen| chosen.network == self.site.network)
        {
            // It holds already, or waits to be confirmed.
            return self.reload_site();
        }
        let why = format!("the network was changed; unless that is confirmed within {within} it is as before");
        self.accept_guarded(&text, who, &why, within)
    }

    /// Puts a text of the owner's choices in force. If its network is another one, that waits to be confirmed.
    pub(crate) fn accept_guarded(&mut self, text: &str, who: &str, why: &str, within: Seconds) -> Answered {
        let waited = self.outside.pending.clone();
        let guarded = match self.guard_network(text, who, within) {
            Ok(guarded) => guarded,
            Err(refused) => return refused,
        };
        let answer = match self.accept_site(text, who, why) {
            Ok(()) => self.reload_site(),
            Err(e) => Answered::error(500, &e.to_string()),
        };
        self.outside.grace_ms = 0;
        if answer.status < 400 && guarded {
            let line = format!(
                "Network: {who} changes it; unless `cairn network confirm` comes within {within}, it is as before"
            );
            self.console.say(&line);
        } else if guarded {
            self.outside.pending = waited;
            let undone = match &self.outside.pending {
                Some(pending) => keep(&self.config, pending),
                None => forget(&self.config),
            };
            drop(undone);
        }
        answer
    }

    /// The change is kept.
    pub(crate) fn confirm_network(&mut self, who: &str) -> Answered {
        if self.outside.pending.is_none() {
            return Answered::error(409, "no change of the network waits to be confirmed");
        }
        if let Err(e) = forget(&self.config) {
            return Answered::error(500, &e.to_string());
        }
        self.outside.pending = None;
        self.console.say(&format!("Network: the change was confirmed by {who}"));
        Answered::of(200, &Accepted::default())
    }

    /// The network of before comes back now.
    pub(crate) fn undo_network(&mut self, who: &str) -> Answered {
        if self.outside.pending.is_none() {
            return Answered::error(409, "no change of the network waits to be confirmed");
        }
        self.outside.grace_ms = GRACE_MS;
        let answer = self.bring_back(&format!("the change of the network was undone by {who}"));
        self.outside.grace_ms = 0;
        answer
    }

    /// Whether a change has waited too long, or needs no confirmation any more.
    pub(crate) fn judge_pending(&mut self, now: u64) {
        let Some(pending) = &self.outside.pending else { return };
        if pending.after != self.site.network {
            self.console
                .say("Network: another choice has been made, so that of before is not waited for any more");
            self.outside.pending = None;
            drop(forget(&self.config));
        } else if pending.until_ms <= now {
            self.bring_back("nobody confirmed the change of the network in time");
        }
    }

    /// Puts the network of before in force again, as a new version of the owner's choices.
    fn bring_back(&mut self, why: &str) -> Answered {
        let Some(pending) = self.outside.pending.take() else {
            return Answered::error(409, "no change of the network waits to be confirmed");
        };
        self.console.say(&format!("Network: {why}; it is as before"));
        let text = self.written().map_err(|e| e.to_string());
        let text = text.and_then(|text| with_table(text.as_deref().unwrap_or_default(), &pending.before));
        let kept = text.and_then(|text| {
            let checked = self.parse_site(&text).map(drop);
            checked.map_err(crate::choices::in_one_line)?;
            self.accept_site(&text, "cairn", why).map_err(|e| e.to_string())
        });
        match kept {
            Ok(()) => {
                if let Err(e) = forget(&self.config) {
                    self.console.say(&e.to_string());
                }
                self.reload_site()
            }
            // The file stays, so the next start tries it again.
            Err(why) => {
                self.site.network = read(&pending.before);
                self.network_chosen();
                let line = format!("{why}; site.toml still says the network that was not confirmed");
                self.console.say(&line);
                Answered::error(500, &line)
            }
        }
    }

    /// What waits, as the API gives it.
    pub(crate) fn pending_network(&self) -> Option<NetworkPending> {
        let pending = self.outside.pending.as_ref()?;
        Some(NetworkPending {
            who: pending.who.clone(),
            left_s: pending.until_ms.saturating_sub(now_ms()).div_ceil(1000),
            before: told(&read(&pending.before)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_network_of_a_text_is_another_one_and_comes_back() {
        let own = "# mine\n[appliance]\nname = \"a\" # short\n\n[network] # why\ndns = [\"192.0.2.1\"]\n\n[units.web]\nenabled = false\n";
        let before = table(own).unwrap();
        assert!(before.contains("192.0.2.1") && !before.contains("web"), "{before}");
        let fixed = text_of(&NetworkChoices {
            devices: [(
                "eth0".to_owned(),
                cairn_api::NetworkChoice {
                    method: Some("static".into()),
                    addresses: vec!["192.0.2.5/24".into()],
                    ..Default::default()
                },
            )]
            .into(),
            ..Default::default()
        })
        .unwrap();
        let changed = with_table(own, &fixed).unwrap();
        for kept in ["# mine\n", "# short", "[units.web]\nenabled = false", "192.0.2.5/24"] {
            assert!(changed.contains(kept), "{changed}");
        }
        assert!(!changed.contains("192.0.2.1\""), "{changed}");
        let back = with_table(&changed, &before).unwrap();
        assert!(back.contains("[network] # why\ndns = [\"192.0.2.1\"]"), "{back}");
        assert_eq!(read(&back), read(own));
        assert_eq!(told(&read(&changed)).devices["eth0"].addresses, ["192.0.2.5/24"]);
        // Where there was none, there is none again.
        let none = "[appliance]\nname = \"a\"\n";
        let changed = with_table(none, &fixed).unwrap();
        assert!(changed.starts_with(none), "{changed}");
        assert_eq!(
            with_table(&changed, &table(none).unwrap()).unwrap().trim_end(),
            none.trim_end()
        );
        assert_eq!(
            with_table(none, &text_of(&NetworkChoices::default()).unwrap()).unwrap(),
            none
        );
    }
}

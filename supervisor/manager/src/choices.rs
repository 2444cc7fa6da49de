//! The owner's choices in `site.toml`: read, compared with what is in force, and only what differs is touched.

use std::sync::Arc;
use std::time::Instant;

use cairn_config::Real;
use cairn_config::history::{Current, History, Note};
use cairn_unit::{Chosen, Domain, Limits, Manifest, Name, Problems, Site, Source, TimeServer};

use cairn_api::{Change as Told, Reloaded};

use crate::control::Answered;
use crate::error::Error;
use crate::machine::Event;
use crate::site_text;
use crate::supervisor::{Msg, Supervisor};

/// One thing that a reload changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The unit has other limits.
    Limits(String, Box<Limits>),
    /// The unit is to be started with the appliance, and now.
    Enable(String),
    /// The unit is not to run.
    Disable(String),
    /// The outside network is to be another one.
    Network,
    /// Other servers tell the time.
    Time(Vec<TimeServer>),
    /// Other values were chosen for what the unit offers.
    Settings(Name, Chosen),
    /// The appliance has another name or domain.
    Identity(Name, Option<Domain>),
}

/// What has to be done so that `new` holds instead of `old`; both are of the appliance `built`.
pub fn changes(built: &Manifest, old: &Site, new: &Site) -> Vec<Change> {
    let mut all = Vec::new();
    let identity = |site: &Site| match &site.appliance {
        Some(chosen) => (chosen.name.clone(), chosen.domain.clone()),
        None => (built.name.clone(), None),
    };
    let (name, domain) = identity(new);
    if (&name, &domain) != (&identity(old).0, &identity(old).1) {
        all.push(Change::Identity(name, domain));
    }
    let time = |site: &Site| site.appliance.as_ref().map_or(Vec::new(), |chosen| chosen.time.clone());
    if time(old) != time(new) {
        all.push(Change::Time(time(new)));
    }
    if old.network != new.network {
        all.push(Change::Network);
    }
    let (chosen, before) = (new.chosen(), old.chosen());
    for unit in built.units.keys().filter(|unit| chosen.get(*unit) != before.get(*unit)) {
        let now = chosen.get(unit).cloned().unwrap_or_default();
        all.push(Change::Settings(unit.clone(), now));
    }
    for (name, unit) in &built.units {
        let (name, own) = (name.as_str(), &unit.unit.limits);
        let limits = new.limits(name, own);
        if limits != old.limits(name, own) {
            all.push(Change::Limits(name.to_owned(), Box::new(limits)));
        }
        match (old.enabled(name), new.enabled(name)) {
            (false, true) => all.push(Change::Enable(name.to_owned())),
            (true, false) => all.push(Change::Disable(name.to_owned())),
            _ => {}
        }
    }
    all
}

/// Makes these changes to the appliance as it is in force.
pub fn choose(manifest: &mut Manifest, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Limits(name, limits) => {
                if let Some(unit) = manifest.units.get_mut(name.as_str()) {
                    Arc::make_mut(unit).unit.limits = limits.as_ref().clone();
                }
            }
            Change::Identity(name, domain) => {
                manifest.name = name.clone();
                manifest.domain.clone_from(domain);
            }
            Change::Time(servers) => manifest.time.clone_from(servers),
            Change::Settings(unit, chosen) if chosen.is_empty() => drop(manifest.chosen.remove(unit)),
            Change::Settings(unit, chosen) => drop(manifest.chosen.insert(unit.clone(), chosen.clone())),
            Change::Network => {}
            Change::Enable(name) => manifest.disabled.retain(|disabled| disabled.as_str() != name),
            Change::Disable(name) => manifest.disabled.extend(name.parse::<Name>().ok()),
        }
    }
}

impl Supervisor {
    /// Reads the owner's choices at the manager's start. Where they are gone or wrong, the last good version of them holds.
    pub(crate) fn first_site(&mut self) {
        let path = self.config.site();
        let history = History::of(&Real, &path);
        if let Err(e) = history.settle() {
            self.console.say(&e.to_string());
        }
        match history.current(|text| self.parse_site(text)) {
            Ok(current) => drop(self.take_site(current)),
            Err(e) => {
                let instead = match &self.built.setup {
                    Some(_) => "the appliance waits to be set up again",
                    None => "every unit runs as it was built",
                };
                self.console.say(&format!("{e}; {instead}"));
                self.take_site(None);
            }
        }
    }

    /// Reads the owner's choices again. If something is wrong with them, those of before stay.
    fn read_site(&mut self) -> Result<Vec<Change>, String> {
        let path = self.config.site();
        let history = History::of(&Real, &path);
        let current = match history.text().map_err(|e| e.to_string())? {
            Some(text) => Some(Current {
                value: self.parse_site(&text).map_err(|problems| problems.to_string())?,
                text,
                instead: None,
            }),
            None => history
                .current(|text| self.parse_site(text))
                .map_err(|e| e.to_string())?,
        };
        Ok(self.take_site(current))
    }

    /// What a text says as the owner's choices.
    pub(crate) fn parse_site(&self, text: &str) -> Result<Site, Problems> {
        let source = Source {
            file: self.config.site(),
            text: text.to_owned(),
        };
        Site::parse(&source, &self.built)
    }

    fn take_site(&mut self, current: Option<Current<Site>>) -> Vec<Change> {
        let new = match current {
            None => Site::unset(&self.built),
            Some(current) => {
                match &current.instead {
                    Some(instead) => self.console.say(instead),
                    None => self.record_site(current.text),
                }
                current.value
            }
        };
        let changes = changes(&self.built, &self.site, &new);
        if !changes.is_empty() {
            // The first time it is copied, since it is the one that was built; later only if somebody works with it.
            choose(Arc::make_mut(&mut self.manifest), &changes);
        }
        self.site = new;
        changes
    }

    /// What the owner wrote with an editor is a version like any other. Nothing waits until it is on the disk.
    fn record_site(&self, text: String) {
        let (path, send) = (self.config.site(), self.send.clone());
        tokio::task::spawn_blocking(move || {
            let note = note("site.toml", "the file was changed");
            if let Err(e) = History::of(&Real, &path).record(&text, note) {
                let _ = send.send(Msg::Unrecorded(e.to_string()));
            }
        });
    }

    /// Makes a text the owner's choices and a version of them.
    pub(crate) fn accept_site(&self, text: &str, who: &str, why: &str) -> Result<(), Error> {
        History::of(&Real, &self.config.site()).accept(text, note(who, why))?;
        Ok(())
    }

    /// Puts the owner's choices in force without a restart.
    pub(crate) fn reload_site(&mut self) -> Answered {
        let began = Instant::now();
        let changes = match self.read_site() {
            Ok(changes) => changes,
            Err(why) => return Answered::error(400, &format!("{why}\nNothing was changed.")),
        };
        let mut done = Vec::new();
        let any = !changes.is_empty();
        for change in changes {
            done.push(match change {
                Change::Limits(unit, limits) => {
                    let kept = match self.manifest.units.get(unit.as_str()).filter(|_| self.quotas) {
                        Some(chosen) => crate::data::bound(&self.config, &unit, chosen),
                        None => Ok(()),
                    };
                    let error = crate::cgroup::change(&self.config.cgroup(&unit), &limits)
                        .and(kept)
                        .err();
                    told(unit, "limits", error.map(|e| e.to_string()))
                }
                Change::Enable(name) => {
                    let with_appliance = self
                        .manifest
                        .units
                        .get(name.as_str())
                        .is_some_and(|u| u.unit.starts_with_appliance());
                    if let Some(kept) = self.saved.units.get_mut(&name).filter(|_| with_appliance) {
                        kept.up = true;
                        self.feed(&name, Event::Start);
                    }
                    told(name, "enabled", None)
                }
                Change::Identity(name, _) => {
                    if self.config.network {
                        let _ = rustix::system::sethostname(name.as_str().as_bytes());
                    }
                    self.check_certificates(false);
                    self.find_due();
                    told(name.to_string(), "identity", None)
                }
                Change::Settings(unit, _) => told(unit.to_string(), "settings", None),
                Change::Time(_) => told("time".into(), "time", None),
                Change::Network => {
                    self.network_chosen();
                    told("network".into(), "network", None)
                }
                Change::Disable(name) => {
                    if let Some(kept) = self.saved.units.get_mut(&name) {
                        kept.up = false;
                    }
                    told(name, "disabled", None)
                }
            });
        }
        if any {
            self.render_again();
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Answered::of(
            200,
            &Reloaded {
                changes: done,
                took_us: took,
            },
        )
    }

    /// Writes the owner's choice whether a unit runs, and puts it in force. A choice that cannot be is not written.
    pub(crate) fn enable(&mut self, name: &str, on: bool, who: &str) -> Answered {
        let why = format!("{name} was {}", if on { "enabled" } else { "disabled" });
        self.edit_site(who, &why, &|text| edit(text, name, on))
    }

    /// Changes the text of the owner's choices and puts it in force. What cannot be is not written.
    pub(crate) fn edit_site(
        &mut self,
        who: &str,
        why: &str,
        edit: &dyn Fn(&str) -> Result<String, String>,
    ) -> Answered {
        let path = self.config.site();
        let before = match self.written() {
            Ok(before) => before,
            Err(e) => return Answered::error(500, &e.to_string()),
        };
        let text = match edit(before.as_deref().unwrap_or_default()) {
            Ok(text) => text,
            Err(why) => return Answered::error(500, &Error::Site { path, why }.to_string()),
        };
        if let Err(problems) = self.parse_site(&text) {
            return Answered::error(409, &in_one_line(problems));
        }
        // So that one can come back to it.
        let first = match before {
            None => self.accept_site("", "cairn", "nothing was chosen"),
            Some(_) => Ok(()),
        };
        match first.and_then(|()| self.accept_site(&text, who, why)) {
            Ok(()) => self.reload_site(),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// The text that a choice is written into: the file's or, where that is gone, what holds instead.
    pub(crate) fn written(&self) -> Result<Option<String>, Error> {
        let path = self.config.site();
        let history = History::of(&Real, &path);
        if let Some(text) = history.text()? {
            return Ok(Some(text));
        }
        let current = history.current(|text| self.parse_site(text))?;
        Ok(current.map(|current| current.text))
    }
}

fn note(who: &str, why: &str) -> Note {
    Note {
        who: who.to_owned(),
        when: crate::clock::timestamp(),
        why: why.to_owned(),
    }
}

/// Problems as a refusal says them.
pub(crate) fn in_one_line(problems: Problems) -> String {
    let why = problems.0.into_iter().map(|problem| match problem.help {
        Some(help) => format!("{}; {help}", problem.message),
        None => problem.message,
    });
    why.collect::<Vec<String>>().join("; ")
}

fn told(unit: String, change: &str, error: Option<String>) -> Told {
    Told {
        unit,
        change: change.to_owned(),
        error,
    }
}

/// The site's text with one line changed; comments and everything else stay.
pub(crate) fn edit(text: &str, name: &str, on: bool) -> Result<String, String> {
    let mut site = site_text::parse(text)?;
    site_text::table_at(&mut site, &["units", name])?.insert("enabled", toml_edit::value(on));
    Ok(site.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str, built: &Manifest) -> Site {
        let source = Source {
            file: "site.toml".into(),
            text: text.to_owned(),
        };
        Site::parse(&source, built).unwrap()
    }

    #[test]
    fn a_choice_is_written_between_the_owners_own_lines() {
        assert_eq!(edit("", "web", false).unwrap(), "[units.web]\nenabled = false\n");
        let own = "# mine\n[units.web]\nenabled = false # for now\n[units.web.limits]\nmemory_max = \"1G\"\n";
        let text = edit(&edit(own, "web", true).unwrap(), "db", false).unwrap();
        assert!(text.starts_with("# mine\n[units.web]\nenabled = true"), "{text}");
        assert!(
            text.contains("memory_max = \"1G\"") && text.contains("[units.db]\nenabled = false"),
            "{text}"
        );
        let inline = edit("units = { db = {} }\n", "web", false).unwrap();
        assert_eq!(inline, "units = { db = {} , web = { enabled = false } }\n");
        assert!(edit("units = 3\n", "web", true).is_err());
    }

    #[test]
    fn only_what_differs_is_touched() {
        let built = crate::testing::manifest(&[("a", "{}"), ("b", "{}"), ("c", "{}")]);
        let old = site(
            "[units.a]\nenabled = false\n[units.b.limits]\nmemory_max = \"1G\"\n",
            &built,
        );
        assert_eq!(changes(&built, &old, &old), []);
        let new = site(
            "[units.b.limits]\nmemory_max = \"2G\"\n[units.c]\nenabled = false\n",
            &built,
        );
        let limits = new.limits("b", &built.units["b"].unit.limits);
        assert_eq!(limits.memory_max.0, 2 << 30);
        let all = [
            Change::Enable("a".into()),
            Change::Limits("b".into(), Box::new(limits.clone())),
            Change::Disable("c".into()),
        ];
        assert_eq!(changes(&built, &old, &new), all);
        let mut chosen = built.clone();
        choose(&mut chosen, &all);
        assert_eq!(chosen.units["b"].unit.limits, limits);
        assert_eq!(chosen.units["a"], built.units["a"]);
        // Another name and domain, and none.
        let named = site("[appliance]\nname = \"office\"\ndomain = \"example.org\"\n", &built);
        let identity = changes(&built, &Site::default(), &named);
        choose(&mut chosen, &identity);
        assert_eq!(
            (chosen.name.as_str(), chosen.domain.as_ref().unwrap().as_str()),
            ("office", "example.org")
        );
        let timed = site(
            "[appliance]\nname = \"office\"\ndomain = \"example.org\"\ntime = [\"ntp.lan:1123\"]\n",
            &built,
        );
        let time = changes(&built, &named, &timed);
        assert_eq!(time, [Change::Time(vec!["ntp.lan:1123".parse().unwrap()])]);
        choose(&mut chosen, &time);
        assert_eq!(cairn_config::context::site(&chosen)["time"], "ntp.lan:1123");
        choose(&mut chosen, &changes(&built, &timed, &Site::default()));
        assert_eq!(chosen.time, []);
        assert_eq!((&chosen.name, &chosen.domain), (&built.name, &None));
        let mut offering = built.clone();
        let unit = Arc::make_mut(offering.units.get_mut("a").unwrap());
        unit.unit.settings = serde_json::from_str(r#"{"title": {"description": "x", "is": "line"}}"#).unwrap();
        let titled = site("[units.a.settings]\ntitle = \"x\"\n", &offering);
        let set = changes(&offering, &Site::default(), &titled);
        assert!(
            matches!(&set[..], [Change::Settings(unit, _)] if unit.as_str() == "a"),
            "{set:?}"
        );
        let value = |manifest: &Manifest| manifest.settings("a")["title"].clone().map(|value| value.to_string());
        choose(&mut offering, &set);
        assert_eq!(value(&offering).as_deref(), Some("x"));
        let back = changes(&offering, &titled, &Site::default());
        choose(&mut offering, &back);
        assert_eq!(value(&offering), None);
        // Back again.
        choose(&mut chosen, &changes(&built, &new, &old));
        assert_eq!(
            chosen.units["b"].unit.limits,
            old.limits("b", &built.units["b"].unit.limits)
        );
    }
}

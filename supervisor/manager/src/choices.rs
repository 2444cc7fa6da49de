//! The owner's choices in `site.toml`: read, compared with what is in force, and only what differs is touched.

use std::sync::Arc;
use std::time::Instant;

use cairn_unit::{Limits, Manifest, Problems, Site, Source};
use serde_json::json;

use crate::control::Answered;
use crate::machine::Event;
use crate::supervisor::Supervisor;

/// One thing that a reload changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The unit has other limits.
    Limits(String, Box<Limits>),
    /// The unit is to be started with the appliance, and now.
    Enable(String),
    /// The unit is not to run.
    Disable(String),
}

/// What has to be done so that `new` holds instead of `old`; both are of the appliance `built`.
pub fn changes(built: &Manifest, old: &Site, new: &Site) -> Vec<Change> {
    let mut all = Vec::new();
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

/// The appliance with the owner's choices.
pub fn chosen(built: &Manifest, site: &Site) -> Manifest {
    let mut manifest = built.clone();
    for (name, unit) in &mut manifest.units {
        unit.unit.limits = site.limits(name.as_str(), &unit.unit.limits);
    }
    manifest
}

impl Supervisor {
    /// Reads the owner's choices. If something is wrong with them, those of before stay.
    pub(crate) fn read_site(&mut self) -> Result<Vec<Change>, Problems> {
        let path = self.config.site();
        let new = if path.exists() {
            Site::parse(&Source::read(&path)?, &self.built)?
        } else {
            Site::default()
        };
        let changes = changes(&self.built, &self.site, &new);
        if !changes.is_empty() {
            self.manifest = Arc::new(chosen(&self.built, &new));
        }
        self.site = new;
        Ok(changes)
    }

    /// Puts the owner's choices in force without a restart.
    pub(crate) fn reload_site(&mut self) -> Answered {
        let began = Instant::now();
        let changes = match self.read_site() {
            Ok(changes) => changes,
            Err(problems) => return Answered::error(400, &format!("{problems}\nNothing was changed.")),
        };
        let mut done = Vec::new();
        for change in changes {
            done.push(match change {
                Change::Limits(name, limits) => match crate::cgroup::change(&self.config.cgroup(&name), &limits) {
                    Ok(()) => json!({ "unit": name, "change": "limits" }),
                    Err(e) => json!({ "unit": name, "change": "limits", "error": e.to_string() }),
                },
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
                    json!({ "unit": name, "change": "enabled" })
                }
                Change::Disable(name) => {
                    if let Some(kept) = self.saved.units.get_mut(&name) {
                        kept.up = false;
                    }
                    json!({ "unit": name, "change": "disabled" })
                }
            });
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Answered::json(200, &json!({ "changes": done, "took_us": took }))
    }
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
        assert_eq!(chosen(&built, &new).units["b"].unit.limits, limits);
        assert_eq!(chosen(&built, &new).units["a"], built.units["a"]);
    }
}

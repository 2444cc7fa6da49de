//! The versions of the owner's choices, as the control API gives them, and the way back to an earlier one.

use cairn_api::{Place, Problem, SiteDiff, SiteHistory, SiteText, SiteVersion, SiteWritten};
use cairn_config::Real;
use cairn_config::history::{History, Version, diff};
use cairn_unit::Problems;

use crate::choices::in_one_line;
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::Supervisor;

/// A text with what it is called.
struct Named(String, String);

/// Each mistake of a text with its place, in the shape of a refusal.
fn places(problems: Problems) -> Vec<Place> {
    let place = |problem: cairn_unit::Problem| Place {
        line: problem.at.map(|(line, _)| line),
        column: problem.at.map(|(_, column)| column),
        error: problem.message,
        help: problem.help,
    };
    problems.0.into_iter().map(place).collect()
}

impl Supervisor {
    /// The text of the owner's choices.
    pub(crate) fn site_text(&self) -> Answered {
        let read = self.versions().and_then(|history| Ok((history, self.written()?)));
        match read {
            Ok((SiteHistory { versions, instead }, text)) => {
                let version = versions.iter().find(|version| version.in_force);
                let version = version.map(|version| version.number);
                let text = text.unwrap_or_default();
                Answered::of(200, &SiteText { text, version, instead })
            }
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// Makes a whole text the owner's choices, if it can be.
    pub(crate) fn write_site(&mut self, written: &SiteWritten, within: Option<&str>, who: &str) -> Answered {
        if self.is_unset() {
            return Answered::error(409, "the appliance waits to be set up: make the first choices there");
        }
        let within = match crate::net_change::waits(within) {
            Ok(within) => within,
            Err(refused) => return refused,
        };
        match self.parse_site(&written.text) {
            Err(problems) => {
                let error = format!("{problems}\nNothing was changed.");
                let problems = places(problems);
                return Answered::of(400, &Problem { error, problems });
            }
            Ok(site) if site.only.is_some() => {
                let why = "without [appliance] the appliance would wait to be set up again; nothing was changed";
                return Answered::error(400, why);
            }
            Ok(_) => {}
        }
        let now = match self.versions() {
            Ok(history) => history
                .versions
                .iter()
                .find(|version| version.in_force)
                .map(|one| one.number),
            Err(e) => return Answered::error(500, &e.to_string()),
        };
        if written.version.is_some() && written.version != now {
            let now = now.map_or("no version".to_owned(), |number| format!("version {number}"));
            let why = format!("{now} is in force by now: read it again; nothing was changed");
            return Answered::error(409, &why);
        }
        // So that one can come back to it.
        let first = match now {
            None => self.accept_site("", "cairn", "nothing was chosen"),
            Some(_) => Ok(()),
        };
        match first {
            Ok(()) => self.accept_guarded(&written.text, who, "the choices were written anew", within),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// Lists the versions.
    pub(crate) fn site_history(&self) -> Answered {
        match self.versions() {
            Ok(history) => Answered::of(200, &history),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    fn versions(&self) -> Result<SiteHistory, Error> {
        let path = self.config.site();
        let history = History::of(&Real, &path);
        // A wrong file without a good version is what `instead` tells; it hides no list.
        let (current, instead) = match history.current(|text| self.parse_site(text)) {
            Ok(current) => current.map_or((None, None), |c| (Some(c.text), c.instead)),
            Err(e) => (None, Some(format!("{e}; every unit runs as it was built"))),
        };
        let list = history.list()?;
        let same = |version: &&Version| current.is_some() && version.text.as_ref().ok() == current.as_ref();
        let in_force = list.iter().find(same).map(|version| version.number);
        let shown = |version: Version| {
            let (when, who, why) = match version.note {
                Some(note) => (note.when.to_string(), note.who, note.why),
                None => Default::default(),
            };
            SiteVersion {
                number: version.number,
                when,
                who,
                why,
                in_force: in_force == Some(version.number),
                damaged: version.text.err(),
            }
        };
        Ok(SiteHistory {
            versions: list.into_iter().map(shown).collect(),
            instead,
        })
    }

    /// The text of a version.
    fn version(&self, number: &str) -> Result<Named, Answered> {
        let path = self.config.site();
        let Ok(number) = number.parse::<u64>() else {
            let why = format!("`{number}` is not a version's number; `cairn config history` lists them");
            return Err(Answered::error(400, &why));
        };
        match History::of(&Real, &path).version(number) {
            Ok(Some(Version { text: Ok(text), .. })) => Ok(Named(format!("version {number}"), text)),
            Ok(Some(Version { text: Err(why), .. })) => Err(Answered::error(409, &why)),
            Ok(None) => {
                let why = format!("there is no version {number}; `cairn config history` lists them");
                Err(Answered::error(404, &why))
            }
            Err(e) => Err(Answered::error(500, &e.to_string())),
        }
    }

    /// Compares two versions.
    pub(crate) fn site_diff(&self, from: Option<&str>, to: Option<&str>) -> Answered {
        match self.compared(from, to) {
            Ok((Named(from, old), Named(to, new))) => {
                let diff = diff((&from, &old), (&to, &new));
                Answered::of(200, &SiteDiff { from, to, diff })
            }
            Err(refused) => refused,
        }
    }

    fn compared(&self, from: Option<&str>, to: Option<&str>) -> Result<(Named, Named), Answered> {
        let path = self.config.site();
        let history = History::of(&Real, &path);
        let failed = |e: cairn_config::Error| Answered::error(500, &e.to_string());
        let to = match to {
            Some(number) => self.version(number)?,
            None => match history.text().map_err(failed)? {
                Some(text) => Named("site.toml".into(), text),
                None => {
                    let current = history.current(|text| self.parse_site(text)).map_err(failed)?;
                    Named("in force".into(), current.map(|c| c.text).unwrap_or_default())
                }
            },
        };
        let from = match from {
            Some(number) => self.version(number)?,
            None => {
                let list = history.list().map_err(failed)?;
                let mut texts = list
                    .into_iter()
                    .filter_map(|version| Some(Named(format!("version {}", version.number), version.text.ok()?)));
                let other = texts.find(|Named(_, text)| *text != to.1);
                other.unwrap_or_else(|| Named("nothing".into(), to.1.clone()))
            }
        };
        Ok((from, to))
    }

    /// Makes an earlier version the newest, and puts it in force.
    pub(crate) fn roll_back(&mut self, to: Option<&str>, who: &str) -> Answered {
        let Some(number) = to else {
            return Answered::error(400, "which version? `cairn config history` lists them");
        };
        let Named(name, text) = match self.version(number) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        if let Err(problems) = self.parse_site(&text) {
            let why = format!(
                "{name} does not fit this appliance any more: {}; nothing was changed",
                in_one_line(problems)
            );
            return Answered::error(409, &why);
        }
        self.accept_guarded(&text, who, &format!("back to {name}"), crate::net_change::WITHIN)
    }
}

//! What the appliance does about later versions by itself: the owner's policy, put into force. What and when is decided in `schedule.rs`.

use std::fs;

use cairn_api::{UpgradeHold, UpgradeLine, UpgradeOffer, UpgradePolicy as Told, UpgradeTask};
use cairn_unit::{Hold, Moment, Seconds, UpgradePolicy};
use sha2::{Digest as _, Sha256};

use crate::clock::{now_ms, seconds};
use crate::control::Answered;
use crate::schedule::{Action, Known, Offer, Tries, Turn, decide};
use crate::site_text;
use crate::supervisor::Supervisor;
use crate::upgrade::{Work, none};

/// The longest time without a look at the clock, which may be set.
const LONGEST_MS: u64 = 15 * 60_000;
/// The longest reason of a hold, in characters.
const REASON: usize = 200;

/// What the manager knows for it, beside what lies in files.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// What the repository that is followed offered last.
    offer: Option<UpgradeOffer>,
    /// How asking it went.
    checks: Tries,
    /// How installing what it offers went.
    installs: Tries,
    /// The version that the owner was told of.
    told: Option<String>,
    /// What stands against the newest version, as it was told.
    against: Option<String>,
    /// The version that was told to be withdrawn.
    taken_back: Option<String>,
    /// The version that was restarted into last by itself.
    restarted: Option<String>,
    /// A number that is this appliance's and stays.
    number: Option<u64>,
    /// When to look again, in milliseconds.
    wait: Option<u64>,
}

impl Own {
    /// When to look again, in milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        self.wait
    }
}

/// A time of RFC 3339 in seconds since 1970.
fn moment(text: &str) -> Option<u64> {
    text.parse().ok().map(|Moment(at)| at)
}

/// What is offered, as it is decided on. What is not understood is not the appliance's turn.
fn offered(offer: &UpgradeOffer) -> Offer<'_> {
    Offer {
        version: &offer.version,
        // What would be refused is not tried every time.
        newer: offer.newer && offer.refused.is_none(),
        turn: match offer.turn.as_str() {
            "now" => Turn::Now,
            "later" => offer.turn_at.as_deref().and_then(moment).map_or(Turn::Open, Turn::At),
            _ => Turn::Open,
        },
    }
}

impl Supervisor {
    fn policy(&self) -> UpgradePolicy {
        let built = self.built.upgrade.as_ref();
        built.map_or_else(UpgradePolicy::default, |built| {
            UpgradePolicy::of(built, self.site.upgrade.as_ref())
        })
    }

    /// Takes what a manager before this one found, and what was done before this start.
    pub(crate) fn remember_upgrades(&mut self) {
        let offer: Option<UpgradeOffer> = self.left("offered.json");
        let last = self.history().into_iter().rfind(|line| line.what == "restarting");
        let own = &mut self.upgrading.own;
        own.checks.last = offer.as_ref().and_then(|offer| moment(&offer.at));
        own.offer = offer;
        own.restarted = last.map(|line| line.version);
    }

    fn history(&self) -> Vec<UpgradeLine> {
        let text = fs::read_to_string(self.config.at("/data/upgrade/history.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn own_number(&mut self) -> u64 {
        if self.upgrading.own.number.is_none() {
            let text = fs::read_to_string(self.config.at("/data/upgrade/machine")).ok();
            let digest = text.map(|text| Sha256::digest(format!("cairn check {}", text.trim())));
            self.upgrading.own.number =
                digest.map(|digest| digest[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
        }
        self.upgrading.own.number.unwrap_or(0)
    }

    /// Does what is to be done by itself now.
    pub(crate) fn follow_upgrades(&mut self) {
        self.upgrading.own.wait = None;
        let Some(follow) = &self.built.upgrade else { return };
        let reachable = follow.url.is_some();
        // Before it is set up nobody has chosen anything.
        let busy = self.upgrade_runs() || self.saved.lowering.is_some();
        if busy || self.saved.power.is_some() || self.site.only.is_some() {
            return;
        }
        let Some(versions) = self.upgrading.versions.clone() else {
            return;
        };
        if let Some(words) = self.upgrading.notes.pop_front() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.start_upgrade(Work::of(&words));
            return;
        }
        let (now, number, policy) = (seconds(), self.own_number(), self.policy());
        let own = &self.upgrading.own;
        let other = versions
            .other
            .as_ref()
            .map(|other| (other.version.as_str(), other.tries_left));
        let waiting = other.and_then(|(version, left)| left.filter(|left| *left > 0).map(|_| version));
        let bad = other.and_then(|(version, left)| left.filter(|left| *left == 0).map(|_| version));
        let failed = versions.failed.as_ref().map(|failed| failed.version.as_str());
        let given_up: Vec<&str> = [bad, failed, own.restarted.as_deref()].into_iter().flatten().collect();
        let known = Known {
            began: now.saturating_sub(now_ms().saturating_sub(self.saved.begun_ms) / 1000),
            own: number,
            reachable,
            busy: versions
                .running
                .as_ref()
                .is_none_or(|running| running.tries_left.is_some()),
            checks: &own.checks,
            installs: &own.installs,
            offer: own.offer.as_ref().map(offered),
            waiting,
            given_up: &given_up,
            told: own.told.as_deref(),
        };
        let action = decide(now, &policy, &known);
        self.act_on_upgrade(now, action);
    }

    fn act_on_upgrade(&mut self, now: u64, action: Action) {
        match action {
            Action::Nothing(until) => {
                let wait = until.map(|until| until.saturating_sub(now).saturating_mul(1000).min(LONGEST_MS));
                self.upgrading.own.wait = wait.map(|wait| now_ms() + wait);
            }
            Action::Check => {
                if !self.start_upgrade(Work::of(&["check", "--automatic"])) {
                    self.upgrading.own.checks.done(now, false);
                }
            }
            Action::Install => {
                let limit = self.bandwidth_word();
                let words: Vec<&str> = ["install", "--automatic"].into_iter().chain(limit.as_deref()).collect();
                if !self.start_upgrade(Work::of(&words)) {
                    self.upgrading.own.installs.done(now, false);
                }
            }
            Action::Restart(version) => {
                self.upgrading.own.restarted = Some(version.clone());
                if !self.start_upgrade(Work::of(&["restart", "--automatic", &version])) {
                    self.go_down("reboot");
                }
            }
            Action::Notify(version) => {
                let installed = self.upgrading.versions.as_ref().and_then(|v| v.other.as_ref());
                let installed = installed.is_some_and(|other| other.version == version && other.tries_left > Some(0));
                let line = match installed {
                    true => format!("Version {version} is installed; `cairn reboot` starts it"),
                    false => format!("Version {version} can be installed: `cairn upgrade check` tells more"),
                };
                self.console.say(&line);
                self.note_in_history("offered", &version, "");
                self.upgrading.own.told = Some(version);
            }
        }
    }

    fn note_in_history(&mut self, what: &str, version: &str, why: &str) {
        let words = ["note", what, version, why].map(str::to_owned);
        self.upgrading.notes.push_back(words.to_vec());
    }

    /// A piece of work that this manager began has ended.
    pub(crate) fn note_upgrade(&mut self, work: &Work) {
        let task: Option<UpgradeTask> = self.left("task.json");
        let well = task.is_some_and(|task| task.state == "done");
        let now = seconds();
        if !work.followed || !["check", "install"].contains(&work.what()) {
            return;
        }
        let offer: Option<UpgradeOffer> = self.left("offered.json");
        let own = &mut self.upgrading.own;
        let version = |offer: &Option<UpgradeOffer>| offer.as_ref().map(|offer| offer.version.clone());
        if version(&offer) != version(&own.offer) {
            own.installs = Tries::default();
        }
        match work.what() {
            "check" => own.checks.done(now, well),
            _ if work.is_automatic() => own.installs.done(now, well),
            _ => {}
        }
        own.offer = offer;
        let against = own.offer.as_ref().and_then(UpgradeOffer::stands_against);
        if against.is_some() && against != own.against {
            own.against.clone_from(&against);
            self.console.say(&format!("{}.", against.unwrap_or_default()));
        }
        let own = &mut self.upgrading.own;
        let running = self.manifest.version.clone();
        let said = own.offer.as_ref().and_then(|offer| offer.taken_back(&running));
        if let Some(said) = said.filter(|_| own.taken_back.as_ref() != Some(&running)) {
            own.taken_back = Some(running);
            self.console.say(&said);
        }
    }

    /// The word by which the process is told how fast it may fetch.
    pub(crate) fn bandwidth_word(&self) -> Option<String> {
        self.policy().bandwidth.map(|limit| format!("--bandwidth={}", limit.0))
    }

    /// The policy as the API tells it.
    pub(crate) fn told_policy(&self) -> Told {
        let policy = self.policy();
        Told {
            mode: policy.mode.to_string(),
            window: policy.window.iter().map(ToString::to_string).collect(),
            bandwidth: policy.bandwidth.map(|limit| limit.0),
            hold: policy.held(seconds()).map(told_hold),
        }
    }

    /// Why nothing may be installed, if the owner holds upgrades and does not insist.
    pub(crate) fn held_back(&self, force: bool) -> Option<Answered> {
        let policy = self.policy();
        let held = told_hold(policy.held(seconds()).filter(|_| !force)?);
        let how = "`cairn upgrade install --force` installs all the same, `cairn upgrade unhold` ends it";
        Some(Answered::error(409, &format!("{held}; {how}")))
    }

    /// `POST /v1/upgrade/hold`: until, for, reason.
    pub(crate) fn hold_upgrades(
        &mut self,
        (until, length, reason): (Option<&str>, Option<&str>, Option<&str>),
        who: &str,
    ) -> Answered {
        if self.built.upgrade.is_none() {
            return none();
        }
        let hold = match wanted(until, length, reason, seconds()) {
            Ok(hold) => hold,
            Err(why) => return Answered::error(400, &why),
        };
        let told = told_hold(&hold).to_string();
        let answer = self.edit_site(who, &told, &|text| edit_hold(text, Some(&hold)));
        if answer.status == 200 {
            let until = hold.until.map_or_else(String::new, |until| format!("until {until}"));
            let parts = [until, hold.reason].into_iter().filter(|part| !part.is_empty());
            let why = parts.collect::<Vec<String>>().join(": ");
            self.note_in_history("held", &self.manifest.version.clone(), &why);
        }
        answer
    }

    /// `POST /v1/upgrade/unhold`
    pub(crate) fn unhold_upgrades(&mut self, who: &str) -> Answered {
        if self.built.upgrade.is_none() {
            return none();
        }
        if self.policy().hold.is_none() {
            return Answered::error(409, "upgrades are not held");
        }
        let answer = self.edit_site(who, "upgrades are no longer held", &|text| edit_hold(text, None));
        if answer.status == 200 {
            self.note_in_history("released", &self.manifest.version.clone(), "");
        }
        answer
    }
}

fn told_hold(hold: &Hold) -> UpgradeHold {
    UpgradeHold {
        until: hold.until.map(|until| until.to_string()),
        reason: hold.reason.clone(),
    }
}

/// The hold that is asked for, at `now` in seconds since 1970.
fn wanted(until: Option<&str>, length: Option<&str>, reason: Option<&str>, now: u64) -> Result<Hold, String> {
    let until = match (until, length) {
        (Some(_), Some(_)) => return Err("say either until when or for how long".to_owned()),
        (Some(until), None) => Some(until.parse::<Moment>().map_err(|e| e.to_string())?),
        (None, Some(length)) => {
            let length: Seconds = length.parse().map_err(|e: cairn_unit::ValueError| e.to_string())?;
            Some(Moment(now.saturating_add(length.millis() / 1000)))
        }
        (None, None) => None,
    };
    if let Some(past) = until.filter(|until| until.0 <= now) {
        return Err(format!("{past} is over; say a later time"));
    }
    let reason = reason.unwrap_or_default().trim().to_owned();
    if reason.chars().count() > REASON || reason.contains(char::is_control) {
        return Err(format!("a reason is one line of at most {REASON} characters"));
    }
    Ok(Hold { until, reason })
}

/// The site's text with another hold, or none; comments and everything else stay.
fn edit_hold(text: &str, hold: Option<&Hold>) -> Result<String, String> {
    let mut site = site_text::parse(text)?;
    site_text::table_at(&mut site, &["upgrade"])?.remove("hold");
    if let Some(hold) = hold {
        let held = site_text::table_at(&mut site, &["upgrade", "hold"])?;
        if let Some(until) = hold.until {
            held.insert("until", toml_edit::value(until.to_string()));
        }
        if !hold.reason.is_empty() {
            held.insert("reason", toml_edit::value(&hold.reason));
        }
    }
    if site_text::table_at(&mut site, &["upgrade"])?.is_empty() {
        site.remove("upgrade");
    }
    Ok(site.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_305_600;

    #[test]
    fn a_hold_is_written_between_the_owners_own_lines_and_taken_out_again() {
        let own = "# mine\n[upgrade]\nmode = \"automatic\" # for now\n\n[units.web]\nenabled = false\n";
        for (hold, line) in [
            (wanted(None, None, None, NOW).unwrap(), "[upgrade.hold]\n"),
            (
                wanted(None, Some("14d"), Some("an \"audit\""), NOW).unwrap(),
                "[upgrade.hold]\nuntil = \"2026-12-06T00:00:00Z\"\nreason = ",
            ),
        ] {
            for text in ["", own] {
                let held = edit_hold(text, Some(&hold)).unwrap();
                assert!(held.contains(line), "{held}");
                let site: cairn_unit::Site = toml::from_str(&held).unwrap();
                assert_eq!(site.upgrade.unwrap().hold.unwrap(), hold);
                let again = edit_hold(&held, Some(&hold)).unwrap();
                assert_eq!(edit_hold(&again, None).unwrap().trim(), text.trim());
            }
        }
        let inline = "upgrade = { mode = \"automatic\" }\n";
        let hold = wanted(None, None, Some("audit"), NOW).unwrap();
        let held = edit_hold(inline, Some(&hold)).unwrap();
        assert_eq!(
            held,
            "upgrade = { mode = \"automatic\" , hold = { reason = \"audit\" } }\n"
        );
        assert!(edit_hold("upgrade = 3\n", None).is_err());
    }

    #[test]
    fn a_hold_that_is_over_or_said_twice_is_refused() {
        let why = |until, length, reason| wanted(until, length, reason, NOW).unwrap_err();
        assert!(why(Some("2026-11-22"), None, None).contains("is over"));
        assert!(why(None, Some("0s"), None).contains("is over"));
        assert!(why(Some("2027-01-01"), Some("1d"), None).contains("either"));
        assert!(why(Some("tomorrow"), None, None).contains("not a moment"));
        assert!(why(None, Some("14"), None).contains("not a duration"));
        assert!(why(None, None, Some("a\nb")).contains("one line"));
        let hold = wanted(Some("2027-01-01"), None, Some(" audit "), NOW).unwrap();
        assert_eq!(
            told_hold(&hold).to_string(),
            "upgrades are held until 2027-01-01 00:00 UTC (audit)"
        );
    }

    #[test]
    fn an_offer_that_is_not_understood_is_not_ones_turn() {
        let offer = |turn: &str, at: Option<&str>| UpgradeOffer {
            turn: turn.into(),
            turn_at: at.map(str::to_owned),
            ..UpgradeOffer::default()
        };
        for (turn, at, expected) in [
            ("now", None, Turn::Now),
            ("later", Some("2026-11-22T00:00:00Z"), Turn::At(NOW)),
            ("later", Some("soon"), Turn::Open),
            ("later", None, Turn::Open),
            ("paused", None, Turn::Open),
            ("", None, Turn::Open),
        ] {
            assert_eq!(offered(&offer(turn, at)).turn, expected, "{turn}");
        }
    }
}

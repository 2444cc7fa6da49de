//! The appliance's versions: what runs and what the other slot holds, a later version from the repository, and the way back.

use cairn_api::{Status, UpgradeHistory, UpgradeOffer, UpgradeTask, UpgradeVersion, Upgrades};
use minijinja::Value;
use serde::Serialize;

use crate::app::{App, Failure, Visit};
use crate::control::ControlError;
use crate::http::Response;
use crate::view::values;

/// How it is with a version, as the keys of its words: `version.state-` and the sign's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It has proved itself.
    Proved,
    /// It is the running one and has to prove itself.
    Proving,
    /// It is started by the next restart.
    Next,
    /// It is the running one, and the next restart starts the other.
    Left,
    /// It was given up.
    GivenUp,
    /// It is in the other slot, into which another is being written.
    Replaced,
    /// The boot entries were not looked at yet.
    Unknown,
}

impl State {
    fn mood(self) -> &'static str {
        match self {
            State::Proved => "good",
            State::Proving | State::Next | State::Replaced => "busy",
            State::GivenUp => "bad",
            State::Left | State::Unknown => "off",
        }
    }
}

/// How the versions stand, and what can be done about them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    running: State,
    other: Option<State>,
    /// The version that the next restart starts, if that is another one.
    starts: Option<String>,
    /// The version that can be gone back to.
    back: Option<String>,
    /// The version that can be installed.
    install: Option<String>,
    /// Whether something is being done.
    working: bool,
}

fn stand(all: &Upgrades) -> Stand {
    let (running, other) = (all.versions.running.as_ref(), all.versions.other.as_ref());
    let tries = |one: Option<&UpgradeVersion>| one.map(|one| one.tries_left);
    let left = tries(running) == Some(Some(0)) && !matches!(tries(other), None | Some(Some(0)));
    let fresh = matches!(tries(other), Some(Some(1..)));
    let running_state = match tries(running) {
        None => State::Unknown,
        Some(None) => State::Proved,
        _ if left => State::Left,
        Some(Some(0)) => State::GivenUp,
        Some(Some(_)) => State::Proving,
    };
    let task = all.task.as_ref().filter(|task| task.state == "running");
    let other_state = tries(other).map(|tries| match tries {
        _ if task.is_some_and(|task| task.what == "install") => State::Replaced,
        Some(0) => State::GivenUp,
        _ if left || fresh => State::Next,
        _ => State::Proved,
    });
    let working = task.is_some();
    let version = |when: bool| other.filter(|_| when && !working).map(|other| other.version.clone());
    let starts = version(other_state == Some(State::Next));
    let offer = all.offered.as_ref().filter(|offer| offer.newer && !working);
    // What runs has to prove itself first: the other slot is what would be started if it does not.
    let wanted = offer.filter(|offer| offer.refused.is_none());
    let install = wanted.filter(|offer| running_state == State::Proved && starts.as_ref() != Some(&offer.version));
    Stand {
        back: version(other_state == Some(State::Proved) && matches!(running_state, State::Proved | State::Proving)),
        install: install.map(|offer| offer.version.clone()),
        running: running_state,
        other: other_state,
        starts,
        working,
    }
}

/// How far a piece of work is.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Progress {
    percent: u64,
    /// Bytes in a second; `None` where nothing is written, or it cannot be told yet.
    rate: Option<f64>,
    /// Seconds.
    left: Option<f64>,
    fetched: f64,
}

fn progress(task: &UpgradeTask) -> Progress {
    let rate = (task.done.saturating_mul(1000)).checked_div(task.took_ms);
    let rate = rate.filter(|rate| *rate > 0 && task.phase == "write");
    let left = rate.map(|rate| task.total.saturating_sub(task.done) as f64 / rate as f64);
    Progress {
        percent: task
            .done
            .saturating_mul(100)
            .checked_div(task.total)
            .unwrap_or(0)
            .min(100),
        rate: rate.map(|rate| rate as f64),
        left,
        fetched: task.fetched as f64,
    }
}

/// What the overview says of versions: the key of the sentence, its version, and a reason.
pub(super) fn news(all: &Upgrades) -> Option<(&'static str, String, String)> {
    let stand = stand(all);
    if let Some(failed) = &all.versions.failed {
        return Some(("failed", failed.version.clone(), failed.why.clone()));
    }
    let pair = |key, version: String| Some((key, version, String::new()));
    match (stand.starts, stand.install) {
        (Some(version), _) => pair("starts", version),
        (None, Some(version)) => pair("new", version),
        _ => None,
    }
}

/// What the manager knows; `None` on an appliance that was built without upgrades.
pub(super) async fn ask(app: &App) -> Result<Option<Upgrades>, ControlError> {
    match app.control.get("/v1/upgrade").await {
        Ok(all) => Ok(Some(all)),
        Err(error) if error.status() == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn asked(app: &App) -> Result<Upgrades, Failure> {
    ask(app).await?.ok_or(Failure::Refused(409, "version.none"))
}

/// The page.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let status: Status = app.control.get("/v1/status").await?;
    let Some(all) = ask(app).await? else {
        let values = values! { all => (), version => status.version, refresh => false };
        return app.page(visit, 200, "version.html", values);
    };
    let history: UpgradeHistory = app.control.get("/v1/upgrade/history").await.unwrap_or_default();
    let stand = stand(&all);
    let now = all.task.as_ref().filter(|_| stand.working).map(progress);
    let done = all
        .task
        .as_ref()
        .filter(|task| task.state == "done" && task.what == "install");
    // A later manager may do what there are no words for: then its own have to do.
    let say = |kind: &str, what: &str, version: &str| {
        let key = format!("version.{kind}-{what}");
        match app.view.knows(&key) {
            true => app.view.say(visit.lang, &key, &[("version", version.to_owned())]),
            false => what.to_owned(),
        }
    };
    let task = all.task.as_ref();
    let doing = task.map(|task| say("doing", &task.what, &task.version));
    let phase = task.map(|task| say("phase", &task.phase, ""));
    let wrong = task.and_then(|task| Some((say("trouble", &task.what, ""), task.error.as_ref()?)));
    let history: Vec<Value> = history
        .lines
        .iter()
        .map(|line| values! { at => line.at, version => line.version, what => line.what, why => line.why, said => say("past", &line.what, "") })
        .collect();
    // The manager's own sentences: a hold, whose turn it is, a version that was withdrawn.
    let held = all.policy.hold.as_ref().map(|hold| format!("{hold}."));
    let against = all.offered.as_ref().and_then(UpgradeOffer::stands_against);
    let turn = against.or_else(|| all.offered.as_ref().and_then(UpgradeOffer::waits));
    let withdrawn = all.offered.as_ref().and_then(|offer| offer.taken_back(&all.version));
    // Between the form and the work's first words there is nothing to tell.
    let begun = visit.request.query.get("begun") == "1" && all.task.is_none();
    let other_mood = stand.other.map(State::mood);
    app.page(
        visit,
        200,
        "version.html",
        values! {
            all, version => status.version, going_down => status.going_down, history,
            working => stand.working, refresh => stand.working || begun, begun, now, doing, phase, done, wrong, running => stand.running, running_mood => stand.running.mood(),
            other => stand.other, other_mood, starts => stand.starts, back => stand.back, install => stand.install,
            held, turn => turn.map(|turn| format!("{turn}.")), withdrawn,
        },
    )
}

/// Asks the repository, installs, goes back, or restarts into what the next restart starts.
pub(super) async fn act(app: &App, visit: &mut Visit, verb: &str) -> Result<Response, Failure> {
    let stand = stand(&asked(app).await?);
    let sure = visit.request.form.get("sure") == verb;
    let (path, told) = match verb {
        "check" => (
            "/v1/upgrade/check",
            "the repository is asked for a new version".to_owned(),
        ),
        "install" => {
            let version = stand.install.ok_or(Failure::Refused(409, "error.version-install"))?;
            (
                "/v1/upgrade/install",
                format!("the install of version {version} was begun"),
            )
        }
        _ if !sure => return Err(Failure::Refused(400, "error.sure")),
        "rollback" => {
            let version = stand.back.ok_or(Failure::Refused(409, "error.version-back"))?;
            match visit.request.form.get("lose") {
                "1" => (
                    "/v1/upgrade/rollback?lose-data=1",
                    format!(
                        "the next restart starts version {version} again, also if data that was written since is lost"
                    ),
                ),
                _ => (
                    "/v1/upgrade/rollback",
                    format!("the next restart starts version {version} again"),
                ),
            }
        }
        "restart" => {
            let version = stand.starts.ok_or(Failure::Refused(409, "error.version-restart"))?;
            (
                "/v1/power/reboot",
                format!("a restart into version {version} was begun"),
            )
        }
        _ => return Err(Failure::Refused(404, "error.nothing-here")),
    };
    visit.control(app).post(path, None).await?;
    visit.told = told;
    let _ = app.changes.send(());
    Ok(Response::see(if verb == "restart" {
        "/version"
    } else {
        "/version?begun=1"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_api::FailedVersion;

    fn entry(version: &str, tries_left: Option<u32>) -> Option<UpgradeVersion> {
        let entry = String::new();
        Some(UpgradeVersion {
            version: version.into(),
            entry,
            tries_left,
        })
    }

    fn versions(running: Option<UpgradeVersion>, other: Option<UpgradeVersion>) -> Upgrades {
        let mut all = Upgrades::default();
        (all.versions.running, all.versions.other) = (running, other);
        all.offered = Some(UpgradeOffer {
            version: "3.0".into(),
            newer: true,
            ..UpgradeOffer::default()
        });
        all
    }

    #[test]
    fn what_can_be_done_follows_from_what_the_slots_hold() {
        use State::{GivenUp, Left, Next, Proved, Proving, Unknown};
        for (running, other, states, starts, back, install) in [
            (entry("2.0", None), None, (Proved, None), None, None, Some("3.0")),
            (
                entry("2.0", None),
                entry("1.0", None),
                (Proved, Some(Proved)),
                None,
                Some("1.0"),
                Some("3.0"),
            ),
            // Installed, and not started yet: the same is not installed again, another may be.
            (
                entry("2.0", None),
                entry("3.0", Some(3)),
                (Proved, Some(Next)),
                Some("3.0"),
                None,
                None,
            ),
            (
                entry("2.0", None),
                entry("2.5", Some(3)),
                (Proved, Some(Next)),
                Some("2.5"),
                None,
                Some("3.0"),
            ),
            // While it proves itself nothing is installed, but the owner may go back at once.
            (
                entry("2.0", Some(2)),
                entry("1.0", None),
                (Proving, Some(Proved)),
                None,
                Some("1.0"),
                None,
            ),
            (
                entry("2.0", Some(0)),
                entry("1.0", None),
                (Left, Some(Next)),
                Some("1.0"),
                None,
                None,
            ),
            (
                entry("2.0", None),
                entry("2.5", Some(0)),
                (Proved, Some(GivenUp)),
                None,
                None,
                Some("3.0"),
            ),
            (
                entry("2.0", Some(0)),
                entry("2.5", Some(0)),
                (GivenUp, Some(GivenUp)),
                None,
                None,
                None,
            ),
            (None, None, (Unknown, None), None, None, None),
        ] {
            let all = versions(running, other);
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let wanted = Stand {
                running: states.0,
                other: states.1,
                starts: owned(starts),
                back: owned(back),
                install: owned(install),
                working: false,
            };
            assert_eq!(stand(&all), wanted, "{:?}", all.versions);
        }
    }

    #[test]
    fn while_something_is_done_nothing_else_is_offered() {
        let mut all = versions(entry("2.0", None), entry("1.0", None));
        all.task = Some(UpgradeTask {
            state: "running".into(),
            what: "install".into(),
            ..UpgradeTask::default()
        });
        let found = stand(&all);
        assert_eq!(found.other, Some(State::Replaced));
        assert!(found.working && found.back.is_none() && found.install.is_none() && found.starts.is_none());
    }

    #[test]
    fn progress_tells_rate_and_time_left_once_they_are_known() {
        let mut task = UpgradeTask {
            phase: "write".into(),
            done: 50 << 20,
            total: 100 << 20,
            took_ms: 5_000,
            ..UpgradeTask::default()
        };
        let found = progress(&task);
        assert_eq!((found.percent, found.rate), (50, Some(f64::from(10 << 20))));
        assert_eq!(found.left, Some(5.0));
        task.took_ms = 0;
        assert_eq!((progress(&task).rate, progress(&task).left), (None, None));
        // A share of another phase is no rate of writing.
        (task.took_ms, task.phase) = (9_000, "verify".into());
        assert_eq!(progress(&task).rate, None);
        assert_eq!(progress(&UpgradeTask::default()).percent, 0);
    }

    #[test]
    fn the_overview_tells_the_worst_first_and_else_keeps_quiet() {
        let mut all = versions(entry("2.0", None), entry("1.0", None));
        assert_eq!(news(&all).unwrap().0, "new");
        all.versions.other = entry("3.0", Some(3));
        assert_eq!(news(&all).unwrap().0, "starts");
        all.versions.failed = Some(FailedVersion {
            version: "2.5".into(),
            why: "unit web failed".into(),
            log: Vec::new(),
        });
        assert_eq!(news(&all), Some(("failed", "2.5".into(), "unit web failed".into())));
        assert_eq!(news(&Upgrades::default()), None);
    }
}

//! `cairn upgrade`: later versions of the whole appliance.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use cairn_api::{UpgradeHistory, UpgradeOffer, UpgradePolicy, UpgradeTask, UpgradeVersion, Upgrades};
use clap::Subcommand;

use crate::table::{Paint, size, span};
use crate::{Cli, Outcome, Refused, ask, client, parsed, put, shown};

/// What can be done about versions.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the versions that the appliance has; this is what the command does by itself.
    Status,
    /// Ask what is newest.
    Check {
        /// A repository's address, or a bundle; left out: the repository that the appliance was built with.
        from: Option<String>,
    },
    /// Bring the newest version into the free slot. The next restart starts it; if it does not prove itself, the version of before comes back.
    Install {
        /// A repository's address, or a bundle; left out: the repository that the appliance was built with.
        from: Option<String>,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
        /// Restart when it is done.
        #[arg(long, conflicts_with = "no_wait")]
        restart: bool,
        /// Also if it is not this appliance's turn yet, or the publisher has paused the version.
        #[arg(long)]
        now: bool,
        /// Also while upgrades are held.
        #[arg(long)]
        force: bool,
    },
    /// Install nothing by itself, and nothing at all without --force, until a time or until `unhold`.
    Hold {
        /// Why; told to whoever would install.
        reason: Option<String>,
        /// Until a day (2027-01-31, in UTC) or a time as in RFC 3339.
        #[arg(long, value_name = "DATE", conflicts_with = "length")]
        until: Option<String>,
        /// For so long from now, as 14d or 12h.
        #[arg(long = "for", id = "length", value_name = "DURATION")]
        length: Option<String>,
    },
    /// Take a hold back.
    Unhold,
    /// Let the next restart start the version of before. Where a unit brings its data back to what that reads, this restarts the appliance itself.
    Rollback {
        /// Also if data that was written since the upgrade is lost; without this it is said which.
        #[arg(long)]
        lose_data: bool,
    },
    /// Show what happened to versions.
    History,
}

/// Does it.
pub(crate) fn run(cli: &Cli, command: Option<&Command>, paint: Paint) -> Outcome<()> {
    match command {
        None | Some(Command::Status) => {
            let answer = ask(cli, "GET", "/v1/upgrade")?;
            shown::<Upgrades>(cli, answer, |all| status(all, paint)).map(drop)
        }
        Some(Command::History) => {
            let answer = ask(cli, "GET", "/v1/upgrade/history")?;
            shown::<UpgradeHistory>(cli, answer, history).map(drop)
        }
        Some(Command::Check { from }) => {
            begin(cli, "check", from.as_deref(), &[])?;
            let (all, body) = wait(cli)?;
            match all.offered {
                _ if cli.json => put(&String::from_utf8_lossy(&body)),
                Some(offer) => put(&offered(&offer, &all.version)),
                None => {}
            }
            Ok(())
        }
        Some(Command::Hold { reason, until, length }) => {
            let all = [("reason", reason), ("until", until), ("for", length)];
            let all = all.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
            ask(cli, "POST", &route("/v1/upgrade/hold", &all.collect::<Vec<_>>()))?;
            held(cli)
        }
        Some(Command::Unhold) => {
            ask(cli, "POST", "/v1/upgrade/unhold")?;
            held(cli)
        }
        Some(Command::Install {
            from,
            no_wait,
            restart,
            now,
            force,
        }) => {
            let insist = [("now", *now), ("force", *force)].into_iter().filter(|(_, set)| *set);
            let insist: Vec<(&str, &str)> = insist.map(|(key, _)| (key, "1")).collect();
            begin(cli, "install", from.as_deref(), &insist)?;
            if *no_wait {
                return Ok(());
            }
            let (all, body) = wait(cli)?;
            match all.task {
                _ if cli.json => put(&String::from_utf8_lossy(&body)),
                Some(task) => put(&installed(&task)),
                None => {}
            }
            match restart {
                true => ask(cli, "POST", "/v1/power/reboot").map(drop),
                false => Ok(()),
            }
        }
        Some(Command::Rollback { lose_data }) => {
            let agreed = lose_data.then_some(("lose-data", "1"));
            begin(cli, "rollback", None, agreed.as_slice())?;
            let (all, body) = wait(cli)?;
            let other = all.versions.other.map_or(String::new(), |other| other.version);
            match cli.json {
                true => put(&String::from_utf8_lossy(&body)),
                false => put(&format!("The next restart (`cairn reboot`) starts version {other}.\n")),
            }
            Ok(())
        }
    }
}

/// A route with values in its query.
fn route(path: &str, query: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (number, (key, value)) in query.iter().enumerate() {
        let mark = if number == 0 { '?' } else { '&' };
        let _ = write!(out, "{mark}{key}={}", client::encode(value));
    }
    out
}

/// Says whether upgrades are held.
fn held(cli: &Cli) -> Outcome<()> {
    let body = ask(cli, "GET", "/v1/upgrade")?;
    let all: Upgrades = parsed(&body)?;
    match (cli.json, all.policy.hold) {
        (true, _) => put(&String::from_utf8_lossy(&body)),
        (false, Some(hold)) => put(&format!("{}.\n", capital(&hold.to_string()))),
        (false, None) => put("Upgrades are not held.\n"),
    }
    Ok(())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn begin(cli: &Cli, what: &str, from: Option<&str>, insist: &[(&str, &str)]) -> Outcome<()> {
    let mut query = insist.to_vec();
    let named;
    if let Some(from) = from {
        let web = from.starts_with("https://") || from.starts_with("http://");
        named = match web {
            true => from.to_owned(),
            false => {
                let file = std::path::absolute(from).map_err(|e| Refused(format!("{from}: {e}"), 1))?;
                file.to_string_lossy().into_owned()
            }
        };
        query.push(("from", &named));
    }
    ask(cli, "POST", &route(&format!("/v1/upgrade/{what}"), &query)).map(drop)
}

/// Shows how far it is until it is done; what was said at the end.
fn wait(cli: &Cli) -> Outcome<(Upgrades, Vec<u8>)> {
    let terminal = std::io::stderr().is_terminal() && !cli.json;
    loop {
        let body = ask(cli, "GET", "/v1/upgrade")?;
        let all: Upgrades = parsed(&body)?;
        let task = all.task.as_ref().filter(|task| task.state != "running");
        if terminal && let Some(task) = &all.task {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", progress(task));
        }
        if let Some(task) = task {
            if terminal {
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
            return match &task.error {
                Some(why) => Err(Refused(why.clone(), 1)),
                None => Ok((all, body)),
            };
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// One line of how far it is: the share, the rate and the time left of this phase.
fn progress(task: &UpgradeTask) -> String {
    let what = match task.phase.as_str() {
        "metadata" => "asking",
        "compare" => "comparing with what runs",
        "write" => "writing",
        "verify" => "reading back",
        "boot" => "writing the boot entry",
        "data" => return "bringing data back to what the version of before reads".to_owned(),
        other => other,
    };
    let share = task.done.saturating_mul(100).checked_div(task.total).unwrap_or(0);
    let rate = task.done.saturating_mul(1000).checked_div(task.took_ms).unwrap_or(0);
    let mut line = format!("{what} {} {share} %", task.version);
    if task.phase == "write" {
        let left = task
            .total
            .saturating_sub(task.done)
            .saturating_mul(1000)
            .checked_div(rate)
            .unwrap_or(0);
        let _ = write!(
            line,
            ", {}/s, {} left, {} fetched",
            size(rate),
            span(left),
            size(task.fetched)
        );
    }
    line
}

fn installed(task: &UpgradeTask) -> String {
    format!(
        "Version {} is installed in {}: {} fetched, {} taken from what was there. `cairn reboot` starts it.\n",
        task.version,
        span(task.took_ms),
        size(task.fetched),
        size(task.reused)
    )
}

fn version(version: &UpgradeVersion) -> String {
    let state = match version.tries_left {
        None => "proved".to_owned(),
        Some(0) => "given up".to_owned(),
        Some(left) => format!("{left} tries left"),
    };
    format!("{} ({state})", version.version)
}

fn status(all: &Upgrades, paint: Paint) -> String {
    let mut out = format!("version {}\n", paint.bold(&all.version));
    if let Some(proving) = &all.proving {
        let _ = writeln!(
            out,
            "  has to prove itself: {}; given up in {} otherwise",
            proving.waits_for,
            span(proving.left_ms)
        );
    }
    if let Some(running) = &all.versions.running {
        let _ = writeln!(out, "running    {}", version(running));
    }
    match &all.versions.other {
        Some(other) => _ = writeln!(out, "other slot {}", version(other)),
        None => out.push_str("other slot empty\n"),
    }
    if let Some(failed) = &all.versions.failed {
        let _ = writeln!(out, "version {} was given up: {}", failed.version, failed.why);
        for line in &failed.log {
            let _ = writeln!(out, "    {line}");
        }
    }
    if let Some(offer) = all.offered.as_ref().filter(|offer| offer.newer) {
        let _ = match offer.stands_against().or_else(|| offer.waits()) {
            Some(said) => writeln!(out, "{said}."),
            None => writeln!(out, "version {} can be installed", offer.version),
        };
    }
    if let Some(said) = all.offered.as_ref().and_then(|offer| offer.taken_back(&all.version)) {
        let _ = writeln!(out, "{said}");
    }
    if let Some(hold) = &all.policy.hold {
        let _ = writeln!(out, "{hold}");
    }
    if let Some(task) = &all.task {
        match (&task.error, task.state.as_str()) {
            (Some(why), _) => _ = writeln!(out, "{} failed: {why}", task.what),
            (None, "running") => _ = writeln!(out, "{}: {}", task.what, progress(task)),
            _ => {}
        }
    }
    for problem in &all.versions.problems {
        let _ = writeln!(out, "{problem}");
    }
    if all.versions.secure_boot {
        let _ = writeln!(out, "firmware   starts only what is signed (Secure Boot)");
    }
    let from = all.url.as_deref().unwrap_or("bundles only");
    let _ = writeln!(out, "from       {from}, channel {}", all.channel);
    let _ = writeln!(out, "by itself  {}", by_itself(&all.policy));
    out
}

/// What the appliance does without being asked.
fn by_itself(policy: &UpgradePolicy) -> String {
    let mut out = match policy.mode.as_str() {
        "automatic" => "installs what is offered".to_owned(),
        "notify" => "tells what is offered".to_owned(),
        _ => return "nothing".to_owned(),
    };
    if policy.mode == "automatic" {
        match policy.window.is_empty() {
            true => out.push_str(", never restarts"),
            false => _ = write!(out, ", restarts {} UTC", policy.window.join(", ")),
        }
        if let Some(bytes) = policy.bandwidth {
            let _ = write!(out, ", at most {}/s", size(bytes));
        }
    }
    out
}

fn offered(offer: &UpgradeOffer, own: &str) -> String {
    let back = offer.taken_back(own).map_or_else(String::new, |said| said + "\n");
    if !offer.newer && back.is_empty() {
        return format!("Version {own} is the newest.\n");
    }
    if !offer.newer {
        return back;
    }
    let mut out = match (offer.stands_against(), offer.waits()) {
        (Some(said), _) => format!("{said}.\n"),
        (None, Some(waits)) => format!("{waits}; {own} runs. `cairn upgrade install --now` takes it anyway.\n"),
        (None, None) => format!("Version {} can be installed; {own} runs.\n", offer.version),
    };
    out.insert_str(0, &back);
    if !offer.notes.trim().is_empty() {
        let _ = writeln!(out, "\n{}", offer.notes.trim());
    }
    if !offer.changes.is_empty() {
        let since = offer.since.as_deref().unwrap_or("the version before");
        let _ = writeln!(out, "\nPackages that differ from {since}:");
        offer
            .changes
            .iter()
            .for_each(|change| out.push_str(&format!("  {change}\n")));
    }
    out
}

fn history(all: &UpgradeHistory) -> String {
    let mut out = String::new();
    for line in &all.lines {
        let _ = write!(out, "{}  {:13} {}", line.at, line.what, line.version);
        match line.why.is_empty() {
            true => out.push('\n'),
            false => _ = writeln!(out, ": {}", line.why),
        }
    }
    if out.is_empty() {
        out.push_str("Nothing has happened yet.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_api::{FailedVersion, UpgradeVersions};

    #[test]
    fn what_runs_what_failed_and_what_there_is_are_told() {
        let entry = |version: &str, tries_left| UpgradeVersion {
            version: version.into(),
            entry: String::new(),
            tries_left,
        };
        let all = Upgrades {
            version: "1.0.0".into(),
            versions: UpgradeVersions {
                running: Some(entry("1.0.0", None)),
                other: Some(entry("2.0.0", Some(0))),
                failed: Some(FailedVersion {
                    version: "2.0.0".into(),
                    why: "unit web failed".into(),
                    log: vec!["2026-01-31 box web: no such file".into()],
                }),
                was_reached: false,
                secure_boot: true,
                problems: vec!["The ESP is full.".into()],
            },
            offered: Some(UpgradeOffer {
                version: "2.1.0".into(),
                newer: true,
                ..UpgradeOffer::default()
            }),
            channel: "stable".into(),
            ..Upgrades::default()
        };
        assert_eq!(
            status(&all, Paint(false)),
            "version 1.0.0\nrunning    1.0.0 (proved)\nother slot 2.0.0 (given up)\nversion 2.0.0 was given up: unit web failed\n    2026-01-31 box web: no such file\n\
             version 2.1.0 can be installed\nThe ESP is full.\nfirmware   starts only what is signed (Secure Boot)\nfrom       bundles only, channel stable\nby itself  nothing\n"
        );
    }

    #[test]
    fn a_version_that_is_being_given_out_is_told_with_the_day_of_its_turn() {
        let offer = UpgradeOffer {
            version: "1.1.0".into(),
            newer: true,
            turn: "later".into(),
            turn_at: Some("2026-11-25T06:00:00Z".into()),
            ..UpgradeOffer::default()
        };
        assert_eq!(
            offered(&offer, "1.0.0"),
            "Version 1.1.0 is being given out; this appliance's turn comes on 2026-11-25 06:00 UTC; 1.0.0 runs. \
             `cairn upgrade install --now` takes it anyway.\n"
        );
        let refused = UpgradeOffer {
            refused: Some("install 1.0.5 first".into()),
            ..offer
        };
        assert_eq!(
            offered(&refused, "1.0.0"),
            "Version 1.1.0 is offered, but cannot be installed: install 1.0.5 first.\n"
        );
        let withdrawn = UpgradeOffer {
            version: "1.0.0".into(),
            withdrawn: Some("mail is lost".into()),
            ..UpgradeOffer::default()
        };
        assert_eq!(
            offered(&withdrawn, "1.1.0"),
            "The publisher has withdrawn version 1.1.0, which runs: mail is lost; `cairn upgrade rollback` starts the version of \
             before, if the other slot has it.\n"
        );
        assert_eq!(
            offered(&UpgradeOffer::default(), "1.1.0"),
            "Version 1.1.0 is the newest.\n"
        );
    }

    #[test]
    fn what_is_done_without_being_asked_is_told() {
        let mut all = UpgradePolicy {
            mode: "automatic".into(),
            bandwidth: Some(2 << 20),
            ..UpgradePolicy::default()
        };
        let told = by_itself(&all);
        assert!(
            told.starts_with("installs what is offered, never restarts, at most 2"),
            "{told}"
        );
        all.window = vec!["Sun 02:00-05:00".into()];
        assert!(by_itself(&all).contains(", restarts Sun 02:00-05:00 UTC, "));
        all.mode = "off".into();
        assert_eq!(by_itself(&all), "nothing");
        let query = [("reason", "a b"), ("for", "14d")];
        assert_eq!(
            route("/v1/upgrade/hold", &query),
            "/v1/upgrade/hold?reason=a%20b&for=14d"
        );
    }

    #[test]
    fn progress_tells_rate_and_time_left() {
        let task = UpgradeTask {
            phase: "write".into(),
            version: "2.0.0".into(),
            done: 50 << 20,
            total: 100 << 20,
            took_ms: 5_000,
            ..UpgradeTask::default()
        };
        let line = progress(&task);
        assert!(
            line.starts_with("writing 2.0.0 50 %, 10") && line.contains(&span(5_000)),
            "{line}"
        );
        // Before anything is known.
        assert_eq!(progress(&UpgradeTask::default()).trim(), "0 %");
    }
}

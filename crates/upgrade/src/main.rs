//! `cairn-upgrade`: one piece of work on the appliance's versions, done by a process of its own. The manager starts it, with the disk, the ESP and
//! the network in its reach and little memory and time, and reads what it leaves in `/run/cairn/upgrade`.

use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_api::{UpgradeOffer, UpgradeTask};
use cairn_upgrade::Error;
use cairn_upgrade::appliance::{Appliance, arch};
use cairn_upgrade::install::{Install, Phase, Progress};
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::offer::{Asker, offer, refused};
use cairn_upgrade::pace::{Pace, Paced, RealClock};
use cairn_upgrade::plan::plan;
use cairn_upgrade::record::{Happened, Tried};
use cairn_upgrade::source::{self, Source};

const RUN: &str = "/run/cairn/upgrade";
const ROOT: &str = "/usr/lib/cairn/upgrade-root.json";
/// Progress is told so often.
const PACE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (what, asked) = match words.split_first() {
        Some((what, rest)) => (*what, Asked::read(rest)),
        None => {
            eprintln!("cairn-upgrade is started by the manager; the owner's command is `cairn upgrade`");
            return ExitCode::from(2);
        }
    };
    let mut told = Told {
        task: UpgradeTask {
            what: what.to_owned(),
            state: "running".into(),
            automatic: asked.automatic,
            ..UpgradeTask::default()
        },
        began: Instant::now(),
        last: None,
    };
    told.write();
    let result = Appliance::open().and_then(|mut appliance| {
        let result = run(what, &asked, &mut appliance, &mut told);
        // Whatever came of it, this is how it stands now.
        leave("versions.json", &appliance.look()?);
        result
    });
    told.task.took_ms = u64::try_from(told.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    told.task.error = result.as_ref().err().map(Error::to_string);
    told.task.state = if result.is_ok() { "done" } else { "failed" }.into();
    told.write();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-upgrade {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How the work is to be done.
#[derive(Default)]
struct Asked<'a> {
    /// Whether the appliance began it by itself.
    automatic: bool,
    /// Whether a version is taken before it is this appliance's turn.
    now: bool,
    /// Whether the machine has a network address.
    reached: bool,
    /// For how many seconds the services were away when this version took over.
    away: Option<u64>,
    /// The most bytes a second.
    bandwidth: Option<NonZeroU64>,
    /// The rest: a reason, where a version comes from, what is to be noted.
    rest: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(words: &[&'a str]) -> Self {
        let mut asked = Self::default();
        for word in words {
            match *word {
                "--automatic" => asked.automatic = true,
                "--now" => asked.now = true,
                "--reached" => asked.reached = true,
                word => match word.split_once('=') {
                    Some(("--bandwidth", number)) => asked.bandwidth = number.parse().ok(),
                    Some(("--away", number)) => asked.away = number.parse().ok(),
                    _ => asked.rest.push(word),
                },
            }
        }
        asked
    }

    fn first(&self) -> Option<&'a str> {
        self.rest.first().copied()
    }
}

/// What is told of the work.
struct Told {
    task: UpgradeTask,
    began: Instant,
    last: Option<Instant>,
}

impl Told {
    fn write(&self) {
        // A start's own look and notes are no news for the owner.
        if !["look", "note"].contains(&self.task.what.as_str()) {
            leave("task.json", &self.task);
        }
    }

    fn phase(&mut self, phase: &str) {
        phase.clone_into(&mut self.task.phase);
        self.write();
    }

    fn progress(&mut self, progress: Progress) {
        let phase = match progress.phase {
            Phase::Compare => "compare",
            Phase::Write => "write",
            Phase::Verify => "verify",
            Phase::Boot => "boot",
            Phase::Done => "done",
        };
        let task = &mut self.task;
        let same = task.phase == phase;
        phase.clone_into(&mut task.phase);
        (task.done, task.total) = (progress.done, progress.total);
        (task.reused, task.fetched) = (progress.reused, progress.fetched);
        task.took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !same || self.last.is_none_or(|last| last.elapsed() >= PACE) {
            self.last = Some(Instant::now());
            self.write();
        }
    }
}

/// Leaves a file for the manager, whole at any moment. It lies in memory: nothing has to be flushed.
fn leave(name: &str, value: &impl serde::Serialize) {
    let (path, new) = (Path::new(RUN).join(name), Path::new(RUN).join(format!("{name}.new")));
    let text = serde_json::to_vec(value).unwrap_or_default();
    if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)) {
        eprintln!("cairn-upgrade: cannot write {}: {error}", path.display());
    }
}

fn run(what: &str, asked: &Asked<'_>, appliance: &mut Appliance, told: &mut Told) -> Result<(), Error> {
    match what {
        "look" => {
            appliance.records.machine()?;
            for path in appliance.mend_loader()? {
                eprintln!("cairn-upgrade: {path} on the EFI system partition was damaged, and was written again");
            }
            appliance.give_up_stopped()
        }
        "commit" => appliance.commit(asked.away),
        "fail" => appliance.give_up(asked.first().unwrap_or("no reason was given"), Happened::Failed),
        "rollback" => appliance.give_up("the owner went back", Happened::RolledBack),
        "note" => note(appliance, &asked.rest),
        "restart" => {
            let (version, own) = (asked.first().unwrap_or_default(), &appliance.manifest.version);
            version.clone_into(&mut told.task.version);
            appliance
                .records
                .add(Happened::Restarting, version, own, "by itself, in its window")
        }
        "check" => offered(appliance, asked, told).map(drop),
        "install" => {
            let done = install(appliance, asked, told);
            if let Err(error) = &done {
                let (version, own) = (told.task.version.clone(), appliance.manifest.version.clone());
                appliance
                    .records
                    .add(Happened::NotInstalled, &version, &own, &error.to_string())?;
            }
            done
        }
        _ => Err(Error::Refused(format!("there is no work called `{what}`"))),
    }
}

/// Notes what the manager did or found: what, which version, why.
fn note(appliance: &Appliance, words: &[&str]) -> Result<(), Error> {
    let own = &appliance.manifest.version;
    let wrong = || Error::Refused("nothing like that is noted".into());
    let [what, version, why] = words else {
        return Err(wrong());
    };
    let what = serde_json::from_value::<Happened>((*what).into()).map_err(|_| wrong())?;
    appliance.records.add_news(what, version, own, why)
}

/// A repository or bundle whose metadata was proved.
struct Looked {
    source: Arc<dyn Source>,
    trusted: Trusted,
    offer: UpgradeOffer,
    /// Whether the owner brought it, rather than a network.
    brought: bool,
}

/// What the repository or bundle offers, proved.
fn offered(appliance: &Appliance, asked: &Asked<'_>, told: &mut Told) -> Result<Looked, Error> {
    told.phase("metadata");
    let manifest = &appliance.manifest;
    let none = || Error::Refused("this appliance was built without a repository; name one, or a bundle".into());
    let follow = manifest.upgrade.as_ref().ok_or_else(none)?;
    let from = asked.first().or(follow.url.as_deref()).ok_or_else(none)?;
    let mut source = source::open(from)?;
    if let Some(rate) = asked.bandwidth.filter(|_| source::is_address(from)) {
        let pace = Arc::new(Pace::new(rate, Arc::new(RealClock::default())));
        source = Arc::new(Paced { source, pace });
    }
    let root = std::fs::read(ROOT).map_err(Error::io("read the trusted keys in", ROOT))?;
    let trusted = Trusted::load(&source, &root, Path::new("/data/upgrade/known"))?;
    let brought = !source::is_address(from);
    let asker = Asker {
        name: &manifest.name,
        version: &manifest.version,
        arch: arch(),
        channel: &follow.channel,
        machine: &appliance.records.machine()?,
        brought,
    };
    let mut offer = offer(&trusted, &asker, jiff::Timestamp::now())?;
    offer.refused = refused(&trusted, &offer, &appliance.found()?);
    offer.version.clone_into(&mut told.task.version);
    leave("offered.json", &offer);
    Ok(Looked {
        source,
        trusted,
        offer,
        brought,
    })
}

fn install(appliance: &mut Appliance, asked: &Asked<'_>, told: &mut Told) -> Result<(), Error> {
    let Looked {
        source,
        trusted,
        offer,
        brought,
    } = offered(appliance, asked, told)?;
    if !asked.now
        && let Some(why) = offer.waits()
    {
        let how = "`cairn upgrade install --now` takes it anyway";
        return Err(Error::Refused(format!("{why}; {how}")));
    }
    let version = offer.version;
    let index = trusted.index(&appliance.manifest.name, &version, arch())?;
    let found = appliance.found()?;
    let plan = plan(&found, &index)?;
    let own = appliance.manifest.version.clone();
    // What somebody brought has all chunks: to copy those is less work.
    let delta = (!brought)
        .then(|| trusted.delta(&index, &own, plan.slots.kept.root.length))
        .flatten();
    let there = |version: &str| found.entries.iter().any(|entry| entry.name.version == version);
    let states = [(own.as_str(), &found.states), (version.as_str(), &index.release.states)];
    appliance.records.set_states(states, there)?;
    // Before its entry exists: a version that is started is one that is known to be tried.
    appliance.records.set_tried(Some(&Tried {
        version: version.clone(),
        root_hash: plan.hash.to_string(),
        from: own.clone(),
        reached: asked.reached,
        failed: None,
        log: Vec::new(),
        noted: false,
    }))?;
    let installed = Install {
        disk: &mut appliance.disk,
        entries: &mut appliance.esp,
        source: &*source,
        delta: delta.as_ref(),
        tell: &mut |progress| told.progress(progress),
    }
    .run(&plan, &index);
    if let Err(error) = installed {
        appliance.records.set_tried(None)?;
        return Err(error);
    }
    let why = if asked.automatic { "by itself" } else { "" };
    appliance.records.add(Happened::Installed, &version, &own, why)
}

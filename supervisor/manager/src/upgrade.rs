//! Upgrades: the work is done by `cairn-upgrade` in a process of its own, one at a time; here it is started, its answers are told, and a version
//! that is being tried is kept or given up.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use cairn_api::{Accepted, Proving, UpgradeHistory, UpgradeLine, UpgradeTask, UpgradeVersions, Upgrades};
use cairn_init::protocol::ExitStatus;
use serde::de::DeserializeOwned;

use crate::beside::Purpose;
use crate::clock::{now_ms, real_ns};
use crate::control::Answered;
use crate::gate::{Look, Times, Verdict, judge};
use crate::host_plan;
use crate::machine::State;
use crate::outage;
use crate::supervisor::Supervisor;
use crate::upgrade_policy::Own;

/// The process's name among those beside the units.
const NAME: &str = "upgrade";
/// What the process may take: it needs less, and must not get in the way of the units.
const LIMITS: [(&str, &str); 4] = [
    ("memory.max", "67108864"),
    ("memory.swap.max", "0"),
    ("cpu.weight", "20"),
    ("io.weight", "default 20"),
];

/// So many lines of the log are kept of a version that was given up, and so many characters of each.
const LAST_LINES: usize = 10;
const LAST_LENGTH: usize = 400;

/// What the manager knows of upgrades, beside what lies in files.
#[derive(Debug, Default)]
pub(crate) struct Upgrading {
    /// The boot entries, as the process last found them; `None` before its first look.
    pub(crate) versions: Option<UpgradeVersions>,
    /// What is waited for until the running version is kept or given up, and when to look again.
    waits: Option<(String, u64)>,
    /// Whether that is decided.
    decided: bool,
    /// What the owner asked for while the manager's own work was under way.
    asked: Option<Work>,
    /// What is being done, if this manager began it.
    work: Option<Work>,
    /// What is to be noted in the history when nothing else is done.
    pub(crate) notes: VecDeque<Vec<String>>,
    /// What the appliance does by itself.
    pub(crate) own: Own,
}

/// A piece of work for the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// What, and how.
    pub(crate) words: Vec<String>,
    /// The bundle that it reads.
    pub(crate) bundle: Option<PathBuf>,
    /// Whether what it finds is about the repository that the appliance follows.
    pub(crate) followed: bool,
}

impl Work {
    /// Work with these words and nothing else.
    pub(crate) fn of(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            bundle: None,
            followed: true,
        }
    }

    /// Its first word.
    pub(crate) fn what(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Whether the owner need not wait with a sentence until it is done: it is short, and nobody asked for it.
    fn is_own(&self) -> bool {
        ["look", "note"].contains(&self.what()) || (self.what() == "check" && self.is_automatic())
    }

    /// Whether the appliance began it by itself.
    pub(crate) fn is_automatic(&self) -> bool {
        self.words.iter().any(|word| word == "--automatic")
    }
}

impl Upgrading {
    /// When the gate is to be looked at again, in milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        let waits = self.waits.as_ref().map(|(_, until)| *until);
        waits.into_iter().chain(self.own.next()).min()
    }
}

impl Supervisor {
    fn upgrade_folder(&self) -> PathBuf {
        self.config.at("/run/cairn/upgrade")
    }

    pub(crate) fn left<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.upgrade_folder().join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn upgrade_runs(&self) -> bool {
        let purpose = Purpose::Host(NAME.into());
        self.saved.beside.iter().any(|beside| beside.purpose == purpose)
    }

    /// Has a first look at the boot entries, or takes what a manager before this one was told.
    pub(crate) fn begin_upgrades(&mut self) {
        if self.built.upgrade.is_none() || !self.config.at("/usr/lib/cairn/cairn-upgrade").exists() {
            return;
        }
        self.upgrading.versions = self.left("versions.json");
        self.remember_upgrades();
        if self.upgrading.versions.is_none() && !self.upgrade_runs() {
            // If it turns out that a version was given up without a word, these are the last that it wrote.
            if self.config.at("/data/upgrade/tried.json").exists() {
                let begun = real_ns().saturating_sub(now_ms().saturating_mul(1_000_000));
                self.leave_last_lines(None, Some(begun));
            }
            outage::take(&self.config);
            self.start_upgrade(Work::of(&["look"]));
        }
    }

    /// Starts the process; whether it runs.
    pub(crate) fn start_upgrade(&mut self, work: Work) -> bool {
        let (run, data) = (self.upgrade_folder(), self.config.at("/data/upgrade"));
        let group = self.config.at("/sys/fs/cgroup/cairn").join(NAME);
        let made = [&run, &data]
            .into_iter()
            .try_for_each(|folder| cairn_config::private_folder(folder));
        if let Err(e) = made {
            self.console.say(&format!("{e}; upgrades cannot be worked on"));
            return false;
        }
        let _ = fs::create_dir_all(&group);
        for (file, value) in LIMITS {
            // What the kernel lacks is a limit less; the process is our own.
            let _ = fs::write(group.join(file), value);
        }
        let argv = ["/usr/lib/cairn/cairn-upgrade".to_owned()]
            .into_iter()
            .chain(work.words.iter().cloned());
        let reached = (work.what() == "install" && self.is_reached()).then(|| "--reached".to_owned());
        let argv = argv.chain(reached).collect();
        let data = rustix::fs::stat(&data).map_or(0, |found| found.st_dev);
        let nodes = nodes(Path::new("/sys"), data);
        let resolv = Some(self.config.resolv()).filter(|path| path.exists());
        let plan = host_plan::upgrade(
            &self.config.at("/"),
            argv,
            nodes,
            resolv.as_deref(),
            work.bundle.as_deref(),
        );
        if !["look", "note"].contains(&work.what()) {
            // What stands there is about the work before.
            let _ = fs::remove_file(run.join("task.json"));
        }
        self.spawn_host(NAME, &plan);
        self.upgrading.work = Some(work).filter(|_| self.upgrade_runs());
        self.upgrading.work.is_some()
    }

    /// Leaves the last lines of the log, of these units or all, for what is noted of a version that was given up.
    fn leave_last_lines(&self, units: Option<BTreeSet<String>>, until: Option<u64>) {
        let query = cairn_log::Query {
            units,
            until,
            tail: Some(LAST_LINES),
            ..cairn_log::Query::default()
        };
        let records = cairn_log::Reader::new(self.config.log_root()).query(&query);
        let name = self.manifest.name.as_str();
        let line = |record| {
            cairn_log::output::short(&record, name)
                .chars()
                .take(LAST_LENGTH)
                .collect()
        };
        let lines: Vec<String> = records.into_iter().flatten().flatten().map(line).collect();
        let folder = self.upgrade_folder();
        let text = serde_json::to_vec(&lines).unwrap_or_default();
        // Without them only the reason is known.
        let _ = cairn_config::private_folder(&folder);
        let _ = fs::write(folder.join("last.json"), text);
    }

    /// The process has ended.
    pub(crate) fn upgrade_ended(&mut self, status: ExitStatus) {
        let work = self.upgrading.work.take();
        self.upgrading.versions = self.left("versions.json").or(self.upgrading.versions.take());
        if work.as_ref().is_none_or(|work| work.what() != "note") {
            self.tell_upgrade(status);
        }
        let all: Vec<String> = self.saved.units.keys().cloned().collect();
        self.settle_states(&all);
        if let Some(work) = work {
            self.note_upgrade(&work);
        }
        if let Some(work) = self.upgrading.asked.take() {
            self.start_upgrade(work);
        }
    }

    fn tell_upgrade(&mut self, status: ExitStatus) {
        let problems = self.upgrading.versions.iter().flat_map(|v| &v.problems);
        for problem in problems.cloned().collect::<Vec<_>>() {
            self.console.say(&format!("Upgrades: {problem}"));
        }
        let Some(task) = self.left::<UpgradeTask>("task.json") else {
            return;
        };
        let line = match (task.what.as_str(), &task.error) {
            _ if task.state == "running" => format!("Upgrades: {} ended in the middle: {status}", task.what),
            ("install", None) => format!("Version {} is installed; restart to start it", task.version),
            ("rollback", None) => "The version of before is started by the next restart".to_owned(),
            ("commit", None) => "This version has proved itself and is kept".to_owned(),
            ("fail", None) => "Restarting into the version of before".to_owned(),
            ("restart", None) => format!("Restarting into version {}, which is installed", task.version),
            (_, None) => return,
            ("install", Some(why)) => format!("Version {} is not installed: {why}", task.version),
            ("fail", Some(why)) => format!("This version is not what it should be, and stays: {why}"),
            (what, Some(why)) => format!("Upgrades: {what}: {why}"),
        };
        self.console.say(&line);
        if task.what == "rollback" {
            self.lowering_ended(task.error.as_deref());
        }
        if task.what == "restart" || (task.what == "fail" && task.state == "done") {
            self.go_down("reboot");
        }
    }

    /// Keeps a version that is being tried, or gives it up, when its time has come.
    pub(crate) fn prove(&mut self) {
        let counted = self
            .upgrading
            .versions
            .as_ref()
            .and_then(|v| v.running.as_ref()?.tries_left);
        self.upgrading.waits = None;
        if counted.is_none() || self.upgrading.decided || self.saved.power.is_some() || self.upgrade_runs() {
            return;
        }
        let Some(upgrade) = self.built.upgrade.clone() else {
            return;
        };
        let times = Times {
            begun: self.gate_begun(),
            healthy: upgrade.healthy.millis(),
            deadline: upgrade.deadline.millis(),
        };
        let asked = self.upgrading.versions.as_ref().is_some_and(|v| v.was_reached);
        let reached = !asked || self.is_reached();
        match judge(&self.looks(), reached, times, now_ms()) {
            Verdict::Wait { until_ms, what } => self.upgrading.waits = Some((what, until_ms)),
            Verdict::Commit => {
                self.upgrading.decided = true;
                let words: Vec<String> = ["commit".to_owned()].into_iter().chain(self.away_word()).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.start_upgrade(Work::of(&words));
            }
            Verdict::GiveUp { why, units } => {
                self.upgrading.decided = true;
                let units = (!units.is_empty()).then(|| units.into_iter().collect());
                self.leave_last_lines(units, None);
                self.console.say(&format!("This version has not proved itself: {why}"));
                self.start_upgrade(Work::of(&["fail", &why]));
            }
        }
    }

    /// The word by which the process is told how long the services were away.
    fn away_word(&self) -> Option<String> {
        let ready_ms = self
            .looks()
            .iter()
            .filter(|look| look.wanted)
            .map(|look| look.since_ms)
            .max()?;
        let ago = now_ms().saturating_sub(ready_ms) / 1000;
        let ready = (real_ns() / 1_000_000_000).saturating_sub(ago);
        Some(format!("--away={}", outage::away(&self.config, ready)?))
    }

    /// From when on the time counts that a version has to prove itself.
    fn gate_begun(&self) -> u64 {
        self.saved.begun_ms.max(self.saved.migrated_ms)
    }

    fn looks(&self) -> Vec<Look<'_>> {
        let units = self.saved.units.iter().map(|(name, kept)| {
            let (failed, trouble) = match &kept.machine.state {
                State::Failed { reason } => (Some(reason.as_str()), reason.as_str()),
                State::Restarting { reason, .. } => (None, reason.as_str()),
                _ => (None, kept.ill.1.as_str()),
            };
            Look {
                name,
                wanted: kept.up,
                ready: kept.machine.ready(),
                migrating: matches!(kept.machine.state, State::Migrating { .. }),
                failed,
                trouble,
                ill: kept.ill.0,
                since_ms: kept.since_ms,
            }
        });
        units.collect()
    }

    /// `GET /v1/upgrade`
    pub(crate) fn upgrades(&self) -> Answered {
        let Some(follow) = &self.built.upgrade else {
            return none();
        };
        let left_ms = self
            .gate_begun()
            .saturating_add(follow.deadline.millis())
            .saturating_sub(now_ms());
        let waits = self.upgrading.waits.as_ref();
        let mut task: Option<UpgradeTask> = self.left("task.json");
        if let Some(task) = task
            .as_mut()
            .filter(|task| task.state == "running" && !self.upgrade_runs())
        {
            "failed".clone_into(&mut task.state);
            task.error = Some("it ended in the middle; try again".to_owned());
        }
        if self.saved.lowering.as_ref().is_some_and(|lowering| !lowering.done) {
            task = Some(UpgradeTask {
                what: "rollback".into(),
                state: "running".into(),
                phase: "data".into(),
                ..UpgradeTask::default()
            });
        }
        // What waits for the manager's own work to end is as good as begun.
        if let Some(work) = &self.upgrading.asked {
            task = Some(UpgradeTask {
                what: work.what().to_owned(),
                state: "running".into(),
                ..UpgradeTask::default()
            });
        }
        let answer = Upgrades {
            version: self.manifest.version.clone(),
            proving: waits.map(|(waits_for, _)| Proving {
                waits_for: waits_for.clone(),
                left_ms,
            }),
            versions: self.upgrading.versions.clone().unwrap_or_default(),
            task,
            offered: self.left("offered.json"),
            url: follow.url.clone(),
            channel: follow.channel.clone(),
            policy: self.told_policy(),
        };
        Answered::of(200, &answer)
    }

    /// `GET /v1/upgrade/history`
    pub(crate) fn upgrade_history(&self) -> Answered {
        let text = fs::read_to_string(self.config.at("/data/upgrade/history.jsonl")).unwrap_or_default();
        let lines = text
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<UpgradeLine>(line).ok());
        Answered::of(200, &UpgradeHistory { lines: lines.collect() })
    }

    /// Starts a piece of work that the owner asked for.
    pub(crate) fn work_on_upgrade(&mut self, what: &str, from: Option<&str>, now: bool) -> Answered {
        if self.built.upgrade.is_none() {
            return none();
        }
        // Work of the manager's own that was begun by one before this is not known, but for its first look.
        let first = self.upgrading.work.is_none() && self.upgrading.versions.is_none();
        let own = first || self.upgrading.work.as_ref().is_some_and(Work::is_own);
        if self.upgrade_runs() && !(own && self.upgrading.asked.is_none()) {
            return Answered::error(
                409,
                "something is being done about upgrades already; `cairn upgrade status` tells what",
            );
        }
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        if self.saved.lowering.is_some() {
            return Answered::error(409, "the version of before is being gone back to");
        }
        let mut words = vec![what];
        words.extend(now.then_some("--now"));
        let limit = self.bandwidth_word();
        words.extend(limit.as_deref());
        let mut bundle = None;
        match from {
            None => {}
            Some(url) if url.starts_with("https://") || url.starts_with("http://") => words.push(url),
            Some(path) if path.starts_with('/') => match fs::canonicalize(path) {
                Ok(found) if found.is_file() => {
                    bundle = Some(found);
                    words.push(host_plan::BUNDLE);
                }
                Ok(_) => return Answered::error(400, &format!("{path} is not a file")),
                Err(e) => return Answered::error(400, &format!("{path}: {e}")),
            },
            Some(other) => {
                let why = format!("`{other}` is neither an address (https://, http://) nor a bundle's absolute path");
                return Answered::error(400, &why);
            }
        }
        let work = Work {
            bundle,
            followed: from.is_none(),
            ..Work::of(&words)
        };
        if self.upgrade_runs() {
            self.upgrading.asked = Some(work);
            return Answered::of(202, &Accepted::default());
        }
        match self.start_upgrade(work) {
            true => Answered::of(202, &Accepted::default()),
            false => Answered::error(500, "the work could not be started; the console says why"),
        }
    }
}

pub(crate) fn none() -> Answered {
    Answered::error(
        409,
        "this appliance was built without upgrades: its recipe has no [upgrade]",
    )
}

/// The device nodes that the process may use: those of the disk that the data lies on, where the slots are too, and of its ESP.
fn nodes(sys: &Path, data: rustix::fs::Dev) -> Vec<PathBuf> {
    let disk = crate::cgroup::hardware(sys, data)
        .filter(|own| own.join("partition").exists())
        .and_then(|own| Some(own.parent()?.to_owned()));
    let Some(disk) = disk else { return Vec::new() };
    let is_esp = |folder: &PathBuf| {
        let text = fs::read_to_string(folder.join("uevent")).unwrap_or_default();
        text.lines().any(|line| line == "PARTNAME=esp")
    };
    let parts = fs::read_dir(&disk).into_iter().flatten().flatten();
    let esp = parts.map(|entry| entry.path()).find(is_esp);
    let names = [Some(disk), esp].into_iter().flatten();
    names
        .filter_map(|path| Some(Path::new("/dev").join(path.file_name()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_reaches_the_disk_that_the_data_lies_on_and_no_other() {
        let sys = tempfile::tempdir().unwrap();
        let numbers = sys.path().join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        for (disk, part, number, name) in [
            ("vda", "vda1", "254:1", "esp"),
            ("vda", "vda6", "254:6", "data"),
            ("vdb", "vdb1", "254:17", "esp"),
        ] {
            let folder = sys.path().join("devices").join(disk).join(part);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("partition"), "1\n").unwrap();
            fs::write(folder.join("uevent"), format!("DEVTYPE=partition\nPARTNAME={name}\n")).unwrap();
            std::os::unix::fs::symlink(&folder, numbers.join(number)).unwrap();
        }
        let found = |minor| nodes(sys.path(), rustix::fs::makedev(254, minor));
        assert_eq!(found(6), [Path::new("/dev/vda"), Path::new("/dev/vda1")]);
        assert!(found(9).is_empty());

        // Encrypted: what the data lies on lies on the partition.
        let mapped = sys.path().join("devices/virtual/block/dm-1");
        fs::create_dir_all(mapped.join("slaves")).unwrap();
        std::os::unix::fs::symlink(sys.path().join("devices/vda/vda6"), mapped.join("slaves/vda6")).unwrap();
        std::os::unix::fs::symlink(&mapped, numbers.join("254:9")).unwrap();
        assert_eq!(found(9), found(6));
    }
}

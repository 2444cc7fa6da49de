//! Files rendered from templates, as running units see them: at each start, and again whenever something that they follow from has
//! changed. A new text takes the old one's place at once; only a unit whose text is another one is told to reload, or restarted if it
//! cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cairn_config::private_folder;
use cairn_unit::{Manifest, ManifestUnit};

use crate::clock::now_ms;
use crate::config::Config;
use crate::data::{folder, load};
use crate::error::Error;
use crate::machine::State;
use crate::secrets;
use crate::supervisor::{Msg, Supervisor};

/// What became of the files of units.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rendered {
    /// The units that see another text now.
    changed: BTreeSet<String>,
    /// Those whose files stay as they were, with the reason.
    failed: BTreeMap<String, String>,
}

/// Stands while a running unit has not been told of its new files: also for a manager's successor.
fn mark(config: &Config, name: &str) -> PathBuf {
    // No unit's name has a dot.
    config.rendered(&format!("{name}.changed"))
}

/// Puts a unit's rendered files where its sandbox sees them. With `mark`, that there are others is noted before the first one is.
fn show(
    config: &Config,
    name: &str,
    unit: &ManifestUnit,
    rendered: &BTreeMap<String, String>,
    noted: bool,
) -> Result<bool, Error> {
    // A unit may start while files are rendered anew; two that write one file would take it away from each other.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if unit.templates.is_empty() {
        return Ok(false);
    }
    let place = config.rendered(name);
    let (user, _) = crate::plan::user(name, unit, None)?;
    if !place.exists() {
        private_folder(&config.at("/run/cairn/config"))?;
        folder(&place, 0, 0, 0o755)?;
    }
    let at = |path: &str| place.join(path.trim_start_matches('/'));
    let other = |(path, text): &(&String, &String)| !fs::read(at(path)).is_ok_and(|there| there == text.as_bytes());
    let others: Vec<_> = rendered.iter().filter(other).collect();
    if noted && !others.is_empty() {
        let mark = mark(config, name);
        fs::write(&mark, "").map_err(Error::io("write", &mark))?;
    }
    for (path, text) in &others {
        let file = at(path);
        let put = || -> io::Result<bool> {
            let mut folder = place.clone();
            for part in path
                .trim_start_matches('/')
                .split('/')
                .rev()
                .skip(1)
                .collect::<Vec<_>>()
                .iter()
                .rev()
            {
                folder.push(part);
                match fs::create_dir(&folder) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?,
                }
            }
            // A program may say more of a file that others can read; what stands in it can be a password.
            secrets::put(&file, text, 0o440, (0, user.gid))
        };
        put().map_err(Error::io("write", &file))?;
    }
    Ok(!others.is_empty())
}

/// What a start shows: the process that follows reads it as it is.
pub(crate) fn prepare(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<(), Error> {
    let rendered = load(config, manifest, name, unit, address)?.rendered;
    show(config, name, unit, &rendered, false)?;
    let _ = fs::remove_file(mark(config, name));
    Ok(())
}

/// Lets a running unit see its secrets and files as they are to be now. Returns whether a file is another one.
pub(crate) fn refresh(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<bool, Error> {
    secrets::refresh(config, manifest, name, unit, address)?;
    let rendered = load(config, manifest, name, unit, address)?.rendered;
    show(config, name, unit, &rendered, true)
}

/// What the manager holds of files that are rendered under running units.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Whether a thread is at it.
    busy: bool,
    /// Whether it is to begin again when it is done.
    again: bool,
    /// Units that were being prepared meanwhile, perhaps from what held before.
    unsure: BTreeSet<String>,
    /// Running units that have not been told of their changed files.
    changed: BTreeSet<String>,
    /// Running units that do not see what they should, and when it is tried again, in milliseconds.
    failed: BTreeSet<String>,
    retry: Option<u64>,
}

/// How long until it is tried again, in milliseconds.
const PAUSE_MS: u64 = 2_000;

impl Files {
    /// When something here is to be looked at again, in milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        self.retry.filter(|_| !self.busy)
    }
}

impl Supervisor {
    /// Renders the files of running units anew, in a thread: something that they can follow from has changed.
    pub(crate) fn render_again(&mut self) {
        // Two at once could put the older text in the newer one's place.
        if self.files.busy {
            self.files.again = true;
            return;
        }
        let mut names = Vec::new();
        for (name, unit) in &self.manifest.units {
            let name = name.as_str();
            let shares = unit.unit.provides.values().any(|provide| provide.secret.is_some());
            let follows = shares || !unit.templates.is_empty() || !unit.unit.needs.is_empty();
            let Some(kept) = self.saved.units.get(name).filter(|_| follows) else {
                continue;
            };
            match kept.machine.state {
                State::Preparing | State::SettingUp { .. } | State::Restoring { .. } | State::Migrating { .. } => {
                    self.files.unsure.insert(name.to_owned());
                }
                _ if kept.machine.at_rest() => {}
                _ => names.push(name.to_owned()),
            }
        }
        if names.is_empty() {
            return;
        }
        self.files.busy = true;
        let (config, manifest, send) = (self.config.clone(), self.manifest.clone(), self.send.clone());
        let address = self.address();
        tokio::task::spawn_blocking(move || {
            let mut all = Rendered::default();
            for name in names {
                let Some(unit) = manifest.units.get(name.as_str()) else {
                    continue;
                };
                match refresh(&config, &manifest, &name, unit, &address) {
                    Ok(true) => drop(all.changed.insert(name)),
                    Ok(false) => {}
                    Err(e) => drop(all.failed.insert(name, e.to_string())),
                }
            }
            let _ = send.send(Msg::Rendered(all));
        });
    }

    /// Files were rendered anew.
    pub(crate) fn rendered(&mut self, all: Rendered) {
        self.files.busy = false;
        let failed: BTreeSet<String> = all.failed.keys().cloned().collect();
        for (name, why) in all
            .failed
            .into_iter()
            .filter(|(name, _)| !self.files.failed.contains(name))
        {
            self.console.say(&format!(
                "unit {name}: its files stay as they were: {why}; this is tried again"
            ));
        }
        self.files.retry = (!failed.is_empty()).then(|| now_ms().saturating_add(PAUSE_MS));
        self.files.failed = failed;
        self.files.changed.extend(all.changed);
        if std::mem::take(&mut self.files.again) {
            self.render_again();
        }
    }

    /// Whether what a unit sees is what it should see.
    pub(crate) fn sees_files(&self, name: &str) -> bool {
        !self.files.busy && !self.files.failed.contains(name)
    }

    /// What a manager before this one did not get round to.
    pub(crate) fn find_changed_files(&mut self) {
        let all = self.manifest.units.keys();
        let marked = all.filter(|name| mark(&self.config, name.as_str()).exists());
        self.files.changed = marked.map(ToString::to_string).collect();
    }

    /// Tells units whose files are others, as soon as they are ready. One that starts, or is told to, reads them by itself.
    pub(crate) fn tell_changed_files(&mut self) {
        if self.saved.power.is_some() {
            return;
        }
        if self.files.retry.is_some_and(|at| at <= now_ms()) {
            self.files.retry = None;
            self.render_again();
        }
        let ready = |name: &String| self.saved.units.get(name).is_some_and(|kept| kept.machine.ready());
        if self.files.unsure.iter().any(ready) {
            let unsure = std::mem::take(&mut self.files.unsure);
            self.files.unsure = unsure.into_iter().filter(|name| !ready(name)).collect();
            self.render_again();
        }
        for name in self.files.changed.clone() {
            let Some(kept) = self.saved.units.get(&name) else {
                self.files.changed.remove(&name);
                continue;
            };
            let gone = kept.machine.at_rest() || kept.pid == 0;
            if !gone && !kept.machine.ready() || kept.reload.is_some() {
                continue;
            }
            if !gone {
                let told = self.reload_unit(&name);
                if told.status >= 400 {
                    let why = String::from_utf8_lossy(&told.body).trim_end().to_owned();
                    self.console
                        .say(&format!("unit {name}: has not been told of its changed files: {why}"));
                }
            }
            let _ = fs::remove_file(mark(&self.config, &name));
            self.files.changed.remove(&name);
        }
    }
}

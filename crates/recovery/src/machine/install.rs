//! Installs a bundle where nothing runs: proved as the running appliance proves it, written as it writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_unit::StateVersion;
use cairn_upgrade::appliance::arch;
use cairn_upgrade::esp::{Entries as _, EspFolder};
use cairn_upgrade::install::{Install, Phase, Progress};
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::plan::{Found, plan};
use cairn_upgrade::record::{Happened, Records, Tried};
use cairn_upgrade::slots::Slots;
use cairn_upgrade::source::{self, Source};
use serde::Deserialize;

use super::mounts::{Access, Mounted};
use super::{Machine, Outcome, ROOT};
use crate::findings::Medium;

/// Where what was seen of the repository is remembered while the data partition is only read.
const KNOWN: &str = "/run/recovery/known";

/// What is noted of a unit's state (`supervisor/manager/src/migrate/record.rs`).
#[derive(Deserialize)]
struct StateNote {
    version: StateVersion,
}

impl Machine {
    /// The version that a bundle was proved to hold.
    pub(super) fn bundled(&self, medium: &Medium, file: &str) -> Outcome<String> {
        let (mounted, path) = on(medium, file)?;
        let source = source::open(&path.to_string_lossy()).map_err(|e| e.to_string())?;
        let version = self.proved(&source, &self.remembered()?)?.1;
        drop((source, mounted));
        Ok(version)
    }

    /// What was seen before, copied: nothing is written to the data partition for a look.
    fn remembered(&self) -> Outcome<PathBuf> {
        let known = PathBuf::from(KNOWN);
        let _ = fs::remove_dir_all(&known);
        fs::create_dir_all(&known).map_err(|e| format!("cannot make {KNOWN}: {e}"))?;
        let data = self.own_disk().and_then(|own| self.data(&own, Access::Read));
        if let Ok(data) = data {
            let folder = data.path().join("upgrade/known");
            for found in fs::read_dir(folder).into_iter().flatten().flatten() {
                let _ = fs::copy(found.path(), known.join(found.file_name()));
            }
        }
        Ok(known)
    }

    fn proved(&self, source: &Arc<dyn Source>, known: &Path) -> Outcome<(Trusted, String)> {
        let root = fs::read(ROOT).map_err(|e| format!("cannot read the trusted keys: {e}"))?;
        let trusted = Trusted::load(source, &root, known).map_err(|e| e.to_string())?;
        let channel = self
            .manifest
            .upgrade
            .as_ref()
            .map_or("stable", |follow| follow.channel.as_str());
        let latest = trusted
            .latest(&self.manifest.name, arch(), channel)
            .map_err(|e| e.to_string())?;
        let version = latest.ok_or_else(|| format!("the channel {channel} has no version any more"))?;
        let rollout = trusted.rollout().map_err(|e| e.to_string())?;
        match rollout.withdrawn(channel, &version) {
            Some(withdrawn) => Err(format!(
                "the publisher has withdrawn version {version}{}",
                withdrawn.reason()
            )),
            None => Ok((trusted, version)),
        }
    }

    pub(super) fn install(
        &self,
        medium: &Medium,
        file: &str,
        version: &str,
        slot: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Outcome<()> {
        let (_medium, path) = on(medium, file)?;
        let source = source::open(&path.to_string_lossy()).map_err(|e| e.to_string())?;
        let mut own = self.own_disk()?;
        let data = self.data(&own, Access::Write);
        let known = match &data {
            Ok(data) => data.path().join("upgrade/known"),
            Err(_) => self.remembered()?,
        };
        let (trusted, found_version) = self.proved(&source, &known)?;
        if found_version != version {
            return Err(format!(
                "the bundle holds version {found_version} now, and not {version}"
            ));
        }
        let index = trusted
            .index(&self.manifest.name, version, arch())
            .map_err(|e| e.to_string())?;
        let esp = self.esp(&own, Access::Write)?;
        let mut entries = EspFolder::new(esp.path());
        let failed = |e: std::io::Error| format!("cannot read the EFI system partition: {e}");
        let found = Found {
            name: self.manifest.name.clone(),
            version: None,
            arch: arch().to_owned(),
            states: data
                .as_ref()
                .map_or_else(|_| BTreeMap::new(), |data| states(data.path())),
            slots: Slots::at_rest(&own.table, slot).map_err(|e| e.to_string())?,
            table: own.table.clone(),
            entries: entries.list().map_err(failed)?,
            esp_free: entries.free().map_err(failed)?,
            secure_boot: self.vars.secure_boot(),
        };
        let plan = plan(&found, &index).map_err(|e| e.to_string())?;
        let records = data
            .as_ref()
            .ok()
            .and_then(|data| Records::open(&data.path().join("upgrade")).ok());
        if let Some(records) = &records {
            let there = |version: &str| found.entries.iter().any(|entry| entry.name.version == version);
            let noted = records
                .set_states([(version, &index.release.states)], there)
                .and_then(|()| {
                    records.set_tried(Some(&Tried {
                        version: version.to_owned(),
                        root_hash: plan.hash.to_string(),
                        from: "recovery".into(),
                        reached: false,
                        failed: None,
                        log: Vec::new(),
                        noted: false,
                    }))
                });
            if let Err(error) = noted {
                tell(&format!("It cannot be noted: {error}"));
            }
        }
        let mut last = (Phase::Compare, 0);
        let done = Install {
            disk: &mut own.disk,
            entries: &mut entries,
            source: &*source,
            delta: None,
            tell: &mut |progress| {
                if let Some(text) = told(&mut last, progress) {
                    tell(&text);
                }
            },
        }
        .run(&plan, &index);
        let Some(records) = records else {
            return done.map_err(|e| e.to_string());
        };
        let noted = match &done {
            Ok(()) => records.add(Happened::Installed, version, "recovery", "from recovery"),
            Err(error) => {
                let _ = records.set_tried(None);
                records.add(Happened::NotInstalled, version, "recovery", &error.to_string())
            }
        };
        if let Err(error) = noted {
            tell(&format!("It cannot be noted: {error}"));
        }
        done.map_err(|e| e.to_string())
    }
}

/// The bundle, as long as its medium is mounted.
fn on(medium: &Medium, file: &str) -> Outcome<(Mounted, PathBuf)> {
    let node = Path::new("/dev").join(medium.device.replace('!', "/"));
    let mounted = Mounted::new(&node, &medium.kind, Access::Read)?;
    let path = mounted.path().join(file);
    Ok((mounted, path))
}

/// The versions of the data of all units that say theirs.
fn states(data: &Path) -> BTreeMap<String, StateVersion> {
    let folders = fs::read_dir(data.join("state")).into_iter().flatten().flatten();
    let note = |path: PathBuf| serde_json::from_slice::<StateNote>(&fs::read(path.join(".cairn")).ok()?).ok();
    folders
        .filter_map(|found| Some((found.file_name().into_string().ok()?, note(found.path())?.version)))
        .collect()
}

/// A line for each tenth of a phase.
fn told(last: &mut (Phase, u64), progress: Progress) -> Option<String> {
    let tenths = progress
        .done
        .saturating_mul(10)
        .checked_div(progress.total)
        .unwrap_or(0);
    if *last == (progress.phase, tenths) {
        return None;
    }
    *last = (progress.phase, tenths);
    let what = match progress.phase {
        Phase::Write => "Writing",
        Phase::Verify => "Reading back",
        Phase::Boot => "Writing the boot entry",
        Phase::Compare | Phase::Done => return None,
    };
    Some(format!("{what}: {} %", tenths * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_data_are_those_that_the_units_noted() {
        let data = tempfile::tempdir().unwrap();
        for (unit, note) in [("db", "{\"version\": \"11.8\", \"appliance\": \"1.0\"}"), ("odd", "{")] {
            let folder = data.path().join("state").join(unit);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(".cairn"), note).unwrap();
        }
        fs::create_dir_all(data.path().join("state/old")).unwrap();
        let found: Vec<_> = states(data.path())
            .into_iter()
            .map(|(u, v)| format!("{u} {v}"))
            .collect();
        assert_eq!(found, ["db 11.8"]);
    }

    #[test]
    fn progress_is_a_line_for_each_tenth() {
        let mut last = (Phase::Compare, 0);
        let at = |done| Progress {
            phase: Phase::Write,
            done,
            total: 100,
            reused: 0,
            fetched: 0,
        };
        let lines: Vec<_> = (0..=100).filter_map(|done| told(&mut last, at(done))).collect();
        assert_eq!(lines.len(), 11);
        assert_eq!(
            (lines[0].as_str(), lines[10].as_str()),
            ("Writing: 0 %", "Writing: 100 %")
        );
    }
}

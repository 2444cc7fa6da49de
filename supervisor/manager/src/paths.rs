//! What a path trigger waits for: whether it holds, and being told when something happens there.
//!
//! Whether something changed is not what inotify told (a manager may have been away, and queues overflow) but a comparison with
//! what was there when the unit was last started. inotify(7) only says when to look.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cairn_unit::{Manifest, ManifestUnit, PathTrigger};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat};

use crate::config::{Config, escape};

/// So many entries of a folder are looked at.
const ENTRIES: usize = 10_000;

/// A trigger with its place on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The folder below which no link is followed: units write there.
    base: PathBuf,
    /// The path from there.
    path: PathBuf,
    trigger: PathTrigger,
}

impl Watch {
    /// The unit's trigger; none if it has none, or if nothing shows it that path.
    pub(crate) fn of(config: &Config, manifest: &Manifest, name: &str, unit: &ManifestUnit) -> Option<Watch> {
        let trigger = unit.unit.path.clone()?;
        let path = trigger.path();
        let own = unit.unit.state.keys().map(|folder| (name, folder));
        let needed = manifest
            .bonds(name)
            .filter_map(|bond| Some((bond.provider.as_str(), bond.provide.folder.as_ref()?)));
        let (owner, folder) = own.chain(needed).find(|(_, folder)| path.is_within(folder))?;
        let rest = Path::new(path.as_str()).strip_prefix(folder.as_str()).ok()?;
        let mut inside = PathBuf::from(owner).join(escape(folder.as_str()));
        inside.extend(rest.components());
        Some(Watch {
            base: config.at("/data/state"),
            path: inside,
            trigger,
        })
    }

    /// The folder below which it looks.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Whether the unit is to be started. `seen` is the [`Watch::mark`] of its last start.
    pub(crate) fn holds(&self, seen: u64) -> bool {
        match self.trigger {
            PathTrigger::Exists(_) => self.open(&self.path).is_some(),
            PathTrigger::NotEmpty(_) => {
                let folder = self.open(&self.path);
                folder.is_some_and(|folder| entries(&folder).is_some_and(|mut all| all.next().is_some()))
            }
            PathTrigger::Changed(_) => self.mark() != seen,
        }
    }

    /// A number that is another one when the file, or the folder's entries, have changed. 0 where nothing is.
    pub(crate) fn mark(&self) -> u64 {
        let Some(found) = self.open(&self.path) else { return 0 };
        let Ok(stat) = fstat(&found) else { return 0 };
        let mut mark = fold(0xcbf2_9ce4_8422_2325, &parts(&stat));
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            // Their order is the file system's, which is no change.
            let each = entries(&found).into_iter().flatten().take(ENTRIES).map(|name| {
                let about = statat(&found, &*name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
                fold(fold(1, name.as_bytes()), &about.map(|s| parts(&s)).unwrap_or_default())
            });
            mark = each.fold(mark, u64::wrapping_add);
        }
        mark | 1
    }

    /// A queue of what happens at the path, or at the parts of the way to it that are there so far.
    pub(crate) fn queue(&self) -> std::io::Result<OwnedFd> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let mut at = PathBuf::from(".");
        let steps = std::iter::once(Component::CurDir).chain(self.path.components());
        for step in steps {
            at.push(step);
            let Some(found) = self.open(&at) else { break };
            inotify::add_watch(&queue, format!("/proc/self/fd/{}", found.as_raw_fd()), flags)?;
        }
        Ok(queue)
    }

    fn open(&self, path: &Path) -> Option<OwnedFd> {
        let base = std::fs::File::open(&self.base).ok()?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(base, path, flags, Mode::empty(), resolve).ok()
    }
}

/// The names in a folder; `None` if it is none.
fn entries(folder: &OwnedFd) -> Option<impl Iterator<Item = std::ffi::CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(folder, ".", flags, Mode::empty()).ok()?;
    let names = Dir::new(open).ok()?.flatten().map(|entry| entry.file_name().to_owned());
    Some(names.filter(|name| !matches!(name.as_bytes(), b"." | b"..")))
}

/// What tells one state of a file from another.
fn parts(stat: &Stat) -> [u8; 32] {
    let mut all = [0; 32];
    let numbers = [
        stat.st_ino,
        stat.st_mtime.cast_unsigned(),
        stat.st_mtime_nsec,
        stat.st_size as u64,
    ];
    for (place, number) in all.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    all
}

/// FNV-1a, so that another build of the manager finds the same.
fn fold(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn watch(dir: &Path, text: &str) -> Watch {
        let config = Config::below(dir);
        let maker = r#"{"state":{"/var/spool/in":{}},"provides":{"spool":{"kind":"spool","folder":"/var/spool/in"}}}"#;
        let worker = format!(r#"{{"needs":{{"in":"spool"}},"state":{{"/var/lib/own":{{}}}},"path":{text}}}"#);
        let manifest = crate::testing::manifest(&[("maker", maker), ("worker", &worker)]);
        Watch::of(&config, &manifest, "worker", &manifest.units["worker"]).unwrap()
    }

    fn heard(queue: &OwnedFd) -> bool {
        let mut bytes = [0; 4096];
        let mut any = false;
        while rustix::io::read(queue, &mut bytes).is_ok_and(|length| length > 0) {
            any = true;
        }
        any
    }

    #[test]
    fn a_path_is_found_in_the_state_of_who_provides_it() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("data/state/maker/var-spool-in");
        let watch = watch(dir.path(), r#"{"not_empty":"/var/spool/in/new"}"#);
        assert!(!watch.holds(0), "nothing is there yet");
        fs::create_dir_all(spool.join("new")).unwrap();
        assert!(!watch.holds(0), "it is empty");
        fs::write(spool.join("new/one"), "x").unwrap();
        assert!(watch.holds(0));
    }

    #[test]
    fn every_step_of_the_way_wakes_the_watch() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), r#"{"exists":"/var/lib/own/a/b"}"#);
        let own = dir.path().join("data/state/worker/var-lib-own");
        fs::create_dir_all(dir.path().join("data/state")).unwrap();
        for step in [own.parent().unwrap().to_owned(), own.clone(), own.join("a")] {
            let queue = watch.queue().unwrap();
            assert!(!heard(&queue) && !watch.holds(0));
            fs::create_dir(&step).unwrap();
            assert!(heard(&queue), "{}", step.display());
        }
        let queue = watch.queue().unwrap();
        fs::write(own.join("a/b"), "").unwrap();
        assert!(heard(&queue) && watch.holds(0));
    }

    #[test]
    fn a_change_is_seen_however_it_was_made_and_also_if_nobody_watched() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("data/state/worker/var-lib-own");
        fs::create_dir_all(&own).unwrap();
        let watch = watch(dir.path(), r#"{"changed":"/var/lib/own"}"#);
        let mut seen = watch.mark();
        let mut changed = |what: &str| {
            assert!(watch.holds(seen), "{what}");
            seen = watch.mark();
            assert!(!watch.holds(seen), "{what}");
        };
        fs::write(own.join("a"), "1").unwrap();
        changed("made");
        fs::write(own.join("a"), "22").unwrap();
        changed("written");
        fs::rename(own.join("a"), own.join("b")).unwrap();
        changed("renamed");
        fs::write(own.join("c"), "22").unwrap();
        fs::rename(own.join("c"), own.join("b")).unwrap();
        changed("replaced");
        fs::remove_file(own.join("b")).unwrap();
        changed("removed");
    }

    #[test]
    fn no_link_that_a_unit_makes_leads_out_of_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("data/state/worker/var-lib-own");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(dir.path().join("secret")).unwrap();
        fs::write(dir.path().join("secret/b"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), own.join("a")).unwrap();
        assert!(!watch(dir.path(), r#"{"exists":"/var/lib/own/a/b"}"#).holds(0));
        assert_eq!(watch(dir.path(), r#"{"changed":"/var/lib/own/a/b"}"#).mark(), 0);
    }
}

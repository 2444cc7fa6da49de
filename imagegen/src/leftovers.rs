//! What must not outlive this program when a signal ends it: unfinished files, and programs that it started.
//!
//! Destructors do not run then. So whoever makes such a thing says so here for as long as it is unfinished, and the
//! signal's handler calls [`clear`]. After SIGKILL nothing is cleared: the next build sweeps its own folder, and
//! `imagegen cache gc` the cache.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Leftover {
    Path(PathBuf),
    Group(Pid),
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

fn leftovers() -> MutexGuard<'static, Vec<Leftover>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, what it stands for is cleared when a signal ends the program. Dropping it clears nothing.
#[derive(Debug)]
#[must_use]
pub(crate) struct Watched(Leftover);

/// Watches over an unfinished file, or a folder with all that is in it.
pub(crate) fn watch(path: &Path) -> Watched {
    add(Leftover::Path(path.to_owned()))
}

/// Watches over a program that leads a process group of its own; all of the group ends.
pub(crate) fn watch_group(leader: Pid) -> Watched {
    add(Leftover::Group(leader))
}

fn add(leftover: Leftover) -> Watched {
    leftovers().push(leftover.clone());
    Watched(leftover)
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = leftovers();
        if let Some(at) = all.iter().position(|each| *each == self.0) {
            all.swap_remove(at);
        }
    }
}

/// Ends and removes everything that is watched. The program must end right after it.
pub(crate) fn clear() {
    let all = leftovers().clone();
    clear_these(&all);
}

fn clear_these(all: &[Leftover]) {
    for leftover in all {
        if let Leftover::Group(leader) = leftover {
            let _ = kill_process_group(*leader, Signal::TERM);
        }
    }
    for leftover in all {
        let Leftover::Path(path) = leftover else { continue };
        // Other threads still write: a folder may fill again while it is emptied.
        for _ in 0..10 {
            let gone = match path.symlink_metadata() {
                Err(_) => true,
                Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).is_ok(),
                Ok(_) => std::fs::remove_file(path).is_ok(),
            };
            if gone {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn files_folders_and_a_programs_children_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, full) = (folder.path().join("file"), folder.path().join("full"));
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir_all(full.join("a/b")).unwrap();
        // The grandchild holds the pipe open: it closes when both have ended.
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 600 & wait"])
            .stdout(Stdio::piped())
            .process_group(0);
        let child = command.spawn().unwrap();
        let leader = Pid::from_child(&child);
        clear_these(&[
            Leftover::Path(file.clone()),
            Leftover::Path(full.clone()),
            Leftover::Group(leader),
        ]);
        assert!(!file.exists() && !full.exists());
        assert_eq!(child.wait_with_output().unwrap().status.signal(), Some(15));
    }

    #[test]
    fn what_is_finished_is_no_longer_watched() {
        let path = Path::new("/finished");
        let watched = watch(path);
        assert!(leftovers().contains(&Leftover::Path(path.into())));
        drop(watched);
        assert!(!leftovers().contains(&Leftover::Path(path.into())));
    }
}

//! The machine's clock: it never shows a time that has been, and a unit may keep it.
//!
//! A machine without a clock that runs on while it is off begins in 1970, and nothing that depends on the time works then:
//! certificates, releases, authenticators. So the manager sets it to what it knows to have been, until a time client knows better.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_init::protocol::{Request, StoreId};
use cairn_sandbox::clock::{Keeper, Set};
use cairn_unit::Manifest;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::config::Config;
use crate::console::Console;
use crate::supervisor::{Msg, Supervisor};

/// How often the time is noted, so how far the clock can be behind after a loss of power beside the time without it.
const EVERY: Duration = Duration::from_secs(3600);

/// What the clock is to be set to, if it is before a time that has been. All are seconds since 1970.
fn wanted(now: u64, built: u64, noted: Option<u64>) -> Option<u64> {
    let known = noted.unwrap_or(0).max(built);
    (now < known).then_some(known)
}

/// When the time was last noted, in seconds since 1970.
fn noted(path: &Path) -> Option<u64> {
    let modified = path.metadata().and_then(|found| found.modified()).ok()?;
    modified.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Sets the clock if it shows a time before what is known to have been, and notes the time from then on.
pub(crate) fn begin(config: &Config, manifest: &Manifest, console: &mut Console) {
    let before = crate::clock::seconds();
    let known = wanted(before, manifest.built, noted(&config.time()));
    if let Some(known) = known {
        let time = Timespec {
            tv_sec: i64::try_from(known).unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let set = clock_settime(ClockId::Realtime, time);
        let now = crate::clock::timestamp();
        console.say(&match set {
            Ok(()) => format!("The clock was before a time that has been, and was set to that: {now}"),
            Err(error) => format!("The clock shows {now}, which is past, and cannot be set: {error}"),
        });
    }
    let config = config.clone();
    tokio::spawn(async move {
        loop {
            note(&config);
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Notes the time, unless a later one is noted already.
pub(crate) fn note(config: &Config) {
    let (path, now) = (config.time(), crate::clock::seconds());
    if noted(&path).is_some_and(|noted| noted >= now) {
        return;
    }
    let write = || -> io::Result<()> {
        let file: File = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_modified(SystemTime::now())?;
        file.sync_all()
    };
    // Without it the clock is less right after a loss of power on a machine without one of its own, and no more.
    let _ = path.parent().map_or(Ok(()), cairn_config::private_folder);
    let _ = write();
}

impl Supervisor {
    /// Does the calls for the clock of a unit that keeps it, in a thread; for its sandbox or, as a successor, from cairn-init.
    pub(crate) fn keep_clock(&mut self, name: &str, descriptor: OwnedFd) {
        if let Ok(copy) = descriptor.try_clone() {
            self.store("clock", name, copy);
        }
        let earliest = UNIX_EPOCH + Duration::from_secs(self.manifest.built);
        let Some(live) = self.live.get_mut(name) else { return };
        live.keeper += 1;
        let (number, send, unit) = (live.keeper, self.send.clone(), name.to_owned());
        let work = move || {
            let keeper = Keeper::new(descriptor, earliest);
            let told = |set| drop(send.send(Msg::ClockSet(unit.clone(), set)));
            let why = keeper.serve(told).err().map(|error| error.to_string());
            // Before the supervisor is told: what still waits fails then, instead of waiting for ever.
            drop(keeper);
            let _ = send.send(Msg::ClockLeft(unit, number, why));
        };
        if let Err(error) = std::thread::Builder::new().name("clock".into()).spawn(work) {
            self.clock_left(name, number, Some(error.to_string()));
        }
    }

    /// A unit set the clock by a step.
    pub(crate) fn clock_set(&mut self, name: &str, set: Set) {
        // Clients try by a step of nothing whether they may.
        if matches!(set, Set::Forward(by) | Set::Back(by) if by < Duration::from_millis(1)) {
            return;
        }
        self.console.say(&match set {
            Set::Forward(by) => format!("unit {name}: the clock was set forward by {:.3} s", by.as_secs_f64()),
            Set::Back(by) => format!("unit {name}: the clock was set back by {:.3} s", by.as_secs_f64()),
            Set::Refused => format!("unit {name}: the clock was not set: no time is before this version was built"),
        });
    }

    /// Nobody does the unit's calls for the clock any more.
    pub(crate) fn clock_left(&mut self, name: &str, number: u64, why: Option<String>) {
        if self.live.get(name).is_none_or(|live| live.keeper != number) {
            return;
        }
        if let Some(id) = StoreId::new(format!("clock@{name}")) {
            self.post(Request::Remove { id }, Vec::new());
        }
        if let Some(why) = why {
            // Its next call fails, and with that it ends and is started again.
            self.console
                .say(&format!("unit {name}: it can keep the clock no longer: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_shows_what_has_been_is_set_to_the_latest_that_is_known() {
        assert_eq!(wanted(100, 50, None), None);
        assert_eq!(wanted(100, 50, Some(100)), None);
        assert_eq!(wanted(0, 50, None), Some(50));
        assert_eq!(wanted(60, 50, Some(70)), Some(70));
        assert_eq!(wanted(0, 50, Some(10)), Some(50));
    }

    #[test]
    fn the_time_is_noted_and_a_later_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::below(folder.path());
        assert_eq!(noted(&config.time()), None);
        note(&config);
        let first = noted(&config.time()).unwrap();
        assert!(crate::clock::seconds() - first < 60);
        let later = SystemTime::now() + Duration::from_secs(1_000_000);
        File::open(config.time()).unwrap().set_modified(later).unwrap();
        let later = noted(&config.time()).unwrap();
        note(&config);
        assert_eq!(noted(&config.time()), Some(later));
    }
}

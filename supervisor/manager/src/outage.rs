//! How long the services were away when a new version took over: from the moment they were told to stop until all of them were ready again. The
//! time of the first is left on the data partition for whatever starts next; a power cut leaves none, and nothing is told then.

use std::fs;
use std::path::PathBuf;

use cairn_config::{private_folder, write_atomically};

use crate::config::Config;

/// Longer than any restart: the clock was set in between, or the machine was off.
const MOST: u64 = 3600;

fn left(config: &Config) -> PathBuf {
    config.at("/data/upgrade/down")
}

/// Where it lies while the machine is up; a restart takes that with it.
fn taken(config: &Config) -> PathBuf {
    config.at("/run/cairn/upgrade/down")
}

/// Leaves the time at which the services are told to stop, in seconds since 1970. Without it the restart is as good.
pub(crate) fn leave(config: &Config, now: u64) {
    if left(config).parent().is_some_and(|folder| folder.exists()) {
        let _ = write_atomically(&left(config), now.to_string().as_bytes(), 0o600);
    }
}

/// Takes what the start before left. It holds for this one alone.
pub(crate) fn take(config: &Config) {
    let Ok(text) = fs::read(left(config)) else { return };
    let _ = fs::remove_file(left(config));
    let taken = taken(config);
    // This is before the first work on versions, which makes the folder.
    if taken.parent().is_some_and(|folder| private_folder(folder).is_ok()) {
        let _ = fs::write(taken, text);
    }
}

/// For how many seconds they were away, if all were ready at this time.
pub(crate) fn away(config: &Config, ready: u64) -> Option<u64> {
    let down: u64 = fs::read_to_string(taken(config)).ok()?.trim().parse().ok()?;
    ready.checked_sub(down).filter(|away| *away <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_tells_how_long_it_was_and_the_next_start_tells_nothing_of_it() {
        let place = tempfile::tempdir().unwrap();
        let config = Config::below(place.path());
        leave(&config, 1000);
        assert_eq!(away(&config, 1040), None, "an appliance without upgrades keeps nothing");
        fs::create_dir_all(place.path().join("data/upgrade")).unwrap();
        leave(&config, 1000);
        take(&config);
        assert_eq!(away(&config, 1040), Some(40));
        assert_eq!(away(&config, 999), None, "the clock went back");
        assert_eq!(away(&config, 1000 + MOST + 1), None, "the machine was off");
        fs::remove_dir_all(place.path().join("run/cairn/upgrade")).unwrap();
        take(&config);
        assert_eq!(away(&config, 1040), None, "the power was cut since");
    }
}

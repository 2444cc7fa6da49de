//! Where everything is. One prefix moves all of it below a folder, for tests.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The places that the manager reads and writes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Set in front of every path below; empty on an appliance.
    pub prefix: PathBuf,
    /// Whether to set up the network: false below a prefix.
    pub network: bool,
}

impl Config {
    /// The appliance's own.
    pub fn appliance() -> Config {
        Config {
            prefix: PathBuf::new(),
            network: true,
        }
    }

    /// Everything below `prefix`, and no network.
    pub fn below(prefix: &Path) -> Config {
        Config {
            prefix: prefix.to_owned(),
            network: false,
        }
    }

    /// An absolute path, below the prefix.
    pub fn at(&self, path: &str) -> PathBuf {
        if self.prefix.as_os_str().is_empty() {
            PathBuf::from(path)
        } else {
            self.prefix.join(path.trim_start_matches('/'))
        }
    }

    /// The compiled appliance.
    pub fn manifest(&self) -> PathBuf {
        self.at("/usr/lib/cairn/appliance.json")
    }

    /// A unit's cgroup.
    pub fn cgroup(&self, unit: &str) -> PathBuf {
        self.at("/sys/fs/cgroup/cairn/units").join(unit)
    }

    /// A unit's cgroup as `/proc/PID/cgroup` shows it.
    pub fn cgroup_shown(&self, unit: &str) -> PathBuf {
        Path::new("/cairn/units").join(unit)
    }

    /// The owner's choices.
    pub fn site(&self) -> PathBuf {
        self.at("/data/site/site.toml")
    }

    /// When a unit with a timer was last started, over boots.
    pub fn timer(&self, unit: &str) -> PathBuf {
        self.at("/data/timers").join(unit)
    }

    /// Changed every hour: when it was last later than ever before.
    pub fn time(&self) -> PathBuf {
        self.at("/data/timers/.now")
    }

    /// A unit's state on the data partition.
    pub fn state(&self, unit: &str) -> PathBuf {
        self.at("/data/state").join(unit)
    }

    /// A unit's state while it is being made.
    pub fn new_state(&self, unit: &str) -> PathBuf {
        self.at("/data/state").join(format!("{unit}.new"))
    }

    /// The dumps of what units keep.
    pub fn dumps(&self) -> PathBuf {
        self.at("/data/dumps")
    }

    /// A unit's secrets on the data partition.
    pub fn secrets(&self, unit: &str) -> PathBuf {
        self.at("/data/secrets").join(unit)
    }

    /// The accounts that bindings have. No unit's folder can have that name.
    pub fn accounts(&self) -> PathBuf {
        self.at("/data/secrets/.accounts")
    }

    /// The code by which the appliance is set up, until it is. No unit's folder can have that name.
    pub fn setup_code(&self) -> PathBuf {
        self.at("/data/secrets/.setup/code")
    }

    /// The certificate authority. No unit's folder can have that name.
    pub fn authority(&self) -> PathBuf {
        self.at("/data/secrets/.ca")
    }

    /// The certificates that were imported. No unit's folder can have that name.
    pub fn imported(&self) -> PathBuf {
        self.at("/data/secrets/.imported")
    }

    /// A unit's secrets as its sandbox sees them, in memory.
    pub fn shown_secrets(&self, unit: &str) -> PathBuf {
        self.at("/run/cairn/secrets").join(unit)
    }

    /// A unit's rendered files as its sandbox sees them, in memory.
    pub fn rendered(&self, unit: &str) -> PathBuf {
        self.at("/run/cairn/config").join(unit)
    }

    /// A unit's notification socket.
    pub fn notify(&self, unit: &str) -> PathBuf {
        self.at("/run/cairn/notify").join(unit)
    }

    /// A unit's runtime folders that other units see a socket of.
    pub fn shared(&self, unit: &str) -> PathBuf {
        self.at("/run/cairn/shared").join(unit)
    }

    /// The log store.
    pub fn log_root(&self) -> PathBuf {
        self.at("/data/log")
    }

    /// The units' `/dev/log` sockets.
    pub fn log_sockets(&self) -> PathBuf {
        self.at("/run/cairn/log")
    }

    /// A unit's `/dev/log`.
    pub fn dev_log(&self, unit: &str) -> PathBuf {
        self.log_sockets().join(unit)
    }

    /// Where each log's reading stands.
    pub fn log_notes(&self) -> PathBuf {
        self.at("/run/cairn/manager/log")
    }

    /// Where the reading of a unit's log stands.
    pub fn log_note(&self, unit: &str) -> PathBuf {
        self.log_notes().join(unit)
    }

    /// What the owner said about logs.
    pub fn log_config(&self) -> PathBuf {
        self.at("/data/site/log.toml")
    }

    /// How far logs were sent to another machine.
    pub fn log_forwarded(&self) -> PathBuf {
        self.at("/run/cairn/manager/log-forwarded")
    }

    /// The manager's last state.
    pub fn saved(&self) -> PathBuf {
        self.at("/run/cairn/manager/state.json")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.at("/run/cairn/control.sock")
    }

    /// The name servers that the network told.
    pub fn resolv(&self) -> PathBuf {
        self.at("/run/cairn/resolv.conf")
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// It is not there or not a manifest: the image is damaged or from another version. Units wait for each other in a circle.
    pub fn read_manifest(&self) -> Result<cairn_unit::Manifest, Error> {
        let path = self.manifest();
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let refuse = |why| Error::Manifest { path, why };
        let manifest: cairn_unit::Manifest = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(e) => return Err(refuse(e.to_string())),
        };
        match manifest.cycle() {
            None => Ok(manifest),
            Some(cycle) => {
                let path: Vec<&str> = cycle.iter().map(cairn_unit::Name::as_str).collect();
                Err(refuse(format!("the units wait for each other: {}", path.join(" -> "))))
            }
        }
    }
}

/// A path inside a unit as one file name: without the first `/`, `/` as `-`, and `-`, `\` and `.` at the start as `\xHH`.
pub fn escape(path: &str) -> String {
    let mut out = String::new();
    for (i, c) in path.trim_start_matches('/').bytes().enumerate() {
        match c {
            b'/' => out.push('-'),
            b'-' | b'\\' => out.push_str(&format!("\\x{c:02x}")),
            b'.' if i == 0 => out.push_str("\\x2e"),
            c if c.is_ascii_graphic() => out.push(char::from(c)),
            c => out.push_str(&format!("\\x{c:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_wait_for_each_other_are_refused_with_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let mut manifest = crate::testing::manifest(&[("a", "{}"), ("b", "{}"), ("c", "{}")]);
        let mut wait = |unit: &str, other: &str| {
            let waits = &mut std::sync::Arc::make_mut(manifest.units.get_mut(unit).unwrap()).waits_for;
            waits.push(other.parse().unwrap());
            std::fs::create_dir_all(config.manifest().parent().unwrap()).unwrap();
            std::fs::write(config.manifest(), serde_json::to_vec(&manifest).unwrap()).unwrap();
            config.read_manifest().map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(wait("a", "b"), Ok(()));
        assert_eq!(wait("b", "c"), Ok(()));
        let refused = wait("c", "a").unwrap_err();
        assert!(
            refused.contains("the units wait for each other: a -> b -> c -> a"),
            "{refused}"
        );
    }

    #[test]
    fn two_paths_never_share_a_folder() {
        let paths = [
            "/var/lib/a",
            "/var/lib-a",
            "/var-lib/a",
            "/.var",
            "/var",
            "/v\\x2d",
            "/v-",
            "/é",
        ];
        let names: std::collections::BTreeSet<String> = paths.iter().map(|p| escape(p)).collect();
        assert_eq!(names.len(), paths.len());
        assert_eq!(escape("/var/lib/mysql"), "var-lib-mysql");
        assert!(names.iter().all(|n| !n.contains('/') && !n.starts_with('.')));
    }
}

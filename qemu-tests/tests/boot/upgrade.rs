//! Upgrades of a real appliance by its real boot loader (`appliances/upgrade-test.toml`): a version from a web server proves itself and is kept, one
//! that fails is given up for the one before, and a power cut in the middle of an install changes nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_tests::blocklog;
use qemu_tests::machine::{Home, Options};
use qemu_tests::served::Served;
use serde_json::Value;

use super::crash_points::{self, Recording};
use super::daemons::Guest;
use super::*;

pub(super) const INSTALLED: Duration = Duration::from_secs(300);
pub(super) const PROVED: &str = "This version has proved itself and is kept";

/// The publisher.
pub(super) struct Publisher {
    folder: PathBuf,
}

impl Publisher {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let keys = images::workspace().join("qemu-tests/fixtures/upgrade-keys");
        let repository = folder.join("repository");
        for sub in ["metadata", "targets", "packs", "incoming"] {
            must(std::fs::create_dir_all(repository.join(sub)));
        }
        must(std::fs::copy(
            keys.join("root.json"),
            repository.join("metadata/1.root.json"),
        ));
        let channels = format!("{{\"name\":\"{name}\",\"channels\":{{}}}}");
        must(std::fs::write(repository.join("incoming/channels.json"), channels));
        Self { folder: repository }
    }

    fn imagegen(&self, words: &[&str]) {
        let mut command = Command::new(must(images::imagegen()));
        let output = must(
            command
                .arg("release")
                .arg(words[0])
                .arg(&self.folder)
                .args(&words[1..])
                .output(),
        );
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(super) fn publish(&self, version: &str, image: &Path) {
        let keys = images::workspace().join("qemu-tests/fixtures/upgrade-keys");
        self.imagegen(&["add", &image.display().to_string()]);
        self.imagegen(&["promote", version]);
        self.imagegen(&["publish", "--keys", &keys.display().to_string()]);
    }

    /// A bundle with all of a version.
    pub(super) fn whole(&self, version: &str) -> Vec<u8> {
        let path = self.folder.join("whole.cairn");
        self.imagegen(&["bundle", version, "-o", &path.display().to_string()]);
        must(std::fs::read(path))
    }

    pub(super) fn bundle(&self, version: &str, since: &str) -> Vec<u8> {
        let path = self.folder.join("thin.cairn");
        self.imagegen(&["bundle", version, "--since", since, "-o", &path.display().to_string()]);
        must(std::fs::read(path))
    }
}

/// The appliance of `NAME-VERSION.raw`.
fn name_of(image: &Path) -> &str {
    let stem = image.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.rsplit_once('-').map_or(stem, |(name, _)| name)
}

/// A publisher with the first version, and a machine that has it.
pub(super) struct Scene {
    pub(super) first: PathBuf,
    pub(super) work: tempfile::TempDir,
    pub(super) publisher: Publisher,
    pub(super) home: Home,
}

impl Scene {
    pub(super) fn new(name: &str, log_writes: bool) -> Self {
        let options = Options {
            log_writes,
            ..Options::default()
        };
        Self::with(name, options, |_| must(images::upgradable()))
    }

    /// With a first version that is made with what lies in the folder.
    pub(super) fn with(name: &str, options: Options, first: impl FnOnce(&Path) -> PathBuf) -> Self {
        let work = must(tempfile::tempdir_in(must(std::fs::canonicalize(images::target()))));
        let first = first(work.path());
        let publisher = Publisher::new(work.path(), name_of(&first));
        publisher.publish("1.0.0", &first);
        let options = Options {
            disk_gib: 2,
            ports: Vec::new(),
            ..options
        };
        let home = must(Home::new(name, &first, options));
        Self {
            first,
            work,
            publisher,
            home,
        }
    }

    /// Switches the machine on, and waits until the first version has proved itself.
    pub(super) fn start(&self) -> Guest {
        let guest = Guest(must(self.home.start()));
        must(guest.0.wait_for(PROVED, READY));
        guest
    }
}

pub(super) fn status(guest: &mut Guest) -> Value {
    must(serde_json::from_str(&guest.cairn(&["upgrade", "status", "--json"])))
}

/// Restarts and waits until this version says so.
pub(super) fn restart_into(guest: &mut Guest, version: &str) -> usize {
    let mark = guest.0.serial.mark();
    guest.cairn(&["reboot"]);
    must(guest.0.wait_reset(OFF));
    must(guest.0.serial.wait_from(mark, &format!("-test {version}"), READY));
    mark
}

#[test]
fn a_version_that_works_is_kept_and_one_that_does_not_gives_way_to_the_one_before() {
    let scene = Scene::new("upgrade", true);
    let (first, work, publisher, home) = (&scene.first, &scene.work, &scene.publisher, &scene.home);
    let fresh = home.folder().join("fresh.raw");
    must(disk::copy_grown(first, &fresh, 2 << 30));
    let mut guest = scene.start();
    let running = &status(&mut guest)["versions"]["running"];
    assert_eq!(
        (&running["version"], &running["tries_left"]),
        (&"1.0.0".into(), &Value::Null)
    );

    // From the web, with the power cut while it is written: the next start is the same version, and the next install completes.
    let from = must(blocklog::count(&home.writes()));
    let second = must(images::upgraded("1.1.0", images::Changes::default(), work.path()));
    publisher.publish("1.1.0", &second);
    let served = must(Served::folder(&publisher.folder));
    let url = format!("http://10.0.2.2:{}", served.port);
    assert!(
        guest
            .cairn(&["upgrade", "check", &url])
            .contains("Version 1.1.0 can be installed; 1.0.0 runs.")
    );
    guest.cairn(&["upgrade", "install", &url, "--no-wait"]);
    wait_until("the root is written", INSTALLED, || {
        ["write", "verify", "boot"]
            .iter()
            .any(|phase| status(&mut guest)["task"]["phase"] == **phase)
    });
    must(guest.0.kill());
    drop(guest);
    let mut guest = Guest(must(home.start()));
    must(guest.0.wait_for("Cairn: upgrade-test 1.0.0", READY));
    must(guest.0.wait_for("Ready", READY));
    let before = served.sent();
    let said = guest.ran(&["/usr/bin/cairn", "upgrade", "install", &url], INSTALLED);
    assert!(said.0 == 0 && said.1.contains("Version 1.1.0 is installed"), "{said:?}");
    // The first release's pack holds all of it, the second's only what differs.
    let whole = publisher.folder.join("packs/upgrade-test-1.0.0-amd64.pack");
    let whole = must(std::fs::metadata(whole)).len();
    let fetched = served.sent() - before;
    assert!(fetched * 10 < whole, "{fetched} bytes of {whole} were fetched");
    println!("fetched {fetched} bytes of a release of {whole}: {}", said.1);
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, PROVED, READY));
    let now = status(&mut guest);
    assert_eq!(now["versions"]["running"]["entry"], "upgrade-test_1.1.0.efi", "{now}");
    assert_eq!(now["versions"]["other"]["version"], "1.0.0", "{now}");

    // The owner does not like it, and goes back.
    guest.cairn(&["upgrade", "rollback"]);
    let mark = restart_into(&mut guest, "1.0.0");
    must(guest.0.serial.wait_from(mark, "Ready", READY));
    wait_until("the manager has looked", READY, || {
        !status(&mut guest)["versions"]["running"].is_null()
    });
    let now = status(&mut guest);
    assert_eq!(now["versions"]["running"]["entry"], "upgrade-test_1.0.0.efi", "{now}");
    assert_eq!(now["versions"]["other"]["tries_left"], 0, "{now}");

    // From a bundle, a version whose unit ends at once.
    let ends = images::Changes {
        unit: &[("\"worker\"", "\"no-such-act\"")],
        ..images::Changes::default()
    };
    let third = must(images::upgraded("1.2.0", ends, work.path()));
    publisher.publish("1.2.0", &third);
    let bundle = publisher.bundle("1.2.0", "1.0.0");
    must(must(guest.0.agent()).write_file("/data/update.cairn", &bundle));
    let said = guest.ran(
        &["/usr/bin/cairn", "upgrade", "install", "/data/update.cairn"],
        INSTALLED,
    );
    assert!(said.0 == 0 && said.1.contains("Version 1.2.0 is installed"), "{said:?}");
    let mark = restart_into(&mut guest, "1.2.0");
    must(
        guest
            .0
            .serial
            .wait_from(mark, "This version has not proved itself: ", READY),
    );
    must(guest.0.wait_reset(OFF));
    must(guest.0.serial.wait_from(mark, "Cairn: upgrade-test 1.0.0", READY));
    wait_until("the manager answers", READY, || {
        let answer = must(guest.0.agent()).exec(&["/usr/bin/cairn", "upgrade", "--json"], READY);
        answer.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("\"failed\":{"))
    });
    let now = status(&mut guest);
    assert_eq!(now["versions"]["running"]["entry"], "upgrade-test_1.0.0.efi", "{now}");
    assert_eq!(now["versions"]["failed"]["version"], "1.2.0", "{now}");
    let why = now["versions"]["failed"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("unit steady"), "{why}");
    let last = now["versions"]["failed"]["log"].as_array();
    let told = last.is_some_and(|lines| {
        lines
            .iter()
            .any(|line| line.as_str().is_some_and(|l| l.contains("steady")))
    });
    assert!(told, "{now}");
    let history = guest.cairn(&["upgrade", "history"]);
    let lines: Vec<&str> = history
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        lines,
        [
            "failed",
            "installed",
            "rolled-back",
            "committed",
            "installed",
            "not-installed",
            "committed"
        ],
        "{history}"
    );
    // How long nobody was served stands beside the version that took over; the first came with the disk.
    let served = history.lines().filter(|line| line.contains("committed"));
    let away: Vec<bool> = served
        .map(|line| line.contains("the services were away for "))
        .collect();
    assert_eq!(away, [true, false], "{history}");
    // There is nothing to go back to that would start.
    let (code, said) = guest.ran(&["/usr/bin/cairn", "upgrade", "rollback"], INSTALLED);
    assert!(code == 1 && said.contains("no other version"), "{said}");
    switch_off(guest.0);
    is_clean(home);
    crash_points::each_leaves_a_version_that_is_whole(&Recording {
        home,
        before: &fresh,
        from,
        images: &[first, &second, &third],
    });
}

//! New versions that fail, each in a way of its own: the appliance comes back to the version of before by itself, says why, and its data is as it was.

use std::path::Path;

use qemu_tests::images::Changes;

use super::daemons::Guest;
use super::upgrade::{INSTALLED, PROVED, Publisher, Scene, restart_into, status};
use super::*;

const AGENT: &str = "/usr/lib/cairn/test-agent";
/// For everything that a version is given before it is given up.
const GIVEN_UP: Duration = Duration::from_secs(600);
/// Where a version differs from the first.
const RECIPE: &str = "recipe";
const UNIT: &str = "unit";
/// The unit's first line, which what follows is put behind.
const PLAIN: &str = "description = \"Runs until it is stopped; for tests only\"";
const ILL: &str = "health = { check = { exec = [\"/usr/lib/cairn/test-agent\", \"no\"] }, interval = \"1s\" }";
/// A step that makes `two` of `one`, and back.
const MIGRATION: &str = "migration = { version = 2, steps = [{ from = 1, to = 2, \
                         up = [\"/usr/lib/cairn/test-agent\", \"rename\", \"/var/lib/steady/one\", \"/var/lib/steady/two\"], \
                         down = [\"/usr/lib/cairn/test-agent\", \"rename\", \"/var/lib/steady/two\", \"/var/lib/steady/one\"] }] }";
const ENDLESS: &str = "migration = { version = 2, steps = [{ from = 1, to = 2, \
                       up = [\"/usr/lib/cairn/test-agent\", \"act\", \"rest\"], timeout = \"3s\" }] }";

/// Makes that version and installs it from a bundle.
fn install(guest: &mut Guest, publisher: &Publisher, version: &str, changes: Changes<'_>, work: &Path) {
    let image = must(images::upgraded(version, changes, work));
    publisher.publish(version, &image);
    let bundle = publisher.bundle(version, "1.0.0");
    must(must(guest.0.agent()).write_file("/data/update.cairn", &bundle));
    let said = guest.ran(
        &["/usr/bin/cairn", "upgrade", "install", "/data/update.cairn"],
        INSTALLED,
    );
    assert!(
        said.0 == 0 && said.1.contains(&format!("Version {version} is installed")),
        "{said:?}"
    );
    guest.ran(&[AGENT, "rename", "/data/update.cairn", "/data/update.old"], READY);
}

/// Waits until the first version runs again, from this place in the console on, and says why the other was given up.
fn why(guest: &mut Guest, mark: usize, version: &str) -> String {
    let first = "Cairn: upgrade-test 1.0.0";
    must(guest.0.serial.wait_from(mark, first, GIVEN_UP));
    wait_until("the manager tells what failed", READY, || {
        let answer = must(guest.0.agent()).exec(&["/usr/bin/cairn", "upgrade", "--json"], READY);
        answer.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("\"failed\":{"))
    });
    let now = status(guest);
    assert_eq!(now["versions"]["running"]["entry"], "upgrade-test_1.0.0.efi", "{now}");
    assert_eq!(now["versions"]["failed"]["version"], version, "{now}");
    now["versions"]["failed"]["why"].as_str().unwrap_or_default().to_owned()
}

/// Restarts into a version that fails by itself.
fn fails(guest: &mut Guest, version: &str) -> String {
    let mark = guest.0.serial.mark();
    guest.cairn(&["reboot"]);
    must(guest.0.wait_reset(OFF));
    why(guest, mark, version)
}

/// The unit itself writes and reads: what is somebody else's it could not rename.
fn put(guest: &mut Guest, file: &str) {
    guest.wait_ready("steady");
    let path = format!("/var/lib/steady/{file}");
    guest.cairn(&["enter", "steady", AGENT, "put", &path, "kept"]);
}

fn has(guest: &mut Guest, file: &str) -> bool {
    guest.wait_ready("steady");
    let path = format!("/var/lib/steady/{file}");
    let (status, said) = guest.ran(&["/usr/bin/cairn", "enter", "steady", AGENT, "show", &path], READY);
    assert!(status == 0 || said.contains("No such file"), "{said}");
    status == 0 && said == "kept"
}

#[test]
fn a_version_that_panics_or_is_not_reached_or_is_ill_or_loops_gives_way_to_the_one_before() {
    let scene = Scene::new("bad-versions", false);
    let (work, publisher) = (scene.work.path(), &scene.publisher);
    let mut guest = scene.start();
    put(&mut guest, "one");

    let words = |words: &str| format!("[boot]\ncommand_line = [\"{words}\"]\n\n[upgrade]");
    // No program of ours ever runs in the first; the second finds no network device.
    let (panics, alone) = (words("rdinit=/nowhere"), words("module_blacklist=virtio_net"));
    let (ill, endless) = (format!("{PLAIN}\n{ILL}"), format!("{PLAIN}\n{ENDLESS}"));
    let bad = [
        ("1.1.0", RECIPE, &panics, "it was started 3 times"),
        ("1.2.0", RECIPE, &alone, "no network address"),
        ("1.3.0", UNIT, &ill, "unit steady"),
        ("1.4.0", UNIT, &endless, "unit steady failed"),
    ];
    for (version, file, to, because) in bad {
        let change = [(if file == RECIPE { "[upgrade]" } else { PLAIN }, to.as_str())];
        let changes = match file {
            RECIPE => Changes {
                recipe: &change,
                ..Changes::default()
            },
            _ => Changes {
                unit: &change,
                ..Changes::default()
            },
        };
        install(&mut guest, publisher, version, changes, work);
        let said = fails(&mut guest, version);
        assert!(said.contains(because), "{version}: {said}");
        assert!(has(&mut guest, "one"), "{version}");
    }

    // One that brings the data to its version and works; what it wrote comes along on the way back.
    let migrates = format!("{PLAIN}\n{MIGRATION}");
    let changes = Changes {
        unit: &[(PLAIN, &migrates)],
        ..Changes::default()
    };
    install(&mut guest, publisher, "1.5.0", changes, work);
    let mark = restart_into(&mut guest, "1.5.0");
    must(guest.0.serial.wait_from(mark, PROVED, READY));
    assert!(has(&mut guest, "two") && !has(&mut guest, "one"));
    put(&mut guest, "new");
    // Once the data is brought back the appliance restarts by itself, maybe before the command has said so.
    let mark = guest.0.serial.mark();
    let back = ["/usr/bin/cairn", "upgrade", "rollback"];
    let _ = must(guest.0.agent()).exec(&back, Duration::from_secs(20));
    let (mark, _) = must(guest.0.serial.wait_from(mark, "Cairn: upgrade-test 1.0.0", READY));
    must(guest.0.serial.wait_from(mark, "Ready", READY));
    assert!(has(&mut guest, "one") && has(&mut guest, "new") && !has(&mut guest, "two"));
    switch_off(guest.0);
    is_clean(&scene.home);
}

/// A version that hangs, panics or loses power in the middle of proving itself; each costs it one try. Hanging takes minutes of a watchdog.
#[test]
#[ignore = "takes minutes of a watchdog's time; `make soak` runs it"]
fn a_version_that_hangs_and_panics_and_loses_power_gives_way_to_the_one_before() {
    let scene = Scene::new("hanging-version", false);
    let (work, publisher) = (scene.work.path(), &scene.publisher);
    let mut guest = scene.start();
    let changes = Changes {
        recipe: &[
            ("healthy = \"5s\"", "healthy = \"50m\""),
            ("deadline = \"60s\"", "deadline = \"1h\""),
        ],
        ..Changes::default()
    };
    install(&mut guest, publisher, "1.1.0", changes, work);
    let mark = restart_into(&mut guest, "1.1.0");
    must(guest.0.serial.wait_from(mark, "Ready", READY));

    wait_until("the watchdog is armed", Duration::from_secs(60), || {
        let state = must(guest.0.agent()).read_file("/sys/class/watchdog/watchdog0/state");
        state.is_ok_and(|state| state.starts_with(b"active"))
    });
    let mark = guest.0.serial.mark();
    guest.write("/sys/fs/cgroup/cairn/init/cgroup.freeze", "1");
    must(guest.0.wait_reset(GIVEN_UP));
    must(guest.0.serial.wait_from(mark, "Cairn: upgrade-test 1.1.0", READY));
    must(guest.0.serial.wait_from(mark, "Ready", READY));

    let mark = guest.0.serial.mark();
    let _ = must(guest.0.agent()).write_file("/proc/sysrq-trigger", b"c");
    must(guest.0.wait_reset(GIVEN_UP));
    must(guest.0.serial.wait_from(mark, "Cairn: upgrade-test 1.1.0", READY));
    must(guest.0.serial.wait_from(mark, "Ready", READY));

    must(guest.0.kill());
    drop(guest);
    let mut guest = Guest(must(scene.home.start()));
    let said = why(&mut guest, 0, "1.1.0");
    assert!(said.contains("it was started 3 times"), "{said}");
    switch_off(guest.0);
    is_clean(&scene.home);
}

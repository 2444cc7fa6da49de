//! Power cuts while an appliance makes all that it has: authority and certificates, database, directory, the accounts of bindings, the
//! owner's account. Whatever the moment, it goes on to a whole appliance with one set of secrets.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qemu_tests::client::browser::Browser;
use qemu_tests::machine::{Home, Options};
use qemu_tests::random::Random;

use super::daemons::Guest;
use super::power_cuts::{AT_ONCE, Cut, make, none_is_lost, report, why};
use super::setup::{CHOICES, PASSWORD};
use super::*;

/// After "Ready" the owner's account and the last of the units' first writes follow.
const BEYOND: Duration = Duration::from_secs(3);

/// What a disk keeps below `/data/secrets`: each file's content.
type Secrets = BTreeMap<PathBuf, Vec<u8>>;

fn start(name: &str, image: &Path) -> Home {
    let options = Options {
        ports: vec![443, 389, 8443],
        ..Options::default()
    };
    must(Home::new(name, image, options))
}

/// Boots to the end, uses everything, and switches off. Returns when it was ready, and its secrets.
fn goes_on_to_the_end(home: &Home) -> (Duration, Secrets) {
    let machine = must(home.start());
    must(machine.wait_for("Ready: https://", READY));
    let ready = machine.said_at("Ready: https://").unwrap_or(READY);
    let mut guest = Guest(machine);
    for unit in ["panel", "mdns", "caddy", "mariadb", "slapd", "example"] {
        guest.wait_ready(unit);
    }
    // The owner's account, the directory behind the panel's own account there, and nobody can claim the appliance again.
    let mut owner = Browser::new(must(guest.0.port(8443)));
    wait_until("the owner's account", READY, || {
        must(owner.get("/login"));
        must(owner.post("/login", &[("name", "ada"), ("password", PASSWORD)])).status == 303
    });
    wait_until("the directory", READY, || must(owner.get("/people")).status == 200);
    assert_eq!(
        must(Browser::new(must(guest.0.port(8443))).get("/setup/code")).location,
        "/login"
    );
    // A person by the directory's own administrator; the unit's two accounts, and its place on the web.
    super::example::the_unit_is_served_at_its_path_to_people_of_the_directory(&mut guest);
    switch_off(guest.0);
    is_clean(home);
    (ready, must(disk::data_files(&home.disk(), "/secrets")))
}

/// Whether a file of the secrets is made anew for good reason: certificates are issued again for other names, and the code of the
/// setup goes.
fn may_change(path: &Path) -> bool {
    path.starts_with(".setup")
        || path.ends_with("tls")
        || path.starts_with(".ca/issued")
        || path.ends_with("authority.pem")
}

/// One cut after so long, and all boots that it takes.
fn cut(image: &Path, whole: &Secrets, number: u32, after: Duration) -> Cut {
    let home = start(&format!("first-{number}"), image);
    let mut machine = must(home.start());
    // Time is what is tested here, so time is waited for.
    std::thread::sleep(after.saturating_sub(machine.uptime()));
    let after = machine.uptime();
    must(machine.kill());
    let said = machine.serial.lines().last().map(|(_, line)| line.clone());
    drop(machine);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut before = must(disk::data_files(&home.disk(), "/secrets"));
        // Before it has its name a file is nobody's, and may be half of one. At the end there is none.
        before.retain(|path, _| path.extension().is_none_or(|ending| ending != "new"));
        for (path, content) in &before {
            assert!(!content.is_empty(), "{} is empty after the cut", path.display());
        }
        let (_, now) = goes_on_to_the_end(&home);
        for (path, content) in before.iter().filter(|(path, _)| !may_change(path)) {
            assert_eq!(now.get(path), Some(content), "{} is another one now", path.display());
        }
        let names = |secrets: &Secrets| secrets.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(whole), "other secrets than without a cut");
    }));
    Cut {
        number,
        when: format!("{:.2} s after the power came", after.as_secs_f64()),
        after,
        said: said.unwrap_or_default(),
        result: result.map_err(why),
    }
}

#[test]
fn no_power_cut_while_everything_is_generated_leaves_half_of_it() {
    let soak = std::env::var("CAIRN_SOAK").is_ok_and(|value| value == "1");
    let given = std::env::var("CAIRN_CUTS").ok().and_then(|count| count.parse().ok());
    let count: u32 = given.unwrap_or(if soak { 200 } else { 2 });
    let choices = must(tempfile::NamedTempFile::new());
    must(std::fs::write(choices.path(), CHOICES));
    let image = must(images::first_with(choices.path()));
    let mut random = Random::seeded();
    // One in each equal part of the first boot; how far into it, in millionths.
    let chances: Vec<u32> = (0..count).map(|_| random.below(1_000_000) as u32).collect();
    // As slow as those with a cut: so many at a time, too, where there are many.
    let uncut = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..AT_ONCE.min(count as usize / 2).max(1))
            .map(|run| {
                let image = &image;
                scope.spawn(move || goes_on_to_the_end(&start(&format!("first-uncut-{run}"), image)))
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap())
            .max_by_key(|(ready, _)| *ready)
    });
    let (ready, whole) = uncut.unwrap();
    assert!(whole.keys().any(|path| path.starts_with(".ca")), "{:?}", whole.keys());
    let spread = ready + BEYOND;
    let cuts = make(count, |index| {
        let part = u64::from(index) * 1_000_000 + u64::from(chances[index as usize]);
        let after = spread.mul_f64(part as f64 / (f64::from(count) * 1e6));
        cut(&image, &whole, index + 1, after)
    });
    if soak {
        let title = "Power cuts while everything is generated";
        must(report("soak-first-boot.md", title, &random, &cuts));
    }
    none_is_lost(&cuts, count);
}

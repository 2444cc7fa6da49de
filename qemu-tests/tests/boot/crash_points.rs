//! Power cuts at every flush of an upgrade, and between: the log of all that reached the disk is replayed, and each disk that a cut could leave is
//! judged. Some are booted, too.

use std::fmt::Write as _;
use std::path::Path;

use qemu_tests::blocklog::{BlockLog, Request};
use qemu_tests::crash::{Cut, Medium};
use qemu_tests::random::Random;
use qemu_tests::verdict::{self, Loaders, Version};

use super::daemons::Guest;
use super::*;

/// What was written, from where on cuts are made, and what may start after one.
pub(crate) struct Recording<'a> {
    /// The machine, which is off.
    pub(crate) home: &'a Home,
    /// Its disk before its first start.
    pub(crate) before: &'a Path,
    /// How many requests had been made when the first install began.
    pub(crate) from: usize,
    /// The image of each version.
    pub(crate) images: &'a [&'a Path],
}

#[derive(Default)]
struct Tally {
    flushes: usize,
    points: usize,
    of_upgrade: usize,
    booted: Vec<String>,
    started: std::collections::BTreeMap<String, usize>,
}

struct Campaign {
    versions: Vec<Version>,
    loaders: Loaders,
    /// How many of the upgrade's own points, and how many of them are booted.
    points: usize,
    boots: usize,
    random: Random,
    tally: Tally,
}

/// After each cut the boot loader comes to a version that is whole, bit for bit, whatever it tries. Panics with the seed and the place otherwise.
pub(crate) fn each_leaves_a_version_that_is_whole(recording: &Recording<'_>) {
    let soak = std::env::var("CAIRN_SOAK").is_ok_and(|value| value == "1");
    let (points, boots) = if soak { (2400, 12) } else { (240, 1) };
    let mut campaign = Campaign {
        versions: recording.images.iter().map(|image| must(Version::of(image))).collect(),
        loaders: must(verdict::loaders(recording.before)),
        points,
        boots,
        random: Random::seeded(),
        tally: Tally::default(),
    };
    let log = must(BlockLog::open(&recording.home.writes()));
    let mut medium = must(Medium::new(recording.before));
    must(medium.settle(&log, 0..recording.from));
    must(verdict::watch(&mut medium, &campaign.versions));
    campaign.run(&log, &mut medium, recording);
    let last = must(verdict::judge(
        &medium.at_flush(),
        &campaign.versions,
        &campaign.loaders,
    ));
    let tally = &campaign.tally;
    println!("{last:?} at the end, {}", tally.words());
    // All that was written has been replayed: the disk is the machine's own. A judge that sees only one version judges nothing.
    assert_eq!(must(disk::same_data(recording.before, &recording.home.disk())), None);
    assert!(
        tally.started.len() > 1 && tally.of_upgrade >= points,
        "{}",
        tally.words()
    );
    if soak {
        must(campaign.report());
    }
}

impl Campaign {
    fn run(&mut self, log: &BlockLog, medium: &mut Medium, recording: &Recording<'_>) {
        let data = must(verdict::data(medium));
        let is_upgrades = |request: &Request| {
            request.length > 0 && (request.at >= data.start + data.length || request.at + request.length <= data.start)
        };
        let epochs = log.epochs(recording.from);
        let concerned = epochs
            .iter()
            .filter(|epoch| log.requests[(*epoch).clone()].iter().any(is_upgrades));
        let each = self.points.div_ceil(concerned.count().max(1)).max(2);
        let mut next_boot = self.random.below((self.points / self.boots) as u64) as usize;
        for epoch in epochs {
            let of_upgrade = log.requests[epoch.clone()].iter().any(is_upgrades);
            self.tally.flushes += 1;
            for point in 0..if of_upgrade { each } else { 1 } {
                // The first is the flush itself, and nothing after it.
                let cut = if point == 0 {
                    medium.at_flush()
                } else {
                    must(medium.cut(log, epoch.clone(), &mut self.random))
                };
                let said = verdict::judge(&cut, &self.versions, &self.loaders).unwrap_or_else(|error| {
                    panic!(
                        "cut {point} after request {} of {}: {error}",
                        epoch.start,
                        log.requests.len()
                    )
                });
                *self.tally.started.entry(said.version.clone()).or_default() += 1;
                self.tally.points += 1;
                self.tally.of_upgrade += usize::from(of_upgrade);
                if of_upgrade && self.tally.of_upgrade > next_boot && self.tally.booted.len() < self.boots {
                    next_boot += self.points / self.boots;
                    let place = format!("{} of {}, cut {point}", epoch.start, log.requests.len());
                    let row = self.boot(&cut, recording, &said.version);
                    self.tally.booted.push(format!("| {place} | {row} |"));
                }
            }
            must(medium.settle(log, epoch));
        }
    }

    /// Starts a machine with the disk of a cut; it has to come to the version that was judged to start, and end cleanly.
    fn boot(&self, cut: &Cut<'_>, recording: &Recording<'_>, version: &str) -> String {
        let options = Options {
            disk_gib: 2,
            ports: Vec::new(),
            ..Options::default()
        };
        let home = must(Home::new("crash-point", recording.before, options));
        must(cut.write_into(&home.disk()));
        let mut guest = Guest(must(home.start()));
        let began = Instant::now();
        must(guest.0.wait_for(&format!("Cairn: upgrade-test {version}"), READY));
        must(guest.0.wait_for("Ready", READY));
        let took = began.elapsed().as_secs_f64();
        // The machine may be gone before the answer comes.
        let _ = must(guest.0.agent()).exec(&["/usr/bin/cairn", "poweroff"], OFF);
        must(guest.0.wait_off(OFF));
        is_clean(&home);
        format!("{version} | {took:.1}")
    }

    fn report(&self) -> std::io::Result<()> {
        let mut text = format!(
            "# Power cuts during upgrades\n\n{}\n\n`CAIRN_SEED={}` repeats it on the same log of writes.\n\n\
             | request, cut | started | seconds |\n|---|---|---|\n",
            self.tally.words(),
            self.random.seed()
        );
        for row in &self.tally.booted {
            let _ = writeln!(text, "{row}");
        }
        let folder = images::target().join("qemu-tests");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("soak-upgrade.md"), text)
    }
}

impl Tally {
    fn words(&self) -> String {
        format!(
            "{} crash points at and between {} flushes, {} of them with writes of the upgrade or the boot loader under way: after each of them \
             every boot entry leads to a version that is whole. What would start: {:?}. {} were booted.",
            self.points,
            self.flushes,
            self.of_upgrade,
            self.started,
            self.booted.len()
        )
    }
}

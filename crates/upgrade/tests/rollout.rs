//! What a publisher gives out, to whom and when, as appliances see it through signed metadata.

mod common;

use std::sync::Arc;

use cairn_api::UpgradeOffer;
use cairn_upgrade::Error;
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::offer::{Asker, offer, refused};
use cairn_upgrade::publish::{Expiry, Threshold};
use cairn_upgrade::source::{self, Source};
use cairn_upgrade::waves::{Waves, position};
use common::*;
use jiff::{SignedDuration, Timestamp};

const RUNS: Asker<'static> = Asker {
    name: NAME,
    version: "1.0.0",
    arch: "amd64",
    channel: "stable",
    machine: "",
    brought: false,
};

/// 1.0.0 in stable; 2.0.0 added.
fn repository() -> Repository {
    let repository = Repository::of(&["1.0.0"]);
    Version::new("2.0.0").add_to(&repository.publisher);
    repository
}

fn sign(repository: &Repository) {
    repository.publisher.publish(Expiry::default()).unwrap();
}

fn seen(repository: &Repository, asker: &Asker<'_>, hours: i64) -> Result<UpgradeOffer, Error> {
    let source: Arc<dyn Source> = source::open(&repository.path().display().to_string())?;
    let trusted = Trusted::load(&source, &repository.first_root(), &repository.known())?;
    offer(&trusted, asker, Timestamp::now() + SignedDuration::from_hours(hours))
}

fn waves(text: &str) -> Option<Waves> {
    Some(text.parse().unwrap())
}

/// An appliance in the first tenth, and one in the last.
fn machines() -> (String, String) {
    let all = || (0..1000).map(|n| n.to_string());
    let first = all().find(|m| position(m, "2.0.0") < 1000).unwrap();
    (first, all().find(|m| position(m, "2.0.0") > 9000).unwrap())
}

#[test]
fn a_wave_gives_a_version_to_its_part_and_tells_the_others_when() {
    let repository = repository();
    repository
        .publisher
        .promote("2.0.0", "stable", waves("10%@0h,100%@48h"))
        .unwrap();
    sign(&repository);
    let (first, last) = machines();
    let (first, last) = (
        Asker {
            machine: &first,
            ..RUNS
        },
        Asker { machine: &last, ..RUNS },
    );
    let now = seen(&repository, &first, 1).unwrap();
    assert_eq!(
        (now.version.as_str(), now.newer, now.turn.as_str()),
        ("2.0.0", true, "now")
    );
    assert_eq!(now.waits(), None);
    let later = seen(&repository, &last, 1).unwrap();
    let at: Timestamp = later.turn_at.as_ref().unwrap().parse().unwrap();
    let hours = at.duration_since(Timestamp::now()).as_hours();
    assert!((46..=48).contains(&hours), "{hours}");
    let said = later.waits().unwrap();
    assert!(
        said.starts_with("Version 2.0.0 is being given out; this appliance's turn comes on 20")
            && said.ends_with(" UTC"),
        "{said}"
    );
    assert_eq!(seen(&repository, &last, 49).unwrap().turn, "now");
    // Who runs it already, or brings it, waits for nothing.
    let brought = Asker { brought: true, ..last };
    assert_eq!(seen(&repository, &brought, 1).unwrap().waits(), None);
    let runs = Asker {
        version: "2.0.0",
        ..last
    };
    assert_eq!(seen(&repository, &runs, 1).unwrap().waits(), None);
    // To everybody after all.
    repository.publisher.promote("2.0.0", "stable", None).unwrap();
    sign(&repository);
    assert_eq!(seen(&repository, &last, 1).unwrap().turn, "now");
}

#[test]
fn a_pause_stops_every_wave_until_it_is_resumed_and_the_waves_are_later_by_it() {
    let repository = repository();
    let publisher = &repository.publisher;
    publisher.promote("2.0.0", "stable", waves("10%@0h,100%@48h")).unwrap();
    sign(&repository);
    let (first, last) = machines();
    let (first, last) = (
        Asker {
            machine: &first,
            ..RUNS
        },
        Asker { machine: &last, ..RUNS },
    );
    let before = publisher
        .rollout()
        .unwrap()
        .given("stable", "2.0.0")
        .unwrap()
        .since
        .unwrap();
    assert_eq!(publisher.pause("stable", "mail is lost").unwrap(), ["2.0.0"]);
    assert!(
        publisher
            .pause("stable", "")
            .unwrap_err()
            .to_string()
            .contains("is paused already")
    );
    sign(&repository);
    for asker in [&first, &last] {
        let offer = seen(&repository, asker, 100).unwrap();
        assert_eq!(
            offer.waits().unwrap(),
            "The publisher has paused version 2.0.0 (mail is lost)"
        );
    }
    // As if it had been a day.
    let path = repository.path().join("incoming/rollout.json");
    let mut rollout = publisher.rollout().unwrap();
    let paused = rollout.channels.get_mut("stable").unwrap().get_mut("2.0.0").unwrap();
    paused.paused.as_mut().unwrap().at -= SignedDuration::from_hours(24);
    std::fs::write(path, serde_json::to_vec(&rollout).unwrap()).unwrap();
    publisher.resume("stable").unwrap();
    assert!(
        publisher
            .resume("stable")
            .unwrap_err()
            .to_string()
            .contains("is not paused")
    );
    sign(&repository);
    let after = publisher
        .rollout()
        .unwrap()
        .given("stable", "2.0.0")
        .unwrap()
        .since
        .unwrap();
    assert_eq!(after.duration_since(before).as_hours(), 24);
    assert_eq!(seen(&repository, &last, 49).unwrap().turn, "later");
    assert_eq!(seen(&repository, &last, 73).unwrap().turn, "now");
    assert!(
        publisher
            .pause("beta", "")
            .unwrap_err()
            .to_string()
            .contains("`beta` offers nothing")
    );
}

#[test]
fn a_withdrawn_version_is_offered_to_nobody_and_told_to_who_runs_it() {
    let repository = repository();
    let publisher = &repository.publisher;
    publisher.promote("2.0.0", "stable", None).unwrap();
    publisher.promote("2.0.0", "beta", None).unwrap();
    sign(&repository);
    let bundle = repository.folder.path().join("two.cairn");
    publisher.bundle("2.0.0", "amd64", &bundle, None).unwrap();
    publisher.withdraw("2.0.0", None, "mail is lost").unwrap();
    // Nothing is in force before it is published.
    assert!(seen(&repository, &RUNS, 0).unwrap().newer);
    sign(&repository);
    let offer = seen(&repository, &RUNS, 0).unwrap();
    assert_eq!(
        (offer.version.as_str(), offer.newer, offer.withdrawn),
        ("1.0.0", false, None)
    );
    let two = Asker {
        version: "2.0.0",
        ..RUNS
    };
    let offer = seen(&repository, &two, 0).unwrap();
    let said = offer.taken_back("2.0.0").unwrap();
    assert!(
        said.starts_with(
            "The publisher has withdrawn version 2.0.0, which runs: mail is lost; `cairn upgrade rollback`"
        ),
        "{said}"
    );
    // A channel that had nothing before has nothing new.
    let beta = Asker {
        channel: "beta",
        ..RUNS
    };
    assert!(!seen(&repository, &beta, 0).unwrap().newer);
    // Neither a new bundle nor one of before leads to it; its data stays.
    let why = publisher
        .bundle("2.0.0", "amd64", &bundle, None)
        .unwrap_err()
        .to_string();
    assert!(why.contains("was withdrawn (mail is lost)"), "{why}");
    let source: Arc<dyn Source> = source::open(&bundle.display().to_string()).unwrap();
    assert!(Trusted::load(&source, &repository.first_root(), &repository.known()).is_err());
    assert!(repository.path().join("packs/box-2.0.0-amd64.pack").exists());
    assert!(
        publisher
            .promote("2.0.0", "stable", None)
            .unwrap_err()
            .to_string()
            .contains("was withdrawn")
    );
}

#[test]
fn a_version_withdrawn_from_one_channel_stays_in_the_others() {
    let repository = repository();
    let publisher = &repository.publisher;
    for channel in ["stable", "beta"] {
        publisher.promote("2.0.0", channel, waves("50%@0h")).unwrap();
    }
    publisher.withdraw("2.0.0", Some("stable"), "").unwrap();
    assert!(publisher.withdraw("2.0.0", Some("gamma"), "").is_err());
    assert!(publisher.withdraw("3.0.0", None, "").is_err());
    sign(&repository);
    assert!(!seen(&repository, &RUNS, 0).unwrap().newer);
    // With the waves that it had there.
    let (_, last) = machines();
    let beta = Asker {
        channel: "beta",
        machine: &last,
        ..RUNS
    };
    let offer = seen(&repository, &beta, 0).unwrap();
    assert_eq!((offer.version.as_str(), offer.turn.as_str()), ("2.0.0", "open"));
    publisher
        .bundle("2.0.0", "amd64", &repository.folder.path().join("b.cairn"), None)
        .unwrap();
}

#[test]
fn a_version_that_comes_back_keeps_its_waves() {
    let repository = repository();
    let publisher = &repository.publisher;
    publisher.promote("2.0.0", "stable", waves("10%@0h,100%@48h")).unwrap();
    Version::new("3.0.0").add_to(publisher);
    publisher.promote("3.0.0", "stable", None).unwrap();
    publisher.withdraw("3.0.0", None, "").unwrap();
    sign(&repository);
    let (_, last) = machines();
    let offer = seen(&repository, &Asker { machine: &last, ..RUNS }, 0).unwrap();
    assert_eq!((offer.version.as_str(), offer.turn.as_str()), ("2.0.0", "later"));
}

#[test]
fn waves_that_were_changed_on_the_way_are_refused() {
    let repository = repository();
    repository
        .publisher
        .promote("2.0.0", "stable", waves("10%@0h,100%@48h"))
        .unwrap();
    sign(&repository);
    let file = repository.path().join("metadata/2.targets.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"hours\": 48"), "{text}");
    std::fs::write(&file, text.replace("\"hours\": 48", "\"hours\": 47")).unwrap();
    assert!(seen(&repository, &RUNS, 0).is_err());
}

#[test]
fn the_status_says_what_is_in_force_and_until_when() {
    let repository = Repository::new(Threshold { keys: 1, sign: 1 });
    let publisher = &repository.publisher;
    let status = publisher.status().unwrap();
    assert!(!status.published && status.channels.is_empty() && status.expires.len() == 1);
    repository.publish("1.0.0");
    let status = publisher.status().unwrap();
    assert!(status.published && status.waiting.is_empty());
    let roles: Vec<_> = status.expires.iter().map(|e| e.role.as_str()).collect();
    assert_eq!(roles, ["root", "targets", "snapshot", "timestamp"]);
    Version::new("2.0.0").add_to(publisher);
    assert_eq!(publisher.status().unwrap().waiting, ["box-2.0.0-amd64"]);
    publisher.pause("stable", "").unwrap();
    let status = publisher.status().unwrap();
    assert!(!status.published && status.channels[0].given.as_ref().unwrap().paused.is_some());
    sign(&repository);
    assert!(publisher.status().unwrap().published);
}

#[test]
fn what_no_release_uses_is_found_and_removed_and_nothing_else() {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    let publisher = &repository.publisher;
    // It waits to be published, and shares chunks with both.
    Version::new("3.0.0").add_to(publisher);
    let left: Vec<_> = publisher.unused().unwrap().into_iter().map(|(path, _)| path).collect();
    // What the channels were before; the withdrawn stay as well.
    assert!(
        left.iter()
            .all(|path| path.to_string_lossy().ends_with(".channels.json")),
        "{left:?}"
    );
    let orphan = repository.path().join("packs/box-9.0.0-amd64.pack");
    std::fs::write(&orphan, b"an add that was interrupted").unwrap();
    publisher.withdraw("2.0.0", None, "").unwrap();
    let removed = publisher.gc().unwrap();
    assert!(removed.iter().any(|(path, size)| *path == orphan && *size == 27) && !orphan.exists());
    assert_eq!(publisher.unused().unwrap(), []);
    publisher.promote("3.0.0", "stable", None).unwrap();
    sign(&repository);
    assert_eq!(seen(&repository, &RUNS, 0).unwrap().version, "3.0.0");
    let bundle = repository.folder.path().join("3.cairn");
    publisher.bundle("3.0.0", "amd64", &bundle, None).unwrap();
    // An index that is gone: nothing is known to be unused.
    let mut targets = std::fs::read_dir(repository.path().join("targets")).unwrap().flatten();
    let index = targets
        .find(|entry| entry.file_name().to_string_lossy().ends_with("1.0.0-amd64.index"))
        .unwrap();
    std::fs::remove_file(index.path()).unwrap();
    assert!(publisher.gc().is_err());
}

#[test]
fn a_look_says_that_a_release_does_not_fit_before_anything_of_it_is_fetched() {
    let repository = Repository::of(&["1.0.0"]);
    let (old, new) = (Version::new("1.0.0"), Version::new("2.0.0"));
    let mut release = new.release();
    release.minimum = Some("1.5.0".to_owned());
    new.add_saying(&repository.publisher, release);
    repository.publisher.promote("2.0.0", "stable", None).unwrap();
    sign(&repository);
    std::fs::remove_dir_all(repository.path().join("packs")).unwrap();
    for entry in std::fs::read_dir(repository.path().join("targets")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".index") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let source: Arc<dyn Source> = source::open(&repository.path().display().to_string()).unwrap();
    let trusted = Trusted::load(&source, &repository.first_root(), &repository.known()).unwrap();
    let offered = offer(&trusted, &RUNS, Timestamp::now()).unwrap();
    assert_eq!((offered.version.as_str(), offered.newer), ("2.0.0", true));
    let (bytes, files) = machine(&old, &Version::new("0.9.0"));
    let power = Power::lasting(u64::MAX);
    let (disk, esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
    let mut appliance = found(&disk, &esp, &old);
    assert_eq!(
        refused(&trusted, &offered, &appliance).unwrap(),
        "version 2.0.0 can be reached from 1.5.0 on, and 1.0.0 runs; install 1.5.0 first"
    );
    appliance.version = Some("1.5.0".to_owned());
    assert_eq!(refused(&trusted, &offered, &appliance), None);
    appliance.states = [("db".to_owned(), "11.8".parse().unwrap())].into();
    let why = refused(&trusted, &offered, &appliance).unwrap();
    assert!(why.contains("cannot read the data of unit db"), "{why}");
}

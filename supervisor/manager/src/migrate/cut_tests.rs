//! The power goes before every single change, and whoever starts next finds a state that is wholly of one version.

use std::cell::Cell;

use super::*;
use crate::migrate::{TRIES, way};

/// The power is gone.
fn gone() -> Error {
    Error::State("the power is gone".into())
}

/// A unit with state version 1 that was started by version 1.0.0 of the appliance, and what version 1.1.0 reads.
struct World {
    dir: tempfile::TempDir,
    config: Config,
    migration: Migration,
    /// In how many changes the power goes, if it does.
    left: Cell<Option<u32>>,
    now: Cell<u64>,
}

const OLD: &str = "of version 1";
const NEW: &str = "of version 1, made 2, made 3";

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let steps = r#"{"version": 3, "steps": [
            {"from": 1, "to": 2, "up": ["/u"], "down": ["/d"]}, {"from": 2, "to": 3, "up": ["/u"], "down": ["/d"]}]}"#;
        let world = World {
            config: Config::below(dir.path()),
            dir,
            migration: serde_json::from_str(steps).unwrap(),
            left: Cell::new(None),
            now: Cell::new(100),
        };
        let state = world.config.state("db");
        fs::create_dir_all(state.join("var-lib-db")).unwrap();
        fs::write(state.join("var-lib-db/text"), OLD).unwrap();
        world.start("1.0.0").unwrap();
        world
    }

    /// The steps, as the unit's commands would do them: each adds to the file that it finds.
    fn work(&self, from: u32, to: u32) -> Result<(), Error> {
        let file = self.config.new_state("db").join("var-lib-db/text");
        let mut text = fs::read_to_string(&file).unwrap();
        let mut at = from;
        while at != to {
            at = if to > from { at + 1 } else { at - 1 };
            text = match to > from {
                true => format!("{text}, made {at}"),
                false => text.replace(&format!(", made {}", at + 1), ""),
            };
            self.cut("a step")?;
            // In the middle of a step: it leaves half of its work.
            fs::write(&file, &text[..text.len() / 2]).unwrap();
            self.cut("the middle of a step")?;
            fs::write(&file, &text).unwrap();
        }
        Ok(())
    }

    fn cut(&self, _what: &str) -> Result<(), Error> {
        match self.left.get() {
            Some(0) => Err(gone()),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Version 1.0.0 of the appliance reads state version 1 and knows no steps; 1.1.0 reads 3.
    fn start(&self, appliance: &str) -> Result<(), Error> {
        let old = appliance == "1.0.0";
        let wanted = StateVersion::number(if old { 1 } else { 3 });
        let migration = Some(&self.migration).filter(|_| !old);
        self.bring(&wanted, migration, appliance)
    }

    fn bring(&self, wanted: &StateVersion, migration: Option<&Migration>, appliance: &str) -> Result<(), Error> {
        let cut = |what: &str| self.cut(what);
        let states = States::cut_by(&self.config, "db", &cut);
        let Next::Migrate(_) = states.prepare(wanted, migration, appliance)? else {
            return Ok(());
        };
        states.copy(&|| false)?;
        let from = self.version().as_number().unwrap();
        self.work(from, wanted.as_number().unwrap())?;
        self.now.set(self.now.get() + 1);
        states.commit(wanted, appliance, self.now.get())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.config.state("db").join("var-lib-db/text")).unwrap()
    }

    fn version(&self) -> StateVersion {
        Record::read(&self.config.state("db")).unwrap().unwrap().version
    }

    fn write(&self, text: &str) {
        fs::write(self.config.state("db").join("var-lib-db/text"), text).unwrap();
    }

    fn lies_there(&self) -> Vec<String> {
        let folder = fs::read_dir(self.dir.path().join("data/state")).unwrap();
        let mut all: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    /// What must hold whenever the power has gone: the state is wholly of the version that its note says.
    fn whole(&self) {
        let text = match self.version().as_number() {
            Some(1) => OLD,
            Some(3) => NEW,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.text(), text);
    }
}

/// Does something with the power going before its change number 0, 1, 2 and so on, and then `after` in a world in which it is back, until it is
/// done without a cut. Returns how often.
fn cut_everywhere(before: impl Fn(&World), what: impl Fn(&World) -> Result<(), Error>, after: impl Fn(&World)) -> u32 {
    for left in 0.. {
        let world = World::new();
        before(&world);
        world.left.set(Some(left));
        let done = what(&world);
        world.left.set(None);
        world.whole();
        after(&world);
        if done.is_ok() {
            return left;
        }
    }
    unreachable!()
}

#[test]
fn a_power_cut_anywhere_in_a_migration_leaves_the_old_state_or_the_new_one_and_it_is_completed() {
    let cuts = cut_everywhere(
        |_| (),
        |world| world.start("1.1.0"),
        |world| {
            world.start("1.1.0").unwrap();
            assert_eq!(world.text(), NEW);
            assert_eq!(world.lies_there(), ["db", "db.before"], "no copy and no count is left");
        },
    );
    assert!(cuts >= 10, "{cuts}");
}

#[test]
fn a_version_that_is_given_up_anywhere_in_its_migration_leaves_the_version_of_before_its_state() {
    cut_everywhere(
        |_| (),
        |world| world.start("1.1.0"),
        |world| {
            world.start("1.0.0").unwrap();
            assert_eq!((world.text().as_str(), world.version()), (OLD, StateVersion::number(1)));
            crate::data::sweep(&world.config);
            assert!(!world.config.new_state("db").exists());
            // The next version finds nothing that stands in its way.
            world.start("1.1.0").unwrap();
            assert_eq!(world.text(), NEW);
        },
    );
}

#[test]
fn a_power_cut_anywhere_in_a_restore_is_followed_by_the_restored_state() {
    let cuts = cut_everywhere(
        |world| world.start("1.1.0").unwrap(),
        |world| world.start("1.0.0"),
        |world| {
            world.start("1.0.0").unwrap();
            assert_eq!(world.text(), OLD);
            assert_eq!(world.lies_there(), ["db"]);
        },
    );
    assert!(cuts >= 3, "{cuts}");
}

#[test]
fn a_way_down_keeps_what_was_written_since_and_leaves_nothing_behind_wherever_the_power_goes() {
    let lower = |world: &World| world.bring(&StateVersion::number(1), Some(&world.migration), "1.1.0");
    cut_everywhere(
        |world| world.start("1.1.0").unwrap(),
        lower,
        |world| {
            lower(world).unwrap();
            assert_eq!((world.text().as_str(), world.version()), (OLD, StateVersion::number(1)));
            assert_eq!(world.lies_there(), ["db"]);
            world.start("1.0.0").unwrap();
        },
    );
}

#[test]
fn a_power_that_goes_again_and_again_ends_the_tries_and_the_state_is_as_it_was() {
    let world = World::new();
    for _ in 0..TRIES {
        world.left.set(Some(5));
        assert!(world.start("1.1.0").is_err());
    }
    world.left.set(None);
    let why = world.start("1.1.0").unwrap_err().to_string();
    assert!(why.contains("were begun 3 times and cut off each time"), "{why}");
    world.whole();
    assert_eq!(world.text(), OLD);
    world.start("1.0.0").unwrap();
    // The owner says so.
    States::of(&world.config, "db").forget_tries();
    world.start("1.1.0").unwrap();
    assert_eq!(world.text(), NEW);
}

#[test]
fn a_kept_state_does_not_give_way_by_itself_and_what_nobody_can_go_back_to_is_removed() {
    let world = World::new();
    world.start("1.1.0").unwrap();
    let manifest = crate::testing::manifest(&[("db", r#"{"state": {"/var/lib/db": {}}}"#)]);
    let kept = |other: Option<&str>| settle(&world.config, &manifest, &["db".to_owned()], other);
    assert_eq!(kept(Some("1.0.0")), Vec::<String>::new());
    assert_eq!(
        world.lies_there(),
        ["db", "db.before"],
        "the other slot can still be started"
    );
    world.write("written since");
    let why = world.start("1.0.0").unwrap_err().to_string();
    assert!(
        why.starts_with(
            "its state has version 3, and this version of the appliance reads version 1; nothing was changed"
        ),
        "{why}"
    );
    assert_eq!(world.text(), "written since");
    // The owner gives it up.
    States::of(&world.config, "db").set_unproved(true).unwrap();
    world.start("1.0.0").unwrap();
    assert_eq!(world.text(), OLD);
    // Another version takes the other slot.
    world.start("1.1.0").unwrap();
    assert_eq!(kept(Some("1.2.0")), Vec::<String>::new());
    assert_eq!(world.lies_there(), ["db"]);
}

#[test]
fn a_state_from_before_there_were_versions_is_kept_for_the_version_that_wrote_it() {
    let world = World::new();
    fs::remove_file(world.config.state("db").join(".cairn")).unwrap();
    let states = States::of(&world.config, "db");
    let wanted = StateVersion::number(3);
    let next = states.prepare(&wanted, Some(&world.migration), "1.1.0").unwrap();
    assert_eq!(next, Next::Migrate(way(None, &wanted, Some(&world.migration)).unwrap()));
    states.copy(&|| false).unwrap();
    states.commit(&wanted, "1.1.0", 1).unwrap();
    let manifest = crate::testing::manifest(&[("db", r#"{"state": {"/var/lib/db": {}}}"#)]);
    let kept = || settle(&world.config, &manifest, &["db".to_owned()], Some("x"));
    kept();
    assert_eq!(world.lies_there(), ["db", "db.before"]);
    // A later version is kept: the one that wrote it is nowhere any more.
    states.prepare(&wanted, Some(&world.migration), "1.2.0").unwrap();
    kept();
    assert_eq!(world.lies_there(), ["db"]);
}

#[test]
fn a_damaged_note_stops_the_unit_and_nothing_is_touched() {
    let world = World::new();
    fs::write(world.config.state("db").join(".cairn"), "{").unwrap();
    let why = world.start("1.1.0").unwrap_err().to_string();
    assert!(why.contains("cannot be known"), "{why}");
    assert_eq!(
        (world.text().as_str(), world.lies_there()),
        (OLD, vec!["db".to_owned()])
    );
    // The same of the state of before: it is not gone back to, and not removed.
    let world = World::new();
    world.start("1.1.0").unwrap();
    fs::write(world.config.at("/data/state/db.before/.cairn"), "{").unwrap();
    let why = world.start("1.0.0").unwrap_err().to_string();
    assert!(why.ends_with("there is no copy of the state of before"), "{why}");
    assert_eq!((world.text().as_str(), world.lies_there().len()), (NEW, 2));
}

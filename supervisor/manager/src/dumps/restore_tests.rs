//! The power goes before every single change of a restore, and whoever starts next finds the state of before or that of the dump.

use std::cell::Cell;
use std::io::Write as _;

use super::*;

const NAME: &str = "20260101T020000Z";
const OLD: &str = "written since";
const DUMPED: &str = "of the dump";

struct World {
    dir: tempfile::TempDir,
    config: Config,
    /// In how many changes the power goes, if it does.
    left: Cell<Option<u32>>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let world = World {
            dir,
            config,
            left: Cell::new(None),
        };
        fs::create_dir_all(world.config.state("db")).unwrap();
        fs::write(world.config.state("db").join("text"), OLD).unwrap();
        world.plain(1).write(&world.config.state("db")).unwrap();
        let dumps = Dumps::of(&world.config, "db");
        dumps.begin(NAME).unwrap().0.write_all(DUMPED.as_bytes()).unwrap();
        dumps.finish(NAME, &StateVersion::number(1), "1.0.0", 7).unwrap();
        world
    }

    fn plain(&self, version: u32) -> Record {
        Record {
            version: StateVersion::number(version),
            appliance: "1.0.0".into(),
            unproved: true,
            since: 5,
            by: "1.0.0".into(),
            restored: 0,
        }
    }

    fn cut(&self) -> Result<(), Error> {
        match self.left.get() {
            Some(0) => Err(Error::State("the power is gone".into())),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn ask(&self, dump: &str, id: u64) {
        Restores::of(&self.config, "db").ask(dump, id).unwrap();
    }

    /// What a start does, with the steps of the restore.
    fn start(&self) -> Result<Settled, Error> {
        let cut = |_: &str| self.cut();
        let restores = Restores::cut_by(&self.config, "db", &cut);
        let wanted = StateVersion::number(1);
        let settled = restores.settle(&wanted)?;
        if settled != Settled::Begin {
            return Ok(settled);
        }
        let marker = restores.marker()?.unwrap();
        let new = self.config.new_state("db");
        remove(&new)?;
        self.cut()?;
        fs::create_dir(&new).unwrap();
        restores.record(&marker, &wanted, "1.0.0").write(&new)?;
        self.cut()?;
        // In the middle of a step: it leaves half of its work.
        fs::write(new.join("text"), &DUMPED[..3]).unwrap();
        self.cut()?;
        fs::copy(Dumps::of(&self.config, "db").path(&marker.dump), new.join("text")).unwrap();
        restores.commit()?;
        Ok(Settled::Done(marker.dump))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.config.state("db").join("text")).unwrap()
    }

    fn before(&self) -> String {
        fs::read_to_string(Restores::of(&self.config, "db").before().join("text")).unwrap()
    }

    fn lies_there(&self) -> Vec<String> {
        let folder = fs::read_dir(self.dir.path().join("data/state")).unwrap();
        let mut all: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }
}

/// A start with the power going before its change number 0, 1, 2 and so on, until it is done without a cut. Returns how often.
fn cut_everywhere(asked: &dyn Fn(&World), one: &str, other: &str) -> u32 {
    for left in 0.. {
        let world = World::new();
        asked(&world);
        world.left.set(Some(left));
        let done = world.start();
        world.left.set(None);
        assert!([one, other].contains(&&*world.text()), "{left}: {}", world.text());
        crate::data::sweep(&world.config);
        let next = world.start().unwrap();
        assert!(matches!(next, Settled::Done(_) | Settled::None), "{left}: {next:?}");
        assert_eq!((&*world.text(), &*world.before()), (other, one), "{left}");
        assert_eq!(world.lies_there(), ["db", "db.before-restore"], "{left}");
        if done.is_ok() {
            return left;
        }
    }
    unreachable!()
}

#[test]
fn a_power_cut_anywhere_in_a_restore_leaves_the_old_state_or_the_dumps_and_it_is_completed() {
    let cuts = cut_everywhere(&|world| world.ask(NAME, 7), OLD, DUMPED);
    assert!(cuts >= 8, "{cuts}");
}

#[test]
fn a_second_restore_is_cut_as_safely_and_what_it_replaces_is_what_is_kept() {
    let again = |world: &World| {
        world.ask(NAME, 7);
        world.start().unwrap();
        fs::write(world.config.state("db").join("text"), OLD).unwrap();
        world.ask(NAME, 8);
    };
    let cuts = cut_everywhere(&again, OLD, DUMPED);
    assert!(cuts >= 10, "{cuts}");
}

#[test]
fn the_state_of_before_a_restore_can_be_gone_back_to_wherever_the_power_goes() {
    let back = |world: &World| {
        world.ask(NAME, 7);
        world.start().unwrap();
        world.ask(BEFORE, 8);
    };
    let cuts = cut_everywhere(&back, DUMPED, OLD);
    assert!(cuts >= 3, "{cuts}");
}

#[test]
fn a_power_that_goes_again_and_again_ends_the_tries_and_the_state_is_as_it_was() {
    let world = World::new();
    world.ask(NAME, 7);
    for _ in 0..TRIES {
        world.left.set(Some(3));
        assert!(world.start().is_err());
    }
    world.left.set(None);
    let Settled::GivenUp(why) = world.start().unwrap() else {
        panic!()
    };
    assert_eq!(why, "it was begun 3 times and cut off each time; ask for it again");
    assert_eq!(world.start().unwrap(), Settled::None);
    assert_eq!(world.text(), OLD);
}

#[test]
fn a_dump_that_is_damaged_gone_or_of_another_version_is_given_up_and_the_state_stays() {
    let given_up = |change: &dyn Fn(&World), why: &str| {
        let world = World::new();
        world.ask(NAME, 7);
        change(&world);
        let Settled::GivenUp(found) = world.start().unwrap() else {
            panic!("{why}")
        };
        assert!(found.contains(why), "{found}");
        assert_eq!(
            (world.text().as_str(), world.lies_there()),
            (OLD, vec!["db".to_owned()])
        );
    };
    let dump = |world: &World| Dumps::of(&world.config, "db").path(NAME);
    given_up(&|world| fs::write(dump(world), "of the dumP").unwrap(), "is damaged");
    given_up(&|world| fs::remove_file(dump(world)).unwrap(), "there is no dump");
    given_up(&|world| world.ask(BEFORE, 7), "there is no state of before a restore");
    let marker = |world: &World| Restores::of(&world.config, "db").marker_path();
    given_up(&|world| fs::write(marker(world), "{").unwrap(), "ask for it again");
    let other = |world: &World| {
        let note = Dumps::of(&world.config, "db").note(NAME).unwrap();
        let note = crate::dumps::Note {
            version: StateVersion::number(2),
            ..note
        };
        let path = format!("{}.json", dump(world).display());
        fs::write(path, serde_json::to_vec(&note).unwrap()).unwrap();
    };
    given_up(
        &other,
        "its state has version 2, and this version of the appliance reads version 1",
    );
}

#[test]
fn a_state_whose_note_is_damaged_or_that_is_gone_is_restored_too() {
    let world = World::new();
    fs::write(world.config.state("db").join(".cairn"), "{").unwrap();
    world.ask(NAME, 7);
    assert_eq!(world.start().unwrap(), Settled::Done(NAME.into()));
    assert_eq!((world.text().as_str(), world.before().as_str()), (DUMPED, OLD));
    let world = World::new();
    fs::remove_dir_all(world.config.state("db")).unwrap();
    world.ask(NAME, 7);
    assert_eq!(world.start().unwrap(), Settled::Done(NAME.into()));
    assert_eq!(world.lies_there(), ["db"]);
}

#[test]
fn a_restored_state_keeps_what_a_version_on_trial_has_promised() {
    let world = World::new();
    let restores = Restores::of(&world.config, "db");
    world.ask(NAME, 7);
    world.start().unwrap();
    let record = Record::read(&world.config.state("db")).unwrap().unwrap();
    assert_eq!(
        record,
        Record {
            restored: 7,
            ..world.plain(1)
        }
    );
    // What failed after the exchange is no failure of the restore.
    world.ask(NAME, 7);
    assert!(restores.give_up().unwrap());
    world.ask(NAME, 9);
    assert!(!restores.give_up().unwrap());
}

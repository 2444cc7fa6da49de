//! Managers killed at random moments under load: forty, or with `CAIRN_SOAK=1` a thousand. `CAIRN_SEED` repeats a run.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use common::{World, lines};

/// What the managers wrote down; see the example `soak-manager`.
#[derive(Default)]
struct Journal {
    /// Token to status and orphans.
    wanted: BTreeMap<u64, (i32, u64)>,
    sent: BTreeSet<u64>,
    /// Number to token and status.
    exits: BTreeMap<u64, (u64, i32)>,
    descriptors: Vec<usize>,
    managers: usize,
    /// Descriptors that PID 1 surely has, and those that it may or may not have.
    kept: BTreeSet<String>,
    unsure: BTreeSet<String>,
}

impl Journal {
    /// Reads line by line, and judges at once what can be judged.
    fn read(lines: &[String]) -> Self {
        let mut journal = Self::default();
        for line in lines {
            journal.add(line);
        }
        journal
    }

    fn add(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| -> u64 { words[at].parse().unwrap() };
        match word {
            "want" => drop(self.wanted.insert(number(0), (number(1) as i32, number(2)))),
            "sent" => drop(self.sent.insert(number(0))),
            "exit" => {
                let exit = (number(1), number(2) as i32);
                let before = self.exits.insert(number(0), exit);
                assert!(
                    before.is_none_or(|before| before == exit),
                    "{line}, but before {before:?}"
                );
            }
            "keep" | "drop" => {
                self.kept.remove(words[0]);
                self.unsure.insert(words[0].to_owned());
            }
            "kept" => {
                self.unsure.remove(words[0]);
                self.kept.insert(words[0].to_owned());
            }
            "dropped" => drop(self.unsure.remove(words[0])),
            "descriptors" => self.descriptors.push(number(0) as usize),
            "resumed" => self.resumed(&words),
            other => panic!("{other}"),
        }
    }

    /// The n-th manager was handed the descriptors that were kept, with their content, and no other.
    fn resumed(&mut self, words: &[&str]) {
        assert_eq!(words[0].parse::<usize>().unwrap(), self.managers);
        self.managers += 1;
        let handed: BTreeSet<String> = words[1..]
            .iter()
            .map(|word| {
                let (name, text) = word.split_once('=').unwrap();
                assert_eq!(name, text);
                name.to_owned()
            })
            .collect();
        let lost: Vec<_> = self.kept.difference(&handed).collect();
        assert!(lost.is_empty(), "manager {} was not handed {lost:?}", words[0]);
        let known: BTreeSet<String> = self.kept.union(&self.unsure).cloned().collect();
        let alien: Vec<_> = handed.difference(&known).collect();
        assert!(alien.is_empty(), "manager {} was handed {alien:?}", words[0]);
        // Now it is known what became of the others.
        self.kept = handed;
        self.unsure.clear();
    }
}

#[test]
fn no_exit_status_and_no_descriptor_is_lost_however_often_the_manager_is_killed() {
    let soak = std::env::var_os("CAIRN_SOAK").is_some();
    let kills = if soak { 1000 } else { 40 };
    let seed: u64 = match std::env::var("CAIRN_SEED") {
        Ok(seed) => seed.parse().expect("CAIRN_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
    };
    println!("CAIRN_SEED={seed}, {kills} kills");
    let mut world = World::with("soak-manager");
    world.limit = 120 + 3 * kills as u32;
    fs::write(world.folder.path().join("soak"), format!("{seed} {kills}")).unwrap();
    let end = world.run();
    assert!(!end.console.contains("EMERGENCY"), "{}", end.console);
    let journal = Journal::read(&lines(&world.folder.path().join("journal")));

    assert_eq!(journal.managers, kills + 1);
    // Numbers count up by one: one that is missing was lost.
    let numbers: Vec<u64> = journal.exits.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let mut ends: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for (token, status) in journal.exits.values() {
        ends.entry(*token).or_default().push(*status);
    }
    let orphans = ends.remove(&0).unwrap_or_default();
    for (token, statuses) in &ends {
        assert_eq!(statuses[..], [journal.wanted[token].0], "token {token}");
    }
    let lost: Vec<_> = journal.sent.iter().filter(|token| !ends.contains_key(token)).collect();
    assert!(lost.is_empty(), "no exit of {lost:?}");
    let owed: u64 = ends.keys().map(|token| journal.wanted[token].1).sum();
    assert_eq!(orphans.len() as u64, owed);
    assert!(orphans.iter().all(|status| *status == 99 << 8));
    // It did something: on average each manager got to a few requests.
    assert!(journal.sent.len() > kills / 2, "{} spawns", journal.sent.len());
    let (before, after) = (journal.descriptors[0], *journal.descriptors.last().unwrap());
    assert_eq!(
        after,
        before + journal.kept.len(),
        "PID 1 keeps what it was given and no more"
    );
    println!(
        "{} processes, {} orphans, {} descriptors kept, {} s",
        ends.len(),
        orphans.len(),
        journal.kept.len(),
        end.took.as_secs()
    );
}

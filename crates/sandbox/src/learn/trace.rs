//! What was heard, as a bounded value: each thing once, with how often and by whom first.

use std::collections::BTreeMap;

use super::call::{Event, Heard, Place};

/// So many different things of each kind are kept; a file beyond that counts for its folder, anything else is only counted.
pub const LIMIT: usize = 2048;

/// How often something was seen, and the first time of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub times: u64,
    /// Who did it, and by which call: `mariadbd: openat(/var/lib/mysql/x)`.
    pub example: String,
}

/// A program that was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// How often.
    pub seen: Seen,
    /// Whether its file has the set-user-id or set-group-id bit.
    pub set_id: bool,
}

/// Everything that was heard of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// How many calls were told.
    pub told: u64,
    /// Every call that was told, by name.
    pub calls: BTreeMap<String, Seen>,
    /// Those that the ordinary filter would have refused, by name.
    pub refused: BTreeMap<String, Seen>,
    /// Files and folders opened for reading, by their real path inside.
    pub read: BTreeMap<String, Seen>,
    /// Files and folders opened for writing, made, changed or removed.
    pub written: BTreeMap<String, Seen>,
    /// Programs, by path inside.
    pub programs: BTreeMap<String, Program>,
    /// Addresses that sockets were bound to.
    pub bound: BTreeMap<Place, Seen>,
    /// Addresses that were connected or sent to.
    pub connected: BTreeMap<Place, Seen>,
    /// What would need a capability, by the capability's name as a unit has it (`net-raw`).
    pub capabilities: BTreeMap<String, Seen>,
    /// Memory that was to be writable and executable, or executable after the fact.
    pub writable_code: Option<Seen>,
    /// Things that found no room.
    pub dropped: u64,
}

impl Seen {
    fn again(&mut self, example: &str) {
        if self.times == 0 {
            example.clone_into(&mut self.example);
        }
        self.times += 1;
    }
}

/// The entry of a key, if it is there or there is room for it.
fn entry<K: Ord, V: Default>(map: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
    let room = map.len() < LIMIT || map.contains_key(&key);
    room.then(|| map.entry(key).or_default())
}

/// A file's entry, or its folder's.
fn file<'a>(map: &'a mut BTreeMap<String, Seen>, path: &str) -> Option<&'a mut Seen> {
    if map.len() < LIMIT || map.contains_key(path) {
        return entry(map, path.to_owned());
    }
    // Twice the room: what is full of files has few folders.
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let room = map.len() < 2 * LIMIT || map.contains_key(folder);
    room.then(|| map.entry(folder.to_owned()).or_default())
}

impl Trace {
    /// Adds one call.
    pub fn note(&mut self, heard: &Heard) {
        let example = &heard.example();
        self.told += 1;
        let mut kept = true;
        let mut count = |seen: Option<&mut Seen>| match seen {
            Some(seen) => seen.again(example),
            None => kept = false,
        };
        count(entry(&mut self.calls, heard.name.clone()));
        if heard.refused {
            count(entry(&mut self.refused, heard.name.clone()));
        }
        for event in &heard.events {
            match event {
                Event::Read(path) => count(file(&mut self.read, path)),
                Event::Write(path) => count(file(&mut self.written, path)),
                Event::Run { path, set_id } => {
                    let program = entry(&mut self.programs, path.clone());
                    count(program.map(|program| {
                        program.set_id |= set_id;
                        &mut program.seen
                    }));
                }
                Event::Bind(place) => count(entry(&mut self.bound, place.clone())),
                Event::Connect(place) => count(entry(&mut self.connected, place.clone())),
                Event::Capability(name) => count(entry(&mut self.capabilities, (*name).to_owned())),
                Event::WritableCode => count(Some(self.writable_code.get_or_insert_default())),
            }
        }
        self.dropped += u64::from(!kept);
    }

    /// Whether something at or below a path was written.
    #[must_use]
    pub fn wrote_below(&self, folder: &str) -> bool {
        self.written.keys().any(|path| below(path, folder))
    }

    /// The paths of Unix sockets among these places.
    pub fn paths(places: &BTreeMap<Place, Seen>) -> impl Iterator<Item = (&str, &Seen)> {
        places.iter().filter_map(|(place, seen)| match place {
            Place::Path(path) => Some((path.as_str(), seen)),
            _ => None,
        })
    }
}

fn below(path: &str, folder: &str) -> bool {
    std::path::Path::new(path).starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &str) -> Heard {
        Heard {
            name: "openat".into(),
            detail: path.into(),
            process: "web".into(),
            refused: false,
            events: vec![Event::Write(path.into())],
        }
    }

    #[test]
    fn the_same_thing_is_kept_once_with_its_first_example() {
        let mut trace = Trace::default();
        for process in ["first", "second"] {
            let heard = Heard {
                process: process.into(),
                refused: true,
                ..write("/x")
            };
            trace.note(&heard);
        }
        let want = Seen {
            times: 2,
            example: "first: openat(/x)".into(),
        };
        assert_eq!(trace.written, [("/x".to_owned(), want.clone())].into());
        assert_eq!(trace.refused, [("openat".to_owned(), want.clone())].into());
        assert_eq!((trace.told, trace.dropped), (2, 0));
        assert!(trace.wrote_below("/x") && trace.wrote_below("/") && !trace.wrote_below("/xy"));
    }

    #[test]
    fn a_trace_stays_bounded_and_counts_what_it_leaves_out() {
        let mut trace = Trace::default();
        for number in 0..LIMIT + 10 {
            trace.note(&write(&format!("/var/spool/{number}")));
        }
        assert_eq!(trace.written.len(), LIMIT + 1);
        assert_eq!(trace.written["/var/spool"].times, 10);
        assert_eq!(trace.dropped, 0, "they count for their folder");
        for number in 0..2 * LIMIT {
            trace.note(&write(&format!("/many/{number}/x")));
        }
        assert_eq!(trace.written.len(), 2 * LIMIT);
        assert_eq!(trace.dropped, 2 * LIMIT as u64 - (LIMIT as u64 - 1));
        for number in 0..LIMIT + 10 {
            let place = Place::Abstract(number.to_string());
            trace.note(&Heard {
                events: vec![Event::Connect(place)],
                ..write("/")
            });
        }
        assert_eq!(trace.connected.len(), LIMIT);
    }
}

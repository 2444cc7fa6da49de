//! The manager's own words on their way to the store: each once, though a manager be killed at any moment.
//!
//! What the loop says is saved together with the state from which it follows, and told to the thread then. The note has the word that is
//! about to be stored and the place that it will have; a successor is told all words that are not known to be stored, and finds by the
//! note which one the store has already.

use std::collections::VecDeque;
use std::path::Path;

use cairn_log::{Entry, Error as LogError, Origin, Part, Priority, Seq, Stream};
use serde::{Deserialize, Serialize};

use super::note::NoteFile;
use super::sink::Sink;
use crate::clock::{now_ns, real_ns};
use crate::error::Error;

/// Something that the manager says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its number, which grows during a boot; 0 if it is lost with the manager.
    pub id: u64,
    /// In whose log it stands.
    pub unit: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What is said.
    pub text: String,
    /// When, in nanoseconds since 1970.
    pub realtime: u64,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic: u64,
}

impl Word {
    /// Something that is said now.
    pub(crate) fn new(unit: &str, priority: Priority, text: &str) -> Word {
        Word {
            id: 0,
            unit: unit.to_owned(),
            priority,
            text: text.to_owned(),
            realtime: real_ns(),
            monotonic: now_ns(),
        }
    }
}

/// So many words are stored together at most.
const TOGETHER: usize = 64;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Note {
    /// All words up to this one are stored.
    stored: u64,
    /// The next ones, which are stored together: the last one's number, their log, and the first one's place there.
    next: Option<Next>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    last: u64,
    unit: String,
    place: Seq,
}

/// Words that are to be stored, in their order.
#[derive(Debug)]
pub(super) struct Words {
    note: Note,
    file: NoteFile,
    waiting: VecDeque<Word>,
}

impl Words {
    pub(super) fn open(note: &Path) -> Result<Words, Error> {
        let (file, note) = NoteFile::open(note)?;
        Ok(Words {
            note: note.unwrap_or_default(),
            file,
            waiting: VecDeque::new(),
        })
    }

    /// Finds out what became of a killed manager's last words; to be asked before anything is stored.
    pub(super) fn resume(&mut self, sink: &mut Sink) {
        let Some(next) = self.note.next.take() else { return };
        if sink.stored_from(&next.unit, next.place).is_ok_and(|count| count > 0) {
            self.note.stored = next.last;
        }
        // Others will have those places soon.
        self.file.write(&self.note);
    }

    /// Takes one to be stored, unless it is known.
    pub(super) fn take(&mut self, word: Word) {
        let last = self.waiting.iter().map(|waiting| waiting.id).max().unwrap_or(0);
        if word.id == 0 || word.id > self.note.stored.max(last) {
            self.waiting.push_back(word);
        }
    }

    /// The log that the first one is for.
    pub(super) fn unit(&self) -> Option<&str> {
        self.waiting.front().map(|word| word.unit.as_str())
    }

    /// Up to which word all is stored, or given up.
    pub(super) fn stored(&self) -> u64 {
        self.note.stored
    }

    /// Stores the first one and those after it in the same log; whether that is done.
    pub(super) fn store(&mut self, sink: &mut Sink) -> bool {
        let Some(first) = self.waiting.front() else { return true };
        let unit = first.unit.clone();
        // One that is lost with the manager is no part of what a successor has to know.
        let same = |word: &&Word| word.unit == unit && (word.id > 0) == (first.id > 0);
        let words: Vec<&Word> = self.waiting.iter().take_while(same).take(TOGETHER).collect();
        let count = words.len();
        let last = words.last().map_or(0, |word| word.id);
        if last > 0 {
            let Ok(place) = sink.next_place(&unit) else {
                return self.failed(sink, count);
            };
            self.note.next = Some(Next {
                last,
                unit: unit.clone(),
                place,
            });
            self.file.write(&self.note);
        }
        let origins: Vec<Origin> = words
            .iter()
            .map(|word| Origin::new(Stream::Manager, word.priority))
            .collect();
        let entry = |(word, origin)| {
            let word: &Word = word;
            Entry {
                realtime: word.realtime,
                monotonic: word.monotonic,
                origin,
                part: Part::Whole,
                message: word.text.as_bytes(),
            }
        };
        let entries: Vec<Entry<'_>> = words.into_iter().zip(&origins).map(entry).collect();
        match sink.append(&unit, &entries) {
            // No other try would end otherwise.
            Ok(_) | Err(LogError::Fields { .. } | LogError::UnitName { .. }) => self.done(count),
            Err(_) => return self.failed(sink, count),
        }
        true
    }

    fn failed(&mut self, sink: &Sink, count: usize) -> bool {
        let given_up = sink.gives_up();
        if given_up {
            // They were said on the console, too.
            self.done(count);
        }
        given_up
    }

    fn done(&mut self, count: usize) {
        let last = self.waiting.drain(..count).map(|word| word.id).max().unwrap_or(0);
        if last > 0 {
            self.note = Note {
                stored: last,
                next: None,
            };
            self.file.write(&self.note);
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_log::{BootId, Query, Reader};
    use tokio::sync::{mpsc, watch};

    use super::super::Store;
    use super::*;

    fn sink(root: &Path) -> Sink {
        let manifest = crate::testing::manifest(&[("web", "{}")]);
        let store = Store {
            root: root.join("log"),
            boot: BootId([4; 16]),
            newest: watch::channel(0).1,
            units: std::sync::Arc::new(super::super::limits::all(&manifest)),
        };
        Sink::new(&store, watch::channel(0).0, mpsc::unbounded_channel().0)
    }

    fn word(id: u64) -> Word {
        Word {
            id,
            ..Word::new("web", Priority::Info, &format!("word {id}"))
        }
    }

    /// Killed before and after the store took the second word; the note is the same.
    #[test]
    fn a_successor_finds_out_whether_the_last_word_is_stored() {
        for stored in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("note");
            let mut first = (Words::open(&path).unwrap(), sink(dir.path()));
            first.0.take(word(1));
            assert!(first.0.store(&mut first.1));
            first.0.take(word(2));
            let place = first.1.next_place("web").unwrap();
            if stored {
                assert!(first.0.store(&mut first.1));
            }
            let next = Some(Next {
                last: 2,
                unit: "web".to_owned(),
                place,
            });
            first.0.file.write(&Note { stored: 1, next });
            drop(first);
            // One that is killed as soon as it has stored something else must not make it look as if the word were stored.
            let mut second = (Words::open(&path).unwrap(), sink(dir.path()));
            second.0.resume(&mut second.1);
            second.0.take(Word { id: 0, ..word(7) });
            assert!(second.0.store(&mut second.1));
            drop(second);
            let (mut words, mut sink) = (Words::open(&path).unwrap(), sink(dir.path()));
            words.resume(&mut sink);
            // It is told all that the loop does not know to be stored.
            for id in 1..=3 {
                words.take(word(id));
                words.take(word(id));
            }
            while words.unit().is_some() {
                assert!(words.store(&mut sink));
            }
            assert_eq!(words.stored(), 3);
            let records = Reader::new(dir.path().join("log")).query(&Query::default()).unwrap();
            let mut texts: Vec<_> = records.map(|record| record.unwrap().message).collect();
            texts.retain(|text| text != b"word 7");
            assert_eq!(texts, [b"word 1", b"word 2", b"word 3"], "stored: {stored}");
        }
    }
}

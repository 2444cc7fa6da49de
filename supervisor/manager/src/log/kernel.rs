//! The kernel's messages: `/dev/kmsg` shows all that the kernel still has to each reader from the start, so what is stored is told
//! by their numbers. The note has the number of the first message of a batch and its place.

use std::os::fd::OwnedFd;
use std::path::Path;

use cairn_log::{Entry, Flood, Origin, Part, Priority, Seq, Stream, Verdict, kmsg};
use serde::{Deserialize, Serialize};

use super::limits::UnitLog;
use super::note::NoteFile;
use super::source::{Progress, Tools};
use super::{KERNEL, News};
use crate::clock::{now_ns, real_ns};
use crate::error::Error;

/// The kernel's longest record, with room.
const LONGEST: usize = 16 << 10;
/// So many messages are stored together.
const BATCH: usize = 64;

/// Messages that were about to be stored: so many with numbers one after the other.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Note {
    first: Seq,
    number: u64,
    count: u64,
}

/// A message that was read.
#[derive(Debug)]
struct Message {
    origin: Origin,
    number: Option<u64>,
    text: Vec<u8>,
    monotonic: u64,
}

/// The kernel's log.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) file: OwnedFd,
    flood: Flood,
    note: NoteFile,
    /// A batch of an earlier manager, of which it is not known how much is stored.
    before: Option<Note>,
    /// The next number that is not stored.
    next: u64,
    waiting: Vec<Message>,
    damage: bool,
}

impl Kernel {
    /// Opens it; `None` where there is none.
    pub(super) fn open(path: &Path, note: &Path, limits: &UnitLog) -> Result<Option<Kernel>, Error> {
        let file = match std::fs::OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK).map_err(Error::io("read", path))?;
        let (note, before) = NoteFile::open(note)?;
        Ok(Some(Kernel {
            file: file.into(),
            flood: Flood::new(limits.rate, now_ns()),
            note,
            before,
            next: 0,
            waiting: Vec::new(),
            damage: false,
        }))
    }

    /// Stores the next messages. What is to be said on the console about them goes to `say`.
    pub(super) fn drain(&mut self, tools: &mut Tools, mut say: impl FnMut(News)) -> Progress {
        if let Some(before) = self.before {
            let Ok(stored) = tools.sink.stored_from(KERNEL, before.first) else {
                return self.stuck(tools);
            };
            self.next = before.number + stored.min(before.count);
            self.before = None;
        }
        let mut more = true;
        let mut buffer = [0; LONGEST];
        while self.waiting.len() < BATCH && more {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(length @ 1..) => {
                    if let Some(line) = self.read(&buffer[..length]) {
                        say(News::Say(line));
                    }
                }
                // The ring has overtaken us: what follows is the oldest message that is left.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
                _ => more = false,
            }
        }
        match self.store(tools) {
            false => self.stuck(tools),
            true if more => Progress::More,
            true => Progress::Idle,
        }
    }

    /// Takes one record; what the console is to say about it.
    fn read(&mut self, record: &[u8]) -> Option<String> {
        let read = kmsg::parse(record);
        let last = self.waiting.iter().rev().find_map(|message| message.number);
        let expected = last.map_or(self.next, |last| last + 1);
        if read.sequence.is_some_and(|number| number < expected) {
            return None;
        }
        let monotonic = read.origin.field("_SOURCE_MONOTONIC_TIMESTAMP");
        let micros: Option<u64> = monotonic.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let monotonic = micros.map_or_else(now_ns, |micros| micros.saturating_mul(1000));
        let told = match self.flood.admit(now_ns()) {
            Verdict::Pass => None,
            Verdict::PassAfter(dropped) => Some(dropped.text()),
            Verdict::Drop => return None,
        };
        let lost = read
            .sequence
            .filter(|_| expected > 0)
            .map_or(0, |number| number - expected);
        let lost = (lost > 0 && told.is_none())
            .then(|| format!("{lost} kernel messages were overwritten before they were read"));
        self.waiting.extend(told.into_iter().chain(lost).map(|text| Message {
            origin: Origin::new(Stream::Manager, Priority::Warning),
            number: None,
            text: text.into_bytes(),
            monotonic,
        }));
        self.waiting.push(Message {
            origin: read.origin,
            number: read.sequence,
            text: read.message,
            monotonic,
        });
        if self.damage {
            return None;
        }
        let sentence = crate::console::damage(&String::from_utf8_lossy(record));
        self.damage = sentence.is_some();
        sentence
    }

    /// Stores what waits; whether all of it is stored.
    fn store(&mut self, tools: &mut Tools) -> bool {
        // The real time of a message is as far back as its monotonic one.
        let boot = real_ns().saturating_sub(now_ns());
        while let Some(head) = self.waiting.first() {
            // A batch is messages with numbers one after the other, or one without a number.
            let numbers = self.waiting.iter().map(|message| message.number);
            let count = match head.number {
                Some(number) => numbers
                    .zip(number..)
                    .take_while(|(own, number)| *own == Some(*number))
                    .count(),
                None => 1,
            };
            let entries: Vec<Entry<'_>> = self.waiting[..count]
                .iter()
                .map(|message| Entry {
                    realtime: boot + message.monotonic,
                    monotonic: message.monotonic,
                    origin: &message.origin,
                    part: Part::Whole,
                    message: &message.text,
                })
                .collect();
            if let Some(number) = head.number {
                let Ok(first) = tools.sink.next_place(KERNEL) else {
                    return false;
                };
                self.note.write(&Note {
                    first,
                    number,
                    count: count as u64,
                });
                if tools.sink.append(KERNEL, &entries).is_err() {
                    return false;
                }
                self.next = number + count as u64;
            } else if tools.sink.append(KERNEL, &entries).is_err() {
                return false;
            }
            self.waiting.drain(..count);
        }
        true
    }

    /// The store does not take them: the kernel keeps what has not been read, and these are lost in the end.
    fn stuck(&mut self, tools: &mut Tools) -> Progress {
        if tools.sink.gives_up() {
            self.waiting.clear();
        }
        Progress::Stuck
    }
}

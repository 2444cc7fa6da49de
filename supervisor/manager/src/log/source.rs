//! A unit's output: from its pipe to the store, each line once.
//!
//! A service writes to its pipe; only we write to its *stage*, a second pipe that cairn-init keeps as well. A batch of lines is
//! decided by looking at the pipe, and then carried out:
//!
//! 1. the note says what the batch is, and the places that its records will have in the store;
//! 2. its bytes are moved from the pipe to the stage, by one splice(2);
//! 3. its records are appended to the store;
//! 4. the stage is emptied, by one read(2).
//!
//! Neither 2 nor 4 can be half done by a kill, and nobody else touches the stage. So a successor knows: a stage that holds
//! something is a batch that is to be carried out from 3 on, and the places tell how many of its records the store has already;
//! an empty stage is a batch before 2 or after 4, and again the places tell which.
//!
//! Lines that are dropped, since the unit writes faster than it may, take a shorter way; a kill may count some of them twice.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use cairn_log::{Entry, Flood, Lines, Part, Seq, Verdict};
use rustix::pipe::{SpliceFlags, splice};
use serde::{Deserialize, Serialize};

use super::batch::{Batch, MORE, Origins};
use super::dev_log::{Heard, Sent};
use super::glass::{Glass, empty};
use super::limits::UnitLog;
use super::note::NoteFile;
use super::sink::Sink;
use crate::clock::{now_ns, real_ns};

/// What a successor must know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where in its line the pipe is.
    lines: Lines,
    /// That line is being dropped.
    skipping: bool,
    pub(super) flood: Flood,
    batch: Option<Batch>,
    /// The last message that `/dev/log` gave.
    pub(super) sent: Option<Sent>,
    /// The last process of which a line has come that was waited for.
    pub(super) came: u64,
}

/// How far a look at a source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is nothing, or no whole line.
    Idle,
    /// There may be more.
    More,
    /// The store did not take it.
    Stuck,
}

/// What sources are read with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) sink: Sink,
    pub(super) glass: Glass,
    pub(super) window: Vec<u8>,
    pub(super) buffer: Vec<u8>,
}

/// One unit.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) pipe: OwnedFd,
    stage: OwnedFd,
    pub(super) heard: Option<Heard>,
    pub(super) note: Note,
    pub(super) file: NoteFile,
    /// The note's batch is not done: the stage holds it.
    pub(super) pending: bool,
    /// Records that nobody will see: the disk did not take them.
    pub(super) lost: u64,
    pub(super) tail: VecDeque<String>,
    /// The process that a line is waited for of, and what it contains.
    pub(super) awaited: Option<(u64, Vec<u8>)>,
}

impl Source {
    /// Goes on where the note says. What was under way is carried out with the first [`Source::drain`].
    pub(super) fn new(
        name: String,
        [pipe, stage]: [OwnedFd; 2],
        file: NoteFile,
        note: Option<Note>,
        limits: &UnitLog,
    ) -> Source {
        let mut note = note.unwrap_or_else(|| Note {
            lines: Lines::default(),
            skipping: false,
            flood: Flood::new(limits.rate, now_ns()),
            batch: None,
            sent: None,
            came: 0,
        });
        note.flood = note.flood.at_rate(limits.rate);
        Source {
            name,
            pipe,
            stage,
            heard: None,
            pending: note.batch.is_some(),
            note,
            file,
            lost: 0,
            tail: VecDeque::new(),
            awaited: None,
        }
    }

    /// Whether something is under way whose places in the store are told already, so that nothing else may be stored now.
    pub(super) fn is_under_way(&self) -> bool {
        self.pending || self.heard.as_ref().is_some_and(Heard::is_adopted)
    }

    /// Takes what one look at the pipe shows: whole lines, or with `end` everything.
    pub(super) fn drain(&mut self, tools: &mut Tools, end: bool) -> Progress {
        if self.pending && !self.resume(tools) {
            return self.stuck(tools);
        }
        tools.glass.look(&self.pipe, &mut tools.window);
        if tools.window.is_empty() && !end {
            return Progress::Idle;
        }
        let Ok(first) = tools.sink.next_place(&self.name) else {
            return self.stuck(tools);
        };
        let mut window = std::mem::take(&mut tools.window);
        let progress = match self.decide(&window, end, first) {
            Decision::Nothing => Progress::Idle,
            Decision::Drop { taken, note } => {
                self.note = note;
                self.watch_for(&window[..taken]);
                self.file.write(&self.note);
                self.remember(&window[..taken]);
                empty(&self.pipe, taken);
                Progress::More
            }
            Decision::Store(batch) => {
                self.note.batch = Some(batch);
                self.watch_for(&window[..batch.taken]);
                self.file.write(&self.note);
                self.pending = true;
                window.truncate(batch.taken);
                window.extend_from_slice(MORE);
                match self.stage(batch.taken) {
                    false => Progress::Stuck,
                    true if self.carry_out(tools, &window, batch) => Progress::More,
                    true => self.stuck(tools),
                }
            }
        };
        tools.window = window;
        progress
    }

    /// What is to be done with what stands in the pipe.
    fn decide(&self, window: &[u8], end: bool, first: Seq) -> Decision {
        let (mut note, now) = (self.note, now_ns());
        let (mut passes, mut dropped, mut count) = (None, None, 0);
        let (taken, _) = note.lines.feed(window, end, |part, _| {
            let mut flood = note.flood;
            let (pass, before) = match part {
                Part::Middle(_) | Part::Last(_) => (!note.skipping, None),
                Part::Whole | Part::First => match flood.admit(now) {
                    Verdict::Pass => (true, None),
                    Verdict::PassAfter(dropped) => (true, Some(dropped)),
                    Verdict::Drop => (false, None),
                },
            };
            // All of a batch is stored or all of it dropped; and what is said of dropped lines stands before those that follow.
            if passes.is_some_and(|passes| passes != pass) || (count > 0 && before.is_some()) {
                return Err(());
            }
            passes = Some(pass);
            dropped = dropped.or(before);
            (note.flood, note.skipping) = (flood, !pass);
            count += 1;
            Ok(Seq(first.0 + count - 1 + u64::from(dropped.is_some())))
        });
        match passes {
            None => Decision::Nothing,
            Some(false) => {
                note.batch = None;
                Decision::Drop { taken, note }
            }
            Some(true) => Decision::Store(Batch {
                taken,
                end,
                dropped: dropped.map(|d| (d.lines, u64::try_from(d.during.as_nanos()).unwrap_or(u64::MAX))),
                realtime: real_ns(),
                monotonic: now,
                stored: 0,
                base: 0,
                first,
                after: note.lines,
                flood: note.flood,
            }),
        }
    }

    /// Moves a batch's bytes to the stage. If that cannot be (no memory for the pipe), the batch has not begun.
    fn stage(&mut self, count: usize) -> bool {
        let mut moved = 0;
        while moved < count {
            match splice(
                &self.pipe,
                None,
                &self.stage,
                None,
                count - moved,
                SpliceFlags::NONBLOCK,
            ) {
                Ok(more @ 1..) => moved += more,
                _ => break,
            }
        }
        if moved == 0 && count > 0 {
            self.note.batch = None;
            self.pending = false;
        }
        moved == count
    }

    /// Stores a batch, whose bytes stand in the stage, and `staged` before [`MORE`]; whether that is done.
    fn carry_out(&mut self, tools: &mut Tools, staged: &[u8], mut batch: Batch) -> bool {
        let told = batch.told();
        let (pieces, after) = batch.lay_out(self.note.lines, told.as_deref(), staged);
        let told = usize::from(told.is_some());
        let origins = Origins::new();
        let entries: Vec<Entry<'_>> = pieces
            .iter()
            .enumerate()
            .map(|(index, (part, piece))| {
                let (origin, message) = match (index < told, part) {
                    (true, _) => (&origins.own, *piece),
                    (false, Part::Whole | Part::First) => origins.of(piece),
                    (false, _) => (&origins.plain, *piece),
                };
                Entry {
                    realtime: batch.realtime,
                    monotonic: batch.monotonic,
                    origin,
                    part: *part,
                    message,
                }
            })
            .collect();
        let left = entries
            .get(usize::try_from(batch.stored).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        if !left.is_empty() && tools.sink.append(&self.name, left).is_err() {
            if tools.sink.gives_up() {
                self.lost += left.len() as u64;
            } else {
                return false;
            }
        }
        batch.after = after;
        let bytes = staged.strip_suffix(MORE).unwrap_or(staged);
        self.remember(bytes);
        self.done(bytes.len(), &batch);
        true
    }

    fn done(&mut self, staged: usize, batch: &Batch) {
        empty(&self.stage, staged);
        (self.note.lines, self.note.flood, self.note.skipping) = (batch.after, batch.flood, false);
        // The file still has it: an empty stage and stored records say that it is done.
        self.note.batch = None;
        self.pending = false;
    }

    /// Goes on with the note's batch: one of a manager that was killed, or one that the store did not take. Whether it is done.
    fn resume(&mut self, tools: &mut Tools) -> bool {
        let Some(mut batch) = self.note.batch else {
            self.pending = false;
            return true;
        };
        let Ok(stored) = tools.sink.stored_from(&self.name, batch.first) else {
            return false;
        };
        let Ok(next) = tools.sink.next_place(&self.name) else {
            return false;
        };
        let mut staged = Vec::new();
        tools.glass.look(&self.stage, &mut staged);
        if staged.is_empty() && (batch.taken > 0 || stored > 0) {
            match stored + batch.stored {
                // It had not begun.
                0 => (self.note.batch, self.pending) = (None, false),
                _ => self.done(0, &batch),
            }
            return true;
        }
        if stored > 0 {
            batch.base = batch.first.0.wrapping_sub(batch.stored);
            batch.stored += stored;
        }
        batch.first = next;
        staged.extend_from_slice(MORE);
        batch.after = batch.lay_out(self.note.lines, batch.told().as_deref(), &staged).1;
        self.note.batch = Some(batch);
        self.file.write(&self.note);
        self.carry_out(tools, &staged, batch)
    }

    /// The store does not take this unit's lines: it waits, and in the end loses them.
    fn stuck(&mut self, tools: &mut Tools) -> Progress {
        if !tools.sink.gives_up() {
            return Progress::Stuck;
        }
        // Nothing is known of the store, not even places.
        tools.glass.look(&self.stage, &mut tools.window);
        empty(&self.stage, tools.window.len());
        self.lost += newlines(&tools.window);
        tools.glass.look(&self.pipe, &mut tools.window);
        empty(&self.pipe, tools.window.len());
        self.lost += newlines(&tools.window);
        let window = std::mem::take(&mut tools.window);
        self.remember(&window);
        (self.note.lines, self.note.skipping, self.note.batch) = (Lines::default(), false, None);
        self.pending = false;
        self.file.write(&self.note);
        let more = !window.is_empty();
        tools.window = window;
        if more { Progress::More } else { Progress::Stuck }
    }
}

enum Decision {
    Nothing,
    Drop { taken: usize, note: Note },
    Store(Batch),
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

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
use std::time::Duration;

use cairn_log::{Dropped, Entry, Error, Flood, Lines, Origin, Part, Priority, Seq, Stream, Verdict};
use rustix::pipe::{SpliceFlags, splice};
use serde::{Deserialize, Serialize};

use super::dev_log::{Heard, Sent};
use super::glass::Glass;
use super::limits::UnitLog;
use super::note::NoteFile;
use super::sink::Sink;
use crate::clock::{now_ns, real_ns};

/// So many last lines are kept for the console,
const KEPT_LINES: usize = 8;
/// and so many bytes of each.
const KEPT_BYTES: usize = 200;

/// Stands behind a batch's bytes for what stands behind them in the pipe.
const MORE: &[u8] = b" ";

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
    came: u64,
}

/// Some of a pipe's bytes, and what becomes of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Batch {
    taken: usize,
    /// The bytes end a line, though no newline stands there.
    end: bool,
    /// Lines dropped before it, and during how many nanoseconds: said first.
    dropped: Option<(u64, u64)>,
    realtime: u64,
    monotonic: u64,
    /// Of its records so many are stored: the one of index `i` at the place `base + i`.
    stored: u64,
    base: u64,
    /// The others will be, from this place on.
    first: Seq,
    /// How the note goes on after it.
    after: Lines,
    flood: Flood,
}

impl Batch {
    fn place(&self, index: u64) -> Seq {
        match index.checked_sub(self.stored) {
            Some(index) => Seq(self.first.0 + index),
            None => Seq(self.base + index),
        }
    }

    /// What is said of lines that were dropped before it.
    fn told(&self) -> Option<String> {
        let (lines, nanoseconds) = self.dropped?;
        let during = Duration::from_nanos(nanoseconds);
        Some(Dropped { lines, during }.text())
    }

    /// The messages of its records, from a pipe that is at `lines`, and where the pipe is then. `staged` are the batch's bytes
    /// (fewer than it has if the kernel moved less than it was asked to), and then [`MORE`]: a piece of a long line is one because
    /// more follows.
    fn lay_out<'b>(&self, mut lines: Lines, told: Option<&'b str>, staged: &'b [u8]) -> (Vec<(Part, &'b [u8])>, Lines) {
        let mut pieces: Vec<_> = told.iter().map(|text| (Part::Whole, text.as_bytes())).collect();
        let mut put = |part, piece| {
            pieces.push((part, piece));
            Ok::<_, ()>(self.place(pieces.len() as u64 - 1))
        };
        let bytes = staged.strip_suffix(MORE).unwrap_or(staged);
        let (used, _) = match self.end {
            true => lines.feed(bytes, true, &mut put),
            false => lines.feed(staged, false, &mut put),
        };
        if let Some(rest @ [_, ..]) = bytes.get(used..) {
            let _ = lines.feed(rest, true, &mut put);
        }
        (pieces, lines)
    }
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
    pending: bool,
    /// Records that nobody will see: the disk did not take them.
    pub(super) lost: u64,
    tail: VecDeque<String>,
    /// The process that a line is waited for of, and what it contains.
    awaited: Option<(u64, Vec<u8>)>,
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

    /// Waits for a line of the process with this token that contains `text`; it may have come to an earlier manager.
    pub(super) fn wait_for(&mut self, token: u64, text: &str) {
        self.awaited = Some((token, text.as_bytes().to_owned()));
    }

    /// Looks for what is waited for; to be asked before the note is written.
    pub(super) fn watch_for(&mut self, bytes: &[u8]) {
        if let Some((token, text)) = &self.awaited
            && bytes.windows(text.len().max(1)).any(|part| part == text.as_slice())
        {
            self.note.came = *token;
        }
    }

    /// The process whose line has come, once.
    pub(super) fn came(&mut self) -> Option<u64> {
        let came = self.note.came;
        let (token, _) = self.awaited.take_if(|(token, _)| *token == came)?;
        Some(token)
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

    /// Says what was dropped or lost though no line has come since. Whether there may be more to say later.
    pub(super) fn settle(&mut self, sink: &mut Sink) -> bool {
        let mut flood = self.note.flood;
        let said = flood.settle(now_ns()).map(Dropped::text);
        if let Some(text) = said
            && self.tell(sink, Priority::Warning, &text).is_ok()
        {
            self.note.flood = flood;
        }
        if self.lost > 0 && !self.pending {
            let text = format!("{} lines of this unit were lost: the disk did not take them", self.lost);
            if self.tell(sink, Priority::Err, &text).is_ok() {
                self.lost = 0;
            }
        }
        self.is_losing()
    }

    /// Whether something was dropped or lost that was not said yet.
    pub(super) fn is_losing(&self) -> bool {
        self.lost > 0 || self.note.flood.is_dropping()
    }

    /// The manager's own words about the unit.
    pub(super) fn tell(&self, sink: &mut Sink, priority: Priority, text: &str) -> Result<(), Error> {
        let entry = Entry {
            realtime: real_ns(),
            monotonic: now_ns(),
            origin: &Origin::new(Stream::Manager, priority),
            part: Part::Whole,
            message: text.as_bytes(),
        };
        sink.append(&self.name, &[entry]).map(drop)
    }

    pub(super) fn remember(&mut self, bytes: &[u8]) {
        for line in bytes
            .split_inclusive(|b| *b == b'\n')
            .rev()
            .take(KEPT_LINES)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if self.tail.len() == KEPT_LINES {
                self.tail.pop_front();
            }
            self.tail
                .push_back(line[..line.len().min(KEPT_BYTES)].escape_ascii().to_string());
        }
    }

    /// The last lines in plain ASCII, forgotten with this.
    pub(super) fn take_tail(&mut self) -> Vec<String> {
        self.tail.drain(..).collect()
    }
}

enum Decision {
    Nothing,
    Drop { taken: usize, note: Note },
    Store(Batch),
}

/// A line's priority, as sd-daemon(3) has it: `<0>` to `<7>` at its start, which is not part of the line. Else it is `info`: the
/// output of services says nothing else about how urgent it is.
struct Origins {
    plain: Origin,
    levels: [Origin; 8],
    own: Origin,
}

impl Origins {
    fn new() -> Origins {
        let level = |value: u8| Origin::new(Stream::Stdout, Priority::from_low_bits(value));
        Origins {
            plain: Origin::new(Stream::Stdout, Priority::Info),
            levels: [0, 1, 2, 3, 4, 5, 6, 7].map(level),
            own: Origin::new(Stream::Manager, Priority::Warning),
        }
    }

    fn of<'a>(&self, line: &'a [u8]) -> (&Origin, &'a [u8]) {
        match line {
            [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (&self.levels[usize::from(digit - b'0')], rest),
            _ => (&self.plain, line),
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

/// Takes so many bytes out of a pipe that has them.
fn empty(pipe: &OwnedFd, count: usize) {
    let mut left = vec![0; count];
    let mut taken = 0;
    while taken < count {
        match rustix::io::read(pipe, &mut left[taken..]) {
            Ok(more @ 1..) => taken += more,
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

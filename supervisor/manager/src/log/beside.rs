//! What a source does beside storing lines: it keeps the last ones for the console, waits for one that says that a service is ready,
//! and says what was dropped or lost.

use cairn_log::{Dropped, Entry, Error, Origin, Part, Priority, Stream};

use super::sink::Sink;
use super::source::Source;
use crate::clock::{now_ns, real_ns};

/// So many last lines are kept for the console,
const KEPT_LINES: usize = 8;
/// and so many bytes of each.
const KEPT_BYTES: usize = 200;

impl Source {
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

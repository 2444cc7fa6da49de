//! What the manager writes to stdout and stderr: copied to the console, and the end of it kept for an emergency.
//!
//! A manager that floods is slowed down by its full pipe, never PID 1: each turn of the loop copies one chunk at most, a
//! second has a limit, and a console that takes nothing is not waited for. Nothing here allocates after the start.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::console::say;

const SECOND: u64 = 1_000_000_000;
/// How much of the last text is kept.
const KEPT: usize = 4096;
/// How much one turn copies.
const CHUNK: usize = 1024;
/// How much is copied in a second.
const A_SECOND: usize = 64 * 1024;
/// What the manager can write ahead.
const PIPE: usize = 16 * 1024;
/// How long to leave a console alone that takes nothing now.
const AGAIN: u64 = SECOND / 20;
/// After so long it is not waited for any more.
const STUCK: u64 = SECOND;
/// How many of the last lines are shown, and how much of each.
const LINES: usize = 10;
const LINE: usize = 300;

/// The pipe, and what came through it last.
pub(super) struct Words {
    /// What we read, and what every manager writes to. We keep both ends, so that nothing that one wrote is lost with it.
    from: OwnedFd,
    to: OwnedFd,
    console: OwnedFd,
    kept: Kept,
    chunk: [u8; CHUNK],
    /// The part of the chunk that the console has not taken yet.
    left: std::ops::Range<usize>,
    /// When the console last took something, or was given something new.
    tried: u64,
    /// Whether it has taken nothing for so long that it is not waited for.
    stuck: bool,
    /// The second that is counted, and how much was copied in it.
    second: u64,
    copied: usize,
    /// Until then nothing is done.
    paused: Option<u64>,
}

impl Words {
    /// Makes the pipe. `console` is where the text goes.
    pub(super) fn new(console: BorrowedFd<'_>) -> io::Result<Self> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK)?;
        // A smaller pipe is as good.
        let _ = fcntl_setpipe_size(&to, PIPE);
        Ok(Self {
            from,
            to,
            console: never_blocking(console)?,
            kept: Kept::new(),
            chunk: [0; CHUNK],
            left: 0..0,
            tried: 0,
            stuck: false,
            second: 0,
            copied: 0,
            paused: None,
        })
    }

    /// What a manager gets as stdout and stderr.
    pub(super) fn pen(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// What to watch for new text, while [`Words::next`] has nothing due.
    pub(super) fn source(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// When the next turn is due, whatever comes; nothing is to be watched until then.
    pub(super) fn next(&self) -> Option<u64> {
        self.paused
    }

    /// Copies one chunk, if it is time.
    pub(super) fn turn(&mut self, now: u64) {
        if self.paused.is_some_and(|until| now < until) {
            return;
        }
        self.paused = None;
        if now >= self.second + SECOND {
            (self.second, self.copied) = (now, 0);
        }
        if self.left.is_empty() && self.read() {
            self.tried = now;
        }
        self.write(now);
        if self.copied >= A_SECOND && self.paused.is_none() {
            self.paused = Some(self.second + SECOND);
        }
    }

    /// Reads what a manager that died left behind; the console gets what it takes at once.
    pub(super) fn finish(&mut self) {
        // Children of the manager may still write: there is an end to this.
        for _ in 0..2 * PIPE / CHUNK {
            let _ = rustix::io::write(&self.console, &self.chunk[self.left.clone()]);
            self.left = 0..0;
            if !self.read() {
                return;
            }
        }
    }

    /// Prints the last lines.
    pub(super) fn say_last(&self) {
        say!("last words of the manager:");
        for line in self.kept.last_lines() {
            say!("  {}", Printable(line));
        }
    }

    /// Reads the next chunk. Returns whether there was any.
    fn read(&mut self) -> bool {
        let read = rustix::io::read(&self.from, &mut self.chunk).unwrap_or(0);
        self.left = 0..read;
        self.copied += read;
        self.kept.push(&self.chunk[..read]);
        read > 0
    }

    fn write(&mut self, now: u64) {
        if self.left.is_empty() {
            return;
        }
        match rustix::io::write(&self.console, &self.chunk[self.left.clone()]) {
            Ok(written) => {
                self.left.start += written;
                (self.tried, self.stuck) = (now, false);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if !self.stuck && now < self.tried + STUCK => {
                self.paused = Some(now + AGAIN);
            }
            // The manager must not wait for ever for a console that is stuck. The end of its text is kept anyway.
            Err(rustix::io::Errno::AGAIN) => (self.stuck, self.left) = (true, 0..0),
            // No console: nobody to tell.
            Err(_) => self.left = 0..0,
        }
    }
}

/// The same file, opened for writing without ever waiting. That is a property of an open file, so it cannot be set on ours,
/// which others use too.
fn never_blocking(console: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", console.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match open(path.as_str(), flags, Mode::empty()) {
        Ok(file) => Ok(file),
        // A socket, or no /proc: a test.
        Err(_) => console.try_clone_to_owned(),
    }
}

/// The end of a text.
struct Kept {
    bytes: [u8; KEPT],
    length: usize,
}

impl Kept {
    fn new() -> Self {
        Self {
            bytes: [0; KEPT],
            length: 0,
        }
    }

    /// Adds text of at most [`KEPT`] bytes; the oldest makes room.
    fn push(&mut self, text: &[u8]) {
        let text = &text[text.len().saturating_sub(KEPT)..];
        let over = (self.length + text.len()).saturating_sub(KEPT);
        self.bytes.copy_within(over..self.length, 0);
        self.length -= over;
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// The last lines that are not empty, each cut to what fits a console.
    fn last_lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = || {
            let text = self.bytes[..self.length].split(|b| *b == b'\n');
            text.filter(|line| !line.trim_ascii().is_empty())
        };
        let skip = lines().count().saturating_sub(LINES);
        lines().skip(skip).map(|line| &line[..line.len().min(LINE)])
    }
}

/// Text that cannot do anything to a terminal: all but printable ASCII is escaped.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                other => write!(f, "\\x{other:02x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;

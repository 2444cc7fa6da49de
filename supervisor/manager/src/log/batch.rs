//! A batch of a pipe's lines, as a value: which records it has, at which places.

use std::time::Duration;

use cairn_log::{Dropped, Flood, Lines, Origin, Part, Priority, Seq, Stream};
use serde::{Deserialize, Serialize};

/// Stands behind a batch's bytes for what stands behind them in the pipe.
pub(super) const MORE: &[u8] = b" ";

/// Some of a pipe's bytes, and what becomes of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) taken: usize,
    /// The bytes end a line, though no newline stands there.
    pub(super) end: bool,
    /// Lines dropped before it, and during how many nanoseconds: said first.
    pub(super) dropped: Option<(u64, u64)>,
    pub(super) realtime: u64,
    pub(super) monotonic: u64,
    /// Of its records so many are stored: the one of index `i` at the place `base + i`.
    pub(super) stored: u64,
    pub(super) base: u64,
    /// The others will be, from this place on.
    pub(super) first: Seq,
    /// How the note goes on after it.
    pub(super) after: Lines,
    pub(super) flood: Flood,
}

impl Batch {
    pub(super) fn place(&self, index: u64) -> Seq {
        match index.checked_sub(self.stored) {
            Some(index) => Seq(self.first.0 + index),
            None => Seq(self.base + index),
        }
    }

    /// What is said of lines that were dropped before it.
    pub(super) fn told(&self) -> Option<String> {
        let (lines, nanoseconds) = self.dropped?;
        let during = Duration::from_nanos(nanoseconds);
        Some(Dropped { lines, during }.text())
    }

    /// The messages of its records, from a pipe that is at `lines`, and where the pipe is then. `staged` are the batch's bytes
    /// (fewer than it has if the kernel moved less than it was asked to), and then [`MORE`]: a piece of a long line is one because
    /// more follows.
    pub(super) fn lay_out<'b>(
        &self,
        mut lines: Lines,
        told: Option<&'b str>,
        staged: &'b [u8],
    ) -> (Vec<(Part, &'b [u8])>, Lines) {
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

/// A line's priority, as sd-daemon(3) has it: `<0>` to `<7>` at its start, which is not part of the line. Else it is `info`: the
/// output of services says nothing else about how urgent it is.
pub(super) struct Origins {
    pub(super) plain: Origin,
    levels: [Origin; 8],
    pub(super) own: Origin,
}

impl Origins {
    pub(super) fn new() -> Origins {
        let level = |value: u8| Origin::new(Stream::Stdout, Priority::from_low_bits(value));
        Origins {
            plain: Origin::new(Stream::Stdout, Priority::Info),
            levels: [0, 1, 2, 3, 4, 5, 6, 7].map(level),
            own: Origin::new(Stream::Manager, Priority::Warning),
        }
    }

    pub(super) fn of<'a>(&self, line: &'a [u8]) -> (&Origin, &'a [u8]) {
        match line {
            [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (&self.levels[usize::from(digit - b'0')], rest),
            _ => (&self.plain, line),
        }
    }
}

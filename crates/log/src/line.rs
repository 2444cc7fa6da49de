//! From bytes of a pipe to lines.
//!
//! Bytes stay in the pipe until they are stored: the caller looks at what is there (tee(2)), has it stored, and takes from the
//! pipe what was. So a manager that is killed at any moment loses nothing, and the whole state of a pipe is [`Lines`]: whether a
//! long line is under way, and where it began.

use serde::{Deserialize, Serialize};

use crate::format::{LONGEST_LINE, PIECE};
use crate::record::{Part, Seq};

/// Where in its line a pipe is. To be saved with what else the manager saves; a lost one splits one long line in two, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lines {
    /// The place of the first piece of the line under way.
    line: Option<Seq>,
    /// Its bytes so far.
    length: usize,
}

impl Lines {
    /// Gives `store` every line of `window` (what stands in the pipe), without its newline, and long ones in pieces; `store` returns
    /// the piece's place. What it refuses, and what comes after that, is not taken.
    ///
    /// Returns how many bytes were stored: these are to be taken from the pipe, the others are to be shown again, with what has come
    /// since. An unfinished line is left, unless it is longer than [`PIECE`]; with `end` (nothing more will come) it is finished.
    ///
    /// # Errors
    /// The first that `store` had, beside the bytes stored before it.
    pub fn feed<'w, E>(
        &mut self,
        window: &'w [u8],
        end: bool,
        mut store: impl FnMut(Part, &'w [u8]) -> Result<Seq, E>,
    ) -> (usize, Result<(), E>) {
        let mut taken = 0;
        loop {
            let rest = &window[taken..];
            let longest = PIECE.min(LONGEST_LINE - self.length);
            let near = &rest[..rest.len().min(longest + 1)];
            let (length, used, ends) = match near.iter().position(|b| *b == b'\n') {
                Some(at) => (at, at + 1, true),
                None if near.len() > longest => (longest, longest, self.length + longest == LONGEST_LINE),
                None if end && (!rest.is_empty() || self.line.is_some()) => (rest.len(), rest.len(), true),
                None => return (taken, Ok(())),
            };
            let part = match (self.line, ends) {
                (None, true) => Part::Whole,
                (None, false) => Part::First,
                (Some(line), false) => Part::Middle(line),
                (Some(line), true) => Part::Last(line),
            };
            let place = match store(part, &rest[..length]) {
                Ok(place) => place,
                Err(error) => return (taken, Err(error)),
            };
            taken += used;
            if ends {
                *self = Lines::default();
            } else {
                self.line.get_or_insert(place);
                self.length += length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `chunks` as a pipe would; the lines put together again, and the longest piece.
    fn split(chunks: &[Vec<u8>], end: bool) -> (Vec<Vec<u8>>, usize, Vec<u8>) {
        let (mut lines, mut state, mut pipe) = (Vec::<(Seq, Vec<u8>)>::new(), Lines::default(), Vec::new());
        let (mut place, mut longest) = (0, 0);
        let mut pump = |pipe: &mut Vec<u8>, state: &mut Lines, end| {
            let (taken, result) = state.feed(pipe, end, |part, bytes| {
                place += 1;
                longest = longest.max(bytes.len());
                match part {
                    Part::Whole | Part::First => lines.push((Seq(place), bytes.to_vec())),
                    Part::Middle(line) | Part::Last(line) => {
                        let last = lines.last_mut().unwrap();
                        assert_eq!(last.0, line);
                        last.1.extend_from_slice(bytes);
                    }
                }
                Ok::<_, ()>(Seq(place))
            });
            result.unwrap();
            pipe.drain(..taken);
        };
        for chunk in chunks {
            pipe.extend_from_slice(chunk);
            pump(&mut pipe, &mut state, false);
            // The manager dies and its successor has the saved value.
            state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        }
        if end {
            pump(&mut pipe, &mut state, true);
        }
        (lines.into_iter().map(|(_, line)| line).collect(), longest, pipe)
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_the_lines_they_would_be_at_once(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'\n')], 0..200), 0..20)
        ) {
            let all = chunks.concat();
            let (lines, _, left) = split(&chunks, true);
            let mut expected: Vec<Vec<u8>> = all.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines, expected);
            prop_assert!(left.is_empty());
        }
    }

    #[test]
    fn long_lines_go_in_pieces_and_half_lines_wait_in_the_pipe() {
        let chunks = [vec![b'x'; PIECE], vec![b'y'; PIECE + 1], b"end\nhalf".to_vec()];
        let (lines, longest, left) = split(&chunks, false);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), 2 * PIECE + 4);
        assert_eq!(longest, PIECE);
        assert_eq!(left, b"half");
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_longest() {
        let chunks = vec![vec![b'z'; 1 << 20]; 17];
        let (lines, _, _) = split(&chunks, true);
        let lengths: Vec<usize> = lines.iter().map(Vec::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, 1 << 20]);
    }

    #[test]
    fn what_cannot_be_stored_stays_in_the_pipe() {
        use crate::error::Error;
        let mut state = Lines::default();
        let mut count = 0;
        let (taken, result) = state.feed(b"one\ntwo\nthree\n", false, |_, _| {
            count += 1;
            match count {
                3 => Err(Error::text("x", "y")),
                _ => Ok(Seq(count)),
            }
        });
        assert!(result.is_err());
        assert_eq!(taken, 8);
    }
}

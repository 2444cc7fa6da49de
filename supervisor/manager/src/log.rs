//! A unit's log: from its pipe to `/data/log/UNIT/current`, each line with its time.
//!
//! Lines are looked at with tee(2), written, and only then taken from the pipe: a manager that is killed in between loses
//! nothing (its successor may write the last lines once more).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

use crate::clock::stamp;
use crate::error::Error;

/// When `current` becomes `previous`, in bytes.
pub const ROTATE: u64 = 8 << 20;
/// A line that grows beyond this is written in parts.
const LONGEST: usize = 32 << 10;
const KEPT_LINES: usize = 8;

/// The pipe that lines are looked at through.
#[derive(Debug)]
pub(crate) struct Glass {
    read: File,
    write: OwnedFd,
}

impl Glass {
    pub(crate) fn new() -> Result<Glass, Error> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make", "a pipe"))?;
        Ok(Glass {
            read: read.into(),
            write,
        })
    }
}

/// One unit's log.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    file: Option<(File, u64)>,
    tail: VecDeque<String>,
    /// What a line must contain to be waited for no longer.
    awaited: Option<Vec<u8>>,
    /// Lines that could not be written.
    pub lost: u64,
}

impl Log {
    /// A log in `folder`, which is made with the first line.
    pub fn new(folder: PathBuf) -> Log {
        Log {
            folder,
            file: None,
            tail: VecDeque::new(),
            awaited: None,
            lost: 0,
        }
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.awaited = Some(text.as_bytes().to_owned());
    }

    /// Whether a line has come that was waited for; told once.
    pub(crate) fn came(&mut self) -> bool {
        self.awaited.take_if(|text| text.is_empty()).is_some()
    }

    /// Takes what has come through `pipe`: whole lines, or with `all` everything.
    pub(crate) fn drain(&mut self, pipe: impl AsFd, glass: &mut Glass, all: bool) {
        let mut scratch = Vec::new();
        loop {
            let seen = match tee(&pipe, &glass.write, 1 << 20, SpliceFlags::NONBLOCK) {
                Ok(n) if n > 0 => n,
                _ => return,
            };
            scratch.resize(seen, 0);
            if glass.read.read_exact(&mut scratch).is_err() {
                return;
            }
            let whole = match scratch.iter().rposition(|b| *b == b'\n') {
                Some(end) => end + 1,
                None if all || seen >= LONGEST => seen,
                None => return,
            };
            self.write(&scratch[..whole]);
            let mut taken = 0;
            while taken < whole {
                match rustix::io::read(&pipe, &mut scratch[taken..whole]) {
                    Ok(n) if n > 0 => taken += n,
                    _ => return,
                }
            }
        }
    }

    /// Writes lines of any bytes, each with the present time.
    pub fn write(&mut self, bytes: &[u8]) {
        let time = stamp();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            // An empty text, which no unit can wait for, stands for a line that has come.
            if let Some(text) = self.awaited.as_mut().filter(|text| !text.is_empty())
                && line.windows(text.len()).any(|part| part == text.as_slice())
            {
                text.clear();
            }
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
            out.extend_from_slice(line);
            out.push(b'\n');
            if self.tail.len() == KEPT_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(
                line.iter()
                    .take(200)
                    .copied()
                    .collect::<Vec<u8>>()
                    .escape_ascii()
                    .to_string(),
            );
        }
        if self.append(&out).is_err() {
            self.lost += 1;
            self.file = None;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let current = self.folder.join("current");
        if self.file.as_ref().is_some_and(|(_, size)| *size >= ROTATE) {
            self.file = None;
            fs::rename(&current, self.folder.join("previous"))?;
        }
        let (file, size) = match &mut self.file {
            Some(open) => open,
            none => {
                crate::data::private_folder(&self.folder).map_err(|e| std::io::Error::other(e.to_string()))?;
                let file = OpenOptions::new().append(true).create(true).open(&current)?;
                let size = file.metadata()?.len();
                none.insert((file, size))
            }
        };
        file.write_all(bytes)?;
        *size += bytes.len() as u64;
        Ok(())
    }

    /// The last lines in plain ASCII, forgotten with this.
    pub fn take_tail(&mut self) -> Vec<String> {
        self.tail.drain(..).collect()
    }
}

/// The last `bytes` of the log in `folder`, from the start of a line.
pub fn last(folder: &std::path::Path, bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for name in ["previous", "current"] {
        if let Ok(part) = fs::read(folder.join(name)) {
            text.extend_from_slice(&part);
        }
    }
    if text.len() <= bytes {
        return text;
    }
    let cut = text.len() - bytes;
    let start = text[cut..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(cut, |n| cut + n + 1);
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dir: &std::path::Path) -> Vec<Vec<u8>> {
        let text = fs::read(dir.join("current")).unwrap_or_default();
        text.split_inclusive(|b| *b == b'\n')
            .map(|l| l[25..l.len() - 1].to_vec())
            .collect()
    }

    #[test]
    fn any_bytes_and_any_length_arrive_and_half_lines_wait_in_the_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().to_owned());
        let mut glass = Glass::new().unwrap();
        let (read, write) = crate::io::log_pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(b"one\n\xff\x00two\nhal").unwrap();
        log.drain(&read, &mut glass, false);
        assert_eq!(lines(dir.path()), [b"one".to_vec(), b"\xff\x00two".to_vec()]);
        // The manager dies here: another one finds the half line in the pipe.
        let mut log = Log::new(dir.path().to_owned());
        write.write_all(b"f\n").unwrap();
        write.write_all(&vec![b'x'; 50_000]).unwrap();
        log.drain(&read, &mut glass, true);
        let all = lines(dir.path());
        assert_eq!(all[2], b"half");
        assert_eq!(all[3..].concat(), vec![b'x'; 50_000]);
    }

    #[test]
    fn a_full_log_is_rotated_and_at_most_two_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().to_owned());
        for _ in 0..5 {
            log.write(&[&vec![b'y'; ROTATE as usize / 2][..], b"\n"].concat());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(last(dir.path(), 100).len() <= 100);
    }
}

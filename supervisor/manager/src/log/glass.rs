//! Looking at what stands in a pipe without taking it: tee(2) into a pipe of our own, and reading that.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

/// The pipe that others are looked at through.
#[derive(Debug)]
pub(super) struct Glass {
    read: File,
    write: OwnedFd,
}

impl Glass {
    pub(super) fn new() -> io::Result<Glass> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Glass {
            read: read.into(),
            write,
        })
    }

    /// Makes `window` what stands in `pipe` now, empty if nothing does.
    pub(super) fn look(&mut self, pipe: impl AsFd, window: &mut Vec<u8>) {
        window.clear();
        if let Ok(seen @ 1..) = tee(pipe, &self.write, 1 << 20, SpliceFlags::NONBLOCK) {
            window.resize(seen, 0);
            if self.read.read_exact(window).is_err() {
                window.clear();
            }
        }
    }
}

/// Takes so many bytes out of a pipe that has them.
pub(super) fn empty(pipe: &OwnedFd, count: usize) {
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

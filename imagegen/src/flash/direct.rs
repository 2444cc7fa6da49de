//! Reading and writing past the page cache, and at aligned places of memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, Mode as Bits, OFlags};

/// The alignment that every disk accepts for direct access.
const ALIGN: usize = 4096;

/// Memory whose first byte is aligned for direct access. Zero at first.
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    size: usize,
}

impl Buffer {
    pub(super) fn new(size: usize) -> Buffer {
        let memory = vec![0u8; size + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Buffer { memory, start, size }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.size]
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write { exclusive: bool },
}

/// Opens for direct access; where the file system has none (tmpfs), for the ordinary kind, and tells which. Then what
/// the page cache holds of the file is dropped as far as the kernel allows.
pub(super) fn open(path: &Path, mode: Mode) -> io::Result<(File, bool)> {
    let flags = match mode {
        Mode::Read => OFlags::RDONLY,
        Mode::Write { exclusive: true } => OFlags::RDWR | OFlags::EXCL,
        Mode::Write { exclusive: false } => OFlags::RDWR,
    } | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::DIRECT, Bits::empty()) {
        Ok(file) => Ok((File::from(file), true)),
        Err(rustix::io::Errno::INVAL) => {
            let file = File::from(rustix::fs::open(path, flags, Bits::empty())?);
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            Ok((file, false))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads all of `bytes` from `at`.
pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(bytes, at)
}

/// Writes all of `bytes` at `at`.
pub(super) fn write_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

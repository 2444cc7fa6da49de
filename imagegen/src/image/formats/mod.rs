//! The disk image in the formats of hypervisors. Each writer streams: it reads the raw image block by block, compresses
//! blocks on several threads where the format has compression, and holds a few MiB and the format's own tables.
//! Identifiers come from the `identity` that the caller gives (the disk's GUID), and no format's time stamps are used,
//! so the same image gives the same bytes.

mod qcow2;
mod vhdx;
mod vmdk;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use cairn_disk::Guid;

use super::{Error, write_whole};

/// A disk image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// The bytes of the disk, as a sparse file.
    Raw,
    /// QEMU's, version 3, compressed with zstd (QEMU 5.1 or later).
    Qcow2,
    /// VMware's `streamOptimized`: what OVF appliances carry.
    Vmdk,
    /// Hyper-V's, dynamic.
    Vhdx,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhdx];

    /// The name, which is also the file extension and what `qemu-img -f` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }

    /// The format of a file that starts with these bytes (at least 512); raw if it is none of the others.
    pub fn detect(start: &[u8]) -> Self {
        let begins = |magic: &[u8]| start.starts_with(magic);
        match () {
            () if begins(qcow2::MAGIC) => Self::Qcow2,
            () if begins(vmdk::MAGIC) => Self::Vmdk,
            () if begins(vhdx::MAGIC) => Self::Vhdx,
            () => Self::Raw,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|f| f.name() == text)
            .ok_or_else(|| format!("`{text}` is not a format: use {}", known()))
    }
}

/// Writes the raw image `raw` to `to` in another format, under a temporary name until it is whole.
///
/// # Errors
/// A file cannot be read or written; an earlier file at `to` is then left as it was.
pub fn convert(raw: &File, format: Format, to: &Path, identity: Guid) -> Result<(), Error> {
    write_whole(to, |file| {
        let source = Source::new(raw)?;
        let result = match format {
            Format::Raw => copy(&source, file),
            Format::Qcow2 => qcow2::write(&source, file),
            Format::Vmdk => vmdk::write(&source, file, identity, to),
            Format::Vhdx => vhdx::write(&source, file, identity),
        };
        result.map_err(Error::io("write", to))
    })
}

/// The raw image, in blocks; stretches that the file system knows to be holes are not read.
struct Source<'a> {
    file: &'a File,
    size: u64,
    /// Stretches that may hold data: start and end.
    data: Vec<(u64, u64)>,
}

impl<'a> Source<'a> {
    fn new(file: &'a File) -> Result<Self, Error> {
        let failed = |e: io::Error| Error::Io {
            doing: "read",
            path: "raw image".into(),
            source: e,
        };
        let size = file.metadata().map_err(failed)?.len();
        let (mut data, mut at) = (Vec::new(), 0);
        while at < size {
            // ENXIO means that only a hole is left; any other error, that holes are not told here.
            let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(rustix::io::Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))
                .unwrap_or(size)
                .max(start + 1);
            data.push((start, end.min(size)));
            at = end;
        }
        Ok(Self { file, size, data })
    }

    /// The numbers of all blocks of `unit` bytes that may hold data, in order.
    fn blocks(&self, unit: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.data.iter().flat_map(|(s, e)| s / unit..e.div_ceil(unit)).collect();
        numbers.dedup();
        numbers
    }

    /// One block, filled up with zeros at the end of the image; `None` if it is all zeros.
    fn block(&self, number: u64, unit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; unit as usize];
        let at = number * unit;
        let length = unit.min(self.size.saturating_sub(at)) as usize;
        self.file.read_exact_at(&mut bytes[..length], at)?;
        Ok(bytes
            .chunks(64)
            .any(|c| c.iter().fold(0, |a, b| a | b) != 0)
            .then_some(bytes))
    }

    /// Reads all blocks that are not zeros, turns each into another form on all processors, and hands them to `take`
    /// in order. A few hundred blocks are in memory at a time.
    fn each<T: Send>(
        &self,
        unit: u64,
        make: impl Fn(Vec<u8>) -> io::Result<T> + Sync,
        mut take: impl FnMut(u64, T) -> io::Result<()>,
    ) -> io::Result<()> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(16);
        let batch = threads * ((4 << 20) / unit as usize).max(1);
        let make = &make;
        let work = move |numbers: &[u64]| -> io::Result<Vec<(u64, T)>> {
            let made = numbers
                .iter()
                .map(|n| Ok(self.block(*n, unit)?.map(make).transpose()?.map(|made| (*n, made))));
            made.filter_map(io::Result::transpose).collect()
        };
        for numbers in self.blocks(unit).chunks(batch) {
            let parts = std::thread::scope(|scope| {
                let share = numbers.len().div_ceil(threads);
                let running: Vec<_> = numbers
                    .chunks(share)
                    .map(|part| scope.spawn(move || work(part)))
                    .collect();
                let died = || Err(io::Error::other("a compressing thread died"));
                running
                    .into_iter()
                    .map(|t| t.join().unwrap_or_else(|_| died()))
                    .collect::<io::Result<Vec<_>>>()
            })?;
            for (number, made) in parts.into_iter().flatten() {
                take(number, made)?;
            }
        }
        Ok(())
    }
}

fn copy(source: &Source<'_>, to: &File) -> io::Result<()> {
    to.set_len(source.size)?;
    source.each(1 << 20, Ok, |number, bytes| {
        let at = number << 20;
        to.write_all_at(&bytes[..bytes.len().min((source.size - at) as usize)], at)
    })
}

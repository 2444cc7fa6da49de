//! The little that the formats need of a disk: its size, its sector size, reading, writing and flushing.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

/// The unit in which a disk is addressed and written: 512 or 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes: nearly every virtual disk, and every image file that imagegen writes.
    B512,
    /// 4096 bytes: "4K native" disks.
    B4096,
}

impl SectorSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// The sector size of so many bytes, if it is one that we know.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes())
    }
}

/// A disk. Reads see earlier writes; [`BlockDevice::flush`] returns when all earlier writes survive a power cut.
pub trait BlockDevice {
    /// The size in bytes.
    fn size(&self) -> u64;
    /// The sector size.
    fn sector(&self) -> SectorSize;
    /// Fills `buf` from byte `offset` on; an end of the disk before that is an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at byte `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Waits until what was written is safe.
    fn flush(&mut self) -> io::Result<()>;
}

/// An open block device or image file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
    sector: SectorSize,
}

impl FileDevice {
    /// Takes an open block device (asks the kernel for its sizes) or an image file (512-byte sectors).
    ///
    /// # Errors
    /// The sizes cannot be read, or the sector size is neither 512 nor 4096 bytes.
    pub fn new(file: File) -> io::Result<Self> {
        let bytes = if file.metadata()?.file_type().is_block_device() {
            u64::from(rustix::fs::ioctl_blksszget(&file)?)
        } else {
            512
        };
        let sector = SectorSize::from_bytes(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("sectors of {bytes} bytes are not supported, only 512 and 4096"),
            )
        })?;
        Self::with_sector(file, sector)
    }

    /// Takes an open image file and treats it as a disk with the given sector size.
    ///
    /// # Errors
    /// The size cannot be read.
    pub fn with_sector(mut file: File, sector: SectorSize) -> io::Result<Self> {
        // Seeking gives the size of files and of block devices alike.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size, sector })
    }

    /// The open file, given back.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> SectorSize {
        self.sector
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buf, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Bytes that many threads read at once, by position.
pub trait ReadAt: Sync {
    /// Fills `buf` from byte `offset` on; an end before that is an error.
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..)?.get(..buf.len()));
        buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().fill_at(buf, offset)
    }
}

/// A part of something readable: `len` bytes from `start` on, addressed from zero; for a partition in an image file.
#[derive(Debug)]
pub struct Window<'a, R: ?Sized> {
    inner: &'a R,
    start: u64,
    len: u64,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    /// The `len` bytes of `inner` from `start` on.
    pub fn new(inner: &'a R, start: u64, len: u64) -> Self {
        Self { inner, start, len }
    }

    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.len
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Window<'_, R> {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let at = self.start.checked_add(offset);
        match (end, at) {
            (Some(end), Some(at)) if end <= self.len => self.inner.fill_at(buf, at),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

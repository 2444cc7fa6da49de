//! The disk as an install needs it: a block device that can also be read past the kernel's memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cairn_disk::{BlockDevice, FileDevice, ReadAt, SectorSize};
use rustix::fs::{Advice, OFlags, fadvise};

/// What O_DIRECT asks of addresses in memory: the largest sector.
const ALIGN: usize = 4096;

/// A disk whose own content can be read, not what the kernel remembers of it.
pub trait Disk: BlockDevice {
    /// Reads from the disk itself. What was written before must have been flushed.
    ///
    /// # Errors
    /// The device's.
    fn uncached(&self) -> io::Result<Box<dyn ReadAt + Send>>;
}

/// A whole disk, or an image of one.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    device: FileDevice,
}

impl RealDisk {
    /// Opens it for reading and writing. All of an install goes through the whole disk's node: the nodes of its partitions have caches of
    /// their own, which know nothing of each other.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: FileDevice::new(file)?,
        })
    }
}

impl BlockDevice for RealDisk {
    fn size(&self) -> u64 {
        self.device.size()
    }
    fn sector(&self) -> SectorSize {
        self.device.sector()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.device.write_at(offset, data)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}

impl Disk for RealDisk {
    fn uncached(&self) -> io::Result<Box<dyn ReadAt + Send>> {
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&self.path);
        match direct {
            Ok(file) => Ok(Box::new(Direct(file))),
            // Images on file systems without it: what is clean is forgotten instead.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                let file = File::open(&self.path)?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
                Ok(Box::new(file))
            }
            Err(e) => Err(e),
        }
    }
}

/// A file opened with O_DIRECT.
struct Direct(File);

impl ReadAt for Direct {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = offset / ALIGN as u64 * ALIGN as u64;
        let skip = (offset - start) as usize;
        let length = (skip + buf.len()).next_multiple_of(ALIGN);
        let mut room = vec![0; length + ALIGN];
        let pad = room.as_ptr().align_offset(ALIGN);
        let aligned = room.get_mut(pad..pad + length).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut have = 0;
        while have < skip + buf.len() {
            let read = self.0.read_at(&mut aligned[have..], start + have as u64)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            have += read;
            // A short read in the middle would leave what follows unaligned.
            if have < skip + buf.len() && !have.is_multiple_of(512) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        buf.copy_from_slice(&aligned[skip..skip + buf.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_past_the_cache_is_what_was_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let content: Vec<u8> = (0..64 * 1024_u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
        std::fs::write(&path, &content).unwrap();
        let mut disk = RealDisk::open(&path).unwrap();
        disk.write_at(5000, b"changed").unwrap();
        disk.flush().unwrap();
        let uncached = disk.uncached().unwrap();
        for (at, length) in [(0, 4096), (4990, 30), (8191, 9000), (content.len() - 512, 512)] {
            let (mut one, mut other) = (vec![0; length], vec![1; length]);
            disk.read_at(at as u64, &mut one).unwrap();
            uncached.fill_at(&mut other, at as u64).unwrap();
            assert_eq!(one, other, "at {at}");
        }
        assert!(uncached.fill_at(&mut [0; 16], content.len() as u64).is_err());
    }
}

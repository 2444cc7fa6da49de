//! The initrd: a cpio archive of the "newc" kind (Linux, Documentation/driver-api/early-userspace/buffer-format.rst),
//! compressed with zstd.

use std::io::{self, Write};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file and its content.
    File(Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
    /// A character device, by major and minor number.
    Device(u32, u32),
}

/// One entry, owned by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without a leading slash; folders must come before what is in them.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

const TRAILER: &str = "TRAILER!!!";

/// Writes the archive, uncompressed: entries in the given order, all with the time `epoch` (seconds since 1970).
///
/// # Errors
/// Those of `to`; and an entry of 4 GiB or more.
pub fn write(to: &mut impl Write, entries: &[Entry], epoch: u32) -> io::Result<()> {
    for (inode, entry) in (1..).zip(entries) {
        let (kind, content, device): (u32, &[u8], _) = match &entry.kind {
            Kind::Folder => (0o040_000, &[], (0, 0)),
            Kind::File(content) => (0o100_000, content, (0, 0)),
            Kind::Link(target) => (0o120_000, target.as_bytes(), (0, 0)),
            Kind::Device(major, minor) => (0o020_000, &[], (*major, *minor)),
        };
        let links = if entry.kind == Kind::Folder { 2 } else { 1 };
        record(
            to,
            &entry.path,
            [inode, kind | entry.mode, links, epoch, device.0, device.1],
            content,
        )?;
    }
    record(to, TRAILER, [0, 0, 1, 0, 0, 0], &[])
}

/// One record: inode, mode, links, time, device major and minor; name; content.
fn record(to: &mut impl Write, name: &str, fields: [u32; 6], content: &[u8]) -> io::Result<()> {
    let [inode, mode, links, time, major, minor] = fields;
    let size = u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name}: over 4 GiB")))?;
    let header = [
        inode,
        mode,
        0,
        0,
        links,
        time,
        size,
        0,
        0,
        major,
        minor,
        name.len() as u32 + 1,
        0,
    ];
    to.write_all(b"070701")?;
    for field in header {
        write!(to, "{field:08x}")?;
    }
    // Header and name together, and the content, each end at a multiple of four.
    to.write_all(name.as_bytes())?;
    to.write_all(&[0; 4][..1 + padding(110 + name.len() + 1)])?;
    to.write_all(content)?;
    to.write_all(&[0; 4][..padding(content.len())])
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}

/// The archive, compressed with zstd at `level` (1 to 19: the kernel's decoder refuses larger windows than 8 MiB,
/// which the higher levels use). One thread, so that the bytes do not depend on the machine.
///
/// # Errors
/// As [`write`].
pub fn initrd(entries: &[Entry], epoch: u32, level: i32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level.clamp(1, 19))?;
    encoder.include_checksum(true)?;
    write(&mut encoder, entries, epoch)?;
    encoder.finish()
}

//! The data partition: its file system is made, checked, mounted and grown here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::SYSROOT;
use super::disks::KernelPartition;
use super::failure::{Doing as _, Failure};
use crate::console::{debug, say};
use crate::protocol::FACTORY_RESET;
use crate::sys;

/// What `mkfs.ext4` is told to do for a partition of so many bytes.
fn make_options(bytes: u64) -> String {
    const BLOCK: u64 = 4096;
    const GROWTH: u64 = 16;
    // What can be done later in the background is; nothing is discarded, which can take minutes on slow media.
    let mut options = "quotatype=prjquota,lazy_itable_init=1,lazy_journal_init=1,nodiscard".to_owned();
    // Room for the table of a larger file system is written out here: for sixteen times the size, where mkfs would take a thousand
    // times. Beyond it the kernel goes on in another layout (meta_bg). mkfs takes 32 bits.
    let most = (bytes / BLOCK).saturating_mul(GROWTH);
    if most <= u64::from(u32::MAX) {
        options.push_str(&format!(",resize={most}"));
    }
    options
}

/// Makes the file system: `mkfs.ext4` from the verified root. Returns when it is safe on the disk.
pub(crate) fn format(partition: &KernelPartition) -> Result<(), Failure> {
    let path = partition.path();
    let device = path.to_string_lossy();
    let options = make_options(partition.length);
    let args = [
        "/usr/sbin/mkfs.ext4",
        "-q",
        "-F",
        "-m",
        "1",
        "-L",
        "data",
        // So that what each unit keeps can be bounded.
        "-O",
        "quota,project",
        "-b",
        "4096",
        "-E",
        &options,
        &device,
    ];
    let status = sys::run_in_root(Path::new(SYSROOT), &args).doing(|| "run mkfs.ext4 from the root".to_owned())?;
    if !status.success() {
        return Err(Failure::Tool {
            program: "mkfs.ext4",
            device: device.into_owned(),
            why: status.to_string(),
        });
    }
    let file = File::open(&path).doing(|| format!("open {device}"))?;
    file.sync_all().doing(|| format!("flush {device}"))
}

/// Mounts the data partition on `target`; what a plain mount cannot do is repaired once, as far as that is safe.
pub(crate) fn mount_data(partition: &KernelPartition, target: &str) -> Result<(), Failure> {
    let path = partition.path();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    // A file that was written and closed without fsync must not be empty after a power cut: without delayed allocation its content
    // is on the disk before its length is.
    let superblock = Superblock::read(&path).ok();
    let options = match superblock.as_ref().is_some_and(|s| s.has_projects) {
        true => c"errors=remount-ro,nodelalloc,prjquota",
        // Made by a release that knew no bounds: the manager says so.
        false => c"errors=remount-ro,nodelalloc",
    };
    let attempt = || mount(&path, target, c"ext4", flags, options).map_err(io::Error::from);
    let noted = superblock.is_some_and(|s| s.has_errors);
    let why = if noted {
        "it is marked as having errors".to_owned()
    } else {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        }
    };
    let device = path.to_string_lossy();
    say!("checking the data partition {device}: {why}");
    let status = sys::run_in_root(Path::new(SYSROOT), &["/usr/sbin/e2fsck", "-p", &device])
        .doing(|| "run e2fsck from the root".to_owned())?;
    let failed = |why: String| Failure::Data {
        device: device.clone().into_owned(),
        why,
    };
    if !repaired(status) {
        return Err(failed(format!("{why}; e2fsck -p: {status}")));
    }
    attempt().map_err(|error| failed(error.to_string()))
}

/// Whether the owner asked that all data go: the manager leaves a file, and whoever starts next does it.
pub(crate) fn is_to_be_reset(target: &str) -> bool {
    Path::new(target).join(FACTORY_RESET).exists()
}

/// Undoes [`mount_data`], before anything uses it.
pub(crate) fn unmount_data(target: &str) -> Result<(), Failure> {
    unmount(target, UnmountFlags::empty())
        .map_err(io::Error::from)
        .doing(|| format!("unmount {target} for the factory reset"))
}

/// e2fsck(8): 0 clean, 1 repaired, 2 repaired and a restart is advised (only for a mounted root).
fn repaired(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0..=2))
}

/// Lets the mounted file system use all of its partition.
pub(crate) fn grow(partition: &KernelPartition, target: &str) {
    let result = || -> io::Result<()> {
        let superblock = Superblock::read(&partition.path())?;
        let blocks = partition.length / superblock.block_size;
        if blocks > superblock.blocks {
            debug!("growing data from {} to {blocks} blocks", superblock.blocks);
            sys::ext4_resize(File::open(target)?, blocks)?;
        }
        Ok(())
    };
    if let Err(error) = result() {
        // Not worth a boot: the next one tries again.
        say!("cannot grow the file system on {}: {error}", partition.path().display());
    }
}

/// The few fields of ext4's superblock that matter here (Documentation/filesystems/ext4/super.rst).
struct Superblock {
    block_size: u64,
    blocks: u64,
    has_errors: bool,
    /// Whether it keeps account of projects.
    has_projects: bool,
}

impl Superblock {
    fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = [0; 1024];
        File::open(path)?.read_exact_at(&mut bytes, 1024)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no ext4 superblock"))
    }

    fn parse(bytes: &[u8; 1024]) -> Option<Self> {
        let le32 = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let magic = u16::from_le_bytes([bytes[0x38], bytes[0x39]]);
        let state = u16::from_le_bytes([bytes[0x3a], bytes[0x3b]]);
        let log = le32(0x18);
        // Feature 0x80 of the incompatible ones: the count has a high half.
        let high = if le32(0x60) & 0x80 != 0 { le32(0x150) } else { 0 };
        (magic == 0xef53 && log <= 6).then(|| Self {
            block_size: 1024 << log,
            blocks: u64::from(high) << 32 | u64::from(le32(4)),
            has_errors: state & 2 != 0,
            // RO_COMPAT_QUOTA and RO_COMPAT_PROJECT.
            has_projects: le32(0x64) & 0x2100 == 0x2100,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mkfs_takes_its_options_for_every_size() {
        for bytes in [256 << 20, 6 << 30, (1 << 40) - 4096, 1 << 40, 1 << 43] {
            let file = tempfile::NamedTempFile::new().unwrap();
            if file.as_file().set_len(bytes).is_err() {
                eprintln!("skipped: no file of {bytes} bytes here");
                continue;
            }
            // Without writing anything (-n), which refuses what it cannot make all the same.
            let made = std::process::Command::new("/usr/sbin/mkfs.ext4")
                .args([
                    "-q",
                    "-n",
                    "-F",
                    "-b",
                    "4096",
                    "-O",
                    "quota,project",
                    "-E",
                    &make_options(bytes),
                ])
                .arg(file.path())
                .output();
            match made {
                Ok(made) => assert!(
                    made.status.success(),
                    "{bytes}: {}",
                    String::from_utf8_lossy(&made.stderr)
                ),
                Err(_) => eprintln!("skipped: no mkfs.ext4 here"),
            }
        }
    }

    #[test]
    fn the_superblock_of_a_real_file_system_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let made = std::process::Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-O", "quota,project"])
            .arg(file.path())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no mkfs.ext4 here");
            return;
        }
        let superblock = Superblock::read(file.path()).unwrap();
        assert_eq!(superblock.block_size, 4096);
        assert_eq!(superblock.blocks, (64 << 20) / 4096);
        assert!(!superblock.has_errors && superblock.has_projects);
    }

    #[test]
    fn garbage_is_no_superblock() {
        assert!(Superblock::parse(&[0; 1024]).is_none());
        let mut bytes = [0xff; 1024];
        bytes[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
        assert!(Superblock::parse(&bytes).is_none());
    }
}

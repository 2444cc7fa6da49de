//! A volume with files, as a stick or the seed disk that a cloud attaches.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::HarnessError;

/// The volume's size in bytes: small, and FAT all the same.
const SIZE: u64 = 4 << 20;

/// Makes a FAT volume of this label (at most eleven bytes) without a partition table, with these files in its root.
///
/// # Errors
/// When it cannot be written.
pub fn volume(path: &Path, label: &str, files: &[(&str, &str)]) -> Result<(), HarnessError> {
    made(path, label, files).map_err(HarnessError::io("make the volume", path))
}

fn made(path: &Path, label: &str, files: &[(&str, &str)]) -> io::Result<()> {
    let mut name = [b' '; 11];
    let bytes = name.get_mut(..label.len()).ok_or(io::ErrorKind::InvalidInput)?;
    bytes.copy_from_slice(label.as_bytes());
    let mut disk = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    disk.set_len(SIZE)?;
    fatfs::format_volume(&mut disk, fatfs::FormatVolumeOptions::new().volume_label(name))?;
    let volume = fatfs::FileSystem::new(disk, fatfs::FsOptions::new())?;
    for (name, text) in files {
        volume.root_dir().create_file(name)?.write_all(text.as_bytes())?;
    }
    volume.unmount()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_volume_has_its_label_and_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.raw");
        volume(&path, "CIDATA", &[("setup.toml", "a = 1\n")]).unwrap();
        let volume = fatfs::FileSystem::new(File::open(&path).unwrap(), fatfs::FsOptions::new()).unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        let mut text = String::new();
        let mut file = volume.root_dir().open_file("setup.toml").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a = 1\n");
        assert!(super::volume(&path, "much too long a label", &[]).is_err());
    }
}

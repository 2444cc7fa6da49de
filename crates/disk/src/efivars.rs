//! EFI variables, as the kernel's efivarfs shows them: four bytes of attributes, then the content
//! (Linux, Documentation/filesystems/efivarfs.rst). Here is what the initrd stage and upgrades have in common.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Where efivarfs is mounted.
pub const FOLDER: &str = "/sys/firmware/efi/efivars";
/// systemd-boot's namespace of variables (<https://systemd.io/BOOT_LOADER_INTERFACE/>).
pub const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// `EFI_GLOBAL_VARIABLE`: the specification's own (UEFI 2.10, 3.3).
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Our own.
pub const CAIRN: &str = "d3b6a8f4-6c1e-4f5b-9a27-8e0c5d41b7a2";
/// In our namespace: a line `ID REASON` for each boot entry that stopped before its root was there. Whoever has shown or mended it removes it.
pub const FAILED: &str = "CairnFailed";

/// The boot entry of recovery: a name that is no version's.
pub const RECOVERY: &str = "recovery.efi";
/// The word on the kernel's command line by which the initrd stage is recovery's.
pub const RECOVERY_WORD: &str = "cairn.recovery";

/// Kept over a restart, to be seen by the firmware's programs and by the system.
const ATTRIBUTES: u32 = 7;
/// The most that is read: a variable's store has some 64 KiB for all.
const MAX: u64 = 64 << 10;

/// The variables below a folder.
#[derive(Debug, Clone)]
pub struct EfiVars(PathBuf);

impl Default for EfiVars {
    fn default() -> Self {
        Self::at(Path::new(FOLDER))
    }
}

impl EfiVars {
    /// Those in this folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, vendor: &str, name: &str) -> PathBuf {
        self.0.join(format!("{name}-{vendor}"))
    }

    /// A variable's content; `None` where there is none.
    fn content(&self, vendor: &str, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(vendor, name)).ok()?;
        file.take(MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes.get(4..)?.to_vec())
    }

    /// Whether Secure Boot is in force: firmware starts only programs that are signed by keys that it knows.
    pub fn secure_boot(&self) -> bool {
        self.content(GLOBAL, "SecureBoot").is_some_and(|content| content == [1])
    }

    /// A variable as text (UTF-16 with a zero at the end); `None` where there is none.
    pub fn text(&self, vendor: &str, name: &str) -> Option<String> {
        let units: Vec<u16> = self
            .content(vendor, name)?
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
    }

    /// Sets one.
    ///
    /// # Errors
    /// The firmware's, or there is none.
    pub fn set_text(&self, vendor: &str, name: &str, text: &str) -> io::Result<()> {
        let path = self.path(vendor, name);
        free(&path);
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        // One write: the kernel hands each over as the whole of the variable.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        match file.write(&bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// The firmware's.
    pub fn remove(&self, vendor: &str, name: &str) -> io::Result<()> {
        let path = self.path(vendor, name);
        free(&path);
        match std::fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The kernel marks variables as immutable, so that nobody removes one by accident.
fn free(path: &Path) {
    if let Ok(file) = File::open(path)
        && let Ok(flags) = ioctl_getflags(&file)
    {
        let _ = ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_comes_back_as_it_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let vars = EfiVars::at(folder.path());
        assert_eq!(vars.text(CAIRN, FAILED), None);
        vars.set_text(CAIRN, FAILED, "box_1.0.efi dämaged").unwrap();
        assert_eq!(vars.text(CAIRN, FAILED).as_deref(), Some("box_1.0.efi dämaged"));
        let bytes = std::fs::read(folder.path().join(format!("{FAILED}-{CAIRN}"))).unwrap();
        assert_eq!(bytes[..6], [7, 0, 0, 0, b'b', 0]);
        vars.remove(CAIRN, FAILED).unwrap();
        vars.remove(CAIRN, FAILED).unwrap();
        assert_eq!(vars.text(CAIRN, FAILED), None);
    }

    #[test]
    fn secure_boot_is_in_force_only_where_firmware_says_one() {
        let folder = tempfile::tempdir().unwrap();
        let vars = EfiVars::at(folder.path());
        assert!(!vars.secure_boot());
        for (content, expected) in [
            (&[6, 0, 0, 0, 0][..], false),
            (&[6, 0, 0, 0, 1], true),
            (&[6, 0], false),
        ] {
            std::fs::write(folder.path().join(format!("SecureBoot-{GLOBAL}")), content).unwrap();
            assert_eq!(vars.secure_boot(), expected, "{content:?}");
        }
    }
}

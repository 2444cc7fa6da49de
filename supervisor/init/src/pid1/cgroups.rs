//! In which cgroup a process ended: asked before it is reaped, since a process stays in its cgroup until then. Nothing
//! here allocates.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, fstatfs, open, statat};

use crate::console::Text;
use crate::mounts::CGROUPS;

/// CGROUP2_SUPER_MAGIC (linux/magic.h).
const CGROUP2: u64 = 0x6367_7270;
/// The longest answer of /proc/PID/cgroup that is read. Ours are one short line.
const ROOM: usize = 1024;

/// The root of the cgroups, if there is one.
pub(super) struct Cgroups(Option<OwnedFd>);

impl Cgroups {
    /// Finds cgroup2 where PID 1 mounts it, or where a host with both versions has it.
    pub(super) fn open() -> Self {
        let places = [CGROUPS.to_owned(), format!("{CGROUPS}/unified")];
        let folders = places
            .iter()
            .filter_map(|place| open(place.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok());
        let mut ours = folders.filter(|folder| fstatfs(folder).is_ok_and(|s| s.f_type as u64 == CGROUP2));
        Self(ours.next())
    }

    /// The inode number of the folder of a process's cgroup; 0 if that is not to be found.
    pub(super) fn of(&self, pid: i32) -> u64 {
        let Some(root) = &self.0 else { return 0 };
        let path = Text::<40>::format(format_args!("/proc/{pid}/cgroup\0"));
        let Ok(path) = CStr::from_bytes_with_nul(path.as_bytes()) else {
            return 0;
        };
        let mut text = [0u8; ROOM];
        let length = super::read_file(path, &mut text);
        let Some(folder) = folder(&mut text[..length]) else {
            return 0;
        };
        let folder = if folder.is_empty() { c"." } else { folder };
        statat(root, folder, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_ino)
    }
}

/// The folder below the root from the text of /proc/PID/cgroup (cgroups(7)), whose line of version 2 begins with `0::`. A
/// removed cgroup is marked, and has no folder any more.
fn folder(text: &mut [u8]) -> Option<&CStr> {
    let mut lines = text.split_inclusive_mut(|b| *b == b'\n');
    let line = lines.find(|line| line.starts_with(b"0::/"))?;
    let path = &mut line[b"0::/".len()..];
    // A line that was cut off has no end.
    let end = path.last_mut().filter(|end| **end == b'\n')?;
    *end = 0;
    let path = CStr::from_bytes_with_nul(path).ok()?;
    (!path.to_bytes().ends_with(b" (deleted)")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<std::ffi::CString> {
        folder(&mut text.to_vec()).map(CStr::to_owned)
    }

    #[test]
    fn the_folder_is_read_from_the_line_of_version_two() {
        assert_eq!(read(b"0::/cairn/unit\n").as_deref(), Some(c"cairn/unit"));
        assert_eq!(read(b"4:memory:/x\n0::/\n").as_deref(), Some(c""));
    }

    #[test]
    fn a_removed_or_cut_off_cgroup_is_unknown() {
        assert_eq!(read(b"0::/cairn/unit (deleted)\n"), None);
        assert_eq!(read(b"0::/cairn/un"), None);
        assert_eq!(read(b"4:memory:/x\n"), None);
        assert_eq!(read(b""), None);
        assert_eq!(read(b"0::/"), None);
    }
}

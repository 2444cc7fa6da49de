//! The kernel's own file systems and where they belong: one table for the initrd and for PID 1 in the root.

use std::ffi::CStr;

use rustix::mount::{MountFlags, mount};

/// Where cgroup2 is mounted.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// One line of the table.
pub(crate) struct Mount {
    /// The file system's type, which is also its source.
    pub(crate) kind: &'static str,
    pub(crate) target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// Whether the initrd mounts it already. These move along into the root.
    pub(crate) early: bool,
    /// Whether a kernel without it is as good.
    pub(crate) optional: bool,
}

const NO_DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const PLAIN: MountFlags = NO_DEVICES.union(MountFlags::NOEXEC);

const fn early(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static CStr) -> Mount {
    Mount {
        kind,
        target,
        flags,
        options,
        early: true,
        optional: false,
    }
}

const fn late(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static CStr) -> Mount {
    Mount {
        early: false,
        ..early(kind, target, flags, options)
    }
}

/// In the order in which they are mounted.
pub(crate) const TABLE: [Mount; 9] = [
    early("proc", "/proc", PLAIN, c""),
    early("sysfs", "/sys", PLAIN, c""),
    early("devtmpfs", "/dev", NO_PROGRAMS, c"mode=0755"),
    early("tmpfs", "/run", NO_DEVICES, c"mode=0755,size=20%"),
    late("tmpfs", "/dev/shm", NO_DEVICES, c"mode=1777,size=50%"),
    late("devpts", "/dev/pts", NO_PROGRAMS, c"mode=0620,gid=5,ptmxmode=0666"),
    late("tmpfs", "/tmp", NO_DEVICES, c"mode=1777,size=50%"),
    late("cgroup2", CGROUPS, PLAIN, c"nsdelegate,memory_recursiveprot"),
    Mount {
        optional: true,
        ..late("securityfs", "/sys/kernel/security", PLAIN, c"")
    },
];

impl Mount {
    /// Mounts it; the folder is there.
    pub(crate) fn mount(&self) -> rustix::io::Result<()> {
        mount(self.kind, self.target, self.kind, self.flags, self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_from_the_initrd_into_the_root_is_what_the_initrd_mounts() {
        let early: Vec<_> = TABLE.iter().filter(|m| m.early).map(|m| m.target).collect();
        assert_eq!(early, ["/proc", "/sys", "/dev", "/run"]);
    }

    #[test]
    fn a_folder_is_mounted_before_what_lies_in_it() {
        for (at, mount) in TABLE.iter().enumerate() {
            let outer = |other: &&Mount| mount.target.starts_with(&format!("{}/", other.target));
            let outer = TABLE.iter().filter(outer).count();
            let before = TABLE[..at]
                .iter()
                .filter(|o| mount.target.starts_with(&format!("{}/", o.target)));
            assert_eq!(before.count(), outer, "{}", mount.target);
        }
    }
}

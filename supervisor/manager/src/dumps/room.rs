//! Room on the data partition: looked at before a dump is made or a unit goes back to one, so that neither fills it.

use std::path::Path;

use crate::error::Error;

/// How much a dump may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most bytes of it.
    pub most: u64,
}

/// Whether there is room for a dump on a file system of this size with so much left, after a newest one of this size. All in bytes.
///
/// # Errors
/// There is not, in a sentence.
pub fn room(size: u64, free: u64, newest: Option<u64>) -> Result<Room, String> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    // Of a large disk a tenth is more than anybody needs.
    let size = size.min(20 << 30);
    let needed = (size / 10).max(newest.unwrap_or(0).saturating_mul(2));
    if free < needed {
        return Err(format!(
            "the data partition has {} MiB left, and a dump is made only if {} MiB are; remove what nobody needs",
            free >> 20,
            mib(needed)
        ));
    }
    // A command that does not end leaves the others room.
    Ok(Room { most: free - size / 20 })
}

/// Whether there is room to restore a dump of this size on a file system with so much left, beside what the unit has now, which stays until
/// the next dump. All in bytes. A database made of a dump has indexes too, so it takes more.
///
/// # Errors
/// There is not, in a sentence.
pub fn room_to_restore(size: u64, free: u64, dump: u64) -> Result<(), String> {
    let needed = dump.saturating_mul(2).saturating_add(size.min(20 << 30) / 20);
    if free < needed {
        return Err(format!(
            "the data partition has {} MiB left, and what comes of the dump stands beside what is there now, for which {} MiB are needed; \
             remove what nobody needs",
            free >> 20,
            needed.div_ceil(1 << 20)
        ));
    }
    Ok(())
}

/// The size of the file system that a folder is on, and how much of it is left to units. In bytes.
///
/// # Errors
/// The disk's.
pub(super) fn of_disk(folder: &Path) -> Result<(u64, u64), Error> {
    let found = rustix::fs::statvfs(folder).map_err(Error::io("look at the room on", folder))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok((bytes(found.f_blocks), bytes(found.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_needs_a_tenth_of_the_disk_or_two_gib_and_twice_the_last_one() {
        let mib = |n: u64| n << 20;
        assert_eq!(room(mib(1000), mib(100), None), Ok(Room { most: mib(50) }));
        let why = room(mib(1000), mib(99), None).unwrap_err();
        assert!(
            why.contains("has 99 MiB left") && why.contains("if 100 MiB are"),
            "{why}"
        );
        assert_eq!(room(mib(1 << 20), mib(2048), None), Ok(Room { most: mib(1024) }));
        assert!(room(mib(1000), mib(300), Some(mib(150))).is_ok());
        assert!(room(mib(1000), mib(299), Some(mib(150))).is_err());
    }

    #[test]
    fn a_restore_needs_twice_the_dump_and_leaves_the_others_a_twentieth() {
        let mib = |n: u64| n << 20;
        assert_eq!(room_to_restore(mib(1000), mib(250), mib(100)), Ok(()));
        let why = room_to_restore(mib(1000), mib(249), mib(100)).unwrap_err();
        assert!(
            why.contains("has 249 MiB left") && why.contains("250 MiB are needed"),
            "{why}"
        );
        assert!(room_to_restore(mib(1000), u64::MAX, u64::MAX).is_ok());
    }
}

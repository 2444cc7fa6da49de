//! ioctls. Numbers and layouts come from the kernel's uapi headers, named at each.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

const fn request(direction: u32, kind: u32, number: u32, size: u32) -> libc::c_ulong {
    ((direction << 30) | (size << 16) | (kind << 8) | number) as libc::c_ulong
}

/// The size of `struct dm_ioctl` (linux/dm-ioctl.h).
const DM_HEADER: usize = 312;

/// A device-mapper command. `buffer` starts with a `struct dm_ioctl` whose `data_size` field this fills in; it is made
/// of u64 for its alignment.
pub(crate) fn dm_ioctl(control: impl AsFd, number: u8, buffer: &mut [u64]) -> Result<(), Errno> {
    let bytes = std::mem::size_of_val(buffer);
    if bytes < DM_HEADER {
        return Err(Errno::EINVAL);
    }
    // `data_size` is the u32 at byte 12: the high half of the second u64 (little endian).
    let size = u32::try_from(bytes).map_err(|_| Errno::E2BIG)?;
    buffer[1] = (buffer[1] & 0xffff_ffff) | (u64::from(size) << 32);
    let code = request(3, 0xfd, u32::from(number), DM_HEADER as u32);
    // SAFETY: the kernel reads and writes at most `data_size` bytes, which is the length of the buffer.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), code as _, buffer.as_mut_ptr()) }.into())?;
    Ok(())
}

/// `struct blkpg_partition` (linux/blkpg.h).
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg` (linux/blkpg.h).
#[repr(C)]
struct BlkpgArg {
    op: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

fn blkpg(disk: impl AsFd, op: i32, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    let mut partition = BlkpgPartition {
        start: i64::try_from(start).map_err(|_| Errno::EOVERFLOW)?,
        length: i64::try_from(length).map_err(|_| Errno::EOVERFLOW)?,
        number: i32::try_from(number).map_err(|_| Errno::EOVERFLOW)?,
        names: [0; 128],
    };
    let mut arg = BlkpgArg {
        op,
        flags: 0,
        length: size_of::<BlkpgPartition>() as i32,
        data: &raw mut partition,
    };
    // SAFETY: both structures have the kernel's layout and outlive the call.
    check(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), 0x1269 as _, &raw mut arg) }.into())?;
    Ok(())
}

/// Tells the kernel of a partition that it does not know yet (BLKPG_ADD_PARTITION); bytes.
pub(crate) fn kernel_add_partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    blkpg(disk, 1, number, start, length)
}

/// Tells the kernel of a partition's new length (BLKPG_RESIZE_PARTITION); works while it is in use; bytes.
pub(crate) fn kernel_resize_partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    blkpg(disk, 3, number, start, length)
}

/// Grows the mounted ext4 that `folder` lies on to so many of its blocks (EXT4_IOC_RESIZE_FS, linux/ext4.h).
pub(crate) fn ext4_resize(folder: impl AsFd, blocks: u64) -> Result<(), Errno> {
    let code = request(1, u32::from(b'f'), 16, 8);
    // SAFETY: the kernel reads one u64.
    check(unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), code as _, &raw const blocks) }.into())?;
    Ok(())
}

/// Whether an input device (/dev/input/eventN) has a power key (EVIOCGBIT, linux/input.h).
pub(crate) fn has_power_key(device: impl AsFd) -> bool {
    const EV_KEY: u32 = 1;
    const KEY_POWER: usize = 116;
    let mut keys = [0u8; 96];
    // SAFETY: the kernel writes at most the length that is part of the request's number.
    let result = unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            request(2, u32::from(b'E'), 0x20 + EV_KEY, keys.len() as u32) as _,
            keys.as_mut_ptr(),
        )
    };
    result >= 0 && keys[KEY_POWER / 8] & (1 << (KEY_POWER % 8)) != 0
}

/// Asks for a watchdog timeout in seconds and returns the one that is in force (WDIOC_SETTIMEOUT, linux/watchdog.h).
pub(crate) fn watchdog_set_timeout(device: impl AsFd, seconds: u32) -> Result<u32, Errno> {
    let mut value = i32::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one int.
    let set = check(unsafe { libc::ioctl(fd, request(3, u32::from(b'W'), 6, 4) as _, &raw mut value) }.into());
    if set.is_err() {
        // WDIOC_GETTIMEOUT: a watchdog with a fixed timeout.
        // SAFETY: the kernel writes one int.
        check(unsafe { libc::ioctl(fd, request(2, u32::from(b'W'), 7, 4) as _, &raw mut value) }.into())?;
    }
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// Feeds the watchdog (WDIOC_KEEPALIVE).
pub(crate) fn watchdog_ping(device: impl AsFd) -> Result<(), Errno> {
    let mut value = 0i32;
    let code = request(2, u32::from(b'W'), 5, 4);
    // SAFETY: the kernel writes at most one int.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), code as _, &raw mut value) }.into())?;
    Ok(())
}

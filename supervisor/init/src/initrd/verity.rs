//! The verified view of the root: a device-mapper device with the `verity` target.
//!
//! Spoken to the kernel directly (linux/dm-ioctl.h): create, load the table, resume.

use std::fs::File;
use std::io;

use crate::sys;

/// Commands of linux/dm-ioctl.h.
const CREATE: u8 = 3;
const RESUME: u8 = 6;
const TABLE_LOAD: u8 = 9;
const TABLE_STATUS: u8 = 12;
const REMOVE_ALL: u8 = 1;
/// Flags of linux/dm-ioctl.h.
const READ_ONLY: u32 = 1;

const HEADER: usize = 312;
const NAME: &str = "root";
const UUID: &str = "CAIRN-ROOT";

/// A command buffer: `struct dm_ioctl`, then what belongs to it.
struct Buffer {
    words: Vec<u64>,
}

impl Buffer {
    fn new(payload: usize, flags: u32) -> Self {
        let mut buffer = Self {
            words: vec![0; (HEADER + payload).div_ceil(8)],
        };
        // Version 4.0.0 of the interface; data_size is filled in by the caller of the ioctl.
        buffer.put(0, &4u32.to_ne_bytes());
        buffer.put(16, &(HEADER as u32).to_ne_bytes());
        buffer.put(28, &flags.to_ne_bytes());
        buffer.put(48, NAME.as_bytes());
        buffer
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = at + i;
            if let Some(word) = self.words.get_mut(at / 8) {
                let mut raw = word.to_ne_bytes();
                raw[at % 8] = *byte;
                *word = u64::from_ne_bytes(raw);
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn call(&mut self, control: &File, command: u8) -> io::Result<()> {
        Ok(sys::dm_ioctl(control, command, &mut self.words)?)
    }
}

/// The device that shows only what the root hash stands for.
pub(crate) struct Verified {
    control: File,
    /// Its device node.
    pub(crate) node: String,
}

impl Verified {
    /// Sets it up; `params` and `sectors` describe the target.
    pub(crate) fn open(params: &str, sectors: u64) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/mapper/control")?;
        let mut create = Buffer::new(0, READ_ONLY);
        create.put(176, UUID.as_bytes());
        create.call(&control, CREATE)?;
        let device = u64::from_ne_bytes(create.words[5].to_ne_bytes());
        // The kernel's "huge" encoding of a device number: minor bits 0-7 and 20-31.
        let minor = (device & 0xff) | ((device >> 12) & 0xfff00);

        // struct dm_target_spec: start, length, status, next, name; then the parameters with a final zero.
        let mut load = Buffer::new(40 + params.len() + 1, READ_ONLY);
        load.put(20, &1u32.to_ne_bytes());
        load.put(HEADER + 8, &sectors.to_ne_bytes());
        load.put(HEADER + 24, b"verity");
        load.put(HEADER + 40, params.as_bytes());
        load.call(&control, TABLE_LOAD)?;
        Buffer::new(0, 0).call(&control, RESUME)?;
        Ok(Self {
            control,
            node: format!("/dev/dm-{minor}"),
        })
    }

    /// Whether the kernel has met a block that does not match its hash.
    pub(crate) fn is_corrupted(&self) -> bool {
        let mut status = Buffer::new(4096, 0);
        if status.call(&self.control, TABLE_STATUS).is_err() {
            return false;
        }
        // The status text stands behind the one target's description: 'V' or 'C'.
        status.bytes().get(HEADER + 40) == Some(&b'C')
    }
}

/// Removes every device-mapper device that nothing uses, at shutdown. Failure is of no interest then. Allocates nothing.
pub(crate) fn remove_unused() {
    let mut words = [0u64; HEADER / 8];
    words[0] = 4;
    words[2] = HEADER as u64;
    if let Ok(control) = rustix::fs::open(
        c"/dev/mapper/control",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) {
        let _ = sys::dm_ioctl(&control, REMOVE_ALL, &mut words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_layout_of_struct_dm_ioctl() {
        let mut buffer = Buffer::new(40, READ_ONLY);
        buffer.put(20, &1u32.to_ne_bytes());
        let bytes = buffer.bytes();
        assert_eq!(bytes.len(), 352);
        assert_eq!(&bytes[0..4], &4u32.to_ne_bytes());
        assert_eq!(&bytes[16..20], &312u32.to_ne_bytes());
        assert_eq!(&bytes[20..24], &1u32.to_ne_bytes());
        assert_eq!(&bytes[28..32], &1u32.to_ne_bytes());
        assert_eq!(&bytes[48..53], b"root\0");
    }
}

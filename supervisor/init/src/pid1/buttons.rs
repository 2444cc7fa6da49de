//! Power buttons: input devices that have a power key, read directly. No ACPI daemon.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use crate::console::Text;
use crate::sys;

/// More than any machine has.
const DEVICES: usize = 32;
const MOST: usize = 8;
/// `struct input_event` on 64-bit machines (linux/input.h): time (16), type (2), code (2), value (4).
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// The open devices.
pub(super) struct Buttons {
    /// With the number in its name.
    open: [Option<(usize, OwnedFd)>; MOST],
}

impl Buttons {
    pub(super) fn new() -> Self {
        Self {
            open: [const { None }; MOST],
        }
    }

    /// Opens the devices with a power key that are not open yet: after modules were loaded or a device came. Those
    /// that are open stay so, or a press would be lost.
    pub(super) fn scan(&mut self, mut watch: impl FnMut(&OwnedFd)) {
        for number in 0..DEVICES {
            if self.open.iter().flatten().any(|(own, _)| *own == number) {
                continue;
            }
            let path = Text::<40>::format(format_args!("/dev/input/event{number}\0"));
            let Ok(path) = std::ffi::CStr::from_bytes_with_nul(path.as_bytes()) else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(device) = open(path, flags, Mode::empty())
                && sys::has_power_key(&device)
                && let Some(slot) = self.open.iter_mut().find(|slot| slot.is_none())
            {
                watch(&device);
                *slot = Some((number, device));
            }
        }
    }

    /// Whether a power key went down since the last call. A device that fails (unplugged) is closed.
    pub(super) fn pressed(&mut self) -> bool {
        let mut pressed = false;
        for slot in &mut self.open {
            let mut events = [0u8; 16 * EVENT];
            while let Some((_, device)) = slot {
                match rustix::io::read(&*device, &mut events) {
                    Ok(n) if n > 0 => pressed |= events[..n].chunks_exact(EVENT).any(is_press),
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                    _ => *slot = None,
                }
            }
        }
        pressed
    }
}

fn is_press(event: &[u8]) -> bool {
    let u16_at = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    u16_at(16) == EV_KEY && u16_at(18) == KEY_POWER && event[20..24] == 1i32.to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0xaa; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_pressing_the_power_key_counts() {
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)), "release");
        assert!(!is_press(&event(1, 30, 1)), "another key");
        assert!(!is_press(&event(4, 116, 1)), "not a key");
    }
}

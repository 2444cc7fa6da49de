//! The kernel's announcements of devices, only as a bell: what changed is then read from /sys.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// An open subscription.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Subscribes; what happens from now on rings.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        // Group 1 is the kernel's own; group 2 would be udev's.
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Self(socket))
    }

    /// Waits until something was announced (true) or the time is over (false), and forgets all announcements so far.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return false,
                Ok(_) => {
                    self.drain();
                    return true;
                }
                Err(Errno::INTR) => {}
                // Cannot happen with a good socket; a short sleep keeps it from becoming a busy loop.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn drain(&self) {
        let mut buffer = [0u8; 4096];
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                // Overrun: announcements were lost, which a bell does not mind.
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

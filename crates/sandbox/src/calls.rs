//! Calls of a sandbox that wait for a listener.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};

use crate::sys;

/// Waits for the next call; none when there is nobody left who could call.
pub(crate) fn next(listener: &OwnedFd) -> io::Result<Option<libc::seccomp_notif>> {
    loop {
        let mut watched = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let ready = watched[0].revents();
        if !ready.contains(PollFlags::IN) {
            return match ready {
                ready if ready.contains(PollFlags::NVAL) => Err(io::ErrorKind::InvalidInput.into()),
                _ => Ok(None),
            };
        }
        match sys::notification(listener) {
            Ok(call) => return Ok(Some(call)),
            // The caller was killed before it was heard.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
}

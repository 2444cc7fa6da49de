//! Moves [`crate::protocol`] frames and their descriptors over a `SOCK_SEQPACKET` socket.
//!
//! Both functions never block (`MSG_DONTWAIT`), allocate nothing, and never leak a descriptor:
//! what is received is close-on-exec and owned, what is too much is closed by the kernel or here.

use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::protocol::{FRAME_LEN, Frame, MAX_FDS};

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// A packet that arrived.
pub struct Packet {
    bytes: [u8; FRAME_LEN + 1],
    len: usize,
    /// The descriptors that came with it, in order; the first `fd_count` are set.
    pub fds: [Option<OwnedFd>; MAX_FDS],
    /// How many descriptors came with it.
    pub fd_count: usize,
}

impl Packet {
    /// The bytes, at most one more than a frame, so that a longer packet is seen to be wrong.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Sends one frame with its descriptors.
///
/// # Errors
/// `EAGAIN` when the socket is full (wait until it is writable), `EPIPE` when the peer is gone,
/// `E2BIG` for more than [`MAX_FDS`] descriptors.
pub fn send(socket: impl AsFd, frame: &Frame, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, &[IoSlice::new(frame)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives one packet; `None` when the peer has closed its end.
///
/// # Errors
/// `EAGAIN` when nothing is there: wait until the socket is readable. Others mean that the socket is of no use.
pub fn receive(socket: impl AsFd) -> Result<Option<Packet>, Errno> {
    let mut packet = Packet {
        bytes: [0; FRAME_LEN + 1],
        len: 0,
        fds: [const { None }; MAX_FDS],
        fd_count: 0,
    };
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut packet.bytes)];
        match recvmsg(&socket, &mut slices, &mut control, flags) {
            Ok(received) => break received,
            // A peer that died with unread messages leaves this error once, ahead of what it had sent: read on.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error),
        }
    };
    packet.len = received.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                if let Some(slot) = packet.fds.get_mut(packet.fd_count) {
                    *slot = Some(fd);
                }
                packet.fd_count += 1;
            }
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The kernel closed what did not fit: a count that no message has makes it malformed.
        packet.fd_count = MAX_FDS + 1;
    }
    if packet.len == 0 && packet.fd_count == 0 {
        return Ok(None);
    }
    Ok(Some(packet))
}

//! What the helper and the sandbox's first process say to each other: descriptors, then "go", then the end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};

use crate::report::Report;

const DESCRIPTOR: u8 = b'D';
const GO: u8 = b'G';
/// The first process could not do its part, and has said why on the status socket.
pub(crate) const FAILED: u8 = b'X';

/// Hands a descriptor over.
pub(crate) fn send(socket: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    send_with(socket, &[DESCRIPTOR], descriptor)
}

/// Hands the listener of a command's calls to whoever has the status socket.
pub(crate) fn listener(status: &OwnedFd, listener: &OwnedFd) -> io::Result<()> {
    send_with(status, &Report::Listener { listener: true }.to_line(), listener)
}

fn send_with(socket: &OwnedFd, bytes: &[u8], descriptor: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Says that everything has been provided.
pub(crate) fn go(socket: &OwnedFd) -> io::Result<()> {
    say(socket, GO)
}

/// Says one word.
pub(crate) fn say(socket: &OwnedFd, word: u8) -> io::Result<()> {
    rustix::net::send(socket, &[word], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what is handed over until "go".
///
/// # Errors
/// `UnexpectedEof` if the other side has gone.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    loop {
        let mut word = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let read = match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut word)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => continue,
            read => read?.bytes,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        match (read, word[0]) {
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (_, GO) => return Ok(descriptors),
            _ => {}
        }
    }
}

/// Waits until the other side says a word or has gone (none): closed by exec, or by its death.
pub(crate) fn await_end(socket: &OwnedFd) -> Option<u8> {
    let mut word = [0];
    loop {
        match recv(socket, &mut word, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok((1, _)) => return Some(word[0]),
            _ => return None,
        }
    }
}

//! The sd_notify protocol: datagrams of `KEY=VALUE` lines, from processes of the unit only.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It serves.
    Ready,
    /// It is on its way down.
    Stopping,
    /// What it is doing, for people: printable, at most 200 characters.
    Status(String),
}

/// Reads one message; what is not known is skipped.
pub fn parse(message: &[u8]) -> Vec<Word> {
    let text = String::from_utf8_lossy(message);
    text.lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Word::Ready),
            ("STOPPING", "1") => Some(Word::Stopping),
            ("STATUS", text) => Some(Word::Status(
                text.chars().filter(|c| !c.is_control()).take(200).collect(),
            )),
            _ => None,
        })
        .collect()
}

/// Takes the next message whose sender `trusted` accepts by its user id; `None` when nothing is left.
pub(crate) fn receive(socket: impl AsFd, trusted: impl Fn(u32) -> bool) -> Option<Vec<Word>> {
    loop {
        let mut bytes = [0u8; 4096];
        // Room for one descriptor more than is wanted: what comes is closed here.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        };
        let mut sender = None;
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmCredentials(who) => sender = Some(who.uid.as_raw()),
                RecvAncillaryMessage::ScmRights(fds) => drop(fds.collect::<Vec<_>>()),
                _ => {}
            }
        }
        if received.flags.contains(ReturnFlags::TRUNC) || !sender.is_some_and(&trusted) {
            continue;
        }
        return Some(parse(&bytes[..received.bytes]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_skipped() {
        let words = parse(b"MAINPID=3\nREADY=1\nSTATUS=a\x1b[2Jb\nREADY=0\nnonsense\n\xff=\nSTOPPING=1");
        assert_eq!(words, [Word::Ready, Word::Status("a[2Jb".into()), Word::Stopping]);
    }

    #[test]
    fn a_stranger_is_not_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let socket = crate::io::notify_socket(&path).unwrap();
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.send_to(b"READY=1", &path).unwrap();
        assert_eq!(receive(&socket, |_| false), None);
        client.send_to(b"READY=1", &path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(receive(&socket, |uid| uid == own), Some(vec![Word::Ready]));
    }
}

//! The sd_notify protocol (sd_notify(3)): datagrams of `KEY=VALUE` lines, with descriptors, from processes of the unit only.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// The most descriptors in one message: what the kernel lets through at once (SCM_MAX_FD).
const MAX_FDS: usize = 253;
/// The longest text about itself that is kept, in characters.
const LONGEST_STATUS: usize = 200;
/// The longest name of a stored descriptor (sd_pid_notify_with_fds(3)).
const LONGEST_NAME: usize = 255;

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It serves, or has finished reloading.
    Ready,
    /// It reads its configuration again, since this time of the monotonic clock in microseconds.
    Reloading(u64),
    /// It is on its way down.
    Stopping,
    /// What it is doing, for people: printable, at most 200 characters.
    Status(String),
    /// It is alive.
    Watchdog,
    /// It knows itself that it is not well.
    WatchdogTrigger,
    /// From now on it says so within this time, in microseconds.
    WatchdogEvery(u64),
    /// It needs so many microseconds more, from now on.
    Extend(u64),
    /// Its main process is another one, by its number inside the unit.
    MainPid(i32),
    /// It failed for this reason of the kernel.
    Errno(i32),
    /// The descriptors that came along are to be kept for its next start, under this name.
    Store(String),
    /// The descriptors kept under this name are not needed any more.
    Remove(String),
}

/// One message.
#[derive(Debug, Default)]
pub struct Message {
    /// What it says, in its order.
    pub words: Vec<Word>,
    /// What came along. A barrier's descriptor is closed when the message is dropped: that is the answer.
    pub fds: Vec<OwnedFd>,
}

/// Reads one message's text; what is not known is skipped.
pub fn parse(message: &[u8]) -> Vec<Word> {
    let text = String::from_utf8_lossy(message);
    let field = |wanted: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| value)
    };
    let number = |value: &str| value.parse::<u64>().ok();
    let name = || {
        let given = field("FDNAME").filter(|name| {
            let fine = |c: char| c.is_ascii_graphic() && c != ':';
            !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fine)
        });
        given.unwrap_or("stored").to_owned()
    };
    text.lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Word::Ready),
            ("RELOADING", "1") => Some(Word::Reloading(field("MONOTONIC_USEC").and_then(number).unwrap_or(0))),
            ("STOPPING", "1") => Some(Word::Stopping),
            ("STATUS", text) => Some(Word::Status(
                text.chars().filter(|c| !c.is_control()).take(LONGEST_STATUS).collect(),
            )),
            ("WATCHDOG", "1") => Some(Word::Watchdog),
            ("WATCHDOG", "trigger") => Some(Word::WatchdogTrigger),
            ("WATCHDOG_USEC", value) => number(value).filter(|us| *us > 0).map(Word::WatchdogEvery),
            ("EXTEND_TIMEOUT_USEC", value) => number(value).map(Word::Extend),
            ("MAINPID", value) => value.parse().ok().filter(|pid| *pid > 0).map(Word::MainPid),
            ("ERRNO", value) => value
                .parse()
                .ok()
                .filter(|errno| (1..4096).contains(errno))
                .map(Word::Errno),
            ("FDSTORE", "1") => Some(Word::Store(name())),
            ("FDSTOREREMOVE", "1") => Some(Word::Remove(name())),
            _ => None,
        })
        .collect()
}

/// Shows the next message whose sender `trusted` accepts by its user id, and throws those before it away; `None` when nothing is left.
/// It is there until it is taken: a manager that is killed before it has saved what it was told leaves it to its successor.
pub(crate) fn peek(socket: impl AsFd, trusted: impl Fn(u32) -> bool) -> Option<Message> {
    loop {
        let mut bytes = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK;
        let received = match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        };
        let (mut sender, mut fds) = (None, Vec::new());
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmCredentials(who) => sender = Some(who.uid.as_raw()),
                RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                _ => {}
            }
        }
        let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        if cut || !sender.is_some_and(&trusted) {
            take(&socket);
            continue;
        }
        let words = parse(&bytes[..received.bytes]);
        return Some(Message { words, fds });
    }
}

/// Takes the next message, and closes what came along: it had its copies in [`peek`].
pub(crate) fn take(socket: impl AsFd) {
    while rustix::net::recv(&socket, &mut [0u8; 1], RecvFlags::DONTWAIT) == Err(rustix::io::Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_protocol_is_understood() {
        let said = |text: &str| parse(text.as_bytes());
        assert_eq!(said("READY=1\nSTATUS=up"), [Word::Ready, Word::Status("up".into())]);
        assert_eq!(said("RELOADING=1\nMONOTONIC_USEC=77"), [Word::Reloading(77)]);
        assert_eq!(said("STOPPING=1"), [Word::Stopping]);
        assert_eq!(said("WATCHDOG=1"), [Word::Watchdog]);
        assert_eq!(said("WATCHDOG=trigger"), [Word::WatchdogTrigger]);
        assert_eq!(said("WATCHDOG_USEC=5000000"), [Word::WatchdogEvery(5_000_000)]);
        assert_eq!(said("EXTEND_TIMEOUT_USEC=900"), [Word::Extend(900)]);
        assert_eq!(said("MAINPID=12"), [Word::MainPid(12)]);
        assert_eq!(said("ERRNO=2"), [Word::Errno(2)]);
        assert_eq!(said("FDSTORE=1\nFDNAME=web"), [Word::Store("web".into())]);
        assert_eq!(said("FDSTORE=1"), [Word::Store("stored".into())]);
        assert_eq!(said("FDSTOREREMOVE=1\nFDNAME=web"), [Word::Remove("web".into())]);
    }

    #[test]
    fn what_is_not_understood_is_skipped() {
        let words = parse(b"X=3\nREADY=1\nSTATUS=a\x1b[2Jb\nREADY=0\nnonsense\n\xff=\nSTOPPING=1\nMAINPID=-1\nERRNO=0\nWATCHDOG_USEC=0");
        assert_eq!(words, [Word::Ready, Word::Status("a[2Jb".into()), Word::Stopping]);
        assert_eq!(parse(b"FDSTORE=1\nFDNAME=a:b"), [Word::Store("stored".into())]);
    }

    #[test]
    fn a_stranger_is_not_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let socket = crate::io::notify_socket(&path).unwrap();
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.send_to(b"READY=1", &path).unwrap();
        assert!(peek(&socket, |_| false).is_none());
        client.send_to(b"READY=1", &path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(peek(&socket, |uid| uid == own).unwrap().words, [Word::Ready]);
        assert_eq!(
            peek(&socket, |_| true).unwrap().words,
            [Word::Ready],
            "until it is taken"
        );
        take(&socket);
        assert!(peek(&socket, |_| true).is_none());
    }

    #[test]
    fn a_barrier_is_answered_by_closing_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let socket = crate::io::notify_socket(&path).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [write.as_fd()];
        control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
        let text = [std::io::IoSlice::new(b"BARRIER=1")];
        rustix::net::sendmsg(&client, &text, &mut control, rustix::net::SendFlags::empty()).unwrap();
        drop(write);
        let message = peek(&socket, |_| true).unwrap();
        assert_eq!((message.words.len(), message.fds.len()), (0, 1));
        take(&socket);
        drop(message);
        assert_eq!(
            rustix::io::read(&read, &mut [0u8; 1]).unwrap(),
            0,
            "the other end is closed"
        );
    }
}

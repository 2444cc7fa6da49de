//! A unit's `/dev/log`: a datagram socket that takes what syslog(3) sends, from processes of the unit only.
//!
//! A message is looked at, stored, and only then taken from the socket. A manager that is killed in between leaves it there; the
//! note has the time at which the kernel took it, so a successor knows it again and does not store it twice.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use cairn_log::{Entry, FieldName, Origin, PIECE, Part, Priority, Seq, Stream, Verdict, syslog};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::source::{Progress, Source, Tools};
use crate::clock::{now_ns, real_ns};

/// The longest message that is looked at in whole, in bytes; a socket takes little more.
pub(super) const LONGEST: usize = 256 << 10;
/// So many messages of one unit are taken before others have their turn.
const TURN: usize = 64;

/// A unit's socket.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) socket: OwnedFd,
    /// The unit's ids, as the host has them.
    ids: Range<u32>,
    /// Below a test's prefix units run as the caller.
    own: Option<u32>,
    /// The socket was another manager's: its first message may be stored already.
    adopted: bool,
}

/// A message that was about to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    first: Seq,
    places: u64,
    time: u64,
    hash: u64,
}

/// The socket, at `path`.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // The unit's accounts are nobody here. Only its own sandbox has the socket: the folder is closed to all others.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// What a look at the socket shows.
struct Look {
    length: usize,
    sender: Option<UnixCredentials>,
    time: u64,
}

/// Looks at the next message without taking it.
fn look(socket: &OwnedFd, buffer: &mut [u8]) -> Option<Look> {
    // No room for descriptors: what is sent along never comes into being here, and such a message has no sender.
    let mut space = cmsg_space!(TimeSpec, UnixCredentials);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let mut parts = [IoSliceMut::new(buffer)];
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other.ok()?,
        }
    };
    let mut seen = Look {
        length: received.bytes,
        sender: None,
        time: real_ns(),
    };
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmCredentials(sender) => seen.sender = Some(sender),
            ControlMessageOwned::ScmTimestampns(time) => {
                let part = |n: i64| u64::try_from(n).unwrap_or(0);
                seen.time = part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec());
            }
            _ => {}
        }
    }
    Some(seen)
}

fn take(socket: &OwnedFd) {
    let _ = rustix::net::recv(socket, &mut [0_u8; 1][..], RecvFlags::DONTWAIT);
}

impl Heard {
    pub(super) fn new(socket: OwnedFd, ids: Range<u32>, own: Option<u32>, adopted: bool) -> Heard {
        Heard {
            socket,
            ids,
            own,
            adopted,
        }
    }

    /// Whether the first message is one that an earlier manager may have stored.
    pub(super) fn is_adopted(&self) -> bool {
        self.adopted
    }

    fn trusts(&self, uid: u32) -> bool {
        self.ids.contains(&uid) || self.own == Some(uid)
    }
}

/// What becomes of the message at the socket's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    None,
    /// It is done with: it can be taken from the socket.
    Take,
    /// The store did not take it.
    Stuck,
}

impl Source {
    /// Stores what has come through the unit's `/dev/log`.
    pub(super) fn listen(&mut self, tools: &mut Tools) -> Progress {
        let mut buffer = std::mem::take(&mut tools.buffer);
        buffer.resize(LONGEST, 0);
        let mut progress = Progress::More;
        for _ in 0..TURN {
            progress = match (self.hear(tools, &mut buffer), &self.heard) {
                (Next::Take, Some(heard)) => {
                    take(&heard.socket);
                    continue;
                }
                (Next::Stuck, _) => Progress::Stuck,
                _ => Progress::Idle,
            };
            break;
        }
        tools.buffer = buffer;
        progress
    }

    /// Stores the message that stands at the socket's head.
    pub(super) fn hear(&mut self, tools: &mut Tools, buffer: &mut [u8]) -> Next {
        let Some(heard) = &mut self.heard else {
            return Next::None;
        };
        let Some(seen) = look(&heard.socket, buffer) else {
            // What comes from now on is stored by nobody else.
            heard.adopted = false;
            return Next::None;
        };
        let bytes = &buffer[..seen.length.min(LONGEST)];
        let Some(sender) = seen.sender.filter(|sender| heard.trusts(sender.uid())) else {
            return Next::Take;
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let (time, hash) = (seen.time, hasher.finish());
        let first_look = std::mem::take(&mut heard.adopted);
        if let Some(sent) = self
            .note
            .sent
            .filter(|sent| first_look && (sent.time, sent.hash) == (time, hash))
        {
            match tools.sink.stored_from(&self.name, sent.first) {
                Ok(stored) if stored >= sent.places => return Next::Take,
                Ok(_) => {}
                Err(_) => {
                    heard.adopted = true;
                    return self.unheard(tools);
                }
            }
        }
        let mut flood = self.note.flood;
        match flood.admit(now_ns()) {
            Verdict::Pass => {}
            Verdict::PassAfter(dropped) => {
                let _ = self.tell(&mut tools.sink, Priority::Warning, &dropped.text());
            }
            Verdict::Drop => {
                self.note.flood = flood;
                return Next::Take;
            }
        }
        let Ok(first) = tools.sink.next_place(&self.name) else {
            return self.unheard(tools);
        };
        let mut read = syslog::parse(bytes);
        let who = [
            ("_PID", sender.pid().to_string()),
            ("_UID", sender.uid().to_string()),
            ("_GID", sender.gid().to_string()),
        ];
        for (name, value) in who {
            read.origin
                .fields
                .extend(FieldName::new(name).ok().map(|name| (name, value.into_bytes())));
        }
        let bare = Origin::new(Stream::Syslog, read.origin.priority);
        let mut entry = Entry {
            realtime: time,
            monotonic: now_ns().saturating_sub(real_ns().saturating_sub(time)),
            origin: &read.origin,
            part: Part::Whole,
            message: read.message,
        };
        let places = entry.message.len().div_ceil(PIECE).max(1) as u64;
        self.watch_for(bytes);
        let before = self.note.sent.replace(Sent {
            first,
            places,
            time,
            hash,
        });
        self.file.write(&self.note);
        let mut done = tools.sink.append(&self.name, &[entry]);
        if matches!(done, Err(cairn_log::Error::Fields { .. })) {
            // Too much beside the message: it is kept as it came.
            (entry.origin, entry.message) = (&bare, bytes);
            done = tools.sink.append(&self.name, &[entry]);
        }
        if done.is_err() {
            self.note.sent = before;
            self.file.write(&self.note);
            return self.unheard(tools);
        }
        self.note.flood = flood;
        self.remember(bytes);
        Next::Take
    }

    /// The store does not take a message: it waits, and in the end is lost.
    fn unheard(&mut self, tools: &mut Tools) -> Next {
        if !tools.sink.gives_up() {
            return Next::Stuck;
        }
        self.lost += 1;
        Next::Take
    }
}

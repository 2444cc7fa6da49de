//! The messages between cairn-init and cairn-manager.
//!
//! They travel over one `SOCK_SEQPACKET` socket pair: the manager finds its end at fd 3
//! ([`MANAGER_FD`]). Every message is one packet of exactly [`FRAME_LEN`] bytes, and some carry
//! file descriptors. Integers are little endian; unused bytes are zero, and a message with
//! anything else in them is refused.
//!
//! ```text
//! byte 0   version (1)
//! byte 1   kind: requests count from 1, events from 128
//! byte 2   how many descriptors travel with it
//! byte 3-7 zero
//! byte 8.. the fields in the order of the Rust declaration, then zeros
//! ```
//!
//! What the two sides promise:
//! - A request that was sent before a manager died is still carried out, in order.
//! - Nothing but [`Request::Hello`] makes init talk to a manager; before it, init only listens.
//! - After `Hello`: one [`Event::Welcome`], every process still running that was asked for
//!   ([`Event::Running`]), every stored descriptor ([`Event::Stored`]), then [`Event::Resumed`],
//!   then every exit not acknowledged yet. A manager may send `Hello` again (after an exec).
//! - Every process that init reaps is one [`Event::Exited`] with a number that never repeats in
//!   this boot; it is sent again to each new manager until [`Request::Ack`] names it or a later one.
//! - A malformed request is answered by [`Event::Refused`]; the connection stays open.
//!
//! This module allocates nothing and does no I/O; [`crate::channel`] moves frames and descriptors.

use core::fmt;

/// The descriptor at which a manager finds its end of the socket pair.
pub const MANAGER_FD: i32 = 3;
/// The version byte of every message.
pub const VERSION: u8 = 1;
/// The length of every message in bytes.
pub const FRAME_LEN: usize = 96;
/// The most descriptors that one message carries.
pub const MAX_FDS: usize = 6;
/// The length of a stored descriptor's name in bytes.
pub const STORE_ID_LEN: usize = 64;
/// How many descriptors init keeps for managers to come.
pub const STORE_CAPACITY: usize = 1024;
/// How many processes asked for by [`Request::Spawn`] can run at once.
pub const RUNNING_CAPACITY: usize = 2048;

/// One message as it stands on the wire.
pub type Frame = [u8; FRAME_LEN];

const BODY: usize = 8;

/// The name under which a descriptor is stored: 1 to 64 bytes, no NUL, padded with NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId([u8; STORE_ID_LEN]);

impl StoreId {
    /// A name from its bytes; `None` if it is empty, longer than 64 bytes or holds a NUL.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > STORE_ID_LEN || name.contains(&0) {
            return None;
        }
        let mut id = [0; STORE_ID_LEN];
        id[..name.len()].copy_from_slice(name);
        Some(Self(id))
    }

    /// The name without its padding.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(STORE_ID_LEN);
        &self.0[..len]
    }

    fn from_wire(bytes: [u8; STORE_ID_LEN]) -> Option<Self> {
        let len = bytes.iter().position(|b| *b == 0).unwrap_or(STORE_ID_LEN);
        let padded = bytes[len..].iter().all(|b| *b == 0);
        (len > 0 && padded).then_some(Self(bytes))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({})", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// How the machine is to end this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerKind {
    /// Switch the machine off.
    PowerOff,
    /// Start it again.
    Reboot,
    /// Stop, and leave it switched on.
    Halt,
}

impl PowerKind {
    fn to_wire(self) -> u32 {
        match self {
            Self::PowerOff => 1,
            Self::Reboot => 2,
            Self::Halt => 3,
        }
    }

    fn from_wire(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::PowerOff),
            2 => Some(Self::Reboot),
            3 => Some(Self::Halt),
            _ => None,
        }
    }
}

/// How a process ended, as wait4(2) reports it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// The exit code, if the process ended by itself.
    pub fn code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8) & 0xff)
    }

    /// The signal that ended the process, if one did.
    pub fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }

    /// Whether the signal also wrote a core file.
    pub fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & 0x80 != 0
    }

    /// Whether the process ended by itself with code 0.
    pub fn success(self) -> bool {
        self.code() == Some(0)
    }
}

impl fmt::Debug for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(signal)) if self.core_dumped() => write!(f, "signal {signal}, core dumped"),
            (_, Some(signal)) => write!(f, "signal {signal}"),
            _ => write!(f, "wait status {:#x}", self.0),
        }
    }
}

/// What a manager asks of init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// "I am here": init answers with everything it holds, see the module's text.
    Hello,
    /// Start cairn-exec. Descriptors, in this order: the plan (memfd), the cgroup's folder,
    /// stdin, stdout, stderr, the status socket. cairn-exec finds the plan at fd 3 and the status
    /// socket at fd 4. Answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// The manager's own name for this process, not 0; unique among running ones.
        token: u64,
    },
    /// Every exit up to and including `seq` is known; init forgets them.
    Ack {
        /// The number of the last exit known.
        seq: u64,
    },
    /// Keep the one descriptor that comes with this for the next manager. A descriptor
    /// already stored under that name is replaced. Not answered unless it fails.
    Store {
        /// The name under which [`Event::Stored`] hands it back.
        id: StoreId,
    },
    /// Forget a stored descriptor. A name that is not there is no error.
    Remove {
        /// The descriptor's name.
        id: StoreId,
    },
    /// End this boot now: the units are stopped. Init stops what is left, unmounts and does it.
    Shutdown {
        /// What to do at the end.
        kind: PowerKind,
        /// How long what is left may take between SIGTERM and SIGKILL, in milliseconds.
        deadline_ms: u32,
    },
}

/// What init tells a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first answer to `Hello`.
    Welcome {
        /// How many managers ran before this one in this boot.
        generation: u32,
        /// How many [`Event::Running`] follow.
        running: u32,
        /// How many [`Event::Stored`] follow.
        stored: u32,
        /// How many [`Event::Exited`] follow [`Event::Resumed`].
        exits: u32,
    },
    /// A process that an earlier manager (or this one before its `Hello`) asked for and that has
    /// not been reaped. Carries its pidfd.
    Running {
        /// The token of the request.
        token: u64,
        /// The process, as init sees it.
        pid: i32,
    },
    /// A stored descriptor, which it carries; init keeps its own copy.
    Stored {
        /// The name it was stored under.
        id: StoreId,
    },
    /// The end of the answer to `Hello`.
    Resumed,
    /// The process runs. Carries its pidfd.
    Spawned {
        /// The token of the request.
        token: u64,
        /// The process, as init sees it.
        pid: i32,
    },
    /// No process was made.
    SpawnFailed {
        /// The token of the request.
        token: u64,
        /// Why, as an errno: `EEXIST` if the token is in use, `ENOSPC` if too many run, `ESHUTDOWN`
        /// if the machine is going down, else what clone3 or execveat said.
        errno: i32,
    },
    /// A process ended and was reaped. Also processes that nobody asked for: descendants whose
    /// parents are gone, and children that cairn-exec left behind.
    Exited {
        /// The number of this exit; they count up by one.
        seq: u64,
        /// The token of the request, or 0 if the process was not asked for by `Spawn`.
        token: u64,
        /// When it was reaped, in nanoseconds of `CLOCK_MONOTONIC`.
        monotonic_ns: u64,
        /// The process, as init saw it.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
    },
    /// Someone pressed the power button, or Ctrl-Alt-Del, or signalled init. The manager stops
    /// its units and sends [`Request::Shutdown`]; if it does not in time, init does it alone.
    PowerRequest {
        /// What was asked for.
        kind: PowerKind,
    },
    /// A request could not be read or obeyed.
    Refused {
        /// The kind byte of the request (0 if there was none).
        request: u8,
        /// Why, as an errno: `EINVAL` malformed, `ENOSPC` the store is full.
        errno: i32,
    },
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not [`FRAME_LEN`] bytes long.
    Length(usize),
    /// Its version byte is not [`VERSION`].
    Version(u8),
    /// No message of this direction has this kind byte.
    Kind(u8),
    /// It came with another number of descriptors than its kind needs.
    Descriptors {
        /// How many its kind needs.
        wanted: usize,
        /// How many came.
        got: usize,
    },
    /// A field holds a value that it cannot have.
    Field,
    /// Bytes that must be zero are not.
    Padding,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "message of {n} bytes, expected {FRAME_LEN}"),
            Self::Version(v) => write!(f, "protocol version {v}, expected {VERSION}"),
            Self::Kind(k) => write!(f, "unknown kind {k}"),
            Self::Descriptors { wanted, got } => {
                write!(f, "{got} descriptors, expected {wanted}")
            }
            Self::Field => write!(f, "a field has an impossible value"),
            Self::Padding => write!(f, "unused bytes are not zero"),
        }
    }
}

impl core::error::Error for Malformed {}

impl Request {
    /// The kind byte.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Spawn { .. } => 2,
            Self::Ack { .. } => 3,
            Self::Store { .. } => 4,
            Self::Remove { .. } => 5,
            Self::Shutdown { .. } => 6,
        }
    }

    /// How many descriptors travel with it.
    pub fn fds(&self) -> usize {
        match self {
            Self::Spawn { .. } => 6,
            Self::Store { .. } => 1,
            _ => 0,
        }
    }

    /// The message as bytes.
    pub fn encode(&self) -> Frame {
        let mut out = Writer::new(self.kind(), self.fds());
        match *self {
            Self::Hello => {}
            Self::Spawn { token } => out.u64(token),
            Self::Ack { seq } => out.u64(seq),
            Self::Store { id } | Self::Remove { id } => out.bytes(&id.0),
            Self::Shutdown { kind, deadline_ms } => {
                out.u32(kind.to_wire());
                out.u32(deadline_ms);
            }
        }
        out.frame
    }

    /// Reads a message that came with `fds` descriptors.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Request::encode`] could not have written.
    pub fn decode(bytes: &[u8], fds: usize) -> Result<Self, Malformed> {
        let (kind, mut body) = Reader::open(bytes)?;
        let request = match kind {
            1 => Self::Hello,
            2 => match body.u64() {
                0 => return Err(Malformed::Field),
                token => Self::Spawn { token },
            },
            3 => Self::Ack { seq: body.u64() },
            4 => Self::Store { id: body.id()? },
            5 => Self::Remove { id: body.id()? },
            6 => Self::Shutdown {
                kind: PowerKind::from_wire(body.u32()).ok_or(Malformed::Field)?,
                deadline_ms: body.u32(),
            },
            other => return Err(Malformed::Kind(other)),
        };
        check(bytes, &request.encode(), request.fds(), fds)?;
        Ok(request)
    }
}

impl Event {
    /// The kind byte.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Welcome { .. } => 128,
            Self::Running { .. } => 129,
            Self::Stored { .. } => 130,
            Self::Resumed => 131,
            Self::Spawned { .. } => 132,
            Self::SpawnFailed { .. } => 133,
            Self::Exited { .. } => 134,
            Self::PowerRequest { .. } => 135,
            Self::Refused { .. } => 136,
        }
    }

    /// How many descriptors travel with it.
    pub fn fds(&self) -> usize {
        match self {
            Self::Running { .. } | Self::Stored { .. } | Self::Spawned { .. } => 1,
            _ => 0,
        }
    }

    /// The message as bytes.
    pub fn encode(&self) -> Frame {
        let mut out = Writer::new(self.kind(), self.fds());
        match *self {
            Self::Welcome {
                generation,
                running,
                stored,
                exits,
            } => {
                out.u32(generation);
                out.u32(running);
                out.u32(stored);
                out.u32(exits);
            }
            Self::Running { token, pid } | Self::Spawned { token, pid } => {
                out.u64(token);
                out.i32(pid);
            }
            Self::Stored { id } => out.bytes(&id.0),
            Self::Resumed => {}
            Self::SpawnFailed { token, errno } => {
                out.u64(token);
                out.i32(errno);
            }
            Self::Exited {
                seq,
                token,
                monotonic_ns,
                pid,
                status,
            } => {
                out.u64(seq);
                out.u64(token);
                out.u64(monotonic_ns);
                out.i32(pid);
                out.i32(status.0);
            }
            Self::PowerRequest { kind } => out.u32(kind.to_wire()),
            Self::Refused { request, errno } => {
                out.u32(u32::from(request));
                out.i32(errno);
            }
        }
        out.frame
    }

    /// Reads a message that came with `fds` descriptors.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Event::encode`] could not have written.
    pub fn decode(bytes: &[u8], fds: usize) -> Result<Self, Malformed> {
        let (kind, mut body) = Reader::open(bytes)?;
        let event = match kind {
            128 => Self::Welcome {
                generation: body.u32(),
                running: body.u32(),
                stored: body.u32(),
                exits: body.u32(),
            },
            129 => Self::Running {
                token: body.u64(),
                pid: body.i32(),
            },
            130 => Self::Stored { id: body.id()? },
            131 => Self::Resumed,
            132 => Self::Spawned {
                token: body.u64(),
                pid: body.i32(),
            },
            133 => Self::SpawnFailed {
                token: body.u64(),
                errno: body.i32(),
            },
            134 => Self::Exited {
                seq: body.u64(),
                token: body.u64(),
                monotonic_ns: body.u64(),
                pid: body.i32(),
                status: ExitStatus(body.i32()),
            },
            135 => Self::PowerRequest {
                kind: PowerKind::from_wire(body.u32()).ok_or(Malformed::Field)?,
            },
            136 => Self::Refused {
                request: u8::try_from(body.u32()).map_err(|_| Malformed::Field)?,
                errno: body.i32(),
            },
            other => return Err(Malformed::Kind(other)),
        };
        check(bytes, &event.encode(), event.fds(), fds)?;
        Ok(event)
    }
}

/// A message is good only if writing it again gives the same bytes: so no byte goes unread.
fn check(bytes: &[u8], again: &Frame, wanted: usize, got: usize) -> Result<(), Malformed> {
    if wanted != got {
        return Err(Malformed::Descriptors { wanted, got });
    }
    if bytes != again {
        return Err(Malformed::Padding);
    }
    Ok(())
}

struct Writer {
    frame: Frame,
    at: usize,
}

impl Writer {
    fn new(kind: u8, fds: usize) -> Self {
        let mut frame = [0; FRAME_LEN];
        frame[0] = VERSION;
        frame[1] = kind;
        frame[2] = fds as u8;
        Self { frame, at: BODY }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.frame[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Reads fields from a body whose length has been checked once, in [`Reader::open`]; no
/// message has more fields than fit.
struct Reader<'a> {
    body: &'a [u8],
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<(u8, Self), Malformed> {
        if bytes.len() != FRAME_LEN {
            return Err(Malformed::Length(bytes.len()));
        }
        if bytes[0] != VERSION {
            return Err(Malformed::Version(bytes[0]));
        }
        Ok((bytes[1], Self { body: &bytes[BODY..] }))
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.body.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.body = rest;
                *head
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn id(&mut self) -> Result<StoreId, Malformed> {
        StoreId::from_wire(self.take()).ok_or(Malformed::Field)
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;

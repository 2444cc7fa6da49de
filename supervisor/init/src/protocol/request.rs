//! From the manager to init.

use super::wire::{Reader, Writer, check};
use super::{Frame, MAX_LISTEN, Malformed, PowerKind, SPAWN_FDS, StoreId};

/// What a manager asks of init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// "I am here": init answers with everything it holds, see the module's text.
    Hello,
    /// Start cairn-exec. Descriptors, in this order: the plan (memfd), the cgroup's folder,
    /// stdin, stdout, stderr, the status socket. cairn-exec finds the plan at fd 3 and the status
    /// socket at fd 4. After these six come `listen` listening sockets, which it finds at fd 5 and up.
    /// Answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    ///
    /// [`Event::Spawned`]: super::Event::Spawned
    /// [`Event::SpawnFailed`]: super::Event::SpawnFailed
    Spawn {
        /// The manager's own name for this process, not 0; unique among running ones.
        token: u64,
        /// How many listening sockets come after the six descriptors, at most [`MAX_LISTEN`].
        listen: u8,
    },
    /// Every exit up to and including `seq` is known; init forgets them.
    Ack {
        /// The number of the last exit known.
        seq: u64,
    },
    /// Keep the one descriptor that comes with this for the next manager. A descriptor
    /// already stored under that name is replaced. Not answered unless it fails.
    Store {
        /// The name under which [`Event::Stored`](super::Event::Stored) hands it back.
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
    /// Start the next managers from the one descriptor that comes with this: an ELF file that may be
    /// executed, on a file system or in memory. Answered by [`Event::Replacing`]; the manager then ends,
    /// which counts as no failure, and init starts the new one at once. A new manager that does not say
    /// `Hello` within [`GREETING_SECONDS`], or fails [`REPLACEMENT_FAILURES`] times in a row, is given up:
    /// init goes back to the manager in the image, says so on the console, and tells that manager in
    /// [`Event::Welcome`].
    ///
    /// [`Event::Replacing`]: super::Event::Replacing
    /// [`Event::Welcome`]: super::Event::Welcome
    /// [`GREETING_SECONDS`]: super::GREETING_SECONDS
    /// [`REPLACEMENT_FAILURES`]: super::REPLACEMENT_FAILURES
    ReplaceManager,
    /// Reap whatever has ended by now, then answer by [`Event::Passed`]. A manager that finds a process gone learns by it whether
    /// its exit is still to come.
    ///
    /// [`Event::Passed`]: super::Event::Passed
    Barrier,
}

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
            Self::ReplaceManager => 7,
            Self::Barrier => 8,
        }
    }

    /// How many descriptors travel with it.
    pub fn fds(&self) -> usize {
        match self {
            Self::Spawn { listen, .. } => SPAWN_FDS + usize::from(*listen),
            Self::Store { .. } | Self::ReplaceManager => 1,
            _ => 0,
        }
    }

    /// The message as bytes.
    pub fn encode(&self) -> Frame {
        let mut out = Writer::new(self.kind(), self.fds());
        match *self {
            Self::Hello | Self::ReplaceManager | Self::Barrier => {}
            Self::Spawn { token, listen } => {
                out.u64(token);
                out.u32(u32::from(listen));
            }
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
            2 => match (body.u64(), u8::try_from(body.u32())) {
                (1.., Ok(listen)) if usize::from(listen) > MAX_LISTEN => return Err(Malformed::Field),
                (token @ 1.., Ok(listen)) => Self::Spawn { token, listen },
                _ => return Err(Malformed::Field),
            },
            3 => Self::Ack { seq: body.u64() },
            4 => Self::Store { id: body.id()? },
            5 => Self::Remove { id: body.id()? },
            6 => Self::Shutdown {
                kind: PowerKind::from_wire(body.u32()).ok_or(Malformed::Field)?,
                deadline_ms: body.u32(),
            },
            7 => Self::ReplaceManager,
            8 => Self::Barrier,
            other => return Err(Malformed::Kind(other)),
        };
        check(bytes, &request.encode(), request.fds(), fds)?;
        Ok(request)
    }
}

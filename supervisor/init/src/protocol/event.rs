//! From init to the manager.

use super::wire::{Reader, Writer, check};
use super::{ExitStatus, Frame, Malformed, Origin, PowerKind, StoreId};

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
        /// Which program this manager is.
        origin: Origin,
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
        /// The cgroup that it ended in: the inode number of its folder, or 0 where that is gone, or there
        /// is no cgroup2. It tells whose process this was when nothing else does: cairn-exec's child is in
        /// its unit's cgroup before anyone knows its pid.
        cgroup: u64,
    },
    /// Someone pressed the power button, or Ctrl-Alt-Del, or signalled init. The manager stops
    /// its units and sends [`Request::Shutdown`]; if it does not in time, init does it alone.
    ///
    /// [`Request::Shutdown`]: super::Request::Shutdown
    PowerRequest {
        /// What was asked for.
        kind: PowerKind,
    },
    /// A request could not be read or obeyed.
    Refused {
        /// The kind byte of the request (0 if there was none).
        request: u8,
        /// Why, as an errno: `EINVAL` malformed, `EPROTO` before the first `Hello`, `ENOSPC` the store is full,
        /// `EACCES` the manager's replacement is no file that can be executed, `ESHUTDOWN` the machine is going down.
        errno: i32,
    },
    /// The next manager will be the program that came with [`Request::ReplaceManager`]. This one is to end.
    ///
    /// [`Request::ReplaceManager`]: super::Request::ReplaceManager
    Replacing,
    /// The answer to [`Request::Barrier`]: every process that had ended before is reaped, and its exit has a number up to this
    /// one. The exits themselves may come before or after this.
    ///
    /// [`Request::Barrier`]: super::Request::Barrier
    Passed {
        /// The number of the last exit; 0 if there was none.
        seq: u64,
        /// Whether there was room to note all exits; if not, the manager acknowledges some and asks again.
        all: bool,
    },
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
            Self::Replacing => 137,
            Self::Passed { .. } => 138,
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
                origin,
            } => {
                out.u32(generation);
                out.u32(running);
                out.u32(stored);
                out.u32(exits);
                out.u32(origin.to_wire());
            }
            Self::Running { token, pid } | Self::Spawned { token, pid } => {
                out.u64(token);
                out.i32(pid);
            }
            Self::Stored { id } => out.bytes(&id.0),
            Self::Resumed | Self::Replacing => {}
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
                cgroup,
            } => {
                out.u64(seq);
                out.u64(token);
                out.u64(monotonic_ns);
                out.i32(pid);
                out.i32(status.0);
                out.u64(cgroup);
            }
            Self::PowerRequest { kind } => out.u32(kind.to_wire()),
            Self::Passed { seq, all } => {
                out.u64(seq);
                out.u32(u32::from(all));
            }
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
                origin: Origin::from_wire(body.u32()).ok_or(Malformed::Field)?,
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
                cgroup: body.u64(),
            },
            135 => Self::PowerRequest {
                kind: PowerKind::from_wire(body.u32()).ok_or(Malformed::Field)?,
            },
            136 => Self::Refused {
                request: u8::try_from(body.u32()).map_err(|_| Malformed::Field)?,
                errno: body.i32(),
            },
            137 => Self::Replacing,
            138 => Self::Passed {
                seq: body.u64(),
                all: body.u32() != 0,
            },
            other => return Err(Malformed::Kind(other)),
        };
        check(bytes, &event.encode(), event.fds(), fds)?;
        Ok(event)
    }
}
